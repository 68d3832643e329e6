"""`dfs status`: how the cluster is, in plain words first."""

import sys
from typing import TYPE_CHECKING

import click
import msgspec

from dfs.cli.session import Session, remote_command
from dfs.cli.show import count, human_duration, print_json, size_text, table, wrapped
from dfs.cli.wellbeing import chunks, health, is_healthy

if TYPE_CHECKING:
    from dfs.protocol.messages import BackupStatus, DatanodeStatus, Status


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
    lines = [*wrapped(health(status)), "", *_counts(status, exact), "", *_datanodes(status.datanodes, exact)]
    sys.stdout.write("\n".join(lines) + "\n")


def _counts(status: "Status", exact: bool) -> list[str]:
    rows = [
        ["files", str(status.files)],
        ["directories", str(status.directories)],
        ["bytes", size_text(status.bytes, exact)],
        ["chunks", f"{status.chunks}, {count(status.replicas, 'replica')}"],
        ["waiting for deletion", chunks(status.waiting_for_deletion)],
        *([["compacted", compacted]] if (compacted := _compacted(status, exact)) else []),
        *(
            [["verified", f"every byte in the last {human_duration(max(1.0, _scrub_age_s(status)))}"]]
            if _scrub_age_s(status)
            else []
        ),
        *([["store backed up", _backup(status.backup)]] if status.backup is not None else []),
        ["cluster", status.cluster],
        ["namenode", f"version {status.version}, up {human_duration(status.uptime_s)}"],
    ]
    return table(rows)


def _compacted(status: "Status", exact: bool) -> str:
    """What was won by rewriting chunks that are mostly dead; "": nothing, and nothing is under way."""
    found = status.compaction
    if found is None or not (found.composed or found.under_way):
        return ""
    saved = size_text(found.bytes_saved, exact)
    made = f"{chunks(found.chunks_emptied)} into {found.composed}, {saved} less of each replica"
    return made + (f"; {found.under_way} under way" if found.under_way else "")


def _backup(backup: "BackupStatus") -> str:
    if backup.age_s is None:
        return "not yet"
    missing = f", all but the last {human_duration(max(1.0, backup.behind_s))}" if backup.behind_s else ""
    return f"{human_duration(max(1.0, backup.age_s))} ago, up to change {backup.seq}{missing}"


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
