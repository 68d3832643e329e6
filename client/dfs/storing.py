"""How files get in: from a local file, from a stream, as an append. Joins grants, chunks and commits.

Separate from the client so that the transaction, the trees and the plain methods store in the same way, with the same
defaults of the cluster.
"""

import os
from collections.abc import Callable
from typing import Any

from dfs.fetcher import Fetcher
from dfs.layout import PlacedExtent, place
from dfs.namenodes import Namenodes
from dfs.protocol.clock import Clock
from dfs.protocol.digests import Buffer
from dfs.protocol.errors import FileNotFound, InvalidRequest, PreconditionFailed
from dfs.protocol.messages import (
    CHUNK_SIZE_MAX,
    CHUNK_SIZE_MIN,
    REPLICATION_MAX,
    Action,
    AppendFile,
    Extent,
    Locate,
    Open,
    Outcome,
    PutFile,
)
from dfs.protocol.operations import LOCATE, OPEN
from dfs.publisher import Batch, Publisher, Sent
from dfs.recovery import backoff_s
from dfs.sender import Grants, Sender
from dfs.sources import MemorySource
from dfs.suspects import Suspects
from dfs.workers import Workers
from dfs.writer import ChunkLine, StreamWriter, regular_size, send_file, stream_parallel, whole_chunks

TAIL_MAX = 1 << 20
"""A last extent up to this size is rewritten by an append, so that many small appends don't make endless extents."""
APPEND_TRIES_MAX = 5
"""Attempts to rewrite the last extent against other writers; after them an append adds an extent, which never fails."""

Added = Callable[[int], None]


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
        """Grants for chunks of at most `length` bytes."""
        return Grants(
            self.namenodes,
            self._suspects,
            self._clock,
            length=length,
            replication=self.replication(replication),
            expected=expected,
        )

    def send_local(
        self,
        descriptor: int,
        name: str,
        *,
        replication: int | None = None,
        chunk_size: int | None = None,
        parallel: int | None = None,
        added: Added | None = None,
    ) -> list[Sent]:
        """Store the bytes of an open local file as chunks, in order; nothing is visible yet."""
        size = regular_size(descriptor)
        chunk_size = self.chunk_size(chunk_size)
        if size == 0:
            return []
        grants = self.grants(min(chunk_size, size), replication, -(-size // chunk_size))
        line = ChunkLine(self.sender, self.workers, grants, parallel=parallel or self.parallel, added=added)
        return send_file(descriptor, size, name, line, chunk_size=chunk_size)

    def store_bytes(self, data: Buffer, replication: int | None = None) -> list[Sent]:
        """Store bytes that fit into one chunk; none for no bytes."""
        if len(data) == 0:
            return []
        source = MemorySource(data)
        grants = self.grants(source.length, replication, 1)
        return [Sent(self.sender.send(source, grants), source, grants)]

    def stream(
        self,
        action: Callable[[list[Extent]], Action],
        *,
        replication: int | None = None,
        chunk_size: int | None = None,
        size: int | None = None,
    ) -> "PendingFile":
        """A file to be written piece by piece; `action` says what its extents are committed as.

        size  of the whole stream, if it is known; bytes
        """
        return PendingFile(self._stream_writer(replication, chunk_size, size), self.publisher, action)

    def _stream_writer(self, replication: int | None, chunk_size: int | None, size: int | None) -> StreamWriter:
        chunk_size = self.chunk_size(chunk_size)
        longest = chunk_size if size is None else max(1, min(chunk_size, size))
        grants = self.grants(longest, replication)
        line = ChunkLine(self.sender, self.workers, grants, parallel=min(self.parallel, stream_parallel(chunk_size)))
        return StreamWriter(line, chunk_size)

    # --- append -----------------------------------------------------------------------------------------------

    def append_stream(self, path: str, *, create: bool, parents: bool, replication: int | None) -> "PendingAppend":
        """An append to be written piece by piece."""
        return PendingAppend(self, self._stream_writer(replication, None, None), path, create, parents, replication)

    def append_small(self, path: str, data: bytes, *, create: bool, parents: bool, replication: int | None) -> Outcome:
        """Append what fits into one chunk. A short last extent is rewritten together with the new bytes."""
        plain: dict[str, Any] = {"path": path, "create": create, "parents": parents, "replication": replication}
        for attempt in range(1, APPEND_TRIES_MAX + 1):
            tail = None
            if data and attempt < APPEND_TRIES_MAX:
                tail = self._short_tail(path, self.chunk_size() - len(data), create=create)
            if tail is None:
                sent = self.store_bytes(data, replication)
                return self._commit_append(AppendFile(extents=whole_chunks(sent), **plain), sent)
            version, copies, extent = tail
            buffer = bytearray(extent.length + len(data))
            self._fetcher.read(extent, 0, extent.length, memoryview(buffer)[: extent.length])
            buffer[extent.length :] = data
            sent = self.store_bytes(buffer, replication or copies)
            action = AppendFile(extents=whole_chunks(sent), drop_tail=True, if_version=version, **plain)
            try:
                return self._commit_append(action, sent)
            except PreconditionFailed:
                # Somebody else appended or replaced the file meanwhile: look at its new end.
                self.sender.pause(backoff_s(attempt, self.sender.uniform))
        raise AssertionError("the last attempt adds an extent")

    def _commit_append(self, action: AppendFile, sent: list[Sent]) -> Outcome:
        return self.publisher.publish(Batch([action], sent))[0]

    def _short_tail(self, path: str, room: int, *, create: bool) -> tuple[int, int, PlacedExtent] | None:
        """Version, replication and last extent of the file, if that is short enough to be rewritten."""
        try:
            opened = self.namenodes.call(OPEN, Open(path=path, offset=0, length=1))
        except FileNotFound:
            if create:
                return None
            raise
        layout = opened.layout
        if layout.size == 0:
            return None
        if not layout.extents or layout.extents[-1].position + layout.extents[-1].length < layout.size:
            layout = self.namenodes.call(LOCATE, Locate(content=layout.content, offset=layout.size - 1, length=1))
        last = list(place(layout.content, layout.extents, layout.chunks, layout.grants))[-1]
        if last.end != layout.size or last.length > min(TAIL_MAX, room):
            return None
        return opened.entry.version, opened.entry.replication, last


class PendingFile:
    """A stream on its way to become a file. Not for several threads."""

    def __init__(self, stream: StreamWriter, publisher: Publisher, action: Callable[[list[Extent]], Action]) -> None:
        self._stream = stream
        self._publisher = publisher
        self._action = action

    def write(self, data: Buffer) -> int:
        return self._stream.write(data)

    @property
    def length(self) -> int:
        """Bytes written so far."""
        return self._stream.length

    def store(self) -> tuple[Action, list[Sent]]:
        """All bytes, stored but not visible, and the action that makes them a file."""
        sent = self._stream.finish()
        return self._action(whole_chunks(sent)), sent

    def commit(self) -> Outcome:
        action, sent = self.store()
        return self._publisher.publish(Batch([action], sent))[0]

    def abort(self) -> None:
        self._stream.abort()


class PendingAppend:
    """A stream on its way behind the end of a file. Not for several threads."""

    def __init__(
        self,
        storing: Storing,
        stream: StreamWriter,
        path: str,
        create: bool,
        parents: bool,
        replication: int | None,
    ) -> None:
        self._storing = storing
        self._stream = stream
        self._path = path
        self._create = create
        self._parents = parents
        self._replication = replication

    def write(self, data: Buffer) -> int:
        return self._stream.write(data)

    def commit(self) -> Outcome:
        small = self._stream.unsent()
        if small is not None:
            return self._storing.append_small(
                self._path, small, create=self._create, parents=self._parents, replication=self._replication
            )
        sent = self._stream.finish()
        action = AppendFile(
            path=self._path,
            extents=whole_chunks(sent),
            create=self._create,
            parents=self._parents,
            replication=self._replication,
        )
        return self._storing.publisher.publish(Batch([action], sent))[0]

    def abort(self) -> None:
        self._stream.abort()


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
    return {"mode": found.st_mode & 0o7777, "mtime_ns": found.st_mtime_ns}
