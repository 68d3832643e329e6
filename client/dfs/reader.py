"""A content that was opened, read: any range, the whole of it into memory, or into a local file.

Separate from `fetcher` (one extent) and `file` (a position, a buffer, read-ahead): here a range of a file becomes
parts of extents, and the parts are read in parallel.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from dfs.fetcher import Fetcher
from dfs.layout import Content, PlacedExtent
from dfs.protocol.digests import Buffer
from dfs.protocol.errors import NoSpace
from dfs.workers import Workers

PART_SIZE = 4 << 20
"""Bytes of one request of a big read; a multiple of the block size. `parallel` times this is a download's memory."""
STREAM_AHEAD = 2
"""Parts that are fetched ahead of a stream in order: one travels while the other is checked."""
RESERVE_MIN = 64 << 20
"""A local file of this size gets its place on the disk before its first byte."""


@dataclass(frozen=True)
class Part:
    """A stretch of one extent; `start` and `end` count from the extent's first byte."""

    extent: PlacedExtent
    start: int
    end: int

    @property
    def position(self) -> int:
        """Offset in the file, bytes."""
        return self.extent.position + self.start

    @property
    def length(self) -> int:
        return self.end - self.start


def parts(content: Content, start: int, end: int, part_size: int = PART_SIZE) -> Iterator[Part]:
    """Cut the bytes [start, end) of a file into parts that are read one by one.

    An extent that can only be read whole is not cut. Cuts lie between blocks, so that no block is fetched twice.
    """
    for extent in content.extents(start, end):
        here = max(start - extent.position, 0)
        stop = min(end - extent.position, extent.length)
        while here < stop:
            until = min(stop, (here // part_size + 1) * part_size) if extent.by_blocks else stop
            yield Part(extent, here, until)
            here = until


class Reader:
    """Reads one content. Usable from several threads.

    parallel  parts that are read at once
    """

    def __init__(self, content: Content, fetcher: Fetcher, workers: Workers, *, parallel: int) -> None:
        self.content = content
        self.workers = workers
        self._fetcher = fetcher
        self._parallel = parallel

    @property
    def size(self) -> int:
        return self.content.size

    def read_part(self, part: Part, into: memoryview) -> None:
        """Fill `into` with one part."""
        self._fetcher.read(part.extent, part.start, part.end, into)

    def read_into(self, start: int, into: memoryview) -> None:
        """Fill `into` with the file's bytes from `start` on; all of them exist."""

        def work(part: Part) -> None:
            self.read_part(part, into[part.position - start : part.position - start + part.length])

        todo = parts(self.content, start, start + len(into))
        if len(into) <= PART_SIZE:
            for part in todo:
                work(part)
            return
        for _ in self.workers.map(work, todo, ahead=self._parallel):
            pass

    def read(self, start: int, end: int) -> bytes:
        """The bytes [start, end) of the file, as far as they exist."""
        end = min(end, self.size)
        if start >= end:
            return b""
        buffer = bytearray(end - start)
        self.read_into(start, memoryview(buffer))
        return bytes(buffer)

    def copy_to(self, write: Callable[[memoryview], object], start: int = 0) -> None:
        """Give the file's bytes from `start` on to `write`, in order; it must not keep what it gets.

        Parts are fetched ahead, into memory that was used before, and nothing is copied on its way.
        """
        buffers: list[bytearray] = []

        def fetch(part: Part) -> tuple[bytearray, int]:
            buffer = _a_buffer(buffers, part.length)
            self.read_part(part, memoryview(buffer)[: part.length])
            return buffer, part.length

        with closing(
            self.workers.map(fetch, parts(self.content, start, self.size), ahead=min(self._parallel, STREAM_AHEAD))
        ) as fetched:
            for buffer, length in fetched:
                write(memoryview(buffer)[:length])
                buffers.append(buffer)

    def download(
        self, descriptor: int, name: str, added: Callable[[int], None] | None = None, *, keep: bool = False
    ) -> None:
        """Write the whole content to an open local file, called `name` in errors, which becomes exactly as long.

        keep    what is in the file already is read, and left where it has the digests that it must have
        Raises  NoSpace: the local disk is full
        """
        if keep:
            os.ftruncate(descriptor, min(os.fstat(descriptor).st_size, self.size))
        elif self.size >= RESERVE_MIN:
            reserve(descriptor, self.size, name)
        buffers: list[bytearray] = []

        def copy(part: Part) -> None:
            buffer = _a_buffer(buffers, part.length)
            with memoryview(buffer) as view, view[: part.length] as filled:
                if not (keep and self._has(descriptor, part, filled)):
                    self.read_part(part, filled)
                    pwrite_all(descriptor, filled, part.position, name)
            buffers.append(buffer)
            if added is not None:
                added(part.length)

        todo = parts(self.content, 0, self.size)
        if self.size <= PART_SIZE:
            for part in todo:
                copy(part)
        else:
            for _ in self.workers.map(copy, todo, ahead=self._parallel):
                pass

    def _has(self, descriptor: int, part: Part, into: memoryview) -> bool:
        """Whether an open local file has this part right; reads it into `into`."""
        # Short where the file ends, and then it is not right.
        if os.preadv(descriptor, [into], part.position) < part.length:
            return False
        return self._fetcher.matches(part.extent, part.start, part.end, into)


def _a_buffer(buffers: list[bytearray], size: int) -> bytearray:
    """One that was used before if there is one, of at least `size` bytes. Several threads may take one each."""
    try:
        # Not looked for first: another thread could be quicker.
        buffer = buffers.pop()
    except IndexError:
        buffer = bytearray(PART_SIZE)
    return buffer if len(buffer) >= size else bytearray(size)


def reserve(descriptor: int, size: int, name: str) -> None:
    """Give an empty local file its size, and its place on the disk where the file system can do that.

    Several threads then write into a file whose size stays the same, and a disk that is too small shows at once.
    posix_fallocate would write to each block where the file system can't; this leaves it at the size then.

    Raises  NoSpace: there is no room for it; nothing is taken then
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    allocate = getattr(libc, "fallocate", None)
    try:
        room = os.fstatvfs(descriptor)
        if room.f_bavail * room.f_frsize < size:
            # Not tried: the attempt would take all that is left from everybody else before it fails.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if allocate is not None:
            if allocate(descriptor, 0, ctypes.c_int64(0), ctypes.c_int64(size)) == 0:
                return
            number = ctypes.get_errno()
            if number in (errno.ENOSPC, errno.EDQUOT):
                os.ftruncate(descriptor, 0)
                raise OSError(number, os.strerror(number))
        os.ftruncate(descriptor, size)
    except OSError as error:
        raise local_error(error, name) from None


def pwrite_all(descriptor: int, data: Buffer, offset: int, name: str) -> None:
    """Write all of `data` to a local file. Raises NoSpace, with a sentence that names the file."""
    view = memoryview(data)
    while view:
        try:
            count = os.pwrite(descriptor, view, offset)
        except OSError as error:
            raise local_error(error, name) from None
        view, offset = view[count:], offset + count


def local_error(error: OSError, name: str) -> OSError:
    """An error of a local disk, as the caller should see it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"{name}: the local disk is full; make room and get it again")
    return OSError(error.errno, error.strerror, name)
