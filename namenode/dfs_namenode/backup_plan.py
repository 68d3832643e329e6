"""What to back up next, and which backups are kept. Pure: no clock, no store, no I/O.

Separate because it decides how much a lost store costs, and wants to be read and tested alone. A restore needs a
snapshot and changes that follow it without a gap, all of one lineage and with all their chunks; whatever here is about
"covered" means that.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

SNAPSHOTS_KEPT = 2
"""Should one turn out to be bad, the other is there, with all changes since."""
SMALL_BYTES = 1 << 20
"""A backup of changes below this size is worth putting together with its neighbours."""
SMALL_MAX = 8
"""So many small ones may follow each other; the next one then covers what they do."""
CHANGES_BYTES_MIN = 1 << 20
"""Changes since a snapshot up to this size never call for a new one, however small that is."""
ROWS_MAX = 200_000
"""Changes beyond this number are not exported, but a snapshot is made: bounds what an export holds in memory."""


@dataclass(frozen=True)
class Backup:
    """A backup that is kept, or about to be."""

    content_id: int
    kind: Literal["snapshot", "changes"]
    from_seq: int
    to_seq: int
    made_ms: int
    size: int
    lineage: str
    whole: bool = True
    """Each of its chunks has a good replica somewhere."""


@dataclass(frozen=True)
class Facts:
    """What is decided from.

    changes        rows that no backup covers, counted up to a bound
    changes_older  rows behind `older_reach`, likewise
    """

    kept: tuple[Backup, ...]
    lineage: str
    last_seq: int
    forgotten_seq: int
    changes: int
    changes_older: int
    has_files: bool


@dataclass(frozen=True)
class Wanted:
    """Make this backup: of everything, or of what changed since `from_seq`."""

    kind: Literal["snapshot", "changes"]
    from_seq: int = 0


def newest_snapshot(kept: Iterable[Backup], lineage: str) -> Backup | None:
    """The newest one that a restore could begin with."""
    usable = [one for one in kept if one.kind == "snapshot" and one.whole and one.lineage == lineage]
    return max(usable, key=lambda one: one.to_seq, default=None)


def chain(snapshot: Backup, kept: Iterable[Backup]) -> list[Backup]:
    """The changes that follow a snapshot without a gap, as few as possible, in order."""
    usable = [one for one in kept if one.kind == "changes" and one.whole and one.lineage == snapshot.lineage]
    chosen: list[Backup] = []
    reached = snapshot.to_seq
    while True:
        following = [one for one in usable if one.from_seq <= reached < one.to_seq]
        if not following:
            return chosen
        chosen.append(max(following, key=lambda one: one.to_seq))
        reached = chosen[-1].to_seq


def older_reach(kept: Sequence[Backup], lineage: str) -> int:
    """Up to which sequence number a restore would come from the snapshot from which it comes least far.

    Behind a new snapshot that is where the changes of the one before it end: the next changes begin there, so that
    both have all that follows, should the new one turn out to be bad.
    """
    bases = [one for one in kept if one.kind == "snapshot" and one.whole and one.lineage == lineage]
    newest = sorted(bases, key=lambda one: one.to_seq)[-SNAPSHOTS_KEPT:]
    return min((max([base.to_seq, *(one.to_seq for one in chain(base, kept))]) for base in newest), default=0)


def covered(kept: Sequence[Backup], lineage: str) -> int:
    """Up to which sequence number a restore would come; 0: there is nothing to begin with."""
    snapshot = newest_snapshot(kept, lineage)
    if snapshot is None:
        return 0
    return max([snapshot.to_seq, *(one.to_seq for one in chain(snapshot, kept))])


def next_backup(facts: Facts, *, now_ms: int, snapshot_interval_ms: int, forced: bool = False) -> Wanted | None:
    """What to make now; None: nothing changed since the last one.

    forced   an operator wants a snapshot, whatever is kept
    """
    if forced:
        return Wanted("snapshot")
    snapshot = newest_snapshot(facts.kept, facts.lineage)
    if snapshot is None:
        return Wanted("snapshot") if facts.changes or facts.has_files else None
    parts = chain(snapshot, facts.kept)
    reached = parts[-1].to_seq if parts else snapshot.to_seq
    if not facts.changes:
        return None
    bytes_since = sum(one.size for one in parts)
    if (
        now_ms - snapshot.made_ms >= snapshot_interval_ms
        or bytes_since > max(snapshot.size // 2, CHANGES_BYTES_MIN)
        or facts.changes > ROWS_MAX
        or facts.forgotten_seq > reached
    ):
        return Wanted("snapshot")
    begin = _begin(parts, reached, facts.forgotten_seq)
    older = older_reach(facts.kept, facts.lineage)
    if older < begin and facts.forgotten_seq <= older and facts.changes_older <= ROWS_MAX:
        begin = older
    return Wanted("changes", begin)


def _begin(parts: Sequence[Backup], reached: int, forgotten_seq: int) -> int:
    """Where the next changes begin: behind the last ones, or where the row of small ones at the end does."""
    small: list[Backup] = []
    for part in reversed(parts):
        if part.size >= SMALL_BYTES or part.from_seq < forgotten_seq:
            break
        small.append(part)
    return small[-1].from_seq if len(small) >= SMALL_MAX else reached


def to_retire(kept: Sequence[Backup]) -> list[int]:
    """The content ids of those that are not needed any more. Of what may be needed, nothing is among them.

    Kept are the newest snapshots and all changes since the older of these, but for changes that others cover. One that
    is not whole counts for nothing, and goes once others have taken its place.
    """
    snapshots = sorted(
        [one for one in kept if one.kind == "snapshot" and one.whole], key=lambda one: one.to_seq, reverse=True
    )
    if not snapshots:
        return []
    oldest = snapshots[:SNAPSHOTS_KEPT][-1]
    needed = {one.content_id for one in snapshots[:SNAPSHOTS_KEPT]}
    changes = [one for one in kept if one.kind == "changes" and one.whole and one.to_seq > oldest.to_seq]
    needed |= {one.content_id for one in changes if not any(_covers(other, one) for other in changes)}
    return [one.content_id for one in kept if one.content_id not in needed]


def _covers(wide: Backup, narrow: Backup) -> bool:
    """Whether whoever has `wide` does not need `narrow`; of two that are alike, the newer one covers the other."""
    if wide.content_id == narrow.content_id or wide.lineage != narrow.lineage:
        return False
    if (wide.from_seq, wide.to_seq) == (narrow.from_seq, narrow.to_seq):
        return wide.content_id > narrow.content_id
    return wide.from_seq <= narrow.from_seq and wide.to_seq >= narrow.to_seq
