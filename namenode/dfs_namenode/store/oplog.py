"""What operations answered, so that a repetition answers the same; and what they changed, so that it can be undone.

Both are written in the transaction of the operation itself, and both are forgotten after a while. Whoever forgets a
result records the time, since an id that is too old to be accepted must never look young again.
"""

from collections.abc import Sequence
from typing import NamedTuple

from dfs.protocol.ids import ID_BYTES
from dfs_namenode.store.meta import forgot_at, set_forgotten_changes
from dfs_namenode.store.transaction import Snapshot, Transaction


class StoredResult(NamedTuple):
    request_digest: bytes
    result: bytes


class Change(NamedTuple):
    """One row of the change log. What does not apply is None; places are (parent's inode id, name)."""

    op: str
    inode_id: int
    parent_id: int | None = None
    name: str | None = None
    old_parent_id: int | None = None
    old_name: str | None = None
    content_id: int | None = None
    old_content_id: int | None = None
    before: bytes | None = None
    """MessagePack of what described the inode before."""


def result_of(snapshot: Snapshot, op_id: bytes) -> StoredResult | None:
    """What the operation answered; None: it was not done, or is forgotten."""
    row = snapshot.row("SELECT request_digest, result FROM op_result WHERE op_id = ?", (op_id,))
    return None if row is None else StoredResult._make(row)


def keep_result(tx: Transaction, op_id: bytes, *, request_digest: bytes, result: bytes) -> None:
    tx.run(
        "INSERT INTO op_result (op_id, request_digest, seq, at_ms, result) VALUES (?, ?, ?, ?, ?)",
        (op_id, request_digest, tx.seq, tx.now_ms, result),
    )


def log_changes(tx: Transaction, principal: str, changes: Sequence[Change]) -> None:
    """Write the rows of one operation; its time and principal stand in the first."""
    tx.run_many(
        "INSERT INTO change (seq, n, op, inode_id, parent_id, name, old_parent_id, old_name, content_id,"
        " old_content_id, before, at_ms, principal) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (tx.seq, n, *change, tx.now_ms if n == 0 else None, principal if n == 0 else None)
            for n, change in enumerate(changes)
        ],
    )


def forget_results(tx: Transaction, *, before_ms: int, limit: int) -> int:
    """Forget results of operations whose ids are older than a moment; a repetition of those is refused by its age.

    Returns how many were forgotten; fewer than `limit`: no more are left.
    """
    oldest_kept = before_ms.to_bytes(6, "big").ljust(ID_BYTES, b"\0")
    done = tx.run(
        "DELETE FROM op_result WHERE op_id IN (SELECT op_id FROM op_result WHERE op_id < ? ORDER BY op_id LIMIT ?)",
        (oldest_kept, limit),
    )
    if done:
        forgot_at(tx, tx.now_ms)
    return done


def forget_changes(tx: Transaction, *, before_ms: int, limit: int) -> int:
    """Forget the oldest changes, whole operations of them, made before a moment. Returns how many rows went.

    limit   rows at most, but for the rest of the last operation; fewer were forgotten: no more are due
    """
    # Only the oldest are looked at: a search by age would read the whole log when nothing of it is due.
    last = None
    for seq, at_ms in tx.rows("SELECT seq, at_ms FROM change ORDER BY seq, n LIMIT ?", (limit,)):
        if at_ms is not None:
            if at_ms >= before_ms:
                break
            last = seq
    if last is None:
        return 0
    set_forgotten_changes(tx, last)
    return tx.run("DELETE FROM change WHERE seq <= ?", (last,))
