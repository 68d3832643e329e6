"""All chunks of this datanode, whichever volume they are on: claims, choice of the volume, look-up, open readers.

Separate from the volumes because an id is claimed once for the whole datanode, and from the operations because a
client's PUT and a repair store a chunk in the same way.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dfs.protocol.chunk_format import Header, file_size
from dfs.protocol.errors import ChunkExists, CorruptReplica, NoSpace, ReplicaNotFound
from dfs.protocol.messages import VolumeState
from dfs_datanode.chunk_file import ChunkReader, ChunkWriter
from dfs_datanode.disk import Disk, is_short_of_means
from dfs_datanode.uncached import UncachedDisk
from dfs_datanode.volumes import Volume

logger = logging.getLogger("dfs.datanode.chunks")

READERS_MAX = 128
"""Open files kept for the next read; each has its table in memory, 32 KiB for a chunk of 64 MiB."""


class ChunkStore:
    """The chunks on a set of volumes. Thread-safe."""

    def __init__(self, disk: Disk, volumes: Sequence[Volume]) -> None:
        self.volumes = tuple(volumes)
        self._disk = disk
        self._lock = threading.Lock()
        self._claims: set[str] = set()
        self._readers: OrderedDict[str, ChunkReader] = OrderedDict()
        self._forgotten = 0
        """Grows whenever a file is not to be used any more: what was opened before that is not kept."""

    def look(self) -> list[VolumeState]:
        """The states of the volumes, looked at now. Waits for their disks."""
        return [volume.check() for volume in self.volumes]

    def states(self) -> list[VolumeState]:
        """What a heartbeat tells of the volumes, as of the last look. Never waits for a disk."""
        return [volume.state() for volume in self.volumes]

    @contextmanager
    def storing(
        self, header: Header, length: int, *, hints: int = 0, again: bool = False, beside: bool = False
    ) -> Iterator[tuple[ChunkWriter, Volume]]:
        """A writer for a new chunk, and the volume it is on. Not finished when the block is left: thrown away.

        hints   bytes of the hints that it will have
        again   allow an id whose file lies in trash or quarantine: a repair may bring back what was taken for bad
        beside  allow one that is here: its replacement is made beside it, and takes its place in the end
        Raises  ChunkExists: the id was used; NoSpace: no volume can take it
        """
        with self._claimed(header.chunk):
            asked = [volume for volume in self.volumes if volume.answers]
            used = any(volume.has(header.chunk) if again else volume.knows(header.chunk) for volume in asked)
            if used and not beside:
                raise ChunkExists("this chunk id was used already; ask for a new grant")
            volume = self._choose(length, hints)
            size = file_size(length, hints)
            volume.promise(size)
            writer: ChunkWriter | None = None
            try:
                writer = volume.begin(header, hints)
                yield writer, volume
            finally:
                if writer is not None:
                    writer.abort()
                volume.settle(size, stored=writer is not None and writer.published)

    @contextmanager
    def _claimed(self, chunk: str) -> Iterator[None]:
        with self._lock:
            if chunk in self._claims:
                raise ChunkExists("this chunk is being written already; ask for a new grant")
            self._claims.add(chunk)
        try:
            yield
        finally:
            with self._lock:
                self._claims.discard(chunk)

    def _choose(self, length: int, hints: int) -> Volume:
        """The volume with the most free space that can take the chunk."""
        free, volume = max(((one.takes(length, hints), one) for one in self.volumes), key=lambda pair: pair[0])
        if free == 0:
            raise NoSpace("no volume of this datanode can take the chunk: they are full or out of service")
        return volume

    def find(self, chunk: str) -> Volume | None:
        """The volume that has a file of that chunk."""
        return next((volume for volume in self.volumes if volume.holds_chunks and volume.has(chunk)), None)

    def open_now(self, chunk: str) -> ChunkReader | None:
        """A reader, kept for the next one, if it can be had without waiting for a disk; else None."""
        with self._lock:
            forgotten = self._forgotten
            reader = self._readers.get(chunk)
            if reader is not None:
                self._readers.move_to_end(chunk)
        if reader is None:
            return self._open_cached(chunk, forgotten)
        if not reader.is_named():
            self.forget(chunk)
            return None
        return reader

    def _open_cached(self, chunk: str, forgotten: int) -> ChunkReader | None:
        for volume in self.volumes:
            if not volume.holds_chunks:
                continue
            try:
                return self._kept(chunk, ChunkReader(self._disk, volume.path_of(chunk), chunk, cached=True), forgotten)
            except (ReplicaNotFound, CorruptReplica, OSError):
                continue  # whoever waits for the disk will find out what is the matter, if anything is
        return None

    def _kept(self, chunk: str, reader: ChunkReader, forgotten: int) -> ChunkReader:
        """Keep a reader for the next one, unless a file was forgotten while it was opened: it may be that one's."""
        with self._lock:
            if self._forgotten == forgotten:
                self._readers[chunk] = reader
                if len(self._readers) > READERS_MAX:
                    self._readers.popitem(last=False)
        return reader

    def open(self, chunk: str) -> ChunkReader:
        """A reader, kept for the next one. Raises ReplicaNotFound, CorruptReplica, OSError."""
        reader = self.open_now(chunk)
        if reader is not None:
            return reader
        with self._lock:
            forgotten = self._forgotten
        return self._kept(chunk, self.open_afresh(chunk), forgotten)

    def open_afresh(self, chunk: str) -> ChunkReader:
        """A reader that looked at the file's header and footer now. Raises as `open` does."""
        volume = self.find(chunk)
        if volume is None:
            raise ReplicaNotFound("this datanode has no replica of that chunk; read another one")
        try:
            return ChunkReader(self._disk, volume.path_of(chunk), chunk)
        except OSError as error:
            volume.read_errors += not is_short_of_means(error)
            raise

    def forget(self, chunk: str) -> None:
        """Don't use the open file of that chunk any more."""
        with self._lock:
            self._forgotten += 1
            self._readers.pop(chunk, None)

    def open_uncached(self, chunk: str) -> ChunkReader:
        """A reader that asks the disk for every byte, and leaves nothing in memory. Raises as `open` does."""
        volume = self.find(chunk)
        if volume is None:
            raise ReplicaNotFound("this datanode has no replica of that chunk; read another one")
        try:
            return ChunkReader(UncachedDisk(self._disk), volume.path_of(chunk), chunk)
        except OSError as error:
            volume.read_errors += not is_short_of_means(error)
            raise

    def retire(self, chunk: str, now_ms: int, *, why_bad: str = "") -> bool:
        """Take every file of that chunk out of service; whether there was one. Raises OSError.

        why_bad  what is wrong with it: then it goes to the quarantine; "": it was not wanted any more, to the trash
        """
        found = False
        try:
            for volume in self.volumes:
                if volume.holds_chunks and volume.has(chunk):
                    if not (why_bad and _quarantined(volume, chunk, why_bad, now_ms)):
                        volume.move_to_trash(chunk, now_ms)
                    found = True
        finally:
            # Not before the file has left its place: it could be opened again meanwhile. And an open file has a name
            # in the trash, too, by which it would be taken for the replica.
            self.forget(chunk)
        return found


def _quarantined(volume: Volume, chunk: str, why_bad: str, now_ms: int) -> bool:
    """Whether the bad replica could be put there. Its replacement must not wait for a quarantine that fails."""
    try:
        volume.move_to_quarantine(chunk, why_bad, now_ms)
    except OSError as error:
        logger.warning("the bad replica of %s can't be put into quarantine (%s); it goes to the trash", chunk, error)
        return False
    return True
