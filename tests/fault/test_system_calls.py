"""A server dies at, or fails in, any one of its system calls: what was acknowledged is there, what was not is whole.

`make faults` tries many more moments than `make test`: DFS_TEST_KILLS.
"""

import os
from collections.abc import Iterator

import pytest

import dfs
from dfs.testing import Cluster, Impossible, Node, cluster
from dfs.testing.syscalls import inject
from fixtures.faults import NO_ANSWER, note, seeded, wait_until

KILLS = max(3, int(os.environ.get("DFS_TEST_KILLS", "3")) // 10)
"""Of each role; one takes some seconds, as it is for one moment only."""
PUT_CALLS = ("pwrite64", "fsync", "link,linkat", "unlink,unlinkat", "sendto,sendmsg,write", "fallocate,ftruncate")
COMMIT_CALLS = ("pwrite64,pwritev", "fdatasync,fsync", "sendto,sendmsg,write", "openat")


@pytest.fixture(name="running", scope="module")
def a_cluster() -> Iterator[Cluster]:
    with cluster(datanodes=3, chunk_size_bytes=256 * 1024) as running:
        yield running


def write_until_it_dies(
    running: Cluster, victim: Node, call: str, at: int, prefix: str, *, error: str | None = None
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Files that were tried, and those that were acknowledged."""
    rng = seeded(prefix)
    tried: dict[str, bytes] = {}
    acknowledged: dict[str, bytes] = {}
    with running.connect() as fs:
        try:
            with inject(victim.pid, call, error=error, kill=error is None, at=at):
                for number in range(6):
                    if not victim.running:
                        break
                    path = f"/{prefix}-{number}"
                    tried[path] = rng.randbytes(rng.choice([100, 300_000]))
                    if victim is running.namenode:
                        # It would be asked again until somebody starts it: here nobody does before the end.
                        restart_when_dead(running, victim, fs, path, tried[path], acknowledged)
                    else:
                        fs.write_bytes(path, tried[path])
                        acknowledged[path] = tried[path]
        except Impossible as reason:
            pytest.skip(str(reason))
    return tried, acknowledged


def restart_when_dead(
    running: Cluster, victim: Node, fs: dfs.Client, path: str, data: bytes, acknowledged: dict[str, bytes]
) -> None:
    """Write in a thread while this one looks after the namenode."""
    import threading

    def write() -> None:
        try:
            fs.write_bytes(path, data)
        except NO_ANSWER:
            return
        acknowledged[path] = data

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        writer.join(0.05)
        if not victim.running:
            victim.restart()
    writer.join()


def check(running: Cluster, tried: dict[str, bytes], acknowledged: dict[str, bytes]) -> None:
    for node in (running.namenode, *running.datanodes):
        if not node.running:
            node.restart()
    running.wait_writable()
    with running.connect() as fs:
        there = {entry.path for entry in fs.ls("/")}
        assert set(acknowledged) <= there
        for path in there & set(tried):
            assert fs.read_bytes(path) == tried[path]


@pytest.mark.timeout(60 + 20 * KILLS)
def test_a_datanode_may_die_at_any_call_of_a_put(running: Cluster) -> None:  # F2 F3 F5 F6 F19 F90
    rng = seeded("put")
    died = 0
    for number in range(KILLS):
        call, at = PUT_CALLS[number % len(PUT_CALLS)], rng.randint(1, 4)
        victim = rng.choice(running.datanodes)
        tried, acknowledged = write_until_it_dies(running, victim, call, at, f"put-{number}")
        died += not victim.running
        assert tried == acknowledged, "two datanodes are enough to store"
        check(running, tried, acknowledged)
    note("datanodes killed at a system call of a put", f"{died} of {KILLS} (the others never made that call)")


@pytest.mark.timeout(60 + 20 * KILLS)
def test_a_namenode_may_die_at_any_call_of_a_commit(running: Cluster) -> None:  # F19 F20 F21
    rng = seeded("commit")
    total = 0
    for number in range(KILLS):
        call, at = COMMIT_CALLS[number % len(COMMIT_CALLS)], rng.randint(1, 12)
        tried, acknowledged = write_until_it_dies(running, running.namenode, call, at, f"commit-{number}")
        total += len(acknowledged)
        check(running, tried, acknowledged)
    note("namenodes killed at a system call of a commit", f"{KILLS} tried; {total} files acknowledged, 0 lost")


def test_a_namenode_whose_disk_fails_ends_and_loses_nothing(running: Cluster) -> None:  # F72
    before = running.namenode.pid
    tried, acknowledged = write_until_it_dies(
        running, running.namenode, "fdatasync,fsync", 1, "disk-error", error="EIO"
    )
    wait_until(lambda: running.namenode.pid != before or not running.namenode.running, 10, "the namenode ended")
    check(running, tried, acknowledged)
