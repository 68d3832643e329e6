"""Messages of operators: inspection, status, and what they decide."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from dfs.protocol.messages.base import Id, Length, NodeId, Path, TimeMs
from dfs.protocol.messages.datanodes import VolumeState
from dfs.protocol.messages.metadata import BackupStatus
from dfs.protocol.messages.reading import ReplicaPlace

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


class Compacting(Struct, frozen=True, kw_only=True):
    """What the rewriting of chunks that are mostly dead has come to since the start of the namenode."""

    under_way: int
    """New chunks that are being composed."""
    composed: int
    """New chunks that files have their bytes in now."""
    chunks_emptied: int
    """Chunks that nothing refers to any more because of that; deleted after the grace of their readers."""
    bytes_saved: int
    """What these had more than the new ones, counted once for all replicas."""
    failed: int
    """Compositions that came to nothing. Their sources are left alone for some minutes."""


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
    unreadable_files: int = 0
    """Files that can't be read now because of missing chunks; counted up to 10 000."""
    backup: BackupStatus | None = None
    """None: the store is not backed up."""
    compaction: Compacting | None = None
    """None: a namenode of an earlier version."""


class CollectGarbage(Struct, frozen=True, kw_only=True):
    """Run the sweeper and the garbage collector now instead of at their next turn. Graces are kept."""


class Collected(Struct, frozen=True, kw_only=True):
    contents_swept: int
    chunks_condemned: int
    orphans_buried: int = 0
    """Ids of replicas that belong to no file."""
    compositions_begun: int = 0
    """New chunks that are being made of what is left of others."""


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
