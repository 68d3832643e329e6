"""`dfs.testing.cluster`: real processes, faults on command, nothing left behind."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import dfs
from dfs.errors import InvalidRequest
from dfs.testing import Cluster, cluster
from fixtures.command import clean_environ

DATA = b"content" * 100_000
READY_S = 2.0


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


TEST_FILE = """\
import os, time

def test_harm(dfs_cluster):
    dfs_cluster.connect().write_bytes("/a", b"data")
    dfs_cluster.datanodes[0].kill()
    dfs_cluster.datanodes[1].stop()
    dfs_cluster.datanodes[2].flip()
    nodes = (dfs_cluster.namenode, *dfs_cluster.datanodes)
    with open("told.new", "w") as file:
        print(dfs_cluster.dir, *(node.pid for node in nodes), file=file)
    os.rename("told.new", "told")
    if {waits}:
        time.sleep(60)
    raise ValueError("on purpose")

def test_after(dfs_cluster):
    assert [node.running for node in dfs_cluster.datanodes] == [True] * 3
    with open("told") as file:
        assert dfs_cluster.dir not in file.read()
"""


@pytest.mark.parametrize("number", [None, signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_test_run_leaves_nothing_behind_however_it_ends(number: signal.Signals | None, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TEST_FILE.format(waits=number is not None))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    environ = clean_environ(TMPDIR=str(tmp_path))
    with subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while number is not None and not (tmp_path / "told").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        if number is not None:
            process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    assert number is not None or "1 failed, 1 passed" in out, out
    directory, *pids = (tmp_path / "told").read_text().split()
    deadline = time.monotonic() + 30
    while os.path.exists(directory) or any(psutil.pid_exists(int(pid)) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not [name for name in os.listdir(tmp_path) if name.startswith("dfs-test-")]


def servers_below(directory: Path) -> list[int]:
    """All processes whose command line names something below the directory."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(word.startswith(f"{directory}/") for word in process.info["cmdline"] or []):
            found.append(process.pid)
    return found


MOMENTS = {
    "its directory is there": "dfs-test-*",
    "its namenode starts": "dfs-test-*/namenode.log",
    "its namenode has begun": "dfs-test-*/namenode/*",
    "its last datanode starts": "dfs-test-*/datanode-3.log",
    "its last datanode has begun": "dfs-test-*/datanode-3/*",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_cluster_that_is_killed_while_it_starts_leaves_nothing_behind(moment: str, tmp_path: Path) -> None:
    program = "import dfs.testing\nwith dfs.testing.cluster():\n    input()\n"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, env=clean_environ(TMPDIR=str(tmp_path)), stdin=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(MOMENTS[moment])):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.kill()
    deadline = time.monotonic() + 30
    while list(tmp_path.glob("dfs-test-*")) or servers_below(tmp_path):
        assert time.monotonic() < deadline, (list(tmp_path.glob("*/*")), servers_below(tmp_path))
        time.sleep(0.05)


@pytest.mark.parametrize("harmed", ["namenode", "datanode"])
def test_an_interrupt_while_a_server_is_started_leaves_nothing_behind(
    harmed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen[bytes]):
        """Ctrl-C in the moment when the process is there and nobody knows of it."""

        def __init__(self, command: list[str], **options: Any) -> None:
            super().__init__(command, **options)
            if harmed in command:
                started.append(self)
                raise KeyboardInterrupt

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt), cluster(datanodes=1):
        pass
    [left] = started
    assert left.wait(10) != 0
    assert left.stdout is not None
    left.stdout.close()
    assert not servers_below(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_ones_own_stays_when_the_test_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, sys, dfs.testing\n"
        "with dfs.testing.cluster(datanodes=1, directory=sys.argv[1]) as c:\n"
        "    c.connect().write_bytes('/a', b'data')\n"
        "    c.datanodes[0].stop()\n"
        "    print(c.namenode.pid, c.datanodes[0].pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "own")], capture_output=True, text=True)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    deadline = time.monotonic() + 30
    while any(psutil.pid_exists(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with cluster(datanodes=1, directory=str(tmp_path / "own")) as running:
        assert running.connect().read_bytes("/a") == b"data"


def test_the_shared_fixture_is_a_cluster_of_three(dfs_cluster: Cluster) -> None:
    assert len(dfs_cluster.datanodes) == 3
    assert isinstance(dfs_cluster.connect(), dfs.Client)


def test_the_factory_makes_clusters_of_ones_own(make_dfs_cluster) -> None:  # type: ignore[no-untyped-def]
    assert make_dfs_cluster(datanodes=1).replication == 1


def seconds_of_imports() -> float:
    """How long it takes, here and now, to import what a namenode and then three datanodes need."""
    began = time.monotonic()
    for role, count in (("namenode", 1), ("datanode", 3)):
        command = [sys.executable, "-c", f"import dfs.cli, dfs_{role}.app"]
        for process in [subprocess.Popen(command, env=clean_environ()) for _ in range(count)]:
            assert process.wait(60) == 0
    return time.monotonic() - began


def test_a_cluster_is_ready_soon() -> None:
    ready: list[float] = []
    imports: list[float] = []

    def is_soon() -> bool:
        # Two seconds where there is time for it. A machine that is busy needs them for the imports alone: then a start
        # may take twice as long as those, which leaves no room for waiting.
        return bool(ready) and min(ready) < max(READY_S, 2 * min(imports))

    while not is_soon() and len(ready) < 10:
        imports.append(seconds_of_imports())
        began = time.monotonic()
        with cluster(datanodes=3):
            ready.append(time.monotonic() - began)
    print("ready after", *(f"{one:.2f}" for one in ready), "s; imports", *(f"{one:.2f}" for one in imports), "s")
    assert is_soon()
