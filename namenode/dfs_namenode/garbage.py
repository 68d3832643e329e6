"""What may be deleted, and when. Pure: facts in, verdicts out; no clock, no store, no I/O.

Separate because deletion is the dangerous operation: whatever removes a replica of a chunk has passed through here.
Two rules carry the rest. A chunk that the store knows is deleted only after a transaction has made it `condemned`. A
chunk that it does not know is deleted only after a transaction has put a tombstone in its place. A commit of either
then fails, so that no clock, however wrong, can make an acknowledged file lose its bytes.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from dfs.protocol.ids import id_time_ms

ChunkState = Literal["live", "condemned", "deleted"]

TOMBSTONE_MARGIN_MS = 12 * 3600 * 1000
"""How much longer than any commit could accept its id a tombstone is kept, milliseconds."""


class Verdict(Enum):
    """What a replica that a datanode reports is."""

    KNOWN = "known"
    """Right, and its row is there."""
    ADOPT = "adopt"
    """Right, but without a row: it came after the commit, or its datanode was away."""
    BAD = "bad"
    """Not what the chunk must be."""
    DELETE = "delete"
    """Of a chunk that is condemned or deleted: the deletion did not reach this datanode, or a power cut undid it."""
    ORPHAN = "orphan"
    """Of no chunk yet: its writer may still commit it, or the store has lost it. It goes on record, and waits."""


@dataclass(frozen=True, slots=True)
class KnownChunk:
    """The row of a chunk, as far as a verdict needs it."""

    state: ChunkState
    length: int
    digest: str


def judge_replica(*, known: KnownChunk | None, length: int, digest: str, has_row: bool) -> Verdict:
    """Decide about one replica of a report.

    known    the chunk's row, None if there is none
    has_row  whether the store has a replica row for this chunk at this datanode
    """
    if known is None:
        return Verdict.ORPHAN
    if known.state != "live":
        return Verdict.DELETE
    if (known.length, known.digest) != (length, digest):
        return Verdict.BAD
    return Verdict.KNOWN if has_row else Verdict.ADOPT


def may_bury(chunk: str, *, now_ms: int, orphan_age_ms: int, latched: bool) -> bool:
    """Whether an id without a row may get a tombstone, so that its replicas can be deleted.

    Its age says that it is worth it: nobody comes to commit it any more. A store that may lag behind what datanodes
    have seen buries nothing: what it does not know may be the files that it has lost (F63).
    """
    return not latched and now_ms - id_time_ms(chunk) >= orphan_age_ms


def may_drop_row(*, since_seq: int, as_of: int, volume: str, volumes_scanned: Collection[str]) -> bool:
    """Whether a replica row that a report does not list may go (F62).

    Only a row that is older than the scan: a replica that was committed meanwhile may have been passed already. And
    only of a volume that was scanned completely: what is on a failed one is unavailable, not absent.
    """
    return since_seq <= as_of and volume in volumes_scanned


def may_condemn(*, state: ChunkState, referenced_bytes: int, extents: int) -> bool:
    """Whether a chunk may become `condemned` in the transaction that read these facts.

    The counter says what is likely garbage; the extents say what is: a counter that went wrong deletes nothing.
    """
    return state == "live" and referenced_bytes == 0 and extents == 0


def forget_before_ms(*, now_ms: int, commit_window_ms: int) -> int:
    """Tombstones whose ids are older than this may go: a commit refuses such ids, and the namenode's time, which is
    stored in the same transaction, never goes back behind `now_ms` (see `steady_clock`)."""
    return max(0, now_ms - commit_window_ms - TOMBSTONE_MARGIN_MS)


class DeleteBudget:
    """How many chunks may still be deleted: a brake for the day when a bug or a mistake condemns everything (F65).

    Refills steadily; a cluster with few chunks may always delete `burst` in an hour, since a share of little is none.
    """

    def __init__(self, *, share_per_hour: float, burst: int, now_s: float) -> None:
        self._share_per_hour = share_per_hour
        self._burst = burst
        self._left = float(burst)
        self._at_s = now_s

    def available(self, *, chunks: int, now_s: float) -> int:
        """Chunks that may be deleted now, of a cluster that has `chunks`. Monotonic seconds."""
        per_hour = max(self._burst, chunks * self._share_per_hour)
        self._left = min(per_hour, self._left + per_hour * (now_s - self._at_s) / 3600.0)
        self._at_s = now_s
        return int(self._left)

    def spend(self, count: int) -> None:
        """Take `count` chunks off what is available."""
        self._left -= count


def safe_modes(
    *, known: int, unheard: int, dead: int, settled: bool, latched: bool, by_operator: bool = False
) -> list[str]:
    """Why deletion and repair are held back now; empty if they are not. Reads, writes and commits never are.

    known    datanodes that the store knows, without those that were given up or decommissioned, and dead ones that had
             nothing
    unheard  of those, not heard since the start and not yet dead by silence
    dead     of those, silent for long enough, and not because an operator said so
    settled  the settling time after a restart is over
    latched  the store lags behind what datanodes have seen
    """
    modes = []
    if by_operator:
        modes.append("operator: deletion and repair are held back until somebody switches the safe mode off again")
    if latched:
        modes.append(
            "history: datanodes have seen newer changes than this store has; nothing is deleted until an operator "
            "has brought back what is missing (`dfs admin rebuild --from-datanodes`) and then resolved it "
            "(`dfs admin resolve-history`)"
        )
    if unheard:
        modes.append(f"cold start: {unheard} of {known} datanodes have not been heard yet")
    elif not settled:
        modes.append("cold start: waiting for the cluster to settle")
    if dead * 3 > known:
        modes.append(f"mass outage: {dead} of {known} datanodes are dead")
    return modes
