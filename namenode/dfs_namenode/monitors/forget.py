"""Forgets what has served its time: results of operations, the old end of the change log, tombstones.

What is forgotten here could once have refused something: a repeated operation, a replayed receipt. So each step also
keeps the time at which it forgot, and the namenode's clock never goes behind that (see `steady_clock`).
"""

from collections.abc import Callable

from dfs.protocol.clock import Clock
from dfs_namenode.garbage import forget_before_ms
from dfs_namenode.monitors.leader import Leader
from dfs_namenode.store import garbage, oplog
from dfs_namenode.store.transaction import Transaction

ROWS_IN_STEP = 500
STEPS_IN_TURN = 1000
"""With a turn each minute: 8000 operations a second may go on for ever without these tables growing."""
RESULTS_MARGIN_MS = 5 * 60 * 1000
"""How much longer than it is promised a result is kept."""


class Forget:
    """The limits of age, milliseconds."""

    def __init__(
        self, leader: Leader, clock: Clock, *, op_retention_ms: int, change_retention_ms: int, commit_window_ms: int
    ) -> None:
        self._leader = leader
        self._clock = clock
        self._op_retention_ms = op_retention_ms
        self._change_retention_ms = change_retention_ms
        self._commit_window_ms = commit_window_ms

    async def turn(self) -> None:
        """Forget a bounded number of rows of each kind."""
        now_ms = self._clock.wall_ms()
        results_ms = max(0, now_ms - self._op_retention_ms - RESULTS_MARGIN_MS)
        changes_ms = max(0, now_ms - self._change_retention_ms)
        tombstones_ms = forget_before_ms(now_ms=now_ms, commit_window_ms=self._commit_window_ms)
        await self._repeat(lambda tx: oplog.forget_results(tx, before_ms=results_ms, limit=ROWS_IN_STEP), ROWS_IN_STEP)
        await self._repeat(
            lambda tx: garbage.forget_tombstones(tx, before_ms=tombstones_ms, limit=ROWS_IN_STEP), ROWS_IN_STEP
        )
        await self._repeat(lambda tx: oplog.forget_changes(tx, before_ms=changes_ms, limit=ROWS_IN_STEP), ROWS_IN_STEP)

    async def _repeat(self, step: Callable[[Transaction], int], full: int) -> None:
        """Do a step until it has less to do than it could."""
        for _ in range(STEPS_IN_TURN):
            if await self._leader.write(step) < full:
                return
