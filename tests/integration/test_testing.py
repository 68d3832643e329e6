"""`dfs.testing.cluster`: real processes, faults on command, nothing left behind."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

import dfs
from dfs.errors import InvalidRequest
from dfs.testing import Cluster, cluster

DATA = b"content" * 100_000


def test_a_cluster_is_real_and_leaves_nothing_behind() -> None:
    with cluster(datanodes=2, replication=1) as running:
        pids = [running.namenode.pid, *(datanode.pid for datanode in running.datanodes)]
        assert all(psutil.Process(pid).is_running() for pid in pids)
        fs = running.connect()
        fs.write_bytes("/a", DATA)
        assert fs.stat("/a").replication == 1
        assert {datanode.id for datanode in fs.status().datanodes} == {datanode.id for datanode in running.datanodes}
        directory = running.dir
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not os.path.exists(directory)


def test_a_body_that_raises_leaves_nothing_behind() -> None:
    def harmed() -> Iterator[Cluster]:
        with cluster(datanodes=1) as running:
            running.datanodes[0].stop()
            yield running
            raise ZeroDivisionError

    steps = harmed()
    running = next(steps)
    pids = [running.namenode.pid, running.datanodes[0].pid]
    directory = running.dir
    with pytest.raises(ZeroDivisionError):
        next(steps)
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not os.path.exists(directory)


def test_servers_can_be_killed_stopped_and_started_again() -> None:
    with cluster(datanodes=2) as running:
        fs = running.connect()
        fs.write_bytes("/a", DATA)
        urls = [running.url, *(datanode.url for datanode in running.datanodes)]
        running.datanodes[0].kill()
        assert not running.datanodes[0].running
        assert running.connect().read_bytes("/a") == DATA
        running.datanodes[0].restart()
        running.datanodes[1].stop()
        assert psutil.Process(running.datanodes[1].pid).status() == psutil.STATUS_STOPPED
        assert running.connect().read_bytes("/a") == DATA
        running.datanodes[1].cont()
        running.kill()
        running.restart()
        assert [running.url, *(datanode.url for datanode in running.datanodes)] == urls
        assert running.connect().read_bytes("/a") == DATA
        assert running.namenode.terminate() == 0


def test_a_flipped_bit_is_in_the_file_of_that_chunk_alone() -> None:
    with cluster(datanodes=1) as running:
        fs = running.connect()
        fs.write_bytes("/a", DATA)
        [chunk] = fs.places("/a").chunks
        [(found, disk_path)] = running.datanodes[0].chunk_paths().items()
        assert found == chunk.id
        with open(disk_path, "rb") as file:
            before = file.read()
        assert running.datanodes[0].flip(chunk.id, offset=7, bit=3) == chunk.id
        with open(disk_path, "rb") as file:
            after = file.read()
        different = [place for place, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
        assert len(different) == 1
        assert before[different[0]] ^ after[different[0]] == 1 << 3
        assert before[different[0]] == DATA[7]


def test_settings_reach_the_servers_and_unknown_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # What the person's environment says is not what the test asks for.
    monkeypatch.setenv("DFS_CHUNK_SIZE_BYTES", "1")
    with cluster(datanodes=1, chunk_size_bytes=128 * 1024) as running:
        fs = running.connect()
        fs.write_bytes("/a", DATA)
        assert len(fs.places("/a").chunks) == -(-len(DATA) // (128 * 1024))
        running.add_datanode(rack="other")
        assert {datanode.rack for datanode in fs.status().datanodes} == {"default", "other"}
    with pytest.raises(InvalidRequest, match="did you mean dead_after_s"), cluster(dead_after=3):
        pass


def test_the_servers_end_with_a_test_that_is_killed() -> None:
    program = (
        "import sys, time, dfs.testing\n"
        "with dfs.testing.cluster(datanodes=1) as c:\n"
        "    print(c.dir, c.namenode.pid, c.datanodes[0].pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        directory, *pids = process.stdout.readline().split()
        process.kill()
        process.wait()
        deadline = time.monotonic() + 10
        while any(psutil.pid_exists(int(pid)) for pid in pids):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    subprocess.run(["rm", "-r", directory], check=True)


def test_the_shared_fixture_is_a_cluster_of_three(dfs_cluster: Cluster) -> None:
    assert len(dfs_cluster.datanodes) == 3
    assert isinstance(dfs_cluster.connect(), dfs.Client)


def test_the_factory_makes_clusters_of_ones_own(make_dfs_cluster) -> None:  # type: ignore[no-untyped-def]
    assert make_dfs_cluster(datanodes=1).replication == 1


def test_a_cluster_is_ready_soon() -> None:
    began = time.monotonic()
    with cluster(datanodes=3):
        seconds = time.monotonic() - began
    print(f"ready after {seconds:.2f} s")
    assert seconds < 10  # On a machine of its own: under 2 s.
