"""How files get in: from a local file, from a stream, as an append. Joins grants, chunks and commits.

Separate from the client so that the transaction, the trees and the plain methods store in the same way, with the same
defaults of the cluster.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from dfs.fetcher import Fetcher
from dfs.hinting import FileHints, pack_hints
from dfs.layout import PlacedExtent, place
from dfs.namenodes import Namenodes
from dfs.packer import Pack
from dfs.protocol.clock import Clock
from dfs.protocol.digests import Buffer
from dfs.protocol.errors import FileNotFound, InvalidRequest, PreconditionFailed, RequestError
from dfs.protocol.messages import (
    CHUNK_SIZE_MAX,
    CHUNK_SIZE_MIN,
    REPLICATION_MAX,
    TIME_NS_MAX,
    AppendFile,
    Extent,
    Locate,
    Open,
    Outcome,
    PutFile,
    Stat,
)
from dfs.protocol.operations import LOCATE, OPEN, STAT
from dfs.publisher import Batch, Publisher, Sent
from dfs.recovery import backoff_s
from dfs.sender import Grants, Sender
from dfs.sources import MemorySource
from dfs.staging import Staging
from dfs.suspects import Suspects
from dfs.workers import Workers
from dfs.writer import ChunkLine, StreamWriter, regular_size, send_file, stream_parallel, whole_chunks

TAIL_MAX = 1 << 20
"""A last extent up to this size is rewritten by an append, so that many small appends don't make endless extents."""
APPEND_TRIES_MAX = 5
"""Attempts to rewrite the last extent against other writers; after them an append adds an extent, which never fails."""
SMALL_CHUNK_BYTES = 64 << 10
"""The chunks of files up to this size take their grants from one stock."""

Added = Callable[[int], None]
K = TypeVar("K")


@dataclass(frozen=True)
class _End:
    """The end of a file that is to be appended to."""

    size: int = 0
    tail: PlacedExtent | None = None
    """The last extent, if it is short enough to be rewritten."""
    version: int = 0
    replication: int = 0


class Storing:
    """Stores. Usable from several threads.

    chunk_size, replication  what this client wants where a call names none; None: what the cluster wants
    parallel                 chunks of one file under way at once
    """

    def __init__(
        self,
        namenodes: Namenodes,
        sender: Sender,
        fetcher: Fetcher,
        workers: Workers,
        suspects: Suspects,
        clock: Clock,
        *,
        parallel: int,
        chunk_size: int | None,
        replication: int | None,
    ) -> None:
        self.namenodes = namenodes
        self.sender = sender
        self.publisher = Publisher(namenodes, sender)
        self.workers = workers
        self.parallel = parallel
        self._fetcher = fetcher
        self._suspects = suspects
        self._clock = clock
        self.wanted_replication = replication
        self._chunk_size = chunk_size
        self._small_grants: dict[tuple[int, int], Grants] = {}
        """By process and replication: what a parent was granted is not used by its child as well."""

    def chunk_size(self, wanted: int | None = None) -> int:
        """Bytes of a chunk. Raises InvalidRequest: out of bounds."""
        size = wanted or self._chunk_size or self.namenodes.facts().chunk_size_bytes
        if not CHUNK_SIZE_MIN <= size <= CHUNK_SIZE_MAX:
            raise InvalidRequest(f"a chunk of {size} bytes: it must have between {CHUNK_SIZE_MIN} and {CHUNK_SIZE_MAX}")
        return size

    def replication(self, wanted: int | None = None) -> int:
        """Replicas of a chunk. Raises InvalidRequest: out of bounds."""
        copies = self.wanted_replication if wanted is None else wanted
        copies = self.namenodes.facts().replication if copies is None else copies
        if not 1 <= copies <= REPLICATION_MAX:
            raise InvalidRequest(f"{copies} replicas: there must be between 1 and {REPLICATION_MAX}")
        return copies

    def pack_limit(self) -> int:
        """Files up to this size travel in packs."""
        return self.namenodes.facts().pack_limit_bytes

    def grants(self, length: int, replication: int | None, expected: int | None = None) -> Grants:
        """Grants for chunks of at most `length` bytes.

        Files that are one small chunk share theirs, so that one after the other costs hardly more than its commit.
        """
        copies = self.replication(replication)
        if length > SMALL_CHUNK_BYTES or expected not in (None, 1):
            return self._new_grants(length, copies, expected)
        key = (os.getpid(), copies)
        shared = self._small_grants.get(key)
        if shared is None:
            shared = self._small_grants[key] = self._new_grants(SMALL_CHUNK_BYTES, copies, None)
        return shared

    def _new_grants(self, length: int, copies: int, expected: int | None) -> Grants:
        return Grants(
            self.namenodes,
            self._suspects,
            self._clock,
            length=length,
            replication=copies,
            expected=expected,
        )

    def send_local(
        self,
        descriptor: int,
        name: str,
        path: str,
        *,
        replication: int | None = None,
        chunk_size: int | None = None,
        parallel: int | None = None,
        added: Added | None = None,
        taken: Callable[[Sent], None] | None = None,
    ) -> list[Sent]:
        """Store the bytes of an open local file as chunks, in order; nothing is visible yet.

        name  the local file's, for messages
        path  what it is to become
        taken told of each chunk, in order, from this thread
        """
        size = regular_size(descriptor)
        chunk_size = self.chunk_size(chunk_size)
        if size == 0:
            return []
        grants = self.grants(min(chunk_size, size), replication, -(-size // chunk_size))
        parallel = parallel or self.parallel
        line = ChunkLine(self.sender, self.workers, grants, parallel=parallel, added=added, taken=taken)
        hints = self.hints_for(path, size=size)
        return send_file(descriptor, size, name, line, chunk_size=chunk_size, hints=hints)

    def hints_for(self, path: str, *, size: int = -1, start: Callable[[], int] | None = None) -> FileHints:
        """What to enclose in the chunks of one new upload; as FileHints describes it."""
        upload = self.namenodes.new_id()
        return FileHints(path, upload, size=size) if start is None else FileHints(path, upload, size=size, start=start)

    def store_bytes(self, data: Buffer, hints: bytes, replication: int | None = None) -> list[Sent]:
        """Store bytes that fit into one chunk; none for no bytes."""
        if len(data) == 0:
            return []
        source = MemorySource(data, hints)
        grants = self.grants(source.length, replication, 1)
        return [Sent(self.sender.send(source, grants), source, grants)]

    def send_memory(self, data: Buffer, path: str, *, replication: int | None = None) -> list[Sent]:
        """Store bytes as chunks, in order; nothing is visible yet. `path`: what they are to become."""
        stream = self._stream_writer(replication, None, len(data), self.hints_for(path, size=len(data)))
        try:
            stream.write(data)
            return stream.finish()
        except BaseException:
            stream.abort()
            raise

    def store_pack(self, pack: Pack[K], path_of: Callable[[K], str]) -> Sent:
        """Store a pack as one chunk; nothing of it is visible yet.

        path_of  what the file of a key is to become
        """
        files = ((path_of(key), member.offset, member.length) for key, member in pack.members)
        return self.store_bytes(pack.data, pack_hints(files, self.namenodes.new_id()), pack.replication)[0]

    def stream(
        self,
        action: Callable[[list[Extent]], PutFile],
        *,
        replication: int | None = None,
        chunk_size: int | None = None,
        size: int | None = None,
    ) -> "PendingFile":
        """A file to be written piece by piece; `action` says what its extents are committed as.

        size  of the whole stream, if it is known; bytes
        """
        hints = self.hints_for(action([]).path, size=-1 if size is None else size)
        staging = self.staging(replication)
        stream = self._stream_writer(replication, chunk_size, size, hints, staging.add_next)
        return PendingFile(stream, staging, action)

    def stream_writer(self, path: str, replication: int | None, chunk_size: int | None) -> StreamWriter:
        """A stream of chunks that its user publishes. `path`: what they are to become."""
        return self._stream_writer(replication, chunk_size, None, self.hints_for(path))

    def staging(self, replication: int | None, append: AppendFile | None = None) -> Staging:
        """Where the chunks of one file gather. `append`: as Staging has it."""
        return Staging(self.publisher, self.namenodes, replication=self.replication(replication), append=append)

    def _stream_writer(
        self,
        replication: int | None,
        chunk_size: int | None,
        size: int | None,
        hints: FileHints,
        taken: Callable[[Sent], None] | None = None,
    ) -> StreamWriter:
        chunk_size = self.chunk_size(chunk_size)
        longest = chunk_size if size is None else max(1, min(chunk_size, size))
        grants = self.grants(longest, replication)
        line = ChunkLine(
            self.sender,
            self.workers,
            grants,
            parallel=min(self.parallel, stream_parallel(chunk_size)),
            taken=taken,
        )
        return StreamWriter(line, chunk_size, hints)

    # --- append -----------------------------------------------------------------------------------------------

    def append_stream(
        self, path: str, *, create: bool, parents: bool, replication: int | None, inode: int | None = None
    ) -> "PendingAppend":
        """An append to be written piece by piece. `inode`: only to this file, not to another one at its path."""
        hints = self.hints_for(path, start=partial(self._size_now, path))
        action = AppendFile(
            path=path, extents=[], if_inode=inode, create=create, parents=parents, replication=replication
        )
        staging = self.staging(replication, action)
        stream = self._stream_writer(replication, None, None, hints, staging.add_next)
        return PendingAppend(self, stream, staging, action)

    def _size_now(self, path: str) -> int:
        """Where an append that begins now will probably lie: another one may still come before it."""
        try:
            return self.namenodes.call(STAT, Stat(path=path)).size
        except RequestError:
            return 0  # nothing there; whether that is an error is for the commit to say

    def append_small(
        self, path: str, data: bytes, *, create: bool, parents: bool, replication: int | None, inode: int | None = None
    ) -> Outcome:
        """Append what fits into one chunk. A short last extent is rewritten together with the new bytes."""
        plain: dict[str, Any] = {
            "path": path, "if_inode": inode, "create": create, "parents": parents, "replication": replication
        }  # fmt: skip
        end = _End()
        for attempt in range(1, APPEND_TRIES_MAX + 1):
            if data and attempt < APPEND_TRIES_MAX:
                end = self._end_of(path, self.chunk_size() - len(data), create=create)
            extent = end.tail
            if extent is None or attempt == APPEND_TRIES_MAX:
                hints = self._append_hints(path, end.size, len(data))
                sent = self.store_bytes(data, hints, replication)
                return self._commit_append(AppendFile(extents=whole_chunks(sent), **plain), sent)
            buffer = bytearray(extent.length + len(data))
            self._fetcher.read(extent, 0, extent.length, memoryview(buffer)[: extent.length])
            buffer[extent.length :] = data
            hints = self._append_hints(path, extent.position, len(buffer))
            sent = self.store_bytes(buffer, hints, replication or end.replication)
            action = AppendFile(extents=whole_chunks(sent), drop_tail=True, if_version=end.version, **plain)
            try:
                return self._commit_append(action, sent)
            except PreconditionFailed:
                # Somebody else appended or replaced the file meanwhile: look at its new end.
                self.sender.pause(backoff_s(attempt, self.sender.uniform))
        raise AssertionError("the last attempt adds an extent")

    def _commit_append(self, action: AppendFile, sent: list[Sent]) -> Outcome:
        return self.publisher.publish(Batch([action], sent))[0]

    def _append_hints(self, path: str, position: int, length: int) -> bytes:
        """What to enclose in the only chunk of an append."""
        return self.hints_for(path, start=lambda: position).of_chunk(0, length, is_last=True)

    def _end_of(self, path: str, room: int, *, create: bool) -> _End:
        """The end of the file as it is now. Its last extent is told if it has at most `room` bytes."""
        try:
            opened = self.namenodes.call(OPEN, Open(path=path, offset=0, length=1))
        except FileNotFound:
            if create:
                return _End()
            raise
        layout = opened.layout
        if layout.size == 0:
            return _End()
        if not layout.extents or layout.extents[-1].position + layout.extents[-1].length < layout.size:
            layout = self.namenodes.call(LOCATE, Locate(content=layout.content, offset=layout.size - 1, length=1))
        last = list(place(layout.content, layout.extents, layout.chunks, layout.grants))[-1]
        if last.end != layout.size or last.length > min(TAIL_MAX, room):
            return _End(layout.size)
        return _End(layout.size, last, opened.entry.version, opened.entry.replication)


class PendingFile:
    """A stream on its way to become a file. Not for several threads."""

    def __init__(self, stream: StreamWriter, staging: Staging, action: Callable[[list[Extent]], PutFile]) -> None:
        self._stream = stream
        self._staging = staging
        self._action = action

    def write(self, data: Buffer) -> int:
        count = self._stream.write(data)
        self._staging.tick()
        return count

    @property
    def length(self) -> int:
        """Bytes written so far."""
        return self._stream.length

    def commit(self) -> Outcome:
        self._stream.finish()
        return self._staging.publish(self._action([]))

    def abort(self) -> None:
        self._stream.abort()
        self._staging.abort()


class PendingAppend:
    """A stream on its way behind the end of a file. Not for several threads."""

    def __init__(self, storing: Storing, stream: StreamWriter, staging: Staging, action: AppendFile) -> None:
        self._storing = storing
        self._stream = stream
        self._staging = staging
        self._action = action

    def write(self, data: Buffer) -> int:
        count = self._stream.write(data)
        self._staging.tick()
        return count

    @property
    def length(self) -> int:
        """Bytes written so far."""
        return self._stream.length

    def commit(self) -> Outcome:
        small = self._stream.unsent()
        if small is not None:
            return self._storing.append_small(
                self._action.path,
                small,
                create=self._action.create,
                parents=self._action.parents,
                replication=self._action.replication,
                inode=self._action.if_inode,
            )
        self._stream.finish()
        return self._staging.publish(self._action)

    def abort(self) -> None:
        self._stream.abort()
        self._staging.abort()


def put_action(
    path: str,
    *,
    overwrite: bool = True,
    parents: bool = False,
    if_version: int | None = None,
    replication: int | None = None,
    mode: int | None = None,
    mtime_ns: int | None = None,
    attributes: dict[str, str] | None = None,
) -> Callable[[list[Extent]], PutFile]:
    """What makes extents the file `path`, as `write_bytes`, `put` and `open` describe it."""

    def make(extents: list[Extent]) -> PutFile:
        return PutFile(
            path=path,
            extents=extents,
            when="version" if if_version is not None else "any" if overwrite else "absent",
            if_version=if_version or 0,
            parents=parents,
            replication=replication,
            mode=mode,
            mtime_ns=mtime_ns,
            attributes=attributes,
        )

    return make


def kept_attributes(disk_path: str | int) -> dict[str, int]:
    """Mode and modification time of a local file, as `put_action` takes them."""
    found = os.stat(disk_path)
    return {"mode": found.st_mode & 0o7777, "mtime_ns": time_kept(found)}


def time_kept(found: os.stat_result) -> int:
    """The modification time of a local file; the nearest that can be kept, where a disk has one from 2200, say."""
    return max(-TIME_NS_MAX, min(found.st_mtime_ns, TIME_NS_MAX))
