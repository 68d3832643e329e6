"""What a file is made of, and how it is shown. Used by those who write and those who read."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from dfs.protocol.messages.base import REPLICATION_MAX, ChunkLength, Digest, Id, Length, Token


class Extent(Struct, frozen=True):
    """A run of bytes of a file: `length` bytes of a chunk from `offset` on."""

    chunk: Id
    offset: Length
    length: ChunkLength
    digest: Digest
    """The digest tree's root over exactly these bytes."""


class NewChunk(Struct, frozen=True):
    """A chunk that the datanodes acknowledged, with their receipts."""

    id: Id
    length: ChunkLength
    digest: Digest
    receipts: Annotated[list[Token], Meta(min_length=1, max_length=REPLICATION_MAX)]


class Entry(Struct, frozen=True, kw_only=True):
    """A file or directory as listings and `stat` show it."""

    path: str
    name: str
    kind: Literal["file", "directory"]
    size: int
    """Bytes; 0 for a directory."""
    mtime_ns: int
    mode: int
    owner: str
    group: str
    replication: int
    """Replicas wanted; 0 for a directory."""
    version: int
    """The sequence number of the last change of content."""
    etag: str
    """Quoted and strong, as HTTP has it; "" for a directory."""
    inode: int
    attributes: dict[str, str] = {}

    @property
    def mtime(self) -> float:
        """Seconds since the epoch."""
        # An integer, so that the division rounds once: 1e9 would make .193 a .1929998.
        return self.mtime_ns / 1_000_000_000

    @property
    def is_directory(self) -> bool:
        return self.kind == "directory"
