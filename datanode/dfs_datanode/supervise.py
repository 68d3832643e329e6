"""Background loops that must not die silently.

Each loop is a thread that runs one duty again and again. A failure is logged, counted, and the duty goes on after a
pause; at the fourth failure in a row without a success between them the process is ended, because a datanode that
seems alive and no longer does its duty is worse than one that is seen to be dead.

What is done on demand, in threads of a pool, is judged alike (`Trials`): a task that fails is logged and counted, and
when the fourth one in a row fails, each about something else, it is not the tasks.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from dfs.protocol.clock import Clock

logger = logging.getLogger("dfs.datanode")

RESTARTS_MAX = 3
RESTART_PAUSE_S = 1.0
_STOP_WAIT_S = 5.0


class Trials:
    """Whether the tasks of one kind fail one and all. Thread-safe.

    fatal  called when too many failed in a row; it ends the process
    """

    def __init__(self, kind: str, fatal: Callable[[str], None]) -> None:
        self.failures = 0
        self._kind = kind
        self._fatal = fatal
        self._lock = threading.Lock()
        self._failing: set[str] = set()
        """What the tasks were about that failed since the last success."""

    def succeeded(self) -> None:
        with self._lock:
            self._failing.clear()

    def failed(self, subject: str, error: BaseException) -> None:
        """A task failed as none should. One subject alone never ends the process: it may be what is wrong."""
        with self._lock:
            self.failures += 1
            self._failing.add(subject)
            hopeless = len(self._failing) > RESTARTS_MAX
        logger.error("the task %s of %s failed", self._kind, subject, exc_info=error)
        if hopeless:
            self._fatal(f"the task {self._kind} failed {RESTARTS_MAX + 1} times in a row, at last with {error!r}")


@dataclass(frozen=True)
class LoopStatistics:
    name: str
    seconds_since_success: float
    failures: int
    volume: str = ""
    """The id of the volume whose duty it is: while that one is out of service, it may be late."""


class Loop:
    """Runs `turn` again and again in a thread of its own.

    turn   does the duty once, and returns the seconds to rest; `wake` cuts the rest short
    fatal  called when the duty failed too often; it ends the process
    volume  the id of the volume that it looks after, if it is one's own
    """

    def __init__(
        self,
        name: str,
        turn: Callable[[], float],
        clock: Clock,
        fatal: Callable[[str], None],
        *,
        volume: str = "",
    ) -> None:
        self.name = name
        self.volume = volume
        self.failures = 0
        self._turn = turn
        self._clock = clock
        self._fatal = fatal
        self._succeeded_s = clock.monotonic_s()
        self._in_a_row = 0
        self._stopping = False
        self._wakes = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Let the next turn begin now."""
        self._wakes.set()

    def ask_to_stop(self) -> None:
        """Let the loop end after its present turn."""
        self._stopping = True
        self._wakes.set()

    def stop(self) -> None:
        """Ask the loop to end after its present turn, and wait for it a little."""
        self.ask_to_stop()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_STOP_WAIT_S)

    def statistics(self) -> LoopStatistics:
        return LoopStatistics(self.name, self._clock.monotonic_s() - self._succeeded_s, self.failures, self.volume)

    def _run(self) -> None:
        rest_s: float | None = 0.0
        try:
            while not self._stopping and rest_s is not None:
                # Cleared before the turn: a wake that comes during it must not be lost.
                self._wakes.clear()
                rest_s = self._one_turn()
                self._wakes.wait(rest_s or 0.0)
        except BaseException as error:
            # Nothing that a turn should raise, such as SystemExit in a thread: it would end the loop without a word.
            logger.exception("the loop %s ended", self.name)
            self._fatal(f"the loop {self.name} ended with {error!r}")

    def _one_turn(self) -> float | None:
        """The seconds to rest, or None if this loop has ended."""
        try:
            rest_s = self._turn()
        except Exception:
            self.failures += 1
            self._in_a_row += 1
            logger.exception("the loop %s failed (%d in a row)", self.name, self._in_a_row)
            if self._in_a_row > RESTARTS_MAX:
                self._fatal(f"the loop {self.name} failed {self._in_a_row} times in a row")
                return None
            return RESTART_PAUSE_S
        self._in_a_row = 0
        self._succeeded_s = self._clock.monotonic_s()
        return rest_s
