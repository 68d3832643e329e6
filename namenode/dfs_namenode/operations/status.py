"""status: counts, health, and the datanodes, for people and dashboards."""

from collections.abc import Callable, Sequence

from dfs.protocol.messages import BackupStatus, Balancing, Compacting, DatanodeStatus, Status
from dfs_namenode.counting import Counted
from dfs_namenode.liveness import ClusterView, Datanode
from dfs_namenode.rate import Rate
from dfs_namenode.repair import PRIORITY_MISSING, PRIORITY_MOVING, PRIORITY_SURPLUS


def status(
    *,
    counted: Counted,
    cluster: ClusterView,
    safe_modes: Sequence[str],
    cluster_id: str,
    version: str,
    uptime_s: float,
    replication: int,
    latest_seq: Callable[[], int],
    pulled: Rate,
    chunks_left: Callable[[str], int | None],
    balance: Balancing | None,
    backup: BackupStatus | None,
    compaction: Compacting,
) -> Status:
    """The state of the cluster. The sequence number is of now, the counts may be a moment old."""
    found = counted.counts
    replicas_at = dict(found.replicas_by_datanode)
    by_priority = counted.work_by_priority
    short = sum(count for priority, count in by_priority.items() if priority not in (PRIORITY_MOVING, PRIORITY_SURPLUS))
    repairable = short - by_priority.get(PRIORITY_MISSING, 0)
    return Status(
        cluster=cluster_id,
        version=version,
        uptime_s=uptime_s,
        seq=latest_seq(),
        files=found.files,
        directories=found.directories,
        bytes=found.bytes,
        chunks=found.chunks,
        replicas=found.replicas,
        under_replicated=short,
        missing=by_priority.get(PRIORITY_MISSING, 0),
        unreadable_files=counted.unreadable_files,
        waiting_for_deletion=found.waiting_for_deletion,
        drafts=found.drafts,
        safe_modes=list(safe_modes),
        datanodes=[
            _datanode(node, replicas_at.get(node.num, 0), chunks_left(node.id), pulled)
            for node in cluster.datanodes.values()
        ],
        replication=replication,
        write_min=cluster.write_min(replication),
        durability=cluster.durability(),
        repair_rate=pulled.per_s(),
        repair_eta_s=pulled.eta_s(repairable),
        moving=by_priority.get(PRIORITY_MOVING, 0),
        surplus=by_priority.get(PRIORITY_SURPLUS, 0),
        balance=balance,
        backup=backup,
        compaction=compaction,
    )


def _datanode(node: Datanode, replicas: int, left: int | None, pulled: Rate) -> DatanodeStatus:
    return DatanodeStatus(
        id=node.id,
        url=node.client_url,
        peer_url=node.peer_url,
        rack=node.rack,
        state=node.state,
        seconds_since_heartbeat=node.silence_s,
        version=node.version,
        capacity_bytes=sum(volume.capacity_bytes for volume in node.volumes),
        free_bytes=sum(volume.free_bytes for volume in node.volumes),
        used_bytes=sum(volume.used_bytes for volume in node.volumes),
        replicas=replicas,
        volumes=list(node.volumes),
        admin_state=node.admin_state,
        maintenance_until_ms=node.admin_until_ms,
        chunks_left=left,
        drain_eta_s=None if left is None else pulled.eta_s(left),
    )
