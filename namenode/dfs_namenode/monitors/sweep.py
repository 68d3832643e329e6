"""Sweeps what no path has any more: removed trees, contents past their grace, uploads that nobody touches.

In steps of a few hundred rows, with a pause after each, so that a removed tree of a million files is a million small
rows for the writer and not one long wait for everybody (F31).
"""

import asyncio

from dfs.protocol.clock import Clock
from dfs_namenode.monitors.leader import Leader
from dfs_namenode.store import drafts, garbage
from dfs_namenode.store.sqlite import SqliteStore

ROWS_IN_STEP = 500
STEPS_IN_TURN = 100
DRAFTS_IN_TURN = 100
_PAUSE_S = 0.005


class Sweep:
    """One turn at a time, whether the loop or an operator asks for it."""

    def __init__(
        self, store: SqliteStore, leader: Leader, clock: Clock, *, read_grace_ms: int, draft_idle_ms: int
    ) -> None:
        self._store = store
        self._leader = leader
        self._clock = clock
        self._read_grace_ms = read_grace_ms
        self._draft_idle_ms = draft_idle_ms
        self._lock = asyncio.Lock()

    async def turn(self) -> int:
        """Sweep what is due, up to a bound. Returns how many contents went."""
        async with self._lock:
            await self._end_drafts()
            await self._take_apart()
            return await self._sweep()

    async def _end_drafts(self) -> None:
        before_ms = self._clock.wall_ms() - self._draft_idle_ms
        with self._store.read() as snapshot:
            idle = drafts.idle_since(snapshot, before_ms, DRAFTS_IN_TURN)
        for draft in idle:
            await self._leader.write(lambda tx, draft=draft: drafts.end(tx, draft))  # type: ignore[misc]

    async def _take_apart(self) -> None:
        for _ in range(STEPS_IN_TURN):
            with self._store.read() as snapshot:
                if not garbage.has_detached(snapshot):
                    return
            await self._leader.write(lambda tx: garbage.take_apart_detached(tx, rows=ROWS_IN_STEP))
            await asyncio.sleep(_PAUSE_S)

    async def _sweep(self) -> int:
        contents = 0
        before_ms = self._clock.wall_ms() - self._read_grace_ms
        for _ in range(STEPS_IN_TURN):
            with self._store.read() as snapshot:
                if not garbage.has_retired(snapshot, before_ms=before_ms):
                    break
            swept = await self._leader.write(
                lambda tx: garbage.sweep_retired(tx, before_ms=before_ms, rows=ROWS_IN_STEP)
            )
            contents += swept.contents
            await asyncio.sleep(_PAUSE_S)
        return contents
