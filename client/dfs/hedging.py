"""When a second replica is asked although the first has not failed, and how many such requests there may be. Pure.

A datanode that is stopped, or a hundred times slower than the others, keeps its connections and its heartbeats; only
time tells it from a healthy one. So a read that takes longer than 95 of 100 do is asked for a second time elsewhere.
Separate from `racing`, which runs the two requests, so that the rule can be tested as a table. Latencies are kept by
the size of the answer, because what is late for 4 KiB is early for 4 MiB.
"""

from bisect import bisect_left
from collections import deque

SAMPLES_MAX = 128
"""Of each size: the last few seconds of a busy reader, so that it follows the load."""
SAMPLES_MIN = 20
"""Fewer say nothing about the slowest twentieth."""
QUANTILE = 0.95
AFTER_UNKNOWN_S = 0.5
"""While there are too few samples: long for any datanode that is well, short for a person who waits."""
AFTER_MIN_S = 0.02
"""Below this, a hedge would answer to the scheduler and not to a datanode."""
AFTER_MAX_S = 2.0
"""A cluster that is slow as a whole still gets its second request well before the time-out of the first."""
_SIZES = (64 << 10, 1 << 20)
"""Upper bounds of the classes of sizes, bytes; larger ones are the last class."""

SHARE = 0.05
"""Hedges in the long run, of all reads: what the rule above asks for if all is well."""
BURST = 10.0
"""Hedges at once: a datanode that stops while several parts are read from it."""


class Latencies:
    """How long the last reads took, by size. Usable from several threads: a lost sample does no harm."""

    def __init__(self) -> None:
        self._samples: list[deque[float]] = [deque(maxlen=SAMPLES_MAX) for _ in range(len(_SIZES) + 1)]
        self._known: list[tuple[int, float]] = [(0, AFTER_UNKNOWN_S)] * len(self._samples)
        self._count = [0] * len(self._samples)

    def note(self, size: int, seconds: float) -> None:
        """A read of `size` bytes took so long, or at least so long if it was given up."""
        kind = bisect_left(_SIZES, size)
        self._samples[kind].append(seconds)
        self._count[kind] += 1

    def hedge_after_s(self, size: int) -> float:
        """How long a read of `size` bytes may take before another replica is asked too."""
        kind = bisect_left(_SIZES, size)
        at, known_s = self._known[kind]
        count = self._count[kind]
        # Sorting at each read would cost more than it tells: the quantile moves slowly.
        if count - at >= SAMPLES_MIN:
            known_s = quantile_s(sorted(self._samples[kind].copy()))
            self._known[kind] = (count, known_s)
        return known_s


def quantile_s(ordered: list[float]) -> float:
    """The 95th percentile of latencies in ascending order, within its bounds."""
    found = ordered[min(len(ordered) - 1, int(len(ordered) * QUANTILE))]
    return min(max(found, AFTER_MIN_S), AFTER_MAX_S)


class HedgeBudget:
    """Keeps hedges a small share of all reads, so that they never add much to the load that makes reads slow.

    Not by time but by reads: an idle client saves up no more than BURST.
    """

    def __init__(self) -> None:
        self._tokens = BURST

    def read(self) -> None:
        """Another read has begun."""
        self._tokens = min(BURST, self._tokens + SHARE)

    def take(self) -> bool:
        """Whether one more hedge may be sent; it counts as sent then."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
