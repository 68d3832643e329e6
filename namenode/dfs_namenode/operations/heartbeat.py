"""heartbeat: a datanode is alive. Its answers to commands come in, the next commands go out.

The most frequent call of all, so in the normal case it writes nothing: only answers, a changed volume, or a sign that
this store is behind cost a transaction.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from dfs.protocol.clock import Clock
from dfs.protocol.errors import Conflict, StaleIncarnation
from dfs.protocol.messages import CheckReplica, ComposedChunk, Heartbeat, HeartbeatAnswer, VolumeState
from dfs_namenode.commands import Outbox, ReportTurns
from dfs_namenode.history import lags, latch_if_behind
from dfs_namenode.liveness import Datanode, Liveness
from dfs_namenode.store import datanodes, garbage, meta, orphans, replicas, work
from dfs_namenode.store.schema import WORK_SUSPECT, WORK_UNDER_REPLICATED
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.transaction import Transaction
from dfs_namenode.verifications import Verifications

log = logging.getLogger(__name__)
FAILURES_BEFORE_CHECK = 2
"""Pulls of a chunk that may fail before its sources are told to verify what they have (F41)."""


@dataclass
class Applied:
    """What the answers of one heartbeat came to."""

    to_delete: list[str] = field(default_factory=list)
    """Replicas of chunks that are condemned or deleted already."""
    dropped_at_seq: int = 0


async def heartbeat(
    request: Heartbeat,
    *,
    store: SqliteStore,
    liveness: Liveness,
    outbox: Outbox,
    reports: ReportTurns,
    verifications: Verifications,
    clock: Clock,
    epoch: int,
    composed: Callable[[ComposedChunk, str], Awaitable[None]],
) -> HeartbeatAnswer:
    """Take the datanode's word, and give it its commands.

    composed  takes what the datanode composed, and its id
    Raises    StaleIncarnation: it must register again; Conflict: a late copy, and what it says is not true any more
    """
    _require_life(request, liveness)
    if not liveness.in_order(request.datanode, request.beat):
        raise Conflict(f"a later heartbeat of {request.datanode} was heard already")
    outbox.go_on(request.datanode, request.pulling)
    view = liveness.view()
    node = view.datanodes[request.datanode]
    liveness.heard(
        request.datanode,
        volumes=request.volumes,
        streams=request.active_streams,
        suspects=request.suspects,
        durability=request.durability,
    )
    with store.read() as snapshot:
        seq = meta.last_seq(snapshot)
    volumes_changed = _kinds(request.volumes) != _kinds(node.volumes)
    has_answers = bool(request.stored or request.deleted or request.checked)
    if volumes_changed or has_answers or lags(seq_seen=request.seq_seen, last_seq=seq):
        applied = await store.write(lambda tx: apply_answers(tx, request, node, volumes_changed=volumes_changed))
        _settle(request, outbox, applied)
        for checked in request.checked:
            verifications.answered(request.datanode, checked.chunk, good=checked.good)
        with store.read() as snapshot:
            seq = meta.last_seq(snapshot)
    for answer in request.composed:
        outbox.answered(request.datanode, "compose", answer.chunk)
        await composed(answer, request.datanode)
    await _note_failures(request, store, liveness, outbox)
    with store.read() as snapshot:
        identity = meta.identity(snapshot)
    assert identity is not None, "a store that is served has an identity"
    # A new life may have begun while this waited: its commands are not for the old process.
    _require_life(request, liveness)
    view = liveness.view()
    return HeartbeatAnswer(
        time_ms=clock.wall_ms(),
        seq=seq,
        lineage=identity.lineage,
        epoch=epoch,
        commands=[*outbox.take(request.datanode), *reports.take(request.datanode)],
        members_version=view.members_version,
        members=None if request.members_version == view.members_version else list(view.members),
    )


def _require_life(request: Heartbeat, liveness: Liveness) -> None:
    life = liveness.life(request.datanode)
    if life is None or life[:2] != (request.incarnation, request.boot):
        raise StaleIncarnation(
            f"the namenode knows another life of {request.datanode}, or none; it must register again"
        )


def _kinds(volumes: Sequence[VolumeState]) -> list[tuple[str, str]]:
    return [(volume.id, volume.state) for volume in volumes]


def apply_answers(tx: Transaction, request: Heartbeat, node: Datanode, *, volumes_changed: bool) -> Applied:
    """Write down what the datanode did and found. Repeatable: an answer that comes twice changes nothing twice."""
    datanodes.require_life(tx, request.datanode, request.incarnation, request.boot)
    applied = Applied()
    latch_if_behind(tx, datanode=request.datanode, seq_seen=request.seq_seen)
    if volumes_changed:
        datanodes.set_volumes(tx, request.datanode, request.volumes)
    for stored in request.stored:
        known = garbage.known_chunk(tx, stored.chunk)
        if known is not None and known.state != "live":
            applied.to_delete.append(stored.chunk)
        elif known is not None and (known.length, known.digest) == (stored.length, stored.digest):
            replicas.add_good(tx, stored.chunk, node.num, stored.volume)
            work.look_for_surplus(tx, stored.chunk)
    for chunk in request.deleted:
        orphans.drop(tx, chunk, node.num)
        if replicas.drop(tx, chunk, node.num):
            applied.dropped_at_seq = tx.seq
            if not garbage.bury_if_gone(tx, chunk):
                work.look_at(tx, chunk, why=WORK_UNDER_REPLICATED)
    for checked in request.checked:
        known = garbage.known_chunk(tx, checked.chunk)
        if known is None and not checked.good:
            orphans.mark_bad(tx, checked.chunk, node.num)
        if known is None or checked.good:
            continue
        if known.state != "live":
            applied.to_delete.append(checked.chunk)
            continue
        log.warning("the replica of %s at %s is bad: %s", checked.chunk, request.datanode, checked.why)
        replicas.mark_bad(tx, checked.chunk, node.num)
        work.look_at(tx, checked.chunk, why=WORK_SUSPECT)
    return applied


def _settle(request: Heartbeat, outbox: Outbox, applied: Applied) -> None:
    for stored in request.stored:
        outbox.answered(request.datanode, "pull", stored.chunk)
    for chunk in request.deleted:
        outbox.answered(request.datanode, "delete", chunk)
        if applied.dropped_at_seq:
            outbox.was_deleted(request.datanode, chunk, applied.dropped_at_seq)
    for checked in request.checked:
        outbox.answered(request.datanode, "check", checked.chunk)
    for chunk in applied.to_delete:
        outbox.delete(request.datanode, chunk)


async def _note_failures(request: Heartbeat, store: SqliteStore, liveness: Liveness, outbox: Outbox) -> None:
    """Pulls that failed are tried elsewhere or later; after the second time the sources are checked."""
    suspected = [c for c in request.failed if outbox.pull_failed(request.datanode, c) == FAILURES_BEFORE_CHECK]
    if not suspected:
        return
    by_num = liveness.view().by_num
    with store.read() as snapshot:
        held = replicas.replicas_of(snapshot, suspected)
        known = {chunk: garbage.known_chunk(snapshot, chunk) for chunk in suspected}
    for chunk, rows in held.items():
        facts = known[chunk]
        for row in rows:
            if facts is not None and row.good and row.datanode in by_num:
                outbox.check(by_num[row.datanode], CheckReplica(chunk=chunk, length=facts.length, digest=facts.digest))
