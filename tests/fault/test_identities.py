"""Servers that meet the wrong ones: another cluster, a copy of themselves, a namenode that forgot or never knew."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import dfs
from dfs.errors import Unavailable
from dfs.testing import Cluster, Node, cluster
from fixtures.faults import LONG, MIB, datanode_of, seeded, wait_until, wrong_replicas


@pytest.fixture(name="running")
def a_cluster_that_collects_soon() -> Iterator[Cluster]:
    # Garbage is looked for at once, so that nothing survives only because nobody looked.
    with cluster(datanodes=3, orphan_age_s=1, chunk_commit_window_s=1, read_grace_s=1, report_interval_s=1) as running:
        yield running


def chunks_of(running: Cluster) -> list[set[str]]:
    return [set(datanode.chunk_paths()) for datanode in running.datanodes]


def a_datanode(running: Cluster, tmp_path: Path, directory: str, name: str, namenode: str) -> Node:
    arguments = ["--listen", "127.0.0.1:0", "--namenode", namenode, "--datanode-id", name, "--reserve-bytes", "1000"]
    return Node("datanode", name, directory, arguments, str(tmp_path / "extra.log"))


def test_a_copied_datanode_is_refused_and_the_original_goes_on(running: Cluster, tmp_path: Path) -> None:  # F48
    fs, data = running.connect(), seeded("copied").randbytes(MIB)
    fs.write_bytes("/a", data)
    original = running.datanodes[0]
    shutil.copytree(original.dir, tmp_path / "copy")
    # With the same directories as the original has, it can't even be told where its copy is: each is its own volume.
    copy = a_datanode(running, tmp_path, str(tmp_path / "copy"), original.id, running.namenode.url)
    copy.start()
    try:
        with pytest.raises(AssertionError, match="not within"):
            wait_until(lambda: not copy.running or "registered" in copy.log, 2, "the copy was let in or ended")
    finally:
        copy.kill()
        copy.process.forget()
    assert "registered" not in copy.log
    assert "live at" in copy.log or "share" in copy.log
    assert [node.state for node in fs.status().datanodes] == ["live"] * 3
    fs.write_bytes("/b", data)
    assert fs.read_bytes("/a") == fs.read_bytes("/b") == data


def test_a_datanode_of_another_cluster_is_refused_and_keeps_its_chunks(running: Cluster, tmp_path: Path) -> None:  # F49
    fs, data = running.connect(), seeded("foreign").randbytes(MIB)
    fs.write_bytes("/a", data)
    with cluster(datanodes=1) as other:
        other.connect().write_bytes("/theirs", data)
        visitor = other.datanodes[0]
        before = visitor.chunk_paths()
        visitor.kill()
        stranger = a_datanode(running, tmp_path, visitor.dir, visitor.id, running.namenode.url)
        stranger.start()
        with pytest.raises(Unavailable, match="belongs to the cluster"):
            stranger.wait_ready()
        assert stranger.process.exit_code != 0
        assert visitor.chunk_paths() == before
        visitor.restart()
        assert other.connect().read_bytes("/theirs") == data
    assert len(fs.status().datanodes) == 3


def test_a_namenode_on_an_empty_directory_gets_no_datanode_and_deletes_nothing(running: Cluster) -> None:  # F64
    fs, data = running.connect(), seeded("empty").randbytes(MIB)
    fs.write_bytes("/a", data)
    before = chunks_of(running)
    running.namenode.kill()
    shutil.move(running.namenode.dir, running.namenode.dir + ".right")
    running.namenode.start()
    running.namenode.wait_ready()
    time.sleep(1.5)
    with running.connect() as mistaken:
        assert mistaken.status().datanodes == []
        assert list(mistaken.ls("/")) == []
        if LONG:
            with pytest.raises(dfs.errors.StateError):
                mistaken.write_bytes("/b", data)
    assert chunks_of(running) == before
    assert all(datanode.running for datanode in running.datanodes)
    running.namenode.kill()
    shutil.rmtree(running.namenode.dir)
    shutil.move(running.namenode.dir + ".right", running.namenode.dir)
    running.namenode.restart()
    running.wait_writable()
    fs = running.connect()
    assert fs.read_bytes("/a") == data
    assert wrong_replicas(running, fs, "/a", data) == []


def test_a_namenode_of_yesterday_latches_that_and_deletes_nothing_it_does_not_know(running: Cluster) -> None:  # F63
    fs, rng = running.connect(), seeded("yesterday")
    old, new = rng.randbytes(MIB), rng.randbytes(MIB)
    fs.write_bytes("/old", old)
    running.namenode.terminate()
    shutil.copytree(running.namenode.dir, running.namenode.dir + ".yesterday")
    running.namenode.restart()
    running.wait_writable()
    fs = running.connect()
    fs.write_bytes("/new", new)
    [chunk] = fs.places("/new").chunks
    # The datanodes see the newer history with their next heartbeats.
    time.sleep(1)
    before = chunks_of(running)
    running.namenode.kill()
    shutil.rmtree(running.namenode.dir)
    os.rename(running.namenode.dir + ".yesterday", running.namenode.dir)
    running.namenode.restart()
    running.wait_writable()
    fs = running.connect()

    def latched() -> bool:
        return any("newer changes" in mode for mode in fs.status().safe_modes)

    wait_until(latched, 10, "status says that the namenode went back in time")
    print(fs.status().safe_modes)
    assert not fs.exists("/new")
    assert fs.read_bytes("/old") == old
    fs.write_bytes("/after", old)
    fs.remove("/after")
    fs.collect_garbage()
    time.sleep(2)
    for had, has in zip(before, chunks_of(running), strict=True):
        assert had <= has
    # It is latched: also after another restart.
    running.namenode.restart()
    running.wait_writable()
    fs = running.connect()
    assert latched()
    time.sleep(1)
    for replica in chunk.replicas:
        assert chunk.id in datanode_of(running, replica.datanode).chunk_paths()
