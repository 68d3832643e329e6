"""How an exception becomes one sentence and an exit code.

Separate from the boundary in `dfs.cli` because loops over several items use it too: they tell what failed and go on.
"""

import errno

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


def _usage(error: click.UsageError) -> str:
    message = error.format_message().rstrip(".")
    message = message[:1].lower() + message[1:]
    where = error.ctx.command_path if error.ctx is not None else "dfs"
    return f'{message}: see "{where} --help"'


def _local(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    reason = reason[:1].lower() + reason[1:]
    if error.filename is None:
        return reason
    name = error.filename if isinstance(error.filename, str) else repr(error.filename)
    return f"{name}: {reason}"
