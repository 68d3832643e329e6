"""Rows of replicas: which datanode has which chunk, and what a report or an answer changes about it.

Writing a receipt's replica is the commit's (`chunks`); this module is about what happens afterwards. `since_seq` is
always a number that was taken for the change: a report whose scan began earlier does not speak about the row.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dfs.protocol.ids import ID_BYTES
from dfs_namenode.repair import Replica
from dfs_namenode.store.schema import CHUNK_LIVE, REPLICA_BAD, REPLICA_GOOD, REPLICA_SURPLUS
from dfs_namenode.store.transaction import Snapshot, Transaction

_IDS_AT_ONCE = 500
"""Bound of a list of parameters; well under SQLite's limit."""
AFTER_ALL_IDS = "f" * 32


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A replica row of one datanode."""

    chunk: str
    volume: str
    good: bool
    since_seq: int


class Held(NamedTuple):
    """A replica row of one chunk."""

    datanode: int
    """datanode.num"""
    volume: str
    good: bool
    """Also one that is surplus is none that counts."""
    surplus: bool
    since_seq: int


def replicas_of(snapshot: Snapshot, chunks: Sequence[str]) -> dict[str, list[Held]]:
    """For each chunk its replicas."""
    found: dict[str, list[Held]] = {}
    for start in range(0, len(chunks), _IDS_AT_ONCE):
        ids = [bytes.fromhex(chunk) for chunk in chunks[start : start + _IDS_AT_ONCE]]
        marks = ",".join("?" * len(ids))
        statement = f"SELECT chunk_id, datanode, volume, state, since_seq FROM replica WHERE chunk_id IN ({marks})"  # noqa: S608
        for chunk, datanode, volume, state, since_seq in snapshot.rows(statement, ids):
            row = Held(datanode, volume.hex(), state == REPLICA_GOOD, state == REPLICA_SURPLUS, since_seq)
            found.setdefault(chunk.hex(), []).append(row)
    return found


def named(rows: Sequence[Held], names: Mapping[int, str]) -> tuple[Replica, ...]:
    """Rows of `replicas_of` with the ids of their datanodes; `names` by number."""
    return tuple(
        Replica(names[row.datanode], row.volume, row.good, row.surplus) for row in rows if row.datanode in names
    )


def one(snapshot: Snapshot, chunk: str, datanode: int) -> StoredRow | None:
    """The row of a chunk at a datanode."""
    row = snapshot.row(
        "SELECT volume, state, since_seq FROM replica WHERE chunk_id = ? AND datanode = ?",
        (bytes.fromhex(chunk), datanode),
    )
    return None if row is None else StoredRow(chunk, row[0].hex(), row[1] == REPLICA_GOOD, row[2])


def has_any(snapshot: Snapshot, datanode: int) -> bool:
    """Whether a datanode is known to have any replica."""
    return snapshot.row("SELECT 1 FROM replica WHERE datanode = ? LIMIT 1", (datanode,)) is not None


def at_datanode(snapshot: Snapshot, datanode: int, *, after: str, up_to: str, limit: int) -> list[StoredRow]:
    """The rows of one datanode with ids in (after, up_to], in order.

    after, up_to  "" stands for the beginning, and for the end
    """
    rows = snapshot.rows(
        "SELECT chunk_id, volume, state, since_seq FROM replica"
        " WHERE datanode = ? AND chunk_id > ? AND chunk_id <= ? ORDER BY chunk_id LIMIT ?",
        (datanode, bytes.fromhex(after), bytes.fromhex(up_to or AFTER_ALL_IDS), limit),
    )
    return [StoredRow(chunk.hex(), volume.hex(), state == REPLICA_GOOD, since) for chunk, volume, state, since in rows]


def reportable(
    snapshot: Snapshot, datanode: int, *, after: str, up_to: str
) -> Iterator[tuple[bytes, bytes, int, bytes]]:
    """What a report should list of the ids in (after, up_to], in order: id, volume, length, digest. Exhaust it.

    Orphans that are on record too: that they are there is no news.
    """
    ids = (datanode, bytes.fromhex(after), bytes.fromhex(up_to or AFTER_ALL_IDS))
    return snapshot.each(
        "SELECT r.chunk_id, r.volume, c.length, c.digest FROM replica AS r JOIN chunk AS c ON c.id = r.chunk_id"
        " WHERE r.datanode = ? AND r.chunk_id > ? AND r.chunk_id <= ? AND r.state = ? AND c.state = ?"
        " UNION ALL SELECT chunk_id, volume, length, digest FROM orphan"
        " WHERE datanode = ? AND chunk_id > ? AND chunk_id <= ? ORDER BY 1",
        (*ids, REPLICA_GOOD, CHUNK_LIVE, *ids),
    )


def add_good(tx: Transaction, chunk: str, datanode: int, volume: str) -> None:
    """The datanode has a good replica of the chunk; what the row said before is void."""
    tx.run(
        "INSERT INTO replica (chunk_id, datanode, volume, state, since_seq) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (chunk_id, datanode) DO UPDATE SET volume = excluded.volume, state = excluded.state,"
        " since_seq = excluded.since_seq",
        (bytes.fromhex(chunk), datanode, bytes.fromhex(volume), REPLICA_GOOD, tx.seq),
    )


def mark_bad(tx: Transaction, chunk: str, datanode: int) -> None:
    """The replica is not what it must be. Also where there is no row: a bad file is in the way of a good one."""
    tx.run(
        "INSERT INTO replica (chunk_id, datanode, volume, state, since_seq) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (chunk_id, datanode) DO UPDATE SET state = excluded.state, since_seq = excluded.since_seq",
        (bytes.fromhex(chunk), datanode, bytes(ID_BYTES), REPLICA_BAD, tx.seq),
    )


def mark_surplus(tx: Transaction, chunk: str, datanode: int) -> bool:
    """The good replica is not needed, and will be deleted: it counts for nothing from now on. False: it was not good.

    Only `monitors.trim` may decide it. That the row says so before any command leaves is what makes it safe: whoever
    decides next sees one good replica less.
    """
    return (
        tx.run(
            "UPDATE replica SET state = ?, since_seq = ? WHERE chunk_id = ? AND datanode = ? AND state = ?",
            (REPLICA_SURPLUS, tx.seq, bytes.fromhex(chunk), datanode, REPLICA_GOOD),
        )
        > 0
    )


def drop(tx: Transaction, chunk: str, datanode: int) -> bool:
    """The replica is not there. False: there was no row."""
    return tx.run("DELETE FROM replica WHERE chunk_id = ? AND datanode = ?", (bytes.fromhex(chunk), datanode)) > 0


def good_count(snapshot: Snapshot, chunk: str, without: Collection[int] = ()) -> int:
    """Good replicas of a chunk, those at the datanodes `without` not counted."""
    rows = snapshot.rows(
        "SELECT datanode FROM replica WHERE chunk_id = ? AND state = ?", (bytes.fromhex(chunk), REPLICA_GOOD)
    )
    return sum(number not in without for (number,) in rows)
