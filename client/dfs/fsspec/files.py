"""The open files that fsspec's users get: the client's own, with the attributes that fsspec promises on top.

Separate from `dfs.file` because of one more rule. There, and here, a `with` body that raises publishes nothing. But
some libraries open a file for their own `with` statement and close it at its end without saying that the body raised:
`fsspec.open(…)`, pandas, pyarrow's ParquetWriter. `left_by_an_exception` finds that out.
"""

import io
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

from dfs.file import BUFFER_SIZE, BinaryWriter, Pending, RawReader
from dfs.protocol.digests import Buffer
from dfs.protocol.errors import InvalidRequest
from dfs.protocol.messages import Outcome

if TYPE_CHECKING:
    from dfs.fsspec.filesystem import DfsFileSystem

FRAMES_MAX = 12
"""Calls between the end of a library's `with` statement and the `close` of a file of ours."""
_CLOSERS = {
    ("fsspec.core", "OpenFile.__exit__"),
    ("pandas.io.common", "IOHandles.__exit__"),
    ("pyarrow.parquet.core", "ParquetWriter.__exit__"),
}
"""Module and function: context managers that close what they have opened, whether or not the body raised."""


def left_by_an_exception() -> bool:
    """Whether what runs now runs because a `with` body of one of _CLOSERS raised. Only the nearest one counts."""
    frame: FrameType | None = sys._getframe(1)
    for _ in range(FRAMES_MAX):
        if frame is None:
            return False
        if (frame.f_globals.get("__name__"), frame.f_code.co_qualname) in _CLOSERS:
            return _raised(frame)
        frame = frame.f_back
    return False


def _raised(frame: FrameType) -> bool:
    """Whether this call of an `__exit__` was given an exception, whatever it calls its arguments."""
    names = frame.f_code.co_varnames[: frame.f_code.co_argcount + 1]
    given = [frame.f_locals.get(name) for name in names[1:]]
    first = given[0] if given else None
    kind = first[0] if isinstance(first, tuple) and first else first
    return isinstance(kind, type) and issubclass(kind, BaseException)


class DfsReader(io.BufferedReader):
    """A file that is read: the version that was there when it was opened, to its end. Pickles as where it is."""

    def __init__(self, fs: "DfsFileSystem", raw: RawReader) -> None:
        super().__init__(raw, BUFFER_SIZE)
        self.fs = fs
        self.path = raw.entry.path
        self.size = raw.entry.size
        self.cache: Any = None
        self._version = raw.entry.version
        self._details = fs.described(raw.entry)

    @property
    def mode(self) -> str:
        return "rb"

    @property
    def closed(self) -> bool:
        return bool(super().closed)

    @closed.setter
    def closed(self, closed: bool) -> None:
        # The block cache says so after it has closed the file.
        if closed:
            super().close()

    @property
    def full_name(self) -> str:
        """The URL."""
        return str(self.fs.unstrip_protocol(self.path))

    @property
    def details(self) -> dict[str, Any]:
        """What `info` said when the file was opened."""
        return self._details

    @property
    def blocksize(self) -> int:
        return int(self.fs.blocksize)

    @property
    def loc(self) -> int:
        return self.tell()

    def close(self) -> None:
        """Let go of it, and of the cache that fsspec's block cache has put before it."""
        cache, self.cache = self.cache, None
        if cache is not None and hasattr(cache, "close"):
            cache.close()
        super().close()

    def _fetch_range(self, start: int, end: int) -> bytes:
        """Bytes of this version, for the caches of fsspec that put themselves before a file."""
        self.seek(start)
        return self.read(end - start)

    def info(self) -> dict[str, Any]:
        """What the file system's `info` said when the file was opened."""
        return self._details

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.fs, self.path, self._version, self.tell())

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return self.__reduce__()


def _reopen(fs: "DfsFileSystem", path: str, version: int, position: int) -> DfsReader:
    """What a pickled reader becomes. Raises InvalidRequest: another version is there by now."""
    file = fs.open(path, "rb")
    assert isinstance(file, DfsReader), "without compression it is ours"
    if file._version != version:
        file.close()
        raise InvalidRequest(f"{path} was replaced or changed since it was opened elsewhere; open it again")
    file.seek(position)
    return file


class Through:
    """A writer of the client as what another writer hands its bytes to."""

    def __init__(self, below: BinaryWriter) -> None:
        self._below = below

    def write(self, data: Buffer) -> int:
        return self._below.write(data)

    def commit(self) -> Outcome:
        self._below.close()
        assert self._below.outcome is not None, "it was closed just now"
        return self._below.outcome

    def abort(self) -> None:
        self._below.abort()


class DfsWriter(BinaryWriter):
    """A file that is written: it becomes visible at `close`, or with its transaction, or not at all."""

    def __init__(self, fs: "DfsFileSystem", path: str, mode: str, pending: Pending, *, position: int = 0) -> None:
        super().__init__(path, pending)
        self.fs = fs
        self.path = path
        self._mode = mode
        self._start = position

    @property
    def mode(self) -> str:
        return self._mode

    @property
    def full_name(self) -> str:
        """The URL."""
        return str(self.fs.unstrip_protocol(self.path))

    @property
    def blocksize(self) -> int:
        return int(self.fs.blocksize)

    @property
    def loc(self) -> int:
        return self.tell()

    def tell(self) -> int:
        return self._start + super().tell()

    def close(self) -> None:
        """Publish the file, unless a `with` body raised. Raises what prevents that; then nothing is visible."""
        if not self.closed and left_by_an_exception():
            self.abort()
        else:
            super().close()


class DeferredWriter(DfsWriter):
    """A file that was opened with `autocommit=False`: `close` stores it, `commit` makes it visible."""

    def __init__(self, fs: "DfsFileSystem", path: str, mode: str, pending: Pending, transaction: Any) -> None:
        super().__init__(fs, path, mode, pending)
        self._transaction = transaction

    def commit(self) -> None:
        """Make the file visible. It is closed first if it is not yet."""
        self.close()
        self._transaction.commit()

    def discard(self) -> None:
        """Let nothing of it become visible."""
        self.abort()
        self._transaction.abort()


class CompressedWriter(io.BufferedIOBase):
    """Compression on top of a writer: both are closed together, or both dropped.

    The compressors of the standard library leave the file below them open, and a `with` body that raises would have
    them finish a stream that is cut off.
    """

    def __init__(self, compressor: Any, below: BinaryWriter) -> None:
        super().__init__()
        self._compressor = compressor
        self._below = below

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return int(self._compressor.write(data))

    def tell(self) -> int:
        """Bytes before compression."""
        return int(self._compressor.tell())

    def flush(self) -> None:
        """Nothing: what is written becomes visible at `close`."""

    def abort(self) -> None:
        """Close without publishing anything."""
        if not self.closed:
            # What the compressor still wants to write is refused by the file, and of no use to anybody.
            self._below.abort()
            self._compressor = None
            super().close()

    def close(self) -> None:
        """Publish the file. Raises what prevents that; then nothing is visible."""
        if self.closed:
            return
        try:
            self._compressor.close()
        except BaseException:
            self.abort()
            raise
        self._below.close()
        super().close()

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        # Without this, IOBase would close, and so publish, a file whose writer was interrupted.
        if getattr(self, "_below", None) is not None and not self.closed:
            self._below.__del__()
            self.abort()
