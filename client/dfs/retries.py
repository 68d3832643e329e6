"""How often one client may try again, over all of its operations. Pure, but for the clock that is passed in.

Separate from `recovery`, which decides about one operation: when a cluster is sick, every operation of every client
has a good reason to try again, and together they keep it from getting well. The first attempt is always free; what
is counted are further grants for a chunk and further rounds over the replicas of one.
"""

import threading

from dfs.protocol.clock import Clock

BURST = 20.0
"""Retries at once: a datanode dies while all threads of a client work with it."""
PER_SECOND = 2.0
"""Retries in the long run: a hundred sick clients then make no more than 200 of them in a second."""
WAIT_MAX_S = 5.0
"""One that would have to wait for longer is not made: the operation fails with the error that it met."""


class RetryBudget:
    """A bucket of tokens. Usable from several threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tokens = BURST
        self._at_s = clock.monotonic_s()
        self._lock = threading.Lock()

    def take(self) -> float | None:
        """How long the next retry has to wait, seconds, which is spent then; None: it must not be made."""
        with self._lock:
            now_s = self._clock.monotonic_s()
            self._tokens = min(BURST, self._tokens + (now_s - self._at_s) * PER_SECOND)
            self._at_s = now_s
            wait_s = max(0.0, (1 - self._tokens) / PER_SECOND)
            if wait_s > WAIT_MAX_S:
                return None
            self._tokens -= 1
            return wait_s
