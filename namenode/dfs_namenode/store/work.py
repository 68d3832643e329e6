"""Rows of work: chunks that may need something done. Kept in the transactions that make them need it.

A row is a question, not an order: the planner looks at the chunk as it is and removes rows that need nothing. So it
is always right to put one in, and never right to leave one out.
"""

from collections.abc import Sequence

from dfs_namenode.repair import PRIORITY_FEW_LEFT, PRIORITY_MISSING, PRIORITY_ONE_LEFT, PRIORITY_SURPLUS
from dfs_namenode.store import replicas
from dfs_namenode.store.schema import CHUNK_LIVE, WORK_SURPLUS
from dfs_namenode.store.transaction import Row, Snapshot, Transaction


def put(tx: Transaction, chunk: str, *, why: int, priority: int) -> None:
    """Have the planner look at a chunk; a row that is there keeps its age and gets the more urgent priority."""
    tx.run(
        "INSERT INTO work (chunk_id, why, priority, since_ms) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (chunk_id) DO UPDATE SET priority = min(work.priority, excluded.priority)",
        (bytes.fromhex(chunk), why, priority, tx.now_ms),
    )


def urgency(good: int) -> int:
    """The priority of a row whose chunk has so many good replicas; the planner corrects it when it looks."""
    return PRIORITY_MISSING if good == 0 else PRIORITY_ONE_LEFT if good == 1 else PRIORITY_FEW_LEFT


def look_at(tx: Transaction, chunk: str, *, why: int) -> None:
    """Have the planner look at a chunk, if it is live, as urgently as its good replicas ask for."""
    put_many(tx, [(bytes.fromhex(chunk), urgency(replicas.good_count(tx, chunk)))], why=why)


def done(tx: Transaction, chunk: str) -> None:
    """Nothing is left to do for the chunk."""
    tx.run("DELETE FROM work WHERE chunk_id = ?", (bytes.fromhex(chunk),))


def set_priority(tx: Transaction, chunk: str, priority: int) -> None:
    """Give a row its place. One that becomes missing counts from now: `newest_missing_ms` tells of it."""
    since_ms = tx.now_ms if priority == PRIORITY_MISSING else None
    tx.run(
        "UPDATE work SET priority = ?, since_ms = coalesce(?, since_ms) WHERE chunk_id = ?",
        (priority, since_ms, bytes.fromhex(chunk)),
    )


def newest_missing_ms(snapshot: Snapshot) -> int | None:
    """When a chunk became missing last, of those that still are; None: none is."""
    newest_ms: int | None = snapshot.value("SELECT max(since_ms) FROM work WHERE priority = ?", (PRIORITY_MISSING,))
    return newest_ms


Position = tuple[int, int, bytes]
"""A place in the order of the table: priority, since, chunk."""
BEGINNING: Position = (-1, 0, b"")


def window(snapshot: Snapshot, after: Position, limit: int) -> list[Row]:
    """The next rows behind a place, most urgent and oldest first.

    Rows: priority, since_ms, chunk_id, then of the chunk (None where it is gone or not live) length, digest,
    replication.
    """
    return snapshot.rows(
        "SELECT w.priority, w.since_ms, w.chunk_id, c.length, c.digest, c.replication FROM work AS w"
        " LEFT JOIN chunk AS c ON c.id = w.chunk_id AND c.state = ?"
        " WHERE (w.priority, w.since_ms, w.chunk_id) > (?, ?, ?)"
        " ORDER BY w.priority, w.since_ms, w.chunk_id LIMIT ?",
        (CHUNK_LIVE, *after, limit),
    )


def position(row: Row) -> Position:
    """The place of a row of `window`."""
    return row[0], row[1], row[2]


def with_priority(snapshot: Snapshot, priority: int, after: Position, limit: int) -> list[Row]:
    """`window`, of one priority."""
    rows = window(snapshot, max(after, (priority, -1, b"")), limit)
    return [row for row in rows if row[0] == priority]


def look_for_surplus(tx: Transaction, chunk: str) -> None:
    """A replica came: have it looked at whether there are more now than the chunk wants."""
    wanted = tx.value("SELECT replication FROM chunk WHERE id = ? AND state = ?", (bytes.fromhex(chunk), CHUNK_LIVE))
    if wanted is not None and replicas.good_count(tx, chunk) > wanted:
        put(tx, chunk, why=WORK_SURPLUS, priority=PRIORITY_SURPLUS)


def live_facts(snapshot: Snapshot, chunk: str) -> tuple[int, bytes, int] | None:
    """Length, digest and replication of a live chunk."""
    return snapshot.row(
        "SELECT length, digest, replication FROM chunk WHERE id = ? AND state = ?", (bytes.fromhex(chunk), CHUNK_LIVE)
    )


def counts(snapshot: Snapshot) -> dict[int, int]:
    """Rows by priority."""
    return dict(snapshot.rows("SELECT priority, count(*) FROM work GROUP BY priority"))


def chunks_of_datanode(snapshot: Snapshot, datanode: int, after: bytes, limit: int) -> list[bytes]:
    """Ids of the chunks with a row at a datanode, in order: those to look at when it dies."""
    return [
        chunk
        for (chunk,) in snapshot.rows(
            "SELECT chunk_id FROM replica WHERE datanode = ? AND chunk_id > ? ORDER BY chunk_id LIMIT ?",
            (datanode, after, limit),
        )
    ]


def put_many(tx: Transaction, chunks: Sequence[tuple[bytes, int]], *, why: int) -> None:
    """`put` for many: ids with their priorities. Chunks that are not live are left out."""
    tx.run_many(
        "INSERT INTO work (chunk_id, why, priority, since_ms)"
        " SELECT id, ?, ?, ? FROM chunk WHERE id = ? AND state = ?"
        " ON CONFLICT (chunk_id) DO UPDATE SET priority = min(work.priority, excluded.priority)",
        [(why, priority, tx.now_ms, chunk, CHUNK_LIVE) for chunk, priority in chunks],
    )
