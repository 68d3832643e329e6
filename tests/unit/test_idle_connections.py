"""Connections that nobody uses: closed in time, and not many (I9)."""

import socket
from collections.abc import Iterator
from typing import ClassVar

import pytest

from dfs.protocol import connections
from dfs.protocol.connections import IDLE_CONNECTIONS_MAX, IdleConnections
from dfs.protocol.exchange import Connection

URL, OTHER = "http://one:1", "http://two:2"


class Time:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


class StillTimer:
    """A timer that rings when the test says so."""

    made: ClassVar["list[StillTimer]"] = []

    def __init__(self, seconds: float, ring: object, arguments: tuple[object, ...]) -> None:
        self.seconds, self._ring, self._arguments = seconds, ring, arguments
        self.daemon = False
        self.name = ""
        self.started = self.cancelled = False
        StillTimer.made.append(self)

    def start(self) -> None:
        self.started = True

    def cancel(self) -> None:
        self.cancelled = True

    def ring(self) -> None:
        assert self.started
        assert not self.cancelled
        self._ring(*self._arguments)  # type: ignore[operator]


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(connections, "time", made)
    monkeypatch.setattr(connections.threading, "Timer", StillTimer)
    StillTimer.made = []
    return made


@pytest.fixture
def peers() -> Iterator[list[socket.socket]]:
    made: list[socket.socket] = []
    yield made
    for sock in made:
        sock.close()


def connected(peers: list[socket.socket]) -> Connection:
    sock, peer = socket.socketpair()
    peers.append(peer)
    return Connection(sock)


def test_connections_that_nobody_takes_are_closed_although_nothing_is_asked_any_more(
    time: Time, peers: list[socket.socket]
) -> None:
    pool = IdleConnections()
    old, young = connected(peers), connected(peers)
    pool.give(URL, old)
    time.now_s += connections.FRESH_S - 1
    pool.give(OTHER, young)
    (timer,) = StillTimer.made
    assert (timer.seconds, timer.daemon) == (connections.FRESH_S, True)
    time.now_s += 1
    timer.ring()
    assert (old.sock, pool.idle(URL), pool.idle(OTHER)) == (None, 0, 1)
    second = StillTimer.made[1]
    assert second.seconds == pytest.approx(connections.FRESH_S - 1)
    time.now_s += second.seconds
    second.ring()
    assert (young.sock, pool.idle(OTHER)) == (None, 0)
    assert len(StillTimer.made) == 2, "no thread stays behind when nothing is idle"


def test_a_connection_that_is_used_again_is_not_closed(time: Time, peers: list[socket.socket]) -> None:
    pool = IdleConnections()
    used = connected(peers)
    pool.give(URL, used)
    time.now_s += connections.FRESH_S - 1
    assert pool.take(URL) is used
    time.now_s += 1
    StillTimer.made[0].ring()
    assert used.sock is not None
    pool.give(URL, used)
    assert pool.take(URL) is used
    used.close()


def test_a_pool_that_is_closed_leaves_neither_connections_nor_a_thread(time: Time, peers: list[socket.socket]) -> None:
    pool = IdleConnections()
    pool.give(URL, connected(peers))
    pool.close()
    assert pool.idle(URL) == 0
    assert StillTimer.made[0].cancelled


def test_no_more_than_a_few_connections_are_kept_for_each_peer(time: Time, peers: list[socket.socket]) -> None:
    pool = IdleConnections()
    for _ in range(IDLE_CONNECTIONS_MAX + 5):
        pool.give(URL, connected(peers))
    assert pool.idle(URL) == IDLE_CONNECTIONS_MAX
    pool.close()
