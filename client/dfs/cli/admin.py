"""`dfs admin`: what operators do to a cluster. Each command is one decision; the cluster does the work.

Commands whose work takes long wait for it and show how far it is; `--no-wait` and Ctrl-C leave it going on.
"""

import re
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dfs.cli.session import Session, remote_command
from dfs.cli.show import human_duration, print_json
from dfs.cli.waiting import time_left, wait_options, wait_until
from dfs.protocol.errors import EXIT_USAGE, Conflict, InvalidRequest

if TYPE_CHECKING:
    from dfs.protocol.messages import DatanodeStatus, Status

_DURATION = re.compile(r"(\d+)(s|min|m|h|d)")
_SECONDS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400}


@click.group("admin", invoke_without_command=True)
@click.pass_context
def admin_command(context: click.Context) -> None:
    """Operate the cluster."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(EXIT_USAGE)


@remote_command("gc")
@click.option("--now", is_flag=True, help="Run it now; without it, say what waits.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def gc_command(session: Session, now: bool, as_json: bool) -> None:
    """Show what waits for deletion, or collect it now.

    Removed and replaced content is kept for a grace, for those who still read it; collecting now keeps that grace.
    """
    if not now:
        waiting = session.fs.status().waiting_for_deletion
        if as_json:
            print_json({"waiting_for_deletion": waiting})
        else:
            sys.stdout.write(f"chunks that wait for deletion: {waiting} (--now collects them)\n")
        return
    collected = session.fs.collect_garbage()
    if as_json:
        print_json({"contents_swept": collected.contents_swept, "chunks_condemned": collected.chunks_condemned})
    else:
        sys.stdout.write(
            f"removed contents swept: {collected.contents_swept}, chunks condemned: {collected.chunks_condemned}; "
            "the datanodes delete those next\n"
        )


# --- datanodes --------------------------------------------------------------------------------------------------


@remote_command("decommission")
@click.argument("datanode")
@wait_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def decommission_command(session: Session, datanode: str, no_wait: bool, quiet: bool, as_json: bool) -> None:
    """Take a datanode out of the cluster: have what it holds copied elsewhere first.

    It is read from until then. When it is decommissioned it can be stopped, and `dfs admin forget` removes it.
    """
    state = session.fs.admin.decommission(datanode).state
    if not no_wait and state != "decommissioned":
        found = wait_until(session, lambda status: _draining(status, datanode), quiet=quiet)
        state = _datanode(found, datanode).admin_state
        if state != "decommissioned":
            raise Conflict(f"{datanode} is {_words(state)}: somebody else has decided about it meanwhile")
    _tell(
        as_json,
        {"datanode": datanode, "state": state},
        f"{datanode} is decommissioned: stop it, then `dfs admin forget {datanode}`"
        if state == "decommissioned"
        else f"{datanode} is being drained; `dfs status` shows how far it is",
    )


def _draining(status: "Status", datanode: str) -> str | None:
    """How far a drain is; None: it has ended."""
    node = _datanode(status, datanode)
    if node.admin_state != "draining":
        return None
    if node.chunks_left is None:
        return f"{datanode}: counting its chunks"
    held = f"; held back: {status.safe_modes[0]}" if status.safe_modes else ""
    return f"{datanode}: {node.chunks_left} chunks left{time_left(node.drain_eta_s)}{held}"


@remote_command("recommission")
@click.argument("datanode")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def recommission_command(session: Session, datanode: str, as_json: bool) -> None:
    """Take a datanode back into service, whatever it was taken out for."""
    state = session.fs.admin.recommission(datanode).state
    _tell(as_json, {"datanode": datanode, "state": state}, f"{datanode} is in service")


def _duration(context: click.Context, _parameter: click.Parameter, text: str) -> float:
    seconds = seconds_of(text)
    if not seconds:
        raise click.UsageError(f"{text!r} is not a duration; it looks like 30m, 2h or 1d", context)
    return seconds


def seconds_of(text: str) -> float:
    """A duration such as 30m, 2h or 1h30m, in seconds; 0 if it is none."""
    if not re.fullmatch(f"(?:{_DURATION.pattern})+", text):
        return 0.0
    return float(sum(int(count) * _SECONDS[unit] for count, unit in _DURATION.findall(text)))


@remote_command("maintenance")
@click.argument("datanode")
@click.option("--for", "duration_s", default="1h", show_default=True, callback=_duration, metavar="TIME",
              help="How long it will be away: 30m, 2h, 1d.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def maintenance_command(session: Session, datanode: str, duration_s: float, as_json: bool) -> None:
    """Say that a datanode will be away for a while: what it holds is not made anew meanwhile.

    As long as enough other replicas are at hand. It comes back into service by itself, or by `dfs admin recommission`.
    """
    found = session.fs.admin.maintenance(datanode, duration_s)
    _tell(
        as_json,
        {"datanode": datanode, "state": found.state, "until_ms": found.until_ms},
        f"{datanode} is in maintenance for {human_duration(duration_s)}: it can be stopped now",
    )


@remote_command("forget")
@click.argument("datanode")
@click.option("--yes", is_flag=True, help="Also if it is not decommissioned: what only it has is lost then.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def forget_command(session: Session, datanode: str, yes: bool, as_json: bool) -> None:
    """Remove a datanode that will not come back: one that is decommissioned, or dead."""
    node = _datanode(session.fs.status(), datanode)
    if node.admin_state != "decommissioned" and not yes:
        raise Conflict(
            f"{datanode} is {node.state} and was not decommissioned: what only it has would be lost. "
            "Bring it back, or say --yes"
        )
    found = session.fs.admin.forget(datanode)
    lost = f"; for {found.last_ones} chunks it had the last good replica, see `dfs fsck`" if found.last_ones else ""
    _tell(
        as_json,
        {"datanode": datanode, "replicas": found.replicas, "last_ones": found.last_ones},
        f"{datanode} is forgotten, with {found.replicas} replicas{lost}",
    )


def _datanode(status: "Status", datanode: str) -> "DatanodeStatus":
    found = next((node for node in status.datanodes if node.id == datanode), None)
    if found is None:
        known = ", ".join(sorted(node.id for node in status.datanodes)) or "none"
        raise InvalidRequest(f"there is no datanode {datanode}; known are: {known}")
    return found


# --- the whole cluster ------------------------------------------------------------------------------------------


@remote_command("balance")
@click.option("--threshold", type=click.IntRange(1, 50), default=10, show_default=True, metavar="PERCENT",
              help="How far from the mean a datanode may be.")  # fmt: skip
@click.option("--stop", is_flag=True, help="Move no more chunks.")
@wait_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def balance_command(session: Session, threshold: int, stop: bool, no_wait: bool, quiet: bool, as_json: bool) -> None:
    """Move chunks from fuller to emptier datanodes, until they are even.

    Repairs come first. Reading and writing go on.
    """
    if stop:
        session.fs.admin.stop_balance()
        _tell(as_json, {"balancing": False}, "no more chunks are moved")
        return
    session.fs.admin.balance(threshold / 100)
    if no_wait:
        _tell(as_json, {"balancing": True}, "chunks are being moved; `dfs status` shows how far it is")
        return
    wait_until(session, _balancing, quiet=quiet)
    _tell(
        as_json, {"balancing": False}, f"every datanode is within {threshold} % of the mean, or the balance was stopped"
    )


def _balancing(status: "Status") -> str | None:
    """How far the balance is; None: it has ended."""
    if status.balance is None:
        return None
    held = f"; held back: {status.safe_modes[0]}" if status.safe_modes else ""
    return (
        f"{status.balance.moved} chunks moved, {status.balance.moving} under way, "
        f"the farthest is {status.balance.spread:.0%} from the mean{held}"
    )


@remote_command("scrub")
@click.argument("datanodes", nargs=-1, metavar="[DATANODE]...")
@wait_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def scrub_command(session: Session, datanodes: tuple[str, ...], no_wait: bool, quiet: bool, as_json: bool) -> None:
    """Have datanodes verify everything they have, now instead of at their own pace.

    All that are live, if none is named. What is found to be bad is replaced.
    """
    began_s = time.monotonic()
    session.fs.admin.scrub(datanodes)
    if no_wait:
        _tell(as_json, {"verified": False}, "everything is being verified; `dfs status` shows how old it is")
        return
    wait_until(session, lambda status: scrubbing(status, datanodes, time.monotonic() - began_s), quiet=quiet)
    _tell(as_json, {"verified": True}, "everything was verified; `dfs fsck` shows what was found")


def scrubbing(status: "Status", datanodes: Sequence[str], elapsed_s: float) -> str | None:
    """How far a scrub is that was asked for `elapsed_s` ago; None: it has ended. Pure."""
    left: list[float] = []
    for node in status.datanodes:
        if node.state != "live" or node.seconds_since_heartbeat is None or (datanodes and node.id not in datanodes):
            continue
        # Its heartbeat spoke of that moment, not of now.
        told_s = elapsed_s - node.seconds_since_heartbeat
        left += [
            max(volume.scrub_left, 0.01)
            for volume in node.volumes
            if volume.state != "failed" and volume.scrub_age_s > told_s
        ]
    return f"{len(left)} disks are being verified, {max(left):.0%} of one is left" if left else None


@remote_command("safemode")
@click.argument("what", type=click.Choice(["status", "on", "off"]), default="status", metavar="[status|on|off]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def safemode_command(session: Session, what: str, as_json: bool) -> None:
    """Show, or decide, whether deletion and repair are held back. Reading and writing never are."""
    modes = session.fs.status().safe_modes if what == "status" else session.fs.admin.set_safe_mode(on=what == "on")
    _tell(
        as_json,
        {"held_back": bool(modes), "why": modes},
        "\n".join(f"deletion and repair are held back: {why}" for why in modes) or "deletion and repair go on as usual",
    )


@remote_command("resolve-history")
@click.option("--yes", is_flag=True, help="It was looked at: what the namenode does not know may be deleted.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def resolve_history_command(session: Session, yes: bool, as_json: bool) -> None:
    """Let go what was kept because the namenode's store was older than its datanodes.

    A namenode that was restored from a backup does not know the files that were made since. Their chunks are kept
    until this is said; afterwards they are garbage like any other.
    """
    if not yes:
        raise Conflict(
            "chunks that this namenode does not know may be deleted after this, for ever: get back what is missing "
            "first, then say --yes"
        )
    resolved = session.fs.admin.resolve_history().resolved
    _tell(
        as_json,
        {"resolved": resolved},
        "resolved: chunks that no file has are garbage again" if resolved else "there was nothing to resolve",
    )


def _words(state: str) -> str:
    return state.replace("_", " ")


def _tell(as_json: bool, record: dict[str, object], sentence: str) -> None:
    if as_json:
        print_json(record)
    else:
        sys.stdout.write(f"{sentence}\n")


for _command in (
    balance_command,
    decommission_command,
    forget_command,
    gc_command,
    maintenance_command,
    recommission_command,
    resolve_history_command,
    safemode_command,
    scrub_command,
):
    admin_command.add_command(_command)
