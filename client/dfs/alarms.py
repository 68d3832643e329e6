"""Functions that are called a little later, unless the reason for it has gone.

Separate because one thread serves all reads of a client: a timer thread for each read would cost more than the read.
The thread exists only while something waits, and is made anew after a fork.
"""

import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable

IDLE_S = 2.0
"""The thread ends after so long without work."""


class Alarm:
    """A function to be called; `cancel` may come too late, so the function must stand being called."""

    __slots__ = ("cancelled", "work")

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Alarms:
    """Usable from several threads. The functions are called one after the other, and must neither wait nor raise."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._waiting: list[tuple[float, int, Alarm]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._running = False

    def after(self, seconds: float, work: Callable[[], None]) -> Alarm:
        """Have `work` called in `seconds`."""
        if self._pid != os.getpid():
            # The thread stayed with the parent, and so may the lock, held by it.
            self._begin()
        alarm = Alarm(work)
        due_s = time.monotonic() + seconds
        with self._changed:
            heapq.heappush(self._waiting, (due_s, next(self._numbers), alarm))
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="dfs-alarms", daemon=True).start()
            elif self._waiting[0][2] is alarm:
                self._changed.notify()
        return alarm

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._waiting and self._waiting[0][2].cancelled:
                    heapq.heappop(self._waiting)
                if not self._waiting:
                    if not self._changed.wait(IDLE_S) and not self._waiting:
                        self._running = False
                        return
                    continue
                wait_s = self._waiting[0][0] - time.monotonic()
                if wait_s > 0:
                    self._changed.wait(wait_s)
                    continue
                alarm = heapq.heappop(self._waiting)[2]
            if not alarm.cancelled:
                alarm.work()
