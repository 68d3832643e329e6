"""The local trash: what a command deleted stays a while, in case the command was a mistake.

Purged when it is old enough, or earlier and oldest first while the volume is full. Its age is the file's mtime, set
when it was deleted, against the namenode's time.
"""

import logging
import os

from dfs_datanode.disk import Disk
from dfs_datanode.volumes import Volume

logger = logging.getLogger("dfs.datanode.trash")


def purge_trash(volume: Volume, disk: Disk, *, now_ms: int, age_s: float) -> int:
    """Remove what is old, then what is in the way; how many files that were. Raises OSError."""
    if not volume.holds_chunks or volume.check().state == "read_only":
        return 0
    directory = os.path.join(volume.directory, "trash")
    aged: list[tuple[float, str]] = []
    for name in disk.names(directory):
        path = os.path.join(directory, name)
        try:
            aged.append((disk.stat(path).st_mtime * 1000, path))
        except FileNotFoundError:
            continue
    removed = 0
    for trashed_ms, path in sorted(aged):
        if now_ms - trashed_ms < age_s * 1000 and volume.check().state != "full":
            break
        disk.unlink(path)
        removed += 1
    if removed:
        logger.info("removed %d deleted chunks from the trash of %s", removed, volume.directory)
    return removed
