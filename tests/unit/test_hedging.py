"""When a read is asked for twice, who wins, and how often a client may try again."""

import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from dfs import hedging
from dfs.alarms import Alarms
from dfs.client import Client
from dfs.fetcher import Fetcher
from dfs.hedging import AFTER_MAX_S, AFTER_MIN_S, BURST, SAMPLES_MIN, SHARE, HedgeBudget, Latencies
from dfs.protocol import errors as e
from dfs.protocol.in_flight import InFlight
from dfs.racing import LOST_IN_A_ROW, Hedging, Race
from dfs.retries import BURST as RETRIES_BURST
from dfs.retries import PER_SECOND, WAIT_MAX_S, RetryBudget
from fixtures.fake_cluster import FakeClock, FakeCluster

CHUNK = 2 << 20


# --- the rule ---------------------------------------------------------------------------------------------------


def test_a_hedge_comes_after_the_slowest_twentieth_within_bounds_and_by_size() -> None:
    latencies = Latencies()
    assert latencies.hedge_after_s(4096) == hedging.AFTER_UNKNOWN_S
    for number in range(SAMPLES_MIN):
        latencies.note(4096, 0.1 + number / 100)
    assert latencies.hedge_after_s(4096) == pytest.approx(0.29)
    assert latencies.hedge_after_s(4 << 20) == hedging.AFTER_UNKNOWN_S
    for _ in range(200):
        latencies.note(4096, 0.0001)
        latencies.note(4 << 20, 60.0)
    assert latencies.hedge_after_s(4096) == AFTER_MIN_S
    assert latencies.hedge_after_s(4 << 20) == AFTER_MAX_S


def test_hedges_stay_a_small_share_of_all_reads() -> None:
    budget, sent, reads = HedgeBudget(), 0, 10_000
    for _ in range(reads):
        budget.read()
        sent += budget.take()
    assert sent <= BURST + SHARE * reads + 1
    assert sent >= SHARE * reads * 0.99


def test_retries_are_limited_over_all_operations_of_a_client() -> None:
    clock = FakeClock()
    budget = RetryBudget(clock)
    waits = [budget.take() for _ in range(100)]
    free = [wait for wait in waits if wait == 0]
    paid = [wait for wait in waits if wait]
    assert len(free) == RETRIES_BURST
    assert paid == sorted(paid)
    assert max(paid) <= WAIT_MAX_S
    assert waits[-1] is None
    clock.wait(WAIT_MAX_S + RETRIES_BURST / PER_SECOND + 1)
    assert budget.take() == 0


# --- alarms and races -------------------------------------------------------------------------------------------


def test_alarms_ring_in_order_and_not_after_they_are_cancelled() -> None:
    alarms, rung, done = Alarms(), [], threading.Event()
    alarms.after(0.02, lambda: rung.append("second"))
    alarms.after(0.01, lambda: rung.append("never")).cancel()
    alarms.after(0.0, lambda: rung.append("first"))
    alarms.after(0.03, done.set)
    assert done.wait(10)
    assert rung == ["first", "second"]


class _Slow(FakeCluster):
    """Some datanodes answer only when they are given up, as one does that is stopped."""

    def __init__(self) -> None:
        super().__init__(chunk_size=CHUNK)
        self.stopped: set[str] = set()
        self.asked = threading.Event()
        self.flights: list[InFlight] = []

    def get_chunk(
        self, base_url: str, *, into: Sequence[memoryview], flight: InFlight | None = None, **request: Any
    ) -> None:
        datanode = base_url.removeprefix("http://").partition(":")[0]
        if datanode in self.stopped:
            assert flight is not None, "nobody else would give it up"
            self.flights.append(flight)
            self.asked.set()
            until = time.monotonic() + 30
            while not flight.given_up:
                assert time.monotonic() < until, "it was never given up"
                time.sleep(0.002)
            for view in into:
                view[:] = b"\xff" * len(view)
            raise e.OutcomeUnknown("the connection broke")
        super().get_chunk(base_url, into=into, flight=flight, **request)


@pytest.fixture
def slow() -> _Slow:
    return _Slow()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfs.hedging.AFTER_UNKNOWN_S", 0.02)


def _fetcher(fs: Client) -> Fetcher:
    return fs._downloads.fetcher


@pytest.mark.parametrize("size", [3000, CHUNK])
def test_a_replica_that_stays_silent_is_overtaken_and_its_bytes_never_reach_the_reader(slow: _Slow, size: int) -> None:
    # F10 F52
    data = os.urandom(size)
    with slow.connect(hedged_reads=True) as fs:
        fs.write_bytes("/a", data)
        slow.stopped = {"dn1"}
        for _ in range(LOST_IN_A_ROW):
            slow.asked.clear()
            assert fs.read_bytes("/a") == data
            assert slow.asked.is_set()
        # It lost twice: it is asked last from now on.
        slow.asked.clear()
        assert fs.read_bytes("/a") == data
        assert not slow.asked.is_set()
        shared = _fetcher(fs)._hedging
        assert shared is not None
        assert shared.statistics() == {"sent": LOST_IN_A_ROW, "won": LOST_IN_A_ROW}
    assert slow.called("bad_replica") == []


def test_a_hedge_that_meets_rot_does_not_win_and_reports_it(slow: _Slow) -> None:
    # F40
    data = os.urandom(CHUNK)
    with slow.connect(hedged_reads=True) as fs:
        fs.write_bytes("/a", data)
        file = slow.tree["/a"]
        assert file is not None
        slow.flip("dn2", file.extents[0].chunk, 17)
        slow.stopped = {"dn1"}
        read: list[bytes] = []
        reader = threading.Thread(target=lambda: read.append(fs.read_bytes("/a")))
        reader.start()
        deadline = time.monotonic() + 20
        while not slow.called("bad_replica"):
            assert time.monotonic() < deadline, "the rotten replica was not reported"
            time.sleep(0.01)
        assert not read
        slow.stopped = set()
        # The reader still waits for dn1, which nobody gives up: let it fail as a time-out would.
        slow.flights[0].give_up()
        reader.join(20)
    assert read == [data]


def test_the_first_answer_wins_and_the_other_request_is_given_up() -> None:
    began, ended = threading.Event(), threading.Event()

    def spare(buffer: memoryview, flight: InFlight) -> str | None:
        began.set()
        while not flight.given_up:
            time.sleep(0.002)
        buffer[:] = b"late"
        ended.set()
        return None

    race: Race[str] = Race(Hedging(), 4, spare)
    assert began.wait(20)
    race.succeeded()
    assert ended.wait(20)
    assert not race.won
    assert not race.first.given_up


def test_a_first_replica_that_fails_leaves_the_answer_to_the_second() -> None:
    began, go_on = threading.Event(), threading.Event()

    def spare(buffer: memoryview, _: InFlight) -> str | None:
        began.set()
        go_on.wait(20)
        buffer[:] = b"good"
        return None

    race: Race[str] = Race(Hedging(), 4, spare)
    assert began.wait(20)
    go_on.set()
    into = bytearray(4)
    assert race.failed(memoryview(into)) == (True, None)
    assert into == b"good"


def test_what_was_given_up_before_it_began_is_not_sent() -> None:
    flight = InFlight()
    flight.give_up()
    with pytest.raises(e.OutcomeUnknown):
        flight.begin(None)  # type: ignore[arg-type]
    assert not flight.end()
