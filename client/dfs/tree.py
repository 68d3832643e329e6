"""What trees in either direction share: the report of what was done and what was not, and local names.

A tree is not all or nothing: what can't be stored or written is named, and the rest goes on.
"""

import os
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from dfs.protocol.errors import DfsError, FileExists, PeerError, ReplicasUnavailable, StateError

Progress = Callable[[int, int], None]
"""Called with the bytes and the files that were added since the last call; one call at a time, from any thread."""


@dataclass(frozen=True)
class Failure:
    """One item that was left out, and why."""

    path: str
    error: Exception


@dataclass
class TreeReport:
    """What a tree's transfer did. `failures` empty: all of it."""

    files: int = 0
    directories: int = 0
    bytes: int = 0
    failures: list[Failure] = field(default_factory=list)


class Tally:
    """Counts for a report, from several threads, and tells a progress callback."""

    def __init__(self, progress: Progress | None) -> None:
        self.report = TreeReport()
        self._progress = progress
        self._lock = threading.Lock()

    def moved(self, count: int) -> None:
        """Bytes have moved; whether a file comes of them is not known yet."""
        self._tell(count, 0)

    def files(self, files: int, size: int, *, moved: bool = False) -> None:
        """Files are complete. `moved`: their bytes have been told already."""
        with self._lock:
            self.report.files += files
            self.report.bytes += size
        self._tell(0 if moved else size, files)

    def directory(self) -> None:
        with self._lock:
            self.report.directories += 1

    def failed(self, path: str, error: Exception) -> None:
        with self._lock:
            self.report.failures.append(Failure(path, error))

    def _tell(self, size: int, files: int) -> None:
        if self._progress is not None and (size or files):
            with self._lock:
                self._progress(size, files)


_TEMPORARY_NAME_BYTES = 100
"""Of the name of the target, so that a person can tell what an abandoned temporary file was to become."""


def spoils_only_itself(error: Exception) -> bool:
    """Whether a tree goes on after this error of one item. A full or unreachable cluster stops all of it."""
    if isinstance(error, StateError | PeerError) and not isinstance(error, ReplicasUnavailable):
        return False
    return isinstance(error, DfsError | OSError)


def temporary_name(target: str) -> str:
    """A name beside `target` for the file that will become it."""
    directory, name = os.path.split(target)
    # Of bytes, which is what file systems count: a name of 255 of them leaves no room for more.
    kept = os.fsencode(name)[:_TEMPORARY_NAME_BYTES].decode(errors="ignore")
    return os.path.join(directory, f".{kept}.dfs-{secrets.token_hex(4)}")


def publish_local(temporary: str, target: str, *, overwrite: bool) -> None:
    """Give a complete local file its name. Raises FileExists; then the temporary file is still there."""
    if overwrite:
        os.replace(temporary, target)
        return
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise FileExists(f"{target} exists already; -f (overwrite=True) replaces it", path=target) from None
    except OSError:
        # A file system without hard links: there is a moment between the look and the rename.
        if os.path.lexists(target):
            raise FileExists(f"{target} exists already; -f (overwrite=True) replaces it", path=target) from None
        os.replace(temporary, target)
    else:
        os.unlink(temporary)


def discard(temporary: str) -> None:
    """Remove a temporary file if it is there."""
    with suppress(FileNotFoundError):
        os.unlink(temporary)
