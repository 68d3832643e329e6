"""Notices that the cluster has grown: chunks that had to make do with fewer replicas than they want get the others.

A chunk that is committed while two datanodes are known has two replicas and needs no work, since no third is possible.
Nothing happens to it when the third one joins; so somebody must look through the chunks then, once for each datanode
more, up to the highest replication that there is. How far that is done is kept in the store, since a restart must not
forget it.
"""

import asyncio

from dfs.protocol.messages import REPLICATION_MAX
from dfs_namenode.liveness import ClusterView, Liveness
from dfs_namenode.monitors.leader import Leader
from dfs_namenode.repair import standing
from dfs_namenode.store import chunks, meta, replicas, work
from dfs_namenode.store.schema import WORK_UNDER_REPLICATED
from dfs_namenode.store.sqlite import SqliteStore

BATCH = 2000
BATCHES_IN_TURN = 10


class Spread:
    """Knows how far the walk through the chunks has come, and for which size of the cluster."""

    def __init__(self, store: SqliteStore, leader: Leader, liveness: Liveness) -> None:
        self._store = store
        self._leader = leader
        self._liveness = liveness
        with store.read() as snapshot:
            self._done_for = meta.spread_over(snapshot)
        self._walking_for = 0
        self._after = b""

    async def turn(self) -> None:
        """Take notice of the cluster's size, and look through the next chunks if it has grown."""
        cluster = self._liveness.view()
        size = min(len(cluster.datanodes), REPLICATION_MAX)
        if size < self._done_for:
            await self._done(size)
        if size <= self._done_for:
            return
        if size != self._walking_for:
            # From the next turn on: a commit that still saw the smaller cluster must be there before the walk begins.
            self._walking_for, self._after = size, b""
            return
        for _ in range(BATCHES_IN_TURN):
            short, last = await asyncio.to_thread(self._next_short, cluster, self._after)
            if short:
                await self._leader.write(lambda tx, short=short: work.put_many(tx, short, why=WORK_UNDER_REPLICATED))  # type: ignore[misc]
            if last is None:
                await self._done(size)
                return
            self._after = last

    async def _done(self, size: int) -> None:
        await self._leader.write(lambda tx: meta.set_spread_over(tx, size))
        self._done_for = size

    def _next_short(self, cluster: ClusterView, after: bytes) -> tuple[list[tuple[bytes, int]], bytes | None]:
        """Of the next chunks those with too few replicas, and their urgency; where to go on, None: that was all.

        A chunk with no more replication than the cluster had datanodes is passed over: its commit saw to it.
        """
        with self._store.read() as snapshot:
            rows = chunks.live_behind(snapshot, after, BATCH)
            wanted = {
                chunk.hex(): cluster.copies_wanted(replication)
                for chunk, replication in rows
                if replication > self._done_for
            }
            held = replicas.replicas_of(snapshot, list(wanted))
        short = []
        for chunk, copies in wanted.items():
            known = replicas.named(held.get(chunk, ()), cluster.by_num)
            found, _ = standing(known, cluster, wanted=copies)
            if found.counted < copies:
                short.append((bytes.fromhex(chunk), work.urgency(found.at_hand)))
        return short, rows[-1][0] if len(rows) == BATCH else None
