"""Waiting for something that goes on in the cluster: asked for now and then, shown on a terminal.

Separate because every long command of operators waits in the same way. Ctrl-C ends the waiting, never the work.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from dfs.cli.progress import Ticker
from dfs.cli.show import human_duration

if TYPE_CHECKING:
    from dfs.cli.session import Session
    from dfs.protocol.messages import Status

ASK_EVERY_S = 0.5


def wait_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--no-wait and -q, as the arguments `no_wait` and `quiet`."""
    function = click.option("-q", "--quiet", "quiet", is_flag=True, help="Show no progress while waiting.")(function)
    return click.option("--no-wait", "no_wait", is_flag=True, help="Return at once; the work goes on.")(function)


def wait_until(
    session: "Session",
    left: Callable[["Status"], str | None],
    *,
    quiet: bool,
    pause: Callable[[float], None] = time.sleep,
) -> "Status":
    """Ask for the status until `left` says None; what it says instead is shown on a terminal."""
    with Ticker(quiet=quiet) as ticker:
        while True:
            status = session.fs.status()
            text = left(status)
            if text is None:
                return status
            ticker.show(text)
            pause(ASK_EVERY_S)


def time_left(seconds: float | None) -> str:
    """ ", 5 min left", or nothing if that is not known."""
    return "" if seconds is None else f", {human_duration(seconds)} left"
