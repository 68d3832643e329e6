"""Moves chunks to emptier datanodes while an operator wants it; the decisions are in `balancing`.

Last of all duties: it waits while any chunk has too few replicas, while much is waiting to be trimmed (else a giver
that is not relieved yet would be asked for more), and in every safe mode. Throttled by bytes a second. It ends by
itself when all datanodes are within the threshold.
"""

import asyncio
import logging

from dfs.protocol.clock import Clock
from dfs.protocol.messages import CHUNK_SIZE_MAX, Balancing
from dfs_namenode.balancing import Evenness, evenness, plan_moves
from dfs_namenode.commands import Outbox
from dfs_namenode.keys import NodeKeys
from dfs_namenode.liveness import ClusterView, Liveness
from dfs_namenode.monitors.leader import Leader
from dfs_namenode.monitors.safety import Safety
from dfs_namenode.pulling import pull_command
from dfs_namenode.repair import PRIORITY_BAD, PRIORITY_MISSING, PRIORITY_SURPLUS, Need
from dfs_namenode.store import meta, replicas, work
from dfs_namenode.store.sqlite import SqliteStore

log = logging.getLogger(__name__)
PAGE = 500
UNTRIMMED_MAX = 64
"""Chunks with a replica too many beyond which no more are moved."""
STREAMS = 1
"""Of a datanode; repairs have their own."""


class BalanceDuty:
    """Knows how far the walk through each giver's chunks has come, what is on its way, and how much may be copied."""

    def __init__(
        self,
        store: SqliteStore,
        leader: Leader,
        liveness: Liveness,
        outbox: Outbox,
        safety: Safety,
        keys: NodeKeys,
        *,
        clock: Clock,
        bytes_per_s: int,
        ttl_ms: int,
    ) -> None:
        self._store = store
        self._leader = leader
        self._liveness = liveness
        self._outbox = outbox
        self._safety = safety
        self._keys = keys
        self._clock = clock
        self._bytes_per_s = bytes_per_s
        self._ttl_ms = ttl_ms
        self._after: dict[str, str] = {}
        self._moving: dict[str, str] = {}
        self.moved = 0
        """Chunks that were moved since the start."""
        self._allowed = 0.0
        self._refilled_s = clock.monotonic_s()

    def progress(self) -> Balancing | None:
        """What status shows; None: no balance goes on."""
        with self._store.read() as snapshot:
            threshold = meta.balance(snapshot)
        if threshold is None:
            return None
        found = evenness(self._liveness.view(), threshold=threshold)
        return Balancing(threshold=threshold, spread=found.spread, moving=len(self._moving), moved=self.moved)

    async def turn(self) -> None:
        """Move some chunks, if it is wanted and nothing else is more urgent."""
        self._refill()
        under_way = self._outbox.under_way()
        await self._settle(under_way)
        with self._store.read() as snapshot:
            threshold = meta.balance(snapshot)
            waiting = work.counts(snapshot) if threshold is not None else {}
        if threshold is None or self._safety.modes() or _others_first(waiting):
            return
        cluster = self._liveness.view()
        found = evenness(cluster, threshold=threshold)
        if not found.givers or not found.takers:
            if not self._moving and not waiting:
                log.info("the datanodes are balanced to %.1f %%", found.spread * 100)
                await self._leader.write(lambda tx: meta.set_balance(tx, None))
            return
        for giver in found.givers:
            await self._move_from(giver, found, cluster, under_way)

    async def _move_from(
        self, giver: str, found: Evenness, cluster: ClusterView, under_way: dict[str, list[str]]
    ) -> None:
        chunks, last = await asyncio.to_thread(self._page, giver, cluster)
        pulls = plan_moves(
            giver,
            chunks,
            takers=found.takers,
            mean=found.mean,
            cluster=cluster,
            streams=self._outbox.streams(STREAMS),
            under_way=under_way,
            avoid=self._outbox.avoid(need.chunk for need in chunks),
            bytes_allowed=int(self._allowed),
        )
        expires_ms = self._clock.wall_ms() + self._ttl_ms
        for pull in pulls:
            command = pull_command(pull, cluster, self._keys, expires_ms=expires_ms)
            if self._outbox.pull(pull.target, command, source=pull.sources[0]):
                self._moving[pull.chunk] = pull.target
                self._allowed -= pull.length
        if not pulls:
            self._after[giver] = last

    def _page(self, giver: str, cluster: ClusterView) -> tuple[list[Need], str]:
        """Chunks of a giver, and where the next page begins."""
        after = self._after.get(giver, "")
        with self._store.read() as snapshot:
            number = cluster.datanodes[giver].num
            rows = replicas.at_datanode(snapshot, number, after=after, up_to="", limit=PAGE)
            held = replicas.replicas_of(snapshot, [row.chunk for row in rows])
            needs = []
            for row in rows:
                facts = work.live_facts(snapshot, row.chunk)
                if facts is not None:
                    length, digest, replication = facts
                    known = replicas.named(held.get(row.chunk, ()), cluster.by_num)
                    needs.append(Need(row.chunk, length, digest.hex(), replication, PRIORITY_SURPLUS, known))
        return needs, rows[-1].chunk if len(rows) == PAGE else ""

    async def _settle(self, under_way: dict[str, list[str]]) -> None:
        """Count what has arrived."""
        over = [chunk for chunk, target in self._moving.items() if target not in under_way.get(chunk, ())]
        if not over:
            return
        with self._store.read() as snapshot:
            held = replicas.replicas_of(snapshot, over)
        names = self._liveness.view().by_num
        for chunk in over:
            target = self._moving.pop(chunk)
            self.moved += any(names.get(row.datanode) == target for row in held.get(chunk, ()))

    def _refill(self) -> None:
        now_s = self._clock.monotonic_s()
        # One chunk of the largest size must fit, whatever the rate; a debt is paid before the next one.
        most = max(self._bytes_per_s, CHUNK_SIZE_MAX)
        self._allowed = min(most, self._allowed + self._bytes_per_s * (now_s - self._refilled_s))
        self._refilled_s = now_s


def _others_first(waiting: dict[int, int]) -> bool:
    """Whether chunks with too few replicas, or too many that are to be trimmed, come first."""
    patient = (PRIORITY_BAD, PRIORITY_SURPLUS, PRIORITY_MISSING)
    if any(count for priority, count in waiting.items() if priority not in patient):
        return True
    return waiting.get(PRIORITY_BAD, 0) + waiting.get(PRIORITY_SURPLUS, 0) >= UNTRIMMED_MAX
