"""A datanode that is stopped: it accepts connections, its heartbeats were fine a moment ago, and it never answers."""

import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from dfs.testing import Cluster, cluster

MIB = 1 << 20
LONGEST_S = 10.0
"""What one operation may lose to one stalled datanode."""


@pytest.fixture(name="three", scope="module")
def three_datanodes() -> Iterator[Cluster]:
    """As many as replicas: every chain and every chunk has the stalled one."""
    with cluster(datanodes=3, replication=3) as running:
        yield running


def timed(work: Callable[[], object], found: dict[str, float], name: str) -> threading.Thread:
    """Run `work` in a thread; seconds under `name`, if it ended well."""

    def run() -> None:
        began = time.monotonic()
        work()
        found[name] = time.monotonic() - began

    thread = threading.Thread(target=run, name=name)
    thread.start()
    return thread


def test_a_stopped_datanode_costs_readers_and_writers_less_than_ten_seconds(three: Cluster) -> None:
    # F10 F52 F53
    fs = three.connect()
    big, small = os.urandom(16 * MIB), os.urandom(3000)
    fs.write_bytes("/big", big, chunk_size=4 * MIB)
    for number in range(8):
        fs.write_bytes(f"/small{number}", small)
    victim = three.datanodes[0]
    read: dict[str, bytes] = {}
    took: dict[str, float] = {}

    def read_small() -> None:
        many = three.connect().read_many([(f"/small{number}", 0, None) for number in range(8)])
        read["small"] = small if all(each == small for each in many) else b""

    victim.stop()
    try:
        threads = [
            timed(lambda: read.update(big=three.connect().read_bytes("/big")), took, "read big"),
            timed(read_small, took, "read small"),
            *(
                timed(
                    lambda size=size: three.connect().write_bytes(f"/w{size}", os.urandom(size)),  # type: ignore[misc]
                    took,
                    f"write {size}",
                )
                for size in (100, 70_000, 4 * MIB, 12 * MIB)
            ),
        ]
        for thread in threads:
            thread.join(60)
    finally:
        victim.cont()
    assert read == {"big": big, "small": small}
    assert len(took) == len(threads), f"some failed: {took}"
    print({name: round(seconds, 2) for name, seconds in took.items()})
    assert max(took.values()) < LONGEST_S, took
    for size in (100, 70_000, 4 * MIB, 12 * MIB):
        assert len(fs.read_bytes(f"/w{size}")) == size


def test_once_it_was_noticed_it_costs_nothing_more(three: Cluster) -> None:
    # F52
    with three.connect() as fs:
        data = os.urandom(4 * MIB)
        for number in range(4):
            fs.write_bytes(f"/again{number}", data, chunk_size=MIB)
        victim = three.datanodes[0]
        victim.stop()
        try:
            for number in range(4):
                assert fs.read_bytes(f"/again{number}") == data
            began = time.monotonic()
            for number in range(4):
                assert fs.read_bytes(f"/again{number}") == data
            assert time.monotonic() - began < LONGEST_S / 2
        finally:
            victim.cont()
