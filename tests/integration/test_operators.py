"""Operators' commands against real processes: what they find, what they change, and their exit codes."""

import json
import os
import time
from collections.abc import Callable, Iterator

import pytest

from dfs.protocol.messages import BadReplica
from dfs.protocol.operations import BAD_REPLICA
from dfs.testing import Cluster, cluster
from fixtures.command import Run, clean_environ, run_dfs


@pytest.fixture(name="four", scope="module")
def four_datanodes() -> Iterator[Cluster]:
    with cluster(datanodes=4, replication=3, dead_after_s=6, stale_after_s=3, heartbeat_interval_s=0.5) as running:
        yield running


@pytest.fixture(name="run")
def a_command(four: Cluster) -> Run:
    environ = clean_environ(DFS_NAMENODE=four.url)
    return lambda *arguments: run_dfs(*arguments, environ=environ)


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.1)


def test_one_flipped_bit_is_found_told_and_mended_without_a_command(four: Cluster, run: Run) -> None:
    # F39 F40
    fs = four.connect()
    data = os.urandom(300_000)
    fs.write_bytes("/rot/file", data, parents=True)
    assert run("fsck", "/rot").text.startswith("Healthy: every chunk of 1 file ")
    (chunk,) = fs.places("/rot/file").chunks
    holder = next(node for node in four.datanodes if node.id == chunk.replicas[0].datanode)
    holder.flip(chunk.id)
    repair = run("fsck", "/rot", "--repair")
    assert repair.code == 0, "nothing is known of it yet"
    fs.admin.set_safe_mode(on=True)
    try:
        # As a reader would say it; the datanode's own verdict counts.
        fs._namenodes.tell(BAD_REPLICA, BadReplica(chunk=chunk.id, datanode=holder.id, why="rotten"))
        wait_until(lambda: run("fsck", "/rot").code == 6, "the rot is found")
        found = run("fsck", "/rot", "--json")
        record = json.loads(found.text)
        assert (found.code, record["unhealthy_files"]["corrupt"]) == (6, 1)
        assert record["summary"].startswith("Corrupt: 1 file of 1")
    finally:
        fs.admin.set_safe_mode(on=False)
    wait_until(lambda: run("fsck", "/rot").code == 0, "the replica is replaced")
    assert fs.read_bytes("/rot/file") == data


def test_a_scrub_finds_rot_that_nobody_read(four: Cluster, run: Run) -> None:
    # F39
    fs = four.connect()
    data = os.urandom(300_000)
    fs.write_bytes("/idle", data)
    holder = next(node for node in four.datanodes if node.id == fs.places("/idle").chunks[0].replicas[0].datanode)
    fs.admin.set_safe_mode(on=True)
    try:
        holder.flip(fs.places("/idle").chunks[0].id)
        assert run("admin", "scrub", holder.id).text.startswith("everything was verified")
        wait_until(lambda: run("fsck", "/idle").code == 6, "the rot is told")
    finally:
        fs.admin.set_safe_mode(on=False)
    wait_until(lambda: run("fsck", "/idle").code == 0, "the replica is replaced")


def test_a_datanode_is_drained_forgotten_by_nobody_and_taken_back(four: Cluster, run: Run) -> None:
    # F69
    fs = four.connect()
    for number in range(6):
        fs.write_bytes(f"/drain/{number}", os.urandom(50_000), parents=True)
    name = four.datanodes[3].id
    ended = run("admin", "decommission", name, "--json")
    assert (ended.code, json.loads(ended.text)) == (0, {"datanode": name, "state": "decommissioned"})
    for number in range(6):
        (chunk,) = fs.places(f"/drain/{number}").chunks
        assert sum(replica.datanode != name and replica.state == "good" for replica in chunk.replicas) >= 3
    assert run("fsck", "/drain").code == 0
    assert f"`dfs admin forget {name}` removes it" in run("status").text
    refused = run("admin", "forget", name)
    assert refused.code == 4
    assert "is running" in refused.error
    assert run("admin", "recommission", name).text == f"{name} is in service\n"
    assert run("admin", "decommission", "nobody").code == 2


def test_maintenance_safe_mode_and_balance_are_decided_and_shown(four: Cluster, run: Run) -> None:
    name = four.datanodes[2].id
    assert run("admin", "maintenance", name, "--for", "1h").code == 0
    assert "is in maintenance" in run("status").text
    assert run("admin", "maintenance", name, "--for", "soon").code == 2
    assert run("admin", "recommission", name).code == 0
    assert json.loads(run("admin", "safemode", "on", "--json").text)["held_back"] is True
    assert "an operator holds deletion and repair back" in run("admin", "safemode").text
    assert run("admin", "safemode", "off").text == "deletion and repair go on as usual\n"
    assert run("admin", "balance").code == 0
    assert run("admin", "resolve-history").code == 4
    assert run("admin", "resolve-history", "--yes").text == "there was nothing to resolve\n"


def test_doctor_names_the_datanode_that_this_machine_cannot_reach(four: Cluster, run: Run) -> None:
    well = run("doctor")
    assert well.code == 0, well.text
    four.datanodes[1].stop()
    try:
        ill = run("doctor", "--json")
    finally:
        four.datanodes[1].cont()
    assert ill.code == 1
    problems = [each for each in json.loads(ill.text)["findings"] if each["level"] == "problem"]
    assert [each["about"] for each in problems] == [f"datanode {four.datanodes[1].id}"]
    nobody = run_dfs("--namenode", "http://127.0.0.1:1", "doctor")
    assert nobody.code == 5
    assert "does not answer" in nobody.text
