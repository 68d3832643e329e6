"""The operations table: every call of the protocol, once.

Routes, the client's calls, the documentation and the contract tests all follow from it. No URL is spelled anywhere
else. An operation with a `request` type takes and returns JSON; the two chunk operations carry bytes, and their
bodies are described in `chunk_format`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

import msgspec

from dfs.protocol import errors as e
from dfs.protocol import messages as m
from dfs.protocol.commands import decode_heartbeat_answer

Q = TypeVar("Q")
A = TypeVar("A")

BODY_BYTES_MAX = 16 << 20
"""The largest JSON body; ITEMS_MAX actions with long paths fit into it."""

RANGES_MAX = 256
RANGES_BYTES_MAX = 4 << 20
"""Of one GET that names ranges: its head stays well below what a server takes, and its answer is one piece."""


@dataclass(frozen=True)
class Operation(Generic[Q, A]):
    """One row of the table."""

    name: str
    role: Literal["namenode", "datanode"]
    method: Literal["GET", "PUT", "POST"]
    path: str
    """Of the URL; `{chunk}` stands for 32 hex digits."""
    request: type[Q]
    response: type[A]
    idempotent: bool
    """Whether a call whose outcome is unknown may be repeated. An op id makes any operation so."""
    summary: str
    errors: tuple[type[e.DfsError], ...] = ()
    """Beside those that any call may meet: InvalidRequest, TooLarge, Unavailable, and the PeerErrors."""
    body: Literal["json", "bytes"] = "json"
    decode: Callable[[bytes], A] | None = None
    """How the answer is decoded, if not simply as `response`. Raises msgspec.DecodeError."""


def _namenode(
    name: str, request: type[Q], response: type[A], summary: str, *errors: type[e.DfsError], idempotent: bool = True
) -> Operation[Q, A]:
    return Operation(name, "namenode", "POST", f"/v1/{name}", request, response, idempotent, summary, errors)


_PATH_ERRORS = (e.InvalidName, e.FileNotFound, e.NotADirectory)
_WRITE_ERRORS = (e.OperationMismatch, e.OperationExpired, e.ReceiptRefused, e.ChunkExists, e.NoSpace)

CLUSTER = _namenode("cluster", m.Empty, m.ClusterFacts, "Who this cluster is, its time and its defaults.")
ALLOCATE = _namenode(
    "allocate", m.Allocate, m.Grants, "New chunk ids with chains and capabilities. Stores nothing.",
    e.NotEnoughDatanodes, e.NoSpace,
)  # fmt: skip
COMMIT = _namenode(
    "commit", m.Commit, m.Committed, "A list of actions in one transaction: all of it, or nothing.",
    *_PATH_ERRORS, e.FileExists, e.IsADirectory, e.DirectoryNotEmpty, e.PreconditionFailed, e.Conflict, *_WRITE_ERRORS,
)  # fmt: skip
STAGE = _namenode(
    "stage", m.Stage, m.Staged, "Add extents and actions to a draft, which a commit publishes.", *_WRITE_ERRORS
)
DROP_DRAFT = _namenode("drop_draft", m.DropDraft, m.Empty, "Throw a draft away; one that is gone is no error.")
OPEN = _namenode(
    "open", m.Open, m.Opened, "A file's entry and the layout of a window of it.", *_PATH_ERRORS, e.IsADirectory
)
OPEN_MANY = _namenode("open_many", m.OpenMany, m.OpenedMany, "Entries and whole layouts of many small files at once.")
LOCATE = _namenode(
    "locate", m.Locate, m.Layout, "More of a content that was opened, whatever became of its path.", e.VersionGone
)
STAT = _namenode("stat", m.Stat, m.Entry, "One entry.", *_PATH_ERRORS)
STAT_MANY = _namenode("stat_many", m.StatMany, m.EntriesFound, "Many entries; what is missing is null.", e.InvalidName)
LIST = _namenode("list", m.ListDirectory, m.Listing, "One page of a directory in UTF-8 byte order.", *_PATH_ERRORS)
USAGE = _namenode("usage", m.Stat, m.Usage, "Files, directories and bytes at and below a path.", *_PATH_ERRORS)
PLACES = _namenode(
    "places", m.Open, m.FilePlaces, "A file's extents and where each replica is.", *_PATH_ERRORS, e.IsADirectory
)
FSCK = _namenode("fsck", m.Fsck, m.FsckPage, "One page of the health of files, in the order of a walk.", *_PATH_ERRORS)
ORPHANS = _namenode(
    "orphans", m.ListOrphans, m.OrphansPage, "One page of what datanodes have and no file does, with why it is kept."
)
ADOPT = _namenode(
    "adopt", m.Adopt, m.Committed, "Make files of orphans: all of it, or nothing. Never over an existing path.",
    *_PATH_ERRORS, e.FileExists, e.IsADirectory, e.PreconditionFailed, e.Conflict, e.OperationMismatch,
    e.OperationExpired,
)  # fmt: skip
BAD_REPLICA = _namenode("bad_replica", m.BadReplica, m.Empty, "A reader's word that a replica is bad; checked first.")
STATUS = _namenode("status", m.Empty, m.Status, "Counts, health, and the datanodes.")
COLLECT_GARBAGE = _namenode("collect_garbage", m.CollectGarbage, m.Collected, "Sweep and collect now.")

REGISTER = _namenode(
    "register", m.Register, m.Registered, "A datanode begins a life: it gets its key and its incarnation.",
    e.NotPermitted, e.Conflict,
)  # fmt: skip
HEARTBEAT = replace(
    _namenode(
        "heartbeat", m.Heartbeat, m.HeartbeatAnswer, "A datanode is alive; commands ride on the answer.",
        e.StaleIncarnation, e.Conflict, idempotent=False,
    ),
    decode=decode_heartbeat_answer,
)  # fmt: skip
SET_DATANODE_STATE = _namenode(
    "set_datanode_state", m.SetDatanodeState, m.DatanodeStateSet,
    "Drain a datanode, send it into maintenance, or take it back into service.", e.Conflict,
)  # fmt: skip
FORGET_DATANODE = _namenode(
    "forget_datanode", m.ForgetDatanode, m.Forgotten,
    "A datanode that is dead or decommissioned will not come back.", e.Conflict, idempotent=False,
)  # fmt: skip
SET_SAFE_MODE = _namenode("set_safe_mode", m.SetSafeMode, m.SafeModes, "Hold deletion and repair back, or go on.")
RESOLVE_HISTORY = _namenode(
    "resolve_history", m.ResolveHistory, m.HistoryResolved, "What the store does not know may be deleted again."
)
BACKUP_NOW = _namenode(
    "backup_now", m.BackupNow, m.BackupAnswer, "Back the whole store up, now; asked again until that is done.",
    e.NotEnoughDatanodes, e.NoSpace, e.Conflict,
)  # fmt: skip
SCRUB = _namenode("scrub", m.ScrubDatanodes, m.Empty, "Have datanodes verify all that they have, now.")
BALANCE = _namenode("balance", m.Balance, m.Empty, "Start or stop moving chunks to emptier datanodes.")
REPORT_RANGES = _namenode(
    "report_ranges", m.RangeReport, m.RangesDiffering, "What a datanode has, as digests of ranges of ids.",
    e.StaleIncarnation,
)  # fmt: skip
REPORT = _namenode("report", m.ChunkReport, m.Empty, "One page of what a datanode has.", e.StaleIncarnation)

PUT_CHUNK = Operation(
    "put_chunk", "datanode", "PUT", "/v1/chunks/{chunk}", m.Empty, m.StoredChunk, False,
    "Store a chunk and forward it along its chain. Body: the data, then the wire footer.",
    (e.NotPermitted, e.ChunkExists, e.DigestMismatch, e.NoSpace), body="bytes",
)  # fmt: skip
GET_CHUNK = Operation(
    "get_chunk", "datanode", "GET", "/v1/chunks/{chunk}", m.Empty, m.Empty, True,
    "Verified bytes. Query: `offset`, `length`, and `mode`: `exact`, `blocks`, or `table` (the table, then blocks); or "
    "`mode=blocks` and `ranges=0-16384,49152-65536`: runs of whole blocks, in order, one behind the other; or "
    "`mode=exact` and `ranges`: the same, of any bytes; or only "
    "`mode=hints`: the recovery hints, for whoever may read all of the chunk.",
    (e.NotPermitted, e.ReplicaNotFound, e.CorruptReplica, e.RangeNotSatisfiable), body="bytes",
)  # fmt: skip
METADATA_PARTS = Operation(
    "metadata_parts", "datanode", "POST", "/v1/metadata_parts", m.MetadataParts, m.MetadataFound, True,
    "Which chunks of backups of the namenode's store this datanode has. Needs no namenode.", (e.NotPermitted,),
)  # fmt: skip
READ_METADATA = Operation(
    "read_metadata", "datanode", "POST", "/v1/read_metadata", m.ReadMetadata, m.MetadataBytes, True,
    "Verified bytes of a backup's chunk. Needs no namenode.",
    (e.NotPermitted, e.ReplicaNotFound, e.CorruptReplica, e.RangeNotSatisfiable),
)  # fmt: skip

OPERATIONS: tuple[Operation[Any, Any], ...] = (
    CLUSTER, ALLOCATE, COMMIT, STAGE, DROP_DRAFT, OPEN, OPEN_MANY, LOCATE, STAT, STAT_MANY, LIST, USAGE, PLACES,
    FSCK, ORPHANS, ADOPT, BAD_REPLICA, STATUS, COLLECT_GARBAGE, SET_DATANODE_STATE, FORGET_DATANODE, SET_SAFE_MODE,
    RESOLVE_HISTORY, SCRUB, BALANCE, BACKUP_NOW, REGISTER, HEARTBEAT, REPORT, REPORT_RANGES, PUT_CHUNK, GET_CHUNK,
    METADATA_PARTS, READ_METADATA,
)  # fmt: skip
"""All of them. A test fails if one is not served, not documented, or spelled a second time."""


HEADER_PROTOCOL = "dfs-protocol"
"""Every call under /v1 carries it with PROTOCOL_VERSION: a foreign web page can't send it."""
HEADER_CAPABILITY = "dfs-capability"
HEADER_LENGTH = "dfs-chunk-length"
"""Bytes of data in a PUT's body, without the footer."""
HEADER_PRINCIPAL = "dfs-principal"
HEADER_HOP = "dfs-hop"
HEADER_HINTS = "dfs-hints-length"
"""Bytes of the hints in a chunk's wire footer; not sent if there are none."""
"""The receiver's index in the capability's chain."""


class WireError(msgspec.Struct, frozen=True, kw_only=True):
    """How an error travels: {"error": {"code", "message", "detail"}}."""

    code: str
    message: str
    detail: dict[str, Any] = {}


class ErrorBody(msgspec.Struct, frozen=True):
    error: WireError


def error_to_bytes(error: e.DfsError) -> bytes:
    """The JSON body that describes `error`."""
    wire = WireError(code=error.code, message=error.message, detail=error.detail)
    return msgspec.json.encode(ErrorBody(wire))


def error_from_bytes(status: int, body: bytes) -> e.DfsError:
    """The error that a peer's answer describes; BadAnswer if it is not of the protocol."""
    try:
        wire = msgspec.json.decode(body, type=ErrorBody).error
    except msgspec.DecodeError:
        shown = body[:200].decode(errors="replace").strip()
        return e.BadAnswer(f"an answer with status {status} that is not of the dfs protocol: {shown!r}", status=status)
    return e.from_wire(wire.code, wire.message, wire.detail)
