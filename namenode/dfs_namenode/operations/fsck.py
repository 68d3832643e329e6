"""fsck: one page of the health of the files at and below a path.

Its own module because it walks the namespace in the order of a depth-first walk with a cursor: everything up to the
path `after` was seen. A page is bounded by entries and by extents, reads in short transactions in a thread, and keeps
nothing between calls; what is moved or removed meanwhile may be seen twice or not at all, which hurts nobody.
"""

import asyncio
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from dfs.protocol.errors import InvalidRequest
from dfs.protocol.messages import CheckReplica, ChunkHealth, FileHealth, Fsck, FsckPage, HealthState, ReplicaPlace
from dfs.protocol.names import split_path
from dfs_namenode.commands import Outbox
from dfs_namenode.inspection import chunk_health, worst
from dfs_namenode.liveness import ClusterView
from dfs_namenode.namespace import Inode, Place, require_inode
from dfs_namenode.repair import PRIORITY_ONE_LEFT
from dfs_namenode.store import inspection, namespace, replicas, work
from dfs_namenode.store.inspection import Child
from dfs_namenode.store.schema import WORK_SUSPECT
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.transaction import Snapshot

ENTRIES_MAX = 1000
"""Files and directories of one page."""
EXTENTS_MAX = 4096
"""Extents of one page: a longer file is inspected in parts."""


async def fsck(
    request: Fsck,
    *,
    store: SqliteStore,
    cluster: ClusterView,
    outbox: Outbox,
    entries: int = ENTRIES_MAX,
    extents: int = EXTENTS_MAX,
) -> FsckPage:
    """One page. Raises FileNotFound, NotADirectory, InvalidName: of the path at which the walk begins.

    With `repair`, what is not healthy is looked at before other work, and its replicas that can be read are verified.
    """
    page, unwell = await asyncio.to_thread(_inspect, request, store, cluster, _Walk(entries, extents))
    if not (request.repair and unwell):
        return page
    await store.write(
        lambda tx: work.put_many(tx, [(chunk.id, PRIORITY_ONE_LEFT) for chunk in unwell], why=WORK_SUSPECT)
    )
    for chunk in unwell:
        for replica in chunk.replicas:
            if replica.state == "good" and cluster.state(replica.datanode) == "live":
                command = CheckReplica(chunk=chunk.id.hex(), length=chunk.length, digest=chunk.digest)
                outbox.check(replica.datanode, command)
    return msgspec.structs.replace(page, repairs=len(unwell))


class _Chunk(NamedTuple):
    """A chunk with what was found about it."""

    id: bytes
    length: int
    digest: str
    replication: int
    state: HealthState
    replicas: tuple[ReplicaPlace, ...]


@dataclass(slots=True)
class _Level:
    """A directory of the walk, the name behind which it goes on, and what was read of it already, backwards."""

    path: str
    id: int
    after: str = ""
    waiting: list[Child] = field(default_factory=list)


@dataclass(slots=True)
class _Seen:
    """A file, or a part of one, whose chunks are still to be judged."""

    path: str
    size: int
    chunks: list[bytes]
    complete: bool = True


@dataclass(slots=True)
class _Walk:
    """What a page has collected, and what it may still collect."""

    entries_left: int
    extents_left: int
    directories: int = 0
    files: int = 0
    bytes: int = 0
    last: str = ""
    position: int = 0
    seen: list[_Seen] = field(default_factory=list)

    @property
    def full(self) -> bool:
        return self.entries_left <= 0 or self.extents_left <= 0 or self.position > 0

    def take_file(self, snapshot: Snapshot, path: str, child: Child | Inode, position: int = 0) -> None:
        """Note a file's chunks from `position` on, as far as the page has room."""
        assert child.content_id is not None, "a directory has no chunks"
        room = self.extents_left
        assert room > 0, "a full page takes nothing"
        rows = inspection.chunks_behind(snapshot, child.content_id, position=position, limit=room + 1)
        chunks = list(dict.fromkeys(chunk for _, chunk in rows[:room]))
        self.seen.append(_Seen(path, child.size or 0, chunks, complete=len(rows) <= room))
        self.entries_left -= 1
        self.extents_left -= min(len(rows), room)
        self.position = rows[room][0] if len(rows) > room else 0
        self.last = path
        if position == 0:
            self.files += 1
            self.bytes += child.size or 0


def _inspect(request: Fsck, store: SqliteStore, cluster: ClusterView, walk: _Walk) -> tuple[FsckPage, list[_Chunk]]:
    more = _collect(request, store, walk)
    judged = _judge({chunk for seen in walk.seen for chunk in seen.chunks}, store, cluster)
    files = []
    for seen in walk.seen:
        chunks = [judged[chunk] for chunk in seen.chunks if chunk in judged]
        state = worst(chunk.state for chunk in chunks)
        if request.all_files or state != "healthy":
            shown = [chunk for chunk in chunks if request.all_files or chunk.state != "healthy"]
            files.append(
                FileHealth(
                    path=seen.path,
                    size=seen.size,
                    state=state,
                    chunks=[_shown(chunk) for chunk in shown],
                    complete=seen.complete,
                )
            )
    page = FsckPage(
        files=files,
        files_seen=walk.files,
        directories_seen=walk.directories,
        bytes_seen=walk.bytes,
        next=walk.last if more else None,
        next_position=walk.position,
    )
    return page, [chunk for chunk in judged.values() if chunk.state != "healthy"]


def _shown(chunk: _Chunk) -> ChunkHealth:
    return ChunkHealth(
        id=chunk.id.hex(),
        length=chunk.length,
        state=chunk.state,
        replication=chunk.replication,
        replicas=list(chunk.replicas),
    )


# --- the walk ---------------------------------------------------------------------------------------------------


def _collect(request: Fsck, store: SqliteStore, walk: _Walk) -> bool:
    """Fill the page. Whether anything is left behind it."""
    with store.read() as snapshot:
        place = namespace.find(snapshot, split_path(request.path))
        inode = require_inode(place)
        if not inode.is_directory:
            if not request.after or request.position:
                walk.take_file(snapshot, place.path, inode, request.position)
            return walk.position > 0
        levels = _levels(snapshot, place, inode, request, walk)
    if not request.after:
        walk.directories += 1
    while levels:
        if walk.full:
            return True
        level = levels[-1]
        with store.read() as snapshot:
            if not level.waiting:
                found = inspection.children(snapshot, level.id, after=level.after, limit=walk.entries_left)
                level.waiting = found[::-1]
            if not level.waiting:
                levels.pop()
                continue
            _take(snapshot, level, levels, walk)
    return False


def _take(snapshot: Snapshot, level: _Level, levels: list[_Level], walk: _Walk) -> None:
    """The next entries of a directory, until the page is full or the walk goes down into a directory."""
    above = level.path.rstrip("/")
    while level.waiting and not walk.full:
        child = level.waiting.pop()
        path = f"{above}/{child.name}"
        level.after = child.name
        if child.is_directory:
            walk.directories += 1
            walk.entries_left -= 1
            walk.last = path
            levels.append(_Level(path, child.id))
            return
        walk.take_file(snapshot, path, child)


def _levels(snapshot: Snapshot, place: Place, top: Inode, request: Fsck, walk: _Walk) -> list[_Level]:
    """The directories in which the walk goes on, the deepest last. Takes the rest of the file that was cut."""
    levels = [_Level(place.path, top.id)]
    if not request.after:
        return levels
    after = split_path(request.after)
    if after[: len(place.parts)] != place.parts:
        raise InvalidRequest(f"{request.after} is not below {place.path}: the walk can't go on there")
    walk.last = request.after
    for name in after[len(place.parts) :]:
        level = levels[-1]
        level.after = name
        child = namespace.child(snapshot, level.id, name)
        if child is None:
            break
        if not child.is_directory:
            if request.position:
                walk.take_file(snapshot, request.after, child, request.position)
            break
        levels.append(_Level(f"{level.path.rstrip('/')}/{name}", child.id))
    return levels


# --- the chunks -------------------------------------------------------------------------------------------------


def _judge(chunk_ids: set[bytes], store: SqliteStore, cluster: ClusterView) -> dict[bytes, _Chunk]:
    ordered = sorted(chunk_ids)
    with store.read() as snapshot:
        facts = inspection.facts_of(snapshot, ordered)
        rows = replicas.replicas_of(snapshot, [chunk.hex() for chunk in ordered])
    judged = {}
    for chunk, (length, digest, replication) in facts.items():
        held = replicas.named(rows.get(chunk.hex(), []), cluster.by_num)
        judged[chunk] = _Chunk(
            chunk,
            length,
            digest.hex(),
            replication,
            chunk_health(held, wanted=cluster.copies_wanted(replication), cluster=cluster),
            tuple(
                ReplicaPlace(
                    datanode=replica.datanode,
                    url=cluster.client_url(replica.datanode),
                    volume=replica.volume,
                    state="good" if replica.good else "bad",
                    live=cluster.state(replica.datanode) == "live",
                )
                for replica in held
            ),
        )
    return judged
