"""Where the replicas of a new chunk go, and how many there must be. Pure: no clock, no store, no I/O.

Separate because it is the policy that one wants to read, test and replace alone; `allocate` and `repair` both use it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from random import Random

from dfs.protocol.errors import NotEnoughDatanodes

WRITE_MIN = 2
"""Durable replicas without which a write is not acknowledged, where as many can exist."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A live datanode that may get a new replica."""

    id: str
    rack: str
    free_bytes: int
    """What new chunks may use in all, reservations taken off."""
    largest_bytes: int
    """What fits on one volume: a chunk is never split."""
    streams: int = 0
    """Transfers that it has now."""
    suspect: bool = False
    """Peers say that it fails them; chosen only where others don't suffice."""


def copies_wanted(replication: int, known_datanodes: int) -> int:
    """Replicas that a cluster of so many datanodes can have: a cluster of two does not wait for a third.

    known_datanodes  all that ever registered, dead ones too: a cluster that lost two of three must not quietly
                     become one that keeps single copies
    """
    return max(1, min(replication, known_datanodes))


def write_min(replication: int, known_datanodes: int) -> int:
    """Receipts without which a chunk is not committed."""
    return min(copies_wanted(replication, known_datanodes), WRITE_MIN)


def choose_targets(
    candidates: Collection[Candidate],
    *,
    copies: int,
    bytes_needed: int,
    writer_id: str | None,
    rng: Random,
    racks_used: Collection[str] = (),
) -> list[Candidate]:
    """Choose the datanodes for one new chunk, in pipeline order.

    First the writer's own machine, if it is a datanode: that hop costs no network.
    Second a different rack, so that losing one rack never loses the chunk.
    Third the second's rack, so that the pipeline crosses between racks only once.
    Then anywhere. A rule that cannot be met (one rack, say) is skipped. Where a rule leaves a choice, two are drawn
    and the emptier, less busy one wins: it fills datanodes evenly, yet never sends everybody to the same newcomer.

    copies        replicas wanted, >= 1
    bytes_needed  free space that a target must have on one volume, in bytes
    racks_used    racks of replicas that exist already (repair); the first target then avoids them if they are one
    Returns       exactly `copies` distinct candidates
    Raises        NotEnoughDatanodes: the caller decides whether fewer replicas will do
    Source        HDFS, BlockPlacementPolicyDefault; Mitzenmacher, The Power of Two Choices
    """
    fitting = [c for c in candidates if c.free_bytes >= bytes_needed and c.largest_bytes >= bytes_needed]
    if len(fitting) < copies:
        raise NotEnoughDatanodes(
            f"{copies} datanodes with {bytes_needed} free bytes are needed, {len(fitting)} are there",
            needed=copies,
            found=len(fitting),
        )
    trusted = [c for c in fitting if not c.suspect]
    pool = trusted if len(trusted) >= copies else fitting
    chosen: list[Candidate] = []
    while len(chosen) < copies:
        rest = [c for c in pool if c not in chosen]
        preferred = _preferred(rest, chosen, writer_id, racks_used)
        chosen.append(_better_of_two(preferred or rest, rng))
    return chosen


def _preferred(
    rest: list[Candidate], chosen: list[Candidate], writer_id: str | None, racks_used: Collection[str]
) -> list[Candidate]:
    """Those of `rest` that the rule for the next place asks for; empty if none can meet it."""
    if not chosen and racks_used:
        used = set(racks_used)
        return [c for c in rest if c.rack not in used] if len(used) == 1 else []
    if not chosen:
        return [c for c in rest if c.id == writer_id]
    if len(chosen) == 1:
        return [c for c in rest if c.rack != chosen[0].rack]
    if len(chosen) == 2 and chosen[0].rack != chosen[1].rack:
        return [c for c in rest if c.rack == chosen[1].rack]
    return []


def _better_of_two(pool: list[Candidate], rng: Random) -> Candidate:
    first, second = rng.choice(pool), rng.choice(pool)
    if _rank(second) > _rank(first):
        return second
    return first


def _rank(candidate: Candidate) -> tuple[bool, float]:
    return (not candidate.suspect, candidate.free_bytes / (1 + candidate.streams))
