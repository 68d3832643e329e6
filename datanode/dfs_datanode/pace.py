"""How slowly a sender may send: a rule that chunks and the gateway's uploads share.

A sender that keeps a stream open with a trickle holds a thread, a buffer or a share of the memory of all. Only the
time spent in waiting for it counts, so that a slow disk or a slow peer of ours is never held against it.
"""

WINDOW_S = 30.0
WINDOW_BYTES_MIN = 30 * 1024
"""A sender that gives less than 1 KiB/s, averaged over a window of waiting, is given up."""


class Pace:
    """The pace of one sender. Knows no clock: it is told how long was waited, and what came of it."""

    def __init__(self) -> None:
        self._waited_s = 0.0
        self._bytes = 0

    def note(self, waited_s: float, count: int) -> None:
        """After `waited_s` seconds of waiting `count` bytes came. Raises TimeoutError if the sender is too slow."""
        self._waited_s += waited_s
        self._bytes += count
        if self._waited_s >= WINDOW_S:
            if self._bytes < WINDOW_BYTES_MIN:
                raise TimeoutError(f"only {self._bytes} bytes in {self._waited_s:.0f} s")
            self._waited_s, self._bytes = 0.0, 0
