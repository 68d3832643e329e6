"""The one door to the operating system's files.

Everything that the datanode reads or writes goes through these few methods, so that tests can put a disk in their
place that fills up, fails or lies. It knows nothing of chunks and catches nothing.
"""

import ctypes
import errno
import os
import sys

_SHORT_OF_MEANS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR})


def is_short_of_means(error: OSError) -> bool:
    """Whether this process lacks descriptors or memory: that says nothing about any file, disk or replica."""
    return error.errno in _SHORT_OF_MEANS


_libc = ctypes.CDLL(None, use_errno=True)
_OPENAT2 = 437
"""The number of the system call; the C library has no function for it."""
_HAS_OPENAT2 = sys.platform.startswith("linux") and not os.uname().machine.startswith(("alpha", "ia64", "mips"))
"""Newer calls have the same number everywhere, but on these machines, which count from elsewhere."""
_AT_FDCWD = -100
_RESOLVE_CACHED = 0x20


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


# Without noting the time of the reads: to write that down may take the journal, and so the disk.
_READ_CACHED = _OpenHow(os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOATIME", 0), 0, _RESOLVE_CACHED)
_READ_CACHED_AT = ctypes.byref(_READ_CACHED)
_READ_CACHED_SIZE = ctypes.c_size_t(ctypes.sizeof(_READ_CACHED))


class Disk:
    """The machine's disks."""

    def open(self, path: str, flags: int, mode: int = 0o644) -> int:
        """A descriptor; never inherited by a child process."""
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def open_cached(self, path: str) -> int:
        """A descriptor for reading, without waiting for the disk.

        Raises  BlockingIOError: memory does not know the file; OSError: that, or the system can't tell
        """
        if not _HAS_OPENAT2:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        name = os.fsencode(path)
        fd: int = _libc.syscall(_OPENAT2, _AT_FDCWD, name, _READ_CACHED_AT, _READ_CACHED_SIZE)
        if fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
        return fd

    def close(self, fd: int) -> None:
        os.close(fd)

    def write_at(self, fd: int, data: memoryview, offset: int) -> None:
        """Write all of `data` at `offset`."""
        while data:
            written = os.pwrite(fd, data, offset)
            data = data[written:]
            offset += written

    def read_at(self, fd: int, size: int, offset: int) -> bytes:
        """`size` bytes from `offset` on, or fewer at the end of the file."""
        piece = os.pread(fd, size, offset)
        if len(piece) == size or not piece:
            return piece
        pieces = [piece]
        got = len(piece)
        while got < size:
            piece = os.pread(fd, size - got, offset + got)
            if not piece:
                break
            pieces.append(piece)
            got += len(piece)
        return b"".join(pieces)

    def read_into(self, fd: int, into: memoryview, offset: int) -> int:
        """Fill `into` from `offset` on; how many bytes came, fewer at the end of the file. For O_DIRECT, too."""
        got = 0
        while got < len(into):
            count = os.preadv(fd, [into[got:]], offset + got)
            if count == 0:
                break
            got += count
        return got

    def will_read(self, fd: int, offset: int, length: int) -> None:
        """Have the disk begin to read that, if memory does not hold it. Waits for nothing; only a wish."""
        os.posix_fadvise(fd, offset, length, os.POSIX_FADV_WILLNEED)

    def drop_cache(self, fd: int, offset: int, length: int) -> None:
        """Let memory forget what it holds of the file there, so that the next read asks the disk. Only a wish."""
        os.posix_fadvise(fd, offset, length, os.POSIX_FADV_DONTNEED)

    def read_cached(self, fd: int, into: bytearray, offset: int) -> int:
        """Fill `into` from what memory holds of the file, without waiting for the disk; how many bytes that were.

        Raises BlockingIOError if none of it is there, OSError where the file system can't tell.
        """
        return os.preadv(fd, [into], offset, os.RWF_NOWAIT)

    def reserve(self, fd: int, size: int) -> None:
        """Take `size` bytes on the disk for the file now, so that a full disk shows before the first byte."""
        os.posix_fallocate(fd, 0, size)

    def sync(self, fd: int) -> None:
        """Make the file durable: its data, its size and, on a journaling file system, its names.

        After a failure the kernel may pretend that all is well: never call it again for the same file.
        """
        os.fsync(fd)

    def sync_file_system(self, fd: int) -> None:
        """Make everything durable that was written to the file system of `fd`. As final as `sync` when it fails."""
        if _libc.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def sync_directory(self, path: str) -> None:
        """Make the names in a directory durable."""
        fd = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def link(self, old: str, new: str) -> None:
        """A second name for a file. Raises FileExistsError rather than replace."""
        os.link(old, new)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def set_mtime(self, path: str, mtime_ms: int) -> None:
        os.utime(path, ns=(mtime_ms * 1_000_000, mtime_ms * 1_000_000))

    def make_directory(self, path: str) -> None:
        os.mkdir(path)

    def names(self, path: str) -> list[str]:
        """The entries of a directory, in no order."""
        return os.listdir(path)

    def stat(self, path: str) -> os.stat_result:
        return os.stat(path)

    def stat_open(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def space(self, path: str) -> os.statvfs_result:
        return os.statvfs(path)


def replace_file(disk: Disk, path: str, content: bytes, mode: int = 0o600) -> None:
    """Put `content` at `path` so that a crash leaves the old or the new file, whole."""
    scratch = f"{path}.new"
    fd = disk.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        disk.write_at(fd, memoryview(content), 0)
        disk.sync(fd)
    finally:
        disk.close(fd)
    disk.rename(scratch, path)
    disk.sync_directory(os.path.dirname(path))


def read_file(disk: Disk, path: str, limit: int = 1 << 20) -> bytes:
    """A small file, whole; at most `limit` bytes of it."""
    fd = disk.open(path, os.O_RDONLY)
    try:
        return disk.read_at(fd, limit, 0)
    finally:
        disk.close(fd)
