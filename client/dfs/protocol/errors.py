"""Everything that dfs raises on purpose.

    DfsError
    ├── RequestError                    the caller's fault: repeating it changes nothing
    │   ├── InvalidRequest              (ValueError)            malformed, out of bounds
    │   │   └── InvalidName             (ValueError)            a path or name that is not allowed
    │   ├── TooLarge                                            a head, body or list over its limit
    │   ├── NotPermitted                (PermissionError)       forged, expired or foreign credential
    │   ├── FileNotFound                (FileNotFoundError)
    │   ├── FileExists                  (FileExistsError)
    │   ├── IsADirectory                (IsADirectoryError)
    │   ├── NotADirectory               (NotADirectoryError)
    │   ├── DirectoryNotEmpty           (OSError, ENOTEMPTY)
    │   ├── PreconditionFailed                                  another version is there
    │   ├── Conflict                                            can't be, as things are: a move into itself, …
    │   ├── VersionGone                                         a version that is no longer kept
    │   ├── OperationMismatch                                   one op id, two different requests
    │   ├── OperationExpired                                    an op id older than results are kept
    │   └── RangeNotSatisfiable
    ├── StateError                      not now: repeat later
    │   ├── Unavailable                                         starting, stopping, overloaded
    │   ├── NotEnoughDatanodes                                  too few live datanodes for a new chunk
    │   ├── NoSpace                     (OSError, ENOSPC)
    │   ├── ReplicasUnavailable                                 replicas exist, none can be reached now
    │   └── StaleIncarnation                                    a datanode must register again
    ├── DataError                       wrong or gone: another replica, or send it again
    │   ├── ReplicaNotFound
    │   ├── CorruptReplica
    │   ├── DigestMismatch                                      bytes that are not what their digest says
    │   ├── ChunkExists                                         this chunk id was used already
    │   ├── ReceiptRefused                                      a receipt that doesn't count: send the chunk again
    │   └── DataLost                                            no good copy is left
    └── PeerError                       no usable answer
        ├── NotSent                     (ConnectionError)       certainly nothing happened: repeat
        ├── OutcomeUnknown              (ConnectionError)       repeat only what is idempotent
        └── BadAnswer                                           an answer that breaks the protocol

Each class has a permanent `code` (what crosses the wire), an HTTP `status` and the `exit_code` of the command line.
A class exists if some caller acts differently on it. This module maps between classes and codes, and nothing else.
"""

import errno
from typing import Any, ClassVar

EXIT_OK = 0
EXIT_SOME_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_FOUND = 3
EXIT_CONFLICT = 4
EXIT_UNREACHABLE = 5
EXIT_INTEGRITY = 6
EXIT_NOT_PERMITTED = 7
EXIT_INTERRUPTED = 130


class DfsError(Exception):
    """The root of the tree.

    message   one sentence for a person, which says what to do next where that is not obvious
    detail    facts for a program; JSON-able
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = EXIT_SOME_FAILED

    def __init__(self, message: str, **detail: Any) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.detail)


def _rebuild(kind: type[DfsError], message: str, detail: dict[str, Any]) -> DfsError:
    return kind(message, **detail)


class RequestError(DfsError):
    """The caller's fault; never repeat it unchanged."""

    code = "request"
    status = 400
    exit_code = EXIT_USAGE


class InvalidRequest(RequestError, ValueError):
    """Malformed or out of bounds."""

    code = "invalid_request"


class InvalidName(InvalidRequest):
    """A path or a name that dfs does not store."""

    code = "invalid_name"


class TooLarge(RequestError):
    """A head, a body or a list beyond its limit."""

    code = "too_large"
    status = 413


class NotPermitted(RequestError, PermissionError):
    """A credential that is missing, forged, expired or meant for somebody or something else."""

    code = "not_permitted"
    status = 403
    exit_code = EXIT_NOT_PERMITTED


class FileNotFound(RequestError, FileNotFoundError):
    """Nothing has that path."""

    code = "not_found"
    status = 404
    exit_code = EXIT_NOT_FOUND


class FileExists(RequestError, FileExistsError):
    """Something has that path already."""

    code = "exists"
    status = 409
    exit_code = EXIT_CONFLICT


class IsADirectory(RequestError, IsADirectoryError):
    """A file is needed there."""

    code = "is_a_directory"
    status = 409
    exit_code = EXIT_CONFLICT


class NotADirectory(RequestError, NotADirectoryError):
    """A directory is needed there."""

    code = "not_a_directory"
    status = 409
    exit_code = EXIT_CONFLICT


class DirectoryNotEmpty(RequestError, OSError):
    """A directory that still has entries."""

    code = "directory_not_empty"
    status = 409
    exit_code = EXIT_CONFLICT


class PreconditionFailed(RequestError):
    """The version that was required is not the one that is there."""

    code = "precondition_failed"
    status = 412
    exit_code = EXIT_CONFLICT


class Conflict(RequestError):
    """It can't be done as things are: a directory into its own subtree, a cluster of another identity."""

    code = "conflict"
    status = 409
    exit_code = EXIT_CONFLICT


class VersionGone(RequestError):
    """The version that was being read is no longer kept; open the path again."""

    code = "version_gone"
    status = 410
    exit_code = EXIT_NOT_FOUND


class OperationMismatch(RequestError):
    """The same op id came with a different request."""

    code = "operation_mismatch"
    status = 422
    exit_code = EXIT_CONFLICT


class OperationExpired(RequestError):
    """The op id is older than results are kept, so whether it was done can't be told any more."""

    code = "operation_expired"
    status = 409
    exit_code = EXIT_CONFLICT


class RangeNotSatisfiable(RequestError):
    """A range that begins behind the end."""

    code = "range_not_satisfiable"
    status = 416


class StateError(DfsError):
    """Not now; the same request may succeed later."""

    code = "state"
    status = 503
    exit_code = EXIT_UNREACHABLE


class Unavailable(StateError):
    """Starting, stopping or overloaded."""

    code = "unavailable"


class NotEnoughDatanodes(StateError):
    """Fewer live datanodes with space than a new chunk needs."""

    code = "not_enough_datanodes"


class NoSpace(StateError, OSError):
    """A disk is full."""

    code = "no_space"
    status = 507


class ReplicasUnavailable(StateError):
    """The bytes exist, but no datanode that has them can be reached now."""

    code = "replicas_unavailable"


class StaleIncarnation(StateError):
    """The namenode knows a newer life of this datanode, or none: register again."""

    code = "stale_incarnation"
    status = 409


class DataError(DfsError):
    """Bytes that are wrong or gone."""

    code = "data"
    status = 503
    exit_code = EXIT_INTEGRITY


class ReplicaNotFound(DataError):
    """This datanode has no replica of that chunk; another one may."""

    code = "replica_not_found"
    status = 404


class CorruptReplica(DataError):
    """This replica differs from its digests; another one is right."""

    code = "corrupt_replica"
    status = 503


class DigestMismatch(DataError):
    """The bytes that came are not those that the sender's digests describe; nothing was stored."""

    code = "digest_mismatch"
    status = 422


class ChunkExists(DataError):
    """A chunk id is used once; ask for a new grant."""

    code = "chunk_exists"
    status = 409


class ReceiptRefused(DataError):
    """A receipt that doesn't count: replayed, foreign, or of a datanode that is gone. Send the chunk again."""

    code = "receipt_refused"
    status = 409


class DataLost(DataError):
    """No good copy of these bytes is left anywhere."""

    code = "data_lost"
    status = 410


class PeerError(DfsError):
    """No usable answer came."""

    code = "peer"
    status = 502
    exit_code = EXIT_UNREACHABLE


class NotSent(PeerError, ConnectionError):
    """The request certainly had no effect: it may be repeated, here or elsewhere."""

    code = "not_sent"


class OutcomeUnknown(PeerError, ConnectionError):
    """The request may have had its effect: repeat it only if it is idempotent."""

    code = "outcome_unknown"


class BadAnswer(PeerError):
    """An answer that is not of the protocol: the URL belongs to something else, or a version is too far away."""

    code = "bad_answer"


_ERRNO: dict[type[DfsError], int] = {
    FileNotFound: errno.ENOENT,
    FileExists: errno.EEXIST,
    IsADirectory: errno.EISDIR,
    NotADirectory: errno.ENOTDIR,
    DirectoryNotEmpty: errno.ENOTEMPTY,
    NotPermitted: errno.EACCES,
    NoSpace: errno.ENOSPC,
}


def _subclasses(kind: type[DfsError]) -> list[type[DfsError]]:
    found = [kind]
    for child in kind.__subclasses__():
        found += _subclasses(child)
    return found


BY_CODE: dict[str, type[DfsError]] = {kind.code: kind for kind in _subclasses(DfsError)}
"""Every class by its permanent code."""

for _kind, _number in _ERRNO.items():
    # What `except OSError as error: error.errno` of the callers expects to find.
    _kind.errno = _number  # type: ignore[attr-defined]


def from_wire(code: str, message: str, detail: dict[str, Any]) -> DfsError:
    """The error that a peer described. An unknown code is the peer's newer vocabulary: BadAnswer."""
    kind = BY_CODE.get(code)
    if kind is None:
        return BadAnswer(message, code=code, **detail)
    return kind(message, **detail)
