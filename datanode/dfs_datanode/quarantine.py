"""The quarantine: replicas that were found bad, kept for those who want to know why.

Separate from the trash, which keeps good chunks for the case that deleting them was a mistake: what is here must never
be served again, and tells of a disk that rots. Bounded in age and bytes; nobody needs it to live.

    quarantine/<id>.chunk   the bad file as it was; its mtime tells since when
    quarantine/<id>.why     what was wrong with it, one line
"""

import logging
import os
from contextlib import suppress

from dfs.protocol.ids import is_id
from dfs_datanode.disk import Disk

logger = logging.getLogger("dfs.datanode.trash")

_CHUNK, _WHY = ".chunk", ".why"


class Quarantine:
    """The quarantine of the volume in `directory`. The numbers are as of the last change or purge."""

    def __init__(self, disk: Disk, directory: str) -> None:
        self.count = 0
        self.size_bytes = 0
        self._disk = disk
        self._directory = os.path.join(directory, "quarantine")

    def path_of(self, chunk: str) -> str:
        return os.path.join(self._directory, chunk + _CHUNK)

    def take(self, disk_path: str, chunk: str, why: str, now_ms: int) -> None:
        """Move a bad file here: in one step, so that it is there or here. Raises OSError: it is where it was."""
        size = self._disk.stat(disk_path).st_size
        self._disk.set_mtime(disk_path, now_ms)
        self._disk.rename(disk_path, self.path_of(chunk))
        self.count += 1
        self.size_bytes += size
        logger.warning("the bad replica of %s is in quarantine (%s)", chunk, why)
        try:
            fd = self._disk.open(os.path.join(self._directory, chunk + _WHY), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                self._disk.write_at(fd, memoryview(f"{why}\n".encode()), 0)
            finally:
                self._disk.close(fd)
        except OSError as error:
            # The log has the reason, too; that the bad file is out of the way is what matters.
            logger.warning("the reason can't be written down: %s", error)

    def purge(self, *, now_ms: int, age_s: float, bytes_max: int) -> int:
        """Remove what is too old, then the oldest while it is too much; how many files stay. Raises OSError."""
        aged: list[tuple[float, int, str]] = []
        for name in self._disk.names(self._directory):
            chunk = name.removesuffix(_CHUNK)
            if not name.endswith(_CHUNK) or not is_id(chunk):
                continue
            with suppress(FileNotFoundError):
                found = self._disk.stat(self.path_of(chunk))
                aged.append((found.st_mtime * 1000, found.st_size, chunk))
        aged.sort()
        total = sum(size for _, size, _ in aged)
        kept = len(aged)
        for since_ms, size, chunk in aged:
            if now_ms - since_ms < age_s * 1000 and total <= bytes_max:
                break
            self._disk.unlink(self.path_of(chunk))
            with suppress(FileNotFoundError):
                self._disk.unlink(os.path.join(self._directory, chunk + _WHY))
            total -= size
            kept -= 1
        self.count, self.size_bytes = kept, total
        return kept
