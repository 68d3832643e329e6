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
    live = sum(datanode.state == "live" for datanode in status.datanodes)
    return not status.missing and not status.under_replicated and live >= status.replication


def health(status: "Status") -> list[str]:
    """What a person should know, the worst first; one sentence on each line. Pure."""
    live = [datanode for datanode in status.datanodes if datanode.state == "live"]
    silent = [datanode for datanode in status.datanodes if datanode.state != "live"]
    sentences = []
    if status.missing:
        sentences.append(
            f"Unreadable now: {_chunks(status.missing)} without any replica on a live datanode; "
            "bring back a datanode that is silent"
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
    sentences += [_silence(datanode) for datanode in silent]
    sentences += [f"Deletion and repair are held back: {why}" for why in status.safe_modes]
    return sentences


def _count(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"


def _chunks(count: int) -> str:
    return _count(count, "chunk")


def _repair(status: "Status", live: int) -> str:
    if status.safe_modes:
        return "repair waits"
    if live < status.replication:
        return f"repair needs {status.replication} live datanodes, there are {live}"
    return "copies are being made"


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
        ["cluster", status.cluster],
        ["namenode", f"version {status.version}, up {human_duration(status.uptime_s)}"],
    ]
    return table(rows)


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
                datanode.state,
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
