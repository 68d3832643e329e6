"""What put, get and sync share: sizes and patterns in arguments, the size of a local tree, the items that failed."""

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from dfs.cli.failures import explain
from dfs.cli.session import Failures

if TYPE_CHECKING:
    from dfs.selection import Selection
    from dfs.syncing import SyncReport
    from dfs.tree import TreeReport

_SIZE = re.compile(r"(\d+)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class SizeType(click.ParamType):  # type: ignore[type-arg]
    """Bytes, with an optional binary unit: 65536, 64KiB, 64M."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        parsed = _SIZE.fullmatch(str(value).strip())
        if parsed is None:
            self.fail(f"{value!r} is not a size; write it like 64MiB", param, ctx)
        return int(parsed[1]) * _FACTORS[parsed[2].lower()]


SIZE = SizeType()


def selection_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--include and --exclude, which become the arguments `include` and `exclude`."""
    function = click.option(
        "--exclude",
        multiple=True,
        metavar="PATTERN",
        help="Leave out files and directories; several times for several patterns.",
    )(function)
    return click.option("--include", multiple=True, metavar="PATTERN", help="Take only files that match one of these.")(
        function
    )


def selection_of(include: tuple[str, ...], exclude: tuple[str, ...], *, tree: bool) -> "Selection | None":
    """The files that are meant; None: all of them. `tree`: whether there is a directory to choose from."""
    if not include and not exclude:
        return None
    if not tree:
        raise click.UsageError("--include and --exclude choose from what is below directories: they need -r")
    from dfs.selection import Selection

    return Selection(include=include, exclude=exclude)


def local_tree_size(top: str) -> int:
    """Bytes of the regular files below a local directory, as far as they can be seen: for the progress bar only."""
    total = 0
    for directory, _, names in os.walk(top, onerror=None):
        for name in names:
            path = os.path.join(directory, name)
            try:
                total += os.lstat(path).st_size if not os.path.islink(path) else 0
            except OSError:
                # It vanished: the transfer will say so.
                continue
    return total


def tell_failures(report: "TreeReport | SyncReport", failures: Failures) -> None:
    """Tell each item of a tree that was left out."""
    for failure in report.failures:
        sentence, exit_code = explain(failure.error)
        if failure.path not in sentence:
            sentence = f"{failure.path}: {sentence}"
        failures.add(sentence, exit_code)
