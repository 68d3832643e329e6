"""The namenode's time (F24, F51, F93)."""

import pytest

from dfs_namenode.steady_clock import SteadyClock
from fixtures.namenode_store import START_MS, FakeClock

DAY_MS = 86_400_000


@pytest.fixture
def machine() -> FakeClock:
    return FakeClock()


def test_it_is_the_machines_time_while_that_behaves(machine: FakeClock) -> None:
    clock = SteadyClock(machine)
    for _ in range(5):
        machine.advance(100)
        assert clock.wall_ms() == machine.now_ms
    machine.now_ms += 60_000
    assert clock.wall_ms() == machine.now_ms, "a small correction is followed"


def test_a_jump_ahead_is_not_believed_until_the_next_start(machine: FakeClock) -> None:
    clock = SteadyClock(machine)
    machine.now_ms += DAY_MS
    machine.now_s += 10
    assert clock.wall_ms() == START_MS + 10_000
    assert SteadyClock(machine).wall_ms() == START_MS + DAY_MS


def test_a_jump_back_never_makes_time_go_back_and_time_waits_at_half_speed(machine: FakeClock) -> None:
    clock = SteadyClock(machine)
    before = clock.wall_ms()
    machine.now_ms -= 100_000
    machine.advance(100)
    assert clock.wall_ms() == before + 50_000
    machine.advance(100)
    assert clock.wall_ms() == before + 100_000 == machine.now_ms, "now they agree again"
    machine.advance(10)
    assert clock.wall_ms() == machine.now_ms


def test_a_namenode_never_starts_behind_the_moment_at_which_it_forgot_something(machine: FakeClock) -> None:
    clock = SteadyClock(machine)
    clock.raise_floor(START_MS + DAY_MS)
    assert clock.wall_ms() == START_MS + DAY_MS
    machine.advance(10)
    assert clock.wall_ms() == START_MS + DAY_MS + 5_000
    clock.raise_floor(START_MS)
    assert clock.wall_ms() >= START_MS + DAY_MS
