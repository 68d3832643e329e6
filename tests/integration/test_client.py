"""The Python API against real processes."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import dfs
from dfs.client import Client
from dfs.protocol.digests import tree_digest
from dfs.protocol.messages import ITEMS_MAX

MIB = 1 << 20


@pytest.fixture(scope="module")
def cluster() -> "Iterator[dfs.testing.Cluster]":  # type: ignore[name-defined]
    from dfs.testing import cluster as start

    with start(datanodes=4) as running:
        yield running


@pytest.fixture
def fs(cluster: "dfs.testing.Cluster") -> Iterator[Client]:  # type: ignore[name-defined]
    with cluster.connect() as client:
        yield client


def test_bytes_come_back_by_every_door(fs: Client, tmp_path: Path) -> None:
    data = os.urandom(5 * MIB + 321)
    (tmp_path / "local").write_bytes(data)
    fs.put(tmp_path / "local", "/doors/put", parents=True, chunk_size=MIB)
    fs.write_bytes("/doors/write", data)
    with fs.open("/doors/open", "wb", chunk_size=2 * MIB) as file:
        for start in range(0, len(data), 100_000):
            file.write(data[start : start + 100_000])
    fs.append("/doors/append", data[:1000])
    fs.append("/doors/append", data[1000:])
    for name in ("put", "write", "open", "append"):
        path = f"/doors/{name}"
        assert fs.read_bytes(path) == data
        assert fs.checksum(path) == f"xxh3-tree:{tree_digest(data)}"
        fs.get(path, tmp_path / "back", overwrite=True)
        assert (tmp_path / "back").read_bytes() == data
        with fs.open(path, "rb") as opened:
            opened.seek(3 * MIB + 5)
            assert opened.read(MIB) == data[3 * MIB + 5 : 4 * MIB + 5]
    assert len(fs.places("/doors/put").extents) == 6
    assert all(len(chunk.replicas) == 3 for chunk in fs.places("/doors/put").chunks)


def test_a_tree_of_small_files_comes_back_from_a_few_packs(fs: Client, tmp_path: Path) -> None:
    for number in range(2500):
        path = tmp_path / "in" / f"d{number % 7}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number * (number % 50))
    report = fs.put(tmp_path / "in", "/packs", recursive=True)
    assert (report.files, report.failures) == (2500, [])
    report = fs.get("/packs", tmp_path / "out", recursive=True)
    assert (report.files, report.failures) == (2500, [])
    for number in range(2500):
        assert (tmp_path / "out" / f"d{number % 7}" / f"f{number}").read_bytes() == b"%d" % number * (number % 50)
    chunks = {chunk.id for number in range(1, 50) for chunk in fs.places(f"/packs/d{number % 7}/f{number}").chunks}
    assert len(chunks) <= 2
    ranges = [(f"/packs/d{number % 7}/f{number}", 1, 30) for number in range(2500)]
    assert fs.read_many(ranges) == [(b"%d" % n * (n % 50))[1:30] for n in range(2500)]


def test_a_transaction_larger_than_a_commit_appears_at_once_or_not_at_all(fs: Client) -> None:
    with fs.transaction() as transaction:
        for number in range(ITEMS_MAX + 100):
            transaction.write_bytes(f"/many{number}", b"%d" % number)
        assert not fs.exists("/many0")
    assert fs.read_bytes(f"/many{ITEMS_MAX + 99}") == b"%d" % (ITEMS_MAX + 99)
    refused = fs.transaction()
    for number in range(ITEMS_MAX + 100):
        refused.write_bytes(f"/none{number}", b"x")
    refused.remove("/missing")
    with pytest.raises(dfs.errors.FileNotFound):
        refused.commit()
    assert not fs.exists("/none0")
    assert fs.status().drafts == 0


def test_appends_of_many_writers_are_all_there(fs: Client) -> None:
    def append(writer: int) -> None:
        for number in range(10):
            fs.append("/log", b"%d-%d\n" % (writer, number))

    threads = [threading.Thread(target=append, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = fs.read_bytes("/log").split()
    assert sorted(lines) == sorted(b"%d-%d" % (writer, number) for writer in range(4) for number in range(10))
    for writer in range(4):
        mine = [line for line in lines if line.startswith(b"%d-" % writer)]
        assert mine == [b"%d-%d" % (writer, number) for number in range(10)]


def test_a_client_works_on_in_a_forked_child(fs: Client) -> None:
    data = os.urandom(3 * MIB)
    fs.write_bytes("/fork", data, chunk_size=MIB)
    assert fs.read_bytes("/fork") == data
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if fs.read_bytes("/fork") == data else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert fs.read_bytes("/fork") == data


def test_a_datanode_that_hangs_spoils_neither_a_put_nor_a_get(
    cluster: "dfs.testing.Cluster",  # type: ignore[name-defined]
    fs: Client,
    tmp_path: Path,
) -> None:
    # F10
    data = os.urandom(24 * MIB)
    (tmp_path / "local").write_bytes(data)
    pid = cluster.datanodes[0].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        fs.put(tmp_path / "local", "/hang", chunk_size=4 * MIB)
        fs.get("/hang", tmp_path / "back")
        assert time.monotonic() - began < 45
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (tmp_path / "back").read_bytes() == data


def test_a_namenode_that_is_killed_and_comes_back_spoils_no_put(
    cluster: "dfs.testing.Cluster",  # type: ignore[name-defined]
    fs: Client,
) -> None:
    # F19 F20 F21
    stop = threading.Event()
    written: list[str] = []

    def write() -> None:
        while not stop.is_set():
            path = f"/restart{len(written)}"
            fs.write_bytes(path, path.encode(), overwrite=False)
            written.append(path)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(2):
            time.sleep(0.3)
            cluster.namenode.kill()
            time.sleep(0.3)
            cluster.namenode.restart()
        before = len(written)
        deadline = time.monotonic() + 30
        while len(written) < before + 5 and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        stop.set()
        writer.join()
    assert len(written) >= before + 5
    assert fs.read_many([(path, 0, None) for path in written]) == [path.encode() for path in written]
