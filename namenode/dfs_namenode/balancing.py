"""Which chunks move from fuller to emptier datanodes. Pure: rows in, instructions out; no clock, no store, no I/O.

A move is two steps, and only the first is decided here: the emptier one pulls the chunk, which then has one replica
too many; trimming removes the one that is missed least, after the others were verified. So a chunk is moved only if
that would be the one on the fuller datanode: rack rules hold by themselves, and nothing is copied in vain.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from dfs_namenode.liveness import ClusterView, Datanode
from dfs_namenode.repair import Need, Pull, Streams, standing
from dfs_namenode.surplus import choose_victim, fullness


@dataclass(frozen=True, slots=True)
class Evenness:
    """How full the datanodes are that take part, and which of them shall give and take."""

    mean: float
    spread: float
    """How far the farthest is from the mean."""
    givers: tuple[str, ...] = ()
    """Fullest first; empty: all are within the threshold."""
    takers: tuple[str, ...] = ()
    """Emptiest first."""


def _usable(node: Datanode) -> tuple[int, int]:
    used = sum(volume.used_bytes for volume in node.volumes)
    return used, used + sum(volume.free_bytes for volume in node.volumes)


def evenness(cluster: ClusterView, *, threshold: float) -> Evenness:
    """Look at the live datanodes in service. Whoever is beyond the threshold gives or takes, and the other side are
    all that are beyond the mean."""
    nodes = [node for node in cluster.live() if node.admin_state == "in_service" and not node.suspect]
    totals = [_usable(node) for node in nodes]
    capacity = sum(total for _, total in totals)
    if not capacity:
        return Evenness(0.0, 0.0)
    mean = sum(used for used, _ in totals) / capacity
    by_share = sorted((fullness(node), node.id) for node in nodes)
    spread = max(abs(share - mean) for share, _ in by_share)
    if spread <= threshold:
        return Evenness(mean, spread)
    full_ones = any(share > mean + threshold for share, _ in by_share)
    empty_ones = any(share < mean - threshold for share, _ in by_share)
    givers = [name for share, name in reversed(by_share) if share > mean + (0.0 if empty_ones else threshold)]
    takers = [name for share, name in by_share if share < mean - (0.0 if full_ones else threshold)]
    return Evenness(mean, spread, tuple(givers), tuple(takers))


def plan_moves(
    giver: str,
    chunks: Iterable[Need],
    *,
    takers: Collection[str],
    mean: float,
    cluster: ClusterView,
    streams: Streams,
    under_way: Mapping[str, Collection[str]],
    avoid: Mapping[str, Collection[str]],
    bytes_allowed: int,
) -> list[Pull]:
    """Pulls of chunks that `giver` has, until it would be at the mean, or nothing more is allowed.

    takers   emptiest first
    chunks   of the giver, with all their replicas
    """
    pulls: list[Pull] = []
    node = cluster.datanodes[giver]
    used, usable = _usable(node)
    excess = int(used - mean * usable)
    room = {name: _room(cluster.datanodes[name], mean) for name in takers}
    for need in chunks:
        if bytes_allowed <= 0 or excess <= 0:
            break
        found, priority = standing(need.replicas, cluster, wanted=cluster.copies_wanted(need.replication))
        if priority is not None or need.chunk in under_way or giver not in found.readable:
            continue
        holders = {replica.datanode for replica in need.replicas}
        for taker in takers:
            if taker in holders or taker in avoid.get(need.chunk, ()) or room[taker] < need.length:
                continue
            largest = max((c.largest_bytes for c in cluster.candidates() if c.id == taker), default=0)
            sources = [name for name in cluster.rank(found.readable) if streams.can_send(name, need.length)]
            if largest < need.length or not sources or not streams.can_take(taker, need.length):
                continue
            if choose_victim([*found.readable, taker], cluster) != giver:
                continue
            streams.add(sources[0], taker, need.length)
            pulls.append(Pull(need.chunk, need.length, need.digest, tuple(sources), taker))
            excess -= need.length
            bytes_allowed -= need.length
            room[taker] -= need.length
            break
    return pulls


def _room(node: Datanode, mean: float) -> int:
    used, usable = _usable(node)
    return int(mean * usable - used)
