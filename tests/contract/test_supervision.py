"""No loop, duty or command of a server fails silently (F91): each kind, as the servers are composed."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dfs.protocol import messages as m
from dfs.protocol.clock import SystemClock
from dfs_datanode.app import Datanode
from dfs_datanode.supervise import RESTARTS_MAX
from dfs_namenode.monitors.supervise import Duty, Monitors
from fixtures.composed_datanode import composed_datanode
from fixtures.paper_cluster import Bench

LOOPS = ["heartbeat", "probe", "report", "scrub", "upkeep"]
COMMANDS: dict[str, Any] = {
    "check": lambda chunk: m.CheckReplica(chunk=chunk, length=1, digest="d" * 32),
    "delete": lambda chunk: m.DeleteReplicas(chunks=[chunk]),
    "replicate": lambda chunk: m.Replicate(
        chunk=chunk, length=1, digest="d" * 32, sources=[m.Target("dn2", "http://127.0.0.1:1")], capability="x"
    ),
}


class Ended:
    """Whoever waits for the end of the process."""

    def __init__(self) -> None:
        self.why: list[str] = []
        self._told = threading.Event()

    def __call__(self, why: object) -> None:
        self.why.append(str(why))
        self._told.set()

    def wait(self) -> bool:
        return self._told.wait(10)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Ended:
    monkeypatch.setattr("dfs_datanode.supervise.RESTART_PAUSE_S", 0.0)
    monkeypatch.setattr("dfs_namenode.monitors.supervise._WAIT_BEFORE_RETRY_S", 0.0)
    return Ended()


@pytest.fixture
def datanode(tmp_path: Path, ended: Ended) -> Iterator[Datanode]:
    with composed_datanode(tmp_path / "datanode", ended) as made:
        yield made


def a_bug(*_: object, **__: object) -> Any:
    raise ValueError("a bug")


def test_a_datanode_has_these_loops_and_shows_the_age_of_each(datanode: Datanode) -> None:
    assert sorted(loop.name.split()[0] for loop in datanode.loops()) == LOOPS


@pytest.mark.parametrize("kind", LOOPS)
def test_a_loop_of_a_datanode_that_fails_four_times_ends_it(datanode: Datanode, ended: Ended, kind: str) -> None:  # F91
    (loop,) = [loop for loop in datanode._all_loops if loop.name.startswith(kind)]
    loop._turn = a_bug
    loop.start()
    assert ended.wait()
    assert ended.why[0].startswith(f"the loop {loop.name} failed 4 times")
    assert loop.statistics().failures == RESTARTS_MAX + 1


@pytest.mark.parametrize("kind", COMMANDS)
def test_commands_that_all_fail_by_a_fault_of_the_datanode_end_it(
    datanode: Datanode, ended: Ended, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # F91
    monkeypatch.setattr(datanode.store, "retire", a_bug)
    monkeypatch.setattr(datanode.store, "find", a_bug)
    monkeypatch.setattr(datanode.store, "open_uncached", a_bug)
    datanode.commands.submit([COMMANDS[kind](f"{number:032x}") for number in range(RESTARTS_MAX + 1)])
    assert ended.wait()
    assert ended.why[0].startswith(f"the task {kind} failed 4 times")
    assert datanode.commands.trials[kind].failures == RESTARTS_MAX + 1


def test_a_disk_that_fails_commands_does_not_end_the_datanode(
    datanode: Datanode, ended: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:  # F36
    done = threading.Semaphore(0)

    def broken(*_: object, **__: object) -> None:
        done.release()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(datanode.store, "find", broken)
    datanode.commands.submit([COMMANDS["replicate"](f"{number:032x}") for number in range(10)])
    for _ in range(10):
        assert done.acquire(timeout=10)
    assert ended.why == []


def test_commands_that_come_while_the_datanode_stops_are_left(datanode: Datanode, ended: Ended) -> None:
    datanode.commands.close()
    datanode.commands.submit([COMMANDS["delete"]("1" * 32)])
    assert datanode.commands.waiting == 0


def test_every_duty_of_a_namenode_is_supervised(tmp_path: Path, ended: Ended) -> None:  # F91
    bench = Bench(str(tmp_path / "namenode"))
    try:
        names = [duty.name for duty in bench.node.duties]
        assert sorted(bench.node.vitals.monitors.ages_s()) == sorted(names)
    finally:
        bench.close()

    async def fail() -> None:
        raise ValueError("a bug")

    async def run(name: str) -> None:
        monitors = Monitors([Duty(name, 0.0, fail)], clock=SystemClock(), ended=ended)
        monitors.start()
        await asyncio.gather(*monitors._tasks)
        await monitors.stop()

    for name in names:
        asyncio.run(run(name))
    assert [why.split()[0] for why in ended.why] == names
