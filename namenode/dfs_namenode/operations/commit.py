"""commit: a list of actions in one transaction; all of it becomes visible at one instant, or nothing does.

Its own module because it is the one way in which anything in the namespace changes. What can be done without the
transaction (signatures, digests) is done before it; what is decided by the state of things (which receipts count,
what a path means) is decided inside it. An error rolls the savepoint back, so that no order of checks can leave half.
"""

import asyncio
from collections.abc import Callable

from dfs.protocol.messages import Action, Commit, Committed
from dfs_namenode.actions import ActionRunner
from dfs_namenode.drafting import allow_chunks, chunks_named, open_draft
from dfs_namenode.idempotency import once, request_digest
from dfs_namenode.introducer import Introducer
from dfs_namenode.introduction import ReadChunk, read_chunks
from dfs_namenode.keys import NodeKeys
from dfs_namenode.liveness import ClusterView
from dfs_namenode.store import drafts, oplog
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.transaction import Transaction
from dfs_namenode.write_rules import WriteRules

INLINE_MAX = 64
"""Requests with more actions or receipts are prepared in a thread, to keep the event loop free."""


async def commit(
    request: Commit,
    *,
    principal: str,
    store: SqliteStore,
    cluster: Callable[[], ClusterView],
    keys: NodeKeys,
    rules: WriteRules,
) -> Committed:
    """Do all of these actions, or none; a repetition with the same op id answers what the first one did.

    cluster  asked inside the transaction: receipts count by what is in service at that moment
    Raises   what the actions raise, with `action` (its index) and `path` in the detail; ReceiptRefused: send the
             chunk again; OperationMismatch, OperationExpired
    """
    if len(request.actions) + sum(len(chunk.receipts) for chunk in request.chunks) > INLINE_MAX:
        digest, new = await asyncio.to_thread(_prepare, request, principal, keys.secret)
    else:
        digest, new = _prepare(request, principal, keys.secret)

    def work(tx: Transaction) -> Committed:
        return once(
            tx,
            request.op_id,
            digest,
            Committed,
            retention_ms=rules.op_retention_ms,
            do=lambda: _perform(tx, request, new, principal, cluster(), rules),
        )

    return await store.write(work)


def _prepare(request: Commit, principal: str, secret: bytes) -> tuple[bytes, list[ReadChunk]]:
    return (
        request_digest("commit", request, principal),
        read_chunks(request.chunks, secret=secret, principal=principal),
    )


def _perform(
    tx: Transaction, request: Commit, new: list[ReadChunk], principal: str, cluster: ClusterView, rules: WriteRules
) -> Committed:
    draft = None if request.draft is None else open_draft(tx, request.draft, principal)
    actions: list[Action] = list(request.actions)
    introducer = Introducer(tx, cluster)
    if draft is not None:
        actions = drafts.actions_of(tx, draft.id) + actions
        allow_chunks(tx, draft.id, chunks_named(actions), introducer)
    fresh = [chunk for chunk in new if chunk.id.hex() not in introducer.facts]
    introducer.introduce(fresh, window_ms=rules.chunk_commit_window_ms)
    runner = ActionRunner(
        tx,
        introducer,
        principal=principal,
        replication=rules.replication,
        draft_id=None if draft is None else draft.id,
    )
    outcomes = runner.run(actions)
    introducer.finish()
    if draft is not None:
        drafts.end(tx, draft.id)
    oplog.log_changes(tx, principal, runner.changes)
    return Committed(seq=tx.seq, outcomes=outcomes)
