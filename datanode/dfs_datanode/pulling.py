"""Which pulls the heartbeats name as under way, so that the namenode does not give them up and plan them again.

Separate from the commands, which run them: whether a pull makes progress is a question of time. One that hangs in a
disk is named no longer, however long its thread will be there.
"""

import threading
from collections.abc import Callable

from dfs.protocol.messages import PULLING_MAX

STALLED_S = 30.0
"""A pull that got no piece for so long, and was not told to wait, makes no progress."""


class Pulling:
    """The pulls that were ordered and have not ended. Thread-safe.

    now_s  monotonic
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._queued: dict[str, None] = {}
        self._alive_until_s: dict[str, float] = {}

    def queued(self, chunk: str) -> None:
        """It waits for a thread."""
        with self._lock:
            self._queued[chunk] = None

    def progress(self, chunk: str, pause_s: float = 0.0) -> None:
        """It begins, or has one more piece, and waits so long for the next one because of the limit on repairs."""
        with self._lock:
            self._queued.pop(chunk, None)
            self._alive_until_s[chunk] = self._now_s() + pause_s + STALLED_S

    def ended(self, chunk: str) -> None:
        """It is done, or failed."""
        with self._lock:
            self._queued.pop(chunk, None)
            self._alive_until_s.pop(chunk, None)

    def named(self) -> list[str]:
        """Those that make progress, and after them those that wait for one of these to end."""
        now_s = self._now_s()
        with self._lock:
            running = [chunk for chunk, until_s in self._alive_until_s.items() if now_s < until_s]
            waiting = list(self._queued) if running else []
        return [*running, *waiting][:PULLING_MAX]
