"""What writers enclose in their chunks, against a cluster in memory."""

import os
from pathlib import Path

import pytest

from dfs.hinting import FileHints, pack_hints
from dfs.protocol.hints import FileHint, FilesHint, decode_hints
from dfs.protocol.ids import id_time_ms
from fixtures.fake_cluster import FakeCluster

CHUNK = 1 << 20
UPLOAD = "018bcfe56800" + "ab" * 10


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(chunk_size=CHUNK)


def hint_of(raw: bytes) -> FileHint:
    hints = decode_hints(raw)
    assert isinstance(hints, FilesHint)
    (only,) = hints.files
    return only


def hints_of(cluster: FakeCluster, path: str) -> list[FileHint]:
    """What the chunks of a file say of it, in order."""
    file = cluster.tree[path]
    assert file is not None
    found = []
    for extent in file.extents:
        hints = decode_hints(cluster.hints[extent.chunk])
        assert isinstance(hints, FilesHint)
        assert hints.complete
        found += [one for one in hints.files if one.offset == extent.offset]
    return found


def facts(cluster: FakeCluster, path: str) -> list[tuple[str, int, int, int]]:
    found = hints_of(cluster, path)
    assert len({one.upload for one in found}) == 1
    return [(one.path, one.position, one.length, one.size) for one in found]


# --- what is known


def test_a_chunk_says_where_its_bytes_belong() -> None:
    known = FileHints("/a", UPLOAD, size=10)
    assert hint_of(known.of_chunk(0, 6)) == FileHint("/a", 0, 6, 0, 10, UPLOAD)
    assert hint_of(known.of_chunk(6, 4, is_last=True)) == FileHint("/a", 0, 4, 6, 10, UPLOAD)
    hints = decode_hints(known.of_chunk(0, 6))
    assert isinstance(hints, FilesHint)
    assert hints.written_ms == id_time_ms(UPLOAD) == 1_700_000_000_000


def test_the_size_of_a_stream_is_known_with_its_last_chunk() -> None:
    stream = FileHints("/a", UPLOAD)
    assert hint_of(stream.of_chunk(0, 6)).size == -1
    assert hint_of(stream.of_chunk(6, 4, is_last=True)).size == 10


def test_where_an_append_begins_is_asked_once_and_only_when_something_is_sent() -> None:
    asked = []

    def start() -> int:
        asked.append(1)
        return 100

    append = FileHints("/a", UPLOAD, start=start)
    assert not asked
    assert hint_of(append.of_chunk(0, 6)) == FileHint("/a", 0, 6, 100, -1, UPLOAD)
    assert hint_of(append.of_chunk(6, 4, is_last=True)) == FileHint("/a", 0, 4, 106, 110, UPLOAD)
    assert len(asked) == 1


def test_a_pack_names_all_of_its_files() -> None:
    hints = decode_hints(pack_hints([("/a", 0, 5), ("/b", 5, 7)], UPLOAD))
    assert isinstance(hints, FilesHint)
    assert hints.files == [FileHint("/a", 0, 5, 0, 5, UPLOAD), FileHint("/b", 5, 7, 0, 7, UPLOAD)]
    assert hints.complete


# --- every way in


def test_bytes_of_a_known_size(cluster: FakeCluster) -> None:
    with cluster.connect() as fs:
        fs.write_bytes("/a", bytes(2 * CHUNK + 5))
        size = 2 * CHUNK + 5
    assert facts(cluster, "/a") == [
        ("/a", 0, CHUNK, size), ("/a", CHUNK, CHUNK, size), ("/a", 2 * CHUNK, 5, size)
    ]  # fmt: skip


def test_a_local_file(cluster: FakeCluster, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(CHUNK + 1))
    with cluster.connect() as fs:
        fs.put(tmp_path / "big", "/x")
    assert facts(cluster, "/x") == [("/x", 0, CHUNK, CHUNK + 1), ("/x", CHUNK, 1, CHUNK + 1)]


def test_a_stream_of_unknown_size(cluster: FakeCluster) -> None:
    with cluster.connect() as fs, fs.open("/s", "wb") as file:
        file.write(bytes(CHUNK + 3))
    assert facts(cluster, "/s") == [("/s", 0, CHUNK, -1), ("/s", CHUNK, 3, CHUNK + 3)]


def test_a_pipe(cluster: FakeCluster, tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    if os.fork() == 0:
        path.write_bytes(b"through a pipe")
        os._exit(0)
    with cluster.connect() as fs:
        fs.put(path, "/p")
    os.wait()
    assert facts(cluster, "/p") == [("/p", 0, 14, 14)]


@pytest.mark.parametrize("transaction", [False, True])
def test_small_files_in_a_pack(cluster: FakeCluster, tmp_path: Path, transaction: bool) -> None:
    sizes = {f"f{number}": number * 10 + 1 for number in range(50)}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(bytes(size))
    with cluster.connect() as fs:
        if transaction:
            with fs.transaction() as change:
                change.mkdir("/d")
                for name in sizes:
                    change.put(tmp_path / name, f"/d/{name}")
        else:
            fs.put_tree(tmp_path, "/d")
    assert len(cluster.hints) == 1
    for name, size in sizes.items():
        assert facts(cluster, f"/d/{name}") == [(f"/d/{name}", 0, size, size)]


def test_files_of_a_tree_that_are_too_big_for_packs(cluster: FakeCluster, tmp_path: Path) -> None:
    (tmp_path / "middle").write_bytes(bytes(100_000))
    (tmp_path / "big").write_bytes(bytes(CHUNK + 1))
    with cluster.connect() as fs:
        fs.put_tree(tmp_path, "/d")
    assert facts(cluster, "/d/middle") == [("/d/middle", 0, 100_000, 100_000)]
    assert facts(cluster, "/d/big") == [("/d/big", 0, CHUNK, CHUNK + 1), ("/d/big", CHUNK, 1, CHUNK + 1)]


def test_big_files_of_a_transaction(cluster: FakeCluster, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(CHUNK + 1))
    with cluster.connect() as fs, fs.transaction() as change:
        change.put(tmp_path / "big", "/one")
        change.write_bytes("/two", bytes(CHUNK + 2))
    assert facts(cluster, "/one") == [("/one", 0, CHUNK, CHUNK + 1), ("/one", CHUNK, 1, CHUNK + 1)]
    assert facts(cluster, "/two") == [("/two", 0, CHUNK, CHUNK + 2), ("/two", CHUNK, 2, CHUNK + 2)]


def test_an_append_says_where_it_begins(cluster: FakeCluster) -> None:
    with cluster.connect() as fs:
        fs.append("/log", b"12345")
        assert facts(cluster, "/log") == [("/log", 0, 5, 5)]
        # The short tail is written again together with what is new.
        fs.append("/log", b"678")
        assert facts(cluster, "/log") == [("/log", 0, 8, 8)]


def test_an_append_behind_a_long_tail_and_one_of_many_chunks(cluster: FakeCluster) -> None:
    with cluster.connect() as fs:
        fs.write_bytes("/log", bytes(CHUNK))
        fs.append("/log", bytes(CHUNK - 1))
        fs.append("/log", bytes(CHUNK + 7))
    end = 2 * CHUNK - 1
    first, second, third, fourth = hints_of(cluster, "/log")
    assert (first.position, first.size) == (0, CHUNK)
    assert (second.position, second.length, second.size) == (CHUNK, CHUNK - 1, end)
    assert (third.position, third.length, third.size) == (end, CHUNK, -1)
    assert (fourth.position, fourth.length, fourth.size) == (end + CHUNK, 7, end + CHUNK + 7)
    assert len({first.upload, second.upload, third.upload}) == 3
    assert third.upload == fourth.upload


def test_a_long_append_to_a_file_that_is_not_there_begins_at_its_beginning(cluster: FakeCluster) -> None:
    with cluster.connect() as fs:
        fs.append("/new", bytes(CHUNK + 1))
    assert facts(cluster, "/new") == [("/new", 0, CHUNK, -1), ("/new", CHUNK, 1, CHUNK + 1)]


def test_a_chunk_that_is_sent_again_has_the_same_hints(cluster: FakeCluster) -> None:  # F12
    cluster.flip_wire = 1
    with cluster.connect() as fs:
        fs.write_bytes("/a", b"data")
    assert len(cluster.puts) == 2
    assert facts(cluster, "/a") == [("/a", 0, 4, 4)]
