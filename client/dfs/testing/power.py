"""A disk whose power can be cut: an ext4 file system in a file, on a loop device, shut down by its own ioctl.

After `cut` everything that was not synced is gone, as after a power loss, while the machine that runs the tests goes
on. Separate from `disks`, whose disks fail in ways that a running server can notice.
"""

import fcntl
import os
import struct

from dfs.testing.disks import LoopDisk

_EXT4_IOC_SHUTDOWN = 0x8004587D
"""_IOR('X', 125, __u32), of the kernel's include/uapi/linux/ext4.h."""
_NOLOGFLUSH = 2
"""Don't even flush the journal: the hardest of the three ways."""


class PowerDisk(LoopDisk):
    """One file system of its own, mounted at `path`, that can lose its power."""

    def __enter__(self) -> "PowerDisk":
        return self

    def cut(self) -> None:
        """Cut the power: from now on every write and sync fails, and what was not synced is lost."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _EXT4_IOC_SHUTDOWN, struct.pack("I", _NOLOGFLUSH))
        finally:
            os.close(descriptor)

    def power_up(self) -> None:
        """Mount it again; the file system recovers by its journal. All users must be gone."""
        self.unmount()
        self._mount()
