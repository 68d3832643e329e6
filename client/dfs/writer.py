"""The chunks of one file, sent in parallel, in order in the end: from a local file or from a stream.

Separate from `sender` (one chunk) and `publisher` (what becomes visible): here it is decided how a file is cut, how
many chunks are under way at once, and how much memory that takes. Nothing is visible until the caller commits the
extents; a writer that is dropped leaves chunks behind that the cluster collects.
"""

import os
from collections import deque
from collections.abc import Callable, Container
from typing import TYPE_CHECKING

from dfs.hinting import FileHints
from dfs.protocol.digests import Buffer
from dfs.protocol.messages import Extent, NewChunk
from dfs.publisher import Sent
from dfs.sender import Grants, Sender
from dfs.sources import FileSource, MemorySource, Source
from dfs.workers import Workers, settle

if TYPE_CHECKING:
    from concurrent.futures import Future

STREAM_CHUNKS_MAX = 2
STREAM_BYTES_MAX = 128 << 20
"""Chunks of a stream under way, and their bytes: each is held in memory until it is stored, and one more is filled."""


def stream_parallel(chunk_size: int) -> int:
    """How many chunks of a stream may be under way: at least one."""
    return max(1, min(STREAM_CHUNKS_MAX, STREAM_BYTES_MAX // chunk_size))


class ChunkLine:
    """Chunks that are being sent, in the order of the file.

    parallel  chunks under way at once
    added     called from the thread that stores it, mostly one of the pool, with the bytes of each chunk
    stored    likewise, with the chunk and where its bytes come from
    taken     called from the thread that sends, with each chunk, in order
    """

    def __init__(
        self,
        sender: Sender,
        workers: Workers,
        grants: Grants,
        *,
        parallel: int,
        added: Callable[[int], None] | None = None,
        stored: Callable[[Source, NewChunk], None] | None = None,
        taken: Callable[[Sent], None] | None = None,
    ) -> None:
        self._sender = sender
        self._workers = workers
        self._grants = grants
        self._parallel = parallel
        self._added = added
        self._stored = stored
        self._taken = taken
        self._running: deque[tuple[Future[NewChunk], Source | None]] = deque()
        self._sent: list[Sent] = []

    def send(self, source: Source, *, keep: bool, alone: bool = False) -> None:
        """Send one more chunk; waits while `parallel` of them are under way. Raises what a chunk before it met.

        alone whether it is the only one: then this thread sends it, and no other is woken
        keep  whether the source may be read again later, for a commit that refuses the chunk; a source in memory
              would otherwise stay there
        """
        if alone:
            self._note(Sent(self._send(source), source if keep else None, self._grants))
            return
        while len(self._running) >= self._parallel:
            self._take()
        self._running.append((self._workers.submit(self._send, source), source if keep else None))

    def _send(self, source: Source) -> NewChunk:
        chunk = self._sender.send(source, self._grants)
        if self._stored is not None:
            self._stored(source, chunk)
        if self._added is not None:
            self._added(chunk.length)
        return chunk

    def _take(self) -> None:
        future, source = self._running.popleft()
        self._note(Sent(future.result(), source, self._grants))

    def _note(self, sent: Sent) -> None:
        self._sent.append(sent)
        if self._taken is not None:
            self._taken(sent)

    def collect(self) -> None:
        """Take what has been stored by now, without waiting."""
        while self._running and self._running[0][0].done():
            self._take()

    def finish(self) -> list[Sent]:
        """All chunks, stored, in order."""
        while self._running:
            self._take()
        return self._sent

    def abort(self) -> None:
        """Wait until nothing is under way. What was stored is left to the cluster's garbage collection."""
        settle(future for future, _ in self._running)
        self._running.clear()


def whole_chunks(sent: list[Sent]) -> list[Extent]:
    """A file that consists of exactly these chunks: each chunk's digest is the extent's."""
    return [Extent(one.chunk.id, 0, one.chunk.length, one.chunk.digest) for one in sent]


def send_file(
    descriptor: int,
    size: int,
    name: str,
    line: ChunkLine,
    *,
    chunk_size: int,
    hints: FileHints,
    skip: Container[int] = (),
) -> list[Sent]:
    """Send the first `size` bytes of an open local file through `line`, but for the chunks with the numbers in `skip`.

    A file that grows meanwhile is stored as long as it was; one that shrinks is a Conflict.
    """
    try:
        for offset in range(0, size, chunk_size):
            if offset // chunk_size in skip:
                continue
            length = min(chunk_size, size - offset)
            source = FileSource(descriptor, offset, length, name, hints.of_chunk(offset, length))
            line.send(source, keep=True, alone=size <= chunk_size)
        return line.finish()
    except BaseException:
        line.abort()
        raise


def read_small(descriptor: int, size: int, name: str) -> bytes:
    """The first `size` bytes of an open local file. Raises Conflict if it is shorter by now."""
    return b"".join(bytes(piece) for piece in FileSource(descriptor, 0, size, name).pieces())


def regular_size(descriptor: int) -> int:
    """The size of an open file, bytes."""
    return os.fstat(descriptor).st_size


class StreamWriter:
    """Cuts a stream into chunks: fills one while those before it are sent.

    The bytes of the first chunk stay here until `finish` if it is the only one, so that the caller can still decide
    what to do with a small file. Not for several threads.
    """

    def __init__(self, line: ChunkLine, chunk_size: int, hints: FileHints) -> None:
        self._line = line
        self._chunk_size = chunk_size
        self._hints = hints
        self._buffer = bytearray()
        self._sent_bytes = 0
        self.length = 0

    def write(self, data: Buffer) -> int:
        """Take all of `data`; it may be overwritten afterwards."""
        self._line.collect()
        view = memoryview(data).cast("B")
        total = len(view)
        while view:
            if len(self._buffer) == self._chunk_size:
                self._flush_chunk(is_last=False)
            room = self._chunk_size - len(self._buffer)
            self._buffer += view[:room]
            view = view[room:]
        self.length += total
        return total

    def _flush_chunk(self, *, is_last: bool) -> None:
        """Send what is in the buffer. The last chunk stays in memory, in case that its commit refuses it."""
        hints = self._hints.of_chunk(self._sent_bytes, len(self._buffer), is_last=is_last)
        data, self._buffer = self._buffer, bytearray()
        alone = is_last and self._sent_bytes == 0
        self._sent_bytes += len(data)
        self._line.send(MemorySource(data, hints), keep=is_last, alone=alone)

    def unsent(self) -> bytes | None:
        """All bytes of the stream, if nothing of it was sent yet."""
        return None if self._sent_bytes else bytes(self._buffer)

    def finish(self) -> list[Sent]:
        """Send what is left; all chunks of the stream, in order."""
        if self._buffer:
            self._flush_chunk(is_last=True)
        return self._line.finish()

    def abort(self) -> None:
        self._buffer = bytearray()
        self._line.abort()
