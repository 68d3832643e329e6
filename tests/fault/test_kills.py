"""Processes that die at any moment: what was acknowledged is there, identical; what was not is invisible.

The fault matrix' rows are named where a test makes them happen.
"""

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import dfs
from dfs.testing import Cluster, cluster

MIB = 1 << 20
SEED = int(os.environ.get("DFS_TEST_SEED", time.time_ns() % 1_000_000))


@pytest.fixture(name="rng")
def a_printed_seed() -> random.Random:
    print(f"seed {SEED}; repeat with DFS_TEST_SEED={SEED}")
    return random.Random(SEED)


@pytest.fixture(name="four")
def four_datanodes() -> Iterator[Cluster]:
    with cluster(datanodes=4, replication=3, dead_after_s=6, stale_after_s=3, heartbeat_interval_s=1) as running:
        yield running


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> float:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout_s, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.2)
    return time.monotonic() - started


def replicas_of(fs: dfs.Client, path: str, *, without: str) -> list[int]:
    """For each chunk, how many good replicas are on live datanodes, not counting the datanode `without`."""
    return [
        sum(r.live and r.state == "good" and r.datanode != without for r in chunk.replicas)
        for chunk in fs.places(path).chunks
    ]


def test_a_datanode_killed_while_a_put_and_a_get_run_is_not_noticed_by_either(
    four: Cluster, tmp_path: Path, rng: random.Random
) -> None:  # F1 F2 F3 F4 F37
    fs = four.connect()
    data = rng.randbytes(96 * MIB)
    (tmp_path / "source").write_bytes(data)
    fs.write_bytes("/before", data[: 64 * MIB], chunk_size=4 * MIB)
    failures: list[BaseException] = []

    def run(work: Callable[[], object]) -> threading.Thread:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=guarded)
        thread.start()
        return thread

    threads = [
        run(lambda: four.connect().put(str(tmp_path / "source"), "/during", chunk_size=8 * MIB)),
        run(lambda: four.connect().get("/before", str(tmp_path / "copy"))),
    ]
    time.sleep(0.15)
    four.datanodes[0].kill()
    killed = time.monotonic()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert fs.read_bytes("/during") == data
    assert (tmp_path / "copy").read_bytes() == data[: 64 * MIB]

    # Its chunks are back at R on the other three, without a command.
    victim = four.datanodes[0].id
    wait_until(
        lambda: min(replicas_of(fs, "/before", without=victim) + replicas_of(fs, "/during", without=victim)) >= 3,
        60,
        "three live replicas of each chunk",
    )
    print(f"three live replicas of every chunk {time.monotonic() - killed:.1f} s after the kill")
    for datanode in four.datanodes[1:3]:
        datanode.kill()
    assert hashlib.sha256(fs.read_bytes("/before")).digest() == hashlib.sha256(data[: 64 * MIB]).digest()


def test_a_stopped_datanode_costs_seconds_not_the_operation(four: Cluster, rng: random.Random) -> None:  # F10 F53
    fs = four.connect()
    data = rng.randbytes(16 * MIB)
    fs.write_bytes("/before", data, chunk_size=4 * MIB)
    four.datanodes[1].stop()
    try:
        started = time.monotonic()
        fs.write_bytes("/during", data, chunk_size=4 * MIB)
        assert fs.read_bytes("/during") == data
        assert fs.read_bytes("/before") == data
        assert time.monotonic() - started < 45
    finally:
        four.datanodes[1].cont()


def test_everything_killed_at_any_moment_keeps_what_was_acknowledged(rng: random.Random) -> None:  # F8 F19 F20 F21
    with cluster(datanodes=3, chunk_size_bytes=256 * 1024) as running:
        acknowledged: dict[str, bytes] = {}
        attempted: dict[str, bytes] = {}
        for life in range(4):
            stop = threading.Event()

            def write(worker: int, life: int = life, stop: threading.Event = stop) -> None:
                fs = running.connect()
                own = random.Random(SEED * 1000 + life * 10 + worker)
                number = 0
                while not stop.is_set():
                    path = f"/{life}-{worker}-{number}"
                    data = own.randbytes(own.choice([0, 100, 5000, 300_000, 900_000]))
                    attempted[path] = data
                    try:
                        fs.write_bytes(path, data)
                    except (dfs.errors.PeerError, dfs.errors.StateError, dfs.errors.DataError):
                        return
                    acknowledged[path] = data
                    number += 1

            workers = [threading.Thread(target=write, args=(worker,)) for worker in range(3)]
            for worker in workers:
                worker.start()
            time.sleep(0.3 + rng.random())
            for process in rng.sample([running.namenode, *running.datanodes], 4):
                process.kill()
            stop.set()
            for process in [running.namenode, *running.datanodes]:
                process.restart()
            for worker in workers:
                # A writer that waits for an answer repeats its commit, and learns what became of it.
                worker.join(60)
                assert not worker.is_alive()
            fs = running.connect()
            seen = {entry.path: entry.size for entry in fs.ls("/")}
            assert set(acknowledged) <= set(seen)
            for path in seen:
                # An unacknowledged file may be there (its answer was lost) or not; half of one never is.
                assert fs.read_bytes(path) == attempted[path]
        assert len(acknowledged) > 10
        print(f"{len(acknowledged)} files acknowledged, 0 lost")


def test_the_last_good_replica_is_enough_to_read(rng: random.Random) -> None:  # F58
    with cluster(datanodes=3) as running:
        fs = running.connect()
        data = rng.randbytes(3 * MIB)
        fs.write_bytes("/a", data)
        running.datanodes[0].kill()
        running.datanodes[1].kill()
        assert fs.read_bytes("/a") == data
        running.datanodes[2].kill()
        with pytest.raises(dfs.errors.ReplicasUnavailable):
            fs.read_bytes("/a")
        for datanode in running.datanodes:
            datanode.restart()
        assert fs.read_bytes("/a") == data


def test_a_flipped_bit_is_never_served_and_its_replica_is_replaced(four: Cluster, rng: random.Random) -> None:  # F40
    fs = four.connect()
    data = rng.randbytes(2 * MIB)
    fs.write_bytes("/a", data)
    [chunk] = fs.places("/a").chunks
    victim = next(node for node in four.datanodes if node.id == chunk.replicas[0].datanode)
    victim.flip(chunk.id, offset=5000)
    for _ in range(8):
        assert four.connect().read_bytes("/a") == data

    def healed() -> bool:
        four.connect().read_bytes("/a")
        good = [r.datanode for r in fs.places("/a").chunks[0].replicas if r.state == "good" and r.live]
        return len(good) >= 3 and victim.id not in good

    wait_until(healed, 60, "a replica elsewhere instead of the bad one")
