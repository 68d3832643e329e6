"""Collects garbage: condemns chunks that nothing refers to, has them deleted, and leaves tombstones.

    condemn   in a transaction that looks at the references once more
    delete    commands to every datanode with a replica row; a dead one's row goes, and a report brings it up again
    bury      when no row is left: a tombstone, so that the id can never be committed a second time

Held back by every safe mode, and by a budget: the brake for the day when a mistake makes everything garbage.
"""

import asyncio
import logging
from collections.abc import Sequence

from dfs.protocol.clock import Clock
from dfs_namenode.commands import Outbox
from dfs_namenode.counting import CountCache
from dfs_namenode.garbage import DeleteBudget
from dfs_namenode.liveness import ClusterView, Liveness
from dfs_namenode.monitors.leader import Leader
from dfs_namenode.monitors.safety import Safety
from dfs_namenode.store import garbage, replicas
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.transaction import Transaction

log = logging.getLogger(__name__)
CONDEMNED_IN_STEP = 200
STEPS_IN_TURN = 20
DELETIONS_WAITING_MAX = 10_000
"""At one datanode; more would only grow the queue."""


class Collect:
    """One turn at a time. Knows the budget, and how far the walk through the condemned chunks has come."""

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
    ) -> None:
        self._store = store
        self._leader = leader
        self._liveness = liveness
        self._outbox = outbox
        self._safety = safety
        self._counts = counts
        self._clock = clock
        self._budget = budget
        self._walked_to = ""
        self._lock = asyncio.Lock()
        self._braking = False

    def brakes(self) -> list[str]:
        """A sentence while the budget holds chunks back."""
        return ["brake: so many chunks became garbage at once that they are deleted slowly"] if self._braking else []

    async def turn(self) -> int:
        """Condemn what is due, and push deletions on. Returns how many chunks were condemned."""
        async with self._lock:
            if self._safety.modes():
                return 0
            condemned = await self._condemn()
            await self._delete()
            return condemned

    async def _condemn(self) -> int:
        total = 0
        for _ in range(STEPS_IN_TURN):
            with self._store.read() as snapshot:
                if not garbage.has_unreferenced(snapshot, now_ms=self._clock.wall_ms()):
                    self._braking = False
                    break
            chunks = max((await self._counts.get()).counts.chunks, 1)
            allowed = self._budget.available(chunks=chunks, now_s=self._clock.monotonic_s())
            if allowed <= 0:
                if not self._braking:
                    log.warning("the share of chunks that became garbage is implausible: deletion goes on slowly")
                self._braking = True
                break
            self._braking = False
            limit = min(allowed, CONDEMNED_IN_STEP)
            condemned = await self._leader.write(lambda tx, limit=limit: garbage.condemn(tx, limit=limit))  # type: ignore[misc]
            self._budget.spend(len(condemned))
            total += len(condemned)
        return total

    async def _delete(self) -> None:
        """Look at the next condemned chunks: send deletions, and bury those whose replicas are all gone."""
        for _ in range(STEPS_IN_TURN):
            cluster = self._liveness.view()
            with self._store.read() as snapshot:
                chunks = garbage.condemned(snapshot, after=self._walked_to, limit=CONDEMNED_IN_STEP)
                held = replicas.replicas_of(snapshot, chunks)
            self._walked_to = chunks[-1] if len(chunks) == CONDEMNED_IN_STEP else ""
            settled = []
            for chunk in chunks:
                if not self._ask(held.get(chunk, ()), chunk, cluster):
                    settled.append(chunk)
            if settled:
                dead = {node.num for node in cluster.dead()}
                await self._leader.write(lambda tx, settled=settled, dead=dead: bury(tx, settled, dead))  # type: ignore[misc]
            if not self._walked_to:
                return

    def _ask(self, rows: Sequence[replicas.Held], chunk: str, cluster: ClusterView) -> bool:
        """Have the chunk deleted wherever it can be; False: nobody can be asked."""
        asked = False
        for row in rows:
            name = cluster.by_num.get(row.datanode)
            if name is None or cluster.state(name) == "dead":
                continue
            asked = True
            if self._outbox.deleting(name) < DELETIONS_WAITING_MAX:
                self._outbox.delete(name, chunk)
        return asked


def bury(tx: Transaction, chunks: list[str], dead: set[int]) -> None:
    """Drop the rows at dead datanodes of condemned chunks, and put tombstones where no row is left."""
    for chunk in chunks:
        known = garbage.known_chunk(tx, chunk)
        if known is None or known.state != "condemned":
            continue
        for row in replicas.replicas_of(tx, [chunk]).get(chunk, ()):
            if row.datanode in dead:
                replicas.drop(tx, chunk, row.datanode)
        garbage.bury_if_gone(tx, chunk)
