"""The client dies in the middle of an upload: nothing is visible, nothing stays, and what is wanted again goes on."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dfs.testing import Cluster, cluster
from dfs.testing.proxy import Cut, Throttle
from fixtures.command import clean_environ, run_dfs
from fixtures.faults import MIB, seeded, wait_until

CHUNKS = 12
OURS = {"chunk_size_bytes": MIB, "backup_interval_s": 0}
"""Chunks that are not of a test's own would be counted with them."""


@pytest.fixture(name="running", scope="module")
def a_cluster_behind_proxies() -> Iterator[Cluster]:
    with cluster(datanodes=3, proxied=True, **OURS) as running:
        yield running


@contextmanager
def putting(
    running: Cluster, source: Path, path: str, *options: str, **environ: str
) -> "Iterator[subprocess.Popen[bytes]]":
    """`dfs put` as a process, which is killed at the end if it still runs."""
    command = [sys.executable, "-m", "dfs.cli", "put", *options, str(source), path]
    surroundings = clean_environ(DFS_NAMENODE=running.url, **environ)
    process = subprocess.Popen(command, env=surroundings, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def on_disk(running: Cluster) -> set[str]:
    return {chunk for datanode in running.datanodes for chunk in datanode.chunk_paths()}


def test_a_client_that_dies_before_its_commit_leaves_nothing_to_see_and_nothing_behind(tmp_path: Path) -> None:  # F16
    settings = {"orphan_age_s": 3, "chunk_commit_window_s": 3, "report_interval_s": 1, "trash_age_s": 0}
    source = tmp_path / "big"
    source.write_bytes(seeded("before commit").randbytes(4 * MIB))
    with cluster(datanodes=3, proxied=True, **OURS, **settings) as running, running.connect() as fs:
        assert running.proxy is not None
        running.proxy.add(Cut("request", 0, match=b"POST /v1/commit"))
        with putting(running, source, "/big") as client:
            wait_until(lambda: running.proxy is not None and running.proxy.happened > 0, 30, "the client commits")
            stored = on_disk(running)
            assert len(stored) == 4
            client.kill()
        running.proxy.heal()
        assert not fs.exists("/big")
        wait_until(lambda: fs.collect_garbage() is not None and not on_disk(running) & stored, 40, "no orphan is left")
        assert not fs.exists("/big")


def noted(state: Path) -> list[str]:
    """The chunks in the only journal."""
    journals = list((state / "dfs" / "uploads").glob("*.jsonl"))
    if not journals:
        return []
    lines = [json.loads(line) for line in journals[0].read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    return [line["chunk"][0] if isinstance(line["chunk"], list) else line["chunk"]["id"]
            for line in lines if line["type"] == "stored"]  # fmt: skip


def kill_in_the_middle(running: Cluster, source: Path, path: str, state: Path) -> list[str]:
    """Put, and SIGKILL the client when some chunks are stored; those, as the client noted them."""
    for datanode in running.datanodes:
        datanode.proxies["client"].add(Throttle(1.5 * MIB))
    before = len(noted(state))
    try:
        with putting(running, source, path, "--resume", XDG_STATE_HOME=str(state)) as client:
            wait_until(lambda: len(noted(state)) >= before + 3, 60, "some chunks are stored")
            client.kill()
            client.wait()
    finally:
        for datanode in running.datanodes:
            datanode.proxies["client"].heal()
    stored = noted(state)
    assert len(stored) < CHUNKS, "it was killed in the middle"
    return stored


def test_an_upload_whose_client_was_killed_twice_goes_on_where_it_was(running: Cluster, tmp_path: Path) -> None:  # F18
    source, state = tmp_path / "big", tmp_path / "state"
    data = seeded("resumed").randbytes(CHUNKS * MIB)
    source.write_bytes(data)
    with running.connect() as fs:
        first = kill_in_the_middle(running, source, "/resumed", state)
        second = kill_in_the_middle(running, source, "/resumed", state)
        assert second[: len(first)] == first
        assert not fs.exists("/resumed")
        done = run_dfs(
            *("put", "--resume", str(source), "/resumed"),
            environ=clean_environ(DFS_NAMENODE=running.url, XDG_STATE_HOME=str(state)),
        )
        assert done.code == 0, done.error
        assert "goes on" in done.error
        assert fs.read_bytes("/resumed") == data
        assert set(second) <= {chunk.id for chunk in fs.places("/resumed").chunks}, "what was stored was not sent again"
        assert noted(state) == []


def test_a_source_that_changed_since_is_sent_anew(running: Cluster, tmp_path: Path) -> None:  # F18
    source, state = tmp_path / "big", tmp_path / "state"
    source.write_bytes(seeded("old").randbytes(CHUNKS * MIB))
    with running.connect() as fs:
        stored = kill_in_the_middle(running, source, "/changed", state)
        data = seeded("new").randbytes(CHUNKS * MIB)
        source.write_bytes(data)
        os.utime(source, ns=(1, 1))
        done = run_dfs(
            *("put", "--resume", str(source), "/changed"),
            environ=clean_environ(DFS_NAMENODE=running.url, XDG_STATE_HOME=str(state)),
        )
        assert done.code == 0, done.error
        assert "has changed since its upload was interrupted" in done.error
        assert fs.read_bytes("/changed") == data
        assert not set(stored) & {chunk.id for chunk in fs.places("/changed").chunks}


def test_ctrl_c_says_how_to_go_on(running: Cluster, tmp_path: Path) -> None:  # F18
    source, state = tmp_path / "big", tmp_path / "state"
    source.write_bytes(seeded("interrupted").randbytes(CHUNKS * MIB))
    for datanode in running.datanodes:
        datanode.proxies["client"].add(Throttle(1.5 * MIB))
    try:
        with putting(running, source, "/interrupted", "--resume", XDG_STATE_HOME=str(state)) as client:
            wait_until(lambda: len(noted(state)) >= 1, 60, "a chunk is stored")
            client.send_signal(signal.SIGINT)
            _, said = client.communicate(timeout=60)
    finally:
        for datanode in running.datanodes:
            datanode.proxies["client"].heal()
    assert client.returncode == 130
    assert b"--resume" in said
    assert b"Traceback" not in said
