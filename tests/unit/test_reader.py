"""How files get out, against a cluster in memory whose replicas rot, vanish, lie and fall silent."""

import io
import os
import random
from pathlib import Path

import pytest

from dfs.protocol import errors as e
from dfs.protocol.digests import BLOCK_SIZE, tree_digest
from fixtures.fake_cluster import FakeCluster

CHUNK = 2 << 20


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(chunk_size=CHUNK)


def one_chunk(cluster: FakeCluster, path: str) -> str:
    file = cluster.tree[path]
    assert file is not None
    return file.extents[0].chunk


def test_every_range_of_a_file_is_what_was_written(cluster: FakeCluster) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    data = rng.randbytes(2 * CHUNK + 12_345)
    with cluster.connect() as fs:
        fs.write_bytes("/a", data)
        for _ in range(60):
            start = rng.randrange(len(data) + 10)
            end = start + rng.choice([0, 1, 100, BLOCK_SIZE, CHUNK + 1])
            assert fs.read_bytes("/a", start=start, end=end) == data[start:end]
        assert fs.read_bytes("/a") == data


def test_the_table_of_a_chunk_is_fetched_once(cluster: FakeCluster) -> None:
    with cluster.connect() as fs:
        fs.write_bytes("/a", os.urandom(CHUNK))
        for start in (0, 500_000, 1_000_000):
            fs.read_bytes("/a", start=start, end=start + 10)
    assert [mode for _, _, mode, _, _ in cluster.gets] == ["table", "blocks", "blocks"]


def test_a_small_file_is_read_exactly_and_never_shows_its_neighbours(cluster: FakeCluster) -> None:
    with cluster.connect() as fs:
        with fs.transaction() as t:
            t.write_bytes("/a", b"a" * 1000)
            t.write_bytes("/b", b"b" * 1000)
        assert fs.read_bytes("/b", start=10, end=20) == b"b" * 10
    assert [(mode, offset, length) for _, _, mode, offset, length in cluster.gets] == [("exact", 1000, 1000)]


@pytest.mark.parametrize("fault", ["refused", "silent"])
def test_a_replica_that_does_not_answer_is_passed_over_and_asked_last_from_then_on(
    cluster: FakeCluster, fault: str
) -> None:
    data = os.urandom(CHUNK)
    with cluster.connect() as fs:
        fs.write_bytes("/a", data)
        getattr(cluster, fault).add("dn1")
        assert fs.read_bytes("/a") == data
        assert sum(datanode == "dn1" for datanode, *_ in cluster.gets) == 1
    assert cluster.called("bad_replica") == []


@pytest.mark.parametrize("size", [1000, CHUNK])
def test_a_rotten_replica_is_passed_over_and_reported_once(cluster: FakeCluster, size: int) -> None:
    # F40
    data = os.urandom(size)
    with cluster.connect() as fs:
        fs.write_bytes("/a", data)
        cluster.flip("dn1", one_chunk(cluster, "/a"), 17)
        assert fs.read_bytes("/a") == data
        assert fs.read_bytes("/a") == data
    (report,) = cluster.called("bad_replica")
    assert (report.datanode, report.chunk) == ("dn1", one_chunk(cluster, "/a"))


@pytest.mark.parametrize("size", [1000, CHUNK])
def test_a_datanode_that_sends_wrong_bytes_as_if_they_were_right_is_not_believed(
    cluster: FakeCluster, size: int
) -> None:
    # F97
    data = os.urandom(size)
    with cluster.connect() as fs:
        fs.write_bytes("/a", data)
        cluster.flip("dn1", one_chunk(cluster, "/a"), 17)
        cluster.liars = {"dn1"}
        assert fs.read_bytes("/a") == data
    assert [report.datanode for report in cluster.called("bad_replica")] == ["dn1"]


def test_a_table_that_is_not_the_chunks_is_not_believed(cluster: FakeCluster) -> None:
    data = os.urandom(CHUNK)
    with cluster.connect() as fs:
        fs.write_bytes("/a", data)
        chunk = one_chunk(cluster, "/a")
        length, table = cluster.tables[chunk]
        cluster.tables[chunk] = (length, bytes([table[0] ^ 1]) + table[1:])
        cluster.liars = set(cluster.names)
        with pytest.raises(e.DataLost):
            fs.read_bytes("/a")


@pytest.mark.parametrize("size", [40_000, CHUNK])
def test_replicas_that_are_all_rotten_in_different_blocks_are_put_together(cluster: FakeCluster, size: int) -> None:
    # F42
    data = os.urandom(size)
    with cluster.connect() as fs:
        fs.write_bytes("/a", data)
        for number, datanode in enumerate(["dn1", "dn2", "dn3"]):
            cluster.flip(datanode, one_chunk(cluster, "/a"), number * BLOCK_SIZE + 5)
        assert fs.read_bytes("/a") == data
    assert {report.datanode for report in cluster.called("bad_replica")} == {"dn1", "dn2", "dn3"}


def test_a_block_that_is_rotten_everywhere_is_lost_and_its_neighbours_can_be_read(cluster: FakeCluster) -> None:
    data = os.urandom(CHUNK)
    with cluster.connect() as fs:
        fs.write_bytes("/a", data)
        for datanode in ("dn1", "dn2", "dn3"):
            cluster.flip(datanode, one_chunk(cluster, "/a"), 5 * BLOCK_SIZE)
        with pytest.raises(e.DataLost):
            fs.read_bytes("/a")
        assert fs.read_bytes("/a", end=5 * BLOCK_SIZE) == data[: 5 * BLOCK_SIZE]


def test_what_can_not_be_reached_is_unavailable_and_not_lost(cluster: FakeCluster) -> None:
    # F58
    with cluster.connect() as fs:
        fs.write_bytes("/a", b"data")
        cluster.flip("dn1", one_chunk(cluster, "/a"), 0)
        cluster.refused = {"dn2", "dn3"}
        with pytest.raises(e.ReplicasUnavailable):
            fs.read_bytes("/a")
        cluster.refused = set()
        assert fs.read_bytes("/a") == b"data"


def test_a_capability_that_expired_is_renewed(cluster: FakeCluster) -> None:
    data = os.urandom(CHUNK)
    with cluster.connect() as fs:
        fs.write_bytes("/a", data)
        with fs.open("/a", "rb") as file:
            cluster.expired = True
            assert file.read(100) == data[:100]
    assert len(cluster.called("locate")) == 1


def test_a_reader_keeps_to_the_version_that_it_opened(cluster: FakeCluster) -> None:
    # F29 F30
    old, new = os.urandom(2 * CHUNK), os.urandom(2 * CHUNK)
    with cluster.connect() as fs:
        fs.write_bytes("/a", old)
        with fs.open("/a", "rb") as file:
            head = file.read(10)
            fs.write_bytes("/a", new)
            assert head + file.read() == old
        with fs.open("/a", "rb") as file:
            fs.remove("/a")
            assert file.read() == new


def test_a_version_that_is_no_longer_kept_is_an_error_of_its_own(cluster: FakeCluster) -> None:
    with cluster.connect() as fs:
        fs.write_bytes("/a", os.urandom(CHUNK))
        with fs.open("/a", "rb") as file:
            cluster.clock.wait(3600)
            cluster.gone = set(cluster.contents)
            with pytest.raises(e.VersionGone):
                file.read(10)


def test_an_open_file_reads_seeks_and_tells_as_a_local_one_does(cluster: FakeCluster, tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    local = tmp_path / "local"
    local.write_bytes(rng.randbytes(2 * CHUNK + 777))
    with cluster.connect() as fs:
        fs.put(local, "/a")
        with fs.open("/a", "rb") as ours, open(local, "rb") as theirs:
            for _ in range(200):
                if rng.random() < 0.4:
                    place, whence = rng.randrange(2 * CHUNK + 2000), rng.choice([io.SEEK_SET, io.SEEK_END])
                    offset = place if whence == io.SEEK_SET else -(place % CHUNK)
                    assert ours.seek(offset, whence) == theirs.seek(offset, whence)
                size = rng.choice([0, 1, 10, 5000, 70_000, 700_000])
                assert ours.read(size) == theirs.read(size)
                assert ours.tell() == theirs.tell()
            assert ours.read() == theirs.read()


def test_a_read_of_many_small_files_asks_for_their_pack_once(cluster: FakeCluster) -> None:
    with cluster.connect() as fs:
        with fs.transaction() as t:
            for number in range(50):
                t.write_bytes(f"/f{number}", b"%04d" % number * 10)
        cluster.gets.clear()
        ranges = [(f"/f{number}", 4, 12) for number in range(49, -1, -1)]
        assert fs.read_many(ranges) == [(b"%04d" % number * 10)[4:12] for number in range(49, -1, -1)]
        assert len(cluster.gets) == 1
        assert len(cluster.called("open_many")) == 1


def test_a_read_of_many_ranges_gives_each_its_bytes_in_the_order_asked(cluster: FakeCluster) -> None:
    data = os.urandom(CHUNK + 100_000)
    with cluster.connect() as fs:
        fs.write_bytes("/a", data)
        fs.write_bytes("/b", b"small")
        ranges = [("/a", CHUNK - 5, CHUNK + 5), ("/b", 1, None), ("/a", 0, 3), ("/b", 2, 100), ("/a", 7, 7)]
        assert fs.read_many(ranges) == [data[CHUNK - 5 : CHUNK + 5], b"mall", data[:3], b"all", b""]
        with pytest.raises(e.FileNotFound):
            fs.read_many([("/b", 0, 1), ("/missing", 0, 1)])


def test_an_open_file_reads_the_same_in_pieces_of_any_size(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows are read into memory that was used before, and big reads past them."""
    monkeypatch.setattr("dfs.file.DIRECT_MIN", 300_000)
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    data = rng.randbytes(3 * CHUNK + 777)
    with cluster.connect() as fs:
        fs.write_bytes("/a", data)
        for _ in range(15):
            with fs.open("/a", "rb") as opened:
                file = rng.choice([opened, opened.raw])
                position = 0
                for _ in range(40):
                    if rng.random() < 0.1:
                        position = file.seek(rng.randrange(len(data)))
                    piece = bytearray(rng.choice([1, 100, 70_000, 200_000, 400_000, 3_000_000]))
                    count = file.readinto(piece)
                    assert piece[:count] == data[position : position + count]
                    position += count
                    assert file.tell() == position


def scattered(size: int, count: int, rng: random.Random) -> list[tuple[str, int, int]]:
    starts = [rng.randrange(size - 5000) for _ in range(count)]
    return [("/a", start, start + rng.choice([1, 100, 4096, 5000])) for start in starts]


@pytest.mark.parametrize("fault", ["none", "rotten", "silent", "lying", "rotten everywhere else", "old servers"])
def test_scattered_ranges_of_a_file_are_fetched_together_and_each_is_checked(cluster: FakeCluster, fault: str) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    data = rng.randbytes(4 * CHUNK + 12_345)
    ranges = scattered(len(data), 60, rng)
    with cluster.connect() as fs:
        fs.write_bytes("/a", data, chunk_size=2 * CHUNK)
        chunks = [extent.chunk for extent in cluster.tree["/a"].extents]  # type: ignore[union-attr]
        place = ranges[0][1]
        chunk, offset = chunks[place // (2 * CHUNK)], place % (2 * CHUNK)
        if fault in ("rotten", "lying", "rotten everywhere else"):
            cluster.flip("dn1", chunk, offset)
        if fault == "lying":
            cluster.liars = {"dn1"}
        if fault == "rotten everywhere else":
            # No replica has all that is wanted; together they do.
            far = (offset + CHUNK) % (2 * CHUNK)
            ranges.append(("/a", place // (2 * CHUNK) * 2 * CHUNK + far, place // (2 * CHUNK) * 2 * CHUNK + far + 1))
            for datanode in ("dn2", "dn3"):
                cluster.flip(datanode, chunk, far)
        if fault == "silent":
            cluster.silent = {"dn1"}
        cluster.knows_no_ranges = fault == "old servers"
        assert fs.read_many(ranges) == [data[start:end] for _, start, end in ranges]
        if fault == "none":
            assert len(cluster.gets) <= 2 * len(chunks), (
                "a table and one request for each chunk, not one for each range"
            )


@pytest.mark.parametrize("fault", ["none", "old servers", "rotten"])
def test_files_from_all_over_a_pack_come_in_one_request_that_asks_for_them_alone(
    cluster: FakeCluster, fault: str
) -> None:
    cluster.joins = True
    with cluster.connect() as fs:
        with fs.transaction() as t:
            for number in range(60):
                t.write_bytes(f"/f{number}", b"%04d" % number * 100)
        wanted = [*random.Random(7).sample(range(60), 25), 3, 3]
        cluster.knows_no_ranges = fault == "old servers"
        if fault == "rotten":
            cluster.flip("dn1", one_chunk(cluster, "/f0"), 400 * wanted[0] + 7)
            cluster.liars = {"dn1"}
        cluster.gets.clear()
        found = fs.read_many([(f"/f{number}", 0, None) for number in wanted])
        assert found == [b"%04d" % number * 100 for number in wanted]
        if fault == "none":
            assert len(cluster.gets) == 1
            assert cluster.gets[0][2] == "ranges"
            assert cluster.gets[0][4] == 400 * len(set(wanted)), "nothing of the files between"


def test_one_rotten_file_of_a_pack_does_not_spoil_its_neighbours(cluster: FakeCluster) -> None:
    with cluster.connect() as fs:
        with fs.transaction() as t:
            for number in range(5):
                t.write_bytes(f"/f{number}", b"%d" % number * 1000)
        cluster.flip("dn1", one_chunk(cluster, "/f0"), 2500)
        cluster.liars = {"dn1"}
        assert fs.read_many([(f"/f{n}", 0, None) for n in range(5)]) == [b"%d" % n * 1000 for n in range(5)]


def test_the_checksum_is_that_of_the_bytes_whatever_chunks_they_lie_in(cluster: FakeCluster) -> None:
    data = os.urandom(CHUNK + 100_001)
    expected = f"xxh3-tree:{tree_digest(data)}"
    with cluster.connect() as fs:
        fs.write_bytes("/one", data)
        fs.write_bytes("/two", data, chunk_size=100_000)
        fs.write_bytes("/three", data[:5])
        fs.append("/three", data[5:])
        assert [fs.checksum(path) for path in ("/one", "/two", "/three")] == [expected] * 3
        fs.write_bytes("/empty", b"")
        assert fs.checksum("/empty") == f"xxh3-tree:{tree_digest(b'')}"


def test_a_get_that_fails_leaves_nothing_behind(cluster: FakeCluster, tmp_path: Path) -> None:
    with cluster.connect() as fs:
        fs.write_bytes("/a", os.urandom(2 * CHUNK))
        (tmp_path / "there").write_bytes(b"mine")
        with pytest.raises(e.FileExists):
            fs.get("/a", tmp_path / "there")
        cluster.refused = set(cluster.names)
        with pytest.raises(e.ReplicasUnavailable):
            fs.get("/a", tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == ["there"]
    assert (tmp_path / "there").read_bytes() == b"mine"


def test_a_local_disk_that_fills_is_told_by_name_and_leaves_nothing(cluster: FakeCluster, tmp_path: Path) -> None:
    import resource
    import signal

    with cluster.connect() as fs:
        fs.write_bytes("/a", os.urandom(CHUNK))
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
            with pytest.raises(OSError, match="new"):
                fs.get("/a", tmp_path / "new")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("start", [0, 1, BLOCK_SIZE + 5, 3 * CHUNK - 1, 3 * CHUNK + 1000])
def test_what_is_copied_out_in_order_is_the_rest_of_the_file(cluster: FakeCluster, start: int) -> None:
    data = random.Random(start).randbytes(3 * CHUNK + 1000)
    given = bytearray()

    def write(piece: memoryview) -> None:
        given.extend(piece)
        piece[:] = bytes(len(piece))

    with cluster.connect() as fs:
        fs.write_bytes("/a", data)
        with fs.open("/a", "rb") as file:
            file.raw.seek(start)
            file.raw.copy_to(write)
            assert file.raw.tell() == len(data)
            assert file.raw.read(1) == b""
    assert given == data[start:]


def test_a_stream_that_nobody_takes_any_more_leaves_nothing_under_way(cluster: FakeCluster) -> None:
    class Full(Exception):
        pass

    def write(_: memoryview) -> None:
        raise Full

    with cluster.connect() as fs:
        fs.write_bytes("/a", os.urandom(5 * CHUNK))
        with fs.open("/a", "rb") as file, pytest.raises(Full):
            file.raw.copy_to(write)
        gets = len(cluster.gets)
        assert fs.read_bytes("/a", start=0, end=1)
        assert len(cluster.gets) == gets + 1
