"""Messages of those who read: layouts, listings, and where the replicas are."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from dfs.protocol.messages.base import LIST_MAX, OPEN_MANY_MAX, Digest, Id, Length, NodeId, Path, Text, TimeMs, Token
from dfs.protocol.messages.files import Entry
from dfs.protocol.messages.writing import Target


class ChunkSource(Struct, frozen=True, kw_only=True):
    """Where a chunk is, and what it must be."""

    length: int
    digest: Digest
    replicas: list[Target]
    """Best first; empty: none can be reached now."""


class ReadGrant(Struct, frozen=True):
    """Leave to read the bytes [start, end) of a chunk from any of its replicas."""

    chunk: Id
    start: int
    end: int
    capability: Token
    joined: bool = False
    """Only the extents that name it may be read, not what lies between them."""


class LayoutExtent(Struct, frozen=True):
    """An extent at its place in the file."""

    position: int
    """Offset in the file, bytes."""
    chunk: Id
    offset: int
    length: int
    digest: Digest
    grant: int
    """Index into the answer's grants; that range contains this extent."""


class Open(Struct, frozen=True, kw_only=True):
    path: Path
    offset: Length = 0
    length: Length | None = None
    """Bytes of the window; None: to the end. The answer may hold less: go on with locate."""


class OpenMany(Struct, frozen=True, kw_only=True):
    paths: Annotated[list[Path], Meta(max_length=OPEN_MANY_MAX)]
    joined: bool = False
    """Whether the reader knows what to do with joined grants, which are fewer."""


class Locate(Struct, frozen=True, kw_only=True):
    """More extents, or fresh capabilities, of a content that `open` returned, whatever became of its path."""

    content: Annotated[int, Meta(ge=0, lt=1 << 62)]
    offset: Length = 0
    length: Length | None = None


class Layout(Struct, frozen=True, kw_only=True):
    content: int
    size: int
    extents: list[LayoutExtent]
    chunks: dict[str, ChunkSource]
    grants: list[ReadGrant]
    next_offset: int | None = None
    """Where the window that was asked for goes on, or None if this is all of it."""
    expires_ms: TimeMs
    """When the capabilities end, in the namenode's time."""


class Opened(Struct, frozen=True, kw_only=True):
    entry: Entry
    layout: Layout


class OpenedFile(Struct, frozen=True, kw_only=True):
    """One answer of open_many; `extents` index the shared `grants` of the whole answer."""

    entry: Entry | None = None
    content: int = 0
    extents: list[LayoutExtent] = []
    complete: bool = True
    """False: the file has more extents than fit; open it alone."""
    code: str = ""
    """An error's code where there is no entry."""
    message: str = ""


class OpenedMany(Struct, frozen=True, kw_only=True):
    files: list[OpenedFile]
    chunks: dict[str, ChunkSource]
    grants: list[ReadGrant]
    expires_ms: TimeMs


class Stat(Struct, frozen=True, kw_only=True):
    path: Path


class StatMany(Struct, frozen=True, kw_only=True):
    paths: Annotated[list[Path], Meta(max_length=OPEN_MANY_MAX)]


class EntriesFound(Struct, frozen=True):
    entries: list[Entry | None]
    """In the order asked; None where there is nothing."""


class ListDirectory(Struct, frozen=True, kw_only=True):
    """One page of a directory in UTF-8 byte order; a file lists itself."""

    path: Path
    after: Annotated[str, Meta(max_length=255)] = ""
    limit: Annotated[int, Meta(ge=1, le=LIST_MAX)] = 1000


class Listing(Struct, frozen=True, kw_only=True):
    entries: list[Entry]
    next: str | None = None
    """`after` of the next page, or None at the end."""


class Usage(Struct, frozen=True, kw_only=True):
    files: int
    directories: int
    """Counts the path itself if it is a directory."""
    bytes: int
    replicated_bytes: int
    """Bytes times the replicas that are wanted."""


# --- replicas ---------------------------------------------------------------------------------------------------


class ReplicaPlace(Struct, frozen=True, kw_only=True):
    datanode: NodeId
    url: str
    volume: str
    state: Literal["good", "bad"]
    live: bool
    """Whether the datanode answers now."""


class ChunkPlaces(Struct, frozen=True, kw_only=True):
    id: Id
    length: int
    digest: Digest
    replication: int
    replicas: list[ReplicaPlace]


class FileExtent(Struct, frozen=True, kw_only=True):
    position: int
    chunk: Id
    offset: int
    length: int
    digest: Digest


class FilePlaces(Struct, frozen=True, kw_only=True):
    """A file with its extents, and where every replica of its chunks is."""

    entry: Entry
    extents: list[FileExtent]
    chunks: list[ChunkPlaces]
    next_offset: int | None = None


class BadReplica(Struct, frozen=True, kw_only=True):
    """A reader's word that a replica is bad. The namenode has it checked before it acts: clients can lie."""

    chunk: Id
    datanode: NodeId
    why: Text
