"""Clients that get in each other's way, or die: nobody waits for a lock, and nobody sees a mix."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import dfs
from dfs.testing import Cluster, cluster
from fixtures.command import clean_environ
from fixtures.faults import MIB, datanode_of, good_replicas, seeded, wait_until, wrong_replicas

CHUNK = 256 * 1024
UPLOAD = """
import sys, time, dfs
with dfs.connect(sys.argv[1]) as fs, fs.open(sys.argv[2], "wb") as file:
    for number in range(1000):
        file.write(bytes([number % 251]) * 262144)
        print(number, flush=True)
        time.sleep(0.02)
"""


@pytest.fixture(name="running", scope="module")
def a_cluster() -> Iterator[Cluster]:
    with cluster(3, chunk_size_bytes=CHUNK, read_grace_s=60) as running:
        yield running


def dying_client(running: Cluster, path: str, *, pieces: int) -> None:
    """A client in a process of its own, killed after it has sent so many chunks of a file."""
    client = subprocess.Popen(
        [sys.executable, "-c", UPLOAD, running.url, path], stdout=subprocess.PIPE, env=clean_environ()
    )
    assert client.stdout is not None
    with client.stdout as said:
        for _ in range(pieces):
            assert said.readline(), "the client ended by itself"
        client.send_signal(signal.SIGKILL)
        client.wait()


def test_a_client_that_dies_while_it_writes_leaves_nothing_to_see(running: Cluster) -> None:  # F14 F15
    fs = running.connect()
    for pieces in (1, 9):
        dying_client(running, "/dead", pieces=pieces)
        assert not fs.exists("/dead")
    wait_until(
        lambda: not any(os.listdir(os.path.join(node.dir, "tmp")) for node in running.datanodes),
        15,
        "no temporary file is left",
    )
    assert list(fs.ls("/")) == []


def test_the_next_writer_of_a_path_waits_for_no_dead_one(running: Cluster) -> None:  # F17
    fs, data = running.connect(), seeded("next").randbytes(3 * CHUNK)
    dying_client(running, "/wanted", pieces=5)
    began = time.monotonic()
    version = fs.write_bytes("/wanted", data).version
    assert time.monotonic() - began < 5, "a lease would last longer"
    assert (fs.read_bytes("/wanted"), fs.stat("/wanted").version) == (data, version)
    # Nor for one that lives and is not done: the last to commit wins, or is refused if it said so.
    with fs.open("/wanted", "wb") as slow:
        slow.write(b"slow" * CHUNK)
        quick = fs.write_bytes("/wanted", data).version
        assert fs.stat("/wanted").version == quick
    assert fs.read_bytes("/wanted") == b"slow" * CHUNK
    with pytest.raises(dfs.errors.PreconditionFailed):
        fs.write_bytes("/wanted", data, if_version=quick)
    fs.remove("/wanted")


def test_of_many_who_create_or_swap_one_wins(running: Cluster) -> None:  # F25
    fs = running.connect()

    def attempt(act: Callable[[], object]) -> bool:
        try:
            act()
        except (dfs.errors.FileExists, dfs.errors.PreconditionFailed):
            return False
        return True

    with ThreadPoolExecutor(8) as writers:
        for round_number in range(5):
            path = f"/contested-{round_number}"
            created = writers.map(
                lambda who, path=path: attempt(lambda: fs.write_bytes(path, b"%d" % who, overwrite=False)), range(8)
            )
            assert sum(created) == 1
            version = fs.stat(path).version
            swapped = writers.map(
                lambda who, path=path, version=version: attempt(
                    lambda: fs.write_bytes(path, b"%d" % who, if_version=version)
                ),
                range(8),
            )
            assert sum(swapped) == 1
            fs.remove(path)


@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_a_reader_of_many_chunks_never_gets_a_mix(running: Cluster, change: str) -> None:  # F29 F30
    fs, rng = running.connect(), seeded(change)
    old, new = rng.randbytes(12 * CHUNK), rng.randbytes(12 * CHUNK)
    fs.write_bytes("/read", old)
    with running.connect() as other, fs.open("/read", "rb") as file:
        got = file.read(CHUNK)
        if change == "replaced":
            other.write_bytes("/read", new)
        else:
            other.remove("/read")
        # Whatever may be collected is collected now; what somebody reads may not be.
        other.collect_garbage()
        time.sleep(1)
        while piece := file.read(CHUNK):
            got += piece
        assert got == old
        if change == "replaced":
            assert other.read_bytes("/read") == new
    fs.remove("/read", missing_ok=True)


def test_readers_see_whole_versions_while_writers_replace_them(running: Cluster) -> None:  # F25 F30
    fs, contents = running.connect(), [bytes([number]) * (5 * CHUNK + number) for number in range(6)]
    fs.write_bytes("/versions", contents[0])
    stop = threading.Event()

    def replace() -> None:
        with running.connect() as writer:
            while not stop.is_set():
                for content in contents:
                    writer.write_bytes("/versions", content)

    threads = [threading.Thread(target=replace) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(40):
            assert fs.read_bytes("/versions") in contents
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    fs.remove("/versions")


def test_a_rename_of_a_directory_takes_along_what_is_being_made_in_it(running: Cluster) -> None:  # F26 F27
    """Whoever writes by the path of before is told that it is gone; nothing is lost between the two names."""
    fs, made = running.connect(), set()
    fs.mkdir("/from-0")
    stop = threading.Event()

    def make() -> None:
        with running.connect() as maker:
            number = 0
            while not stop.is_set():
                [place] = [entry.path for entry in maker.ls("/") if entry.path.startswith("/from-")]
                number += 1
                try:
                    maker.write_bytes(f"{place}/{number}", b"x" * number)
                except dfs.errors.FileNotFound:
                    continue
                made.add((f"{number}", number))

    thread = threading.Thread(target=make)
    thread.start()
    for number in range(30):
        fs.rename(f"/from-{number}", f"/from-{number + 1}")
        time.sleep(0.02)
    stop.set()
    thread.join()
    assert made
    assert {(entry.path.rpartition("/")[2], entry.size) for entry in fs.ls("/from-30")} == made
    fs.remove("/from-30", recursive=True)


def test_a_cluster_that_starts_cold_serves_what_is_there_and_deletes_nothing() -> None:  # F60
    """Nor does it make replicas anew whose datanodes are only late."""
    data = seeded("cold").randbytes(MIB)
    with cluster(3, 2, settle_s=3, dead_after_s=2, stale_after_s=1, read_grace_s=1, chunk_size_bytes=CHUNK) as running:
        fs = running.connect()
        fs.write_bytes("/a", data)
        fs.write_bytes("/gone", data)
        running.kill()
        running.namenode.restart()

        def modes() -> list[str]:
            return [mode.split(":")[0] for mode in running.connect().status().safe_modes]

        assert modes() == ["cold start"]
        with pytest.raises((dfs.errors.StateError, dfs.errors.DataError)):
            running.connect().read_bytes("/a")
        first = running.datanodes[0]
        first.restart()
        fs.remove("/gone")
        before = set(first.chunk_paths())
        # Long after its grace, and after the others are late enough to be dead.
        time.sleep(3)
        fs.collect_garbage()
        # Which of the two depends on whether the first one happens to have a replica of each chunk.
        assert modes() in (["cold start"], ["mass outage"], ["cold start", "mass outage"])
        assert set(first.chunk_paths()) == before
        for node in running.datanodes[1:]:
            node.restart()
        assert running.connect().read_bytes("/a") == data
        wait_until(lambda: modes() == [], 20, "the cold start is over")


def test_a_datanode_that_was_away_for_long_brings_back_nothing_that_was_removed() -> None:  # F47
    rng = seeded("away")
    old, new, kept = rng.randbytes(MIB), rng.randbytes(MIB), rng.randbytes(MIB)
    with cluster(4, 3, dead_after_s=2, stale_after_s=1, read_grace_s=1, trash_age_s=1, report_interval_s=1) as running:
        fs = running.connect()
        for path, data in (("/replaced", old), ("/removed", old), ("/kept", kept)):
            fs.write_bytes(path, data)
        absent = datanode_of(running, good_replicas(fs, "/replaced")[0][0])
        there = set(absent.chunk_paths())
        absent.kill()
        fs.write_bytes("/replaced", new)
        fs.remove("/removed")
        wait_until(
            lambda: all(len(set(good) - {absent.id}) >= 3 for good in good_replicas(fs, "/kept")), 30, "repaired"
        )
        wait_until(lambda: fs.collect_garbage() is not None and not fs.status().waiting_for_deletion, 30, "collected")
        absent.restart()
        running.wait_writable()
        with running.connect() as other:
            for _ in range(5):
                assert other.read_bytes("/replaced") == new
                assert not other.exists("/removed")
                assert other.read_bytes("/kept") == kept
            wanted = {chunk.id for path in ("/replaced", "/kept") for chunk in other.places(path).chunks}
            wait_until(
                lambda: not (set(absent.chunk_paths()) & there) - wanted, 30, "what was removed is gone there too"
            )
            assert wrong_replicas(running, other, "/kept", kept) == []
