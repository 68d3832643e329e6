"""Time, passed in by argument, so that the logic runs under a simulated clock in tests."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one for people and identifiers, one for durations. Nothing is ordered by the first."""

    def wall_ms(self) -> int:
        """Milliseconds since the epoch; may jump."""

    def monotonic_s(self) -> float:
        """Seconds since some moment; never goes back."""


class SystemClock:
    """The machine's clocks."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()


class PeerClock:
    """Another machine's wall clock, followed through its answers and advanced by our own monotonic clock.

    Datanodes judge expiry by the namenode's time through this, so that their own wall clock may be a day off.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_ms = clock.wall_ms() - self._monotonic_ms()

    def _monotonic_ms(self) -> int:
        return int(self._clock.monotonic_s() * 1000)

    def follow(self, peer_ms: int) -> None:
        """Take over the time that the peer just told."""
        self._offset_ms = peer_ms - self._monotonic_ms()

    def wall_ms(self) -> int:
        """What the peer's clock shows now."""
        return self._offset_ms + self._monotonic_ms()

    def monotonic_s(self) -> float:
        return self._clock.monotonic_s()
