"""Which operation ids are accepted. Pure.

An id begins with the namenode-corrected time at which its client made it. Results are kept for a while; an id that
is older than that, and without a result, may have been executed or not, and nobody can tell any more: refused. An id
from the future would be accepted for longer than its result is kept: refused as well.
"""

from dfs.protocol.errors import InvalidRequest, OperationExpired, OperationMismatch
from dfs.protocol.ids import id_time_ms

FUTURE_MS = 10 * 60 * 1000
"""How far ahead an id may be: twice the skew that is promised to be harmless, milliseconds."""


def check_age(op_id: str, *, now_ms: int, retention_ms: int) -> None:
    """Judge an id of which no result is known. Raises OperationExpired, InvalidRequest."""
    made_ms = id_time_ms(op_id)
    if now_ms - made_ms >= retention_ms:
        raise OperationExpired(
            "the operation was begun too long ago for its outcome to be known; look at the path, then begin anew",
            time_ms=now_ms,
        )
    if made_ms - now_ms > FUTURE_MS:
        raise InvalidRequest("the operation's id is of a time to come; ask the cluster for its time", time_ms=now_ms)


def check_same(stored_digest: bytes, request_digest: bytes) -> None:
    """Raise OperationMismatch unless the repetition asks for what was done."""
    if stored_digest != request_digest:
        raise OperationMismatch("this operation id was used for another request; begin with a new one")
