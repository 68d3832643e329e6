"""Looks for chunks that have become missing: asks the datanodes at hand what they have.

A replica may be there that no row tells of: it was reported before the commit of its chunk, or the store was restored.
The next report would bring it, in hours; this asks for one at once. Its own duty because a safe mode, which holds
repair back, is no reason not to look. Reports are asked for in turns, and for all missing chunks together at most once
in some minutes.
"""

import logging

from dfs.protocol.clock import Clock
from dfs_namenode.commands import ReportTurns
from dfs_namenode.liveness import Liveness
from dfs_namenode.store import work
from dfs_namenode.store.sqlite import SqliteStore

log = logging.getLogger(__name__)
AGAIN_S = 300.0
"""A report of a million chunks is seconds of work on a datanode, though little on the wire."""


class Seek:
    """Knows for which missing chunks the datanodes were asked already."""

    def __init__(self, store: SqliteStore, liveness: Liveness, reports: ReportTurns, clock: Clock) -> None:
        self._store = store
        self._liveness = liveness
        self._reports = reports
        self._clock = clock
        self._asked_for_ms: int | None = None
        self._asked_s = float("-inf")

    async def turn(self) -> None:
        """Ask, if a chunk has become missing since that was done last."""
        now_s = self._clock.monotonic_s()
        if now_s - self._asked_s < AGAIN_S:
            return
        with self._store.read() as snapshot:
            newest_ms = work.newest_missing_ms(snapshot)
        if newest_ms is None or newest_ms == self._asked_for_ms:
            return
        live = self._liveness.view().live()
        if not live:
            return
        self._asked_for_ms, self._asked_s = newest_ms, now_s
        log.warning("chunks are missing: %d datanodes are asked what they have", len(live))
        for node in live:
            self._reports.want_soon(node.id)
