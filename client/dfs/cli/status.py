"""`dfs status`: how the cluster is, in plain words first."""

import sys
from typing import TYPE_CHECKING

import click
import msgspec

from dfs.cli.session import Session, remote_command
from dfs.cli.show import human_duration, print_json, size_text, table

if TYPE_CHECKING:
    from dfs.protocol.messages import DatanodeStatus, Status


@remote_command("status")
@click.option("--bytes", "exact", is_flag=True, help="Exact sizes in bytes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status_command(session: Session, exact: bool, as_json: bool) -> None:
    """Show how the cluster is."""
    status = session.fs.status()
    if as_json:
        sentence, *_ = health(status)
        print_json({"healthy": is_healthy(status), "health": sentence, **msgspec.to_builtins(status)})
        return
    lines = [*health(status), "", *_counts(status, exact), "", *_datanodes(status.datanodes, exact)]
    sys.stdout.write("\n".join(lines) + "\n")


def is_healthy(status: "Status") -> bool:
    """Whether every chunk has its replicas and new files can be stored with theirs."""
    return not status.missing and not status.under_replicated and len(_storing(status)) >= status.replication


def _storing(status: "Status") -> "list[DatanodeStatus]":
    """The datanodes that take new chunks."""
    return [node for node in status.datanodes if node.state == "live" and node.admin_state == "in_service"]


def health(status: "Status") -> list[str]:
    """What a person should know, the worst first; one sentence on each line. Pure."""
    live = _storing(status)
    sentences = []
    if status.missing:
        sentences.append(
            f"Unreadable now: {_chunks(status.missing)} without any replica on a live datanode; "
            "bring back a datanode that is silent, `dfs fsck` names the files"
        )
    short = status.under_replicated - status.missing
    if short > 0:
        sentences.append(f"Degraded: {_chunks(short)} with fewer replicas than wanted; {_repair(status, len(live))}")
    if len(live) < status.write_min:
        sentences.append(
            f"No new files now: {len(live)} live of {len(status.datanodes)} datanodes, {status.write_min} are needed"
        )
    elif len(live) < status.replication:
        sentences.append(
            f"Degraded: new files get {_count(len(live), 'replica')} instead of {status.replication}: "
            "that is how many datanodes are live"
        )
    if not sentences:
        sentences.append(
            "Healthy: every chunk has its replicas" if status.chunks else "Healthy: ready to store files, none yet"
        )
    sentences += [sentence for node in status.datanodes for sentence in _about(node)]
    sentences += [f"Deletion and repair are held back: {why}" for why in status.safe_modes]
    if status.balance is not None:
        sentences.append(
            f"Balancing: {_chunks(status.balance.moved)} moved, {status.balance.moving} under way, "
            f"the farthest datanode is {status.balance.spread:.0%} from the mean"
        )
    if status.durability != "sync":
        sentences.append(f"Durability is {status.durability}: {_DURABILITY.get(status.durability, '')}")
    return sentences


_DURABILITY = {
    "batch": "receipts wait for a sync that several replicas share",
    "none": "what was stored last may be lost if the power fails",
}


def _count(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"


def _chunks(count: int) -> str:
    return _count(count, "chunk")


def _repair(status: "Status", live: int) -> str:
    if status.safe_modes:
        return "repair waits"
    if live < status.replication:
        return f"repair needs {status.replication} live datanodes, there are {live}"
    if status.repair_eta_s is None:
        return "copies are being made"
    return f"copies are being made, {human_duration(max(1.0, status.repair_eta_s))} left"


def _about(node: "DatanodeStatus") -> list[str]:
    """What is unusual about a datanode."""
    if node.admin_state == "maintenance":
        return [f"The datanode {node.id} ({node.url}) is in maintenance: what it has is not made anew meanwhile"]
    if node.admin_state == "decommissioned":
        return [f"The datanode {node.id} ({node.url}) is decommissioned: `dfs admin forget {node.id}` removes it"]
    told = []
    if node.admin_state == "draining":
        left = "" if node.chunks_left is None else f", {_chunks(node.chunks_left)} left"
        eta = "" if node.drain_eta_s is None else f", {human_duration(max(1.0, node.drain_eta_s))} to go"
        told.append(f"The datanode {node.id} ({node.url}) is being drained{left}{eta}")
    return told + ([] if node.state == "live" else [_silence(node)])


def _silence(datanode: "DatanodeStatus") -> str:
    seconds = datanode.seconds_since_heartbeat
    since = "since the namenode started" if seconds is None else f"for {human_duration(seconds)}"
    meaning = "its replicas count as lost" if datanode.state == "dead" else "it gets no new chunks"
    return f"The datanode {datanode.id} ({datanode.url}) is {datanode.state}, silent {since}: {meaning}"


def _counts(status: "Status", exact: bool) -> list[str]:
    rows = [
        ["files", str(status.files)],
        ["directories", str(status.directories)],
        ["bytes", size_text(status.bytes, exact)],
        ["chunks", f"{status.chunks}, {_count(status.replicas, 'replica')}"],
        ["waiting for deletion", _chunks(status.waiting_for_deletion)],
        *([["verified", f"every byte within {human_duration(_scrub_age_s(status))}"]] if _scrub_age_s(status) else []),
        ["cluster", status.cluster],
        ["namenode", f"version {status.version}, up {human_duration(status.uptime_s)}"],
    ]
    return table(rows)


def _scrub_age_s(status: "Status") -> float:
    """The age of the oldest verification of any byte that can be read now."""
    return max((v.scrub_age_s for node in status.datanodes if node.state == "live" for v in node.volumes), default=0.0)


def _datanodes(datanodes: "list[DatanodeStatus]", exact: bool) -> list[str]:
    if not datanodes:
        return ['no datanodes: start one with "dfs datanode --namenode URL"']
    racks = len({datanode.rack for datanode in datanodes}) > 1
    rows = [["datanode", "state", "url", *(["rack"] if racks else []), "chunks", "used", "free"]]
    broken = []
    for datanode in sorted(datanodes, key=lambda datanode: datanode.id):
        rows.append(
            [
                datanode.id,
                _state(datanode),
                datanode.url,
                *([datanode.rack] if racks else []),
                str(datanode.replicas),
                size_text(datanode.used_bytes, exact),
                size_text(datanode.free_bytes, exact),
            ]
        )
        broken += [
            f"{datanode.id}: the volume {volume.id} is {volume.state.replace('_', ' ')}"
            for volume in datanode.volumes
            if volume.state != "in_service"
        ]
    width = len(rows[0])
    return table(rows, right=range(width - 3, width)) + broken


def _state(datanode: "DatanodeStatus") -> str:
    if datanode.admin_state == "in_service":
        return datanode.state
    return f"{datanode.state}, {datanode.admin_state.replace('_', ' ')}"
