"""A local file that is filled in several lives: what one download leaves behind is the beginning of the next.

It lies beside its target under a name that the next life finds again. Separate from other temporary files because it
stays after an error, and because whatever it holds is not believed: the reader compares every part with the digests
of the version that is fetched now (`Fetcher.matches`) and fetches what differs. So there is no journal, and it does
not matter whose bytes these were, or whether the disk had them all when the machine went down.
"""

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable

from dfs.get_tree import keep_facts
from dfs.protocol.errors import Conflict
from dfs.protocol.messages import Entry
from dfs.tree import publish_local

_NAME_BYTES = 100
"""Of the target's name, so that a person can tell what the file was to become."""


def partial_name(target: str) -> str:
    """Where the partial file of `target` is: the same at every call."""
    directory, name = os.path.split(target)
    whole = os.fsencode(name)
    kept = whole[:_NAME_BYTES].decode(errors="ignore")
    if kept != name:
        kept += "." + hashlib.sha256(whole).hexdigest()[:16]
    return os.path.join(directory, f".{kept}.dfs-partial")


def with_partial(target: str, fill: Callable[[int], None], *, entry: Entry | None, overwrite: bool) -> None:
    """Make the local file `target` of its partial file, which `fill` completes through an open descriptor.

    After an error the partial file stays.

    entry   whose mode and time it gets, or None
    Raises  Conflict: another process is at it, or what has its name is not a file of ours
    """
    partial = partial_name(target)
    descriptor = _open_locked(partial)
    try:
        fill(descriptor)
        keep_facts(descriptor, entry)
        publish_local(partial, target, overwrite=overwrite)
    except OSError as error:
        if error.filename == partial:
            # Nobody has heard of that name.
            error.filename, error.filename2 = target, None
        raise
    finally:
        os.close(descriptor)


def _open_locked(partial: str) -> int:
    """Open it, or make it, for this process alone."""
    while True:
        try:
            descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                raise Conflict(f"{partial} is not a file of a download: remove it") from None
            raise
        try:
            found = os.fstat(descriptor)
            # In a directory that others may write to, one of theirs would stay theirs.
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink > 1:
                raise Conflict(f"{partial} is not a file of a download of yours: remove it")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(partial, found):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise Conflict(f"{partial} is being filled by another process: wait for it") from None
        except BaseException:
            os.close(descriptor)
            raise
        # Whoever held the lock has completed it: that was another file of this name.
        os.close(descriptor)


def _is_at(disk_path: str, found: os.stat_result) -> bool:
    try:
        there = os.stat(disk_path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino)
