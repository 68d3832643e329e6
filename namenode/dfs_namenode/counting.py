"""Counts of everything in the store, for status pages, metrics and the delete budget.

Counting reads whole indexes, so it is done in a thread, one at a time, and the result is kept: for a second, and for
longer where counting itself takes long, so that it never costs more than a twentieth of one processor.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from dfs.protocol.clock import Clock
from dfs_namenode.repair import PRIORITY_MISSING
from dfs_namenode.store import work
from dfs_namenode.store.counts import Counts, count, unreadable_files
from dfs_namenode.store.sqlite import SqliteStore

KEPT_S = 1.0
_REST_FACTOR = 20.0


@dataclass(frozen=True)
class Counted:
    """What was counted at one moment."""

    counts: Counts = field(default_factory=Counts)
    work_by_priority: Mapping[int, int] = field(default_factory=dict)
    unreadable_files: int = 0


class CountCache:
    """Counts, at most so often."""

    def __init__(self, store: SqliteStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = asyncio.Lock()
        self._counted = Counted()
        self._good_until_s = float("-inf")

    @property
    def last(self) -> Counted:
        """What was counted last, however long ago."""
        return self._counted

    async def get(self) -> Counted:
        """The counts, of now or of a moment ago."""
        async with self._lock:
            began_s = self._clock.monotonic_s()
            if began_s >= self._good_until_s:
                self._counted = await asyncio.to_thread(self._count)
                now_s = self._clock.monotonic_s()
                self._good_until_s = now_s + max(KEPT_S, _REST_FACTOR * (now_s - began_s))
            return self._counted

    def _count(self) -> Counted:
        with self._store.read() as snapshot:
            by_priority = work.counts(snapshot)
            unreadable = unreadable_files(snapshot) if by_priority.get(PRIORITY_MISSING) else 0
            return Counted(count(snapshot), by_priority, unreadable)
