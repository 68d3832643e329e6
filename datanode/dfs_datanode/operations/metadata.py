"""metadata_parts, read_metadata: what this datanode has of backups of the namenode's store, for whoever restores it.

Separate from get_chunk because they work when there is no namenode: nobody can sign a capability then, and a datanode
that was started meanwhile has not registered. So whoever asks proves that he knows the join secret, over a challenge
that is new in each life of the datanode; where a cluster has no join secret, this door is as open as the others. Only
chunks that say of themselves that they are parts of a backup go through it, never those of files.

The cost: to find them, the end of every chunk file is read, some kilobytes each. On a disk with 100 000 chunks that is
a second from memory and some minutes from a spinning disk; it is done in pages and in one thread.
"""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from dfs.protocol.capability import metadata_proof, same
from dfs.protocol.digests import BLOCK_SIZE
from dfs.protocol.errors import CorruptReplica, DataError, NotPermitted, RangeNotSatisfiable
from dfs.protocol.hints import MetadataHint, decode_hints
from dfs.protocol.messages import (
    METADATA_PARTS_MAX,
    MetadataBytes,
    MetadataFound,
    MetadataPart,
    MetadataParts,
    ReadMetadata,
)
from dfs.protocol.server import Caller
from dfs_datanode.chunk_file import ChunkReader
from dfs_datanode.chunk_store import ChunkStore
from dfs_datanode.disk import Disk
from dfs_datanode.membership import Membership
from dfs_datanode.scrub import PARTS
from dfs_datanode.volumes import Volume

FILES_IN_PAGE = 2000
"""Chunk files that one answer looks at, and those of one more directory: seconds on a slow disk."""


@dataclass
class _Page:
    """What one answer has come to."""

    parts: list[MetadataPart]
    files: int = 0
    unreadable: int = 0

    @property
    def is_full(self) -> bool:
        return self.files >= FILES_IN_PAGE or len(self.parts) >= METADATA_PARTS_MAX


class Metadata:
    """Both handlers. One look at the disks at a time."""

    def __init__(self, disk: Disk, store: ChunkStore, membership: Membership, *, join_secret: str) -> None:
        self._disk = disk
        self._store = store
        self._membership = membership
        self._join_secret = join_secret
        self._lock = threading.Lock()

    async def find(self, request: MetadataParts, _: Caller) -> MetadataFound:
        """One page of the chunks of backups that are here."""
        self._admit(request.proof)
        return await asyncio.to_thread(self._find, request.after)

    async def read(self, request: ReadMetadata, _: Caller) -> MetadataBytes:
        """Bytes of one of them. Raises ReplicaNotFound, CorruptReplica, RangeNotSatisfiable, NotPermitted."""
        self._admit(request.proof)
        return MetadataBytes(data=await asyncio.to_thread(self._read, request))

    def _admit(self, proof: str) -> None:
        challenge = self._membership.boot
        if self._join_secret and not same(proof, metadata_proof(self._join_secret, challenge)):
            raise NotPermitted("the join secret is wrong; use the one that the datanodes have", challenge=challenge)

    def _find(self, after: str) -> MetadataFound:
        page, following = _Page([]), None
        with self._lock:
            for position, volume, directory in self._directories(after):
                self._look_at(volume, directory, page)
                if page.is_full:
                    following = position
                    break
        if following is None:
            # Said once: a volume that can't be read may have what is missing elsewhere.
            page.unreadable += sum(not volume.holds_chunks for volume in self._store.volumes)
        identity = self._membership.identity
        return MetadataFound(
            datanode=identity.datanode,
            cluster=identity.cluster,
            seq_seen=identity.seq_seen,
            parts=page.parts,
            unreadable=page.unreadable,
            next=following,
        )

    def _directories(self, after: str) -> Iterator[tuple[str, Volume, int]]:
        """The directories with chunks behind a position, each with its own."""
        for number, volume in enumerate(self._store.volumes):
            for directory in range(PARTS):
                position = f"{number:03}/{directory:03}"
                if position > after and volume.holds_chunks:
                    yield position, volume, directory

    def _look_at(self, volume: Volume, directory: int, page: _Page) -> None:
        try:
            chunks = list(volume.chunks_in(directory))
        except OSError:
            page.unreadable += 1
            return
        for chunk in chunks:
            page.files += 1
            try:
                reader = ChunkReader(self._disk, volume.path_of(chunk), chunk)
                hint = decode_hints(reader.read_hints())
            except (DataError, OSError):
                page.unreadable += 1
                continue
            if isinstance(hint, MetadataHint):
                page.parts.append(_described(reader, hint))

    def _read(self, request: ReadMetadata) -> bytes:
        try:
            reader = self._store.open_afresh(request.chunk)
            if not isinstance(decode_hints(reader.read_hints()), MetadataHint):
                raise NotPermitted("the chunk is no part of a backup; read it with a capability")
            if request.offset >= reader.length:
                raise RangeNotSatisfiable(f"the chunk has {reader.length} bytes")
            end = min(request.offset + request.length, reader.length)
            start = request.offset // BLOCK_SIZE * BLOCK_SIZE
            data = reader.read_blocks(start, min(-(-end // BLOCK_SIZE) * BLOCK_SIZE, reader.length))
        except OSError as error:
            if isinstance(error, NotPermitted | DataError):
                raise
            raise CorruptReplica(f"this replica can't be read ({error}); read another one") from error
        return data[request.offset - start : end - start]


def _described(reader: ChunkReader, hint: MetadataHint) -> MetadataPart:
    return MetadataPart(
        chunk=reader.chunk,
        length=reader.length,
        digest=reader.root.hex(),
        what=hint.what,
        from_seq=hint.from_seq,
        to_seq=hint.to_seq,
        part=hint.part,
        parts=hint.parts,
        size=hint.size,
        made_ms=hint.made_ms,
        cluster=hint.cluster,
    )
