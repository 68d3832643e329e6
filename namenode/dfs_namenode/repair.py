"""What to do about chunks that need work. Pure: rows in, instructions out; no clock, no store, no I/O.

The strategy. A replica counts if it is good and on a datanode that is not dead. A chunk with too few is pulled by a
datanode that has none, the chunks with one replica left first. A replica that is known to be bad is deleted only when
enough good ones are there; one that is surplus likewise (`surplus` decides which is). Where no other datanode could
take the replacement, its own one pulls it beside the bad one, and swaps them once it is whole; only a datanode
without room for both drops the bad one first, into its local trash, and a good one must be there. A chunk without any
good replica waits: it may come back with its datanode, and nothing is ever forgotten because it is missing. If all
are bad, the good blocks of the bad ones may still make one: they are the sources then. Surplus replicas hurt nobody
here; they are noted for `surplus`.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random

from dfs.protocol.errors import NotEnoughDatanodes
from dfs_namenode.liveness import ClusterView
from dfs_namenode.placement import choose_targets
from dfs_namenode.tally import Tally, tally

PRIORITY_ONE_LEFT = 0
PRIORITY_FEW_LEFT = 1
PRIORITY_BAD = 2
PRIORITY_MOVING = 4
"""All replicas are there, but one is on a datanode that is being drained."""
PRIORITY_SURPLUS = 5
PRIORITY_MISSING = 9
"""Work rows are read in this order. A missing chunk comes last: all that can be done is to wait."""

PRIORITY_NAMES = {
    PRIORITY_ONE_LEFT: "one_left",
    PRIORITY_FEW_LEFT: "few_left",
    PRIORITY_BAD: "bad",
    PRIORITY_MOVING: "moving",
    PRIORITY_SURPLUS: "surplus",
    PRIORITY_MISSING: "missing",
}
"""What the priorities are called in metrics."""

SMALL_BYTES = 64 << 20
SMALL_COMMANDS_MAX = 16
"""Beyond its streams a datanode may be given small repairs, up to so many bytes and so many in all: it queues them,
and a heartbeat of seconds between two packs would make the repair of small files take days."""


@dataclass(frozen=True, slots=True)
class Replica:
    datanode: str
    volume: str
    good: bool = True
    surplus: bool = False
    """Not bad, but not needed: it is deleted as bad ones are."""


@dataclass(frozen=True, slots=True)
class Need:
    """A chunk that is in the work table, with what is known of it."""

    chunk: str
    length: int
    digest: str
    replication: int
    priority: int
    replicas: tuple[Replica, ...] = ()


@dataclass(frozen=True, slots=True)
class Pull:
    """Have `target` fetch the chunk from one of `sources`, best first."""

    chunk: str
    length: int
    digest: str
    sources: tuple[str, ...]
    target: str


@dataclass(frozen=True, slots=True)
class DropReplica:
    """Delete a bad replica: its replacement is there."""

    chunk: str
    datanode: str


@dataclass(frozen=True, slots=True)
class Settled:
    """Nothing is left to do for this chunk."""

    chunk: str


@dataclass(frozen=True, slots=True)
class Reprioritise:
    """It waits, and its place in the order has changed."""

    chunk: str
    priority: int


Instruction = Pull | DropReplica | Settled | Reprioritise


@dataclass(slots=True)
class Streams:
    """Repairs under way by datanode, with their bytes, and how many more fit. Changed by the planner as it plans."""

    limit: int
    sending: dict[str, list[int]] = field(default_factory=dict)
    taking: dict[str, list[int]] = field(default_factory=dict)

    def add(self, source: str, target: str, length: int) -> None:
        self.sending.setdefault(source, []).append(length)
        self.taking.setdefault(target, []).append(length)

    def can_send(self, datanode: str, length: int) -> bool:
        return self._fits(self.sending.get(datanode, ()), length)

    def can_take(self, datanode: str, length: int) -> bool:
        return self._fits(self.taking.get(datanode, ()), length)

    def _fits(self, lengths: Collection[int], length: int) -> bool:
        if len(lengths) < self.limit:
            return True
        return len(lengths) < SMALL_COMMANDS_MAX and sum(lengths) + length <= SMALL_BYTES


def priority_of(good: int, wanted: int, bad: int = 0, *, counted: int | None = None) -> int | None:
    """Where a chunk stands in the work table; None: it needs no work.

    good     replicas at hand
    wanted   replicas that its cluster can and shall have
    counted  of the good ones those that stay; None: all
    """
    counted = good if counted is None else counted
    if good == 0:
        return PRIORITY_MISSING
    if counted < wanted:
        if good >= wanted:
            return PRIORITY_MOVING
        return PRIORITY_ONE_LEFT if good == 1 else PRIORITY_FEW_LEFT
    if bad:
        return PRIORITY_BAD
    return PRIORITY_SURPLUS if counted > wanted else None


def standing(replicas: Collection[Replica], cluster: ClusterView, *, wanted: int) -> tuple[Tally, int | None]:
    """What of a chunk counts, and where it stands in the work table.

    A bad replica that is out of reach makes no work: nobody reads it, and it is looked at when its place is back.
    """
    found = tally([(r.datanode, r.volume) for r in replicas if r.good], cluster, wanted=wanted)
    bad = sum(not r.good and cluster.serves(r.datanode, r.volume) for r in replicas)
    return found, priority_of(found.at_hand, wanted, bad, counted=found.counted)


def plan(
    needs: Iterable[Need],
    *,
    cluster: ClusterView,
    streams: Streams,
    under_way: Mapping[str, Collection[str]],
    avoid: Mapping[str, Collection[str]],
    rng: Random,
) -> list[Instruction]:
    """Instructions for a window of the work table, most urgent first.

    under_way  targets that pull each chunk now
    avoid      targets at which each chunk failed a moment ago
    """
    instructions: list[Instruction] = []
    for need in needs:
        bad = [r for r in need.replicas if not r.good]
        wanted = cluster.copies_wanted(need.replication)
        found, priority = standing(need.replicas, cluster, wanted=wanted)
        if priority is None:
            instructions.append(Settled(need.chunk))
            continue
        if priority != need.priority:
            instructions.append(Reprioritise(need.chunk, priority))
        if priority == PRIORITY_BAD:
            # On a failed volume nothing can be deleted: a "deleted" from there would let the bad one return as good.
            instructions += [DropReplica(need.chunk, r.datanode) for r in bad if cluster.serves(r.datanode, r.volume)]
        elif priority != PRIORITY_SURPLUS:
            # Where nothing good is left, the bad ones may still have every block among them.
            sources = found.readable or [r.datanode for r in bad if cluster.serves(r.datanode, r.volume)]
            pulling = under_way.get(need.chunk, ())
            missing = wanted - found.counted
            if not found.readable or found.at_hand < len(found.readable):
                # One at a time: the silent ones may be back soon, and what a salvage gives is a source for the rest.
                missing = min(missing, 1 if sources else 0)
            instructions += _pulls(
                need,
                sources,
                missing - len(pulling),
                cluster,
                streams,
                {*pulling, *avoid.get(need.chunk, ())},
                rng,
            )
    return instructions


def _pulls(
    need: Need,
    readable: Collection[str],
    missing: int,
    cluster: ClusterView,
    streams: Streams,
    avoid: Collection[str],
    rng: Random,
) -> list[Instruction]:
    """Pulls of what is missing, to datanodes that have none; where there are none, to those that have a bad one."""
    pulls: list[Instruction] = []
    taken = {replica.datanode for replica in need.replicas}
    racks = {cluster.datanodes[name].rack for name in readable}
    sources = cluster.rank(readable)
    for _ in range(missing):
        able = [name for name in sources if streams.can_send(name, need.length)]
        if not able:
            break
        target = _target(need, cluster, streams, exclude={*taken, *avoid}, racks=racks, rng=rng)
        if target is None:
            # A third datanode that is merely busy is worth waiting for.
            if cluster.candidates(exclude=taken):
                break
            beside = [r.datanode for r in need.replicas if not r.good and cluster.state(r.datanode) == "live"]
            kept = taken.difference(beside)
            if not any(c.largest_bytes >= need.length for c in cluster.candidates(exclude=kept)):
                pulls += [DropReplica(need.chunk, name) for name in beside[:1] if not pulls and name not in sources]
                break
            target = _target(need, cluster, streams, exclude={*kept, *avoid}, racks=racks, rng=rng)
            if target is None:
                break
        first = able[0]
        ordered = (first, *(name for name in sources if name != first))
        streams.add(first, target, need.length)
        pulls.append(Pull(need.chunk, need.length, need.digest, ordered, target))
        taken.add(target)
        racks.add(cluster.datanodes[target].rack)
        avoid = {*avoid, target}
    return pulls


def _target(
    need: Need, cluster: ClusterView, streams: Streams, *, exclude: Collection[str], racks: Collection[str], rng: Random
) -> str | None:
    able = [c for c in cluster.candidates(exclude=exclude) if streams.can_take(c.id, need.length)]
    try:
        return choose_targets(able, copies=1, bytes_needed=need.length, writer_id=None, rng=rng, racks_used=racks)[0].id
    except NotEnoughDatanodes:
        return None
