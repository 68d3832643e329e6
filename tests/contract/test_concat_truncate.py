"""concat and truncate against a real store: extents are joined and cut, and every byte stays counted once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dfs.protocol.digests import tree_digest
from dfs.protocol.errors import (
    Conflict,
    FileNotFound,
    InvalidRequest,
    IsADirectory,
    PreconditionFailed,
    TooLarge,
)
from dfs.protocol.messages import Concat, Extent, MakeDirectory, PutFile, Truncate
from dfs_namenode import actions
from dfs_namenode.store.sqlite import SqliteStore
from fixtures.namenode_store import Bench, FakeClock, piece, whole


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    clock = FakeClock()
    store = SqliteStore.open(str(tmp_path / "store"), clock=clock)
    bench = Bench(store, clock)
    yield bench
    bench.check_references()
    bench.close()
    store.close()


def layout(bench: Bench, path: str) -> list[tuple[int, int, int]]:
    return [(one.position, one.offset, one.length) for one in bench.open(path).layout.extents]


def three_files(bench: Bench) -> None:
    for name, data in (("/a", b"aa"), ("/b", b"bbb"), ("/c", b"c")):
        bench.put(name, data, attributes={"of": name})


# --- concat -----------------------------------------------------------------------------------------------------


def test_a_concat_joins_extents_in_order_and_takes_the_sources_away(bench: Bench) -> None:
    three_files(bench)
    before = bench.stat("/a")
    bench.commit(Concat(path="/a", sources=["/c", "/b"]))
    after = bench.stat("/a")
    assert (after.size, after.attributes, after.inode) == (6, {"of": "/a"}, before.inode)
    assert after.version > before.version
    assert after.etag != before.etag
    assert layout(bench, "/a") == [(0, 0, 2), (2, 0, 1), (3, 0, 3)]
    assert bench.ls("/") == ["a"]
    assert bench.value("SELECT sum(referenced_bytes) FROM chunk") == 12, "the old contents may still be read"


def test_a_file_that_is_read_during_a_concat_stays_as_it_was(bench: Bench) -> None:
    three_files(bench)
    opened = [bench.open(path).layout.content for path in ("/a", "/b")]
    bench.commit(Concat(path="/a", sources=["/b"]))
    assert [bench.locate(content).size for content in opened] == [2, 3]


def test_a_concat_onto_an_empty_file_and_of_one_works(bench: Bench) -> None:
    bench.put("/b", b"bbb")
    bench.commit(PutFile(path="/a"))
    bench.commit(PutFile(path="/e"))
    bench.commit(Concat(path="/a", sources=["/e", "/b"]))
    assert layout(bench, "/a") == [(0, 0, 3)]


def test_what_is_joined_gets_as_many_replicas_as_the_file_wants(bench: Bench) -> None:
    bench.put("/a", b"aa", replication=3)
    bench.put("/b", b"bbb", replication=2)
    bench.commit(Concat(path="/a", sources=["/b"]))
    assert bench.rows("SELECT DISTINCT replication FROM chunk") == [(3,)]


def test_a_concat_checks_all_that_it_names(bench: Bench) -> None:
    three_files(bench)
    bench.commit(MakeDirectory(path="/d"))
    version = bench.stat("/a").version
    table: list[tuple[Concat, type[Exception]]] = [
        (Concat(path="/no", sources=["/a"]), FileNotFound),
        (Concat(path="/a", sources=["/b", "/no"]), FileNotFound),
        (Concat(path="/a", sources=["/d"]), IsADirectory),
        (Concat(path="/d", sources=["/a"]), IsADirectory),
        (Concat(path="/a", sources=["/a"]), Conflict),
        (Concat(path="/a", sources=["/b", "/b"]), Conflict),
        (Concat(path="/a", sources=["/b"], if_version=version + 99), PreconditionFailed),
    ]
    for action, error in table:
        with pytest.raises(error):
            bench.commit(action)
    assert [bench.stat(path).size for path in ("/a", "/b", "/c")] == [2, 3, 1]


def test_a_concat_with_too_many_extents_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    three_files(bench)
    monkeypatch.setattr(actions, "EXTENTS_MAX", 2)
    with pytest.raises(TooLarge):
        bench.commit(Concat(path="/a", sources=["/b", "/c"]))
    assert bench.ls("/") == ["a", "b", "c"]


# --- truncate ---------------------------------------------------------------------------------------------------


def two_extents(bench: Bench) -> tuple[Any, Any, int]:
    """A file of "0123" and "456789", from two chunks: these, and its version."""
    one, two = bench.chunk(b"0123"), bench.chunk(b"456789")
    bench.commit(PutFile(path="/f", extents=[whole(one), whole(two)], attributes={"k": "v"}), chunks=[one, two])
    return one, two, bench.stat("/f").version


@pytest.mark.parametrize(("size", "left"), [(0, []), (4, [(0, 0, 4)])])
def test_a_truncate_between_two_extents_cuts_none(bench: Bench, size: int, left: list[tuple[int, int, int]]) -> None:
    _, _, version = two_extents(bench)
    content = bench.open("/f").layout.content
    bench.commit(Truncate(path="/f", size=size, if_version=version))
    assert layout(bench, "/f") == left
    assert (bench.stat("/f").size, bench.stat("/f").attributes) == (size, {"k": "v"})
    assert bench.locate(content).size == 10, "who has it open reads on"


def test_a_truncate_within_an_extent_keeps_what_is_left_of_it(bench: Bench) -> None:
    _, two, version = two_extents(bench)
    parts = [piece(two, b"456789", 0, 2), piece(two, b"456789", 2, 1)]
    bench.commit(Truncate(path="/f", size=7, tail=parts, if_version=version))
    assert layout(bench, "/f") == [(0, 0, 4), (4, 0, 2), (6, 2, 1)]
    assert bench.value("SELECT sum(referenced_bytes) FROM chunk") == 17


def test_a_truncate_may_follow_in_the_commit_that_makes_the_file(bench: Bench) -> None:
    chunk = bench.chunk(b"0123")
    bench.commit(PutFile(path="/f", extents=[whole(chunk)]), chunks=[chunk])
    version = bench.stat("/f").version
    tail = [piece(chunk, b"0123", 0, 3)]
    bench.commit(Truncate(path="/f", size=3, tail=tail, if_version=version), MakeDirectory(path="/d"))
    assert layout(bench, "/f") == [(0, 0, 3)]


def test_a_truncate_checks_its_file_and_what_it_says_is_left(bench: Bench) -> None:
    one, two, version = two_extents(bench)
    bench.commit(MakeDirectory(path="/d"))
    left = piece(two, b"456789", 0, 3)

    def truncate(path: str = "/f", size: int = 7, tail: Any = (left,), if_version: int = version) -> Truncate:
        return Truncate(path=path, size=size, tail=list(tail), if_version=if_version)

    table: list[tuple[Truncate, type[Exception]]] = [
        (truncate("/no"), FileNotFound),
        (truncate("/d"), IsADirectory),
        (truncate(size=11, tail=[]), InvalidRequest),
        (truncate(if_version=version + 1), PreconditionFailed),
        (truncate(tail=[]), InvalidRequest),
        (truncate(size=8), InvalidRequest),
        (truncate(size=6), InvalidRequest),
        (truncate(tail=[piece(two, b"456789", 1, 3)]), InvalidRequest),
        (truncate(tail=[left, left], size=8), InvalidRequest),
        (truncate(tail=[Extent(one.id, 0, 3, tree_digest(b"012"))]), PreconditionFailed),
    ]
    for action, error in table:
        with pytest.raises(error):
            bench.commit(action)
    assert layout(bench, "/f") == [(0, 0, 4), (4, 0, 6)]


def test_a_truncate_to_the_present_size_changes_nothing(bench: Bench) -> None:
    _, _, version = two_extents(bench)
    outcome = bench.commit(Truncate(path="/f", size=10, if_version=version)).outcomes[0]
    assert not outcome.changed
    assert bench.stat("/f").version == version
