"""Aligned buffers, made once and used again.

O_DIRECT needs memory that begins at a page, and fresh memory costs more than the hashing of what goes through it:
so each stream borrows one of these and gives it back. Anonymous mappings are page-aligned by definition.
"""

import mmap
import threading

BUFFER_SIZE = 4 << 20
"""Bytes. O_DIRECT reaches the disk's full speed at this size, and half of it at 1 MiB."""


class BufferPool:
    """Hands out buffers of BUFFER_SIZE bytes; keeps at most `keep` of those that come back.

    How many are out at once is bounded by the streams that may run, not here.
    """

    def __init__(self, keep: int = 8) -> None:
        self._keep = keep
        self._free: list[mmap.mmap] = []
        self._lock = threading.Lock()

    def take(self) -> mmap.mmap:
        """A buffer with old content; the last one that came back, whose pages are warm."""
        with self._lock:
            if self._free:
                return self._free.pop()
        return mmap.mmap(-1, BUFFER_SIZE)

    def give(self, buffer: mmap.mmap) -> None:
        """Take a buffer back. The giver must not touch any view of it again. One too many is left to the collector."""
        with self._lock:
            if len(self._free) < self._keep:
                self._free.append(buffer)
