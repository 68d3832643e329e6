"""report: one page of what a datanode has. It corrects what the receipts told; in the normal case it changes nothing.

The page is read and judged outside of any transaction, since that takes long and changes little. Whatever has to
change is judged again inside a small transaction: between the two a commit, a removal or another page may have come.
What belongs to no chunk goes on record (`store.orphans`); what becomes of it is decided elsewhere.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dfs.protocol.errors import StaleIncarnation
from dfs.protocol.messages import ChunkReport, Empty, ReportedReplica
from dfs_namenode.commands import Outbox, ReportTurns
from dfs_namenode.garbage import Verdict, judge_replica, may_drop_row
from dfs_namenode.liveness import Liveness
from dfs_namenode.store import datanodes, garbage, meta, orphans, replicas, work
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
    held_back: bool = False
    """A safe mode is on: what may be deleted goes on record instead, and waits for its end (I4)."""
    volumes_now: frozenset[str] = frozenset()
    """All volumes that the datanode says it has, in whatever state."""


async def report(
    request: ChunkReport,
    *,
    store: SqliteStore,
    liveness: Liveness,
    outbox: Outbox,
    reports: ReportTurns,
    held_back: bool,
) -> Empty:
    """Take a page in. Repeatable.

    held_back  a safe mode is on, and nothing may be deleted (I4)
    Raises     StaleIncarnation: the datanode must register again
    """
    _require_life(request, liveness)
    node = liveness.view().datanodes[request.datanode]
    volumes_now = frozenset(volume.id for volume in node.volumes)
    page = Page(request, node.num, held_back, volumes_now)
    listed, gone = await asyncio.to_thread(_differences, store, page)
    for start in range(0, len(listed), CHANGES_IN_TRANSACTION):
        part = [
            replica
            for replica in listed[start : start + CHANGES_IN_TRANSACTION]
            if outbox.may_adopt(request.datanode, replica.chunk, request.as_of)
        ]
        to_delete = await store.write(lambda tx, part=part: apply_listed(tx, page, part))  # type: ignore[misc]
        for chunk in to_delete:
            outbox.delete(request.datanode, chunk)
    for start in range(0, len(gone), CHANGES_IN_TRANSACTION):
        missing = gone[start : start + CHANGES_IN_TRANSACTION]
        await store.write(lambda tx, missing=missing: apply_gone(tx, page, missing))  # type: ignore[misc]
    _require_life(request, liveness)
    if request.up_to == "":
        reports.finished(request.datanode)
    if listed or gone:
        log.info("a report of %s: %d replicas to judge, %d rows without one", request.datanode, len(listed), len(gone))
    return Empty()


def _require_life(request: ChunkReport, liveness: Liveness) -> None:
    life = liveness.life(request.datanode)
    if life is None or life[:2] != (request.incarnation, request.boot):
        raise StaleIncarnation(f"this report is from an earlier life of {request.datanode}; it must register again")


def _require_life_in(tx: Transaction, page: Page) -> None:
    """As `_require_life`, where it is certain: another life may have begun since the page came."""
    datanodes.require_life(tx, page.report.datanode, page.report.incarnation, page.report.boot)


def judge(snapshot: Snapshot, page: Page, replica: ReportedReplica) -> Verdict:
    """What one replica of the page is, as the store is now."""
    row = replicas.one(snapshot, replica.chunk, page.datanode)
    return judge_replica(
        known=garbage.known_chunk(snapshot, replica.chunk),
        length=replica.length,
        digest=replica.digest,
        # A row on another volume is as good as none; a bad one stays bad: a digest in a trailer proves no data.
        has_row=row is not None and (row.volume == replica.volume or not row.good),
    )


def _to_settle(snapshot: Snapshot, page: Page) -> list[ReportedReplica]:
    """The replicas that are not what the store has already."""
    listed = []
    room: int | None = None
    for replica in page.report.replicas:
        verdict = judge(snapshot, page, replica)
        if verdict is Verdict.KNOWN:
            continue
        if verdict is Verdict.ORPHAN or (verdict is Verdict.DELETE and page.held_back):
            if orphans.is_recorded(snapshot, replica, page.datanode):
                continue
            if room is None:
                room = orphans.ROWS_MAX - orphans.count_at(snapshot, page.datanode)
            room -= 1
            if room < 0:
                continue
        listed.append(replica)
    return listed


def _differences(store: SqliteStore, page: Page) -> tuple[list[ReportedReplica], list[str]]:
    with store.read() as snapshot:
        return judge_page(snapshot, page)


def judge_page(snapshot: Snapshot, page: Page) -> tuple[list[ReportedReplica], list[str]]:
    """The replicas that something has to be done about, and the rows that the page does not list."""
    request = page.report
    listed = _to_settle(snapshot, page)
    if request.as_of > meta.last_seq(snapshot):
        # A scan of another history (a restored store, F63): what it did not see may have come since.
        return listed, []
    present = {replica.chunk for replica in request.replicas}
    gone: list[str] = []
    for rows in (
        *_at_datanode(replicas.at_datanode, snapshot, page),
        *_at_datanode(orphans.at_datanode, snapshot, page),
    ):
        gone += [row.chunk for row in rows if row.chunk not in present and _may_drop(page, row)]
    return listed, gone


def _at_datanode(
    read: Callable[..., list[replicas.StoredRow]], snapshot: Snapshot, page: Page
) -> Iterator[list[replicas.StoredRow]]:
    """All rows of the page's ids at the datanode, some at a time."""
    after = page.report.after
    while True:
        rows = read(snapshot, page.datanode, after=after, up_to=page.report.up_to, limit=_ROWS_AT_ONCE)
        yield rows
        if len(rows) < _ROWS_AT_ONCE:
            return
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


def apply_listed(tx: Transaction, page: Page, listed: Sequence[ReportedReplica]) -> list[str]:
    """Change what the replicas ask for. Returns the chunks whose replicas may be deleted now."""
    _require_life_in(tx, page)
    held_back = page.held_back or meta.latch(tx) is not None
    to_delete = []
    for replica in listed:
        verdict = judge(tx, page, replica)
        if verdict is Verdict.ADOPT:
            replicas.add_good(tx, replica.chunk, page.datanode, replica.volume)
            work.look_for_surplus(tx, replica.chunk)
        elif verdict is Verdict.BAD:
            log.warning("the replica of %s at %s is not that chunk", replica.chunk, page.report.datanode)
            replicas.mark_bad(tx, replica.chunk, page.datanode)
            work.look_at(tx, replica.chunk, why=WORK_SUSPECT)
        elif verdict is Verdict.DELETE and not held_back:
            orphans.drop(tx, replica.chunk, page.datanode)
            to_delete.append(replica.chunk)
        elif verdict is not Verdict.KNOWN:
            orphans.record(tx, replica, page.datanode, known=verdict is Verdict.DELETE)
    return to_delete


def apply_gone(tx: Transaction, page: Page, chunks: Sequence[str]) -> None:
    """Drop rows of replicas that the page says are not there."""
    _require_life_in(tx, page)
    for chunk in chunks:
        orphans.drop_older(tx, chunk, page.datanode, up_to_seq=page.report.as_of)
        row = replicas.one(tx, chunk, page.datanode)
        if row is None or not _may_drop(page, row):
            continue
        replicas.drop(tx, chunk, page.datanode)
        if not garbage.bury_if_gone(tx, chunk):
            work.look_at(tx, chunk, why=WORK_UNDER_REPLICATED)
