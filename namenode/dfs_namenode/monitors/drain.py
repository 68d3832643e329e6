"""Follows what operators decided about datanodes: ends a maintenance, and finishes what is being drained.

A datanode that is drained is walked through again and again: what is not safe elsewhere becomes work, and is counted.
Only a whole walk that found nothing left makes it decommissioned. It begins in the turn after the datanode was first
seen as draining, so that a commit which still took its receipts is there before. The others are asked for reports
meanwhile, and the walk that counts begins after those of all that are relied on. The copies are the repair duty's.
"""

import asyncio
import logging
from dataclasses import dataclass, field

from dfs.protocol.clock import Clock
from dfs.protocol.messages import AdminState
from dfs_namenode.commands import ReportTurns
from dfs_namenode.draining import Elsewhere, Leaving, look_elsewhere, over_since, unconfirmed
from dfs_namenode.liveness import ClusterView, Datanode, Liveness
from dfs_namenode.monitors.leader import Leader
from dfs_namenode.repair import PRIORITY_MOVING
from dfs_namenode.store import datanodes, garbage, replicas, work
from dfs_namenode.store.schema import WORK_UNDER_REPLICATED
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.transaction import Transaction

log = logging.getLogger(__name__)
BATCH = 500
BATCHES_IN_TURN = 20


@dataclass
class _Walk:
    """Through the chunks of a datanode, again and again. `counted` is what the last whole walk found left."""

    noticed_s: float
    """When the datanode was seen to be drained."""
    begun: bool = False
    began_s: float = 0.0
    """When the present walk began."""
    after: str = ""
    left: int = 0
    relied_on: set[str] = field(default_factory=set)
    counted: int | None = None

    def begin(self, now_s: float) -> None:
        """At the first chunk once more."""
        self.began_s, self.after, self.left = now_s, "", 0
        self.relied_on.clear()


class Draining:
    """Knows how far each walk has come."""

    def __init__(
        self, store: SqliteStore, leader: Leader, liveness: Liveness, reports: ReportTurns, clock: Clock
    ) -> None:
        self._store = store
        self._leader = leader
        self._liveness = liveness
        self._reports = reports
        self._clock = clock
        self._walks: dict[str, _Walk] = {}

    def left(self, datanode: str) -> int | None:
        """Chunks that were not safe elsewhere when they were counted last; None: not drained, or not counted yet."""
        walk = self._walks.get(datanode)
        return None if walk is None else walk.counted

    async def turn(self) -> None:
        """End what is over, and walk on."""
        cluster = self._liveness.view()
        for node in over_since(cluster, now_ms=self._clock.wall_ms()):
            if await self._leader.write(lambda tx, node=node: _move_on(tx, node, "in_service")):  # type: ignore[misc]
                log.warning("the maintenance of %s is over", node.id)
                self._liveness.decided(node.id, "in_service")
        draining = {node.id: node for node in cluster.datanodes.values() if node.admin_state == "draining"}
        now_s = self._clock.monotonic_s()
        if draining.keys() - self._walks.keys():
            for node in cluster.live():
                self._reports.want_soon(node.id)
        self._walks = {name: self._walks.get(name) or _Walk(now_s) for name in draining}
        for name, walk in self._walks.items():
            if not walk.begun:
                walk.begun = True
                walk.begin(now_s)
            else:
                await self._walk(draining[name], walk, cluster)

    async def _walk(self, node: Datanode, walk: _Walk, cluster: ClusterView) -> None:
        for _ in range(BATCHES_IN_TURN):
            found, last = await asyncio.to_thread(self._next_chunks, node.num, walk.after, cluster)
            if found.left:
                rows = [(chunk, PRIORITY_MOVING) for chunk in found.left]
                await self._leader.write(lambda tx, rows=rows: work.put_many(tx, rows, why=WORK_UNDER_REPLICATED))  # type: ignore[misc]
            walk.left += len(found.left)
            walk.relied_on |= found.relied_on
            if last is not None:
                walk.after = last
                continue
            walk.counted = walk.left
            if (
                walk.left == 0
                and self._is_confirmed(walk)
                and await self._leader.write(lambda tx: _move_on(tx, node, "decommissioned"))
            ):
                log.warning("%s is drained: every chunk of it has its replicas elsewhere", node.id)
                self._liveness.decided(node.id, "decommissioned")
            walk.begin(self._clock.monotonic_s())
            return

    def _is_confirmed(self, walk: _Walk) -> bool:
        """Whether all that the walk relied on had reported before; asks those that had not."""
        reported = {name: at_s for name in walk.relied_on if (at_s := self._reports.finished_s(name)) is not None}
        missing = unconfirmed(walk.relied_on, reported, begun_s=walk.noticed_s, walked_s=walk.began_s)
        for name in missing:
            if reported.get(name, walk.noticed_s) <= walk.noticed_s:
                self._reports.want_soon(name)
        return not missing

    def _next_chunks(self, number: int, after: str, cluster: ClusterView) -> tuple[Elsewhere, str | None]:
        """What the next chunks are, and where to go on; None: that was all."""
        with self._store.read() as snapshot:
            rows = replicas.at_datanode(snapshot, number, after=after, up_to="", limit=BATCH)
            held = replicas.replicas_of(snapshot, [row.chunk for row in rows])
            leaving = []
            for row in rows:
                replication = garbage.replication_of(snapshot, row.chunk)
                if replication is not None:
                    known = replicas.named(held.get(row.chunk, ()), cluster.by_num)
                    leaving.append(Leaving(bytes.fromhex(row.chunk), replication, known))
        return look_elsewhere(leaving, cluster), rows[-1].chunk if len(rows) == BATCH else None


def _move_on(tx: Transaction, node: Datanode, state: AdminState) -> bool:
    """Change the state of a datanode, unless an operator has decided anew meanwhile. True: it was changed."""
    found = datanodes.find(tx, node.id)
    if found is None or (found.admin_state, found.admin_until_ms) != (node.admin_state, node.admin_until_ms):
        return False
    datanodes.set_admin_state(tx, node.id, state)
    return True
