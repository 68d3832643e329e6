"""Trims surplus replicas: has the others verified, and then marks one as surplus in a transaction that looks again.

The decisions are in `surplus`. The mark comes before any command: a replica that is marked counts for nothing, so a
namenode that starts anew, or the next turn, cannot decide on a second one while the first is on its way out. The
command itself is the repair duty's, which deletes what is bad or surplus only while enough good ones are there, and
asks again until the datanode has said that it is gone. Held back by every safe mode, and by the budget of deletions.
"""

import asyncio
import logging
from collections.abc import Callable

from dfs.protocol.clock import Clock
from dfs.protocol.messages import CheckReplica
from dfs_namenode.commands import Outbox
from dfs_namenode.counting import CountCache
from dfs_namenode.deeds import Deeds
from dfs_namenode.garbage import DeleteBudget
from dfs_namenode.liveness import ClusterView, Liveness
from dfs_namenode.monitors.leader import Leader
from dfs_namenode.monitors.safety import Safety
from dfs_namenode.repair import PRIORITY_BAD, PRIORITY_SURPLUS
from dfs_namenode.store import garbage, meta, replicas, work
from dfs_namenode.store.schema import WORK_SURPLUS
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.transaction import Row, Snapshot, Transaction
from dfs_namenode.surplus import Kept, Surplus, Trim, Verify, is_sure, plan_trims
from dfs_namenode.verifications import Verifications

log = logging.getLogger(__name__)
WINDOW = 200
CHECKS_AT_ONCE = 16
"""Verifications that one datanode has before it: each reads a whole chunk."""


class Trimming:
    """Knows how far the walk through the surplus has come."""

    def __init__(
        self,
        store: SqliteStore,
        leader: Leader,
        liveness: Liveness,
        outbox: Outbox,
        safety: Safety,
        counts: CountCache,
        *,
        clock: Clock,
        budget: DeleteBudget,
        verifications: Verifications,
        deeds: Deeds,
    ) -> None:
        self._store = store
        self._leader = leader
        self._liveness = liveness
        self._outbox = outbox
        self._safety = safety
        self._counts = counts
        self._clock = clock
        self._budget = budget
        self._verifications = verifications
        self._deeds = deeds
        self._walked_to = work.BEGINNING

    async def turn(self) -> None:
        """Plan for one window."""
        if self._safety.modes():
            return
        cluster = self._liveness.view()
        surpluses, seq = await asyncio.to_thread(self._window, cluster)
        if not surpluses:
            return
        chunks = max((await self._counts.get()).counts.chunks, 1)
        instructions = plan_trims(
            surpluses,
            cluster=cluster,
            verified={surplus.chunk: self._verifications.right(surplus.chunk) for surplus in surpluses},
            allowed=self._budget.available(chunks=chunks, now_s=self._clock.monotonic_s()),
        )
        trims = []
        for instruction in instructions:
            match instruction:
                case Verify(chunk, length, digest, datanode):
                    if self._outbox.checking(datanode) < CHECKS_AT_ONCE and self._outbox.check(
                        datanode, CheckReplica(chunk=chunk, length=length, digest=digest)
                    ):
                        self._verifications.asked(datanode, chunk, seq)
                case Trim():
                    trims.append(instruction)
        if trims:
            marked = await self._leader.write(lambda tx: mark(tx, trims, self._liveness.view))
            self._budget.spend(marked)
            self._deeds.add("trim", count=marked)
            for trim in trims:
                self._verifications.forget(trim.chunk)

    def _window(self, cluster: ClusterView) -> tuple[list[Surplus], int]:
        with self._store.read() as snapshot:
            rows = work.with_priority(snapshot, PRIORITY_SURPLUS, self._walked_to, WINDOW)
            self._walked_to = work.position(rows[-1]) if len(rows) == WINDOW else work.BEGINNING
            return surpluses_of(snapshot, rows, cluster), meta.last_seq(snapshot)


def surpluses_of(snapshot: Snapshot, rows: list[Row], cluster: ClusterView) -> list[Surplus]:
    """What the planner needs of rows of work."""
    live = [row for row in rows if row[3] is not None]
    held = replicas.replicas_of(snapshot, [row[2].hex() for row in live])
    return [
        Surplus(chunk.hex(), length, digest.hex(), replication, _kept(held.get(chunk.hex(), []), cluster))
        for _, _, chunk, length, digest, replication in live
    ]


def _kept(rows: list[replicas.Held], cluster: ClusterView) -> tuple[Kept, ...]:
    return tuple(
        Kept(cluster.by_num[row.datanode], row.volume, row.since_seq)
        for row in rows
        if row.good and row.datanode in cluster.by_num
    )


def mark(tx: Transaction, trims: list[Trim], cluster_now: Callable[[], ClusterView]) -> int:
    """Mark as surplus what may go still, as everything is now; returns how many."""
    cluster = cluster_now()
    marked = 0
    for trim in trims:
        replication = garbage.replication_of(tx, trim.chunk)
        rows = replicas.replicas_of(tx, [trim.chunk]).get(trim.chunk, [])
        kept = _kept(rows, cluster)
        unchanged = [one for one in trim.verified if one in kept and is_sure(one, cluster)]
        if replication is None or len(unchanged) < cluster.copies_wanted(replication):
            continue
        assert all(one.datanode != trim.datanode for one in unchanged)
        victim = cluster.datanodes.get(trim.datanode)
        if victim is not None and replicas.mark_surplus(tx, trim.chunk, victim.num):
            log.info(
                "the replica of %s at %s is surplus: %d others were verified", trim.chunk, victim.id, len(unchanged)
            )
            work.put(tx, trim.chunk, why=WORK_SURPLUS, priority=PRIORITY_BAD)
            marked += 1
    return marked
