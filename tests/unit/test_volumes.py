"""Volumes, identity, start-up and trash: directories that fail alone and are never mistaken for others."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from dfs.protocol.chunk_format import file_size
from dfs.protocol.clock import SystemClock
from dfs.protocol.errors import Conflict, NoSpace, Unavailable
from dfs.protocol.hints import FileHint, FilesHint, encode_hints
from dfs.protocol.messages import ChunkReport
from dfs_datanode.app import open_grounds
from dfs_datanode.chunk_store import ChunkStore
from dfs_datanode.disk import Disk
from dfs_datanode.duties import VolumeDuties
from dfs_datanode.findings import Findings
from dfs_datanode.health import FULL_PAUSE_S
from dfs_datanode.identity import Identity, load_identity, lock_directory, save_identity
from dfs_datanode.outbox import Outbox
from dfs_datanode.report import report_pages
from dfs_datanode.settings import DatanodeSettings
from dfs_datanode.startup import measure, recover_volume, settle
from dfs_datanode.trash import purge_trash
from dfs_datanode.volumes import file_system_of
from fixtures.disks import (
    CLUSTER,
    EIO,
    EMFILE,
    ENOSPC,
    EROFS,
    FaultyDisk,
    header_for,
    make_store,
    make_volume,
    store_chunk,
)


def chunk_id(number: int) -> str:
    return f"{number:032x}"


# --- state


def test_a_new_volume_is_in_service_and_keeps_its_id(tmp_path: Path) -> None:
    volume = make_volume(tmp_path)
    state = volume.check()
    assert state.state == "in_service"
    assert 0 < state.free_bytes <= state.capacity_bytes
    assert make_volume(tmp_path).id == volume.id


def test_the_reserve_is_never_offered(tmp_path: Path) -> None:  # F32
    free = make_volume(tmp_path).check().free_bytes
    volume = make_volume(tmp_path, reserve_bytes=free // 2)
    assert volume.check().free_bytes <= free // 2 + (1 << 30)
    full = make_volume(tmp_path, reserve_bytes=1 << 60)
    assert full.check().state == "full"
    assert full.takes(1) == 0


def test_how_far_the_scrub_is_is_not_found_out_for_every_chunk(tmp_path: Path) -> None:
    volume = make_volume(tmp_path / "a")
    asked: list[int] = []

    def scrubbed() -> tuple[float, float]:
        asked.append(1)
        return 5.0, 0.5

    volume.scrubbed = scrubbed
    assert volume.takes(1) > 0
    assert not asked
    assert volume.state().scrub_age_s == 5.0
    assert asked


def test_space_that_streams_will_need_is_not_promised_twice(tmp_path: Path) -> None:  # F32
    volume = make_volume(tmp_path)
    before = volume.check().free_bytes
    volume.promise(1 << 40)
    assert volume.check().free_bytes < before
    volume.settle(1 << 40, stored=False)
    assert volume.check().free_bytes > 0


def test_a_full_datanode_refuses_before_any_byte(tmp_path: Path) -> None:  # F34
    store = make_store(tmp_path)
    store.volumes[0].promise(1 << 60)
    with pytest.raises(NoSpace):
        store_chunk(store, chunk_id(1), b"x")
    assert os.listdir(tmp_path / "tmp") == []


def test_a_disk_that_refused_a_write_is_left_alone_for_a_while(tmp_path: Path) -> None:  # F33
    class Clock(SystemClock):
        now_s = 50.0

        def monotonic_s(self) -> float:
            return self.now_s

    clock = Clock()
    volume = make_volume(tmp_path, clock=clock)
    volume.judge(OSError(ENOSPC, "No space left on device"))
    assert volume.check().state == "full"
    clock.now_s += FULL_PAUSE_S
    assert volume.check().state == "in_service"


def test_a_volume_whose_disk_was_unmounted_is_never_written(tmp_path: Path) -> None:  # F38
    directory = tmp_path / "mount"
    store = make_store(directory)
    store_chunk(store, chunk_id(1), b"x")
    directory.rename(tmp_path / "unmounted")
    directory.mkdir()
    assert store.look()[0].state == "failed"
    with pytest.raises(NoSpace):
        store_chunk(store, chunk_id(2), b"x")
    assert os.listdir(directory) == []
    assert store.find(chunk_id(1)) is None
    directory.rmdir()
    (tmp_path / "unmounted").rename(directory)
    assert store.look()[0].state == "in_service", "a disk that comes back serves again"
    assert store.find(chunk_id(1)) is not None


def test_a_disk_that_vanishes_between_two_checks_is_not_replaced_by_its_mount_point(tmp_path: Path) -> None:  # F38
    directory = tmp_path / "mount"
    volume = make_volume(directory)
    directory.rename(tmp_path / "unmounted")
    directory.mkdir()
    with pytest.raises(NoSpace):
        volume.begin(header_for(chunk_id(1), 1))
    assert os.listdir(directory) == []
    assert volume.check().state == "failed"


def test_a_directory_that_was_a_volume_and_is_empty_is_not_made_new(tmp_path: Path) -> None:  # F38
    volume = make_volume(tmp_path / "a", known_id="7" * 32)
    assert volume.check().state == "failed"
    assert volume.id == "7" * 32
    assert os.listdir(tmp_path / "a") == []


def test_a_volume_of_another_cluster_or_datanode_is_refused(tmp_path: Path) -> None:  # F49
    make_volume(tmp_path)
    with pytest.raises(Conflict, match="belongs to the cluster"):
        make_volume(tmp_path, cluster="e" * 32)
    with pytest.raises(Conflict, match="belongs to the datanode dn0"):
        make_volume(tmp_path, datanode="dn1")


def test_a_volume_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    make_volume(tmp_path)
    path = tmp_path / "VOLUME.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(Conflict, match="newer version"):
        make_volume(tmp_path)


def test_one_failed_volume_leaves_the_others_in_service(tmp_path: Path) -> None:  # F36
    disk = FaultyDisk()
    store = make_store(tmp_path / "a", tmp_path / "b", disk=disk)
    disk.fail("sync", EIO)
    with pytest.raises(NoSpace):
        store_chunk(store, chunk_id(1), b"x")
    disk.heal()
    assert sorted(state.state for state in store.look()) == ["failed", "in_service"]
    good = store_chunk(store, chunk_id(2), b"x")
    assert [state.id for state in store.look() if state.state == "in_service"] == [good]


def test_used_bytes_follow_what_is_stored_and_trashed(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store_chunk(store, chunk_id(1), b"x" * 5000)
    assert store.look()[0].used_bytes == file_size(5000)
    again = make_store(tmp_path)
    settle(again.volumes, Disk(), now_ms=0)
    assert measure(again.volumes[0], Disk())[0] == 1
    assert again.look()[0].used_bytes == file_size(5000)
    store.retire(chunk_id(1), now_ms=1000)
    assert store.look()[0].used_bytes == 0


def test_used_bytes_and_free_space_count_hints(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    hints = encode_hints(
        FilesHint(1, [FileHint(os.urandom(1000).hex(), n, 1, 0, 1, "") for n in range(8)], complete=True)
    )
    assert file_size(10, len(hints)) > file_size(10)
    store_chunk(store, chunk_id(1), b"x" * 10, hints=hints)
    assert store.look()[0].used_bytes == file_size(10, len(hints))
    assert Path(store.volumes[0].path_of(chunk_id(1))).stat().st_size == file_size(10, len(hints))
    store.retire(chunk_id(1), now_ms=1000)
    assert store.look()[0].used_bytes == 0
    volume = store.volumes[0]
    assert volume.takes(10, hints=0) == volume.state().free_bytes
    assert volume.takes(10, hints=volume.state().free_bytes) == 0


def test_chunks_spread_over_directories_by_the_random_part_of_their_ids(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    for last in ("00", "7f", "ff"):
        store_chunk(store, "0" * 30 + last, b"x")
        assert (tmp_path / "chunks" / last / ("0" * 30 + last + ".chunk")).exists()


def test_the_file_system_is_the_one_of_the_longest_mount_point(tmp_path: Path) -> None:
    mountinfo = (
        "22 1 254:0 / / rw - ext4 /dev/vda rw\n"
        f"23 22 0:23 / {tmp_path} rw shared:1 - tmpfs tmpfs rw\n"
        f"24 22 0:24 / {tmp_path}/inner rw - xfs /dev/vdb rw\n"
    )
    (tmp_path / "innermost").mkdir()
    assert file_system_of("/", mountinfo) == "ext4"
    assert file_system_of(str(tmp_path / "innermost"), mountinfo) == "tmpfs"
    assert file_system_of(str(tmp_path / "inner" / "x"), mountinfo) == "xfs"


# --- identity


def test_an_identity_is_minted_once_and_kept_in_every_directory(tmp_path: Path) -> None:
    directories = (str(tmp_path / "a"), str(tmp_path / "b"))
    for directory in directories:
        os.mkdir(directory)
    minted = load_identity(Disk(), directories, "")
    save_identity(Disk(), list(directories), minted)
    assert load_identity(Disk(), directories, "") == minted
    os.unlink(tmp_path / "a" / "identity.json")
    assert load_identity(Disk(), directories, "") == minted
    assert os.stat(tmp_path / "b" / "identity.json").st_mode & 0o077 == 0, "it holds the key"


def test_the_highest_sequence_number_that_was_seen_survives_a_power_cut_on_each_disk(tmp_path: Path) -> None:  # F63
    store = make_store(tmp_path / "a", tmp_path / "b")
    directories = tuple(volume.directory for volume in store.volumes)
    save_identity(Disk(), list(directories), Identity(datanode="dn0", cluster=CLUSTER, seq_seen=5))
    for seen, volume in enumerate(store.volumes, 9000):
        duties = VolumeDuties(
            volume,
            Disk(),
            DatanodeSettings(),
            Findings(Outbox()),
            clock=SystemClock(),
            namenode_clock=SystemClock(),
            seq_seen=partial(int, seen),
            busy=lambda: False,
            fatal=pytest.fail,
        )
        duties._keep_up()
    assert load_identity(Disk(), directories, "").seq_seen == 9001
    assert load_identity(Disk(), directories[:1], "").seq_seen == 9000
    place = Path(directories[0]) / "seq_seen"
    whole = place.read_bytes()
    for bit in range(8 * len(whole)):
        harmed = bytearray(whole)
        harmed[bit // 8] ^= 1 << bit % 8
        place.write_bytes(harmed)
        assert load_identity(Disk(), directories[:1], "").seq_seen == 5, "what is damaged counts for nothing"


def test_directories_of_two_datanodes_are_refused(tmp_path: Path) -> None:  # F48
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_identity(Disk(), [str(tmp_path / name)], Identity(datanode=name))
    with pytest.raises(Conflict):
        load_identity(Disk(), (str(tmp_path / "a"), str(tmp_path / "b")), "")
    with pytest.raises(Conflict, match="datanode a, not to z"):
        load_identity(Disk(), (str(tmp_path / "a"),), "z")


def test_a_damaged_identity_is_refused_and_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "identity.json").write_text("{")
    with pytest.raises(Conflict, match="damaged"):
        load_identity(Disk(), (str(tmp_path),), "")
    assert (tmp_path / "identity.json").read_text() == "{"


def test_a_locked_directory_is_refused(tmp_path: Path) -> None:
    lock = lock_directory(Disk(), str(tmp_path))
    with pytest.raises(Conflict, match="another process"):
        lock_directory(Disk(), str(tmp_path))
    os.close(lock)
    os.close(lock_directory(Disk(), str(tmp_path)))


# --- start-up


def test_the_rest_of_an_upload_is_removed_at_the_start(tmp_path: Path) -> None:  # F2, F9
    store = make_store(tmp_path)
    with store.storing(header_for(chunk_id(1), 10), 10) as (writer, volume):
        writer.write(b"x")
        (tmp_path / "tmp" / chunk_id(9)).write_bytes(b"half a chunk")
    assert recover_volume(volume, Disk(), now_ms=0) == 1
    assert os.listdir(tmp_path / "tmp") == []
    assert list(volume.chunks()) == []


def publish_without_sync(tmp_path: Path, chunk: str, data: bytes) -> None:
    """What a kill between link and fsync leaves."""
    store = make_store(tmp_path)
    store_chunk(store, chunk, data)
    os.link(store.volumes[0].path_of(chunk), tmp_path / "tmp" / chunk)


def test_a_chunk_that_was_published_but_not_synced_is_verified_synced_and_kept(tmp_path: Path) -> None:  # F96
    publish_without_sync(tmp_path, chunk_id(1), b"x" * 100)
    disk = FaultyDisk()
    volume = make_volume(tmp_path, disk)
    disk.calls.clear()
    assert recover_volume(volume, disk, now_ms=0) == 1
    assert disk.calls.index("sync") < disk.calls.index("unlink")
    assert list(volume.chunks()) == [chunk_id(1)]
    assert os.listdir(tmp_path / "tmp") == []
    assert recover_volume(volume, disk, now_ms=0) == 0


def test_a_chunk_that_was_published_and_is_damaged_goes_to_the_trash(tmp_path: Path) -> None:  # F43, F96
    publish_without_sync(tmp_path, chunk_id(1), b"x" * 100)
    volume = make_volume(tmp_path)
    with open(volume.path_of(chunk_id(1)), "r+b") as file:
        file.seek(4096)
        file.write(bytes(100))
    recover_volume(volume, Disk(), now_ms=0)
    assert list(volume.chunks()) == []
    assert os.listdir(tmp_path / "trash") == [chunk_id(1)]


def test_a_kill_in_the_middle_of_the_recovery_changes_nothing(tmp_path: Path) -> None:  # F90
    for number in range(3):
        publish_without_sync(tmp_path, chunk_id(number), b"x" * 100)
    disk = FaultyDisk()
    volume = make_volume(tmp_path, disk)
    disk.fail("unlink", EIO, after=1)
    with pytest.raises(OSError, match="Input/output"):
        recover_volume(volume, disk, now_ms=0)
    disk.heal()
    assert recover_volume(volume, disk, now_ms=0) == 2
    assert len(list(volume.chunks())) == 3


# --- reports


def reported(
    store: ChunkStore, *, bad: Callable[[str, str], None] = lambda *_: None, page_size: int = 1000
) -> list[ChunkReport]:
    pages = report_pages(
        store, Disk(), datanode="dn0", incarnation=1, boot="b" * 32, as_of=5, bad=bad, rest_s=0.0, page_size=page_size
    )
    return list(pages)


def test_a_report_lists_everything_once_in_order_and_covers_all_ids(tmp_path: Path) -> None:
    store = make_store(tmp_path / "a", tmp_path / "b")
    ids = [chunk_id(number * 7919 % 1000) for number in range(25)]
    for chunk in ids:
        store_chunk(store, chunk, chunk.encode())
    pages = reported(store, page_size=10)
    assert [len(page.replicas) for page in pages] == [10, 10, 5]
    assert [one.chunk for page in pages for one in page.replicas] == sorted(ids)
    assert [page.after for page in pages] == ["", pages[0].up_to, pages[1].up_to]
    assert pages[-1].up_to == ""
    assert all(page.as_of == 5 and set(page.volumes) == {one.id for one in store.volumes} for page in pages)
    first = pages[0].replicas[0]
    assert (first.length, first.digest) == (32, store.open(first.chunk).root.hex())


def test_an_empty_datanode_reports_that_it_has_nothing(tmp_path: Path) -> None:
    (page,) = reported(make_store(tmp_path))
    assert (page.after, page.up_to, page.replicas) == ("", "", [])


def test_a_volume_that_can_not_be_listed_is_not_reported_as_empty(tmp_path: Path) -> None:  # F62
    disk = FaultyDisk()
    store = make_store(tmp_path / "a", disk=disk)
    store_chunk(store, chunk_id(1), b"x")
    disk.fail("names", EIO, after=100)
    (page,) = reported(store)
    assert page.volumes == []
    assert page.replicas == []


def test_a_file_without_a_trailer_is_told_as_bad_and_not_as_present(tmp_path: Path) -> None:  # F43
    store = make_store(tmp_path)
    store_chunk(store, chunk_id(1), b"x")
    os.truncate(store.volumes[0].path_of(chunk_id(1)), 4096)
    told: list[tuple[str, str]] = []
    (page,) = reported(store, bad=lambda chunk, why: told.append((chunk, why)))
    assert page.replicas == []
    assert [chunk for chunk, _ in told] == [chunk_id(1)]


def test_a_volume_that_vanishes_while_it_is_reported_is_not_reported_as_empty(tmp_path: Path) -> None:  # F38, F62
    directory = tmp_path / "mount"
    store = make_store(directory)
    for number in (1, 2):
        store_chunk(store, chunk_id(number), b"x")
    pages = report_pages(
        store, Disk(), datanode="dn0", incarnation=1, boot="b" * 32, as_of=1, bad=lambda *_: None, rest_s=0, page_size=1
    )
    next(pages)
    directory.rename(tmp_path / "unmounted")
    directory.mkdir()
    with pytest.raises(Unavailable):
        list(pages)


def test_a_process_without_descriptors_condemns_neither_replicas_nor_volumes(tmp_path: Path) -> None:  # F89
    disk = FaultyDisk()
    store = make_store(tmp_path, disk=disk)
    store_chunk(store, chunk_id(1), b"x")
    disk.fail("open", EMFILE)
    told: list[str] = []
    pages = report_pages(
        store,
        disk,
        datanode="dn0",
        incarnation=1,
        boot="b" * 32,
        as_of=1,
        bad=lambda chunk, _: told.append(chunk),
        rest_s=0,
    )
    with pytest.raises(Unavailable):
        list(pages)
    assert told == []
    assert store.look()[0].state == "in_service"
    disk.fail("create", EMFILE)
    with pytest.raises(Unavailable):
        store_chunk(store, chunk_id(2), b"x")
    assert store.look()[0].state == "in_service"


# --- late and read-only volumes


def test_a_disk_that_is_mounted_after_the_start_serves_once_its_doubts_are_settled(tmp_path: Path) -> None:  # F38, F96
    directory = tmp_path / "mount"
    store = make_store(directory)
    store_chunk(store, chunk_id(1), b"x")
    os.link(store.volumes[0].path_of(chunk_id(1)), directory / "tmp" / chunk_id(1))
    known_id = store.volumes[0].id
    directory.rename(tmp_path / "unmounted")
    volume = make_volume(directory, known_id=known_id)
    directory.rmdir()
    (tmp_path / "unmounted").rename(directory)
    assert volume.check().state == "failed"
    assert not volume.holds_chunks
    assert volume.awaits_settling
    settle([volume], Disk(), now_ms=0)
    assert volume.check().state == "in_service"
    assert volume.check().used_bytes == file_size(1)
    assert os.listdir(directory / "tmp") == []


def test_a_volume_that_can_not_be_recovered_serves_nothing(tmp_path: Path) -> None:  # F96
    disk = FaultyDisk()
    store = make_store(tmp_path, disk=disk)
    store_chunk(store, chunk_id(1), b"x")
    (tmp_path / "tmp" / chunk_id(2)).write_bytes(b"half")
    disk.fail("unlink", EIO)
    settle(store.volumes, disk, now_ms=0)
    assert store.look()[0].state == "failed"
    assert store.find(chunk_id(1)) is None


def test_a_datanode_that_is_known_begins_on_a_read_only_disk_and_serves(tmp_path: Path) -> None:  # F35
    store = make_store(tmp_path)
    store_chunk(store, chunk_id(1), b"x")
    save_identity(Disk(), [str(tmp_path)], Identity(datanode="dn0", cluster=CLUSTER))
    disk = FaultyDisk()
    for call in ("create", "write", "unlink", "rename", "link"):
        disk.fail(call, EROFS)
    disk.fail("create", EROFS, after=1)  # the lock file is there, and is opened
    grounds = open_grounds(DatanodeSettings(dirs=(str(tmp_path),)), disk, SystemClock())
    try:
        settle(grounds.volumes, disk, now_ms=0)
        assert ChunkStore(disk, grounds.volumes).open(chunk_id(1)).read_blocks(0, 1) == b"x"
    finally:
        for lock in grounds.locks:
            disk.close(lock)


# --- trash


def test_the_trash_is_kept_for_its_time(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    for number, at_ms in ((1, 1_000_000), (2, 5_000_000)):
        store_chunk(store, chunk_id(number), b"x")
        store.retire(chunk_id(number), now_ms=at_ms)
    assert purge_trash(store.volumes[0], Disk(), now_ms=4_700_000, age_s=3600) == 1
    assert os.listdir(tmp_path / "trash") == [chunk_id(2)]


def test_a_full_volume_gives_up_its_trash_early(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store_chunk(store, chunk_id(1), b"x")
    store.retire(chunk_id(1), now_ms=1_000_000)
    store.volumes[0].promise(1 << 60)
    assert purge_trash(store.volumes[0], Disk(), now_ms=1_000_001, age_s=3600) == 1


def test_a_chunk_that_a_power_cut_brought_back_can_be_deleted_again(tmp_path: Path) -> None:  # F46
    store = make_store(tmp_path)
    store_chunk(store, chunk_id(1), b"x")
    raw = Path(store.volumes[0].path_of(chunk_id(1))).read_bytes()
    assert store.retire(chunk_id(1), now_ms=1_000)
    Path(store.volumes[0].path_of(chunk_id(1))).write_bytes(raw)
    assert store.retire(chunk_id(1), now_ms=2_000)
    assert not store.retire(chunk_id(1), now_ms=3_000)
    assert os.stat(tmp_path / "trash" / chunk_id(1)).st_mtime == 2


def test_joining_a_cluster_is_written_down(tmp_path: Path) -> None:
    volume = make_volume(tmp_path, cluster=None)
    volume.join_cluster(CLUSTER)
    with pytest.raises(Conflict):
        make_volume(tmp_path, cluster="e" * 32)
