"""status: counts, health, and the datanodes, for people and dashboards."""

from collections.abc import Callable, Sequence

from dfs.protocol.messages import DatanodeStatus, Status
from dfs_namenode.counting import Counted
from dfs_namenode.liveness import ClusterView, Datanode
from dfs_namenode.repair import PRIORITY_MISSING


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
) -> Status:
    """The state of the cluster. The sequence number is of now, the counts may be a moment old."""
    found = counted.counts
    replicas_at = dict(found.replicas_by_datanode)
    by_priority = counted.work_by_priority
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
        under_replicated=sum(by_priority.values()),
        missing=by_priority.get(PRIORITY_MISSING, 0),
        waiting_for_deletion=found.waiting_for_deletion,
        drafts=found.drafts,
        safe_modes=list(safe_modes),
        datanodes=[_datanode(node, replicas_at.get(node.num, 0)) for node in cluster.datanodes.values()],
        replication=replication,
        write_min=cluster.write_min(replication),
    )


def _datanode(node: Datanode, replicas: int) -> DatanodeStatus:
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
    )
