"""Benchmarks from end to end, with next to nothing to do: that every figure is measured, not how high it is."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dfs.bench import procfs
from dfs.bench.crew import Crew
from dfs.bench.goals import GOALS, key_of
from dfs.bench.lab import Scale
from dfs.bench.meter import Meter, servers_here
from dfs.bench.samples import OURS, Sample, rows
from dfs.bench.session import measure
from dfs.bench.stores import Target
from dfs.bench.workloads import WORKLOADS
from dfs.protocol.errors import DfsError, Unavailable
from dfs.testing import Cluster
from fixtures.command import Run

TINY = Scale(
    big_bytes=1 << 20,
    part_bytes=64 << 10,
    tree_files=120,
    listed_files=1200,
    seconds=0.05,
    clients=(2,),
    namespaces=(2000,),
    starts=1,
)
SCALED = ("listing", "namespace")
"""Workloads whose cases name how much there is."""


def test_every_workload_gives_its_figures_and_leaves_nothing(dfs_cluster: Cluster) -> None:
    told: list[Sample] = []
    facts, results = measure(dfs_cluster.url, list(WORKLOADS.values()), rounds=1, scale=TINY, tell=told.append)
    assert results.failures == []
    assert told == results.samples
    found = {key_of(row): row for row in rows(results.samples)}
    cases = {goal.case for goal in GOALS if goal.case[0] not in SCALED}
    wanted = {(workload, case.replace("16 clients", "2 clients"), subject) for workload, case, subject in cases}
    assert wanted - found.keys() == set()
    assert {key[0] for key in found} == set(WORKLOADS)
    assert all(row.median > 0 for row in found.values())
    assert facts["durability"] == "sync"
    assert facts["cpu_counts"] == "clients and all servers"
    assert [entry.path for entry in dfs_cluster.connect().ls("/") if entry.name.startswith(".bench")] == []


def test_servers_of_a_cluster_that_runs_here_are_counted_by_role(dfs_cluster: Cluster) -> None:
    urls = {"namenode": [dfs_cluster.url], "datanode": [node.url for node in dfs_cluster.datanodes]}
    expected = {dfs_cluster.namenode.pid: "namenode", **{node.pid: "datanode" for node in dfs_cluster.datanodes}}
    assert servers_here({**urls, "elsewhere": ["http://192.0.2.1:80"]}) == expected


def test_the_command_prints_one_object_with_the_machine_and_the_figures(dfs_command: Run) -> None:
    ended = dfs_command("bench", "start", "--rounds", "1", "--quick", "--json")
    assert ended.code == 0, ended.error
    document = json.loads(ended.out)
    assert {figure["subject"] for figure in document["figures"]} == {OURS, "python"}
    assert document["facts"]["replication"] == 3
    assert ended.error == ""


def test_the_command_prints_a_table(dfs_command: Run) -> None:
    ended = dfs_command("bench", "start", "--rounds", "1", "--quick")
    assert any(line.startswith("durability") and line.endswith("sync") for line in ended.lines)
    assert any(line.startswith("dfs ls, whole process") for line in ended.lines)


def test_an_unknown_workload_is_refused_before_anything_is_done(dfs_command: Run) -> None:
    ended = dfs_command("bench", "speed")
    assert ended.code == 2
    assert "there is no workload 'speed'" in ended.error


def test_the_cpu_time_and_memory_of_a_command_are_measured() -> None:
    meter = Meter({})
    busy = (
        "import time; b = bytearray(64 << 20); end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    )
    with meter.measure() as measured:
        meter.run([sys.executable, "-c", busy])
    assert measured.cost.cpu_s["client"] >= 0.28
    assert 64 << 20 <= measured.cost.peak_bytes["client"] < 128 << 20


def test_a_command_that_fails_is_told_with_its_last_words() -> None:
    with pytest.raises(Unavailable, match="no such thing"):
        Meter({}).run([sys.executable, "-c", "import sys; sys.exit('no such thing')"])


def test_an_error_of_one_client_ends_all_and_others_can_be_hired(dfs_cluster: Cluster) -> None:
    target = Target(options={"url": dfs_cluster.url}, root="/")
    missing = {"directory": "/missing", "count": 1, "seconds": 1}
    with Crew() as crew:
        with pytest.raises(DfsError, match="dfs, stat: FileNotFound"):
            crew.work("stat", target, [missing, missing])
        made = crew.work("create", target, [{"directory": "/hired", "seconds": 60, "most": 3}])
        assert made.count == 3
    target.store().remove_tree("/hired")


def test_what_was_evicted_is_read_from_the_disk_again(tmp_path: Path) -> None:
    before = procfs.disk_counters(str(tmp_path))
    if before is None:
        pytest.skip("the temporary directory is on no disk")
    path = tmp_path / "file"
    path.write_bytes(bytes(8 << 20))
    procfs.evict([str(tmp_path)])
    before = procfs.disk_counters(str(tmp_path))
    path.read_bytes()
    after = procfs.disk_counters(str(tmp_path))
    assert before is not None
    assert after is not None
    assert after.since(before).read_bytes >= 8 << 20


def test_a_benchmark_that_is_killed_takes_its_clients_along() -> None:
    program = (
        "import os, signal\n"
        "from dfs.bench.crew import Crew\n"
        "crew = Crew()\n"
        "crew._hire(2)\n"
        "print(*[worker.pid for worker in crew._workers], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    pids = list(map(int, ended.stdout.split()))
    assert len(pids) == 2
    deadline = time.monotonic() + 30
    while any(procfs.process_times(pid) is not None and procfs.memory_bytes(pid) for pid in pids):
        assert time.monotonic() < deadline, "the clients are still there"
        time.sleep(0.05)
