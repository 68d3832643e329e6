"""An operation with an id is done once: the first time it is executed and its answer kept, later the answer is given.

Separate because commit, stage and drop_draft share it to the letter, and because the form in which answers are kept is
nobody else's business: one byte, 0 for MessagePack as it is and 1 for MessagePack compressed with zlib.
"""

import hashlib
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from dfs_namenode.op_ids import check_age, check_same
from dfs_namenode.store import meta, oplog
from dfs_namenode.store.transaction import Transaction

A = TypeVar("A")

_COMPRESS_FROM_BYTES = 512
"""Answers about many files repeat themselves; below this it isn't worth it."""
_PLAIN, _COMPRESSED = b"\0", b"\1"


def request_digest(operation: str, request: Any, principal: str) -> bytes:
    """What tells one request from another under the same id."""
    return hashlib.blake2b(
        msgspec.msgpack.encode(request), digest_size=16, key=_digest_key(operation, principal)
    ).digest()


@lru_cache(maxsize=256)
def _digest_key(operation: str, principal: str) -> bytes:
    return hashlib.sha256(f"{operation}\0{principal}".encode()).digest()


def once(tx: Transaction, op_id: str, digest: bytes, answer: type[A], *, retention_ms: int, do: Callable[[], A]) -> A:
    """Return the answer that is kept for the id, or execute `do` and keep what it answers.

    Raises   OperationMismatch: the id was used for another request; OperationExpired: it is too old; what `do` raises
    """
    key = bytes.fromhex(op_id)
    stored = oplog.result_of(tx, key)
    if stored is not None:
        check_same(stored.request_digest, digest)
        return _decode(stored.result, answer)
    # What was answered between the backup and the loss of the store is not known here: those ids are too old as well.
    known_for_ms = tx.now_ms - meta.restored_ms(tx)
    check_age(op_id, now_ms=tx.now_ms, retention_ms=min(retention_ms, known_for_ms))
    result = do()
    oplog.keep_result(tx, key, request_digest=digest, result=_encode(result))
    return result


def _encode(result: Any) -> bytes:
    raw = msgspec.msgpack.encode(result)
    return _PLAIN + raw if len(raw) < _COMPRESS_FROM_BYTES else _COMPRESSED + zlib.compress(raw, 1)


def _decode(kept: bytes, answer: type[A]) -> A:
    raw = zlib.decompress(kept[1:]) if kept[:1] == _COMPRESSED else kept[1:]
    return msgspec.msgpack.decode(raw, type=answer)
