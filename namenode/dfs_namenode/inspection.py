"""How a chunk and a file are, for people who ask. Pure: rows and the cluster's view in, words out.

Separate from `repair`, which decides what to do: here nothing is decided, and a chunk that can't be read now must
never be called lost while a datanode that is away may still have it.

    healthy           as many good replicas as the cluster can have, and no bad one
    under_replicated  readable, with fewer replicas than wanted
    corrupt           readable, and a replica is known to be bad: it is replaced
    unavailable       every good replica is on a datanode that is dead or on a volume that failed: it may come back
    missing           no good replica is known anywhere
"""

from collections.abc import Iterable, Sequence

from dfs.protocol.messages import HealthState
from dfs_namenode.liveness import ClusterView
from dfs_namenode.repair import Replica
from dfs_namenode.tally import tally

_BEST_TO_WORST: tuple[HealthState, ...] = ("healthy", "under_replicated", "corrupt", "unavailable", "missing")


def chunk_health(replicas: Sequence[Replica], *, wanted: int, cluster: ClusterView) -> HealthState:
    """How a chunk with these replicas is.

    wanted  replicas that the cluster can and shall have of it
    """
    found = tally([(replica.datanode, replica.volume) for replica in replicas if replica.good], cluster, wanted=wanted)
    if not found.readable:
        return "unavailable" if any(replica.good for replica in replicas) else "missing"
    if any(
        not replica.good and not replica.surplus and cluster.state(replica.datanode) != "dead" for replica in replicas
    ):
        return "corrupt"
    # One that is being drained counts until its replacement is there: nobody has to do anything about it.
    return "healthy" if max(found.counted, found.at_hand) >= wanted else "under_replicated"


def worst(states: Iterable[HealthState]) -> HealthState:
    """A file is as its worst chunk is; one without chunks is healthy."""
    return max(states, key=_BEST_TO_WORST.index, default="healthy")
