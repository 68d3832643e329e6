"""Messages about what datanodes have and no file does: its inspection, and how an operator brings it back."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from dfs.protocol.messages.base import ITEMS_MAX, Digest, Id, IdOrNothing, Length, NodeId, TimeMs
from dfs.protocol.messages.writing import AppendFile, PutFile

ORPHANS_PAGE_MAX = 1000

WhyKept = Literal["young", "history", "safe_mode", "deletion"]
"""young: its writer may still commit it; history: the store may have lost it; safe_mode: nothing is deleted now;
deletion: it is deleted next."""


class ListOrphans(Struct, frozen=True, kw_only=True):
    """One page of the replicas that belong to no file, by the ids of their chunks."""

    after: IdOrNothing = ""
    """The id that the page before ended with."""
    newest_first: bool = False
    limit: Annotated[int, Meta(ge=1, le=ORPHANS_PAGE_MAX)] = 500
    read: bool = False
    """Also give leave to read them."""


class OrphanReplica(Struct, frozen=True, kw_only=True):
    datanode: NodeId
    url: str
    volume: Id
    length: Length
    digest: Digest
    seen_ms: TimeMs
    """When it was first reported."""
    state: Literal["good", "bad"]
    """bad: its datanode has verified it, and it is not what it says."""
    live: bool
    """Whether the datanode answers now."""


class OrphanChunk(Struct, frozen=True, kw_only=True):
    """All replicas of one id that no file has."""

    chunk: Id
    granted_ms: TimeMs
    """When its id was given out."""
    why: WhyKept
    replicas: list[OrphanReplica]
    """Those that can be read first come first."""
    agreed: bool
    """All replicas have the same length and digest. If not, nobody can say which one is right."""
    adoptable: bool
    """No commit can take it any more: it is too old, or from before this history."""
    capability: str = ""
    """Leave to read all of it, if that was asked for and its replicas agree."""


class OrphansPage(Struct, frozen=True, kw_only=True):
    orphans: list[OrphanChunk]
    next: str | None = None
    """`after` of the next page, or None at the end."""
    time_ms: TimeMs
    """The namenode's time."""
    orphan_age_ms: int
    """How old an orphan is when it is worth deleting."""
    history_ms: TimeMs
    """When this history began: at the founding of the cluster, or when a namenode went back in time."""
    unreported: list[str] = []
    """Datanodes that may have more than is known of them: they are away, or have not reported since they came."""
    lineage: Id
    """Of this history."""
    history_seq: int
    """The last change that this store has of the history before; 0: there was none."""


class Adopt(Struct, frozen=True, kw_only=True):
    """Make files of chunks that only datanodes know: all of these actions, or none. Never over an existing path."""

    op_id: Id
    chunks: Annotated[list[Id], Meta(max_length=ITEMS_MAX)]
    """Orphans that become chunks, with the length, digest and replicas that datanodes report of them."""
    actions: Annotated[list[PutFile | AppendFile], Meta(max_length=ITEMS_MAX)]
    """A put must be of a new path, an append of a version. Extents lie in these chunks, or are such as a file has."""
