"""Writing a copy of the store into a file: all of it, or what changed since. All SQL about that is here.

Both are made from one consistent state, in a thread, while the writer goes on: SQLite's log lets readers see the past.
Nothing is kept for it meanwhile, so it costs commits nothing, and one that was interrupted is simply made again.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import BinaryIO

import apsw

from dfs.protocol.errors import NoSpace
from dfs.protocol.metadata_log import (
    EXTENTS_IN_RECORD,
    FRAME_BYTES,
    BackupHeader,
    BackupWriter,
    LoggedChange,
    LoggedChunk,
    LoggedContent,
    LoggedDatanode,
    LoggedExtents,
    LoggedInode,
    LoggedPlace,
)
from dfs.protocol.names import join_path
from dfs_namenode.store import meta
from dfs_namenode.store.schema import KIND_FILE, NOWHERE, ROOT_INODE, SCHEMA_VERSION
from dfs_namenode.store.transaction import Snapshot

SPACE_LEFT = 256 << 20
"""Free bytes that a copy leaves to the store itself, whose commits must not fail for it."""
_PATHS_KEPT = 10_000
"""Directories whose paths are remembered during an export."""
_DATANODE = (
    "SELECT num, id, peer_url, client_url, rack, version, boot, incarnation, state, registered_ms, volumes,"
    " admin_state, admin_until_ms FROM datanode ORDER BY num"
)
_PLACES = (
    "SELECT parent_id, name FROM change WHERE seq > ?1 AND seq <= ?2 AND parent_id IS NOT NULL AND name IS NOT NULL"
    " UNION"
    " SELECT old_parent_id, old_name FROM change"
    " WHERE seq > ?1 AND seq <= ?2 AND old_parent_id IS NOT NULL AND old_name IS NOT NULL"
)
_MOVED = (
    "SELECT DISTINCT content_id FROM change WHERE seq > ? AND seq <= ? AND parent_id IS NULL AND content_id IS NOT NULL"
)
"""Contents of which something changed that is no matter of a path: compaction put their bytes elsewhere."""
_INODE = (
    "SELECT id, kind, mode, owner, grp, mtime_ns, version, content_id, attributes FROM inode"
    " WHERE parent_id = ? AND name = ?"
)
_CHANGES = (
    "SELECT seq, n, op, inode_id, parent_id, name, old_parent_id, old_name, content_id, old_content_id, before, at_ms,"
    " principal FROM change WHERE seq > ? AND seq <= ? ORDER BY seq, n"
)

Stop = Callable[[], None]
"""Called now and then; raises if the export shall end."""


def header_of(snapshot: Snapshot, *, made_ms: int, after: int | None) -> BackupHeader:
    """What a backup of this state says of itself. `after`: where its changes begin; None: a snapshot."""
    found = meta.identity(snapshot)
    assert found is not None, "a store that is served has an identity"
    return BackupHeader(
        kind="snapshot" if after is None else "changes",
        cluster=found.cluster,
        lineage=found.lineage,
        from_seq=after or 0,
        to_seq=meta.last_seq(snapshot),
        made_ms=made_ms,
        schema_version=SCHEMA_VERSION,
    )


# --- a snapshot -------------------------------------------------------------------------------------------------


def copy_database(disk_path: str, target: str, *, began: Callable[[apsw.Connection], None]) -> None:
    """Write a consistent copy of the database into a new file, compact and without a log.

    began    gets the connection that does it: another thread may interrupt it
    Raises   NoSpace: there is not enough free space, or it came to an end; apsw.InterruptError
    """
    needed = sum(os.path.getsize(path) for path in (disk_path, f"{disk_path}-wal") if os.path.exists(path))
    free = shutil.disk_usage(os.path.dirname(target)).free
    # The copy, and the compressed one that is made of it while it is still there.
    if free < 2 * needed + SPACE_LEFT:
        raise NoSpace(
            f"a copy of the store needs {2 * needed + SPACE_LEFT} free bytes beside it, and {free} are there; free some"
        )
    connection = apsw.Connection(disk_path, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(5000)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        began(connection)
        connection.execute("VACUUM INTO ?", (target,))
    except apsw.FullError:
        raise NoSpace("the disk is full: a copy of the store does not fit beside it") from None
    finally:
        connection.close()


def write_snapshot(source: str, file: BinaryIO, *, made_ms: int, stop: Stop) -> tuple[BackupHeader, int]:
    """Write a copied database as a backup. Returns what it says of itself, and its size."""
    connection = apsw.Connection(source, flags=apsw.SQLITE_OPEN_READONLY)
    try:
        header = header_of(Snapshot(connection), made_ms=made_ms, after=None)
    finally:
        connection.close()
    writer = BackupWriter(file, header)
    with open(source, "rb") as copied:
        while piece := copied.read(FRAME_BYTES):
            stop()
            writer.add_bytes(piece)
    return header, writer.finish()


# --- changes ----------------------------------------------------------------------------------------------------


def write_changes(
    snapshot: Snapshot, file: BinaryIO, *, after: int, made_ms: int, stop: Stop
) -> tuple[BackupHeader, int]:
    """Write what changed behind `after`: what it says of itself, and its size."""
    header = header_of(snapshot, made_ms=made_ms, after=after)
    writer = BackupWriter(file, header)
    for datanode in snapshot.each(_DATANODE):
        writer.add_record(LoggedDatanode(*datanode))
    export = _ContentExport(snapshot, writer)
    span = (after, header.to_seq)
    for (content_id,) in snapshot.rows(_MOVED, span):
        stop()
        export.add(content_id)
    paths = _Paths(snapshot)
    for parent_id, name in snapshot.each(_PLACES, span):
        stop()
        above = paths.of(parent_id)
        row = snapshot.row(_INODE, (parent_id, name))
        # Below a directory that was removed nothing is anywhere, also where its rows are still being swept.
        inode = None if row is None or above is None else LoggedInode(*row)
        if inode is not None and inode.kind == KIND_FILE and inode.content_id is not None:
            export.add(inode.content_id)
        path = None if above is None else join_path((*above, name))
        writer.add_record(LoggedPlace(parent_id, name, path, inode))
    for change in snapshot.each(_CHANGES, span):
        stop()
        writer.add_record(LoggedChange(*change))
    return header, writer.finish()


class _Paths:
    """The paths of directories, by inode id."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._known: dict[int, tuple[str, ...] | None] = {}

    def of(self, directory_id: int) -> tuple[str, ...] | None:
        """The names from the root on; None: it is not below the root."""
        if len(self._known) > _PATHS_KEPT:
            self._known.clear()
        way: list[tuple[int, str]] = []
        found: tuple[str, ...] | None = None
        at = directory_id
        while at != NOWHERE:
            if at == ROOT_INODE:
                found = ()
                break
            if at in self._known:
                found = self._known[at]
                break
            row = self._snapshot.row("SELECT parent_id, name FROM inode WHERE id = ? AND kind = 1", (at,))
            if row is None:
                break
            way.append((at, row[1]))
            at = row[0]
        for inode_id, name in reversed(way):
            found = None if found is None else (*found, name)
            self._known[inode_id] = found
        return found


class _ContentExport:
    """Writes contents, and each of their chunks before the first content that has bytes in it."""

    def __init__(self, snapshot: Snapshot, writer: BackupWriter) -> None:
        self._snapshot = snapshot
        self._writer = writer
        self._chunks: set[bytes] = set()

    def add(self, content_id: int) -> None:
        """Write a content; one that is not kept any more is left out."""
        snapshot, write = self._snapshot, self._writer.add_record
        found = snapshot.row("SELECT size, digest, replication, attributes FROM content WHERE id = ?", (content_id,))
        if found is None:
            return
        size, digest, replication, attributes = found
        first = True
        for extents in self._extents(content_id):
            for extent in extents:
                self._add_chunk(extent[1])
            if first:
                write(LoggedContent(content_id, size, digest, replication, attributes, extents))
            else:
                write(LoggedExtents(content_id, extents))
            first = False

    def _extents(self, content_id: int) -> Iterator[list[tuple[int, bytes, int, int, bytes]]]:
        """In batches; at least one, which may be empty."""
        after = -1
        while True:
            rows = self._snapshot.rows(
                "SELECT position, chunk_id, chunk_offset, length, digest FROM extent"
                " WHERE content_id = ? AND position > ? ORDER BY position LIMIT ?",
                (content_id, after, EXTENTS_IN_RECORD),
            )
            if rows or after < 0:
                yield [(position, chunk, offset, length, digest) for position, chunk, offset, length, digest in rows]
            if len(rows) < EXTENTS_IN_RECORD:
                return
            after = rows[-1][0]

    def _add_chunk(self, chunk: bytes) -> None:
        if chunk in self._chunks:
            return
        self._chunks.add(chunk)
        found = self._snapshot.row("SELECT length, digest, replication FROM chunk WHERE id = ?", (chunk,))
        assert found is not None, "an extent's chunk has a row for as long as the extent exists"
        length, digest, replication = found
        replicas = self._snapshot.rows(
            "SELECT datanode, volume, state FROM replica WHERE chunk_id = ? ORDER BY datanode", (chunk,)
        )
        self._writer.add_record(
            LoggedChunk(
                chunk, length, digest, replication, [(datanode, volume, state) for datanode, volume, state in replicas]
            )
        )
