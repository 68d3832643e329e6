"""What the commands decide by themselves, without a cluster."""

import io
import itertools
import random
import re
import shlex
from pathlib import Path

import click
import pytest

from dfs.cli.attributes import new_mode
from dfs.cli.cat import start_of_last_lines
from dfs.cli.commands import COMMANDS, root
from dfs.cli.examples import EXAMPLES
from dfs.cli.generate import EXIT_CODES
from dfs.cli.move import within
from dfs.cli.progress import clock_text, progress, shorten
from dfs.processes import ServerProcess
from dfs.protocol import errors

ID = "0" * 32


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_examples_that_fit_and_that_are_accepted(name: str) -> None:
    command = root.get_command(click.Context(root, info_name="dfs"), name)
    assert command is not None
    assert "Examples:" in (command.epilog or "")
    assert max(map(len, EXAMPLES[name])) <= 74
    for example in joined(EXAMPLES[name]):
        words = shlex.split(example, comments=True)
        ours = words[words.index("dfs") + 1 :] if "dfs" in words else []
        ours = list(itertools.takewhile(lambda word: word not in ("|", ">", "&&"), ours))
        if ours and ours[0] not in ("namenode", "datanode", "admin"):
            assert ours[0] == name
            command.make_context(name, ours[1:])


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_help_page_fits_a_terminal_of_80_columns(name: str) -> None:
    command = root.get_command(click.Context(root, info_name="dfs"), name)
    assert command is not None
    context = click.Context(command, info_name=name, parent=click.Context(root, info_name="dfs"))
    page = command.get_help(context)
    assert "Examples:" in page
    assert max(map(len, page.splitlines())) <= 80


def joined(lines: tuple[str, ...]) -> list[str]:
    """Command lines, those that a backslash continues in one piece."""
    return "\n".join(lines).replace("\\\n", " ").splitlines()


@pytest.mark.parametrize(
    ("text", "before", "directory", "after"),
    [
        ("640", 0o777, False, 0o640),
        ("1777", 0, True, 0o1777),
        ("u+x", 0o644, False, 0o744),
        ("go-rwx", 0o755, False, 0o700),
        ("a=r", 0o777, False, 0o444),
        ("+w", 0o444, False, 0o666),
        ("u=rw,g=r,o=", 0o777, False, 0o640),
        ("a+X", 0o644, False, 0o644),
        ("a+X", 0o644, True, 0o755),
    ],
)
def test_modes_are_octal_or_symbolic(text: str, before: int, directory: bool, after: int) -> None:
    assert new_mode(text, before, directory=directory) == after


@pytest.mark.parametrize("text", ["8", "77777", "u", "z+x", "u+q", "", "u+x,"])
def test_what_is_no_mode_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError, match="not a mode"):
        new_mode(text, 0o644, directory=False)


def test_the_last_lines_are_found_as_splitlines_finds_them() -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(200):
        text = bytes(rng.choices(b"ab\n", k=rng.choice([0, 1, 5, 200, 70_000])))
        lines = rng.randrange(12)
        wanted = b"".join(text.splitlines(keepends=True)[-lines:]) if lines else b""
        assert text[start_of_last_lines(io.BytesIO(text), lines) :] == wanted


@pytest.mark.parametrize(
    ("directory", "source", "path"),
    [("/d", "/a/b", "/d/b"), ("/", "/a/b/", "/b"), ("/d/", "x", "/d/x")],
)
def test_a_source_keeps_its_name_within_a_directory(directory: str, source: str, path: str) -> None:
    assert within(directory, source) == path


def test_every_exit_code_is_documented() -> None:
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert {code for code, _ in EXIT_CODES} == codes


def test_no_progress_is_shown_where_stderr_is_no_terminal() -> None:
    with progress("x", 10, quiet=False) as added:
        assert added is None


def test_the_bar_counts_what_threads_report(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    with progress("a-rather-long-name-of-a-file.bin", 4 << 20, quiet=False) as added:
        assert added is not None
        for _ in range(4):
            added(1 << 20)
    assert "4.0 MiB" in screen.getvalue()
    assert "100%" in screen.getvalue()
    lines = re.sub(r"\x1b\[\??\d*[a-zA-Z]", "", screen.getvalue()).replace("\r", "\n").splitlines()
    assert max(map(len, lines)) <= 79


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0:01"), (65, "1:05"), (3599.5, "1:00:00"), (3723, "1:02:03"), (864_000, "10 d")],
)
def test_the_time_left_reads_like_a_clock(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


def test_a_long_label_keeps_its_end() -> None:
    assert shorten("a-rather-long-name-of-a-file.bin") == "…ame-of-a-file.bin"
    assert shorten("short") == "short"


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", "it said nothing"),
        ("dfs: port 1 is in use: choose another.\n", "port 1 is in use: choose another"),
        ("x\n2026-11-24 22:01:02,345 ERROR dfs.datanode: no such disk\n", "no such disk"),
    ],
)
def test_the_last_words_of_a_server_are_a_sentence(tmp_path: Path, log: str, words: str) -> None:
    (tmp_path / "log").write_text(log)
    assert ServerProcess("x", [], log_path=str(tmp_path / "log")).last_words() == words
