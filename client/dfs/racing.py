"""Two replicas asked for the same bytes: the first verified answer wins.

Separate from `fetcher`, which knows what a read is, and from `hedging`, which knows when it is late. The caller's
thread reads from the first replica into the caller's buffer. If that takes too long, a thread reads from the second
one into a buffer of its own; if it is done first, it gives the first request up, whose thread takes the bytes over.
So no buffer ever has two writers, and a loser that still hangs somewhere has nothing but its own.
"""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from dfs.alarms import Alarms
from dfs.hedging import HedgeBudget, Latencies
from dfs.protocol.in_flight import InFlight

Fault = TypeVar("Fault")

LOST_IN_A_ROW = 2
"""Races that a datanode loses one after the other until it is asked last: one may be bad luck."""
AGAIN_S = 0.25
"""A hedge that the budget refused is tried again after so long, if the read still waits."""


class Hedging:
    """What the readers of one client share. Usable from several threads."""

    def __init__(self) -> None:
        self.alarms = Alarms()
        self._latencies = Latencies()
        self._budget = HedgeBudget()
        self._lock = threading.Lock()
        self._lost: dict[str, int] = {}
        self._sent = 0
        self._won = 0

    def begin(self, size: int) -> float:
        """A read of `size` bytes begins; how long it may take before it is asked for elsewhere."""
        with self._lock:
            self._budget.read()
        return self._latencies.hedge_after_s(size)

    def may_hedge(self) -> bool:
        with self._lock:
            allowed = self._budget.take()
            self._sent += allowed
            return allowed

    def ended(self, size: int, seconds: float) -> None:
        """A read has its bytes, from whichever replica."""
        self._latencies.note(size, seconds)

    def answered(self, datanode: str) -> None:
        """It was asked first, and was fast enough."""
        self._lost.pop(datanode, None)

    def lost(self, datanode: str) -> bool:
        """It was asked first, and another one was faster. Whether that is a habit of it by now."""
        with self._lock:
            self._won += 1
            times = self._lost.pop(datanode, 0) + 1
            if times < LOST_IN_A_ROW:
                self._lost[datanode] = times
            return times >= LOST_IN_A_ROW

    def statistics(self) -> dict[str, int]:
        """Hedges sent, and those that were faster than the request that they stood in for."""
        with self._lock:
            return {"sent": self._sent, "won": self._won}


class Race(Generic[Fault]):
    """One read that may be asked for twice. Made and ended by the thread that reads from the first replica.

    spare  reads from the second replica into a buffer of its own, and returns None or its fault; may raise
    """

    def __init__(self, hedging: Hedging, size: int, spare: Callable[[memoryview, InFlight], Fault | None]) -> None:
        self._hedging = hedging
        self._size = size
        self._spare = spare
        self._lock = threading.Lock()
        self._over = False
        self._thread: threading.Thread | None = None
        self._second = InFlight()
        self._buffer: memoryview | None = None
        self._fault: Fault | None = None
        self._error: BaseException | None = None
        self.first = InFlight()
        self.won = False
        """The second replica's answer was verified before the first one's."""
        self._began_s = time.monotonic()
        self._alarm = hedging.alarms.after(hedging.begin(size), self._late)

    def _late(self) -> None:
        with self._lock:
            if self._over:
                return
            if not self._hedging.may_hedge():
                self._alarm = self._hedging.alarms.after(AGAIN_S, self._late)
                return
            thread = threading.Thread(target=self._run, name="dfs-hedge", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # No thread is to be had: the first request goes on alone.
                return
            self._thread = thread

    def _run(self) -> None:
        buffer = memoryview(bytearray(self._size))
        try:
            self._fault = self._spare(buffer, self._second)
        except BaseException as error:
            self._error = error
            return
        if self._fault is None:
            with self._lock:
                if self._over:
                    return
                self.won = True
                self._buffer = buffer
            self.first.give_up()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def succeeded(self) -> None:
        """The first replica's bytes are there and right: give up the other request, wherever it is."""
        self._alarm.cancel()
        with self._lock:
            self._over = True
        self._second.give_up()
        self._hedging.ended(self._size, self.elapsed_s)

    def failed(self, into: memoryview) -> tuple[bool, Fault | None]:
        """The first replica failed, or was given up. Waits for the second one, if it was asked.

        Returns  whether `into` holds its verified bytes; else its fault, or None if it was not asked
        Raises   what the second read raised
        """
        self._alarm.cancel()
        with self._lock:
            thread = self._thread
            if thread is None:
                self._over = True
                return False, None
        thread.join()
        if self._error is not None:
            raise self._error
        if self._fault is not None:
            return False, self._fault
        assert self._buffer is not None, "a read without a fault has its bytes"
        into[:] = self._buffer
        self._hedging.ended(self._size, self.elapsed_s)
        return True, None

    def abandon(self) -> None:
        """The caller wants neither answer any more: it was interrupted, or nothing can help."""
        self._alarm.cancel()
        with self._lock:
            self._over = True
        self._second.give_up()
