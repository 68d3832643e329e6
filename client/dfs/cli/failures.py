"""How an exception becomes one sentence and an exit code.

Separate from the boundary in `dfs.cli` because loops over several items use it too: they tell what failed and go on.
"""

import errno
import os
import re
import sys

import click

from dfs.protocol import errors

_LOCAL_EXIT_CODES = {
    errno.ENOENT: errors.EXIT_NOT_FOUND,
    errno.EEXIST: errors.EXIT_CONFLICT,
    errno.EISDIR: errors.EXIT_CONFLICT,
    errno.ENOTDIR: errors.EXIT_CONFLICT,
    errno.ENOTEMPTY: errors.EXIT_CONFLICT,
    errno.EACCES: errors.EXIT_NOT_PERMITTED,
    errno.EPERM: errors.EXIT_NOT_PERMITTED,
    errno.EROFS: errors.EXIT_NOT_PERMITTED,
    errno.ENOSPC: errors.EXIT_UNREACHABLE,
    errno.EDQUOT: errors.EXIT_UNREACHABLE,
}
"""Of errors of this machine; they mean the same as the cluster's own."""


_NO_NUMBER = re.compile(r"is not a valid integer(?: range)?$")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class SomeFailed(Exception):
    """Some of the items of a command failed, each has been told; `exit_code` says how bad it was."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def explain(error: BaseException) -> tuple[str, int]:
    """The sentence for a person ("" where nothing is left to say) and the exit code."""
    if isinstance(error, SomeFailed):
        return "", error.exit_code
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return "", errors.EXIT_INTERRUPTED
    if isinstance(error, click.UsageError):
        return _usage(error), errors.EXIT_USAGE
    if isinstance(error, click.ClickException):
        return error.format_message(), errors.EXIT_USAGE
    if isinstance(error, errors.DfsError):
        return error.message, error.exit_code
    if isinstance(error, OSError):
        return _local(error), _LOCAL_EXIT_CODES.get(error.errno or 0, errors.EXIT_SOME_FAILED)
    if isinstance(error, ModuleNotFoundError):
        return (
            f"the Python package {error.name!r} is not installed: the servers need \"pip install 'dfs[server]'\"",
            errors.EXIT_USAGE,
        )
    sentence = f"internal error, {type(error).__name__}: {error} (DFS_DEBUG=1 shows where; please report it)"
    return sentence, errors.EXIT_SOME_FAILED


def show_traceback(error: BaseException) -> None:
    """On stderr where DFS_DEBUG asks for it; nothing for what only says that others have been told."""
    if os.environ.get("DFS_DEBUG", "") in ("", "0") or isinstance(error, SomeFailed | click.exceptions.Exit):
        return
    import traceback

    traceback.print_exception(error)


def tell(sentence: str) -> None:
    """One sentence to stderr, on one line.

    It may quote a name from this machine or from a server: what would move the cursor, or end the line, is spelled out.
    """
    print(f"dfs: {_UNSAFE.sub(_spelled, sentence)}", file=sys.stderr)


def _spelled(unsafe: re.Match[str]) -> str:
    character = unsafe[0]
    if "\udc80" <= character <= "\udcff":
        # A byte of a local name that is not UTF-8.
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def _usage(error: click.UsageError) -> str:
    message = error.format_message().rstrip(".")
    # "Missing argument …" goes on behind "dfs: "; "OWNER …" stays what it is.
    if not message[1:2].isupper():
        message = message[:1].lower() + message[1:]
    message = _NO_NUMBER.sub("is not a whole number", message)
    where = error.ctx.command_path if error.ctx is not None else "dfs"
    return f'{message}: see "{where} --help"'


def _local(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    reason = reason[:1].lower() + reason[1:]
    if error.filename is None:
        # Not of a file: of a stream, and only stdout is written to without a name.
        return f"stdout: {reason}" if error.errno == errno.ENOSPC else reason
    name = error.filename if isinstance(error.filename, str) else repr(error.filename)
    return f"{name}: {reason}"
