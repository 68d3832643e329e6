"""What put and get share: sizes in arguments, the size of a local tree, the items of a tree that failed."""

import os
import re
from typing import TYPE_CHECKING

import click

from dfs.cli.failures import explain
from dfs.cli.session import Failures

if TYPE_CHECKING:
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


def tell_failures(report: "TreeReport", failures: Failures) -> None:
    """Tell each item of a tree that was left out."""
    for failure in report.failures:
        sentence, exit_code = explain(failure.error)
        if failure.path not in sentence:
            sentence = f"{failure.path}: {sentence}"
        failures.add(sentence, exit_code)
