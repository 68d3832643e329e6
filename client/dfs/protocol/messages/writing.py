"""Messages of those who write: allocate, commit, stage."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from dfs.protocol.messages.base import (
    ITEMS_MAX,
    Attributes,
    ChunkLength,
    Id,
    Length,
    Mode,
    NodeId,
    Path,
    Replication,
    TimeMs,
    TimeNs,
    Token,
    Url,
    Version,
)
from dfs.protocol.messages.files import Extent, NewChunk

SOURCES_MAX = 1000
"""Files that one action joins to another. Bounds its text, and how long it holds the writer."""


class ClusterFacts(Struct, frozen=True, kw_only=True):
    """What a client asks once: who this cluster is, its time, its defaults."""

    cluster: Id
    version: str
    protocol: int
    time_ms: TimeMs
    replication: Replication
    chunk_size_bytes: ChunkLength
    pack_limit_bytes: int
    """Files up to this size travel in packs."""
    gateway_urls: list[str] = []
    """Client URLs of the live datanodes."""
    chunk_commit_window_s: float = 12 * 3600.0
    """How old a chunk may be when it is committed."""


class Allocate(Struct, frozen=True, kw_only=True):
    """Ask for new chunks and the datanodes to send them to."""

    count: Annotated[int, Meta(ge=1, le=64)]
    length: ChunkLength
    """The longest that any of them will be, bytes."""
    replication: Replication
    exclude: Annotated[list[NodeId], Meta(max_length=64)] = []
    """Datanodes that failed this writer a moment ago."""
    writer: NodeId | None = None
    """The datanode on whose machine the writer runs: it becomes the head of the chain."""


class Target(Struct, frozen=True):
    """A datanode and the address at which clients reach it."""

    datanode: NodeId
    url: Url


class Grant(Struct, frozen=True, kw_only=True):
    """Leave to write one chunk through one chain."""

    chunk: Id
    chain: list[Target]
    capability: Token


class Grants(Struct, frozen=True, kw_only=True):
    """The answer to Allocate. Nothing is stored: an unused grant leaves nothing behind."""

    grants: list[Grant]
    write_min: int
    """Receipts without which a commit is refused."""


# --- commit -----------------------------------------------------------------------------------------------------


class PutFile(Struct, frozen=True, kw_only=True, tag_field="do", tag="put"):
    """Make `path` a file of these extents: the old complete version, the new complete version, or nothing."""

    path: Path
    extents: Annotated[list[Extent], Meta(max_length=ITEMS_MAX)] = []
    staged: Annotated[int, Meta(ge=0, lt=1 << 31)] | None = None
    """The number of a file in the draft, instead of `extents`."""
    when: Literal["any", "absent", "version"] = "any"
    """any: create or replace; absent: create only; version: replace only the version `if_version`."""
    if_version: Version = 0
    parents: bool = False
    mode: Mode | None = None
    owner: Annotated[str, Meta(max_length=255)] | None = None
    group: Annotated[str, Meta(max_length=255)] | None = None
    mtime_ns: TimeNs | None = None
    """None: the time of the commit."""
    replication: Replication | None = None
    attributes: Attributes | None = None
    """None keeps nothing of a replaced file's attributes: they live with the content."""


class AppendFile(Struct, frozen=True, kw_only=True, tag_field="do", tag="append"):
    """Add these extents behind the end of a file."""

    path: Path
    extents: Annotated[list[Extent], Meta(max_length=ITEMS_MAX)]
    drop_tail: bool = False
    """Replace the last extent by `extents` (they begin with its bytes). Needs `if_version`."""
    if_version: Version | None = None
    if_inode: Annotated[int, Meta(ge=1, lt=1 << 62)] | None = None
    """Only this file (`Entry.inode`), not another one that has its path by now."""
    create: bool = False
    """Make the file if it does not exist."""
    parents: bool = False
    replication: Replication | None = None


class Concat(Struct, frozen=True, kw_only=True, tag_field="do", tag="concat"):
    """Move the contents of other files behind the end of a file, in their order; they are gone then. No data moves."""

    path: Path
    sources: Annotated[list[Path], Meta(min_length=1, max_length=SOURCES_MAX)]
    if_version: Version | None = None
    """The version of `path`."""


class Truncate(Struct, frozen=True, kw_only=True, tag_field="do", tag="truncate"):
    """Make a file shorter. No data moves: the extent in which the new end lies is cut."""

    path: Path
    size: Length
    tail: Annotated[list[Extent], Meta(max_length=2)] = []
    """What is left of the extent that is cut, with the digests of its parts; none if the end is between two extents."""
    if_version: Version
    """The version that `tail` belongs to."""


class MakeDirectory(Struct, frozen=True, kw_only=True, tag_field="do", tag="mkdir"):
    path: Path
    parents: bool = False
    exist_ok: bool = False
    mode: Mode | None = None


class Remove(Struct, frozen=True, kw_only=True, tag_field="do", tag="remove"):
    """Detach a file or a directory; O(1) for trees of any size."""

    path: Path
    recursive: bool = False
    missing_ok: bool = False
    kind: Literal["any", "file", "directory"] = "any"
    if_version: Version | None = None


class Rename(Struct, frozen=True, kw_only=True, tag_field="do", tag="rename"):
    source: Path
    target: Path
    overwrite: bool = False
    """Replace a file, or an empty directory by a directory."""
    parents: bool = False


class Copy(Struct, frozen=True, kw_only=True, tag_field="do", tag="copy"):
    """A file that shares the source's extents; no data moves."""

    source: Path
    target: Path
    overwrite: bool = False
    parents: bool = False
    if_version: Version | None = None
    """The version of the source."""


class SetAttributes(Struct, frozen=True, kw_only=True, tag_field="do", tag="set"):
    """Change what describes a file or directory. None leaves as it is. The version of the content stays."""

    path: Path
    mode: Mode | None = None
    owner: Annotated[str, Meta(max_length=255)] | None = None
    group: Annotated[str, Meta(max_length=255)] | None = None
    mtime_ns: TimeNs | None = None
    replication: Replication | None = None
    attributes: Attributes | None = None
    """Merged into the existing ones."""
    drop_attributes: Annotated[list[Annotated[str, Meta(max_length=255)]], Meta(max_length=64)] = []


Action = PutFile | AppendFile | Concat | Truncate | MakeDirectory | Remove | Rename | Copy | SetAttributes
Actions = Annotated[list[Action], Meta(max_length=ITEMS_MAX)]
NewChunks = Annotated[list[NewChunk], Meta(max_length=ITEMS_MAX)]


class Commit(Struct, frozen=True, kw_only=True):
    """All of these actions, or none. The chunks are introduced by this commit and by no other."""

    op_id: Id
    actions: Actions
    chunks: NewChunks = []
    draft: Id | None = None
    """Publish this draft: its staged actions run before `actions`."""


class Outcome(Struct, frozen=True):
    """What one action did."""

    path: str
    version: int
    etag: str = ""
    changed: bool = True
    """False where nothing had to be done (mkdir of what exists, remove of what is missing)."""


class Committed(Struct, frozen=True, kw_only=True):
    seq: int
    outcomes: list[Outcome]
    """One for each action, the draft's staged ones first."""


class StagedExtent(Struct, frozen=True):
    file: Annotated[int, Meta(ge=0, lt=1 << 31)]
    """Which file of the draft; PutFile.staged names it."""
    index: Annotated[int, Meta(ge=0, lt=1 << 62)]
    """Its place among the file's extents; need not be dense. Staging a place again replaces it."""
    extent: Extent


class Stage(Struct, frozen=True, kw_only=True):
    """Add extents and actions to a draft, which the first call makes. Invisible until a commit publishes it."""

    op_id: Id
    draft: Id
    extents: Annotated[list[StagedExtent], Meta(max_length=ITEMS_MAX)] = []
    chunks: NewChunks = []
    actions: Actions = []
    replication: Replication | None = None
    """The replicas that the chunks of this call were granted for; None: the cluster's default."""


class Staged(Struct, frozen=True, kw_only=True):
    extents: int
    """Extents in the draft now."""
    actions: int


class DropDraft(Struct, frozen=True, kw_only=True):
    op_id: Id
    draft: Id
