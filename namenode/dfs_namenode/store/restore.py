"""Making a store of a backup: changes applied to a copied database, then all that hangs on them set right.

Works on a database that no namenode has opened yet, beside its final name, so that a restore that was interrupted
leaves nothing that could be taken for a store. All SQL about that is here; what is to be restored, and from where, is
decided in `dfs_namenode.restoring`.

What a backup has of the namespace is exact. What hangs on it is counted anew, because rows about garbage are not in
the change log: who refers to a chunk, which contents nobody has any more, which trees were removed. Unfinished uploads
are dropped: their later parts may be missing, and a file made of what is left would be short without anybody noticing.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import apsw

from dfs.protocol.errors import CorruptReplica
from dfs.protocol.ids import new_id
from dfs.protocol.metadata_log import (
    Extents,
    LoggedChange,
    LoggedChunk,
    LoggedContent,
    LoggedDatanode,
    LoggedExtents,
    LoggedInode,
    LoggedPlace,
    Record,
)
from dfs_namenode.history import IDS_JUMP, SEQ_MARGIN, SEQ_PLAUSIBLE
from dfs_namenode.repair import PRIORITY_FEW_LEFT, PRIORITY_MISSING, PRIORITY_ONE_LEFT
from dfs_namenode.store import datanodes, meta, namespace, orphans
from dfs_namenode.store.datanodes import IN_SERVICE
from dfs_namenode.store.schema import (
    CHUNK_LIVE,
    KIND_DIRECTORY,
    NOWHERE,
    REPLICA_GOOD,
    STEPS,
    WORK_UNDER_REPLICATED,
)
from dfs_namenode.store.sqlite import migrate
from dfs_namenode.store.transaction import Counters, Transaction

EPOCHS_JUMP = 1_000_000
"""More leaders than the lost history can have had; datanodes obey only the last one that they know of."""


class RestoredStore:
    """The database while it is being restored. `close` it before it gets its name."""

    def __init__(self, path: str, *, now_ms: int) -> None:
        """Open a copied database, or begin a new one. Raises CorruptReplica."""
        self._connection = apsw.Connection(path)
        self.now_ms = now_ms
        try:
            # Until it is synced at the end it counts for nothing, so it need not survive anything.
            self._connection.execute("PRAGMA journal_mode = MEMORY")
            self._connection.execute("PRAGMA synchronous = OFF")
            found = self._connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != ("ok",):
                raise CorruptReplica(f"the backup holds a damaged database: {found}")
            migrate(self._connection, STEPS)
        except apsw.Error as error:
            self._connection.close()
            raise CorruptReplica(f"the backup holds no database that can be used: {error}") from None
        except BaseException:
            self._connection.close()
            raise
        self.tx = Transaction(self._connection, Counters(0, 0, 0), now_ms=now_ms, random_bytes=os.urandom)
        """Reads, and writes within `transaction`."""

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """All of what is written in the block, or, if it raises, nothing."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.tx
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()


def begin_empty(tx: Transaction, cluster: str) -> None:
    """Make a new database the empty store of a cluster that is known."""
    namespace.ensure_root(tx)
    meta.set_identity(tx, meta.Identity(cluster, new_id(tx.now_ms)))


# --- changes ----------------------------------------------------------------------------------------------------


def clear_places(tx: Transaction, records: Iterable[Record]) -> None:
    """Empty all places that changes name. Before any is filled: a directory must not be in two of them."""
    tx.run_many(
        "DELETE FROM inode WHERE parent_id = ? AND name = ?",
        ((record.parent_id, record.name) for record in records if isinstance(record, LoggedPlace)),
    )


def apply_changes(tx: Transaction, records: Iterable[Record], *, to_seq: int) -> int:
    """Bring the store to what the changes say. Returns how many changes those were."""
    count = 0
    for record in records:
        match record:
            case LoggedPlace(parent_id, name, _, inode):
                if inode is not None:
                    _put_inode(tx, parent_id, name, inode)
            case LoggedContent():
                _put_content(tx, record)
            case LoggedExtents(content_id, extents):
                _put_extents(tx, content_id, extents)
            case LoggedChunk():
                _put_chunk(tx, record, to_seq)
            case LoggedDatanode():
                _put_datanode(tx, record)
            case LoggedChange():
                _put_change(tx, record)
                count += 1
    tx.run("UPDATE counters SET seq = max(seq, ?)", (to_seq,))
    return count


def _put_inode(tx: Transaction, parent_id: int, name: str, inode: LoggedInode) -> None:
    if inode.kind == KIND_DIRECTORY:
        tx.run("DELETE FROM inode WHERE id = ? AND kind = ?", (inode.id, KIND_DIRECTORY))
    tx.run(
        "INSERT INTO inode (parent_id, name, id, kind, mode, owner, grp, mtime_ns, version, content_id, attributes)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            parent_id, name, inode.id, inode.kind, inode.mode, inode.owner, inode.group, inode.mtime_ns, inode.version,
            inode.content_id, inode.attributes,
        ),
    )  # fmt: skip


def _put_content(tx: Transaction, content: LoggedContent) -> None:
    tx.run(
        "INSERT OR REPLACE INTO content (id, size, digest, replication, attributes) VALUES (?, ?, ?, ?, ?)",
        (content.id, content.size, content.digest, content.replication, content.attributes),
    )
    tx.run("DELETE FROM extent WHERE content_id = ?", (content.id,))
    _put_extents(tx, content.id, content.extents)


def _put_extents(tx: Transaction, content_id: int, extents: Extents) -> None:
    tx.run_many(
        "INSERT INTO extent (content_id, position, chunk_id, chunk_offset, length, digest) VALUES (?, ?, ?, ?, ?, ?)",
        [(content_id, *extent) for extent in extents],
    )


def _put_chunk(tx: Transaction, chunk: LoggedChunk, to_seq: int) -> None:
    tx.run(
        "INSERT INTO chunk (id, length, digest, replication, referenced_bytes, state, state_ms, layout)"
        " VALUES (?, ?, ?, ?, 0, ?, ?, 0)"
        " ON CONFLICT (id) DO UPDATE SET state = excluded.state, replication = excluded.replication",
        (chunk.id, chunk.length, chunk.digest, chunk.replication, CHUNK_LIVE, tx.now_ms),
    )
    tx.run("DELETE FROM replica WHERE chunk_id = ?", (chunk.id,))
    tx.run_many(
        "INSERT INTO replica (chunk_id, datanode, volume, state, since_seq) VALUES (?, ?, ?, ?, ?)",
        [(chunk.id, datanode, volume, state, to_seq) for datanode, volume, state in chunk.replicas],
    )


def _put_datanode(tx: Transaction, node: LoggedDatanode) -> None:
    tx.run(
        "INSERT OR REPLACE INTO datanode (num, id, peer_url, client_url, rack, version, boot, incarnation, state,"
        " registered_ms, volumes, admin_state, admin_until_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            node.num, node.id, node.peer_url, node.client_url, node.rack, node.version, node.boot, node.incarnation,
            node.state, node.registered_ms, node.volumes, node.admin_state, node.admin_until_ms,
        ),
    )  # fmt: skip


def _put_change(tx: Transaction, change: LoggedChange) -> None:
    tx.run(
        "INSERT OR REPLACE INTO change (seq, n, op, inode_id, parent_id, name, old_parent_id, old_name, content_id,"
        " old_content_id, before, at_ms, principal) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            change.seq, change.n, change.op, change.inode_id, change.parent_id, change.name, change.old_parent_id,
            change.old_name, change.content_id, change.old_content_id, change.before, change.at_ms, change.principal,
        ),
    )  # fmt: skip


# --- what hangs on them -----------------------------------------------------------------------------------------


def settle(tx: Transaction) -> None:
    """Make the rest fit to the namespace. Raises CorruptReplica: it can't be made to."""
    seq = meta.last_seq(tx)
    for table in ("draft", "draft_file", "draft_chunk", "draft_action", "backup"):
        tx.run(f"DELETE FROM {table}")  # noqa: S608
    _settle_trees(tx, seq)
    tx.run("DELETE FROM retired WHERE content_id IN (SELECT content_id FROM inode WHERE content_id IS NOT NULL)")
    unused = (
        "SELECT id AS content_id FROM content UNION SELECT content_id FROM extent"
        " EXCEPT SELECT content_id FROM inode WHERE content_id IS NOT NULL"
    )
    tx.run(
        f"INSERT OR IGNORE INTO retired (content_id, seq, at_ms) SELECT content_id, ?, ? FROM ({unused})",  # noqa: S608
        (seq, tx.now_ms),
    )
    lost = tx.value("SELECT count(*) FROM extent AS e WHERE NOT EXISTS (SELECT 1 FROM chunk WHERE id = e.chunk_id)")
    bare = tx.value(
        "SELECT count(*) FROM inode AS i WHERE i.content_id IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM content WHERE id = i.content_id)"
    )
    if lost or bare:
        raise CorruptReplica(
            f"the backup does not fit together: {lost} extents without chunk, {bare} files without content"
        )
    # What departed since the snapshot took its replicas with it, and nothing else would ever miss them.
    tx.run("DELETE FROM replica WHERE datanode NOT IN (SELECT num FROM datanode WHERE state = ?)", (IN_SERVICE,))
    _settle_chunks(tx)


def _settle_trees(tx: Transaction, seq: int) -> None:
    """What is below a directory that is not there was removed with it: the sweeper takes it apart."""
    left = tx.rows(
        "SELECT parent_id, name, id, kind FROM inode AS i WHERE parent_id != ?"
        " AND NOT EXISTS (SELECT 1 FROM inode AS p WHERE p.id = i.parent_id AND p.kind = 1)",
        (NOWHERE,),
    )
    for parent_id, name, inode_id, kind in left:
        if kind == KIND_DIRECTORY:
            tx.run(
                "UPDATE inode SET parent_id = ?, name = ? WHERE parent_id = ? AND name = ?",
                (NOWHERE, str(inode_id), parent_id, name),
            )
            tx.run("INSERT INTO detached (inode_id, seq, at_ms) VALUES (?, ?, ?)", (inode_id, seq, tx.now_ms))
        else:
            tx.run("DELETE FROM inode WHERE parent_id = ? AND name = ?", (parent_id, name))


def _settle_chunks(tx: Transaction) -> None:
    tx.run(
        "UPDATE chunk SET referenced_bytes = coalesce((SELECT sum(length) FROM extent WHERE chunk_id = chunk.id), 0)"
    )
    # Of which something was given up is not in the change log: compaction looks at all that are not whole.
    tx.run("UPDATE chunk SET released = 1 WHERE referenced_bytes > 0 AND referenced_bytes != length")
    tx.run(
        "UPDATE chunk SET state = ?, state_ms = ? WHERE referenced_bytes > 0 AND state != ?",
        (CHUNK_LIVE, tx.now_ms, CHUNK_LIVE),
    )
    tx.run(
        "UPDATE chunk SET replication = found.most FROM (SELECT e.chunk_id, max(c.replication) AS most FROM extent AS e"
        " JOIN content AS c ON c.id = e.content_id GROUP BY e.chunk_id) AS found"
        " WHERE chunk.id = found.chunk_id AND chunk.replication != found.most"
    )
    tx.run(
        "INSERT OR IGNORE INTO work (chunk_id, why, priority, since_ms)"
        " SELECT id, ?, CASE good WHEN 0 THEN ? WHEN 1 THEN ? ELSE ? END, ? FROM"
        " (SELECT c.id, c.replication, (SELECT count(*) FROM replica WHERE chunk_id = c.id AND state = ?) AS good"
        " FROM chunk AS c WHERE c.state = ? AND c.referenced_bytes > 0)"
        " WHERE good < min(replication, (SELECT count(*) FROM datanode WHERE state = ?))",
        (
            WORK_UNDER_REPLICATED, PRIORITY_MISSING, PRIORITY_ONE_LEFT, PRIORITY_FEW_LEFT, tx.now_ms, REPLICA_GOOD,
            CHUNK_LIVE, IN_SERVICE,
        ),
    )  # fmt: skip


def begin_history(tx: Transaction, *, seq_seen: int, why: str) -> None:
    """Make it a history of its own: what the lost one may have given out or promised since never comes again.

    seq_seen  the highest sequence number that a datanode was ever shown
    why       what `status` says for as long as nobody has resolved it
    """
    found = meta.identity(tx)
    assert found is not None, "a backup is of a store that has an identity"
    meta.set_history_seq(tx, meta.last_seq(tx))
    orphans.forget_all(tx)
    seq = max(meta.last_seq(tx), seq_seen if seq_seen < SEQ_PLAUSIBLE else 0) + SEQ_MARGIN
    tx.run("UPDATE counters SET seq = ?, inode = inode + ?, content = content + ?", (seq, IDS_JUMP, IDS_JUMP))
    meta.set_identity(tx, meta.Identity(found.cluster, new_id(tx.now_ms)))
    meta.set_latch(tx, why)
    meta.raise_epoch(tx, EPOCHS_JUMP)
    meta.set_restored(tx, tx.now_ms)
    # Times of the lost history, and ids that were refused by their age, stay in the past.
    meta.forgot_at(tx, tx.now_ms)
    datanodes.begin_rekeying(tx)


def count(tx: Transaction) -> tuple[int, int, list[str]]:
    """Files and directories that have a place, roughly: removed trees are counted until they are swept. Datanodes."""
    files = tx.value("SELECT count(*) FROM inode WHERE kind != ?", (KIND_DIRECTORY,))
    directories = tx.value("SELECT count(*) FROM inode WHERE kind = ?", (KIND_DIRECTORY,))
    nodes = tx.rows("SELECT id FROM datanode WHERE state = ? ORDER BY id", (IN_SERVICE,))
    return int(files), int(directories), [name for (name,) in nodes]
