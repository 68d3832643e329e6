"""Files as Python knows them: what `open` returns.

Separate from reading and writing because a position, a buffer and read-ahead belong to one open file and to nobody
else. A file that is written becomes visible when it is closed, whole; a `with` body that raises, or a file that is
dropped without `close`, publishes nothing. That differs from local files on purpose: half a file is worth nothing.
"""

import io
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, BinaryIO, Protocol

from dfs.protocol.digests import BLOCK_SIZE, Buffer
from dfs.protocol.messages import Entry, Outcome
from dfs.reader import PART_SIZE, Part, Reader, parts
from dfs.workers import settle

FIRST_WINDOW = 128 * 1024
"""Bytes fetched at the start of a sequential read; doubles up to PART_SIZE."""
DIRECT_MIN = 2 * PART_SIZE
"""A read of so many bytes goes straight into the reader's memory, in several parts at once."""
BUFFER_SIZE = 64 * 1024
"""Of the BufferedReader on top."""


class RawReader(io.RawIOBase):
    """A content, with a position. Sequential readers get growing windows and the next one ahead of time."""

    def __init__(self, entry: Entry, reader: Reader) -> None:
        super().__init__()
        self.entry = entry
        self.name = entry.path
        self._reader = reader
        self._position = 0
        self._window_start = 0
        self._window = memoryview(b"")
        self._window_size = FIRST_WINDOW
        self._ahead: tuple[Part, bytearray, Future[None]] | None = None
        self._window_buffer = bytearray()
        self._spare = bytearray()
        """The window before the last: the next one is read into it. Fresh memory would cost more than the copy."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._check_open()
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._reader.size}[whence]
        if base + offset < 0:
            raise ValueError(f"a position before the start: {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        self._check_open()
        view = memoryview(buffer).cast("B")
        if self._position >= self._reader.size or not view:
            return 0
        inside = self._position - self._window_start
        if not 0 <= inside < len(self._window):
            if len(view) >= DIRECT_MIN:
                return self._read_directly(view)
            self._load(len(view))
            inside = self._position - self._window_start
        count = min(len(view), len(self._window) - inside)
        view[:count] = self._window[inside : inside + count]
        self._position += count
        return count

    def _read_directly(self, view: memoryview) -> int:
        """Fill `view` from the position on, as far as the file goes, past the window."""
        if self._ahead is not None:
            settle([self._ahead[2]])
            self._ahead = None
        count = min(len(view), self._reader.size - self._position)
        self._reader.read_into(self._position, view[:count])
        self._position += count
        return count

    def copy_to(self, write: Callable[[memoryview], object]) -> None:
        """Give all bytes from the position on to `write`, in order, without a copy; it must not keep what it gets."""
        self._check_open()
        self._reader.copy_to(write, min(self._position, self._reader.size))
        self._position = max(self._position, self._reader.size)

    def readall(self) -> bytes:
        self._check_open()
        data = self._reader.read(self._position, self._reader.size)
        self._position += len(data)
        return data

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def _load(self, wanted: int) -> None:
        """Make the window hold the position."""
        sequential = self._position == self._window_start + len(self._window)
        if self._ahead is not None:
            part, buffer, future = self._ahead
            self._ahead = None
            if part.position <= self._position < part.position + part.length:
                future.result()
                self._take_window(part, buffer)
                self._read_ahead()
                return
            settle([future])
        self._window_size = min(self._window_size * 2, PART_SIZE) if sequential else BLOCK_SIZE
        part = self._part_at(self._position, max(wanted, self._window_size))
        buffer = self._buffer_for(part)
        self._reader.read_part(part, memoryview(buffer)[: part.length])
        self._take_window(part, buffer)
        if sequential:
            self._read_ahead()

    def _take_window(self, part: Part, buffer: bytearray) -> None:
        self._window_start = part.position
        self._window = memoryview(buffer)[: part.length]
        self._spare, self._window_buffer = self._window_buffer, buffer

    def _buffer_for(self, part: Part) -> bytearray:
        """Memory for the next window; nothing else uses it."""
        spare, self._spare = self._spare, bytearray()
        return spare if len(spare) >= part.length else bytearray(part.length)

    def _part_at(self, position: int, size: int) -> Part:
        """The part of one extent that holds `position` and about `size` bytes from there: whole blocks."""
        first = next(parts(self._reader.content, position, position + 1))
        extent = first.extent
        if not extent.by_blocks:
            return Part(extent, 0, extent.length)
        start = first.start // BLOCK_SIZE * BLOCK_SIZE
        end = -(-(first.start + min(size, PART_SIZE)) // BLOCK_SIZE) * BLOCK_SIZE
        return Part(extent, start, min(end, extent.length))

    def _read_ahead(self) -> None:
        following = self._window_start + len(self._window)
        if following >= self._reader.size:
            return
        self._window_size = min(self._window_size * 2, PART_SIZE)
        part = self._part_at(following, self._window_size)
        buffer = self._buffer_for(part)
        future = self._reader.workers.submit(self._reader.read_part, part, memoryview(buffer)[: part.length])
        self._ahead = (part, buffer, future)

    def close(self) -> None:
        if not self.closed and self._ahead is not None:
            self._ahead[2].cancel()
            self._ahead = None
        self._window = memoryview(b"")
        super().close()


class Pending(Protocol):
    """A file that is being written: `write` as often as needed, then either `commit` or `abort`."""

    def write(self, data: Buffer) -> int: ...
    def commit(self) -> Outcome: ...
    def abort(self) -> None: ...


class BinaryWriter(io.BufferedIOBase):
    """A file that is written, and becomes visible at `close`."""

    def __init__(self, path: str, pending: Pending) -> None:
        super().__init__()
        self.name = path
        self.outcome: Outcome | None = None
        """What the commit did, once the file is closed."""
        self._pending = pending
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        self._check_open()
        return self._position

    def write(self, data: Any) -> int:
        """Take all of `data`. Raises what sending an earlier chunk met; then the file can only be dropped."""
        self._check_open()
        try:
            count = self._pending.write(data)
        except BaseException:
            self.abort()
            raise
        self._position += count
        return count

    def flush(self) -> None:
        """Nothing: what is written becomes visible, and durable, at `close`."""
        self._check_open()

    def close(self) -> None:
        """Publish the file. Raises what prevents that; then nothing of it is visible."""
        if self.closed:
            return
        try:
            self.outcome = self._pending.commit()
        except BaseException:
            self._pending.abort()
            raise
        finally:
            super().close()

    def abort(self) -> None:
        """Close without publishing anything."""
        if not self.closed:
            self._pending.abort()
            super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        # Without this, IOBase would close, and so publish, a file whose writer was interrupted.
        if getattr(self, "_pending", None) is not None and not self.closed:
            warnings.warn(f"{self.name} was never closed: nothing of it is stored", ResourceWarning, stacklevel=2)
            self.abort()


class TextWriter(io.TextIOWrapper):
    """Text on top of a BinaryWriter, with the same rule: what is not closed regularly is not published."""

    def __init__(self, binary: BinaryWriter, **options: Any) -> None:
        super().__init__(binary, **options)
        self._binary = binary

    def abort(self) -> None:
        """Close without publishing anything."""
        self._binary.abort()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()
        else:
            self.close()

    def __del__(self) -> None:
        binary = getattr(self, "_binary", None)
        if binary is not None:
            binary.__del__()


Opened = io.BufferedReader | io.TextIOWrapper | BinaryWriter | TextWriter

MODES = {"r": "r", "w": "w", "x": "x", "a": "a"}


def parse_mode(mode: str) -> tuple[str, bool]:
    """What `mode` asks for: one of "r", "w", "x", "a", and whether it is binary. Raises ValueError."""
    letters = mode.replace("b", "", 1).replace("t", "", 1)
    if letters not in MODES or ("b" in mode and "t" in mode):
        raise ValueError(f"{mode!r} is not a mode of dfs files; there are r, w, x and a, with b for bytes")
    return letters, "b" in mode


def wrap_reader(raw: io.RawIOBase, *, binary: bool, **text: Any) -> io.BufferedReader | io.TextIOWrapper:
    """The file object for reading."""
    buffered: io.BufferedReader = io.BufferedReader(raw, BUFFER_SIZE)
    return buffered if binary else io.TextIOWrapper(buffered, **text)


def wrap_writer(writer: BinaryWriter, *, binary: bool, **text: Any) -> BinaryWriter | TextWriter:
    """The file object for writing."""
    return writer if binary else TextWriter(writer, **text)


def write_all(pending: Pending, pieces: Iterable[Buffer], added: Callable[[int], None] | None = None) -> Outcome:
    """Write a stream of pieces and publish it; if the stream fails, nothing is."""
    try:
        for piece in pieces:
            count = pending.write(piece)
            if added is not None:
                added(count)
        return pending.commit()
    except BaseException:
        pending.abort()
        raise


def pieces_of(data: "Buffer | BinaryIO | io.FileIO") -> Iterator[Buffer]:
    """Bytes as one piece, a file object as many."""
    if isinstance(data, bytes | bytearray | memoryview):
        yield data
        return
    while piece := data.read(1 << 20):
        yield piece
