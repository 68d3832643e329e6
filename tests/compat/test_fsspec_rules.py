"""What our file system promises beyond fsspec's own suite, and where it does not follow the base class."""

import gzip
import json
import os
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from dfs.errors import NotSent
from dfs.fsspec import DfsFileSystem
from dfs.testing import Cluster


class Boom(Exception):
    """What a body raises."""


# --- names and options ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("dfs://h:1/a/b", "/a/b"),
        ("dfs://h:1,i:2/a", "/a"),
        ("dfs://h:1", "/"),
        ("dfs:///a/", "/a"),
        ("a//b/", "/a/b"),
        ("/", "/"),
        ("", "/"),
    ],
)
def test_a_url_is_stripped_to_the_absolute_path(given: str, path: str) -> None:
    assert DfsFileSystem._strip_protocol(given) == path
    assert DfsFileSystem._strip_protocol(path) == path


def test_a_url_names_its_namenodes_and_comes_back_from_its_path() -> None:
    fs, path = fsspec.core.url_to_fs("dfs://h:1,i:2/a/b")
    assert isinstance(fs, DfsFileSystem)
    assert fs.client.url == "http://h:1,http://i:2"
    assert fs.unstrip_protocol(path) == "dfs://h:1,i:2/a/b"


def test_an_unknown_storage_option_is_refused() -> None:
    with pytest.raises(TypeError, match="replicaton"):
        fsspec.filesystem("dfs", replicaton=2)


def test_a_file_system_pickles_and_goes_through_json(dfs_fs: DfsFileSystem, home: str) -> None:
    dfs_fs.pipe_file(f"{home}/a", b"a")
    for again in (pickle.loads(pickle.dumps(dfs_fs)), DfsFileSystem.from_json(dfs_fs.to_json())):
        assert again.cat_file(f"{home}/a") == b"a"
    assert json.loads(dfs_fs.to_json())["protocol"] == "dfs"


def test_a_file_system_works_on_both_sides_of_a_fork(dfs_fs: DfsFileSystem, home: str) -> None:
    dfs_fs.pipe_file(f"{home}/a", b"before")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            dfs_fs.pipe({f"{home}/b": b"of the child", f"{home}/c": dfs_fs.cat_file(f"{home}/a")})
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert dfs_fs.cat([f"{home}/b", f"{home}/c"]) == {f"{home}/b": b"of the child", f"{home}/c": b"before"}


# --- what is there --------------------------------------------------------------------------------------------


def test_a_cluster_that_cannot_be_reached_is_not_a_file_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfs.namenodes.FIRST_PATIENCE_S", 0.1)
    fs = DfsFileSystem("http://127.0.0.1:1", skip_instance_cache=True)
    for ask in (fs.exists, fs.isfile, fs.isdir, fs.find, fs.ls, lambda path: list(fs.walk(path))):
        with pytest.raises(NotSent):
            ask("/a")


def test_what_is_missing_is_said_with_the_built_in_exceptions(dfs_fs: DfsFileSystem, home: str) -> None:
    dfs_fs.pipe_file(f"{home}/file", b"x")
    missing = f"{home}/missing"
    assert not dfs_fs.exists(missing)
    assert not dfs_fs.exists(f"{home}/file/below")
    assert not dfs_fs.exists(f"{home}/bad\x00name")
    assert dfs_fs.find(missing) == []
    table: list[tuple[Any, type[Exception]]] = [
        (lambda: dfs_fs.info(missing), FileNotFoundError),
        (lambda: dfs_fs.ls(missing), FileNotFoundError),
        (lambda: dfs_fs.open(missing), FileNotFoundError),
        (lambda: dfs_fs.cat_file(missing), FileNotFoundError),
        (lambda: dfs_fs.rm(missing), FileNotFoundError),
        (lambda: dfs_fs.mv(missing, f"{home}/x"), FileNotFoundError),
        (lambda: dfs_fs.cp_file(missing, f"{home}/x"), FileNotFoundError),
        (lambda: dfs_fs.modified(missing), FileNotFoundError),
        (lambda: dfs_fs.cat_file(home), IsADirectoryError),
        (lambda: dfs_fs.open(home, "wb"), IsADirectoryError),
        (lambda: dfs_fs.mkdir(home), FileExistsError),
        (lambda: dfs_fs.makedirs(home), FileExistsError),
        (lambda: dfs_fs.pipe_file(f"{home}/file", b"", mode="create"), FileExistsError),
        (lambda: dfs_fs.open(f"{home}/file", "xb"), FileExistsError),
        (lambda: dfs_fs.rmdir(f"{home}/file"), NotADirectoryError),
        (lambda: dfs_fs.rm_file(home), IsADirectoryError),
        (lambda: dfs_fs.rm(home), OSError),
        (lambda: dfs_fs.open(f"{home}/file", "r+b"), ValueError),
        (lambda: dfs_fs.pipe_file(f"{home}/bad\x01name", b""), ValueError),
    ]
    for number, (call, kind) in enumerate(table):
        with pytest.raises(kind):
            pytest.fail(f"row {number} raised nothing but returned {call()!r}")
    assert dfs_fs.cat_file(f"{home}/file") == b"x"


def test_a_listing_is_never_cached(dfs_fs: DfsFileSystem, dfs_cluster: Cluster, home: str) -> None:
    assert dfs_fs.ls(home) == []
    dfs_cluster.connect().write_bytes(f"{home}/new", b"1")
    assert dfs_fs.ls(home, detail=False) == [f"{home}/new"]
    dfs_cluster.connect().write_bytes(f"{home}/new", b"12")
    assert dfs_fs.size(f"{home}/new") == 2


def test_info_says_what_ls_says_and_a_file_lists_itself(dfs_fs: DfsFileSystem, home: str) -> None:
    dfs_fs.pipe_file(f"{home}/a", b"abc", replication=2)
    described = dfs_fs.info(f"{home}/a")
    assert described["size"] == 3
    assert described["type"] == "file"
    assert described["replication"] == 2
    assert dfs_fs.ls(home) == dfs_fs.ls(f"{home}/a") == [described]
    age = datetime.now(UTC) - dfs_fs.modified(f"{home}/a")
    assert timedelta(minutes=-5) < age < timedelta(minutes=10)
    assert dfs_fs.created(f"{home}/a").tzinfo is not None


def test_the_key_of_a_file_changes_with_its_content(dfs_fs: DfsFileSystem, home: str) -> None:
    path = f"{home}/a"
    dfs_fs.pipe_file(path, b"1")
    before = dfs_fs.ukey(path), dfs_fs.checksum(path)
    assert (dfs_fs.ukey(path), dfs_fs.checksum(path)) == before
    dfs_fs.pipe_file(path, b"2")
    assert dfs_fs.ukey(path) != before[0]
    assert dfs_fs.checksum(path) != before[1]


def test_find_glob_and_du_see_a_whole_tree(dfs_fs: DfsFileSystem, home: str) -> None:
    files = {f"{home}/d{i}/e{j}/f{k}.bin": bytes(i + j + k) for i in range(3) for j in range(3) for k in range(2)}
    dfs_fs.pipe(files)
    dfs_fs.makedirs(f"{home}/empty")
    assert dfs_fs.find(home) == sorted(files)
    assert dfs_fs.glob(f"{home}/**/f1.bin") == sorted(path for path in files if path.endswith("f1.bin"))
    assert dfs_fs.glob(f"{home}/d[12]/e?") == [f"{home}/d{i}/e{j}" for i in (1, 2) for j in range(3)]
    assert len(dfs_fs.find(home, withdirs=True)) == len(files) + 3 + 9 + 2
    assert dfs_fs.find(home, maxdepth=1, withdirs=True) == [home, *(f"{home}/d{i}" for i in range(3)), f"{home}/empty"]
    assert dfs_fs.du(home) == sum(map(len, files.values()))
    assert dfs_fs.du(home, total=False) == {path: len(data) for path, data in files.items()}


# --- writing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "gzip", "bz2"])
@pytest.mark.parametrize("mode", ["wb", "w", "xb", "ab"])
def test_a_with_body_that_raises_publishes_nothing(
    dfs_fs: DfsFileSystem, home: str, mode: str, compression: str | None
) -> None:
    path = f"{home}/a"
    if mode != "xb":
        dfs_fs.pipe_file(path, b"the old one")
    with pytest.raises(Boom), dfs_fs.open(path, mode, compression=compression) as file:  # noqa: PT012
        file.write("cut off" if mode == "w" else b"cut off")
        raise Boom
    assert dfs_fs.cat_file(path) == b"the old one" if mode != "xb" else not dfs_fs.exists(path)


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("mode", ["wb", "wt"])
def test_a_with_body_of_fsspec_open_that_raises_publishes_nothing(
    url: str, dfs_fs: DfsFileSystem, home: str, mode: str, compression: str | None
) -> None:
    dfs_fs.pipe_file(f"{home}/a", b"the old one")
    opened = fsspec.open(f"{url}/a", mode, compression=compression)
    with pytest.raises(Boom), opened as file:  # noqa: PT012
        file.write("cut off" if mode == "wt" else b"cut off")
        raise Boom
    assert dfs_fs.cat_file(f"{home}/a") == b"the old one"


def test_a_file_that_is_written_while_another_exception_is_handled_is_published(
    url: str, dfs_fs: DfsFileSystem, home: str
) -> None:
    try:
        raise Boom
    except Boom:
        with fsspec.open(f"{url}/a", "wb") as file:
            file.write(b"what happened")
    assert dfs_fs.cat_file(f"{home}/a") == b"what happened"


def test_a_file_that_is_dropped_unclosed_publishes_nothing(dfs_fs: DfsFileSystem, home: str) -> None:
    file = dfs_fs.open(f"{home}/a", "wb")
    file.write(b"cut off")
    with pytest.warns(ResourceWarning, match="never closed"):
        del file
    assert not dfs_fs.exists(f"{home}/a")


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_text_is_written_appended_and_read(dfs_fs: DfsFileSystem, home: str, compression: str | None) -> None:
    path = f"{home}/a.txt"
    with dfs_fs.open(path, "w", compression=compression) as file:
        file.write("één\n")
    with dfs_fs.open(path, "a", compression=compression) as file:
        file.write("twee\n")
    with dfs_fs.open(path, "r", compression=compression) as file:
        assert file.readlines() == ["één\n", "twee\n"]
    if compression:
        assert gzip.decompress(dfs_fs.cat_file(path)).decode() == "één\ntwee\n"


def test_an_appending_file_knows_its_position(dfs_fs: DfsFileSystem, home: str) -> None:
    dfs_fs.pipe_file(f"{home}/a", b"12345")
    with dfs_fs.open(f"{home}/a", "ab") as file:
        assert file.tell() == 5
        file.write(b"6")
        assert file.tell() == 6
    assert dfs_fs.cat_file(f"{home}/a") == b"123456"


def test_a_file_without_autocommit_is_visible_when_it_is_committed(dfs_fs: DfsFileSystem, home: str) -> None:
    with dfs_fs.open(f"{home}/a", "wb", autocommit=False) as file:
        file.write(b"1")
    assert not dfs_fs.exists(f"{home}/a")
    file.commit()
    assert dfs_fs.cat_file(f"{home}/a") == b"1"
    with dfs_fs.open(f"{home}/b", "wb", autocommit=False) as file:
        file.write(b"1")
    file.discard()
    assert not dfs_fs.exists(f"{home}/b")


# --- reading --------------------------------------------------------------------------------------------------


def test_an_open_file_is_one_version_and_pickles_where_it_is(dfs_fs: DfsFileSystem, home: str) -> None:
    path = f"{home}/a"
    dfs_fs.pipe_file(path, bytes(range(100)))
    with dfs_fs.open(path) as file:
        assert (file.size, file.path, file.mode, file.info()["size"]) == (100, path, "rb", 100)
        file.seek(10)
        with pickle.loads(pickle.dumps(file)) as again:
            assert again.read(2) == bytes([10, 11])
        pickled = pickle.dumps(file)
        dfs_fs.pipe_file(path, b"another")
        assert file.read(2) == bytes([10, 11])
    with pytest.raises(ValueError, match="replaced"):
        pickle.loads(pickled)


@pytest.mark.parametrize(
    ("start", "end"), [(None, None), (2, 5), (-3, None), (None, -3), (-5, -2), (5, 2), (8, 99), (99, 100), (0, 0)]
)
def test_ranges_mean_what_slices_mean(dfs_fs: DfsFileSystem, home: str, start: int | None, end: int | None) -> None:
    data = b"0123456789"
    dfs_fs.pipe_file(f"{home}/a", data)
    assert dfs_fs.cat_file(f"{home}/a", start, end) == data[start:end]
    assert dfs_fs.cat_ranges([f"{home}/a"], [start], [end]) == [data[start:end]]


def test_many_ranges_are_read_with_few_calls(dfs_fs: DfsFileSystem, home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"{home}/{i}": bytes([i]) * 100 for i in range(50)}
    dfs_fs.pipe(files)
    calls = []
    transport = dfs_fs.client._transport
    for name in ("call", "get_chunk"):
        real = getattr(transport, name)

        def counted(*args: Any, _real: Any = real, **kwargs: Any) -> Any:
            calls.append(1)
            return _real(*args, **kwargs)

        monkeypatch.setattr(transport, name, counted)
    assert dfs_fs.cat(list(files)) == files
    assert dfs_fs.cat_ranges(list(files), 10, 20) == [data[10:20] for data in files.values()]
    assert len(calls) <= 8, "twice: what was opened, and its pack"


def test_an_error_of_one_range_leaves_the_others(dfs_fs: DfsFileSystem, home: str) -> None:
    dfs_fs.pipe_file(f"{home}/a", b"a")
    paths = [f"{home}/a", f"{home}/missing"]
    good, bad = dfs_fs.cat_ranges(paths, 0, 1)
    assert good == b"a"
    assert isinstance(bad, FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        dfs_fs.cat_ranges(paths, 0, 1, on_error="raise")
    assert dfs_fs.cat(paths, on_error="omit") == {paths[0]: b"a"}
    assert isinstance(dfs_fs.cat(paths, on_error="return")[paths[1]], FileNotFoundError)


def test_the_files_of_a_directory_are_read_in_one_call(dfs_fs: DfsFileSystem, home: str) -> None:
    files = {f"{home}/d/a": b"1", f"{home}/d/e/b": b"2"}
    dfs_fs.pipe(files)
    assert dfs_fs.cat(f"{home}/d", recursive=True) == files


# --- names ----------------------------------------------------------------------------------------------------


def test_a_move_is_one_rename_and_moves_into_a_directory(dfs_fs: DfsFileSystem, home: str) -> None:
    dfs_fs.pipe({f"{home}/a": b"new", f"{home}/b": b"old", f"{home}/d/x": b"x"})
    inode = dfs_fs.client.stat(f"{home}/a").inode
    dfs_fs.mv(f"{home}/a", f"{home}/b")
    assert dfs_fs.client.stat(f"{home}/b").inode == inode
    dfs_fs.mv(f"{home}/b", f"{home}/d")
    assert dfs_fs.cat_file(f"{home}/d/b") == b"new"
    dfs_fs.mv(f"{home}/d", f"{home}/made/on/the/way", recursive=True)
    assert dfs_fs.find(home) == [f"{home}/made/on/the/way/b", f"{home}/made/on/the/way/x"]


def test_a_pattern_is_moved_and_removed_at_one_instant(dfs_fs: DfsFileSystem, home: str) -> None:
    dfs_fs.pipe({f"{home}/{name}": name.encode() for name in ("a.csv", "b.csv", "c.txt")})
    dfs_fs.makedirs(f"{home}/into")
    dfs_fs.mv(f"{home}/*.csv", f"{home}/into")
    assert dfs_fs.find(home) == [f"{home}/c.txt", f"{home}/into/a.csv", f"{home}/into/b.csv"]
    dfs_fs.rm([f"{home}/into/*.csv", f"{home}/c.txt"])
    assert dfs_fs.find(home) == []


def test_a_name_with_the_characters_of_a_pattern_stands_for_itself(dfs_fs: DfsFileSystem, home: str) -> None:
    dfs_fs.pipe({f"{home}/a[1].csv": b"1", f"{home}/a1.csv": b"2"})
    dfs_fs.mv(f"{home}/a[1].csv", f"{home}/b")
    assert dfs_fs.find(home) == [f"{home}/a1.csv", f"{home}/b"]


def test_a_tree_is_removed_in_one_call_and_to_a_depth(dfs_fs: DfsFileSystem, home: str) -> None:
    dfs_fs.pipe({f"{home}/t/a/b/c": b"", f"{home}/t/d": b""})
    dfs_fs.rm(f"{home}/t", recursive=True)
    assert not dfs_fs.exists(f"{home}/t")


def test_a_copy_moves_no_data(dfs_fs: DfsFileSystem, home: str) -> None:
    dfs_fs.pipe({f"{home}/t/a": b"x" * 100, f"{home}/t/e/b": b"y"})
    dfs_fs.copy(f"{home}/t", f"{home}/u", recursive=True)
    assert dfs_fs.cat(f"{home}/u", recursive=True) == {f"{home}/u/a": b"x" * 100, f"{home}/u/e/b": b"y"}
    chunks = {extent.chunk for name in "tu" for extent in dfs_fs.client.places(f"{home}/{name}/a").extents}
    assert len(chunks) == 1


def test_touch_truncates_or_keeps(dfs_fs: DfsFileSystem, home: str) -> None:
    path = f"{home}/new/a"
    dfs_fs.touch(path, truncate=False)
    dfs_fs.pipe_file(path, b"x")
    dfs_fs.touch(path, truncate=False)
    assert dfs_fs.cat_file(path) == b"x"
    dfs_fs.touch(path)
    assert dfs_fs.cat_file(path) == b""


# --- local files ----------------------------------------------------------------------------------------------


def test_a_tree_of_small_and_big_files_goes_in_and_comes_out_the_same(
    dfs_fs: DfsFileSystem, home: str, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for number in range(200):
        file = source / f"d{number % 7}" / f"{number}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(number * 13))
    (source / "big.bin").write_bytes(os.urandom(9 << 20))
    (source / "link.bin").symlink_to(source / "big.bin")
    counted = fsspec.callbacks.Callback()
    dfs_fs.put(str(source), f"{home}/t", recursive=True, callback=counted)
    assert counted.value == counted.size > 200
    dfs_fs.get(f"{home}/t", str(target), recursive=True)
    local = LocalFileSystem()
    names = [path[len(str(source)) :] for path in local.find(str(source))]
    assert [path[len(str(target)) :] for path in local.find(str(target))] == names
    for name in names:
        assert (target / name[1:]).read_bytes() == (source / name[1:]).read_bytes()
    packed = {
        extent.chunk for n in range(1, 200) for extent in dfs_fs.client.places(f"{home}/t/d{n % 7}/{n}.bin").extents
    }
    assert len(packed) < 10


def test_one_file_may_be_got_several_times_at_once(dfs_fs: DfsFileSystem, home: str, tmp_path: Path) -> None:
    dfs_fs.pipe({f"{home}/a": b"a", f"{home}/b": b""})
    targets = [str(tmp_path / name) for name in ("1", "2", "3", "4")]
    dfs_fs.get([f"{home}/a", f"{home}/b", f"{home}/a", f"{home}/b"], targets)
    assert [Path(target).read_bytes() for target in targets] == [b"a", b"", b"a", b""]


def test_many_files_are_not_put_over_others_unless_asked(dfs_fs: DfsFileSystem, home: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"new")
    dfs_fs.pipe_file(f"{home}/a", b"old")
    with pytest.raises(FileExistsError):
        dfs_fs.put(str(tmp_path / "a"), f"{home}/a", mode="create")
    assert dfs_fs.cat_file(f"{home}/a") == b"old"
    dfs_fs.put(str(tmp_path / "a"), f"{home}/a")
    assert dfs_fs.cat_file(f"{home}/a") == b"new"


def test_a_local_file_appears_whole_or_not_at_all(dfs_fs: DfsFileSystem, home: str, tmp_path: Path) -> None:
    dfs_fs.pipe_file(f"{home}/a", b"new")
    local = tmp_path / "below" / "a"
    dfs_fs.get_file(f"{home}/a", str(local))
    assert local.read_bytes() == b"new"
    with pytest.raises(FileNotFoundError):
        dfs_fs.get_file(f"{home}/missing", str(local))
    assert local.read_bytes() == b"new"
    assert os.listdir(tmp_path / "below") == ["a"]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # its mmap
@pytest.mark.parametrize("cache", ["simplecache", "filecache", "blockcache"])
def test_the_caches_of_fsspec_work_on_top(
    url: str, dfs_fs: DfsFileSystem, home: str, tmp_path: Path, cache: str
) -> None:
    dfs_fs.pipe_file(f"{home}/a", b"0123456789" * 1000)
    opened = fsspec.open(f"{cache}::{url}/a", "rb", **{cache: {"cache_storage": str(tmp_path)}})
    for _ in range(2):
        with opened as file:
            file.seek(-10, 2)
            assert file.read() == b"0123456789"


def test_a_mapper_is_a_dictionary_of_files(dfs_fs: DfsFileSystem, home: str) -> None:
    mapper = dfs_fs.get_mapper(f"{home}/m")
    mapper["a/b"] = b"1"
    mapper["c"] = b"2"
    assert dict(mapper) == {"a/b": b"1", "c": b"2"}
    del mapper["c"]
    assert list(mapper) == ["a/b"]
    with pytest.raises(KeyError):
        mapper["c"]


# --- transactions ---------------------------------------------------------------------------------------------


def test_a_transaction_makes_everything_visible_at_one_instant(
    dfs_fs: DfsFileSystem, home: str, tmp_path: Path
) -> None:
    (tmp_path / "local").write_bytes(b"local")
    dfs_fs.pipe({f"{home}/old": b"old", f"{home}/log": b"1"})
    with dfs_fs.transaction:
        with dfs_fs.open(f"{home}/a", "wb") as file:
            file.write(b"a" * (3 << 20))
        with dfs_fs.open(f"{home}/log", "ab") as file:
            file.write(b"2")
        dfs_fs.pipe_file(f"{home}/b.tmp", b"b")
        dfs_fs.mv(f"{home}/b.tmp", f"{home}/b")
        dfs_fs.put_file(str(tmp_path / "local"), f"{home}/c")
        dfs_fs.rm(f"{home}/old")
        dfs_fs.makedirs(f"{home}/d")
        assert dfs_fs.find(home) == [f"{home}/log", f"{home}/old"]
        assert dfs_fs.cat_file(f"{home}/log") == b"1"
    assert dfs_fs.cat(dfs_fs.find(home)) == {
        f"{home}/a": b"a" * (3 << 20), f"{home}/b": b"b", f"{home}/c": b"local", f"{home}/log": b"12",
    }  # fmt: skip
    assert dfs_fs.isdir(f"{home}/d")
    versions = {dfs_fs.info(f"{home}/{name}")["version"] for name in "abc"}
    assert len(versions) == 1, "they have one instant"


def test_a_transaction_whose_body_raises_changes_nothing(dfs_fs: DfsFileSystem, home: str) -> None:
    dfs_fs.pipe_file(f"{home}/old", b"old")
    with pytest.raises(Boom), dfs_fs.transaction:  # noqa: PT012
        dfs_fs.pipe_file(f"{home}/a", b"a")
        dfs_fs.rm(f"{home}/old")
        raise Boom
    assert dfs_fs.find(home) == [f"{home}/old"]
    dfs_fs.pipe_file(f"{home}/after", b"")
    assert dfs_fs.exists(f"{home}/after")


def test_a_transaction_that_cannot_be_committed_changes_nothing(
    dfs_fs: DfsFileSystem, dfs_cluster: Cluster, home: str
) -> None:
    with pytest.raises(FileExistsError), dfs_fs.transaction:  # noqa: PT012
        dfs_fs.pipe_file(f"{home}/a", b"a")
        with dfs_fs.open(f"{home}/b", "xb") as file:
            file.write(b"b")
        dfs_cluster.connect().write_bytes(f"{home}/b", b"of somebody else")
    assert dfs_fs.find(home) == [f"{home}/b"]


def test_a_file_that_is_still_open_at_the_end_ends_its_transaction_with_an_error(
    dfs_fs: DfsFileSystem, home: str
) -> None:
    with pytest.raises(ValueError, match="still open"), dfs_fs.transaction:  # noqa: PT012
        dfs_fs.pipe_file(f"{home}/a", b"a")
        file = dfs_fs.open(f"{home}/b", "wb")
        file.write(b"b")
    assert dfs_fs.find(home) == []


def test_a_file_whose_body_raised_is_not_part_of_its_transaction(dfs_fs: DfsFileSystem, home: str) -> None:
    with dfs_fs.transaction:
        dfs_fs.pipe_file(f"{home}/a", b"a")
        with pytest.raises(Boom), dfs_fs.open(f"{home}/b", "wb") as file:  # noqa: PT012
            file.write(b"b")
            raise Boom
    assert dfs_fs.find(home) == [f"{home}/a"]


def test_a_transaction_can_be_started_and_ended_by_calls(dfs_fs: DfsFileSystem, home: str) -> None:
    dfs_fs.start_transaction()
    dfs_fs.pipe_file(f"{home}/a", b"a")
    with pytest.raises(FileNotFoundError):
        dfs_fs.rm(f"{home}/missing")
    assert not dfs_fs.exists(f"{home}/a")
    dfs_fs.end_transaction()
    assert dfs_fs.exists(f"{home}/a")
