"""Probes: a small real write, sync and read on each volume, every few seconds.

A datanode whose disk hangs still sends heartbeats and answers from memory; only I/O that reached the disk tells that
the disk is well. Each volume has a loop of its own for this, so that one that hangs holds up nobody else; what came of
it is kept in the volume's health, where everybody reads it without waiting.
"""

import errno
import logging
import mmap
import os
import secrets

from dfs.protocol.chunk_format import ALIGNMENT
from dfs.protocol.clock import Clock
from dfs_datanode.disk import Disk, is_short_of_means
from dfs_datanode.volumes import Volume

logger = logging.getLogger("dfs.datanode.probe")

PROBE_FILE = os.path.join("health", "probe")
"""In a directory that exists on the volume only: after an unmount it can't be made on the disk below."""


class Probe:
    """The probes of one volume. `turn` is used by one thread, which may hang with the disk.

    interval_s  between two probes
    """

    def __init__(self, volume: Volume, disk: Disk, clock: Clock, *, interval_s: float) -> None:
        self._volume = volume
        self._disk = disk
        self._clock = clock
        self._interval_s = interval_s
        self._memory = mmap.mmap(-1, 2 * ALIGNMENT)

    def turn(self) -> float:
        """Probe once; the seconds until the next time."""
        health = self._volume.health
        health.probe_began(self._clock.monotonic_s())
        why, conclusive = "", True
        try:
            conclusive = self._probe()
        except OSError as error:
            conclusive = False
            if not is_short_of_means(error):
                why = self._meaning(error)
        health.probe_ended(self._clock.monotonic_s(), why=why, conclusive=conclusive)
        return self._interval_s

    def _meaning(self, error: OSError) -> str:
        """Why the volume failed; "" where the error says something else of it, which `judge` has noted."""
        self._volume.judge(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT):
            return ""
        return f"a probe failed: {(error.strerror or str(error)).lower()}"

    def _probe(self) -> bool:
        """Whether the disk was asked. Raises OSError: it did not do what it was asked."""
        volume = self._volume
        volume.check()
        if volume.is_missing:
            return False
        wrote, back = memoryview(self._memory)[:ALIGNMENT], memoryview(self._memory)[ALIGNMENT:]
        wrote[:] = secrets.token_bytes(64) * (ALIGNMENT // 64)
        direct = os.O_DIRECT if volume.direct else 0
        fd = self._disk.open(os.path.join(volume.directory, PROBE_FILE), os.O_RDWR | os.O_CREAT | direct)
        try:
            self._disk.write_at(fd, wrote, 0)
            self._disk.sync(fd)
            self._disk.drop_cache(fd, 0, ALIGNMENT)
            self._disk.read_into(fd, back, 0)
        finally:
            self._disk.close(fd)
        if back != wrote:
            raise OSError(errno.EIO, "the disk gives back other bytes than were written")
        # Only this shows it: a kernel may not tell in the flags of a mount that it takes no more writes.
        volume.health.read_only = False
        return True
