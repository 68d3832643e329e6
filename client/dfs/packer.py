"""Packs: many small files in one chunk. Pure: bytes in, packs out.

Separate because what goes together is a decision of its own: a pack costs one replica set and one fsync for each
datanode whatever the number of its files, and all of its files must become visible in the commit that introduces the
chunk. So a pack ends when its bytes are a chunk's or when its files are a commit's.
"""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from dfs.protocol.digests import Buffer, tree_digest
from dfs.protocol.messages import Extent

K = TypeVar("K")

FILES_MAX = 2000
"""Files in one pack: an action and an extent each, and the chunk, fit into one commit (ITEMS_MAX)."""


@dataclass(frozen=True)
class Member:
    """The place of one file's bytes in its pack."""

    offset: int
    length: int
    digest: str

    def extent(self, chunk: str) -> Extent:
        """This place, in the chunk that the pack became."""
        return Extent(chunk, self.offset, self.length, self.digest)


@dataclass
class Pack(Generic[K]):
    """The bytes of one chunk to be, and whose they are."""

    replication: int
    data: bytearray = field(default_factory=bytearray)
    members: list[tuple[K, Member]] = field(default_factory=list)

    @property
    def length(self) -> int:
        return len(self.data)


class Packer(Generic[K]):
    """Fills packs, one at a time for each replication.

    chunk_size  bytes of a full pack
    files_max   files of a full pack
    """

    def __init__(self, chunk_size: int, files_max: int = FILES_MAX) -> None:
        self._chunk_size = chunk_size
        self._files_max = files_max
        self._open: dict[int, Pack[K]] = {}

    def add(self, key: K, data: Buffer, replication: int) -> Pack[K] | None:
        """Put a file of at least one byte and at most a chunk into a pack.

        Returns the pack that is full without it or with it, and is the caller's from now on; or None.
        """
        assert 0 < len(data) <= self._chunk_size, "empty files have no extents, and big ones chunks of their own"
        full: Pack[K] | None = None
        pack = self._open.get(replication)
        if pack is not None and pack.length + len(data) > self._chunk_size:
            full = self._open.pop(replication)
            pack = None
        if pack is None:
            pack = self._open[replication] = Pack(replication)
        pack.members.append((key, Member(pack.length, len(data), tree_digest(data))))
        pack.data += data
        if full is None and len(pack.members) >= self._files_max:
            full = self._open.pop(replication)
        return full

    def finish(self) -> list[Pack[K]]:
        """The packs that are not full. The packer is empty afterwards."""
        packs, self._open = list(self._open.values()), {}
        return packs
