"""The namenode's time: a wall clock that does not jump.

Separate because several promises lean on one property: *the namenode's time never goes behind a moment at which it
forgot something*. Results of operations and tombstones of chunks are forgotten when ids of their age are refused; were
the clock then set back, an old id would look young again, and be accepted a second time. So whoever forgets stores
the time beside it, and a namenode that starts with an earlier clock goes on from there (`raise_floor`).

While it runs, time advances with the monotonic clock. Small corrections of the machine's clock are followed at once if
forward; a jump of more than five minutes is not believed until the next start. When the machine's clock is behind,
time goes on at half speed until they agree. All this only shifts expiries.
"""

import logging
import threading

from dfs.protocol.clock import Clock

JUMP_MS = 5 * 60 * 1000
"""A forward correction that is larger is taken for a mistake, milliseconds."""
_WARN_EVERY_S = 600.0

log = logging.getLogger(__name__)


class SteadyClock:
    """A Clock over the machine's. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._now_ms = float(clock.wall_ms())
        self._at_s = clock.monotonic_s()
        self._warned_s = float("-inf")

    def monotonic_s(self) -> float:
        return self._clock.monotonic_s()

    def wall_ms(self) -> int:
        """Milliseconds since the epoch; never less than before."""
        machine_ms, at_s = self._clock.wall_ms(), self._clock.monotonic_s()
        with self._lock:
            elapsed_ms = max(0.0, at_s - self._at_s) * 1000.0
            self._at_s = max(self._at_s, at_s)
            ahead_ms = self._now_ms + elapsed_ms - machine_ms
            if -JUMP_MS <= ahead_ms <= 0:
                self._now_ms = float(machine_ms)
            elif ahead_ms > 0:
                self._now_ms += elapsed_ms - min(elapsed_ms / 2, ahead_ms)
            else:
                self._now_ms += elapsed_ms
                self._warn(at_s, -ahead_ms)
            return int(self._now_ms)

    def raise_floor(self, floor_ms: int) -> None:
        """Never show less than this again: something was forgotten at that time."""
        with self._lock:
            if floor_ms > self._now_ms:
                log.warning(
                    "the machine's clock is %.0f s behind what this store has seen", (floor_ms - self._now_ms) / 1000
                )
                self._now_ms = float(floor_ms)

    def _warn(self, at_s: float, jump_ms: float) -> None:
        if at_s - self._warned_s >= _WARN_EVERY_S:
            self._warned_s = at_s
            log.warning("the machine's clock jumped %.0f s ahead; not followed until the next start", jump_ms / 1000)
