"""Disks that fill up, turn read-only, fail or vanish: the volume goes out of service alone, and nobody loses a byte."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import dfs
from dfs.testing import Cluster, Datanode, Impossible, SmallDisk, cluster
from dfs.testing.syscalls import inject
from fixtures.faults import LONG, MIB, NO_ANSWER, good_replicas, seeded, wait_until, wrong_replicas

DISK_BYTES = 192 << 20


@pytest.fixture(name="disk")
def a_small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    try:
        made = SmallDisk(str(tmp_path), DISK_BYTES)
    except Impossible as reason:
        pytest.skip(str(reason))
    with made:
        yield made


@pytest.fixture(name="running")
def two_datanodes_and_one_on_the_small_disk(disk: SmallDisk) -> Iterator[Cluster]:
    with cluster(datanodes=2, replication=2, reserve_bytes=MIB) as running:
        # Not the mount point itself: there is a lost+found, and the ballast.
        running.add_datanode(data_dir=os.path.join(disk.path, "datanode"))
        running.wait_writable()
        yield running


def volume_state(fs: dfs.Client, datanode: Datanode) -> str:
    [found] = [node for node in fs.status().datanodes if node.id == datanode.id]
    return found.volumes[0].state


def write_until_there(fs: dfs.Client, datanode: Datanode, prefix: str, data: bytes) -> str:
    """Write files until one has a replica on that datanode; its path."""
    for number in range(50):
        path = f"/{prefix}-{number}"
        fs.write_bytes(path, data)
        if any(datanode.id in good for good in good_replicas(fs, path)):
            return path
    raise AssertionError(f"{datanode.id} got nothing")


def test_a_disk_that_fills_up_takes_no_more_and_is_still_read(disk: SmallDisk, running: Cluster) -> None:  # F32 F33
    small, fs = running.datanodes[2], running.connect()
    data = seeded("full").randbytes(4 * MIB)
    kept = write_until_there(fs, small, "kept", data)
    # Full before the namenode knows: the first ones are refused by the datanode, and go elsewhere.
    disk.fill(leave_bytes=MIB // 2)
    for number in range(6):
        fs.write_bytes(f"/more-{number}", data)
        assert fs.read_bytes(f"/more-{number}") == data
        assert len(good_replicas(fs, f"/more-{number}")[0]) == 2
        assert small.id not in good_replicas(fs, f"/more-{number}")[0]
    wait_until(lambda: volume_state(fs, small) == "full", 5, "the volume is known as full")
    assert os.listdir(os.path.join(small.dir, "tmp")) == []
    for other in running.datanodes[:2]:
        other.kill()
    assert running.connect().read_bytes(kept) == data
    for other in running.datanodes[:2]:
        other.restart()
    disk.empty()
    if LONG:
        wait_until(lambda: volume_state(fs, small) == "in_service", 45, "the volume takes chunks again")


def test_a_disk_that_turns_read_only_is_still_read(disk: SmallDisk, running: Cluster) -> None:  # F35
    small, fs = running.datanodes[2], running.connect()
    data = seeded("read-only").randbytes(2 * MIB)
    kept = write_until_there(fs, small, "kept", data)
    try:
        disk.fail_read_only()
    except Impossible as reason:
        pytest.skip(str(reason))
    for number in range(6):
        fs.write_bytes(f"/more-{number}", data)
        assert fs.read_bytes(f"/more-{number}") == data
        assert small.id not in good_replicas(fs, f"/more-{number}")[0]
    assert small.running
    for other in running.datanodes[:2]:
        other.kill()
    assert running.connect().read_bytes(kept) == data
    for other in running.datanodes[:2]:
        other.restart()
    small.kill()
    disk.put_back()
    small.restart()
    # Another client: this one has learned to avoid that datanode.
    with running.connect() as other_fs:
        wait_until(lambda: volume_state(other_fs, small) == "in_service", 5, "the volume is back")
        write_until_there(other_fs, small, "again", data)


def test_a_volume_that_turned_read_only_stays_out_of_service(disk: SmallDisk, running: Cluster) -> None:  # F35
    small, fs = running.datanodes[2], running.connect()
    data = seeded("out of service").randbytes(100_000)
    write_until_there(fs, small, "kept", data)
    try:
        disk.fail_read_only()
    except Impossible as reason:
        pytest.skip(str(reason))
    for number in range(6):
        fs.write_bytes(f"/more-{number}", data)
    wait_until(lambda: volume_state(fs, small) in ("read_only", "failed"), 10, "the volume is out of service")
    # For longer than one heartbeat and one probe, though the flags of the mount may not show it.
    time.sleep(1.5)
    assert volume_state(fs, small) in ("read_only", "failed")


def test_a_disk_that_was_unmounted_is_noticed_and_nothing_is_written_below(
    disk: SmallDisk, running: Cluster
) -> None:  # F38
    small, fs = running.datanodes[2], running.connect()
    data = seeded("unmounted").randbytes(2 * MIB)
    kept = write_until_there(fs, small, "kept", data)
    disk.pull_out()
    try:
        assert fs.read_bytes(kept) == data
        for number in range(6):
            fs.write_bytes(f"/more-{number}", data)
        wait_until(lambda: volume_state(fs, small) == "failed", 5, "the volume is out of service")
        assert os.listdir(disk.path) == []
        wait_until(lambda: len(set(good_replicas(fs, kept)[0]) - {small.id}) == 2, 20, "two replicas on the others")
    finally:
        small.kill()
        disk.put_back()
    small.restart()
    wait_until(lambda: volume_state(fs, small) == "in_service", 10, "the volume is back")
    assert fs.read_bytes(kept) == data
    assert wrong_replicas(running, fs, kept, data) == []


def test_a_failed_fsync_voids_the_replica_and_the_volume(running: Cluster) -> None:  # F36
    fs = running.connect()
    data = seeded("fsync").randbytes(MIB)
    victim = running.datanodes[0]
    try:
        with inject(victim.pid, "fsync,fdatasync", error="EIO"):
            for number in range(4):
                fs.write_bytes(f"/a-{number}", data)
                assert victim.id not in good_replicas(fs, f"/a-{number}")[0]
    except Impossible as reason:
        pytest.skip(str(reason))
    wait_until(lambda: volume_state(fs, victim) == "failed", 5, "the volume is out of service")
    # The kernel reports the error once, and then pretends that all is well: so the volume stays out of service.
    for number in range(4):
        assert victim.id not in good_replicas(fs, f"/a-{number}")[0]
        assert fs.read_bytes(f"/a-{number}") == data
    for path in victim.chunk_paths():
        assert path not in [chunk.id for number in range(4) for chunk in fs.places(f"/a-{number}").chunks]


def test_a_cluster_without_space_still_reads_and_removes(disk: SmallDisk) -> None:  # F34 F73 F94
    data = seeded("nothing left").randbytes(MIB)
    with cluster(2, directory=os.path.join(disk.path, "cluster"), reserve_bytes=16 * MIB) as running:
        fs = running.connect()
        fs.write_bytes("/kept", data)
        fs.write_bytes("/removed", data)
        disk.fill(leave_bytes=8 * MIB)
        wait_until(lambda: {volume_state(fs, node) for node in running.datanodes} == {"full"}, 5, "full volumes")
        with pytest.raises((dfs.errors.NoSpace, dfs.errors.NotEnoughDatanodes)):
            fs.write_bytes("/refused", data)
        assert not fs.exists("/refused")
        assert fs.read_bytes("/kept") == data
        fs.remove("/removed")

        if not LONG:
            return
        # Now the namenode's store as well: what it can't keep is refused, or its outcome is unknown; never half done.
        disk.fill()
        made = []
        for number in range(40):
            try:
                fs.mkdir(f"/directory-{number}")
            except NO_ANSWER:
                break
            made.append(f"/directory-{number}")
        assert fs.read_bytes("/kept") == data
        disk.empty()
        if not running.namenode.running:
            running.namenode.restart()
        wait_until(lambda: works(fs), 45, "the namenode writes again")
        assert set(made) <= {entry.path for entry in fs.ls("/")}
        assert not fs.exists("/removed")
        assert fs.read_bytes("/kept") == data


def works(fs: dfs.Client) -> bool:
    try:
        fs.mkdir("/probe", exist_ok=True)
    except NO_ANSWER:
        return False
    return True
