"""What is no longer needed, on its way out: swept contents, trees taken apart, condemned chunks, tombstones.

Every function here does a bounded piece of work inside one transaction, so that nobody waits for a clean-up. The
decisions are in `dfs_namenode.garbage`; the order is

    retired content  --grace--> extents deleted, references of chunks counted down --> chunk condemned
    condemned chunk --deleted at its datanodes--> tombstone --too old for any commit--> gone
"""

from dataclasses import dataclass

from dfs.protocol.ids import ID_BYTES
from dfs_namenode.garbage import KnownChunk, may_condemn
from dfs_namenode.store import chunks
from dfs_namenode.store.meta import forgot_at
from dfs_namenode.store.schema import CHUNK_CONDEMNED, CHUNK_DELETED, CHUNK_LIVE, KIND_DIRECTORY, NOWHERE
from dfs_namenode.store.transaction import Snapshot, Transaction

_TIME_BYTES = 6
DELETION_LATE_MS = 3600 * 1000
"""How long a command to delete may be on its way, milliseconds: it is given three times within minutes, or never."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What one step of a sweep did."""

    contents: int = 0
    rows: int = 0


def first_id_at(time_ms: int) -> bytes:
    """The smallest id that carries this time: rows are ordered by it."""
    return time_ms.to_bytes(_TIME_BYTES, "big").ljust(ID_BYTES, b"\0")


# --- the sweep --------------------------------------------------------------------------------------------------


def sweep_retired(tx: Transaction, *, before_ms: int, rows: int) -> Swept:
    """Give up extents of contents that were retired before a moment, at most about `rows` of them.

    A content with more extents than that goes in several steps: it stays in `retired` until its last extent is gone.
    """
    contents = done_rows = 0
    due = tx.rows("SELECT content_id FROM retired WHERE at_ms <= ? ORDER BY at_ms LIMIT ?", (before_ms, rows))
    for (content,) in due:
        if done_rows >= rows:
            break
        released = release_extents(tx, content, limit=rows - done_rows)
        done_rows += released + 1
        if tx.row("SELECT 1 FROM extent WHERE content_id = ? LIMIT 1", (content,)) is None:
            tx.run("DELETE FROM content WHERE id = ?", (content,))
            tx.run("DELETE FROM retired WHERE content_id = ?", (content,))
            contents += 1
    return Swept(contents, done_rows)


def has_retired(snapshot: Snapshot, *, before_ms: int) -> bool:
    """Whether a sweep would find something."""
    return snapshot.row("SELECT 1 FROM retired WHERE at_ms <= ? LIMIT 1", (before_ms,)) is not None


def has_detached(snapshot: Snapshot) -> bool:
    """Whether a removed tree waits to be taken apart."""
    return snapshot.row("SELECT 1 FROM detached LIMIT 1") is not None


def release_extents(tx: Transaction, content: int, *, limit: int) -> int:
    """Delete up to `limit` extents of a content and count the references of their chunks down. Returns how many."""
    found = tx.rows(
        "SELECT position, chunk_id, length FROM extent WHERE content_id = ? ORDER BY position LIMIT ?", (content, limit)
    )
    if not found:
        return 0
    released: dict[bytes, int] = {}
    for _, chunk, length in found:
        released[chunk] = released.get(chunk, 0) - length
    tx.run("DELETE FROM extent WHERE content_id = ? AND position <= ?", (content, found[-1][0]))
    chunks.add_references(tx, released)
    return len(found)


def take_apart_detached(tx: Transaction, *, rows: int) -> Swept:
    """Take removed trees apart: files give up their contents, directories become removed trees of their own.

    No recursion, so that a tree of any depth or width goes in steps of `rows`. The grace of the contents counts from
    now, not from the removal: a reader who came back meanwhile could leave no mark, since nothing was retired yet.
    """
    done_rows = 0
    while done_rows < rows:
        root = tx.row("SELECT inode_id, seq, at_ms FROM detached ORDER BY inode_id LIMIT 1")
        if root is None:
            break
        inode, seq, removed_ms = root
        children = tx.rows(
            "SELECT name, id, kind, content_id FROM inode WHERE parent_id = ? ORDER BY name LIMIT ?",
            (inode, rows - done_rows),
        )
        done_rows += len(children) + 1
        for name, child, kind, content in children:
            if kind == KIND_DIRECTORY:
                tx.run(
                    "UPDATE inode SET parent_id = ?, name = ? WHERE parent_id = ? AND name = ?",
                    (NOWHERE, str(child), inode, name),
                )
                tx.run("INSERT INTO detached (inode_id, seq, at_ms) VALUES (?, ?, ?)", (child, seq, removed_ms))
            else:
                tx.run("DELETE FROM inode WHERE parent_id = ? AND name = ?", (inode, name))
                if content is not None:
                    tx.run(
                        "INSERT OR IGNORE INTO retired (content_id, seq, at_ms) VALUES (?, ?, ?)",
                        (content, seq, tx.now_ms),
                    )
        if tx.row("SELECT 1 FROM inode WHERE parent_id = ? LIMIT 1", (inode,)) is None:
            tx.run("DELETE FROM inode WHERE parent_id = ? AND name = ?", (NOWHERE, str(inode)))
            tx.run("DELETE FROM detached WHERE inode_id = ?", (inode,))
    return Swept(0, done_rows)


# --- chunks -----------------------------------------------------------------------------------------------------


def known_chunk(snapshot: Snapshot, chunk: str) -> KnownChunk | None:
    """A chunk's row as far as a verdict about its replicas needs it."""
    row = snapshot.row("SELECT state, length, digest FROM chunk WHERE id = ?", (bytes.fromhex(chunk),))
    if row is None:
        return None
    state = "live" if row[0] == CHUNK_LIVE else "condemned" if row[0] == CHUNK_CONDEMNED else "deleted"
    return KnownChunk(state, row[1], row[2].hex())  # type: ignore[arg-type]


def replication_of(snapshot: Snapshot, chunk: str) -> int | None:
    """Replicas that a live chunk shall have; None: there is no such chunk."""
    found = snapshot.value(
        "SELECT replication FROM chunk WHERE id = ? AND state = ?", (bytes.fromhex(chunk), CHUNK_LIVE)
    )
    return None if found is None else int(found)


def has_unreferenced(snapshot: Snapshot, *, now_ms: int) -> bool:
    """Whether there are live chunks that nothing refers to, and no reader may hold a place in."""
    return (
        snapshot.row(
            "SELECT 1 FROM chunk WHERE referenced_bytes = 0 AND state = ? AND keep_until_ms <= ? LIMIT 1",
            (CHUNK_LIVE, now_ms),
        )
        is not None
    )


def condemn(tx: Transaction, *, limit: int) -> list[str]:
    """Condemn up to `limit` live chunks that nothing refers to. The check and the change are one transaction.

    One that was compacted waits until readers that hold places in it have had their time. A chunk whose counter says 0
    although extents refer to it gets its counter set right instead.
    """
    condemned = []
    for (chunk,) in tx.rows(
        "SELECT id FROM chunk WHERE referenced_bytes = 0 AND state = ? AND keep_until_ms <= ? ORDER BY id LIMIT ?",
        (CHUNK_LIVE, tx.now_ms, limit),
    ):
        extents, size = tx.row("SELECT count(*), total(length) FROM extent WHERE chunk_id = ?", (chunk,)) or (0, 0)
        if may_condemn(state="live", referenced_bytes=0, extents=extents):
            tx.run("UPDATE chunk SET state = ?, state_ms = ? WHERE id = ?", (CHUNK_CONDEMNED, tx.now_ms, chunk))
            tx.run("DELETE FROM work WHERE chunk_id = ?", (chunk,))
            condemned.append(chunk.hex())
        else:
            tx.run("UPDATE chunk SET referenced_bytes = ? WHERE id = ?", (int(size), chunk))
    return condemned


def condemned(snapshot: Snapshot, *, after: str, limit: int) -> list[str]:
    """Condemned chunks behind an id, in order."""
    found = snapshot.rows(
        "SELECT id FROM chunk WHERE referenced_bytes = 0 AND state = ? AND id > ? ORDER BY id LIMIT ?",
        (CHUNK_CONDEMNED, bytes.fromhex(after), limit),
    )
    return [chunk.hex() for (chunk,) in found]


def bury_if_gone(tx: Transaction, chunk: str) -> bool:
    """Make a condemned chunk without replica rows a tombstone. False: it is not, or not yet."""
    key = bytes.fromhex(chunk)
    if tx.row("SELECT 1 FROM replica WHERE chunk_id = ? LIMIT 1", (key,)) is not None:
        return False
    return (
        tx.run(
            "UPDATE chunk SET state = ?, state_ms = ? WHERE id = ? AND state = ?",
            (CHUNK_DELETED, tx.now_ms, key, CHUNK_CONDEMNED),
        )
        > 0
    )


def bury_unknown(tx: Transaction, chunk: str, *, length: int, digest: str) -> bool:
    """Put a tombstone where no chunk is: from now on no commit can introduce that id. False: there is a chunk."""
    return (
        tx.run(
            "INSERT OR IGNORE INTO chunk (id, length, digest, replication, referenced_bytes, state, state_ms, layout)"
            " VALUES (?, ?, ?, 0, 0, ?, ?, 0)",
            (bytes.fromhex(chunk), length, bytes.fromhex(digest), CHUNK_DELETED, tx.now_ms),
        )
        > 0
    )


# --- forgetting -------------------------------------------------------------------------------------------------


def forget_tombstones(tx: Transaction, *, before_ms: int, limit: int) -> int:
    """Forget tombstones whose ids are older than a moment; the time of it is kept (see `steady_clock`).

    One that is young itself stays: the deletion that it stands for may still be on its way, and an operator could
    adopt the id meanwhile (see `operations.adopt`), whatever its age.
    """
    found = tx.rows(
        "SELECT id FROM chunk WHERE referenced_bytes = 0 AND state = ? AND id < ? AND state_ms <= ?"
        " ORDER BY id LIMIT ?",
        (CHUNK_DELETED, first_id_at(before_ms), tx.now_ms - DELETION_LATE_MS, limit),
    )
    if found:
        tx.run_many("DELETE FROM chunk WHERE id = ?", found)
        forgot_at(tx, tx.now_ms)
    return len(found)
