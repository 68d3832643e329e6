"""stage: add extents and actions to a draft, which one later commit publishes.

Its own module because a draft is how an upload of any size, or of many files, becomes one commit: each call is a small
transaction, nothing of it is visible, and a writer that was interrupted goes on where it was. Staging a place again
replaces what was there; chunks that the draft has already are not introduced twice.
"""

import asyncio
from collections.abc import Callable, Sequence

from dfs.protocol.errors import TooLarge
from dfs.protocol.messages import Action, AppendFile, Concat, Copy, Extent, PutFile, Rename, Stage, Staged
from dfs.protocol.names import split_path
from dfs_namenode.content_rules import check_extents
from dfs_namenode.drafting import allow_chunks, chunks_named, own_draft
from dfs_namenode.idempotency import once, request_digest
from dfs_namenode.introducer import Introducer
from dfs_namenode.introduction import ReadChunk, read_chunks
from dfs_namenode.keys import NodeKeys
from dfs_namenode.liveness import ClusterView
from dfs_namenode.store import drafts
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.transaction import Transaction
from dfs_namenode.write_rules import WriteRules

STAGED_ACTIONS_MAX = 100_000
"""Actions of one draft. Bounds how long its publication holds the writer."""
INLINE_MAX = 64
"""Requests with more extents or receipts are prepared in a thread, to keep the event loop free."""


async def stage(
    request: Stage,
    *,
    principal: str,
    store: SqliteStore,
    cluster: Callable[[], ClusterView],
    keys: NodeKeys,
    rules: WriteRules,
) -> Staged:
    """Add to the draft, which is made if there is none. Repeatable under its op id.

    Raises   ReceiptRefused: send the chunk again; NotPermitted: somebody else's draft; InvalidRequest; TooLarge;
             OperationMismatch, OperationExpired
    """
    receipts = sum(len(chunk.receipts) for chunk in request.chunks)
    if len(request.extents) + len(request.actions) + receipts > INLINE_MAX:
        digest, new = await asyncio.to_thread(_prepare, request, principal, keys.secret)
    else:
        digest, new = _prepare(request, principal, keys.secret)

    def work(tx: Transaction) -> Staged:
        return once(
            tx,
            request.op_id,
            digest,
            Staged,
            retention_ms=rules.op_retention_ms,
            do=lambda: _perform(tx, request, new, principal, cluster(), rules),
        )

    return await store.write(work)


def _prepare(request: Stage, principal: str, secret: bytes) -> tuple[bytes, list[ReadChunk]]:
    for action in request.actions:
        # What can be seen to be wrong now need not wait for the commit.
        for path in _paths(action):
            split_path(path)
    return request_digest("stage", request, principal), read_chunks(request.chunks, secret=secret, principal=principal)


def _paths(action: Action) -> Sequence[str]:
    """What an action names."""
    if isinstance(action, Rename | Copy):
        return action.source, action.target
    return (action.path, *action.sources) if isinstance(action, Concat) else (action.path,)


def _perform(
    tx: Transaction, request: Stage, new: list[ReadChunk], principal: str, cluster: ClusterView, rules: WriteRules
) -> Staged:
    draft = own_draft(tx, request.draft, principal)
    if draft is None:
        draft = drafts.begin(tx, bytes.fromhex(request.draft), principal)
    if draft.actions + len(request.actions) > STAGED_ACTIONS_MAX:
        raise TooLarge(f"a draft takes {STAGED_ACTIONS_MAX} actions; publish this one, and go on in another")
    introducer = Introducer(tx, cluster)
    named = chunks_named(request.actions) | {item.extent.chunk for item in request.extents}
    allow_chunks(tx, draft.id, named, introducer)
    fresh = [chunk for chunk in new if chunk.id.hex() not in introducer.facts]
    introducer.introduce(fresh, window_ms=rules.chunk_commit_window_ms)
    extents = [item.extent for item in request.extents] + _inline_extents(request)
    check_extents(extents, introducer.facts)
    # The bytes are counted below, where places that are staged again are known.
    introducer.refer(
        [(bytes.fromhex(extent.chunk), 0) for extent in extents], replication=request.replication or rules.replication
    )
    introducer.finish()
    drafts.add_chunks(tx, draft.id, [(chunk.id, chunk.length) for chunk in fresh])
    draft = drafts.add_extents(tx, draft, request.extents)
    draft = drafts.add_actions(tx, draft, request.actions)
    drafts.touch(tx, draft)
    return Staged(extents=draft.extents, actions=draft.actions)


def _inline_extents(request: Stage) -> list[Extent]:
    return [
        extent for action in request.actions if isinstance(action, PutFile | AppendFile) for extent in action.extents
    ]
