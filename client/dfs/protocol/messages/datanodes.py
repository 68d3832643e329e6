"""Messages of datanodes: register, heartbeat with its commands, reports, and the answer to a PUT."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from dfs.protocol.messages.base import (
    ITEMS_MAX,
    LIST_MAX,
    REPLICATION_MAX,
    ChunkLength,
    Digest,
    Id,
    IdOrNothing,
    Length,
    NodeId,
    Text,
    TimeMs,
    Token,
    Url,
    Version,
)
from dfs.protocol.messages.writing import Target


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


class ComposedChunk(Struct, frozen=True, kw_only=True):
    """What became of a Compose command."""

    chunk: Id
    length: Length = 0
    digest: IdOrNothing = ""
    receipts: Annotated[list[Token], Meta(max_length=64)] = []
    why: Text = ""
    """Why there is none; "": there is one, and it was read back and found right."""


PULLING_MAX = 1000


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
    composed: Annotated[list[ComposedChunk], Meta(max_length=64)] = []
    beat: Annotated[int, Meta(ge=0)] = 0
    """Higher with each heartbeat of a process: a copy that arrives late must not undo what a later one said. 0: an
    earlier version, which does not count."""
    pulling: Annotated[list[Id], Meta(max_length=PULLING_MAX)] = []
    """Chunks whose Replicate command waits its turn or makes progress."""


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


class ComposeExtent(Struct, frozen=True, array_like=True):
    """A piece of a source whose digest is known."""

    offset: Length
    length: Length
    digest: Digest


class ComposeRun(Struct, frozen=True, array_like=True):
    """The bytes [offset, offset + length) of a source, and where the new chunk has them."""

    offset: Length
    length: Length
    at: Length
    extents: Annotated[list[ComposeExtent], Meta(min_length=1, max_length=ITEMS_MAX)]
    """In the order of their offsets; together they are the run."""


class ComposeSource(Struct, frozen=True, kw_only=True):
    """A chunk of which some bytes go into the new one."""

    chunk: Id
    length: ChunkLength
    digest: Digest
    replicas: Annotated[list[Target], Meta(min_length=1, max_length=REPLICATION_MAX)]
    """Peer URLs, best first."""
    capability: Token
    runs: Annotated[list[ComposeRun], Meta(min_length=1, max_length=ITEMS_MAX)]


class Compose(Struct, frozen=True, kw_only=True, tag_field="do", tag="compose"):
    """Make a new chunk of ranges of others, and store it as the head of its chain. Answered in `Heartbeat.composed`.

    Between the runs are zeros.
    """

    chunk: Id
    length: ChunkLength
    capability: Token
    """To store it; names the chain."""
    sources: Annotated[list[ComposeSource], Meta(min_length=1, max_length=ITEMS_MAX)]


class Scrub(Struct, frozen=True, kw_only=True, tag_field="do", tag="scrub"):
    """Read and verify everything on these volumes, beginning now. `VolumeState.scrub_left` shows how far it is."""

    volumes: Annotated[list[Id], Meta(max_length=64)] = []
    """None: all of them."""


class SendReport(Struct, frozen=True, kw_only=True, tag_field="do", tag="report"):
    """Send a full chunk report soon."""


class UnknownCommand(Struct, frozen=True, kw_only=True, tag_field="do", tag="unknown"):
    """What a datanode makes of a command that only a later version knows. Never sent."""

    what: str


Command = Replicate | DeleteReplicas | CheckReplica | Compose | Scrub | SendReport | UnknownCommand


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
