"""Messages about backups of the namenode's store: how they are asked for, and how they are found without a namenode.

The second kind is for the day on which the store is gone. A datanode answers them before it has registered, and proof
of the join secret stands for the capability that nobody can sign then.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from dfs.protocol.messages.base import ChunkLength, Digest, Id, IdOrNothing, Length, NodeId, Text, TimeMs, Version

METADATA_BYTES_MAX = 4 << 20
"""Bytes of a backup's chunk in one answer."""
METADATA_PARTS_MAX = 1000
"""Chunks of backups in one answer, and as many more as one directory of the last volume has."""
Proof = Annotated[str, Meta(max_length=64)]
"""`capability.metadata_proof`; "" where no secret is needed, or before the challenge is known."""


class BackupNow(Struct, frozen=True, kw_only=True):
    """Make a backup of the whole store now. Answered when it is stored, or after a while: then ask again."""

    since_ms: TimeMs = 0
    """0: begin now; else `since_ms` of the answer before."""


class BackupMade(Struct, frozen=True, kw_only=True):
    """A backup of the whole store that is kept in the cluster."""

    content: int
    """Its content: `locate` tells where its bytes are."""
    seq: Version
    """All changes up to this one are in it."""
    bytes: Length
    made_ms: TimeMs
    seconds: float
    """What it took."""


class BackupAnswer(Struct, frozen=True, kw_only=True):
    since_ms: TimeMs
    """When the backup was asked for, in the namenode's time."""
    made: BackupMade | None = None
    """None: it is still being made."""


class BackupStatus(Struct, frozen=True, kw_only=True):
    """How much would be lost with the store."""

    seq: Version
    """Up to which change a restore would come; 0: there is no backup."""
    made_ms: TimeMs
    """When the newest backup was made, in the namenode's time; 0: there is none."""
    age_s: float | None
    """Seconds since then."""
    behind_s: float
    """Age of the oldest change that no backup has; 0: all changes are backed up."""
    snapshot_age_s: float | None
    """Seconds since the snapshot with which a restore would begin."""
    bytes: Length
    """Of all backups that are kept, counted once for all replicas."""
    interval_s: float
    failure: Text = ""
    """Why the last attempt came to nothing; "": it did not fail."""


# --- without a namenode -----------------------------------------------------------------------------------------


class MetadataParts(Struct, frozen=True, kw_only=True):
    """Which chunks of backups a datanode has. Looks at every chunk file; the answer says how to go on."""

    proof: Proof = ""
    after: Annotated[str, Meta(max_length=128)] = ""
    """`next` of the answer before; "" at the beginning."""


class MetadataPart(Struct, frozen=True, kw_only=True):
    """A chunk of a backup, as its hints describe it. Nothing of it is verified yet."""

    chunk: Id
    length: ChunkLength
    digest: Digest
    what: Literal["snapshot", "changes"]
    from_seq: Version
    to_seq: Version
    part: Length
    parts: Length
    size: Length
    made_ms: TimeMs
    cluster: IdOrNothing


class MetadataFound(Struct, frozen=True, kw_only=True):
    datanode: NodeId
    cluster: Id | None
    """To which the datanode belongs."""
    seq_seen: Version
    """The highest sequence number that any namenode ever showed it."""
    parts: list[MetadataPart]
    unreadable: int = 0
    """Chunk files, and whole volumes, that could not be looked at."""
    next: str | None = None
    """`after` of the next page, or None at the end."""


class ReadMetadata(Struct, frozen=True, kw_only=True):
    """Some bytes of a backup's chunk. Chunks of files are not given out."""

    proof: Proof = ""
    chunk: Id
    offset: Length
    length: Annotated[int, Meta(ge=1, le=METADATA_BYTES_MAX)]


class MetadataBytes(Struct, frozen=True, kw_only=True):
    data: bytes
    """Base64 on the wire; fewer than asked for only at the end of the chunk."""
