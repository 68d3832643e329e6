"""Health and probes: a disk that fails or hangs takes its volume out of service alone, and back when it is well."""

import os
import threading
from pathlib import Path

import pytest

from dfs_datanode import health as module
from dfs_datanode.chunk_store import ChunkStore
from dfs_datanode.health import GOOD_PROBES, STEP_MAX_S, Health
from dfs_datanode.probe import PROBE_FILE, Probe
from fixtures.disks import EIO, EMFILE, ENOSPC, EROFS, FaultyDisk, make_volume, store_chunk

CHUNK = "a" * 32


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def wall_ms(self) -> int:
        return 1_000_000

    def monotonic_s(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


def good_probes(health: Health, count: int) -> None:
    for _ in range(count):
        health.probe_began(1.0)
        health.probe_ended(1.1)


def test_a_probe_that_does_not_come_back_in_time_means_that_the_disk_hangs() -> None:  # F53
    health = Health(probe_timeout_s=10)
    health.probe_began(0.0)
    assert [health.hangs(at_s) for at_s in (4.0, 8.0, 9.9, 10.1)] == [False, False, False, True]
    assert "has not come back" in health.why_failed(10.1)
    health.probe_ended(12.0)
    assert not health.hangs(12.0), "whoever reads need not fear to hang any more"
    assert health.why_failed(12.0), "but once is not enough to trust it"
    good_probes(health, GOOD_PROBES)
    assert health.why_failed(13.0) == ""


def test_a_process_that_was_stopped_does_not_blame_its_disk() -> None:
    health = Health(probe_timeout_s=2 * STEP_MAX_S)
    health.probe_began(0.0)
    assert not health.hangs(3600.0)
    health.probe_ended(3600.1)
    assert health.why_failed(3600.1) == ""


def test_a_disk_that_keeps_failing_must_prove_itself_longer_each_time() -> None:  # F36
    health = Health(probe_timeout_s=10)
    for wanted in (GOOD_PROBES, 2 * GOOD_PROBES, 4 * GOOD_PROBES):
        health.failed("write: input/output error")
        good_probes(health, wanted - 1)
        assert health.why_failed(2.0)
        good_probes(health, 1)
        assert health.why_failed(2.0) == ""
    for _ in range(60):
        health.failed("again")
        health._failure = ""
    assert health.good_probes_wanted == module.GOOD_PROBES_MAX


def test_a_failure_in_between_begins_the_count_anew() -> None:
    health = Health(probe_timeout_s=10)
    health.failed("write: input/output error")
    good_probes(health, GOOD_PROBES - 1)
    health.probe_began(1.0)
    health.probe_ended(1.1, why="a probe failed")
    good_probes(health, GOOD_PROBES - 1)
    assert health.why_failed(2.0)
    good_probes(health, 1)
    assert health.why_failed(2.0) == ""


@pytest.mark.parametrize("call", ["write", "sync", "read"])
def test_a_disk_that_fails_a_probe_is_out_of_service_until_probes_work_again(
    tmp_path: Path, disk: FaultyDisk, clock: Clock, call: str
) -> None:  # F36 F37
    volume = make_volume(tmp_path, disk, clock=clock)
    probe = Probe(volume, disk, clock, interval_s=3.0)
    assert probe.turn() == 3.0
    assert volume.state().state == "in_service"
    disk.fail(call, EIO, after=call == "read")  # the first read is of the volume's identity
    probe.turn()
    assert volume.state().state == "failed"
    disk.heal()
    states = []
    for _ in range(GOOD_PROBES):
        probe.turn()
        states.append(volume.state().state)
    assert states == ["failed"] * (GOOD_PROBES - 1) + ["in_service"]


def test_a_disk_that_gives_back_other_bytes_than_were_written_is_out_of_service(tmp_path: Path, clock: Clock) -> None:
    class Liar(FaultyDisk):
        def read_into(self, fd: int, into: memoryview, offset: int) -> int:
            count = super().read_into(fd, into, offset)
            into[0] ^= 1
            return count

    disk = Liar()
    volume = make_volume(tmp_path, disk, clock=clock)
    Probe(volume, disk, clock, interval_s=3.0).turn()
    assert "other bytes" in volume.why_failed


@pytest.mark.parametrize(("number", "state"), [(EROFS, "read_only"), (ENOSPC, "full"), (EMFILE, "in_service")])
def test_a_probe_tells_a_disk_that_takes_no_more_from_one_that_fails(
    tmp_path: Path, disk: FaultyDisk, clock: Clock, number: int, state: str
) -> None:  # F33 F35 F89
    volume = make_volume(tmp_path, disk, clock=clock)
    probe = Probe(volume, disk, clock, interval_s=3.0)
    disk.fail("create", number)
    for _ in range(3):
        probe.turn()
        assert volume.state().state == state
    assert volume.holds_chunks
    disk.heal()
    clock.now_s += module.FULL_PAUSE_S
    probe.turn()
    assert volume.state().state == "in_service"


def test_a_probe_makes_nothing_below_the_mount_point_of_a_disk_that_is_gone(
    tmp_path: Path, disk: FaultyDisk, clock: Clock
) -> None:  # F38
    directory = tmp_path / "mount"
    volume = make_volume(directory, disk, clock=clock)
    probe = Probe(volume, disk, clock, interval_s=3.0)
    probe.turn()
    assert (directory / PROBE_FILE).exists()
    directory.rename(tmp_path / "unmounted")
    directory.mkdir()
    probe.turn()
    assert volume.state().state == "failed"
    assert os.listdir(directory) == []
    directory.rmdir()
    (tmp_path / "unmounted").rename(directory)
    probe.turn()
    assert volume.state().state == "in_service"


def test_a_disk_that_hangs_holds_up_neither_heartbeats_nor_the_other_volume(
    tmp_path: Path, clock: Clock
) -> None:  # F53
    class HangingDisk(FaultyDisk):
        def __init__(self) -> None:
            super().__init__()
            self.hanging = False
            self.hangs = threading.Event()
            self.goes_on = threading.Event()

        def _hang(self, path: str) -> None:
            if self.hanging and path.startswith(str(tmp_path / "hangs")):
                self.hangs.set()
                assert self.goes_on.wait(30)

        def open(self, path: str, flags: int, mode: int = 0o644) -> int:
            self._hang(path)
            return super().open(path, flags, mode)

        def stat(self, path: str) -> os.stat_result:
            self._hang(path)
            return super().stat(path)

        def space(self, path: str) -> os.statvfs_result:
            self._hang(path)
            return super().space(path)

    disk = HangingDisk()
    volumes = [make_volume(tmp_path / name, disk, clock=clock) for name in ("hangs", "well")]
    store = ChunkStore(disk, volumes)
    probe = Probe(volumes[0], disk, clock, interval_s=3.0)
    disk.hanging = True
    thread = threading.Thread(target=probe.turn)
    thread.start()
    assert disk.hangs.wait(10)
    for _ in range(4):
        clock.now_s += 3.0
        states = [state.state for state in store.states()]
    assert states == ["failed", "in_service"]
    assert store_chunk(store, CHUNK, b"x") == volumes[1].id
    found = store.find(CHUNK)
    assert found is volumes[1]
    assert store.retire(CHUNK, now_ms=1)
    disk.hanging = False
    disk.goes_on.set()
    thread.join(10)
    for _ in range(GOOD_PROBES):
        probe.turn()
    assert [state.state for state in store.states()] == ["in_service", "in_service"]
