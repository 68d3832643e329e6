"""`dfs admin scrub`: have datanodes verify what they have, and wait until they did.

Separate from `admin` because its end has to be inferred: a scrub is never answered, the ages that the datanodes tell
show how far it is. One that was told while its datanode did not listen is told again.
"""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from dfs.cli.session import Session, remote_command
from dfs.cli.show import count, listed, tell
from dfs.cli.waiting import wait_options, wait_until
from dfs.protocol.errors import EXIT_SOME_FAILED, Conflict

if TYPE_CHECKING:
    from dfs.protocol.messages import DatanodeStatus, Status

AGAIN_AFTER_S = 30.0
"""A datanode that has begun nothing after so many seconds is told once more: several heartbeats, even slow ones."""


@remote_command("scrub")
@click.argument("datanodes", nargs=-1, metavar="[DATANODE]...")
@wait_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def scrub_command(session: Session, datanodes: tuple[str, ...], no_wait: bool, quiet: bool, as_json: bool) -> None:
    """Have datanodes verify everything they have, now instead of at their own pace.

    All that are live, if none is named. What is found to be bad is replaced. Exit code 1: one of them fell silent
    before it was done.
    """
    status = session.fs.status()
    wanted = those_to_scrub(status, datanodes)
    scrub = Scrub(wanted, session.fs.admin.scrub, time.monotonic)
    away = silent(status)
    if no_wait:
        told = "everything is being verified; `dfs status` shows how old the oldest byte is"
        tell(as_json, {"verified": False, "silent": away}, told + _without(away if not datanodes else []))
        return
    now = silent(wait_until(session, scrub.left, quiet=quiet))
    lost = [name for name in wanted if name in now]
    missed = lost if datanodes else now
    tell(
        as_json,
        {"verified": not lost, "silent": missed},
        "everything was verified; `dfs fsck` shows what was found" + _without(missed),
    )
    if lost:
        raise click.exceptions.Exit(EXIT_SOME_FAILED)


def _without(away: Sequence[str]) -> str:
    return f"\nNot verified: what {listed(away)} {'has' if len(away) == 1 else 'have'}, silent now" if away else ""


def those_to_scrub(status: "Status", named: Sequence[str]) -> list[str]:
    """The datanodes to tell: those that are named, or all that are live. Raises Conflict: one of them can't. Pure."""
    states = {node.id: node.state for node in status.datanodes}
    for name in named:
        # One that is not known at all is refused by the namenode, which says who is.
        if states.get(name, "live") != "live":
            raise Conflict(f"{name} is {states[name]}, and can't verify anything: start it again first")
    return list(named) or sorted(name for name, state in states.items() if state == "live")


def silent(status: "Status") -> list[str]:
    """The datanodes that nobody hears now. Pure."""
    return sorted(node.id for node in status.datanodes if node.state != "live")


class Scrub:
    """One scrub that is under way, asked for when this is made.

    ask  tells datanodes to verify everything, from now on
    """

    def __init__(
        self, datanodes: Sequence[str], ask: Callable[[Sequence[str]], None], monotonic: Callable[[], float]
    ) -> None:
        self._ask = ask
        self._monotonic = monotonic
        self._since_s = dict.fromkeys(datanodes, monotonic())
        if datanodes:
            ask(datanodes)

    def left(self, status: "Status") -> str | None:
        """How far it is; None: all that are live have ended. Whoever has begun nothing is told again."""
        now_s = self._monotonic()
        shares: list[float] = []
        for node in status.datanodes:
            if node.id not in self._since_s or node.state != "live" or node.seconds_since_heartbeat is None:
                continue
            elapsed_s = now_s - self._since_s[node.id]
            found = left_of(node, elapsed_s)
            shares += [max(share, 0.01) for share in found]
            if found and not any(found) and elapsed_s - node.seconds_since_heartbeat > AGAIN_AFTER_S:
                self._since_s[node.id] = now_s
                self._ask([node.id])
        if not shares:
            return None
        are, of = ("is", "it") if len(shares) == 1 else ("are", "one")
        return f"{count(len(shares), 'disk')} {are} being verified, {max(shares):.0%} of {of} is left"


def left_of(node: "DatanodeStatus", elapsed_s: float) -> list[float]:
    """For each volume that has not ended a scrub of `elapsed_s` ago: the share that it says is left. Pure."""
    # Its heartbeat spoke of that moment, not of now.
    told_s = elapsed_s - (node.seconds_since_heartbeat or 0.0)
    return [volume.scrub_left for volume in node.volumes if volume.state != "failed" and volume.scrub_age_s > told_s]
