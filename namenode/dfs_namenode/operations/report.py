"""report: one page of what a datanode has. It corrects what the receipts told; in the normal case it changes nothing.

The page is read and judged outside of any transaction, since that takes long and changes little. Whatever has to
change is judged again inside a small transaction: between the two a commit, a removal or another page may have come.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from dfs.protocol.clock import Clock
from dfs.protocol.errors import StaleIncarnation
from dfs.protocol.messages import ChunkReport, Empty, ReportedReplica
from dfs_namenode.commands import Outbox, ReportTurns
from dfs_namenode.garbage import DeleteBudget, Verdict, judge_replica, may_drop_row
from dfs_namenode.liveness import Liveness
from dfs_namenode.store import garbage, meta, replicas, work
from dfs_namenode.store.schema import WORK_SUSPECT, WORK_UNDER_REPLICATED
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.transaction import Snapshot, Transaction

log = logging.getLogger(__name__)
CHANGES_IN_TRANSACTION = 200
_ROWS_AT_ONCE = 5000


@dataclass(frozen=True)
class Page:
    """A page, and what its judgement needs beside the store."""

    report: ChunkReport
    datanode: int
    """Its number in the store."""
    orphan_age_ms: int
    now_ms: int
    volumes_now: frozenset[str] = frozenset()
    """All volumes that the datanode says it has, in whatever state."""


async def report(
    request: ChunkReport,
    *,
    store: SqliteStore,
    liveness: Liveness,
    outbox: Outbox,
    reports: ReportTurns,
    clock: Clock,
    orphan_age_ms: int,
    budget: DeleteBudget,
    chunks: int,
    held_back: bool,
) -> Empty:
    """Take a page in. Repeatable.

    budget     the brake on deletions: a store that lost its rows must not have everything deleted as unknown (F65)
    chunks     that the store has, as far as was counted
    held_back  a safe mode is on: what may be deleted waits for a later report (I4)
    Raises     StaleIncarnation: the datanode must register again
    """
    life = liveness.life(request.datanode)
    if life is None or life[:2] != (request.incarnation, request.boot):
        raise StaleIncarnation(f"this report is from an earlier life of {request.datanode}; it must register again")
    node = liveness.view().datanodes[request.datanode]
    volumes_now = frozenset(volume.id for volume in node.volumes)
    page = Page(request, node.num, orphan_age_ms, clock.wall_ms(), volumes_now)
    listed, gone = await asyncio.to_thread(_differences, store, page)
    for start in range(0, len(listed), CHANGES_IN_TRANSACTION):
        part = [
            replica
            for replica in listed[start : start + CHANGES_IN_TRANSACTION]
            if outbox.may_adopt(request.datanode, replica.chunk, request.as_of)
        ]
        may_bury = 0 if held_back else budget.available(chunks=chunks, now_s=clock.monotonic_s())
        corrected = await store.write(
            lambda tx, part=part, may_bury=may_bury: apply_listed(tx, page, part, may_bury=may_bury)  # type: ignore[misc]
        )
        budget.spend(corrected.buried)
        for chunk in () if held_back else corrected.to_delete:
            outbox.delete(request.datanode, chunk)
    for start in range(0, len(gone), CHANGES_IN_TRANSACTION):
        missing = gone[start : start + CHANGES_IN_TRANSACTION]
        await store.write(lambda tx, missing=missing: apply_gone(tx, page, missing))  # type: ignore[misc]
    if request.up_to == "":
        reports.finished(request.datanode)
    if listed or gone:
        log.info("a report of %s: %d replicas to judge, %d rows without one", request.datanode, len(listed), len(gone))
    return Empty()


def judge(snapshot: Snapshot, page: Page, replica: ReportedReplica, *, latched: bool) -> Verdict:
    """What one replica of the page is, as the store is now."""
    row = replicas.one(snapshot, replica.chunk, page.datanode)
    return judge_replica(
        replica.chunk,
        known=garbage.known_chunk(snapshot, replica.chunk),
        length=replica.length,
        digest=replica.digest,
        # A row on another volume is as good as none; a bad one stays bad: a digest in a trailer proves no data.
        has_row=row is not None and (row.volume == replica.volume or not row.good),
        now_ms=page.now_ms,
        orphan_age_ms=page.orphan_age_ms,
        latched=latched,
    )


def _differences(store: SqliteStore, page: Page) -> tuple[list[ReportedReplica], list[str]]:
    with store.read() as snapshot:
        return judge_page(snapshot, page)


def judge_page(snapshot: Snapshot, page: Page) -> tuple[list[ReportedReplica], list[str]]:
    """The replicas that something has to be done about, and the rows that the page does not list."""
    request = page.report
    latched = meta.latch(snapshot) is not None
    listed = [
        replica
        for replica in request.replicas
        if judge(snapshot, page, replica, latched=latched) not in (Verdict.KNOWN, Verdict.WAIT)
    ]
    if request.as_of > meta.last_seq(snapshot):
        # A scan of another history (a restored store, F63): what it did not see may have come since.
        return listed, []
    present = {replica.chunk for replica in request.replicas}
    gone: list[str] = []
    after = request.after
    while True:
        rows = replicas.at_datanode(snapshot, page.datanode, after=after, up_to=request.up_to, limit=_ROWS_AT_ONCE)
        gone += [row.chunk for row in rows if row.chunk not in present and _may_drop(page, row)]
        if len(rows) < _ROWS_AT_ONCE:
            return listed, gone
        after = rows[-1].chunk


def _may_drop(page: Page, row: replicas.StoredRow) -> bool:
    # A bad row stays until its file is known to be deleted: damaged files are not listed, and would be in the way.
    # What is on a volume that the datanode does not even name any more went with it; if it returns, it is adopted.
    removed = bool(page.volumes_now) and row.volume not in page.volumes_now
    return row.good and may_drop_row(
        since_seq=row.since_seq,
        as_of=page.report.as_of,
        volume=row.volume,
        volumes_scanned=[row.volume] if removed else page.report.volumes,
    )


@dataclass
class Corrected:
    """What the replicas of a page came to."""

    to_delete: list[str] = field(default_factory=list)
    """Chunks whose replicas may now be deleted."""
    buried: int = 0
    """How many of them had no row, and have a tombstone now."""


def apply_listed(tx: Transaction, page: Page, listed: Sequence[ReportedReplica], *, may_bury: int) -> Corrected:
    """Change what the replicas ask for; beyond `may_bury`, unknown ones wait for the next report."""
    latched = meta.latch(tx) is not None
    corrected = Corrected()
    for replica in listed:
        verdict = judge(tx, page, replica, latched=latched)
        if verdict is Verdict.ADOPT:
            replicas.add_good(tx, replica.chunk, page.datanode, replica.volume)
            work.look_for_surplus(tx, replica.chunk)
        elif verdict is Verdict.BAD:
            log.warning("the replica of %s at %s is not that chunk", replica.chunk, page.report.datanode)
            replicas.mark_bad(tx, replica.chunk, page.datanode)
            work.look_at(tx, replica.chunk, why=WORK_SUSPECT)
        elif verdict is Verdict.BURY and corrected.buried < may_bury:
            garbage.bury_unknown(tx, replica.chunk, length=replica.length, digest=replica.digest)
            corrected.buried += 1
            corrected.to_delete.append(replica.chunk)
        elif verdict is Verdict.DELETE:
            corrected.to_delete.append(replica.chunk)
    return corrected


def apply_gone(tx: Transaction, page: Page, chunks: Sequence[str]) -> None:
    """Drop rows of replicas that the page says are not there."""
    for chunk in chunks:
        row = replicas.one(tx, chunk, page.datanode)
        if row is None or not _may_drop(page, row):
            continue
        replicas.drop(tx, chunk, page.datanode)
        if not garbage.bury_if_gone(tx, chunk):
            work.look_at(tx, chunk, why=WORK_UNDER_REPLICATED)
