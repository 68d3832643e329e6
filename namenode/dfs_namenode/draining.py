"""What of a datanode that is being drained is not safe elsewhere yet. Pure: rows in, words out.

Separate from `repair`, which makes the copies: this is the question whose answer lets an operator take a machine away,
so it counts more strictly. Only replicas that can be read now, on datanodes that stay, are elsewhere (F69).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from dfs_namenode.liveness import ClusterView, Datanode
from dfs_namenode.repair import Replica


@dataclass(frozen=True, slots=True)
class Leaving:
    """A live chunk of which the datanode has a replica, good or bad."""

    chunk: bytes
    replication: int
    replicas: tuple[Replica, ...]


def chunks_left(chunks: Iterable[Leaving], cluster: ClusterView) -> list[bytes]:
    """Those that do not have all the replicas that they want on datanodes that stay."""
    return [one.chunk for one in chunks if _elsewhere(one, cluster) < cluster.copies_wanted(one.replication)]


def _elsewhere(one: Leaving, cluster: ClusterView) -> int:
    return sum(
        replica.good
        and cluster.admin_state(replica.datanode) in ("in_service", "maintenance")
        and cluster.serves(replica.datanode, replica.volume)
        for replica in one.replicas
    )


def over_since(cluster: ClusterView, *, now_ms: int) -> list[Datanode]:
    """Datanodes whose maintenance is over: whoever is not back by now is gone like any other."""
    return [
        node
        for node in cluster.datanodes.values()
        if node.admin_state == "maintenance" and now_ms >= node.admin_until_ms
    ]
