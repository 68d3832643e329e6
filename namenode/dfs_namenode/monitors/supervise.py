"""Runs the duties, and does not let one die silently (F91).

A turn that raises is logged, counted and tried again; after the fourth time in a row the process ends, because a
namenode that serves but does not repair loses data slowly and looks healthy. Errors of the day (a full disk, a full
queue) are no failures: the next turn may succeed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from dfs.protocol.clock import Clock
from dfs.protocol.errors import DfsError, OutcomeUnknown, StateError

log = logging.getLogger(__name__)
RESTARTS_MAX = 3
_WAIT_BEFORE_RETRY_S = 1.0


@dataclass(frozen=True)
class Duty:
    """Something that is done again and again. `turn` does a bounded piece."""

    name: str
    interval_s: float
    turn: Callable[[], Awaitable[object]]


@dataclass
class _Record:
    succeeded_s: float
    failures: int = 0
    """In a row."""
    failures_total: int = 0


class Monitors:
    """The duties of one process. `ended` is called with a sentence when one can't go on."""

    def __init__(self, duties: Sequence[Duty], *, clock: Clock, ended: Callable[[str], None]) -> None:
        self._duties = duties
        self._clock = clock
        self._ended = ended
        now_s = clock.monotonic_s()
        self._records = {duty.name: _Record(now_s) for duty in duties}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    def start(self) -> None:
        """Begin, on the running loop."""
        self._tasks = [asyncio.create_task(self._run(duty), name=f"monitor-{duty.name}") for duty in self._duties]
        for task in self._tasks:
            task.add_done_callback(self._ended_by_itself)

    async def stop(self) -> None:
        """End, and wait until every turn has."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._tasks = []

    def ages_s(self) -> dict[str, float]:
        """Seconds since the last turn of each duty that succeeded."""
        now_s = self._clock.monotonic_s()
        return {name: now_s - record.succeeded_s for name, record in self._records.items()}

    def interval_s(self, name: str) -> float:
        """How often a duty has its turn."""
        return next(duty.interval_s for duty in self._duties if duty.name == name)

    def failures(self) -> dict[str, int]:
        """Turns of each duty that failed, ever."""
        return {name: record.failures_total for name, record in self._records.items()}

    def _ended_by_itself(self, task: asyncio.Task[None]) -> None:
        """A task that was cancelled by anything but `stop` would be gone without a word."""
        if task.cancelled() and not self._stopping:
            self._ended(f"{task.get_name()} was cancelled")

    async def _run(self, duty: Duty) -> None:
        record = self._records[duty.name]
        while True:
            try:
                await duty.turn()
                record.succeeded_s = self._clock.monotonic_s()
                record.failures = 0
            except (StateError, OutcomeUnknown) as error:
                log.warning("%s waits: %s", duty.name, error)
            except Exception as error:
                record.failures += 1
                record.failures_total += 1
                log.exception("%s failed (%d in a row)", duty.name, record.failures)
                if record.failures > RESTARTS_MAX:
                    reason = error.message if isinstance(error, DfsError) else repr(error)
                    self._ended(f"{duty.name} failed {record.failures} times in a row, at last with: {reason}")
                    return
                await asyncio.sleep(_WAIT_BEFORE_RETRY_S)
            await asyncio.sleep(duty.interval_s)
