"""The chunk file: what is written is what was sent, or nothing is there; what is read was checked."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from dfs.protocol import chunk_format as fmt
from dfs.protocol.digests import BLOCK_SIZE, tree_digest
from dfs.protocol.errors import (
    ChunkExists,
    CorruptReplica,
    DigestMismatch,
    InvalidRequest,
    NoSpace,
    ReplicaNotFound,
)
from dfs.protocol.hints import FileHint, FilesHint, encode_hints
from dfs_datanode.buffers import BUFFER_SIZE, BufferPool
from dfs_datanode.chunk_file import DIRECT_MIN_BYTES, read_trailer
from dfs_datanode.chunk_store import ChunkStore
from dfs_datanode.disk import Disk
from fixtures.disks import (
    EAGAIN,
    EIO,
    ENOSPC,
    EROFS,
    FaultyDisk,
    QuickDisk,
    header_for,
    make_store,
    store_chunk,
    wire_footer,
)

CHUNK = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32
HINTS = encode_hints(
    FilesHint(1, [FileHint(f"/{os.urandom(20).hex()}", n, 1, 0, 1, "") for n in range(300)], complete=True)
)


def path_of(directory: Path, chunk: str = CHUNK) -> Path:
    return directory / "chunks" / chunk[-2:] / f"{chunk}.chunk"


def nothing_is_left(directory: Path) -> bool:
    return os.listdir(directory / "tmp") == [] and not path_of(directory).exists()


def random_bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize(
    "size",
    [1, 4095, 4096, 4097, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, DIRECT_MIN_BYTES - 1, DIRECT_MIN_BYTES,
     BUFFER_SIZE - fmt.HEADER_SIZE, BUFFER_SIZE - 1, BUFFER_SIZE, BUFFER_SIZE + 1, 2 * BUFFER_SIZE - fmt.HEADER_SIZE],
)  # fmt: skip
def test_every_length_is_read_back_as_it_was_written(tmp_path: Path, size: int) -> None:
    data = random_bytes(size)
    store = make_store(tmp_path)
    store_chunk(store, CHUNK, data)
    reader = store.open(CHUNK)
    assert b"".join(reader.pieces()) == data
    assert reader.root.hex() == tree_digest(data)
    assert path_of(tmp_path).stat().st_size == fmt.file_size(size)
    assert os.listdir(tmp_path / "tmp") == []


@pytest.mark.parametrize("size", [1, BLOCK_SIZE, DIRECT_MIN_BYTES + 5, BUFFER_SIZE - fmt.HEADER_SIZE - 20_000])
def test_hints_are_stored_with_the_chunk_and_given_back(tmp_path: Path, size: int) -> None:
    data, store = random_bytes(size), make_store(tmp_path)
    store_chunk(store, CHUNK, data, hints=HINTS)
    reader = store.open(CHUNK)
    assert b"".join(reader.pieces()) == data
    assert reader.read_hints() == HINTS
    assert path_of(tmp_path).stat().st_size == fmt.file_size(size, len(HINTS))
    assert read_trailer(Disk(), str(path_of(tmp_path))).hints == len(HINTS)
    store_chunk(store, OTHER, data)
    assert store.open(OTHER).read_hints() == b""


def test_the_space_of_hints_is_taken_before_the_first_byte(tmp_path: Path) -> None:  # F33
    class Noting(QuickDisk):
        reserved = 0

        def reserve(self, fd: int, size: int) -> None:
            self.reserved = size
            super().reserve(fd, size)

    disk = Noting()
    store = make_store(tmp_path, disk=disk)
    with store.storing(header_for(CHUNK, 10), 10, hints=len(HINTS)):
        assert disk.reserved == fmt.file_size(10, len(HINTS)) > fmt.file_size(10)


def test_damaged_hints_are_refused_like_damaged_data(tmp_path: Path) -> None:  # F12
    store = make_store(tmp_path)
    for place in (0, len(HINTS) // 2, len(HINTS) - 1):
        damaged = bytearray(HINTS)
        damaged[place] ^= 1
        with pytest.raises(DigestMismatch, match="hints"):
            store_chunk(store, CHUNK, b"data", hints=bytes(damaged))
        assert nothing_is_left(tmp_path)


def test_other_hints_than_announced_are_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with store.storing(header_for(CHUNK, 4), 4, hints=len(HINTS) + 1) as (writer, _):
        writer.write(b"data")
        with pytest.raises(InvalidRequest, match="hints"):
            writer.finish(wire_footer(b"data", HINTS))
    assert nothing_is_left(tmp_path)


def test_a_flipped_bit_in_the_hints_makes_a_bad_replica(tmp_path: Path) -> None:  # F39
    store = make_store(tmp_path)
    store_chunk(store, CHUNK, b"data", hints=HINTS)
    reader = store.open(CHUNK)
    damage(path_of(tmp_path), fmt.footer_offset(4) + 8 + 5)
    with pytest.raises(CorruptReplica):
        reader.read_hints()
    with pytest.raises(CorruptReplica):
        store.open_uncached(CHUNK)


def test_pieces_of_any_size_make_the_same_file(tmp_path: Path) -> None:
    data = random_bytes(BUFFER_SIZE + 100_000)
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    store = make_store(tmp_path)
    with store.storing(header_for(CHUNK, len(data)), len(data)) as (writer, _):
        place = 0
        while place < len(data):
            if rng.random() < 0.5:
                piece = data[place : place + rng.randint(1, 300_000)]
                writer.write(piece)
            else:
                room = writer.room()[: rng.randint(1, 300_000)]
                piece = data[place : place + len(room)]
                room[: len(piece)] = piece
                writer.advance(len(piece))
            place += len(piece)
        assert writer.finish(wire_footer(data)).hex() == tree_digest(data)
    assert b"".join(store.open(CHUNK).pieces()) == data


def test_a_chunk_of_unknown_length_ends_where_its_data_ends(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    data = random_bytes(50_000)
    with store.storing(header_for(CHUNK, None), 1 << 20) as (writer, _):
        writer.write(data)
        writer.finish(wire_footer(data))
    assert store.open(CHUNK).read_blocks(0, len(data)) == data


def test_a_wrong_footer_leaves_nothing(tmp_path: Path) -> None:  # F12
    store = make_store(tmp_path)
    with pytest.raises(DigestMismatch) as raised:
        store_chunk(store, CHUNK, b"a" * 40_000, footer_of=b"a" * 20_000 + b"b" + b"a" * 19_999)
    assert raised.value.detail == {"block": 1}
    assert nothing_is_left(tmp_path)


@pytest.mark.parametrize("sent", [99, 101])
def test_a_body_of_another_length_than_announced_leaves_nothing(tmp_path: Path, sent: int) -> None:  # F83
    store = make_store(tmp_path)
    with pytest.raises(InvalidRequest):
        store_chunk(store, CHUNK, b"x" * sent, announced=100)
    assert nothing_is_left(tmp_path)


def test_a_stream_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:  # F15
    store = make_store(tmp_path)

    def break_off() -> None:
        raise RuntimeError("the sender has gone")

    with pytest.raises(RuntimeError):
        store_chunk(store, CHUNK, b"x", before_finish=break_off)
    assert nothing_is_left(tmp_path)


def test_an_id_is_claimed_from_the_first_byte_and_used_for_ever(tmp_path: Path) -> None:  # F95
    store = make_store(tmp_path / "a", tmp_path / "b")
    with store.storing(header_for(CHUNK, 3), 3) as (writer, _):
        with pytest.raises(ChunkExists), store.storing(header_for(CHUNK, 3), 3):
            pass
        writer.write(b"one")
        writer.finish(wire_footer(b"one"))
    with pytest.raises(ChunkExists):
        store_chunk(store, CHUNK, b"two")
    store.retire(CHUNK, now_ms=1)
    with pytest.raises(ChunkExists):
        store_chunk(store, CHUNK, b"two")
    with store.storing(header_for(CHUNK, 3), 3, again=True) as (writer, _):
        writer.write(b"two")
        writer.finish(wire_footer(b"two"))
    assert store.open(CHUNK).read_blocks(0, 3) == b"two"


def test_publishing_never_replaces_a_file(tmp_path: Path) -> None:  # F95
    store = make_store(tmp_path)

    def put_in_the_way() -> None:
        path_of(tmp_path).write_bytes(b"somebody else's")

    with pytest.raises(ChunkExists):
        store_chunk(store, CHUNK, b"new", before_finish=put_in_the_way)
    assert path_of(tmp_path).read_bytes() == b"somebody else's"
    assert os.listdir(tmp_path / "tmp") == []


def test_the_order_of_publishing_is_write_link_sync_and_only_then_unlink(tmp_path: Path) -> None:  # F96
    disk = FaultyDisk()
    store = make_store(tmp_path, disk=disk)
    disk.calls.clear()
    store_chunk(store, CHUNK, b"x" * 10)
    calls = [call for call in disk.calls if call not in ("read", "sync_directory")]
    assert calls == ["reserve", "write", "link", "sync", "unlink"]


@pytest.mark.parametrize(
    ("call", "number", "after", "state"),
    [
        ("reserve", ENOSPC, 0, "full"),  # F33
        ("write", ENOSPC, 1, "full"),  # F33, in mid-write
        ("write", EIO, 1, "failed"),  # F36
        ("sync", EIO, 0, "failed"),  # F36
        ("sync", ENOSPC, 0, "failed"),  # delayed allocation found no space: still a failed fsync
        ("link", EROFS, 0, "read_only"),  # F35, until a probe is written again
    ],
)
def test_a_disk_that_fails_leaves_no_replica(tmp_path: Path, call: str, number: int, after: int, state: str) -> None:
    disk = FaultyDisk()
    store = make_store(tmp_path, disk=disk)
    disk.calls.clear()
    disk.fail(call, number, after)
    with pytest.raises(NoSpace) as raised:
        store_chunk(store, CHUNK, random_bytes(BUFFER_SIZE + 5))
    assert raised.value.status == 507
    assert disk.calls.count("sync") <= 1, "a failed fsync is never repeated"
    disk.heal()
    assert nothing_is_left(tmp_path)
    assert store.look()[0].state == state
    if state != "in_service":
        with pytest.raises(NoSpace):
            store_chunk(store, OTHER, b"x")


def test_a_published_name_that_cannot_be_taken_back_keeps_its_twin(tmp_path: Path) -> None:  # F36, F96
    disk = FaultyDisk()
    store = make_store(tmp_path, disk=disk)

    def break_disk() -> None:
        disk.fail("sync", EIO)
        disk.fail("unlink", EIO)

    with pytest.raises(NoSpace):
        store_chunk(store, CHUNK, b"x", before_finish=break_disk)
    assert path_of(tmp_path).exists()
    assert os.listdir(tmp_path / "tmp") == [CHUNK], "the next start must find the chunk in doubt"


def damage(path: Path, place: int, size: int = 1) -> None:
    with open(path, "r+b") as file:
        file.seek(place if place >= 0 else path.stat().st_size + place)
        old = file.read(size)
        file.seek(-len(old), os.SEEK_CUR)
        file.write(bytes(byte ^ 0x40 for byte in old))


@pytest.fixture
def stored(tmp_path: Path) -> tuple[ChunkStore, Path, bytes]:
    data = random_bytes(100_000)
    store = make_store(tmp_path)
    store_chunk(store, CHUNK, data)
    return store, path_of(tmp_path), data


@pytest.mark.parametrize(
    "place",
    [0, 9, 40, 3000, 4090, fmt.footer_offset(100_000), fmt.footer_offset(100_000) + 60, -100, -64, -40, -16, -1],
)
def test_a_flipped_bit_outside_the_data_is_found_when_the_file_is_opened(
    stored: tuple[ChunkStore, Path, bytes], place: int
) -> None:
    store, path, _ = stored
    damage(path, place)
    with pytest.raises(CorruptReplica):
        store.open(CHUNK)


def test_a_flipped_bit_in_the_data_is_found_in_its_block_and_in_no_other(  # F39
    stored: tuple[ChunkStore, Path, bytes],
) -> None:
    store, path, data = stored
    damage(path, fmt.HEADER_SIZE + 2 * BLOCK_SIZE + 77)
    reader = store.open(CHUNK)
    assert reader.read_blocks(0, 2 * BLOCK_SIZE) == data[: 2 * BLOCK_SIZE]
    assert reader.read_blocks(3 * BLOCK_SIZE, len(data)) == data[3 * BLOCK_SIZE :]
    for read in (reader.read_blocks, reader.read_blocks_cached):
        with pytest.raises(CorruptReplica) as raised:
            read(BLOCK_SIZE, 4 * BLOCK_SIZE)
        assert raised.value.detail["block"] == 2
    with pytest.raises(CorruptReplica):
        reader.verify()


@pytest.mark.parametrize("size", [0, 10, 4096, 50_000, 4096 + 102_400, fmt.file_size(100_000) - 4096])
def test_a_truncated_file_is_corrupt(stored: tuple[ChunkStore, Path, bytes], size: int) -> None:  # F43
    store, path, _ = stored
    os.truncate(path, size)
    with pytest.raises(CorruptReplica):
        store.open(CHUNK)
    with pytest.raises(CorruptReplica):
        read_trailer(Disk(), str(path))


def test_the_right_length_with_a_tail_of_zeros_is_corrupt(stored: tuple[ChunkStore, Path, bytes]) -> None:  # F43
    store, path, _ = stored
    size = path.stat().st_size
    os.truncate(path, size - 4096)
    os.truncate(path, size)
    with pytest.raises(CorruptReplica):
        store.open(CHUNK)


def test_swapped_files_are_corrupt(stored: tuple[ChunkStore, Path, bytes], tmp_path: Path) -> None:  # F45, F97
    store, path, data = stored
    store_chunk(store, OTHER, data)
    path.rename(tmp_path / "aside")
    path_of(tmp_path, OTHER).rename(path)
    (tmp_path / "aside").rename(path_of(tmp_path, OTHER))
    for chunk in (CHUNK, OTHER):
        with pytest.raises(CorruptReplica):
            store.open_afresh(chunk)


def test_a_footer_of_another_chunk_behind_the_right_header_is_corrupt(  # F45
    stored: tuple[ChunkStore, Path, bytes], tmp_path: Path
) -> None:
    store, path, data = stored
    store_chunk(store, OTHER, data)
    raw = path_of(tmp_path, OTHER).read_bytes()
    path.write_bytes(path.read_bytes()[: fmt.footer_offset(len(data))] + raw[fmt.footer_offset(len(data)) :])
    with pytest.raises(CorruptReplica):
        store.open_afresh(CHUNK)


def test_a_block_written_at_another_ones_place_is_corrupt(stored: tuple[ChunkStore, Path, bytes]) -> None:  # F97
    store, path, data = stored
    with open(path, "r+b") as file:
        file.seek(fmt.HEADER_SIZE)
        file.write(data[BLOCK_SIZE : 2 * BLOCK_SIZE])
    with pytest.raises(CorruptReplica):
        store.open(CHUNK).read_blocks(0, BLOCK_SIZE)


def test_a_disk_that_can_not_be_read_raises_and_is_counted(stored: tuple[ChunkStore, Path, bytes]) -> None:  # F37
    _, path, _ = stored
    disk = FaultyDisk()
    store = make_store(path.parent.parent.parent, disk=disk)
    disk.fail("read", EIO)
    with pytest.raises(OSError, match="Input/output"):
        store.open(CHUNK)
    assert store.volumes[0].read_errors == 1


def test_an_open_file_is_not_used_any_more_once_its_name_is_gone(stored: tuple[ChunkStore, Path, bytes]) -> None:
    store, path, data = stored
    reader = store.open(CHUNK)
    assert store.open_now(CHUNK) is reader
    path.unlink()
    assert store.open_now(CHUNK) is None
    with pytest.raises(ReplicaNotFound):
        store.open(CHUNK)
    assert reader.read_blocks(0, BLOCK_SIZE) == data[:BLOCK_SIZE], "who reads already reads on"


def test_a_file_that_memory_knows_is_opened_without_waiting_for_the_disk(
    stored: tuple[ChunkStore, Path, bytes],
) -> None:
    _, path, data = stored
    path.read_bytes()
    try:
        os.close(Disk().open_cached(str(path)))
    except OSError as error:
        pytest.skip(f"this system can't open a file without waiting: {error}")

    class Waiting(QuickDisk):
        def open(self, path: str, flags: int, mode: int = 0o644) -> int:
            if path.endswith(".chunk"):
                raise AssertionError
            return super().open(path, flags, mode)

    store = make_store(path.parent.parent.parent, disk=Waiting())
    reader = store.open_now(CHUNK)
    assert reader is not None
    assert store.open_now(CHUNK) is reader
    assert reader.read_blocks_cached(0, len(data)) == data
    assert store.open_now("e" * 32) is None


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_file_that_is_retired_while_it_is_opened_is_not_kept_open(tmp_path: Path, in_memory: bool) -> None:
    retire: list[Callable[[], object]] = []

    class Meanwhile(QuickDisk):
        """Something happens right behind an opening, or right before a file leaves its place."""

        def open(self, path: str, flags: int, mode: int = 0o644) -> int:
            fd = super().open(path, flags, mode)
            if retire and path.endswith(".chunk"):
                retire.pop()()
            return fd

        def open_cached(self, path: str) -> int:
            if not in_memory:
                raise BlockingIOError(EAGAIN, "not in memory")
            return self.open(path, os.O_RDONLY)

        def rename(self, old: str, new: str) -> None:
            if old.endswith(f"{CHUNK}.chunk"):
                store.open(CHUNK)
            super().rename(old, new)

    store = make_store(tmp_path, disk=Meanwhile())
    data = random_bytes(3 * BLOCK_SIZE)
    store_chunk(store, CHUNK, data)
    store.retire(CHUNK, 1000)
    assert store.open_now(CHUNK) is None, "it is in the trash, and who opened it before has gone"

    store_chunk(store, OTHER, data)
    retire.append(lambda: store.retire(OTHER, 1000))
    assert store.open(OTHER).read_blocks(0, len(data)) == data, "who reads already reads on"
    assert not retire
    assert store.open_now(OTHER) is None


def test_a_damaged_file_is_not_opened_at_once_but_found_by_whoever_waits(
    stored: tuple[ChunkStore, Path, bytes],
) -> None:
    _, path, _ = stored
    raw = bytearray(path.read_bytes())
    raw[-70] ^= 1
    path.write_bytes(raw)
    store = make_store(path.parent.parent.parent)
    assert store.open_now(CHUNK) is None
    with pytest.raises(CorruptReplica):
        store.open(CHUNK)


def test_readers_close_their_files_when_nobody_uses_them(stored: tuple[ChunkStore, Path, bytes]) -> None:
    store, _, _ = stored
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        store.open_afresh(CHUNK).verify()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_buffers_are_page_aligned_and_used_again() -> None:
    pool = BufferPool(keep=1)
    first, second = pool.take(), pool.take()
    pool.give(first)
    pool.give(second)
    assert pool.take() is first
    assert len(first) == BUFFER_SIZE


def test_failed_streams_give_their_buffers_and_descriptors_back(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(30):
        with pytest.raises(DigestMismatch):
            store_chunk(store, f"{number:032x}", b"x", footer_of=b"y")
    assert len(os.listdir("/proc/self/fd")) <= before
