"""Rows of orphans: replicas that datanodes report and no live chunk has.

Separate from `replicas`, whose rows count: an orphan counts for nothing. Its row is what makes it possible to wait, for
the commit that may still come, for the end of a safe mode, or for an operator who brings a lost history back; and it is
what a deletion, an adoption and an inspection begin with, instead of the next report. Whatever gives the id a row in
`chunk` takes the orphans' rows away in the same transaction, so that no replica is known in two ways.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dfs.protocol.messages import ReportedReplica
from dfs_namenode.store import garbage
from dfs_namenode.store.replicas import AFTER_ALL_IDS, StoredRow
from dfs_namenode.store.transaction import Snapshot, Transaction

ROWS_MAX = 1_000_000
"""Of one datanode, whatever its disks hold (I9): about 100 bytes each. More wait until some of these are gone."""


class Orphan(NamedTuple):
    """A replica that a datanode reports, as it describes it."""

    datanode: int
    """datanode.num"""
    volume: str
    length: int
    digest: str
    seen_ms: int
    """When it was first reported."""
    bad: bool
    """Its datanode has verified it since, and it is not what it says."""


@dataclass(frozen=True, slots=True)
class Found:
    """All that datanodes report under one id."""

    chunk: str
    replicas: tuple[Orphan, ...]
    known: bool
    """The chunk is condemned or deleted already: only the deletion waits."""

    @property
    def agreed(self) -> tuple[int, str] | None:
        """Length and digest, if all replicas have the same."""
        facts = {(replica.length, replica.digest) for replica in self.replicas}
        return next(iter(facts)) if len(facts) == 1 else None


def is_recorded(snapshot: Snapshot, replica: ReportedReplica, datanode: int) -> bool:
    """Whether the datanode is known to have exactly this."""
    row = snapshot.row(
        "SELECT volume, length, digest FROM orphan WHERE chunk_id = ? AND datanode = ?",
        (bytes.fromhex(replica.chunk), datanode),
    )
    return row == (bytes.fromhex(replica.volume), replica.length, bytes.fromhex(replica.digest))


def of_chunk(snapshot: Snapshot, chunk: bytes) -> list[Orphan]:
    """All rows of an id."""
    rows = snapshot.rows(
        "SELECT datanode, volume, length, digest, seen_ms, bad FROM orphan WHERE chunk_id = ? ORDER BY datanode",
        (chunk,),
    )
    return [_orphan(row) for row in rows]


def _orphan(row: Sequence[object]) -> Orphan:
    datanode, volume, length, digest, seen_ms, bad = row
    return Orphan(datanode, volume.hex(), length, digest.hex(), seen_ms, bool(bad))  # type: ignore[attr-defined,arg-type]


def at_datanode(snapshot: Snapshot, datanode: int, *, after: str, up_to: str, limit: int) -> list[StoredRow]:
    """The rows of one datanode with ids in (after, up_to], in order; "" stands for the beginning, and for the end."""
    rows = snapshot.rows(
        "SELECT chunk_id, volume, since_seq FROM orphan"
        " WHERE datanode = ? AND chunk_id > ? AND chunk_id <= ? ORDER BY chunk_id LIMIT ?",
        (datanode, bytes.fromhex(after), bytes.fromhex(up_to or AFTER_ALL_IDS), limit),
    )
    return [StoredRow(chunk.hex(), volume.hex(), True, since) for chunk, volume, since in rows]


def count_at(snapshot: Snapshot, datanode: int) -> int:
    """How many rows a datanode has."""
    return int(snapshot.value("SELECT count(*) FROM orphan WHERE datanode = ?", (datanode,)))


def page(snapshot: Snapshot, *, after: str, newest_first: bool, limit: int) -> list[Found]:
    """The next ids behind `after` ("": from the beginning) with their rows, in the order of the ids or backwards."""
    bound = bytes.fromhex(after) if after else bytes.fromhex(AFTER_ALL_IDS) if newest_first else b""
    comparison, order = ("<", "DESC") if newest_first else (">", "ASC")
    rows = snapshot.rows(
        "SELECT o.chunk_id, o.known, o.datanode, o.volume, o.length, o.digest, o.seen_ms, o.bad"  # noqa: S608
        " FROM (SELECT DISTINCT chunk_id FROM orphan"
        f" WHERE chunk_id {comparison} ? ORDER BY chunk_id {order} LIMIT ?) AS next"
        f" JOIN orphan AS o ON o.chunk_id = next.chunk_id ORDER BY o.chunk_id {order}, o.datanode",
        (bound, limit),
    )
    found: dict[bytes, tuple[list[Orphan], bool]] = {}
    for chunk, known, *described in rows:
        replicas, was_known = found.setdefault(chunk, ([], False))
        replicas.append(_orphan(described))
        found[chunk] = replicas, was_known or bool(known)
    return [Found(chunk.hex(), tuple(replicas), known) for chunk, (replicas, known) in found.items()]


def due(snapshot: Snapshot, *, up_to_ms: int, limit: int) -> list[str]:
    """Ids whose replicas are worth deleting: those of chunks that were deleted, and those granted up to a moment."""
    known = snapshot.rows("SELECT DISTINCT chunk_id FROM orphan WHERE known = 1 ORDER BY chunk_id LIMIT ?", (limit,))
    old = snapshot.rows(
        "SELECT DISTINCT chunk_id FROM orphan WHERE chunk_id < ? ORDER BY chunk_id LIMIT ?",
        (garbage.first_id_at(max(0, up_to_ms + 1)), limit),
    )
    return [chunk.hex() for chunk in dict.fromkeys(chunk for (chunk,) in (*known, *old))][:limit]


def counts(snapshot: Snapshot, *, before_ms: int) -> tuple[int, int]:
    """How many rows there are, and how many of them are of ids granted before a moment."""
    total = int(snapshot.value("SELECT count(*) FROM orphan"))
    old = int(snapshot.value("SELECT count(*) FROM orphan WHERE chunk_id < ?", (garbage.first_id_at(before_ms),)))
    return total, old


def record(tx: Transaction, replica: ReportedReplica, datanode: int, *, known: bool) -> None:
    """Keep that the datanode has this. What it said before under the id is void.

    Takes no number of its own: a store that went back in time must not catch up with what datanodes have seen before
    it has noticed (see `history`).

    known  the chunk is condemned or deleted already
    """
    tx.run(
        "INSERT INTO orphan (chunk_id, datanode, volume, length, digest, seen_ms, since_seq, known)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (chunk_id, datanode) DO UPDATE SET volume = excluded.volume, length = excluded.length,"
        " digest = excluded.digest, since_seq = excluded.since_seq, known = excluded.known",
        (
            bytes.fromhex(replica.chunk),
            datanode,
            bytes.fromhex(replica.volume),
            replica.length,
            bytes.fromhex(replica.digest),
            tx.now_ms,
            tx.last_seq,
            int(known),
        ),
    )


def take(tx: Transaction, chunk: bytes) -> list[Orphan]:
    """Remove all rows of an id, and return them: something is decided about its replicas."""
    found = of_chunk(tx, chunk)
    if found:
        tx.run("DELETE FROM orphan WHERE chunk_id = ?", (chunk,))
    return found


def mark_bad(tx: Transaction, chunk: str, datanode: int) -> bool:
    """The datanode has verified it, and it is not right. False: there is no row."""
    return tx.run("UPDATE orphan SET bad = 1 WHERE chunk_id = ? AND datanode = ?", (bytes.fromhex(chunk), datanode)) > 0


def drop(tx: Transaction, chunk: str, datanode: int) -> bool:
    """The datanode does not have it any more. False: there was no row."""
    return tx.run("DELETE FROM orphan WHERE chunk_id = ? AND datanode = ?", (bytes.fromhex(chunk), datanode)) > 0


def drop_older(tx: Transaction, chunk: str, datanode: int, *, up_to_seq: int) -> bool:
    """A report as of that number does not list it. False: there is no row that is as old."""
    return (
        tx.run(
            "DELETE FROM orphan WHERE chunk_id = ? AND datanode = ? AND since_seq <= ?",
            (bytes.fromhex(chunk), datanode, up_to_seq),
        )
        > 0
    )


def forget_all(tx: Transaction) -> None:
    """The store was put together anew: what was reported to the old one may be chunks by now. Reports come again."""
    tx.run("DELETE FROM orphan")


def drop_some_at(tx: Transaction, datanode: int, limit: int) -> int:
    """Drop the next rows of a datanode that is gone. Returns how many."""
    rows = tx.rows("SELECT chunk_id FROM orphan WHERE datanode = ? LIMIT ?", (datanode, limit))
    tx.run_many("DELETE FROM orphan WHERE chunk_id = ? AND datanode = ?", [(chunk, datanode) for (chunk,) in rows])
    return len(rows)
