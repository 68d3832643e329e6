"""What happens to a volume before its chunks are reported.

A chunk's temporary name is taken away only after its fsync. So after any stop, however hard, the names in `tmp/` are
exactly the chunks in doubt: one whose final name exists, too, was published and perhaps not made durable; it is
verified and synced now, or moved to the trash. One without is the rest of an upload that was never acknowledged.
Only entries of `tmp/` that are older than this process are touched, and nothing is ever removed by pattern.
"""

import errno
import logging
import os
from collections.abc import Iterable

from dfs.protocol.errors import CorruptReplica, DfsError
from dfs.protocol.ids import is_id
from dfs_datanode.chunk_file import ChunkReader
from dfs_datanode.disk import Disk
from dfs_datanode.volumes import Volume

logger = logging.getLogger("dfs.datanode.startup")


def recover_volume(volume: Volume, disk: Disk, *, now_ms: int) -> int:
    """Decide about every chunk in doubt; how many there were. Repeatable: a crash in the middle changes nothing.

    Runs before the first stream, so all of `tmp/` is older than this process. Raises OSError: the volume can't be used.
    """
    in_doubt = 0
    for name in volume.unfinished():
        in_doubt += 1
        path = os.path.join(volume.directory, "tmp", name)
        if is_id(name) and volume.has(name):
            try:
                _make_sure(volume, disk, name)
            except (CorruptReplica, OSError) as error:
                if isinstance(error, OSError) and not isinstance(error, DfsError):
                    volume.judge(error, syncing=True)
                logger.warning("the chunk %s was never finished (%s); it goes to the trash", name, error)
                volume.move_to_trash(name, now_ms)
        disk.unlink(path)
    return in_doubt


def _make_sure(volume: Volume, disk: Disk, chunk: str) -> None:
    """Verify a published chunk and make it durable. Raises CorruptReplica, OSError."""
    path = volume.path_of(chunk)
    ChunkReader(disk, path, chunk).verify()
    fd = disk.open(path, os.O_RDWR)
    try:
        disk.sync(fd)
    finally:
        disk.close(fd)
    disk.sync_directory(os.path.dirname(path))
    logger.info("the chunk %s was published, but perhaps not durable; it is now", chunk)


def measure(volume: Volume, disk: Disk) -> tuple[int, int]:
    """How many chunk files the volume has, and their bytes. Raises OSError."""
    count = used = 0
    for chunk in volume.chunks():
        try:
            used += disk.stat(volume.path_of(chunk)).st_size
        except FileNotFoundError:
            continue
        count += 1
    return count, used


def settle(volumes: Iterable[Volume], disk: Disk, *, now_ms: int) -> None:
    """Recover volumes and take them into service: each fails alone, and is then out of service until it works.

    For those of the start, and later for one whose disk was mounted after it: no stream has written there before.
    """
    for volume in volumes:
        try:
            in_doubt = _recover_if_writable(volume, disk, now_ms=now_ms)
            chunks, used = measure(volume, disk)
        except OSError as error:
            volume.judge(error)
            volume.unsettled()
            logger.error("the volume %s can't be recovered: %s", volume.directory, error)
            continue
        volume.settled(used)
        logger.info("%s has %d chunks; %d were in doubt", volume.directory, chunks, in_doubt)


def _recover_if_writable(volume: Volume, disk: Disk, *, now_ms: int) -> int:
    try:
        return recover_volume(volume, disk, now_ms=now_ms)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        # Nothing can be decided here, nor lost by it: what is served is verified, and doubts stay for a later start.
        volume.judge(error)
        return len(volume.unfinished())
