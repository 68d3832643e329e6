"""The quarantine, and the limit on repairs."""

import os
from pathlib import Path

from dfs_datanode.disk import Disk
from dfs_datanode.throttle import BURST_S, TokenBucket
from fixtures.disks import ENOSPC, FaultyDisk, make_store, store_chunk


def chunk_id(number: int) -> str:
    return f"{number:032x}"


def test_a_bad_replica_is_kept_with_its_reason_and_its_id_stays_used(tmp_path: Path) -> None:  # F39
    store = make_store(tmp_path)
    [volume] = store.volumes
    store_chunk(store, chunk_id(1), b"x")
    raw = Path(volume.path_of(chunk_id(1))).read_bytes()
    assert store.retire(chunk_id(1), now_ms=5_000, why_bad="block 0 is damaged")
    assert (tmp_path / "quarantine" / f"{chunk_id(1)}.chunk").read_bytes() == raw
    assert (tmp_path / "quarantine" / f"{chunk_id(1)}.why").read_text() == "block 0 is damaged\n"
    assert store.find(chunk_id(1)) is None
    assert os.listdir(tmp_path / "trash") == []
    assert volume.knows(chunk_id(1))
    assert (volume.quarantine.count, volume.used_bytes) == (1, 0)


def test_a_full_disk_only_costs_the_reason(tmp_path: Path) -> None:  # F33
    disk = FaultyDisk()
    store = make_store(tmp_path, disk=disk)
    store_chunk(store, chunk_id(1), b"x")
    disk.fail("create", ENOSPC)
    assert store.retire(chunk_id(1), now_ms=5_000, why_bad="why")
    assert os.listdir(tmp_path / "quarantine") == [f"{chunk_id(1)}.chunk"]


def test_a_quarantine_that_can_not_be_used_does_not_keep_a_bad_replica_in_service(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store_chunk(store, chunk_id(1), b"x")
    (tmp_path / "quarantine").rmdir()
    assert store.retire(chunk_id(1), now_ms=5_000, why_bad="why")
    assert store.find(chunk_id(1)) is None
    assert os.listdir(tmp_path / "trash") == [chunk_id(1)]


def test_the_quarantine_is_bounded_in_age_and_bytes_and_the_oldest_go_first(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    quarantine = store.volumes[0].quarantine
    for number in range(4):
        store_chunk(store, chunk_id(number), b"x")
        store.retire(chunk_id(number), now_ms=number * 1_000, why_bad="why")
    one = quarantine.size_bytes // 4
    (tmp_path / "quarantine" / "notes.txt").write_text("of an operator")

    def kept() -> set[str]:
        return {name for name in os.listdir(tmp_path / "quarantine") if name.endswith(".chunk")}

    assert quarantine.purge(now_ms=3_500, age_s=3.0, bytes_max=1 << 30) == 3
    assert kept() == {f"{chunk_id(number)}.chunk" for number in (1, 2, 3)}
    assert quarantine.purge(now_ms=3_500, age_s=3.0, bytes_max=2 * one) == 2
    assert (quarantine.count, quarantine.size_bytes) == (2, 2 * one)
    assert quarantine.purge(now_ms=3_500, age_s=3.0, bytes_max=0) == 0
    assert os.listdir(tmp_path / "quarantine") == ["notes.txt"], "nothing else is ever removed"


def test_a_volume_of_an_earlier_version_gets_its_quarantine(tmp_path: Path) -> None:
    make_store(tmp_path)
    (tmp_path / "quarantine").rmdir()
    (tmp_path / "health").rmdir()
    store = make_store(tmp_path)
    store_chunk(store, chunk_id(1), b"x")
    assert store.retire(chunk_id(1), now_ms=1, why_bad="why")
    assert Disk().names(str(tmp_path / "quarantine"))


class Clock:
    now_s = 10.0

    def wall_ms(self) -> int:
        return 0

    def monotonic_s(self) -> float:
        return self.now_s


def test_repairs_together_stay_below_their_limit() -> None:  # F68
    clock = Clock()
    bucket = TokenBucket(1000, clock)
    moved = 0
    began_s = clock.now_s
    for piece in (100, 700, 50, 4000, 1) * 20:
        clock.now_s += bucket.take(piece)
        moved += piece
    assert moved <= (clock.now_s - began_s) * 1000 + 1000 * BURST_S
    assert moved >= (clock.now_s - began_s) * 1000 * 0.99
    clock.now_s += 3600
    assert bucket.take(int(1000 * BURST_S)) == 0.0
    assert bucket.take(1000) == 1.0, "an idle hour does not save up for a storm"


def test_no_limit_is_no_limit() -> None:
    assert TokenBucket(0, Clock()).take(1 << 40) == 0.0
