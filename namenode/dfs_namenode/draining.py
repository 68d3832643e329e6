"""What of a datanode that is being drained is not safe elsewhere yet. Pure: rows in, words out.

Separate from `repair`, which makes the copies: this is the question whose answer lets an operator take a machine away,
so it counts more strictly. Only replicas that can be read now, on datanodes that stay, are elsewhere (F69). And their
rows are not taken on trust: each datanode that is relied on must have reported since the draining began, so that what
is not on its disks any more has lost its row. That costs little; whether the bytes are right is the scrub's business.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from dfs_namenode.liveness import ClusterView, Datanode
from dfs_namenode.repair import Replica


@dataclass(frozen=True, slots=True)
class Leaving:
    """A live chunk of which the datanode has a replica, good or bad."""

    chunk: bytes
    replication: int
    replicas: tuple[Replica, ...]


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What a part of a walk found."""

    left: list[bytes]
    """Chunks that do not have all the replicas that they want on datanodes that stay."""
    relied_on: frozenset[str]
    """Datanodes whose replicas let the others go."""


def look_elsewhere(chunks: Iterable[Leaving], cluster: ClusterView) -> Elsewhere:
    """Which chunks are left, and whom one believes that the others are not."""
    chunks = list(chunks)
    left = chunks_left(chunks, cluster)
    relied_on = {replica.datanode for one in chunks for replica in one.replicas if _stays(replica, cluster)}
    return Elsewhere(left, frozenset(relied_on))


def unconfirmed(
    relied_on: Collection[str], reported_s: Mapping[str, float], *, begun_s: float, walked_s: float
) -> list[str]:
    """Datanodes that must report before the last walk can be believed.

    reported_s  when each was through with its last report
    begun_s     when the draining was noticed
    walked_s    when the walk began: what a later report says, only the next one sees
    """
    return sorted(name for name in relied_on if not begun_s < reported_s.get(name, float("-inf")) <= walked_s)


def chunks_left(chunks: Iterable[Leaving], cluster: ClusterView) -> list[bytes]:
    """Those that do not have all the replicas that they want on datanodes that stay."""
    return [one.chunk for one in chunks if _elsewhere(one, cluster) < cluster.copies_wanted(one.replication)]


def _elsewhere(one: Leaving, cluster: ClusterView) -> int:
    return sum(_stays(replica, cluster) for replica in one.replicas)


def _stays(replica: Replica, cluster: ClusterView) -> bool:
    return (
        replica.good
        and cluster.admin_state(replica.datanode) in ("in_service", "maintenance")
        and cluster.serves(replica.datanode, replica.volume)
    )


def over_since(cluster: ClusterView, *, now_ms: int) -> list[Datanode]:
    """Datanodes whose maintenance is over: whoever is not back by now is gone like any other."""
    return [
        node
        for node in cluster.datanodes.values()
        if node.admin_state == "maintenance" and now_ms >= node.admin_until_ms
    ]
