"""Which surplus replica goes, and when. Pure: rows in, instructions out; no clock, no store, no I/O.

Separate from `repair` because it deletes what is good. A surplus hurts nobody, so there is time: a replica goes only
when as many others as the chunk wants have been read whole and found right *since the surplus appeared* (F67), and are
on datanodes that answer, stay, and that no peer complains about. One replica of a chunk at a time.

Of those that might go it is the one whose loss leaves the most racks; then the one on the fullest datanode, so that
trimming also evens out what repairs and balancing have made.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from dfs_namenode.liveness import ClusterView, Datanode


@dataclass(frozen=True, slots=True)
class Kept:
    """A good replica."""

    datanode: str
    volume: str
    since_seq: int
    """When its row was written last."""


@dataclass(frozen=True, slots=True)
class Surplus:
    """A chunk that may have more replicas than it wants."""

    chunk: str
    length: int
    digest: str
    replication: int
    replicas: tuple[Kept, ...]
    """The good ones."""


@dataclass(frozen=True, slots=True)
class Verify:
    """Have a replica read whole: one that is to stay."""

    chunk: str
    length: int
    digest: str
    datanode: str


@dataclass(frozen=True, slots=True)
class Trim:
    """Delete the replica at `datanode`, if those in `verified` are all still as they were."""

    chunk: str
    datanode: str
    verified: tuple[Kept, ...]


def plan_trims(
    surpluses: Iterable[Surplus], *, cluster: ClusterView, verified: Mapping[str, Mapping[str, int]], allowed: int
) -> list[Verify | Trim]:
    """Instructions for some chunks.

    verified  for each chunk the datanodes whose replica was found right, with the sequence number before the check
    allowed   replicas that may be deleted now
    """
    instructions: list[Verify | Trim] = []
    for surplus in surpluses:
        wanted = cluster.copies_wanted(surplus.replication)
        sure = [kept for kept in surplus.replicas if is_sure(kept, cluster)]
        if len(sure) <= wanted:
            continue
        victim = choose_victim([kept.datanode for kept in sure], cluster)
        newest = max(kept.since_seq for kept in surplus.replicas)
        found = verified.get(surplus.chunk, {})
        others = [kept for kept in sure if kept.datanode != victim]
        right = tuple(kept for kept in others if found.get(kept.datanode, -1) >= newest)
        if len(right) < wanted:
            instructions += [
                Verify(surplus.chunk, surplus.length, surplus.digest, kept.datanode)
                for kept in others
                if kept not in right
            ]
        elif allowed > 0:
            allowed -= 1
            instructions.append(Trim(surplus.chunk, victim, right))
    return instructions


def is_sure(kept: Kept, cluster: ClusterView) -> bool:
    """Whether a replica can be relied on while another one is deleted."""
    node = cluster.datanodes.get(kept.datanode)
    if node is None or node.state != "live" or node.suspect or node.admin_state != "in_service":
        return False
    volume = node.volume(kept.volume)
    return volume is not None and volume.state != "failed"


def choose_victim(datanodes: Collection[str], cluster: ClusterView) -> str:
    """The datanode whose replica is missed least."""

    def worth_removing(name: str) -> tuple[int, float, str]:
        racks_left = {cluster.datanodes[other].rack for other in datanodes if other != name}
        return len(racks_left), fullness(cluster.datanodes[name]), name

    return max(datanodes, key=worth_removing)


def fullness(node: Datanode) -> float:
    """The share that chunks take of what they might have, 0 to 1. What lies in the trash counts as free soon."""
    used = sum(volume.used_bytes for volume in node.volumes)
    usable = used + sum(volume.free_bytes for volume in node.volumes)
    return used / usable if usable else 1.0
