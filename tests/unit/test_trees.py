"""Directory trees in and out, copies of them, and the small rules of names on the way."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfs.fetcher import Fetcher
from dfs.protocol import errors as e
from dfs.protocol import messages as m
from dfs.put_tree import TreePut
from dfs.runs import Run
from fixtures.fake_cluster import FakeCluster

CHUNK = 1 << 20


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(chunk_size=CHUNK)


def make_tree(root: Path, rng: random.Random) -> dict[str, bytes]:
    """A few directories with small, empty, middling and big files; what is in them by relative path."""
    files = {}
    for directory in ("", "a", "a/b", "c ü"):
        (root / directory).mkdir(parents=True, exist_ok=True)
        for number, size in enumerate([0, 1, 4096, 70_000, 100_000, CHUNK + 5]):
            name = os.path.join(directory, f"f{number}")
            files[name] = rng.randbytes(size)
            (root / name).write_bytes(files[name])
    (root / "empty").mkdir()
    return files


def read_tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_tree_comes_back_as_it_went(cluster: FakeCluster, tmp_path: Path) -> None:
    files = make_tree(tmp_path / "in", random.Random(1))
    told = [0, 0]

    def progress(size: int, count: int) -> None:
        told[0] += size
        told[1] += count

    with cluster.connect() as fs:
        report = fs.put(tmp_path / "in", "/tree", recursive=True, progress=progress)
        assert (report.files, report.directories, report.failures) == (24, 5, [])
        assert told == [report.bytes, 24] == [sum(map(len, files.values())), 24]
        told[:] = [0, 0]
        report = fs.get("/tree", tmp_path / "out", recursive=True, progress=progress)
        assert (report.files, report.directories, report.failures) == (24, 5, [])
        assert told == [report.bytes, 24]
    assert read_tree(tmp_path / "out") == files
    assert (tmp_path / "out" / "empty").is_dir()


def test_small_files_of_a_tree_share_a_pack_and_a_commit(cluster: FakeCluster, tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"f{number:03}").write_bytes(b"%d" % number)
    with cluster.connect() as fs:
        fs.put_tree(tmp_path, "/t")
    assert len(cluster.chunks) == 1
    assert len(cluster.called("commit")) <= 3


def test_what_can_not_be_stored_is_named_and_the_rest_is_stored(cluster: FakeCluster, tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"good")
    (tmp_path / "link").symlink_to("good")
    (tmp_path / "bad\x01name").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).write_bytes(b"x")
    with cluster.connect() as fs:
        report = fs.put_tree(tmp_path, "/t")
        assert report.files == 1
        assert len(report.failures) == 4
        assert [entry.name for entry in fs.ls("/t")] == ["good"]
        for failure in report.failures:
            failure.path.encode()


@pytest.mark.parametrize("seen", [10, 200_000])
def test_a_file_that_another_took_the_name_of_is_stored_whole(
    cluster: FakeCluster, tmp_path: Path, seen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen with one size, opened with another: its first bytes alone are a file that never was."""
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "f").write_bytes(b"x" * seen)
    later = random.Random(3).randbytes(2 * CHUNK + 7)
    walk = TreePut._walk

    def walk_and_replace(self: TreePut, disk_path: str, path: str) -> Iterator[object]:
        for local in walk(self, disk_path, path):
            (tmp_path / "new").write_bytes(later)
            (tmp_path / "new").rename(local.disk_path)
            yield local

    monkeypatch.setattr(TreePut, "_walk", walk_and_replace)
    with cluster.connect() as fs:
        report = fs.put_tree(tmp_path / "t", "/t")
        assert (report.files, report.failures) == (1, [])
        assert fs.read_bytes("/t/f") == later


def test_a_link_that_is_named_is_followed(cluster: FakeCluster, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"x")
    (tmp_path / "link").symlink_to("d")
    with cluster.connect() as fs:
        fs.put(tmp_path / "link", "/t", recursive=True)
        assert fs.read_bytes("/t/f") == b"x"


def test_files_that_exist_are_named_and_kept_unless_overwritten(cluster: FakeCluster, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"new")
    with cluster.connect() as fs:
        fs.write_bytes("/t/one", b"old", parents=True)
        report = fs.put_tree(tmp_path, "/t")
        assert [(os.path.basename(f.path), type(f.error)) for f in report.failures] == [("one", e.FileExists)]
        assert (fs.read_bytes("/t/one"), fs.read_bytes("/t/two")) == (b"old", b"new")
        assert fs.put_tree(tmp_path, "/t", overwrite=True).failures == []
        assert fs.read_bytes("/t/one") == b"new"


def test_a_file_where_a_directory_stands_is_left_out_and_its_pack_is_not(cluster: FakeCluster, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(name.encode())
    with cluster.connect() as fs:
        original = cluster._commit

        def commit(request: object) -> object:
            try:
                return original(request)
            except e.DfsError as error:
                error.detail["action"] = [a.path for a in request.actions].index("/t/b")  # type: ignore[attr-defined]
                raise

        cluster._commit = commit  # type: ignore[method-assign,assignment]
        fs.mkdir("/t/b", parents=True)
        report = fs.put_tree(tmp_path, "/t", overwrite=True)
        assert [type(failure.error) for failure in report.failures] == [e.IsADirectory]
        assert (fs.read_bytes("/t/a"), fs.read_bytes("/t/c")) == (b"a", b"c")


def test_a_cluster_that_can_not_take_more_ends_the_tree(cluster: FakeCluster, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    with cluster.connect() as fs:
        cluster.refused = set(cluster.names)
        with pytest.raises(e.Unavailable):
            fs.put_tree(tmp_path, "/t")


def test_mode_and_time_are_kept_when_asked(cluster: FakeCluster, tmp_path: Path) -> None:
    source = tmp_path / "in" / "f"
    source.parent.mkdir()
    source.write_bytes(b"x")
    source.chmod(0o750)
    os.utime(source, ns=(1, 1_600_000_000_123_456_789))
    with cluster.connect() as fs:
        fs.put(source, "/f", preserve=True)
        fs.put_tree(source.parent, "/t", preserve=True)
        for path in ("/f", "/t/f"):
            entry = fs.stat(path)
            assert (entry.mode, entry.mtime_ns) == (0o750, 1_600_000_000_123_456_789)
        fs.get("/f", tmp_path / "back", preserve=True)
    found = (tmp_path / "back").stat()
    assert (found.st_mode & 0o777, found.st_mtime_ns) == (0o750, 1_600_000_000_123_456_789)


def test_a_lost_file_is_named_and_the_others_are_fetched(cluster: FakeCluster, tmp_path: Path) -> None:
    with cluster.connect() as fs:
        with fs.transaction() as t:
            t.mkdir("/t")
            for number in range(5):
                t.write_bytes(f"/t/f{number}", b"%d" % number * 40_000)
        chunk = cluster.tree["/t/f0"].extents[0].chunk  # type: ignore[union-attr]
        for datanode in ("dn1", "dn2", "dn3"):
            # The middle of f2, in a block that has bytes of no other file.
            cluster.flip(datanode, chunk, 90_000)
        report = fs.get_tree("/t", tmp_path / "out")
        assert [failure.path for failure in report.failures] == ["/t/f2"]
        assert sorted(os.listdir(tmp_path / "out")) == ["f0", "f1", "f3", "f4"]


@pytest.mark.parametrize("unnamed", [True, False], ids=["unnamed", "temporary names"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_tree_of_many_batches_comes_whole_into_a_directory_that_has_some_of_it(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unnamed: bool, overwrite: bool
) -> None:
    monkeypatch.setattr("dfs.get_tree.BATCH_FILES", 7)
    monkeypatch.setattr("dfs.get_tree.RUN_BYTES", 3000)
    if not unnamed:
        monkeypatch.setattr("dfs.unnamed.UnnamedFiles.write", lambda *_, **__: False)
    files = {f"d{number // 20}/f{number}": b"%d" % number * 500 for number in range(100)}
    out = tmp_path / "out"
    (out / "d1").mkdir(parents=True)
    (out / "d1" / "f25").write_bytes(b"mine")
    with cluster.connect() as fs:
        with fs.transaction() as t:
            for name, data in files.items():
                t.write_bytes(f"/t/{name}", data, parents=True)
        report = fs.get_tree("/t", out, overwrite=overwrite)
    if not overwrite:
        assert [(failure.path, type(failure.error)) for failure in report.failures] == [("/t/d1/f25", e.FileExists)]
        files["d1/f25"] = b"mine"
    assert report.files == 100 - len(report.failures)
    assert read_tree(out) == files, "and no temporary file is left"


def test_a_file_that_somebody_makes_meanwhile_is_kept(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a directory that was new when the tree began: nobody looks for it there, but nothing is replaced."""
    with cluster.connect() as fs:
        fs.write_bytes("/t/f", b"theirs", parents=True)
        read_run = Fetcher.read_run

        def meanwhile(self: Fetcher, run: Run) -> list[memoryview]:
            (tmp_path / "out" / "f").write_bytes(b"mine")
            return read_run(self, run)

        monkeypatch.setattr(Fetcher, "read_run", meanwhile)
        report = fs.get_tree("/t", tmp_path / "out")
    assert [type(failure.error) for failure in report.failures] == [e.FileExists]
    assert read_tree(tmp_path / "out") == {"f": b"mine"}


def test_an_answer_that_fails_ends_the_tree_and_leaves_only_whole_files(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dfs.get_tree.BATCH_FILES", 5)
    with cluster.connect() as fs:
        with fs.transaction() as t:
            t.mkdir("/t")
            for number in range(50):
                t.write_bytes(f"/t/f{number:02}", b"%02d" % number * 100)
        original = cluster._open_many

        def open_many(request: m.OpenMany) -> object:
            # Batches are asked for at the same time: their order says which is the fourth, not that of the calls.
            if max(request.paths) > "/t/f14":
                raise e.Unavailable("not now")
            return original(request)

        monkeypatch.setattr(cluster, "_open_many", open_many)
        with pytest.raises(e.Unavailable):
            fs.get_tree("/t", tmp_path / "out")
    found = read_tree(tmp_path / "out")
    assert set(found) <= {f"f{number:02}" for number in range(15)}, "nothing of the answer that failed"
    assert all(data == name[1:].encode() * 100 for name, data in found.items()), "whole files, without temporary ones"


def test_a_directory_is_copied_with_all_that_is_below_and_not_into_itself(cluster: FakeCluster) -> None:
    with cluster.connect() as fs:
        fs.write_bytes("/a/b/c", b"x", parents=True)
        assert fs.copy("/a", "/z", recursive=True) == 1
        assert fs.read_bytes("/z/b/c") == b"x"
        with pytest.raises(e.Conflict):
            fs.copy("/a", "/a/b/d", recursive=True)


def test_a_walk_shows_parents_first_and_skips_what_is_taken_out(cluster: FakeCluster) -> None:
    with cluster.connect() as fs:
        for path in ("/a/x", "/a/b/y", "/a/c/z"):
            fs.write_bytes(path, b"", parents=True)
        assert [path for path, _, _ in fs.walk("/a")] == ["/a", "/a/b", "/a/c"]
        seen = []
        for path, directories, _files in fs.walk("/a"):
            seen.append(path)
            directories[:] = [entry for entry in directories if entry.name != "b"]
        assert seen == ["/a", "/a/c"]


def test_a_listing_goes_through_all_pages(cluster: FakeCluster) -> None:
    with cluster.connect() as fs:
        with fs.transaction() as t:
            for number in range(2500):
                t.write_bytes(f"/f{number:04}", b"")
        assert [entry.name for entry in fs.ls("/")] == [f"f{number:04}" for number in range(2500)]
        with pytest.raises(e.FileNotFound):
            fs.ls("/missing")


def test_touch_makes_an_empty_file_and_then_only_changes_its_time(cluster: FakeCluster) -> None:
    with cluster.connect() as fs:
        fs.touch("/a")
        assert fs.stat("/a").size == 0
        fs.write_bytes("/a", b"x")
        fs.touch("/a")
        assert fs.read_bytes("/a") == b"x"
        assert fs.stat("/a").mtime_ns > 0


def test_paths_with_a_host_are_taken_if_it_is_this_cluster(cluster: FakeCluster) -> None:
    with cluster.connect() as fs:
        fs.write_bytes("dfs://namenode:9870/a", b"x")
        assert fs.read_bytes("dfs://namenode/a") == b"x"
        with pytest.raises(e.InvalidRequest, match="another cluster"):
            fs.read_bytes("dfs://elsewhere:9870/a")
        with pytest.raises(e.InvalidName):
            fs.read_bytes("relative")
