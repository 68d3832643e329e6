"""No duty dies silently (F91)."""

import asyncio

import pytest

from dfs.protocol.clock import SystemClock
from dfs.protocol.errors import NoSpace
from dfs_namenode.monitors import supervise
from dfs_namenode.monitors.supervise import Duty, Monitors


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "_WAIT_BEFORE_RETRY_S", 0.0)


def watch(duty: Duty, seconds: float = 0.1) -> tuple[Monitors, list[str]]:
    ended: list[str] = []

    async def run() -> Monitors:
        monitors = Monitors([duty], clock=SystemClock(), ended=ended.append)
        monitors.start()
        await asyncio.sleep(seconds)
        await monitors.stop()
        return monitors

    return asyncio.run(run()), ended


def test_a_duty_that_fails_is_repeated_three_times_and_then_the_process_is_told_to_end() -> None:
    turns = 0

    async def fail() -> None:
        nonlocal turns
        turns += 1
        raise ValueError("a bug")

    monitors, ended = watch(Duty("sweep", 0.0, fail))
    assert turns == 4
    assert len(ended) == 1
    assert "sweep failed 4 times" in ended[0]
    assert monitors.failures() == {"sweep": 4}


def test_a_success_in_between_begins_the_count_anew() -> None:
    turns = 0

    async def fail_sometimes() -> None:
        nonlocal turns
        turns += 1
        if turns % 4:
            raise ValueError("a bug")

    _, ended = watch(Duty("sweep", 0.0, fail_sometimes))
    assert turns > 8
    assert ended == []


def test_a_full_disk_is_waited_for() -> None:
    async def full() -> None:
        raise NoSpace("the disk is full")

    monitors, ended = watch(Duty("sweep", 0.0, full))
    assert ended == []
    assert monitors.failures() == {"sweep": 0}
    assert monitors.ages_s()["sweep"] > 0.05, "but it shows as a duty that has not succeeded"


def test_a_duty_that_is_cancelled_by_something_it_waits_for_ends_the_process() -> None:  # F91
    async def cancelled() -> None:
        raise asyncio.CancelledError

    _, ended = watch(Duty("sweep", 0.0, cancelled))
    assert ended == ["monitor-sweep was cancelled"]


def test_a_duty_that_is_stopped_is_no_failure() -> None:
    async def long() -> None:
        await asyncio.sleep(60)

    _, ended = watch(Duty("sweep", 0.0, long))
    assert ended == []
