"""What people see: sizes, times, tables. What programs see: the stable keys."""

import json

import pytest

from dfs.cli.show import (
    Screen,
    columns,
    display_width,
    entry_record,
    human_duration,
    human_size,
    mode_text,
    print_json,
    size_text,
    table,
)
from dfs.protocol.messages import Entry


def entry(**changes) -> Entry:  # type: ignore[no-untyped-def]
    facts = {
        "path": "/a/b", "name": "b", "kind": "file", "size": 7, "mtime_ns": 1_700_000_000_500_000_000, "mode": 0o640,
        "owner": "ann", "group": "staff", "replication": 3, "version": 12, "etag": '"12-ff"', "inode": 5,
    }  # fmt: skip
    return Entry(**{**facts, **changes})


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (10 * 1024 - 1, "10 KiB"),
        (1024 * 1024 - 1, "1.0 MiB"),
        (64 << 20, "64 MiB"),
        (5 << 40, "5.0 TiB"),
        (1 << 70, "1024 EiB"),
    ],
)
def test_sizes_are_binary_units_of_at_most_four_digits(size: int, text: str) -> None:
    assert human_size(size) == text


def test_exact_sizes_are_plain_numbers() -> None:
    assert size_text(123_456, exact=True) == "123456"
    assert size_text(123_456, exact=False) == "121 KiB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (3.4, "3 s"), (125, "2 min 5 s"), (7200, "2 h"), (90_061, "1 d 1 h")],
)
def test_durations_show_two_units_at_most(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_modes_look_as_ls_writes_them() -> None:
    assert mode_text(entry()) == "-rw-r-----"
    assert mode_text(entry(kind="directory", mode=0o755)) == "drwxr-xr-x"


def test_a_record_has_exactly_the_promised_keys_in_order() -> None:
    keys = "path name kind size mtime mode owner group replication version etag"
    assert list(entry_record(entry())) == keys.split()
    assert entry_record(entry())["mtime"] == 1_700_000_000.5


def test_json_is_one_line_of_valid_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"path": "/ü\u2028", "n": 1})
    out = capsys.readouterr().out
    assert out.endswith("\n")
    assert json.loads(out) == {"path": "/ü\u2028", "n": 1}


def test_a_table_is_aligned_also_with_wide_characters() -> None:
    lines = table([["a", "1", "x"], ["日本", "100", "y"]], right=[1])
    assert lines == ["a       1  x", "日本  100  y"]
    assert len({display_width(line) for line in lines}) == 1
    assert table([]) == []


@pytest.mark.parametrize(
    ("widths", "line_width", "lines", "filled"),
    [
        ([3, 3, 3], 80, 1, [3, 3, 3]),
        ([3, 3, 3], 8, 2, [3, 3]),
        ([3, 9, 3], 8, 3, [9]),
        ([], 80, 0, [0]),
        ([100], 80, 1, [100]),
    ],
)
def test_names_fill_as_few_lines_as_fit(widths: list[int], line_width: int, lines: int, filled: list[int]) -> None:
    assert columns(widths, line_width) == (lines, filled)


def test_only_directories_are_coloured_and_only_on_a_terminal() -> None:
    directory = entry(kind="directory")
    terminal, pipe = Screen(True, True, 80), Screen(False, False, 80)
    assert terminal.name(directory, pad=2) == "\x1b[1;34mb\x1b[0m  "
    assert terminal.name(entry()) == "b"
    assert pipe.name(directory) == "b"


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert Screen.of_stdout().colour
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Screen.of_stdout().colour
