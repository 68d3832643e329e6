"""adopt: an operator makes files of chunks that only datanodes know. Additive: what exists is never touched.

Its own module because it is the one way into the namespace without receipts. What it takes instead is the store's own
record of what datanodes report (`store.orphans`): length, digest and replicas come from there, never from the request.
An id that has a row, a tombstone too, is refused, and so is one that its writer may still commit. Everything else goes
the way of a commit. That the bytes are right is for the caller to have checked; every reader checks them again.
"""

from collections.abc import Callable, Iterable, Sequence

from dfs.protocol.errors import Conflict, InvalidRequest
from dfs.protocol.messages import Adopt, AppendFile, Committed, Extent, PutFile
from dfs_namenode.actions import ActionRunner
from dfs_namenode.content_rules import ChunkFacts
from dfs_namenode.history import history_of, may_adopt
from dfs_namenode.idempotency import once, request_digest
from dfs_namenode.introducer import Introducer
from dfs_namenode.liveness import ClusterView
from dfs_namenode.store import chunks, contents, garbage, oplog, orphans
from dfs_namenode.store.orphans import Found
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.transaction import Transaction
from dfs_namenode.write_rules import WriteRules


async def adopt(
    request: Adopt, *, principal: str, store: SqliteStore, cluster: Callable[[], ClusterView], rules: WriteRules
) -> Committed:
    """Do all of it, or nothing; a repetition with the same op id answers what the first one did.

    Raises   Conflict: a chunk can't be adopted, with `chunk` in the detail, or can't be read from anywhere now;
             FileExists and what other actions raise, with `action` and `path` in the detail
    """
    require_additive(request.actions)
    digest = request_digest("adopt", request, principal)

    def work(tx: Transaction) -> Committed:
        return once(
            tx,
            request.op_id,
            digest,
            Committed,
            retention_ms=rules.op_retention_ms,
            do=lambda: _perform(tx, request, principal, cluster(), rules),
        )

    return await store.write(work)


def require_additive(actions: Iterable[PutFile | AppendFile]) -> None:
    """Raise InvalidRequest unless each action makes a new file, or goes on with one that its caller has made. Pure."""
    for action in actions:
        if isinstance(action, PutFile) and (action.when != "absent" or action.staged is not None):
            raise InvalidRequest(f"{action.path}: what is adopted never replaces a file", path=action.path)
        if isinstance(action, AppendFile) and (action.if_version is None or action.drop_tail or action.create):
            raise InvalidRequest(f"{action.path}: say which version is appended to", path=action.path)


def _perform(tx: Transaction, request: Adopt, principal: str, cluster: ClusterView, rules: WriteRules) -> Committed:
    introducer = Introducer(tx, cluster)
    introduce_orphans(tx, request.chunks, introducer, window_ms=rules.chunk_commit_window_ms)
    for action in request.actions:
        for extent in action.extents:
            if extent.chunk not in introducer.facts:
                introducer.share(extent.chunk, _shared(tx, extent))
    runner = ActionRunner(tx, introducer, principal=principal, replication=rules.replication, draft_id=None)
    outcomes = runner.run(request.actions)
    introducer.finish()
    oplog.log_changes(tx, principal, runner.changes)
    return Committed(seq=tx.seq, outcomes=outcomes)


def introduce_orphans(tx: Transaction, ids: Iterable[str], introducer: Introducer, *, window_ms: int) -> None:
    """Make chunks of orphans. Raises Conflict: an id has a row, may still be committed, or is no orphan of one kind."""
    history = history_of(tx)
    for chunk in ids:
        if chunks.is_known(tx, bytes.fromhex(chunk)):
            raise Conflict(f"the chunk {chunk} is known already, or was deleted: it is no orphan", chunk=chunk)
        if not may_adopt(chunk, history, now_ms=tx.now_ms, window_ms=window_ms):
            raise Conflict(f"the writer of the chunk {chunk} may still commit it; wait", chunk=chunk)
        introducer.adopt(require_agreed(chunk, orphans.take(tx, bytes.fromhex(chunk))))


def require_agreed(chunk: str, replicas: Sequence[orphans.Orphan]) -> Found:
    """Raise Conflict unless there are replicas, and all are the same. Pure."""
    found = Found(chunk, tuple(replicas), known=False)
    if not replicas:
        raise Conflict(f"no datanode reports a chunk {chunk}", chunk=chunk)
    if found.agreed is None:
        raise Conflict(
            f"the replicas of {chunk} differ in length or digest, and nobody can say which is right", chunk=chunk
        )
    return found


def _shared(tx: Transaction, extent: Extent) -> ChunkFacts:
    """The facts of a chunk that files have already. Raises Conflict unless exactly these bytes are known to be right.

    A digest that a request brings proves nothing of a chunk that is known: only an extent that is stored does.
    """
    known = garbage.known_chunk(tx, extent.chunk)
    if known is None or known.state != "live":
        raise Conflict(f"the chunk {extent.chunk} is neither adopted here nor in any file", chunk=extent.chunk)
    whole = (extent.offset, extent.length, extent.digest) == (0, known.length, known.digest)
    if not whole and not contents.has_extent(tx, extent):
        raise Conflict(f"no file has these bytes of the chunk {extent.chunk}", chunk=extent.chunk)
    return ChunkFacts(known.length, known.digest)
