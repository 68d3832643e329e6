"""`dfs find` and `dfs tree`: walks through directories, for programs and for people.

Separate from `ls`, which shows directories as they are: these go down a tree and choose. Options are spelled as find
and tree spell them, with one dash, and understood with two as well.
"""

import fnmatch
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import click

from dfs.cli.session import Session, each_path, remote_command
from dfs.cli.show import Screen, entry_record, human_size, print_json
from dfs.cli.transfer import SIZE

if TYPE_CHECKING:
    from dfs.client import Client
    from dfs.protocol.messages import Entry

Test = Callable[["Entry"], bool]
_DAY_S = 86_400
_SIGNED = re.compile(r"([+-]?)(.+)")
_KINDS = {"f": "file", "d": "directory"}


@remote_command("find")
@click.argument("paths", metavar="[PATH…]", nargs=-1)
@click.option("-name", "--name", "name", metavar="PATTERN", help="The name matches, like '*.gz'.")
@click.option("-iname", "--iname", "iname", metavar="PATTERN", help="The same, whatever the case of letters.")
@click.option("-path", "--path", "whole", metavar="PATTERN", help="The whole path matches; * goes over slashes too.")
@click.option("-type", "--type", "kind", type=click.Choice(["f", "d"]), help="Files, or directories.")
@click.option("-size", "--size", "size", metavar="[+-]SIZE", help="Larger (+), smaller (-) or equal: +10MiB.")
@click.option("-mtime", "--mtime", "age", metavar="[+-]DAYS", help="Changed more (+) or less (-) than DAYS ago.")
@click.option("-newer", "--newer", "newer", metavar="PATH|TIME", help="Changed later than a remote path, or a time.")
@click.option("-empty", "--empty", "empty", is_flag=True, help="Files of no bytes.")
@click.option("-mindepth", "--mindepth", "least", type=click.IntRange(0), metavar="N", help="Not above level N.")
@click.option("-maxdepth", "--maxdepth", "most", type=click.IntRange(0), metavar="N", help="Not below level N.")
@click.option("-print0", "--print0", "null", is_flag=True, help="A null byte behind each path, for xargs -0.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each entry, on a line of its own.")
def find_command(
    session: Session,
    paths: tuple[str, ...],
    name: str | None,
    iname: str | None,
    whole: str | None,
    kind: str | None,
    size: str | None,
    age: str | None,
    newer: str | None,
    empty: bool,
    least: int | None,
    most: int | None,
    null: bool,
    as_json: bool,
) -> None:
    """Find files and directories by name, kind, size or time.

    At and below each PATH (the root without one); what passes all tests is shown, parents first. A time is like
    2026-01-31 or 2026-01-31T12:00.
    """
    tests: list[Test] = []
    if name is not None:
        tests.append(_named(name, re.NOFLAG, lambda entry: entry.name))
    if iname is not None:
        tests.append(_named(iname, re.IGNORECASE, lambda entry: entry.name))
    if whole is not None:
        tests.append(_named(whole, re.NOFLAG, lambda entry: entry.path))
    if kind is not None:
        tests.append(lambda entry: entry.kind == _KINDS[kind])
    if size is not None:
        tests.append(sized(size))
    if age is not None:
        tests.append(aged(age, time.time()))
    if newer is not None:
        after_ns = _moment_ns(session, newer)
        tests.append(lambda entry: entry.mtime_ns > after_ns)
    if empty:
        tests.append(lambda entry: not entry.is_directory and entry.size == 0)
    end = "\0" if null else "\n"

    def search(path: str) -> None:
        fs = session.fs
        for depth, entry in walk_down(fs, fs.stat(path), most):
            if depth >= (least or 0) and all(test(entry) for test in tests):
                if as_json:
                    print_json(entry_record(entry))
                else:
                    sys.stdout.write(entry.path + end)

    each_path(session, paths or ("/",), search)


def walk_down(fs: "Client", top: "Entry", most: int | None) -> "Iterator[tuple[int, Entry]]":
    """`top` and all below it down to the level `most`, each with its level, parents first, in the order of names."""
    waiting: list[tuple[int, Iterator[Entry]]] = [(0, iter([top]))]
    while waiting:
        depth, entries = waiting[-1]
        entry = next(entries, None)
        if entry is None:
            waiting.pop()
            continue
        yield depth, entry
        if entry.is_directory and (most is None or depth < most):
            waiting.append((depth + 1, _below(fs, entry)))


def _below(fs: "Client", directory: "Entry") -> "Iterator[Entry]":
    from dfs.walking import entries_or_nothing

    # One that vanishes meanwhile is passed over.
    return entries_or_nothing(fs.ls, directory.path)


def _named(pattern: str, flags: re.RegexFlag, text_of: "Callable[[Entry], str]") -> Test:
    wanted = re.compile(fnmatch.translate(pattern), flags)
    return lambda entry: wanted.fullmatch(text_of(entry) or "/") is not None


def _signed(text: str) -> tuple[str, str]:
    parsed = _SIGNED.fullmatch(text)
    if parsed is None:
        raise click.UsageError("an option of find is empty")
    return parsed[1], parsed[2]


def sized(text: str) -> Test:
    """Files larger (+), smaller (-) or as large as a size. Raises UsageError."""
    sign, number = _signed(text)
    limit = SIZE.convert(number, None, None)
    if sign == "+":
        return lambda entry: not entry.is_directory and entry.size > limit
    if sign == "-":
        return lambda entry: not entry.is_directory and entry.size < limit
    return lambda entry: not entry.is_directory and entry.size == limit


def aged(text: str, now_s: float) -> Test:
    """Changed more (+) or less (-) than so many days ago, or on that day. Raises UsageError."""
    sign, number = _signed(text)
    try:
        days = float(number)
    except ValueError:
        days = -1.0
    if not 0 <= days < 1e6:
        raise click.UsageError(f"{text!r} is not a number of days; write it like +30 or -0.5")

    def age_days(entry: "Entry") -> float:
        return (now_s - entry.mtime_ns / 1e9) / _DAY_S

    if sign == "+":
        return lambda entry: age_days(entry) > days
    if sign == "-":
        return lambda entry: age_days(entry) < days
    return lambda entry: days <= age_days(entry) < days + 1


def _moment_ns(session: Session, text: str) -> int:
    """The time that a remote path has, or that is written out; without a zone in local time."""
    if text.startswith(("/", "dfs:")):
        return session.fs.stat(session.path(text)).mtime_ns
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1e9)
    except ValueError:
        raise click.UsageError(f"{text!r} is neither a remote path nor a time like 2026-01-31T12:00") from None


# --- tree -------------------------------------------------------------------------------------------------------

_BRANCH, _LAST, _LINE, _GAP = "├── ", "└── ", "│   ", "    "


@dataclass
class _Counts:
    files: int = 0
    directories: int = 0
    bytes: int = 0

    def text(self) -> str:
        directories = "1 directory" if self.directories == 1 else f"{self.directories} directories"
        files = "1 file" if self.files == 1 else f"{self.files} files"
        return f"{directories}, {files}, {human_size(self.bytes)}"


@remote_command("tree")
@click.argument("paths", metavar="[PATH…]", nargs=-1)
@click.option("-L", "levels", type=click.IntRange(1), metavar="N", help="Only so many levels.")
@click.option("-d", "only_directories", is_flag=True, help="Only directories.")
@click.option("-a", "hidden", is_flag=True, help="Names that begin with a dot, too.")
@click.option("-s", "sizes", is_flag=True, help="Sizes of files.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each entry, with its depth.")
def tree_command(
    session: Session,
    paths: tuple[str, ...],
    levels: int | None,
    only_directories: bool,
    hidden: bool,
    sizes: bool,
    as_json: bool,
) -> None:
    """Show directories as a tree.

    The root without a PATH. The last line says how many files and directories were shown, and what they hold.
    """
    counts = _Counts()
    screen = Screen.of_stdout()

    def shown(entries: "Iterator[Entry]") -> "Iterator[Entry]":
        for entry in entries:
            if (hidden or not entry.name.startswith(".")) and (entry.is_directory or not only_directories):
                yield entry

    def line(entry: "Entry", text: str, depth: int, lead: str) -> None:
        if depth:
            counts.directories += entry.is_directory
            counts.files += not entry.is_directory
        counts.bytes += entry.size if not entry.is_directory else 0
        if as_json:
            print_json({**entry_record(entry), "depth": depth})
            return
        size = f"  {human_size(entry.size)}" if sizes and not entry.is_directory else ""
        sys.stdout.write(f"{lead}{screen.name(entry, text)}{size}\n")

    def show(path: str) -> None:
        fs = session.fs
        top = fs.stat(path)
        line(top, top.path, 0, "")
        if not top.is_directory:
            counts.files += 1
            return
        waiting = [(_ahead(shown(_below(fs, top))), "")]
        while waiting:
            entries, lead = waiting[-1]
            entry, is_last = next(entries, (None, True))
            if entry is None:
                waiting.pop()
                continue
            depth = len(waiting)
            line(entry, entry.name, depth, lead + (_LAST if is_last else _BRANCH))
            if entry.is_directory and (levels is None or depth < levels):
                waiting.append((_ahead(shown(_below(fs, entry))), lead + (_GAP if is_last else _LINE)))

    each_path(session, paths or ("/",), show)
    if not as_json:
        sys.stdout.write(f"\n{counts.text()}\n")


def _ahead(entries: "Iterator[Entry]") -> "Iterator[tuple[Entry, bool]]":
    """Each entry, and whether it is the last one."""
    before: Entry | None = None
    for entry in entries:
        if before is not None:
            yield before, False
        before = entry
    if before is not None:
        yield before, True
