"""Reads that come from the disk and leave nothing in memory.

Whoever verifies a replica wants to know what the disk has, not what memory remembers of it; and a scrub of terabytes
must not push out what readers use. A disk in front of the disk, so that what reads chunk files need not know of it.
"""

import errno
import mmap
import os
import threading

from dfs.protocol.chunk_format import ALIGNMENT
from dfs_datanode.disk import Disk

_BUFFER_BYTES = (1 << 20) + 2 * ALIGNMENT
"""A piece as chunk files are read, and what it takes to align its two ends."""


class UncachedDisk(Disk):
    """Reads through `disk` with O_DIRECT; where the file system has none, memory is told to forget, before and after.

    For one thread at a time; a second one waits.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._lock = threading.Lock()
        self._buffer = mmap.mmap(-1, _BUFFER_BYTES)

    def open(self, path: str, flags: int, mode: int = 0o644) -> int:
        try:
            return self._disk.open(path, flags | os.O_DIRECT, mode)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return self._disk.open(path, flags, mode)

    def close(self, fd: int) -> None:
        self._disk.close(fd)

    def stat(self, path: str) -> os.stat_result:
        return self._disk.stat(path)

    def stat_open(self, fd: int) -> os.stat_result:
        return self._disk.stat_open(fd)

    def read_at(self, fd: int, size: int, offset: int) -> bytes:
        pieces = []
        while size > 0:
            piece = self._read_some(fd, min(size, _BUFFER_BYTES - 2 * ALIGNMENT), offset)
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece)
            offset += len(piece)
        return b"".join(pieces)

    def _read_some(self, fd: int, size: int, offset: int) -> bytes:
        start = offset // ALIGNMENT * ALIGNMENT
        length = -(-(offset + size) // ALIGNMENT) * ALIGNMENT - start
        with self._lock, memoryview(self._buffer) as view:
            self._disk.drop_cache(fd, start, length)
            got = self._disk.read_into(fd, view[:length], start)
            self._disk.drop_cache(fd, start, length)
            return bytes(view[offset - start : min(got, offset - start + size)])
