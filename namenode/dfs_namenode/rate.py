"""How fast something goes on: events of the last minute. For progress and estimates, never for decisions."""

from collections import deque

from dfs.protocol.clock import Clock

WINDOW_S = 60.0
_STEP_S = 1.0
"""Events are counted in steps of this length, so that the memory is bounded whatever the rate."""


class Rate:
    """Counts events."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._steps: deque[list[float]] = deque()

    def add(self, count: int = 1) -> None:
        now_s = self._clock.monotonic_s()
        if self._steps and now_s - self._steps[-1][0] < _STEP_S:
            self._steps[-1][1] += count
        else:
            self._steps.append([now_s, count])
        self._forget_old(now_s)

    def per_s(self) -> float:
        """Events each second over the window, or over the time since the first one where that is shorter."""
        now_s = self._clock.monotonic_s()
        self._forget_old(now_s)
        if not self._steps:
            return 0.0
        return sum(count for _, count in self._steps) / max(_STEP_S, min(WINDOW_S, now_s - self._steps[0][0]))

    def eta_s(self, left: int) -> float | None:
        """Seconds until so many more have happened at this rate; None: nothing is left, or nothing happens."""
        rate = self.per_s()
        return left / rate if left and rate else None

    def _forget_old(self, now_s: float) -> None:
        while self._steps and now_s - self._steps[0][0] > WINDOW_S:
            self._steps.popleft()
