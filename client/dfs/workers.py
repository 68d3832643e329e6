"""The threads of a client: a bounded pool that is made when first needed and made anew after a fork.

Rule: only the threads of callers submit, tasks never do. So a task never waits for another one and the pool can't
come to a standstill, however small it is.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

T = TypeVar("T")
R = TypeVar("R")


class Workers:
    """Runs functions in at most `size` threads."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._lock = threading.Lock()
        self._pid = 0
        self._pool: ThreadPoolExecutor | None = None

    def submit(self, work: Callable[..., T], *arguments: Any) -> "Future[T]":
        """Have `work(*arguments)` done."""
        if self._pid != os.getpid():
            # The threads stayed with the parent, and so may the lock, held by one of them.
            self._lock = threading.Lock()
            self._pool = None
            self._pid = os.getpid()
        with self._lock:
            if self._pool is None:
                from concurrent.futures import ThreadPoolExecutor

                self._pool = ThreadPoolExecutor(self.size, thread_name_prefix="dfs")
            return self._pool.submit(work, *arguments)

    def map(self, work: Callable[[T], R], items: Iterable[T], *, ahead: int | None = None) -> Generator[R, None, None]:
        """The results of `work` on each item, in order, with at most `ahead` of them under way or waiting.

        The first exception ends the iteration, after what is under way has ended.
        """
        ahead = self.size if ahead is None else ahead
        running: deque[Future[R]] = deque()
        try:
            for item in items:
                if len(running) >= ahead:
                    yield running.popleft().result()
                running.append(self.submit(work, item))
            while running:
                yield running.popleft().result()
        finally:
            settle(running)

    def close(self) -> None:
        """Let the threads end. Those of another process are not ours."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None and self._pid == os.getpid():
            pool.shutdown(wait=True, cancel_futures=True)


def settle(running: "Iterable[Future[Any]]") -> None:
    """Cancel what has not begun and wait for the rest, so that no task outlives the buffers that it uses."""
    waiting = [future for future in running if not future.cancel()]
    for future in waiting:
        # Its failure is the consequence of one that is being raised already, or nobody asks for it any more.
        future.exception()
