"""Has orphans deleted that nobody comes for: replicas of no chunk, in ids too old to be committed any more.

    bury     in a transaction that looks at the latch once more: a tombstone where no chunk is, and the records go
    delete   commands to every datanode that was known to have one; whoever was away reports it again

Separate from `collect`, whose chunks were files once: here is what was never committed, and what the store has lost.
Held back by every safe mode and by the same budget (F65): a store that lost its rows must not have everything deleted.
"""

import asyncio
import logging
from collections.abc import Sequence

from dfs.protocol.clock import Clock
from dfs_namenode.commands import Outbox
from dfs_namenode.counting import CountCache
from dfs_namenode.garbage import DeleteBudget, may_bury
from dfs_namenode.liveness import Liveness
from dfs_namenode.monitors.leader import Leader
from dfs_namenode.monitors.safety import Safety
from dfs_namenode.store import garbage, meta, orphans
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.transaction import Transaction

log = logging.getLogger(__name__)
BURIED_IN_STEP = 200
STEPS_IN_TURN = 20
DELETIONS_WAITING_MAX = 10_000
"""At one datanode; a command that found no room would have to wait for the next report."""


class Bury:
    """One turn at a time."""

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
        orphan_age_ms: int,
    ) -> None:
        self._store = store
        self._leader = leader
        self._liveness = liveness
        self._outbox = outbox
        self._safety = safety
        self._counts = counts
        self._clock = clock
        self._budget = budget
        self._orphan_age_ms = orphan_age_ms
        self._lock = asyncio.Lock()
        self._braking = False

    def brakes(self) -> list[str]:
        """A sentence while the budget holds orphans back."""
        if not self._braking:
            return []
        return ["brake: so many replicas that belong to no file are there at once that they are deleted slowly"]

    async def turn(self) -> int:
        """Bury what is due. Returns how many ids."""
        async with self._lock:
            total = 0
            for _ in range(STEPS_IN_TURN):
                if self._safety.modes() or self._is_busy():
                    break
                with self._store.read() as snapshot:
                    up_to_ms = self._clock.wall_ms() - self._orphan_age_ms
                    due = orphans.due(snapshot, up_to_ms=up_to_ms, limit=BURIED_IN_STEP)
                if not due:
                    self._braking = False
                    break
                chunks = max((await self._counts.get()).counts.chunks, 1)
                allowed = self._budget.available(chunks=chunks, now_s=self._clock.monotonic_s())
                if allowed <= 0:
                    if not self._braking:
                        log.warning("the number of replicas of no file is implausible: deletion goes on slowly")
                    self._braking = True
                    break
                self._braking = False
                total += await self._bury(due[:allowed])
            return total

    async def _bury(self, chunks: Sequence[str]) -> int:
        held = await self._leader.write(lambda tx: bury(tx, chunks, orphan_age_ms=self._orphan_age_ms))
        self._budget.spend(len({chunk for _, chunk in held}))
        by_num = self._liveness.view().by_num
        for number, chunk in held:
            if number in by_num:
                self._outbox.delete(by_num[number], chunk)
        return len({chunk for _, chunk in held})

    def _is_busy(self) -> bool:
        return any(self._outbox.deleting(name) >= DELETIONS_WAITING_MAX for name in self._liveness.view().datanodes)


def bury(tx: Transaction, chunks: Sequence[str], *, orphan_age_ms: int) -> list[tuple[int, str]]:
    """Put tombstones where there is no chunk. Returns who has the replicas that may be deleted: number and id."""
    latched = meta.latch(tx) is not None
    held = []
    for chunk in () if latched else chunks:
        known = garbage.known_chunk(tx, chunk)
        if known is None and not may_bury(chunk, now_ms=tx.now_ms, orphan_age_ms=orphan_age_ms, latched=latched):
            continue
        found = orphans.take(tx, bytes.fromhex(chunk))
        if not found or (known is not None and known.state == "live"):
            continue
        if known is None:
            garbage.bury_unknown(tx, chunk, length=found[0].length, digest=found[0].digest)
        held += [(orphan.datanode, chunk) for orphan in found]
    return held
