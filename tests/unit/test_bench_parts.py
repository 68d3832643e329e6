"""Benchmarks: processes and their roles, tasks that check what they read, clients that become one rate."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from dfs.bench import procfs
from dfs.bench.crew import Crew, together
from dfs.bench.lab import Chain, Lab, Scale, Workload, doubt
from dfs.bench.meter import Meter, cpu_by_role
from dfs.bench.procfs import ProcessTimes, role_of_each
from dfs.bench.runner import run as run_all
from dfs.bench.samples import Cost, Figure, Sample
from dfs.bench.session import chosen, replications
from dfs.bench.tasks import TASKS, Done, Round, content, small_path
from dfs.bench.workloads import ALONE, WORKLOADS
from dfs.protocol.errors import InvalidRequest, Unavailable

FOREVER = float("inf")


def processes(*rows: tuple[int, int, float]) -> dict[int, ProcessTimes]:
    return {pid: ProcessTimes(pid, parent, cpu_s) for pid, parent, cpu_s in rows}


# --- processes ----------------------------------------------------------------------------------------------------


def test_a_process_has_the_role_of_its_nearest_ancestor_that_has_one() -> None:
    tree = processes((1, 0, 0.0), (10, 1, 0.0), (20, 10, 0.0), (21, 20, 0.0), (30, 10, 0.0), (99, 1, 0.0))
    assert role_of_each(tree, {10: "client", 20: "datanode"}) == {
        10: "client",
        20: "datanode",
        21: "datanode",
        30: "client",
    }


def test_a_child_that_ended_is_counted_once_in_its_parents_time() -> None:
    before = processes((10, 1, 1.0), (11, 10, 2.0))
    # 11 used one more second and ended: its three are in 10's time, which used half a second itself.
    after = processes((10, 1, 1.0 + 0.5 + 3.0))
    roots = {10: "client"}
    used = cpu_by_role(before, after, role_of_each(after, roots), role_of_each(before, roots))
    assert used == {"client": pytest.approx(1.5)}


def test_a_process_that_began_meanwhile_counts_whole() -> None:
    before, after = processes((10, 1, 1.0)), processes((10, 1, 1.0), (12, 10, 0.7))
    roots = {10: "client"}
    assert cpu_by_role(before, after, role_of_each(after, roots), role_of_each(before, roots)) == {"client": 0.7}


def test_who_takes_no_part_is_left_out() -> None:
    before = processes((10, 1, 1.0), (20, 1, 5.0))
    after = processes((10, 1, 2.0), (20, 1, 9.0))
    assert cpu_by_role(before, after, {10: "client"}, {10: "client", 20: "datanode"}) == {"client": 1.0}


def test_this_process_is_seen_with_its_time_and_memory() -> None:
    import os

    seen = procfs.all_processes()[os.getpid()]
    assert seen.parent == os.getppid()
    assert seen.cpu_s > 0
    assert procfs.peak_memory_bytes(os.getpid()) >= procfs.memory_bytes(os.getpid()) // 2 > 0


def test_who_listens_on_a_port_is_found() -> None:
    import os
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert procfs.pids_listening_on([port]) == {port: os.getpid()}


def test_bytes_that_did_not_reach_the_disk_make_a_figure_doubtful() -> None:
    assert "only 100 of 300 MiB" in doubt(Cost(disk_written_bytes=100 << 20), 300 << 20)
    assert doubt(Cost(disk_written_bytes=300 << 20), 300 << 20) == ""
    assert doubt(Cost(disk_written_bytes=None), 300 << 20) == ""


# --- clients ------------------------------------------------------------------------------------------------------


def done(began: float, ended: float, count: int) -> Done:
    return Done(began_s=began, ended_s=ended, count=count, latencies=[])


def test_the_rate_of_many_counts_from_the_first_start_to_the_last_end() -> None:
    both = together([done(10.0, 12.0, 100), done(10.5, 15.0, 50)])
    assert both.seconds == 5.0
    assert both.rate == 30.0
    assert both.counts == [100, 50]


def test_unknown_workloads_are_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match="no workload 'bgi'; there are big, parallel"):
        chosen(["bgi"])


def test_without_names_all_workloads_run_that_need_only_the_cluster() -> None:
    assert [workload.name for workload in chosen([])] == [name for name in WORKLOADS if name not in ALONE]
    assert [workload.name for workload in chosen(["small", "big"])] == ["big", "small"]


@pytest.mark.parametrize(("datanodes", "tried"), [(1, [1]), (2, [1, 2]), (3, [1, 3]), (7, [1, 3])])
def test_one_and_three_copies_are_tried_as_far_as_there_are_datanodes(datanodes: int, tried: list[int]) -> None:
    assert replications(datanodes) == tried


def laboratory(collected: Callable[[], None] = lambda: None) -> Lab:
    """One that measures nothing."""
    return Lab(
        targets=(),
        crew=cast("Crew", None),
        meter=cast("Meter", None),
        local_dir="/nowhere",
        scale=Scale(),
        command=(),
        collected=collected,
    )


def test_what_is_compared_takes_turns_in_every_round() -> None:
    figures = [Figure("start", name) for name in "ab"]

    def chain(figure: Figure) -> Chain:
        return lambda _: iter([Sample(figure, 1.0, 1.0)])

    workload = Workload("start", "", lambda _: [chain(figures[0])])
    told: list[str] = []
    run_all(
        laboratory(),
        [workload],
        rounds=3,
        references={"start": lambda _: [chain(figures[1])]},
        tell=lambda sample: told.append(sample.figure.case),
    )
    assert "".join(told) == "abbaab"


def test_what_fails_is_told_and_the_rest_goes_on() -> None:
    def failing(_: Lab) -> Iterator[Sample]:
        yield Sample(Figure("start", "before"), 1.0, 1.0)
        raise Unavailable("it broke")

    workload = Workload("start", "", lambda _: [failing, lambda _: iter([Sample(Figure("start", "after"), 1.0, 1.0)])])
    results = run_all(laboratory(), [workload], rounds=1, references={}, tell=lambda _: None)
    assert [sample.figure.case for sample in results.samples] == ["before", "after"]
    assert results.failures == ["start, round 1: it broke"]


def test_an_interrupt_ends_it_and_what_was_measured_is_kept() -> None:
    def interrupted(_: Lab) -> Iterator[Sample]:
        yield Sample(Figure("start", "before"), 1.0, 1.0)
        raise KeyboardInterrupt

    workload = Workload(
        "start", "", lambda _: [interrupted, lambda _: iter([Sample(Figure("start", "after"), 1.0, 1.0)])]
    )
    results = run_all(laboratory(), [workload], rounds=2, references={}, tell=lambda _: None)
    assert [sample.figure.case for sample in results.samples] == ["before"]
    assert results.interrupted
    assert not results.failures


def test_what_a_chain_keeps_is_removed_when_all_rounds_of_its_workload_are_over() -> None:
    happened: list[str] = []

    def keeping(lab: Lab) -> Iterator[Sample]:
        path = lab.fresh_local("output")
        happened.append("made")
        lab.keep(lambda: happened.append(f"removed {path}"))
        yield Sample(Figure("tree", "one"), 1.0, 1.0)

    def last(_: Lab) -> Iterator[Sample]:
        happened.append("next workload")
        yield Sample(Figure("small", "one"), 1.0, 1.0)

    lab = laboratory(lambda: happened.append("collected"))
    workloads = [Workload("tree", "", lambda _: [keeping]), Workload("small", "", lambda _: [last])]
    assert run_all(lab, workloads, rounds=2, references={}, tell=lambda _: None).failures == []
    removed = [f"removed /nowhere/output-0000{number}" for number in range(2)]
    assert happened == ["made", "made", *removed, "collected", "next workload", "next workload"]


def test_what_can_not_be_removed_is_told_and_the_others_are_removed() -> None:
    removed: list[str] = []

    def failing() -> None:
        raise Unavailable("it is gone")

    def keeping(lab: Lab) -> Iterator[Sample]:
        lab.keep(failing)
        lab.keep(lambda: removed.append("the other"))
        yield Sample(Figure("tree", "one"), 1.0, 1.0)

    results = run_all(
        laboratory(), [Workload("tree", "", lambda _: [keeping])], rounds=1, references={}, tell=lambda _: None
    )
    assert removed == ["the other"]
    assert results.failures == ["tree, afterwards: it is gone"]


# --- tasks --------------------------------------------------------------------------------------------------------


class Remembered:
    """A store in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def put_file(self, local: str, path: str) -> None:
        self.files[path] = Path(local).read_bytes()

    def get_file(self, path: str, local: str) -> None:
        Path(local).write_bytes(self.files[path])

    def drain(self, path: str, take: Callable[[memoryview], None]) -> None:
        take(memoryview(self.files[path]))

    def put(self, path: str, data: bytes) -> None:
        assert path not in self.files
        self.files[path] = data

    def get(self, path: str) -> bytes:
        return self.files[path]

    def open_range(self, path: str) -> Callable[[int, int], bytes]:
        return lambda start, end: self.files[path][start:end]

    def mkdir(self, path: str) -> None: ...

    def create(self, path: str) -> None:
        self.put(path, b"")

    def size(self, path: str) -> int:
        return len(self.files[path])

    def list(self, path: str) -> int:
        return sum(name.startswith(path + "/") for name in self.files)

    def rename(self, source: str, target: str) -> None:
        self.files[target] = self.files.pop(source)

    def remove(self, path: str) -> None:
        del self.files[path]

    def remove_tree(self, path: str) -> None: ...
    def close(self) -> None: ...


def run(task: str, store: Remembered, **arguments: object) -> Done:
    return TASKS[task](store, Round(lambda: None), **arguments)


@pytest.fixture(name="local")
def a_local_file(tmp_path: Path) -> str:
    path = tmp_path / "local"
    path.write_bytes(bytes(range(256)) * 400)
    return str(path)


def test_tasks_of_names_work_on_what_the_one_before_made() -> None:
    store = Remembered()
    assert run("create", store, directory="/d", seconds=FOREVER, most=10).count == 10
    assert run("stat", store, directory="/d", count=10, seconds=0.001).count >= 1
    assert run("rename", store, directory="/d", count=5, seconds=FOREVER).count == 5
    assert run("remove", store, directory="/d", first=5, count=5, seconds=FOREVER).count == 5
    assert sorted(store.files) == ["/d/first", *(f"/d/r{number:06}" for number in range(5))]


def test_small_files_that_come_back_wrong_are_noticed() -> None:
    store = Remembered()
    run("put_small", store, directory="/d", seconds=FOREVER, most=2)
    assert run("get_small", store, directory="/d", count=2, seconds=0.001).count >= 1
    for number in range(2):
        store.files[small_path("/d", number)] = content("another")
    with pytest.raises(ValueError, match="differs"):
        run("get_small", store, directory="/d", count=2, seconds=0.001)


def test_big_files_that_come_back_wrong_are_noticed(local: str) -> None:
    store = Remembered()
    run("put_file", store, local=local, path="/big")
    run("verify", store, path="/big", local=local)
    run("drain", store, path="/big", size=102_400)
    assert run("ranges", store, path="/big", local=local, seed=1, seconds=0.001).count >= 1
    store.files["/big"] = bytes(102_400)
    with pytest.raises(ValueError, match="differs"):
        run("verify", store, path="/big", local=local)
    with pytest.raises(ValueError, match="differs"):
        run("ranges", store, path="/big", local=local, seed=1, seconds=FOREVER)
    with pytest.raises(ValueError, match="102400 bytes instead of 5"):
        run("drain", store, path="/big", size=5)


def test_a_list_that_lacks_entries_is_noticed() -> None:
    store = Remembered()
    run("make_files", store, directory="/d", count=1500)
    assert run("list_directory", store, directory="/d", count=1500, seconds=FOREVER, most=2).count == 2
    store.remove(small_path("/d", 7))
    with pytest.raises(ValueError, match="1499 entries instead of 1500"):
        run("list_directory", store, directory="/d", count=1500, seconds=FOREVER, most=1)


def test_every_small_file_has_other_bytes() -> None:
    assert content("/a") != content("/b")
    assert len(content("/a")) == 4096
    assert len(content("/a", 10)) == 10
