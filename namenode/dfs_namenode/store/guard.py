"""One namenode for one directory: an exclusive lock, and no directories on which locks can't be trusted.

Separate because it is about the machine and not about the database, and because it is done before anything is opened.
"""

import errno
import fcntl
import os

from dfs.protocol.errors import Conflict, InvalidRequest

LOCK_NAME = "namenode.lock"
_MOUNTS = "/proc/self/mountinfo"
_NETWORK_FILESYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "glusterfs", "fuse.glusterfs", "fuse.sshfs"}
)
"""SQLite's WAL needs memory shared by all processes that use the file, which no network provides."""


class DirectoryLock:
    """The exclusive lock on a store's directory, held until `release` or the end of the process."""

    def __init__(self, directory: str) -> None:
        """Take the lock. Raises Conflict if another process has it."""
        self._disk_path = os.path.join(directory, LOCK_NAME)
        self._descriptor = os.open(self._disk_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._descriptor, 32).decode(errors="replace").strip()
            os.close(self._descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise Conflict(
                f"another namenode (process {holder or 'unknown'}) uses {directory}; stop it, or use another directory",
                pid=holder,
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another process have the directory. Repeatable."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def filesystem_of(disk_path: str, mounts: str) -> str:
    """The type of the file system that holds an absolute, resolved path; "" if it can't be told.

    mounts   the text of /proc/self/mountinfo
    """
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if "-" not in fields or len(fields) < 5:
            continue
        # Octal escapes stand for blanks in the names of mount points.
        point = fields[4].encode().decode("unicode_escape").encode("latin-1").decode(errors="replace")
        inside = disk_path == point or disk_path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:
            best, kind = len(point), fields[fields.index("-") + 1]
    return kind


def refuse_network_filesystem(directory: str) -> None:
    """Raises InvalidRequest if the directory is on a file system of the network."""
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
            mounts = file.read()
    except OSError:
        return  # Not Linux: there is nothing to ask.
    kind = filesystem_of(os.path.realpath(directory), mounts)
    if kind in _NETWORK_FILESYSTEMS:
        raise InvalidRequest(
            f"{directory} is on a network file system ({kind}); the store needs a local disk", kind=kind
        )
