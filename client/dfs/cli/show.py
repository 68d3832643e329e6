"""Text for people and JSON for programs: sizes, times, modes, tables, entries.

Pure but for `Screen`, which knows whether stdout is a terminal. Data goes to stdout; nothing here writes to stderr.
"""

import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from dfs.protocol.messages import Entry

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_LISTED_MAX = 3
_DIRECTORY_COLOUR = "\x1b[1;34m"
_PLAIN = "\x1b[0m"


def human_size(size: float) -> str:
    """`size` bytes in binary units, at most four digits: "0 B", "1.5 KiB", "64 MiB"."""
    for unit in _UNITS:
        # What would be rounded to 1024 belongs to the next unit.
        if round(size) < 1024 or unit == _UNITS[-1]:
            break
        size /= 1024
    if unit == "B" or round(size, 1) >= 10:
        return f"{size:.0f} {unit}"
    return f"{size:.1f} {unit}"


def human_duration(seconds: float) -> str:
    """A duration in its two leading units: "3 s", "2 min 5 s", "4 h", "6 d 1 h"."""
    total = round(seconds)
    parts = []
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, total = divmod(total, length)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def count(number: int, noun: str) -> str:
    """ "1 chunk", "3 chunks", "2 directories"."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"1 {noun}" if number == 1 else f"{number} {plural}"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence, at most three of them: "a", "a and b", "a, b, c and 5 more"."""
    shown = list(names[:_LISTED_MAX])
    if len(names) > _LISTED_MAX:
        shown.append(f"{len(names) - _LISTED_MAX} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def mode_text(entry: Entry) -> str:
    """The mode as `ls -l` writes it."""
    letters = "".join(
        letter if entry.mode >> bit & 1 else "-" for letter, bit in zip("rwxrwxrwx", range(8, -1, -1), strict=True)
    )
    return ("d" if entry.is_directory else "-") + letters


def time_text(mtime_ns: int) -> str:
    """Local time to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(mtime_ns // 1_000_000_000))


def entry_record(entry: Entry) -> dict[str, Any]:
    """An entry with the stable keys that --json promises."""
    return {
        "path": entry.path,
        "name": entry.name,
        "kind": entry.kind,
        "size": entry.size,
        "mtime": entry.mtime,
        "mode": entry.mode,
        "owner": entry.owner,
        "group": entry.group,
        "replication": entry.replication,
        "version": entry.version,
        "etag": entry.etag,
    }


def print_json(record: Any) -> None:
    """One line of JSON."""
    sys.stdout.write(msgspec.json.encode(record).decode() + "\n")


def tell(as_json: bool, record: dict[str, object], sentences: str) -> None:
    """What a command came to: one line of JSON, or sentences."""
    if as_json:
        print_json(record)
    else:
        sys.stdout.write("".join(f"{line}\n" for line in wrapped(sentences.splitlines())))


def wrapped(sentences: Iterable[str], *, indent: str = "") -> list[str]:
    """Sentences as a terminal shows them, cut between words; elsewhere each stays one line, for those who search."""
    screen = Screen.of_stdout()
    if not screen.terminal:
        return [f"{indent}{sentence}" for sentence in sentences]
    lines: list[str] = []
    for sentence in sentences:
        lines += _cut(sentence, screen.width, indent)
    return lines


def _cut(sentence: str, width: int, indent: str) -> list[str]:
    """A sentence in lines of at most `width` columns; a word that is longer has its own. Pure."""
    import textwrap

    cutter = textwrap.TextWrapper(
        max(width, 20),
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return cutter.wrap(sentence) or [""]


def display_width(text: str) -> int:
    """Columns that `text` takes on a terminal: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text
    )


def table(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Rows as aligned lines, two spaces between columns. `right` names the columns that are aligned to the right."""
    if not rows:
        return []
    to_the_right = set(right)
    widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
            padding = " " * (width - display_width(cell))
            cells.append(padding + cell if place in to_the_right else cell + padding)
        lines.append("  ".join(cells).rstrip())
    return lines


def columns(widths: Sequence[int], line_width: int) -> tuple[int, list[int]]:
    """How names of these widths go into as few lines as fit, column by column: lines, and the width of each column."""
    for line_count in range(1, len(widths)):
        filled = [max(widths[start : start + line_count]) for start in range(0, len(widths), line_count)]
        if sum(filled) + 2 * (len(filled) - 1) <= line_width:
            return line_count, filled
    return len(widths), [max(widths, default=0)]


@dataclass(frozen=True)
class Screen:
    """What stdout is."""

    terminal: bool
    colour: bool
    width: int

    @classmethod
    def of_stdout(cls) -> "Screen":
        terminal = sys.stdout.isatty()
        colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        if not terminal:
            return cls(terminal, colour, 80)
        import shutil

        return cls(terminal, colour, shutil.get_terminal_size().columns)

    def name(self, entry: Entry, text: str | None = None, pad: int = 0) -> str:
        """An entry's name, or `text` instead, coloured if it is a directory, with `pad` spaces behind it."""
        shown = entry.name or "/" if text is None else text
        if self.colour and entry.is_directory:
            return f"{_DIRECTORY_COLOUR}{shown}{_PLAIN}" + " " * pad
        return shown + " " * pad


def size_text(size: int, exact: bool) -> str:
    """`size` in bytes for --bytes, else for people."""
    return str(size) if exact else human_size(size)
