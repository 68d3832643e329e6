"""Datanodes that failed this client a moment ago. Shared by writers and readers of one client.

The namenode notices a dead datanode after seconds; until then every grant and every list of replicas still names it.
What one thread has learnt spares the others the same time-out. It is this client's view only, and is soon forgotten:
a partition between us and a datanode says nothing about it to anybody else.
"""

from collections.abc import Iterable

from dfs.protocol.clock import Clock

FORGET_AFTER_S = 30.0
"""Twice the time after which a namenode stops choosing a silent datanode."""
KEPT_MAX = 64
"""As many as one Allocate may exclude."""


class Suspects:
    """A set of datanode ids whose members leave by themselves. Usable from several threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}

    def add(self, datanodes: Iterable[str]) -> None:
        """They failed just now."""
        until = self._clock.monotonic_s() + FORGET_AFTER_S
        for datanode in datanodes:
            self._until.pop(datanode, None)
            self._until[datanode] = until

    def clear(self, datanode: str) -> None:
        """It answered."""
        self._until.pop(datanode, None)

    def now(self) -> frozenset[str]:
        """Those that failed within the last FORGET_AFTER_S, the latest KEPT_MAX of them."""
        if not self._until:
            return frozenset()
        now = self._clock.monotonic_s()
        # A copy first: other threads may add meanwhile.
        kept = [datanode for datanode, until in list(self._until.items()) if until > now]
        for datanode, until in list(self._until.items()):
            if until <= now:
                self._until.pop(datanode, None)
        return frozenset(kept[-KEPT_MAX:])
