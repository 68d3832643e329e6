"""What a receipt means: when a chunk that was written counts as durable.

One object for each of the modes that the published promises name, with one duty: return once the chunk may be
acknowledged. Chunk files know only that; which mode it is, an operator decides for the whole datanode.

    sync    each chunk is synced before its receipt
    batch   one sync of the file system for all chunks that arrive within 50 ms
    none    acknowledged from the page cache, synced some seconds later: a power cut may take it

Whatever the mode, the rule of the two names holds: a chunk keeps its name in `tmp/` until it is synced, so a start
after a power cut knows which chunks are in doubt.
"""

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, get_args

from dfs.protocol.errors import InvalidRequest
from dfs.protocol.messages import Durability
from dfs_datanode.disk import Disk

BATCH_WINDOW_S = 0.05
"""How long the first chunk of a batch waits for others; the promise says 50 ms."""


@dataclass(frozen=True)
class Published:
    """A chunk's file that was written and has its final name."""

    fd: int
    tmp_path: str
    directory: str | None
    """Of the final name, if that needs a sync of its own."""


class Syncing(Protocol):
    """Makes what was written and published durable, as the mode understands it."""

    def settle(self, chunk: Published) -> bool:
        """Return once the chunk may be acknowledged; whether its temporary name may go. Raises OSError: it is void."""


def mode_of(text: str) -> Durability:
    """A mode from a setting. Raises InvalidRequest."""
    for mode in get_args(Durability):
        if mode == text:
            return mode  # type: ignore[no-any-return]
    raise InvalidRequest(f"durability is sync, batch or none, not {text!r}")


def syncing_for(mode: Durability, disk: Disk) -> "SyncEach | SyncTogether | SyncLater":
    """The object for a mode; one for each volume."""
    match mode:
        case "sync":
            return SyncEach(disk)
        case "batch":
            return SyncTogether(disk)
        case "none":
            return SyncLater(disk)


class SyncEach:
    """Mode sync."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def settle(self, chunk: Published) -> bool:
        self._disk.sync(chunk.fd)
        if chunk.directory is not None:
            self._disk.sync_directory(chunk.directory)
        return True


class _Batch:
    def __init__(self) -> None:
        self.ended = threading.Event()
        self.error: OSError | None = OSError(errno.EIO, "the sync of the batch never came to its end")


class SyncTogether:
    """Mode batch. The first chunk opens a batch, waits for others, and syncs for all of them.

    A sync that fails voids every chunk of its batch: which of them the disk has is unknown. The next batch may open
    while the last one is being synced.
    """

    def __init__(self, disk: Disk, wait: Callable[[float], object] | None = None) -> None:
        self._disk = disk
        self._wait = wait or threading.Event().wait
        self._lock = threading.Lock()
        self._open: _Batch | None = None

    def settle(self, chunk: Published) -> bool:
        with self._lock:
            batch, leads = self._open, self._open is None
            if batch is None:
                batch = self._open = _Batch()
        if leads:
            self._sync(batch, chunk.fd)
        else:
            batch.ended.wait()
        if batch.error is not None:
            raise OSError(batch.error.errno, batch.error.strerror)
        return True

    def _sync(self, batch: _Batch, fd: int) -> None:
        try:
            self._wait(BATCH_WINDOW_S)
            with self._lock:
                # Whoever comes from here on may have written after the sync began.
                self._open = None
            self._disk.sync_file_system(fd)
            batch.error = None
        except OSError as error:
            batch.error = error
        finally:
            batch.ended.set()


class SyncLater:
    """Mode none. `flush` syncs what was acknowledged meanwhile, and takes the temporary names away."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._lock = threading.Lock()
        self._in_doubt: list[str] = []

    def settle(self, chunk: Published) -> bool:
        with self._lock:
            self._in_doubt.append(chunk.tmp_path)
        return False

    def flush(self, directory: str) -> int:
        """Sync the file system of the volume's directory; how many chunks are durable by that. Raises OSError.

        After a failure their temporary names stay, and with them the next start's duty to verify them.
        """
        with self._lock:
            in_doubt, self._in_doubt = self._in_doubt, []
        if not in_doubt:
            return 0
        fd = self._disk.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._disk.sync_file_system(fd)
        finally:
            self._disk.close(fd)
        for tmp_path in in_doubt:
            self._disk.unlink(tmp_path)
        return len(in_doubt)
