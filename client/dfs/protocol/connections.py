"""Connections that wait for their next request: which of them may still be used, by whom, and how many are kept.

Separate from `transport`, which makes the requests: what is true of an idle connection (it grows old, the peer closes
it, a fork doubles it) has nothing to do with what is asked on it.
"""

import os
import threading
import time
import weakref
from contextlib import suppress

from dfs.protocol.exchange import Connection

FRESH_S = 20.0
"""An idle connection is used again within this time, and closed then; the servers close theirs after 75 s."""
IDLE_CONNECTIONS_MAX = 32
"""Kept for each peer."""


class IdleConnections:
    """The idle connections of one process, for all of its threads: a thread that ends leaves none behind.

    What nobody takes is closed after `FRESH_S`, also if nothing is asked of anybody any more: after a crowd of readers
    a server would else keep a connection for each of them, on both sides.
    """

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._pid = os.getpid()
        self._idle: dict[str, list[tuple[float, Connection]]] = {}
        """The oldest first."""
        self._timer: threading.Timer | None = None
        """Runs while there are any."""

    def take(self, base_url: str) -> Connection | None:
        """A connection that is still fresh and silent, or None."""
        if self._pid != os.getpid():
            # After a fork the connections, and perhaps the lock, belong to the parent's threads. Closing our copies
            # of the descriptors says nothing on the wire.
            for inherited in list(self._idle.values()):
                for _, connection in inherited:
                    connection.close()
            self.__init__()  # type: ignore[misc]
        while True:
            with self._gate:
                waiting = self._idle.get(base_url)
                if not waiting:
                    return None
                since, connection = waiting.pop()
            # A readable idle connection has been closed by the peer, or says something nobody asked for.
            if time.monotonic() - since < FRESH_S and not connection.readable(0):
                return connection
            connection.close()

    def give(self, base_url: str, connection: Connection) -> None:
        """Keep a connection whose answer was read, or close it if it can't be used again."""
        if connection.is_reusable():
            with self._gate:
                waiting = self._idle.setdefault(base_url, [])
                if len(waiting) < IDLE_CONNECTIONS_MAX:
                    waiting.append((time.monotonic(), connection))
                    self._set_timer(FRESH_S)
                    return
        connection.close()

    def _set_timer(self, seconds: float) -> None:
        """Have what is too old closed in so many seconds, or sooner. With the gate held."""
        if self._timer is not None:
            return
        timer = threading.Timer(seconds, _close_old, (weakref.ref(self),))
        timer.name, timer.daemon = "dfs-idle-connections", True
        # Without a thread to be had, the next one that becomes idle tries again.
        with suppress(RuntimeError):
            timer.start()
            self._timer = timer

    def close_old(self) -> None:
        """Close those that are not fresh any more."""
        now_s = time.monotonic()
        old: list[Connection] = []
        with self._gate:
            self._timer = None
            for base_url, waiting in list(self._idle.items()):
                count = sum(now_s - since >= FRESH_S for since, _ in waiting)
                old += [connection for _, connection in waiting[:count]]
                del waiting[:count]
                if not waiting:
                    del self._idle[base_url]
            if self._idle:
                oldest_s = min(waiting[0][0] for waiting in self._idle.values())
                self._set_timer(max(0.1, oldest_s + FRESH_S - now_s))
        for connection in old:
            connection.close()

    def idle(self, base_url: str) -> int:
        """How many connections wait for work."""
        return len(self._idle.get(base_url, []))

    def close(self) -> None:
        if self._pid != os.getpid():
            return
        with self._gate:
            idle, self._idle = self._idle, {}
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        for waiting in idle.values():
            for _, connection in waiting:
                connection.close()


def _close_old(pool: weakref.ref[IdleConnections]) -> None:
    found = pool()
    if found is not None:
        found.close_old()
