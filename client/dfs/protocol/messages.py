"""The messages of the protocol, each with its bounds. JSON on the wire; decoding checks every bound.

Unknown fields are ignored, so that neighbouring versions can talk. Limits sit here, beside the field that they bound,
so that an oversized list is refused while it is decoded and never reaches an operation.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

ITEMS_MAX = 4096
"""Actions, chunks or extents in one message. Bounds how long one transaction holds the writer."""
LIST_MAX = 10_000
"""Entries in one page of a listing or a chunk report."""
OPEN_MANY_MAX = 1000
REPLICATION_MAX = 16
CHUNK_SIZE_MIN = 64 << 10
"""Bytes; below this, the rows of a file would outweigh its bytes."""
CHUNK_SIZE_MAX = 1 << 30
CHUNK_SIZE_DEFAULT = 64 << 20
EXTENTS_WINDOW_MAX = 4096

Id = Annotated[str, Meta(min_length=32, max_length=32, pattern="^[0-9a-f]{32}$", description="32 hex digits")]
IdOrNothing = Annotated[str, Meta(max_length=32, pattern="^([0-9a-f]{32})?$", description="32 hex digits, or none")]
Digest = Annotated[str, Meta(min_length=32, max_length=32, pattern="^[0-9a-f]{32}$", description="xxh3_128 root")]
Path = Annotated[str, Meta(min_length=1, max_length=4096, description="absolute, UTF-8, at most 4096 bytes")]
NodeId = Annotated[str, Meta(min_length=1, max_length=64, pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Url = Annotated[str, Meta(min_length=8, max_length=300, pattern="^https?://")]
Token = Annotated[str, Meta(min_length=1, max_length=4096)]
Text = Annotated[str, Meta(max_length=1024)]
Length = Annotated[int, Meta(ge=0, le=(1 << 62))]
ChunkLength = Annotated[int, Meta(ge=1, le=CHUNK_SIZE_MAX)]
Replication = Annotated[int, Meta(ge=1, le=REPLICATION_MAX)]
Mode = Annotated[int, Meta(ge=0, le=0o7777)]
TimeNs = Annotated[int, Meta(ge=-(1 << 62), le=(1 << 62))]
TimeMs = Annotated[int, Meta(ge=0, lt=(1 << 48))]
Version = Annotated[int, Meta(ge=0, lt=(1 << 62))]
Attributes = Annotated[
    dict[Annotated[str, Meta(max_length=255)], Annotated[str, Meta(max_length=65536)]], Meta(max_length=64)
]


class Empty(Struct, frozen=True):
    """A message that says nothing but that it came."""


# --- what a file is made of -------------------------------------------------------------------------------------


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


# --- the cluster as a client sees it ----------------------------------------------------------------------------


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
    create: bool = False
    """Make the file if it does not exist."""
    parents: bool = False
    replication: Replication | None = None


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


Action = PutFile | AppendFile | MakeDirectory | Remove | Rename | Copy | SetAttributes
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


# --- reading ----------------------------------------------------------------------------------------------------


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


# --- inspection -------------------------------------------------------------------------------------------------

HealthState = Literal["healthy", "under_replicated", "corrupt", "unavailable", "missing"]
"""Of a chunk, and of a file as its worst chunk is. corrupt: readable, and one of its replicas is bad; unavailable:
every good replica is on a datanode that is away; missing: no good replica is known anywhere."""


class Fsck(Struct, frozen=True, kw_only=True):
    """Inspect one page of the files at and below a path, in the order of a walk; the answer says how to go on."""

    path: Path = "/"
    after: Annotated[str, Meta(max_length=4096)] = ""
    """The path that the page before ended with; "" at the beginning."""
    position: Length = 0
    """Where in the file `after` the inspection goes on, bytes; 0: behind that file."""
    all_files: bool = False
    """Also name the files that are healthy."""
    repair: bool = False
    """Have what is wrong looked at and repaired before other work."""


class ChunkHealth(Struct, frozen=True, kw_only=True):
    id: Id
    length: int
    state: HealthState
    replication: int
    replicas: list[ReplicaPlace]


class FileHealth(Struct, frozen=True, kw_only=True):
    """A file, or a part of one that is too long for a page: the parts of one path follow each other."""

    path: str
    size: int
    state: HealthState
    chunks: list[ChunkHealth]
    """Those that are not healthy; all of them if all files were asked for."""
    complete: bool = True
    """False: the next page goes on with this file."""


class FsckPage(Struct, frozen=True, kw_only=True):
    files: list[FileHealth]
    """The files that are not healthy, or all of them if that was asked for."""
    files_seen: int
    directories_seen: int
    bytes_seen: int
    repairs: int = 0
    """Chunks that are now in the queue for repair because of this call."""
    next: str | None = None
    """`after` of the next page, or None at the end."""
    next_position: int = 0


# --- datanodes --------------------------------------------------------------------------------------------------


class VolumeState(Struct, frozen=True, kw_only=True):
    id: Id
    state: Literal["in_service", "full", "read_only", "failed"]
    capacity_bytes: Length
    free_bytes: Length
    """What new chunks may use: the reserve is already taken off."""
    used_bytes: Length = 0
    """Of chunks."""
    read_errors: Length = 0
    """Failed reads since the datanode started."""
    scrub_age_s: Annotated[float, Meta(ge=0)] = 0.0
    """Every byte of it was verified, or written, within so many seconds."""
    scrub_left: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """The share of it that is due to be verified and was not yet: falls to 0 while a scrub that was asked for runs."""


Durability = Literal["sync", "batch", "none"]
"""What a datanode's receipts mean: synced; synced together with others; or only in its memory yet."""
Volumes = Annotated[list[VolumeState], Meta(min_length=1, max_length=64)]


class Register(Struct, frozen=True, kw_only=True):
    """A datanode begins a life."""

    datanode: NodeId
    boot: Id
    """Random for each process: a repeated registration of one life is recognised."""
    cluster: Id | None
    """None: this datanode has never belonged to a cluster."""
    lineage: Id | None = None
    seq_seen: Version = 0
    """The highest sequence number that any namenode ever showed it."""
    peer_url: Url
    client_url: Url
    rack: Annotated[str, Meta(max_length=255)] = "default"
    version: Annotated[str, Meta(max_length=64)]
    join_secret: Annotated[str, Meta(max_length=512)] = ""
    proof: Annotated[str, Meta(max_length=128)] = ""
    """Hex MAC of the datanode's key over `register_proof`; needed once the id is known."""
    volumes: Volumes
    durability: Durability = "sync"


class Registered(Struct, frozen=True, kw_only=True):
    cluster: Id
    lineage: Id
    key: str
    """Hex, 32 bytes: signs receipts, checks capabilities. Kept with the datanode's identity."""
    incarnation: int
    time_ms: TimeMs
    seq: int
    heartbeat_interval_s: float
    report_interval_s: float


class StoredReplica(Struct, frozen=True, kw_only=True):
    """A replica that came by pull and is durable."""

    chunk: Id
    length: ChunkLength
    digest: Digest
    volume: Id


class CheckedReplica(Struct, frozen=True, kw_only=True):
    """What a verification on the spot found."""

    chunk: Id
    good: bool
    why: Text = ""


class Heartbeat(Struct, frozen=True, kw_only=True):
    datanode: NodeId
    incarnation: int
    boot: Id
    lineage: Id
    seq_seen: Version
    volumes: Volumes
    active_streams: Annotated[int, Meta(ge=0)] = 0
    members_version: int = -1
    """The membership that it knows; a newer one comes with the answer."""
    stored: Annotated[list[StoredReplica], Meta(max_length=1000)] = []
    deleted: Annotated[list[Id], Meta(max_length=LIST_MAX)] = []
    """Chunks that are gone by command (or were not there)."""
    checked: Annotated[list[CheckedReplica], Meta(max_length=1000)] = []
    failed: Annotated[list[Id], Meta(max_length=1000)] = []
    """Chunks whose Replicate command did not work."""
    suspects: Annotated[list[NodeId], Meta(max_length=64)] = []
    """Peers that failed it since the last heartbeat."""
    durability: Durability = "sync"


class Member(Struct, frozen=True):
    """A datanode as its peers reach it. The only source of next-hop addresses."""

    datanode: NodeId
    peer_url: Url


class Replicate(Struct, frozen=True, kw_only=True, tag_field="do", tag="replicate"):
    """Pull this chunk and verify it against `digest`."""

    chunk: Id
    length: ChunkLength
    digest: Digest
    sources: Annotated[list[Target], Meta(min_length=1, max_length=REPLICATION_MAX)]
    """Peer URLs, best first."""
    capability: Token


class DeleteReplicas(Struct, frozen=True, kw_only=True, tag_field="do", tag="delete"):
    """Move these to the local trash. Answered in `Heartbeat.deleted`."""

    chunks: Annotated[list[Id], Meta(max_length=1000)]
    bad: bool = False
    """They are bad, and have their replacement: they are kept in quarantine instead."""


class CheckReplica(Struct, frozen=True, kw_only=True, tag_field="do", tag="check"):
    """Read this replica whole and say whether it is right. Answered in `Heartbeat.checked`."""

    chunk: Id
    length: ChunkLength
    digest: Digest


class Scrub(Struct, frozen=True, kw_only=True, tag_field="do", tag="scrub"):
    """Read and verify everything on these volumes, beginning now. `VolumeState.scrub_left` shows how far it is."""

    volumes: Annotated[list[Id], Meta(max_length=64)] = []
    """None: all of them."""


class SendReport(Struct, frozen=True, kw_only=True, tag_field="do", tag="report"):
    """Send a full chunk report soon."""


Command = Replicate | DeleteReplicas | CheckReplica | Scrub | SendReport


class HeartbeatAnswer(Struct, frozen=True, kw_only=True):
    time_ms: TimeMs
    seq: int
    lineage: Id
    epoch: int
    """Of the leader that sends the commands; a lower one than before is ignored."""
    commands: list[Command] = []
    members_version: int
    members: list[Member] | None = None
    """None: what the datanode knows is still true."""


class ReportedReplica(Struct, frozen=True, array_like=True):
    chunk: Id
    length: Length
    digest: Digest
    volume: Id


class ChunkReport(Struct, frozen=True, kw_only=True):
    """One page of what a datanode has, as of a sequence number.

    It speaks for the ids in (after, up_to] on the volumes named: what is not listed there is not there.
    """

    datanode: NodeId
    incarnation: int
    boot: Id
    """Of the life that speaks: only the datanode itself knows it, so nobody else reports in its name."""
    as_of: Version
    """The namenode's sequence number before the scan began."""
    after: IdOrNothing
    up_to: IdOrNothing
    """ "" stands for the end of all ids."""
    volumes: Annotated[list[Id], Meta(max_length=64)]
    """Volumes that were scanned completely; the others' chunks are unavailable, not absent."""
    replicas: Annotated[list[ReportedReplica], Meta(max_length=LIST_MAX)]


class RangeDigest(Struct, frozen=True, array_like=True):
    """What a datanode has of the ids in (after, up_to], as one number."""

    after: IdOrNothing
    up_to: IdOrNothing
    count: Length
    digest: Digest
    """xxh3_128 over id, volume, length (8 bytes, little-endian) and digest of each replica, in the order of the ids."""


class RangeReport(Struct, frozen=True, kw_only=True):
    """What a datanode has, as digests of ranges of ids: only the ranges that differ need their pages sent."""

    datanode: NodeId
    incarnation: int
    boot: Id
    as_of: Version
    ranges: Annotated[list[RangeDigest], Meta(min_length=1, max_length=LIST_MAX)]
    """In order and without gaps; the last one's `up_to` is the end of all ids."""


class RangesDiffering(Struct, frozen=True, kw_only=True):
    wanted: list[int]
    """Indices of the ranges whose pages must be sent. If there is any, the last range is among them: its page ends
    the report."""


class StoredChunk(Struct, frozen=True, kw_only=True):
    """A datanode's answer to a PUT: the receipts of all replicas that are durable, and who failed."""

    receipts: list[str]
    failed: list["FailedHop"] = []


class FailedHop(Struct, frozen=True):
    datanode: str
    why: str
    culprit: bool = True
    """False: it lay behind the culprit and was never tried."""


# --- status -----------------------------------------------------------------------------------------------------


AdminState = Literal["in_service", "draining", "decommissioned", "maintenance"]


class DatanodeStatus(Struct, frozen=True, kw_only=True):
    id: str
    url: str
    peer_url: str
    rack: str
    state: Literal["live", "stale", "dead"]
    seconds_since_heartbeat: float | None
    version: str
    capacity_bytes: int
    free_bytes: int
    used_bytes: int
    replicas: int
    volumes: list[VolumeState]
    admin_state: AdminState = "in_service"
    """What an operator decided about it."""
    maintenance_until_ms: int = 0
    """When its maintenance ends, in the namenode's time."""
    chunks_left: int | None = None
    """While it is drained: chunks that do not have all their replicas elsewhere yet; None: not counted yet."""
    drain_eta_s: float | None = None
    """Seconds until it is drained at the present rate; None: not known."""


class Balancing(Struct, frozen=True, kw_only=True):
    """How far the balance has come."""

    threshold: float
    """How far the fullest and the emptiest datanode may be from the mean, as a share of their capacity."""
    spread: float
    """How far the one that is farthest is now."""
    moving: int
    """Chunks under way."""
    moved: int
    """Chunks that were moved since the start of the namenode."""


class Status(Struct, frozen=True, kw_only=True):
    cluster: Id
    version: str
    uptime_s: float
    seq: int
    files: int
    directories: int
    bytes: int
    chunks: int
    replicas: int
    under_replicated: int
    missing: int
    """Chunks without any good replica on a live datanode, among those known to need work."""
    waiting_for_deletion: int
    drafts: int
    safe_modes: list[str]
    """Why deletion and repair are held back now; empty: they are not."""
    datanodes: list[DatanodeStatus]
    replication: int
    write_min: int
    durability: str = "sync"
    """The weakest that any datanode reports."""
    repair_rate: float = 0.0
    """Replicas made anew each second, over the last minute."""
    repair_eta_s: float | None = None
    """Seconds until every chunk has its replicas again, at that rate; None: nothing to do, or not known."""
    moving: int = 0
    """Chunks that have all their replicas, and wait for one more because a datanode is being drained."""
    surplus: int = 0
    """Chunks with more replicas than they want; trimmed once the others are verified."""
    balance: Balancing | None = None
    """None: no balance goes on."""


class CollectGarbage(Struct, frozen=True, kw_only=True):
    """Run the sweeper and the garbage collector now instead of at their next turn. Graces are kept."""


class Collected(Struct, frozen=True, kw_only=True):
    contents_swept: int
    chunks_condemned: int


# --- what operators decide --------------------------------------------------------------------------------------


class SetDatanodeState(Struct, frozen=True, kw_only=True):
    """Take a datanode out of service, or back into it."""

    datanode: NodeId
    state: Literal["in_service", "draining", "maintenance"]
    """draining: copy what it has elsewhere, until it is `decommissioned`; maintenance: it will be away for a while,
    and what it has is not made anew meanwhile."""
    until_ms: TimeMs = 0
    """When the maintenance ends, in the namenode's time."""


class DatanodeStateSet(Struct, frozen=True, kw_only=True):
    datanode: NodeId
    state: AdminState
    """draining may have become decommissioned already."""
    until_ms: TimeMs = 0


class ForgetDatanode(Struct, frozen=True, kw_only=True):
    """A datanode that is dead or decommissioned will not come back."""

    datanode: NodeId


class Forgotten(Struct, frozen=True, kw_only=True):
    replicas: int
    """Replicas that went with it."""
    last_ones: int
    """Of those, the last good ones that were known of a chunk."""


class SetSafeMode(Struct, frozen=True, kw_only=True):
    """Hold deletion, trimming and repair back, or go on with them. Other reasons to hold them back stay."""

    on: bool


class SafeModes(Struct, frozen=True, kw_only=True):
    modes: list[str]
    """Why deletion and repair are held back now; empty: they are not."""


class ResolveHistory(Struct, frozen=True, kw_only=True):
    """An operator has looked at what the store does not know: it may be deleted again."""


class HistoryResolved(Struct, frozen=True, kw_only=True):
    resolved: bool
    """False: there was nothing to resolve."""


class ScrubDatanodes(Struct, frozen=True, kw_only=True):
    """Have everything read and verified now. How far it is, `VolumeState.scrub_left` shows."""

    datanodes: Annotated[list[NodeId], Meta(max_length=1000)] = []
    """Empty: all that are live."""


class Balance(Struct, frozen=True, kw_only=True):
    """Start or stop moving chunks from fuller to emptier datanodes. It ends by itself when they are even."""

    do: Literal["start", "stop"]
    threshold: Annotated[float, Meta(ge=0.01, le=0.5)] = 0.1
    """How far from the mean a datanode may be, as a share of its capacity."""
