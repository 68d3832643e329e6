"""Which pulls a datanode names in its heartbeats (F57)."""

import pytest

from dfs.protocol.messages import PULLING_MAX
from dfs_datanode.pulling import STALLED_S, Pulling

ONE, TWO, THREE = "1" * 32, "2" * 32, "3" * 32


class Time:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def pulling(time: Time) -> Pulling:
    return Pulling(time)


def test_a_pull_is_named_while_it_gets_pieces_and_no_longer_than_it_takes_to_see_that_it_hangs(
    pulling: Pulling, time: Time
) -> None:
    pulling.queued(ONE)
    pulling.progress(ONE)
    for _ in range(5):
        time.now_s += STALLED_S - 1
        assert pulling.named() == [ONE]
        pulling.progress(ONE)
    time.now_s += STALLED_S
    assert pulling.named() == []
    pulling.progress(ONE)
    assert pulling.named() == [ONE]
    pulling.ended(ONE)
    assert pulling.named() == []


def test_a_pull_that_waits_because_of_the_limit_is_not_stalled(pulling: Pulling, time: Time) -> None:
    pulling.progress(ONE, pause_s=1000)
    time.now_s += 1000
    assert pulling.named() == [ONE]
    time.now_s += STALLED_S
    assert pulling.named() == []


def test_those_that_wait_for_a_thread_are_named_while_any_other_makes_progress(pulling: Pulling, time: Time) -> None:
    pulling.queued(ONE)
    pulling.queued(TWO)
    pulling.progress(ONE)
    pulling.queued(THREE)
    assert pulling.named() == [ONE, TWO, THREE]
    time.now_s += STALLED_S
    assert pulling.named() == [], "all threads hang, and those behind them wait for nothing"


def test_no_more_are_named_than_the_message_allows(pulling: Pulling) -> None:  # I9
    pulling.progress(ONE)
    for number in range(PULLING_MAX + 5):
        pulling.queued(f"{number:032x}")
    assert len(pulling.named()) == PULLING_MAX
