"""One chunk's file: written once, published whole, read with every block checked.

The writer is a plain object that is fed with buffers. Who feeds it is another matter: a thread that took the socket
over, the pieces of an ASGI body, or a repair. Bytes that are received straight into `room()` are never copied again
before they reach the disk.

A replica exists from its fsync on (`durability` says when that is). Its two names tell how far it came: the name in
`tmp/` is taken away only after the fsync, so a file in `chunks/` without a twin in `tmp/` is durable. No clock and no
log is needed to know it.
"""

import errno
import logging
import mmap
import os
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from dfs.protocol import chunk_format as fmt
from dfs.protocol.digests import BLOCK_SIZE, Buffer, TreeHasher, first_bad_block
from dfs.protocol.errors import ChunkExists, CorruptReplica, DfsError, InvalidRequest, ReplicaNotFound
from dfs_datanode.buffers import BUFFER_SIZE, BufferPool
from dfs_datanode.disk import Disk
from dfs_datanode.durability import Published, Syncing

logger = logging.getLogger("dfs.datanode.chunks")

DIRECT_MIN_BYTES = 1 << 20
"""Shorter chunks go through the page cache: they are likely to be read soon, and O_DIRECT wins nothing on them."""
CACHED_FOOTER_MAX = 128 * 1024
"""Larger footers are read by those who may wait: they are those of chunks of 256 MiB and more."""
ROOM_MAX = 1 << 20
"""The most that `room()` offers at once, so that bytes travel on to the next datanode before the buffer is full."""


@dataclass(frozen=True)
class Place:
    """Where a chunk's file is made and published."""

    tmp_path: str
    final_path: str
    sync_directory: bool
    """Whether the names need an fsync of their directory: not on ext4 and XFS, whose journal has both in order."""
    direct: bool
    """Whether the file system takes O_DIRECT."""
    syncing: Syncing


class Judge(Protocol):
    """What a volume makes of a disk error: it changes its state, and returns the error to raise."""

    def __call__(self, error: OSError, *, syncing: bool = False) -> DfsError: ...


class ChunkWriter:
    """Makes the file of one chunk. Not thread-safe; used by one stream, and ended by `finish` or `abort`.

    hints   bytes of the hints that the sender's footer will have
    Raises  ChunkExists: the id is claimed or used already
    """

    def __init__(
        self, disk: Disk, place: Place, pool: BufferPool, header: fmt.Header, judge: Judge, hints: int = 0
    ) -> None:
        self._disk = disk
        self._place = place
        self._pool = pool
        self._header = header
        self._judge = judge
        self._hints = hints
        self._hasher = TreeHasher()
        self._written = 0
        self._ended = False
        self.published = False
        """Whether the chunk is under its name, and as durable as it must be to be acknowledged."""
        self._fd = self._claim()
        self._buffer: mmap.mmap = pool.take()
        self._view = memoryview(self._buffer)
        self._view[: fmt.HEADER_SIZE] = fmt.encode_header(header)
        self._filled = fmt.HEADER_SIZE

    def _claim(self) -> int:
        """The descriptor of the new temporary file, with its space taken."""
        length = self._header.length
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        if self._place.direct and (length is None or length >= DIRECT_MIN_BYTES):
            flags |= os.O_DIRECT
        try:
            fd = self._disk.open(self._place.tmp_path, flags)
        except FileExistsError:
            raise ChunkExists("this chunk is being written already; ask for a new grant") from None
        except OSError as error:
            raise self._judge(error) from error
        if length is not None:
            try:
                self._disk.reserve(fd, fmt.file_size(length, self._hints))
            except OSError as error:
                self._disk.close(fd)
                self._drop_temporary_name()
                raise self._judge(error) from error
        return fd

    @property
    def length(self) -> int:
        """Bytes of data that came so far."""
        return self._hasher.length

    def room(self) -> memoryview:
        """Where the next bytes of data may be put; then say how many with `advance`. Never empty."""
        end = min(self._filled + ROOM_MAX, BUFFER_SIZE)
        return self._view[self._filled : end]

    def advance(self, count: int) -> None:
        """Take the first `count` bytes of the last `room()` as data. The room's bytes stay valid until `room()`."""
        announced = self._header.length
        if announced is not None and self._hasher.length + count > announced:
            self.abort()
            raise InvalidRequest(f"more than the {announced} bytes that were announced for the chunk")
        self._hasher.update(self._view[self._filled : self._filled + count])
        self._filled += count
        if self._filled == BUFFER_SIZE:
            self._flush()

    def write(self, piece: Buffer) -> None:
        """Take the next bytes of data from anywhere, at the price of a copy."""
        view = memoryview(piece)
        while view:
            room = self.room()
            count = min(len(room), len(view))
            room[:count] = view[:count]
            self.advance(count)
            view = view[count:]

    def _flush(self) -> None:
        """Write the buffer out. Its filled part is a multiple of the alignment, wherever it stands in the file."""
        try:
            self._disk.write_at(self._fd, self._view[: self._filled], self._written)
        except OSError as error:
            self.abort()
            raise self._judge(error) from error
        self._written += self._filled
        self._filled = 0

    def _append(self, raw: bytes) -> None:
        """Put bytes that are not data behind the data."""
        view = memoryview(raw)
        while view:
            count = min(BUFFER_SIZE - self._filled, len(view))
            self._view[self._filled : self._filled + count] = view[:count]
            self._filled += count
            if self._filled == BUFFER_SIZE:
                self._flush()
            view = view[count:]

    def finish(self, wire_footer: Buffer, make_way: Callable[[], None] | None = None) -> bytes:
        """Verify against the sender's footer, write ours, publish, make durable. The root of the chunk.

        make_way  takes a bad replica of the chunk away; called once its replacement is verified and durable, if not
                  under its name yet. May raise OSError
        Raises  DigestMismatch, InvalidRequest (shorter than announced), ChunkExists, and what `judge` says; in every
                case nothing of the chunk is left.
        """
        length, table, root = self._hasher.length, self._hasher.table(), self._hasher.root()
        try:
            if self._header.length not in (None, length):
                raise InvalidRequest(
                    f"{length} bytes came of the {self._header.length} announced; send the chunk again"
                )
            hints = fmt.check_wire_footer(wire_footer, length, table, root)
            if len(hints) != self._hints:
                raise InvalidRequest(f"{len(hints)} bytes of hints came of the {self._hints} announced")
        except DfsError:
            self.abort()
            raise
        self._append(bytes(fmt.aligned(length) - length))
        self._append(fmt.encode_footer(fmt.Footer(self._header.chunk, length, table, root, hints)))
        if self._filled:
            self._flush()
        if make_way is not None:
            self._replace(make_way)
        self._publish()
        return root

    def _replace(self, make_way: Callable[[], None]) -> None:
        try:
            self._disk.sync(self._fd)
        except OSError as error:
            self.abort()
            raise self._judge(error, syncing=True) from error
        try:
            make_way()
        except OSError as error:
            self.abort()
            raise self._judge(error) from error

    def _publish(self) -> None:
        """Give the file its name, make both durable, and only then take the temporary name away.

        One that is acknowledged before it is durable keeps its temporary name until it is.
        """
        place, disk = self._place, self._disk
        try:
            disk.link(place.tmp_path, place.final_path)
        except FileExistsError:
            self.abort()
            raise ChunkExists("this chunk is stored already; ask for a new grant") from None
        except OSError as error:
            self.abort()
            raise self._judge(error) from error
        directory = os.path.dirname(place.final_path) if place.sync_directory else None
        try:
            durable = place.syncing.settle(Published(self._fd, place.tmp_path, directory))
        except OSError as error:
            self._withdraw()
            raise self._judge(error, syncing=True) from error
        self.published = True
        self._close()
        if durable:
            self._drop_temporary_name()

    def _withdraw(self) -> None:
        """Unpublish a file whose fsync failed: what of it the disk has is unknown, so it must never be served."""
        try:
            self._disk.unlink(self._place.final_path)
        except OSError as error:
            # Its temporary name stays, and with it the next start's duty to verify the file before it counts.
            logger.error("can't unpublish %s after a failed fsync: %s", self._place.final_path, error)
            self._close()
            return
        self.abort()

    def abort(self) -> None:
        """Throw the chunk away; nothing of it is left. May be called at any time, also twice."""
        if self._ended:
            return
        self._close()
        self._drop_temporary_name()

    def _drop_temporary_name(self) -> None:
        try:
            self._disk.unlink(self._place.tmp_path)
        except OSError as error:
            # Only space is lost, and only until the next start, which clears tmp/.
            logger.warning("can't remove %s: %s", self._place.tmp_path, error)

    def _close(self) -> None:
        self._ended = True
        self._view.release()
        self._pool.give(self._buffer)
        self._disk.close(self._fd)


class ChunkReader:
    """An open chunk file whose header and footer were found right. Thread-safe: it keeps no position.

    The descriptor is closed when the last user drops the object, so that one who still reads is never cut off.

    cached  don't wait for the disk
    Raises  ReplicaNotFound, CorruptReplica, OSError; BlockingIOError: memory does not have what it takes
    """

    def __init__(self, disk: Disk, path: str, chunk: str, *, cached: bool = False) -> None:
        self._disk = disk
        read = self._read_cached if cached else disk.read_at
        try:
            self._fd = disk.open_cached(path) if cached else disk.open(path, os.O_RDONLY)
        except FileNotFoundError:
            raise ReplicaNotFound("this datanode has no replica of that chunk") from None
        weakref.finalize(self, disk.close, self._fd)
        header = fmt.decode_header(read(self._fd, fmt.HEADER_SIZE, 0))
        size = disk.stat_open(self._fd).st_size
        # A small chunk's whole footer, and the end of a large one's.
        tail = read(self._fd, fmt.ALIGNMENT, max(0, size - fmt.ALIGNMENT))
        trailer = fmt.decode_trailer(tail[-fmt.TRAILER_SIZE :])
        if size != trailer.footer_offset + trailer.footer_size:
            raise CorruptReplica("the chunk file does not have the size that its trailer says")
        if trailer.footer_size > len(tail):
            tail = read(self._fd, trailer.footer_size, trailer.footer_offset)
        footer = fmt.decode_footer(tail)
        if header.chunk != chunk or footer.chunk != chunk:
            raise CorruptReplica("the file holds another chunk than its name says")
        if header.length not in (None, footer.length):
            raise CorruptReplica("the header and the trailer of the chunk file tell different lengths")
        self.chunk = chunk
        self.length = footer.length
        self.table = footer.table
        self.root = footer.root
        self._footer = (trailer.footer_offset, trailer.footer_size)

    def _read_cached(self, fd: int, size: int, offset: int) -> Buffer:
        data = bytearray(size)
        if size > CACHED_FOOTER_MAX or self._disk.read_cached(fd, data, offset) < size:
            raise BlockingIOError(errno.EAGAIN, "memory does not have all of it")
        return data

    def is_named(self) -> bool:
        """Whether the file still has a name on the disk."""
        return self._disk.stat_open(self._fd).st_nlink > 0

    def is_at(self, path: str) -> bool:
        """Whether the file is the one that is at `path` now, and was not replaced by another. Raises OSError."""
        try:
            return self._disk.stat(path).st_ino == self._disk.stat_open(self._fd).st_ino
        except FileNotFoundError:
            return False

    def read_blocks(self, start: int, end: int) -> bytes:
        """Verified bytes of [start, end); start begins a block, end ends one or the chunk. Raises CorruptReplica."""
        assert start % BLOCK_SIZE == 0
        assert end % BLOCK_SIZE == 0 or end == self.length
        data = self._disk.read_at(self._fd, end - start, fmt.HEADER_SIZE + start)
        self._check(data, start, end)
        return data

    def read_blocks_into(self, into: memoryview, start: int) -> None:
        """Fill `into` with verified bytes from `start` on; after an error they mean nothing. As `read_blocks` else."""
        end = start + len(into)
        assert start % BLOCK_SIZE == 0
        assert end % BLOCK_SIZE == 0 or end == self.length
        count = self._disk.read_into(self._fd, into, fmt.HEADER_SIZE + start)
        self._check(into[:count], start, end)

    def will_read(self, start: int, end: int) -> None:
        """Have the disk begin to read these bytes, if it must, while something else is done."""
        self._disk.will_read(self._fd, fmt.HEADER_SIZE + start, end - start)

    def read_blocks_cached(self, start: int, end: int) -> bytearray | None:
        """The same without waiting for the disk: None if not all of it is in memory."""
        data = bytearray(end - start)
        try:
            got = self._disk.read_cached(self._fd, data, fmt.HEADER_SIZE + start)
        except OSError:
            return None  # not in memory, or a file system that can't tell: the waiting way will show real trouble
        if got < len(data):
            return None
        self._check(data, start, end)
        return data

    def read_hints(self) -> bytes:
        """The hints, as their writer encoded them; b"" if there are none. Raises CorruptReplica, OSError.

        Read when they are wanted, which is almost never: open readers need not hold them in memory.
        """
        offset, size = self._footer
        return fmt.decode_footer(self._disk.read_at(self._fd, size, offset)).hints

    def _check(self, data: Buffer, start: int, end: int) -> None:
        if len(data) != end - start:
            raise CorruptReplica("the chunk file is cut off", chunk=self.chunk)
        bad = first_bad_block(data, self.table, start // BLOCK_SIZE)
        if bad is not None:
            raise CorruptReplica(
                f"block {bad} of this replica is damaged; read another one", chunk=self.chunk, block=bad
            )

    def pieces(self, size: int = ROOM_MAX) -> Iterator[bytes]:
        """The whole chunk in verified pieces."""
        for start in range(0, self.length, size):
            yield self.read_blocks(start, min(start + size, self.length))

    def verify(self) -> None:
        """Read and check every block. Raises CorruptReplica or OSError."""
        for _ in self.pieces():
            pass


def read_trailer(disk: Disk, path: str) -> fmt.Trailer:
    """What the file's last bytes say, for reports: cheap, and not checked against the rest of the file.

    Raises  CorruptReplica, OSError
    """
    fd = disk.open(path, os.O_RDONLY)
    try:
        size = disk.stat_open(fd).st_size
        trailer = fmt.decode_trailer(disk.read_at(fd, fmt.TRAILER_SIZE, max(0, size - fmt.TRAILER_SIZE)))
        if size != trailer.footer_offset + trailer.footer_size:
            raise CorruptReplica("the chunk file does not have the size that its trailer says")
        return trailer
    finally:
        disk.close(fd)
