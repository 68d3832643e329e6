"""When a chunk is acknowledged: the three modes, and what of them survives a power cut."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dfs.protocol.clock import SystemClock
from dfs.protocol.errors import InvalidRequest, NoSpace
from dfs.protocol.messages import Durability
from dfs_datanode.app import open_grounds
from dfs_datanode.chunk_store import ChunkStore
from dfs_datanode.disk import Disk
from dfs_datanode.durability import Published, SyncLater, SyncTogether, mode_of
from dfs_datanode.settings import DatanodeSettings
from dfs_datanode.startup import settle
from fixtures.disks import EIO, FaultyDisk, make_volume, store_chunk


def chunk_id(number: int) -> str:
    return f"{number:032x}"


def store_of(directory: Path, disk: Disk, durability: Durability) -> ChunkStore:
    return ChunkStore(disk, [make_volume(directory, disk, durability=durability)])


def test_sync_makes_each_chunk_durable_before_its_receipt(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = store_of(tmp_path, disk, "sync")
    disk.calls.clear()
    store_chunk(store, chunk_id(1), b"x")
    assert disk.calls.index("link") < disk.calls.index("sync") < disk.calls.index("unlink")


def test_batch_syncs_once_for_all_that_arrive_together() -> None:
    window_open, window_over = threading.Event(), threading.Event()

    def wait(_: float) -> None:
        window_open.set()
        assert window_over.wait(30)

    disk = FaultyDisk()
    together = SyncTogether(disk, wait)
    waiting = threading.Semaphore(0)

    def settle_one() -> bool:
        waiting.release()
        return together.settle(Published(0, "", None))

    with ThreadPoolExecutor(6) as threads:
        first = threads.submit(settle_one)
        assert window_open.wait(30)
        others = [threads.submit(settle_one) for _ in range(5)]
        for _ in range(6):
            assert waiting.acquire(timeout=30)
        assert disk.calls == []
        assert not any(one.done() for one in (first, *others)), "nothing is acknowledged before the sync"
        window_over.set()
        assert all(one.result(30) for one in (first, *others))
    assert 1 <= disk.calls.count("sync_file_system") <= 2, "a thread may have come a moment too late"
    before = disk.calls.count("sync_file_system")
    together.settle(Published(0, "", None))
    assert disk.calls.count("sync_file_system") == before + 1, "who comes later gets a sync of its own"


def test_a_batch_whose_sync_fails_voids_all_of_it_and_the_volume(tmp_path: Path) -> None:  # F36
    disk = FaultyDisk()
    store = store_of(tmp_path, disk, "batch")
    store_chunk(store, chunk_id(1), b"x")
    disk.fail("sync_file_system", EIO)
    with pytest.raises(NoSpace):
        store_chunk(store, chunk_id(2), b"x")
    assert store.states()[0].state == "failed"
    assert store.find(chunk_id(2)) is None
    assert store.find(chunk_id(1)) is not None


def test_none_keeps_the_doubt_until_the_chunks_are_synced(tmp_path: Path) -> None:  # F8
    disk = FaultyDisk()
    store = store_of(tmp_path, disk, "none")
    disk.calls.clear()
    for number in range(3):
        store_chunk(store, chunk_id(number), b"x")
    assert not {"sync", "sync_file_system"} & set(disk.calls)
    assert len(os.listdir(tmp_path / "tmp")) == 3
    syncing = store.volumes[0].syncing
    assert isinstance(syncing, SyncLater)
    assert syncing.flush(str(tmp_path)) == 3
    assert os.listdir(tmp_path / "tmp") == []
    assert disk.calls.count("sync_file_system") == 1
    assert syncing.flush(str(tmp_path)) == 0


def test_what_a_power_cut_took_of_mode_none_is_noticed_at_the_start(tmp_path: Path) -> None:  # F96
    disk = FaultyDisk()
    store = store_of(tmp_path, disk, "none")
    for number in range(2):
        store_chunk(store, chunk_id(number), b"x" * 10_000)
    os.truncate(store.volumes[0].path_of(chunk_id(1)), 4096)
    again = store_of(tmp_path, disk, "none")
    settle(again.volumes, disk, now_ms=0)
    assert again.find(chunk_id(0)) is not None
    assert again.find(chunk_id(1)) is None
    assert os.listdir(tmp_path / "tmp") == []


def test_a_sync_that_fails_later_leaves_the_doubt_for_the_next_start(tmp_path: Path) -> None:  # F36
    disk = FaultyDisk()
    store = store_of(tmp_path, disk, "none")
    store_chunk(store, chunk_id(1), b"x")
    syncing = store.volumes[0].syncing
    assert isinstance(syncing, SyncLater)
    disk.fail("sync_file_system", EIO)
    with pytest.raises(OSError, match="Input/output error"):
        syncing.flush(str(tmp_path))
    disk.heal()
    assert syncing.flush(str(tmp_path)) == 0, "a failed sync is never repeated"
    assert os.listdir(tmp_path / "tmp") == [chunk_id(1)]


def test_the_whole_file_system_is_really_synced(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    Disk().sync_file_system(fd)
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        Disk().sync_file_system(fd)


def test_another_mode_is_refused(tmp_path: Path) -> None:
    assert mode_of("batch") == "batch"
    with pytest.raises(InvalidRequest, match="sync, batch or none"):
        open_grounds(DatanodeSettings(dirs=(str(tmp_path),), durability="fast"), Disk(), SystemClock())
