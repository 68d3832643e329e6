"""Which replicas of a chunk count. Pure: no clock, no store, no I/O.

Separate because repair, trimming, draining and commits must all count alike: what one takes for enough the others must
not take for too much. A replica may be readable without counting: on a datanode that is being drained it is a source,
and counts for nothing, since it will be gone.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from dfs_namenode.liveness import ClusterView


@dataclass(frozen=True, slots=True)
class Tally:
    """The good replicas of a chunk, counted."""

    readable: tuple[str, ...]
    """Datanodes that can be read from now, or at least are not known to be dead."""
    at_hand: int
    """Of those, the ones that safety rests on now: with nearly all others gone, a silent one is none."""
    counted: int
    """Replicas that stay, and those of datanodes that are away for maintenance while enough others are at hand."""


def tally(good: Iterable[tuple[str, str]], cluster: ClusterView, *, wanted: int) -> Tally:
    """Count the good replicas, given as datanode and volume. `wanted`: those that the chunk shall have here."""
    good = list(good)
    readable = [name for name, volume in good if cluster.serves(name, volume)]
    at_hand = readable
    live = [name for name in readable if cluster.state(name) == "live"]
    if wanted > 1 and len(live) == 1 and cluster.few_silent():
        # One replica left is not waited with until the silent ones are dead.
        at_hand = live
    staying = [name for name in at_hand if cluster.admin_state(name) in ("in_service", "maintenance")]
    away = [
        name for name, volume in good if cluster.admin_state(name) == "maintenance" and not cluster.serves(name, volume)
    ]
    enough = len(at_hand) >= max(1, min(2, wanted - 1))
    return Tally(tuple(readable), len(at_hand), len(staying) + (len(away) if enough else 0))
