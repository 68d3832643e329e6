"""A limit on bytes per second that several transfers share: a token bucket.

Only the arithmetic: it tells how long to wait, and the caller waits as it can, in a thread or on the event loop.
"""

import threading

from dfs.protocol.clock import Clock

BURST_S = 0.25
"""What an idle bucket gives at once, as seconds of its rate."""


class TokenBucket:
    """Thread-safe. bytes_per_s 0: no limit."""

    def __init__(self, bytes_per_s: int, clock: Clock) -> None:
        self._rate = bytes_per_s
        self._clock = clock
        self._lock = threading.Lock()
        self._level = bytes_per_s * BURST_S
        self._at_s = clock.monotonic_s()

    def take(self, count: int) -> float:
        """Take the right to move `count` bytes; the seconds to wait before the next ones.

        It may be taken in advance, so that pieces of any size come through; who comes next pays for it.
        """
        if self._rate == 0:
            return 0.0
        with self._lock:
            now_s = self._clock.monotonic_s()
            self._level = min(self._rate * BURST_S, self._level + (now_s - self._at_s) * self._rate)
            self._at_s = now_s
            self._level -= count
            return max(0.0, -self._level / self._rate)
