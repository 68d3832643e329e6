"""`dfs admin`: what operators do to a cluster. Each command is one decision; the cluster does the work.

Commands whose work takes long wait for it and show how far it is; `--no-wait` and Ctrl-C leave it going on.
"""

import re
import sys
from typing import TYPE_CHECKING

import click

from dfs.cli.backup import backup_command, restore_command
from dfs.cli.rebuild import rebuild_command
from dfs.cli.scrub import scrub_command
from dfs.cli.session import Session, remote_command
from dfs.cli.show import count, human_duration, print_json, tell
from dfs.cli.waiting import time_left, wait_options, wait_until
from dfs.cli.wellbeing import chunks, held_back, too_few_to_drain
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
        print_json(
            {
                "contents_swept": collected.contents_swept,
                "chunks_condemned": collected.chunks_condemned,
                "orphans_buried": collected.orphans_buried,
                "compositions_begun": collected.compositions_begun,
            }
        )
    else:
        sys.stdout.write(
            f"removed contents swept: {collected.contents_swept}, chunks condemned: {collected.chunks_condemned}, "
            f"chunks that no file ever had: {collected.orphans_buried}; the datanodes delete those next\n"
        )
        if collected.compositions_begun:
            sys.stdout.write(
                "new chunks that are being made of what lives in chunks that are mostly dead: "
                f"{collected.compositions_begun}\n"
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
    tell(
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
    left = f"{datanode}: {chunks(node.chunks_left)} left"
    return left + (_held(status) or too_few_to_drain(status) or time_left(node.drain_eta_s))


@remote_command("recommission")
@click.argument("datanode")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def recommission_command(session: Session, datanode: str, as_json: bool) -> None:
    """Take a datanode back into service, whatever it was taken out for."""
    state = session.fs.admin.recommission(datanode).state
    tell(as_json, {"datanode": datanode, "state": state}, f"{datanode} is in service")


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
    tell(
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
        raise Conflict(f"{datanode} is {node.state} and was not decommissioned: {_instead(node)}")
    found = session.fs.admin.forget(datanode)
    lost = f"; it had the last good replica of {chunks(found.last_ones)}, see `dfs fsck`" if found.last_ones else ""
    tell(
        as_json,
        {"datanode": datanode, "replicas": found.replicas, "last_ones": found.last_ones},
        f"{datanode} is forgotten, with {count(found.replicas, 'replica')}{lost}",
    )


def _instead(node: "DatanodeStatus") -> str:
    if node.state == "live":
        return f"`dfs admin decommission {node.id}` has what it holds copied elsewhere first"
    return "what only it has would be lost. Start it again; only if it will never come back, say --yes"


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
        tell(as_json, {"balancing": False}, "no more chunks are moved")
        return
    session.fs.admin.balance(threshold / 100)
    if no_wait:
        tell(as_json, {"balancing": True}, "chunks are being moved; `dfs status` shows how far it is")
        return
    wait_until(session, _balancing, quiet=quiet)
    tell(
        as_json, {"balancing": False}, f"every datanode is within {threshold} % of the mean, or the balance was stopped"
    )


def _balancing(status: "Status") -> str | None:
    """How far the balance is; None: it has ended."""
    if status.balance is None:
        return None
    return (
        f"{chunks(status.balance.moved)} moved, {status.balance.moving} under way, "
        f"the farthest is {status.balance.spread:.0%} from the mean{_held(status)}"
    )


def _held(status: "Status") -> str:
    return "; held back, see `dfs status`" if status.safe_modes else ""


@remote_command("safemode")
@click.argument("what", type=click.Choice(["status", "on", "off"]), default="status", metavar="[status|on|off]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def safemode_command(session: Session, what: str, as_json: bool) -> None:
    """Show, or decide, whether deletion and repair are held back. Reading and writing never are."""
    modes = session.fs.status().safe_modes if what == "status" else session.fs.admin.set_safe_mode(on=what == "on")
    sentences = [held_back(mode) for mode in modes]
    tell(
        as_json,
        {"held_back": bool(modes), "why": modes},
        "\n".join(sentences) or "deletion and repair go on as usual",
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
            "first (`dfs admin rebuild --from-datanodes`), then say --yes"
        )
    resolved = session.fs.admin.resolve_history().resolved
    tell(
        as_json,
        {"resolved": resolved},
        "resolved: chunks that no file has are garbage again" if resolved else "there was nothing to resolve",
    )


def _words(state: str) -> str:
    return state.replace("_", " ")


for _command in (
    backup_command,
    balance_command,
    decommission_command,
    forget_command,
    gc_command,
    maintenance_command,
    rebuild_command,
    recommission_command,
    resolve_history_command,
    restore_command,
    safemode_command,
    scrub_command,
):
    admin_command.add_command(_command)
