"""The boundary of the command: every end is one sentence and an exit code."""

import errno
import os

import click
import pytest

from dfs.cli import run
from dfs.cli.commands import COMMANDS
from dfs.cli.failures import SomeFailed, explain, tell
from dfs.cli.session import Failures, Session
from dfs.protocol import errors


@pytest.mark.parametrize("kind", [kind for kind in errors.BY_CODE.values() if kind.exit_code])
def test_an_error_of_ours_is_its_message_and_its_exit_code(kind: type[errors.DfsError]) -> None:
    assert explain(kind("/nope: what happened")) == ("/nope: what happened", kind.exit_code)


@pytest.mark.parametrize(
    ("number", "sentence", "exit_code"),
    [
        (errno.ENOENT, "x: no such file or directory", 3),
        (errno.EEXIST, "x: file exists", 4),
        (errno.EACCES, "x: permission denied", 7),
        (errno.ENOSPC, "x: no space left on device", 5),
        (errno.EIO, "x: input/output error", 1),
    ],
)
def test_a_local_error_names_its_file(number: int, sentence: str, exit_code: int) -> None:
    import os

    assert explain(OSError(number, os.strerror(number), "x")) == (sentence, exit_code)


def test_ctrl_c_says_nothing_and_is_130() -> None:
    assert explain(KeyboardInterrupt()) == ("", 130)


def test_a_full_stdout_is_named() -> None:
    assert explain(OSError(errno.ENOSPC, "No space left on device")) == ("stdout: no space left on device", 5)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("new\nline", r"new\nline"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("c\x9b1", r"c\x9b1"),
        ("x\udcff", r"x\xff"),
        ("ü", "ü"),
    ],
)
def test_a_name_cannot_break_the_line_or_steer_the_terminal(
    name: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tell(f"{name}: no such file or directory")
    assert capsys.readouterr().err == f"dfs: {shown}: no such file or directory\n"


def test_ctrl_c_while_modules_are_imported_is_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("dfs.cli._run", interrupted)
    assert run(["ls"]) == 130
    assert capsys.readouterr().err == ""


def test_a_bug_is_one_sentence_that_says_how_to_see_more() -> None:
    sentence, exit_code = explain(KeyError("x"))
    assert "KeyError" in sentence
    assert "DFS_DEBUG=1" in sentence
    assert exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["nope"], "there is no command 'nope': see \"dfs --help\""),
        (["versoin"], "did you mean 'version'?"),
        (["mini", "--port", "x"], 'see "dfs mini --help"'),
        (["version", "--nope"], 'see "dfs version --help"'),
        (["head", "-n", "x", "/a"], "'x' is not a whole number"),
        (["chown", ":", "/a"], "':' names nobody"),
        (["namenode", "--log-level", "loud"], "the setting log_level must be debug, info, warning"),
        (["datanode", "--log-level", "loud"], "the setting log_level must be debug, info, warning"),
        (["datanode", "--namenode", "ftp://x"], "'ftp://x' is not the URL of a namenode"),
        (["datanode", "--max-streams", "x"], "max_streams must be a whole number"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_2(
    arguments: list[str], wanted: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("DFS_")]:
        monkeypatch.delenv(name)  # servers refuse what they don't know, also this suite's own
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("dfs: ")
    assert captured.err.count("\n") == 1
    assert wanted in captured.err


def test_help_goes_to_stdout_and_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in COMMANDS)


def test_dfs_alone_shows_its_help_and_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "Files:" in capsys.readouterr().err


def test_a_dfs_url_chooses_the_namenode() -> None:
    session = Session()
    assert session.path("/a/b") == "/a/b"
    assert session.namenode is None
    assert session.path("dfs://nn:9870/a/b") == "/a/b"
    assert session.namenode == "http://nn:9870"
    assert session.path("dfs://nn:9870") == "/"


def test_repeated_slashes_are_one() -> None:
    assert Session().path("//a///b/") == "/a/b/"
    assert Session().path("dfs://nn:9870//a//b") == "/a/b"


def test_one_command_works_on_one_cluster() -> None:
    session = Session()
    with pytest.raises(click.UsageError, match="two clusters"):
        session.paths(["dfs://a:1/x", "dfs://b:1/x"])


def test_a_relative_remote_path_is_refused() -> None:
    with pytest.raises(click.UsageError, match="begin with / or dfs://"):
        Session().path("a/b")


def test_if_every_item_failed_for_one_reason_that_is_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    failures = Failures()
    for path in ("/a", "/b"):
        with failures.item():
            raise errors.FileNotFound(f"{path}: no such file or directory")
    with pytest.raises(SomeFailed) as caught:
        failures.finish()
    assert caught.value.exit_code == 3
    assert capsys.readouterr().err == "dfs: /a: no such file or directory\ndfs: /b: no such file or directory\n"


def test_dfs_debug_shows_where_an_item_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        failures = Failures()
        with failures.item():
            raise errors.FileNotFound("/a: no such file or directory")

    fail()
    assert capsys.readouterr().err == "dfs: /a: no such file or directory\n"
    monkeypatch.setenv("DFS_DEBUG", "1")
    fail()
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert told.endswith("dfs: /a: no such file or directory\n")


@pytest.mark.parametrize("second", [None, errors.NotPermitted("no")])
def test_if_some_items_failed_the_exit_code_is_1(second: Exception | None) -> None:
    failures = Failures()
    with failures.item():
        raise errors.FileNotFound("x")
    with failures.item():
        if second is not None:
            raise second
    with pytest.raises(SomeFailed) as caught:
        failures.finish()
    assert caught.value.exit_code == 1


def test_an_unreachable_cluster_ends_the_loop_at_once() -> None:
    failures = Failures()
    with pytest.raises(errors.NotSent), failures.item():
        raise errors.NotSent("can't reach the namenode")
