"""The `dfs` command: reads arguments, calls the Python API, shows what came.

This module is the boundary: whatever ends a command becomes one sentence on stderr and an exit code here, and nowhere
else. It imports next to nothing, so that `dfs ls` as a whole process stays under 0.2 s; each subcommand is a module of
its own that is loaded by name when it is called (see `commands`).
"""

import gc
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

GARBAGE_THRESHOLD = 20_000
"""Objects that are made before garbage is looked for: a short command is over by then, and modules are none."""


def main() -> NoReturn:
    """The entry point of `dfs`. Never returns, never shows a traceback unless DFS_DEBUG is set."""
    gc.set_threshold(GARBAGE_THRESHOLD, 10, 10)
    signal.signal(signal.SIGTERM, _terminated)
    _open_standard_streams()
    sys.exit(run(sys.argv[1:]))


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    # An exception instead of sudden death: temporary files are removed on the way out.
    raise SystemExit(128 + signal.SIGTERM)


def _open_standard_streams() -> None:
    """Give output that was closed (`>&-`) to /dev/null: Python leaves None there, which nothing can use.

    Not so stdin: a command that reads it must fail, not store an empty file.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def run(arguments: list[str]) -> int:
    """Run one command line; the exit code. Errors have been told on stderr when it returns."""
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        # While modules were being imported: the only moment at which nobody else catches it.
        return 128 + signal.SIGINT


def _run(arguments: list[str]) -> int:
    import click

    from dfs.cli.commands import root
    from dfs.cli.failures import explain, show_traceback, tell

    try:
        with root.make_context("dfs", list(arguments)) as context:
            root.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as leaving:
        return _flushed(leaving.exit_code)
    except BrokenPipeError:
        # The reader of our output has seen enough.
        _abandon_stdout()
        return 0
    except (Exception, KeyboardInterrupt) as error:
        show_traceback(error)
        sentence, exit_code = explain(error)
        if sentence:
            tell(sentence)
        return _flushed(exit_code)
    return 0


def _flushed(exit_code: int) -> int:
    try:
        sys.stdout.flush()
    except OSError:
        # It has been told already, or it is a closed pipe.
        _abandon_stdout()
    return exit_code


def _abandon_stdout() -> None:
    # Python flushes once more when it exits, and would complain: what is left goes to /dev/null.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
