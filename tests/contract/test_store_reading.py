"""open, locate, open_many, stat, list, usage and places against a real store."""

import random
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from dfs.protocol.capability import check_capability
from dfs.protocol.errors import (
    FileNotFound,
    InvalidName,
    IsADirectory,
    NotADirectory,
    NotPermitted,
    Unavailable,
    VersionGone,
)
from dfs.protocol.messages import (
    AppendFile,
    ListDirectory,
    MakeDirectory,
    Open,
    PutFile,
    Remove,
    Rename,
    Stat,
    StatMany,
)
from dfs_namenode import layout as layout_module
from dfs_namenode.operations import open_many as open_many_module
from dfs_namenode.operations.list_directory import list_directory
from dfs_namenode.operations.places import places
from dfs_namenode.operations.stat_many import stat_many
from dfs_namenode.operations.usage import usage
from dfs_namenode.store import garbage, namespace, replicas
from dfs_namenode.store.sqlite import SqliteStore
from fixtures.namenode_store import Bench, FakeClock, piece, whole


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    clock = FakeClock()
    store = SqliteStore.open(str(tmp_path / "store"), clock=clock)
    bench = Bench(store, clock, read_grace_ms=1_800_000)
    yield bench
    bench.check_references()
    bench.close()
    store.close()


def put_long(bench: Bench, path: str, count: int, size: int = 10) -> None:
    """A file of so many chunks."""
    chunks = [bench.chunk(bytes([n % 256]) * size) for n in range(count)]
    bench.commit(PutFile(path=path, extents=[whole(chunk) for chunk in chunks]), chunks=chunks)


# --- open, locate -----------------------------------------------------------------------------------------------


def test_a_window_holds_exactly_the_extents_with_bytes_in_it(bench: Bench) -> None:
    put_long(bench, "/f", 10)
    for offset, length, expected in (
        (0, None, range(10)),
        (0, 1, [0]),
        (9, 1, [0]),
        (9, 2, [0, 1]),
        (10, 10, [1]),
        (95, None, [9]),
        (0, 0, []),
        (100, None, []),
        (500, 10, []),
        (25, 1 << 40, range(2, 10)),
    ):
        opened = bench.open("/f", offset=offset, length=length)
        assert [extent.position // 10 for extent in opened.layout.extents] == list(expected)
        assert (opened.layout.size, opened.layout.next_offset) == (100, None)


def test_what_does_not_fit_into_one_answer_goes_on_with_locate(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout_module, "EXTENTS_IN_ANSWER_MAX", 4)
    put_long(bench, "/f", 10)
    layout = bench.open("/f").layout
    positions = [extent.position for extent in layout.extents]
    while layout.next_offset is not None:
        layout = bench.locate(layout.content, offset=layout.next_offset)
        positions += [extent.position for extent in layout.extents]
    assert positions == list(range(0, 100, 10))


def test_an_empty_file_has_a_layout_without_extents(bench: Bench) -> None:
    bench.put("/f", b"")
    layout = bench.open("/f").layout
    assert (layout.size, layout.extents, layout.chunks, layout.grants) == (0, [], {}, [])


def test_a_capability_opens_exactly_the_bytes_of_the_file(bench: Bench) -> None:
    data = b"mine!theirs"
    pack = bench.chunk(data)
    bench.commit(
        PutFile(path="/mine", extents=[piece(pack, data, 0, 5)]),
        PutFile(path="/theirs", extents=[piece(pack, data, 5, 6)]),
        chunks=[pack],
    )
    layout = bench.open("/theirs").layout
    grant = layout.grants[layout.extents[0].grant]
    now_ms = bench.clock.wall_ms()
    for name in ("dn1", "dn2", "dn3"):
        capability = check_capability(
            grant.capability, bench.keys.of(name), datanode=name, operation="r", chunk=pack.id, now_ms=now_ms
        )
        assert (capability.start, capability.end, capability.principal) == (5, 11, "anonymous")
        assert (grant.start, grant.end) == (5, 11)
    with pytest.raises(NotPermitted, match="expired"):
        check_capability(
            grant.capability,
            bench.keys.of("dn1"),
            datanode="dn1",
            operation="r",
            chunk=pack.id,
            now_ms=layout.expires_ms,
        )


def test_a_joined_capability_opens_the_files_of_a_pack_and_nothing_between_them(bench: Bench) -> None:
    data = b"mine!theirs-mine-too"
    pack = bench.chunk(data)
    bench.commit(
        PutFile(path="/mine", extents=[piece(pack, data, 0, 5)]),
        PutFile(path="/theirs", extents=[piece(pack, data, 5, 7)]),
        PutFile(path="/too", extents=[piece(pack, data, 12, 8)]),
        chunks=[pack],
    )
    assert len(bench.open_many("/mine", "/too").grants) == 2, "who does not know of them gets none"
    opened = bench.open_many("/too", "/mine", joined=True)
    (grant,) = opened.grants
    assert grant.joined
    assert [file.extents[0].grant for file in opened.files] == [0, 0]
    capability = check_capability(
        grant.capability, bench.keys.of("dn2"), datanode="dn2", operation="r", chunk=pack.id,
        now_ms=bench.clock.wall_ms(),
    )  # fmt: skip
    assert capability.allows(0, 5)
    assert capability.allows(12, 20)
    assert not any(capability.allows(place, place + 1) for place in range(5, 12))
    (whole_run,) = bench.open_many("/mine", "/theirs", joined=True).grants
    assert not whole_run.joined, "files that lie side by side are one run"


def test_replicas_come_best_first_and_those_that_can_not_be_read_are_left_out(bench: Bench) -> None:
    chunk = bench.chunk(b"x")
    bench.commit(PutFile(path="/f", extents=[whole(chunk)]), chunks=[chunk])

    def names() -> list[str]:
        return [target.datanode for target in bench.open("/f").layout.chunks[chunk.id].replicas]

    assert sorted(names()) == ["dn1", "dn2", "dn3"]
    bench.change("dn1", state="stale")
    bench.change("dn2", streams=5)
    assert names() == ["dn3", "dn2", "dn1"]
    bench.change("dn2", state="dead")
    assert names() == ["dn3", "dn1"]
    number = bench.nodes["dn3"].num
    bench.store.write_blocking(lambda tx: replicas.mark_bad(tx, chunk.id, number))
    assert names() == ["dn1"]
    bench.change("dn1", state="dead")
    assert names() == ["dn3"], "readers verify every block: a bad one is better than none"  # F42
    bench.change("dn3", state="dead")
    assert names() == []


def test_a_descriptor_that_is_missing_for_one_more_reader_is_no_reason_to_end(bench: Bench) -> None:  # F89
    with bench.store.read(), pytest.MonkeyPatch.context() as patch:

        def no_descriptor(*_arguments: object, **_options: object) -> None:
            raise apsw.CantOpenError("unable to open database file")

        patch.setattr(apsw, "Connection", no_descriptor)
        with pytest.raises(Unavailable, match="repeat in a moment"), bench.store.read():
            pass
    bench.put("/f", b"still there")


def test_a_reader_that_comes_back_in_time_reads_its_version_to_the_end(bench: Bench) -> None:
    # S3, F29, F30
    bench.put("/f", b"old")
    old = bench.open("/f").layout
    bench.put("/f", b"new")
    for _ in range(10):
        bench.clock.advance(1700)
        before_ms = bench.clock.wall_ms() - bench.read_grace_ms
        bench.store.write_blocking(lambda tx, at=before_ms: garbage.sweep_retired(tx, before_ms=at, rows=100))
        assert bench.locate(old.content).extents == old.extents
    bench.clock.advance(1800)
    with pytest.raises(VersionGone):
        bench.locate(old.content)
    before_ms = bench.clock.wall_ms() - bench.read_grace_ms
    assert bench.store.write_blocking(lambda tx: garbage.sweep_retired(tx, before_ms=before_ms, rows=100)).contents == 1
    with pytest.raises(VersionGone):
        bench.locate(old.content)
    assert bench.open("/f").entry.size == 3


def test_asking_often_writes_seldom(bench: Bench) -> None:
    bench.put("/f", b"old")
    old = bench.open("/f").layout.content
    bench.commit(Remove(path="/f"))
    began = bench.value("SELECT at_ms FROM retired")
    bench.clock.advance(59)
    bench.locate(old)
    assert bench.value("SELECT at_ms FROM retired") == began
    bench.clock.advance(2)
    bench.locate(old)
    assert bench.value("SELECT at_ms FROM retired") == bench.clock.wall_ms()


def test_an_open_file_survives_the_removal_of_its_whole_tree(bench: Bench) -> None:
    bench.put("/a/b/f", b"x", parents=True)
    layout = bench.open("/a/b/f").layout
    bench.commit(Remove(path="/a", recursive=True))
    assert bench.locate(layout.content).extents == layout.extents
    for _ in range(4):
        bench.store.write_blocking(lambda tx: garbage.take_apart_detached(tx, rows=100))
    assert bench.locate(layout.content).extents == layout.extents


def test_opening_what_is_no_file_is_refused(bench: Bench) -> None:
    bench.commit(MakeDirectory(path="/d"), PutFile(path="/f"))
    for path, error in (
        ("/", IsADirectory),
        ("/d", IsADirectory),
        ("/no", FileNotFound),
        ("/no/no", FileNotFound),
        ("/f/x", NotADirectory),
        ("/a//b", InvalidName),
        ("relative", InvalidName),
    ):
        with pytest.raises(error) as refused:
            bench.open(path)
        assert str(refused.value)
    with pytest.raises(FileNotFound, match=r"^/no: no such file or directory$"):
        bench.stat("/no")


# --- open_many, stat_many ---------------------------------------------------------------------------------------


def test_files_side_by_side_in_a_pack_share_one_grant(bench: Bench) -> None:
    data = bytes(range(100))
    pack = bench.chunk(data)
    puts = [PutFile(path=f"/{n:02}", extents=[piece(pack, data, n * 10, 10)]) for n in range(10)]
    bench.commit(*puts, MakeDirectory(path="/dir"), chunks=[pack])
    many = bench.open_many("/07", "/01", "/no", "/dir", "/02", "/03", "bad//name")
    assert [found.code for found in many.files] == ["", "", "not_found", "is_a_directory", "", "", "invalid_name"]
    assert sorted((grant.start, grant.end) for grant in many.grants) == [(10, 40), (70, 80)]
    assert set(many.chunks) == {pack.id}
    for found in (many.files[0], many.files[1], many.files[4]):
        (extent,) = found.extents
        grant = many.grants[extent.grant]
        assert grant.start <= extent.offset < extent.offset + extent.length <= grant.end
        assert found.entry is not None
        assert found.complete
        assert bench.locate(found.content).size == found.entry.size


def test_a_file_with_many_extents_is_to_be_opened_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_many_module, "EXTENTS_PER_FILE_MAX", 3)
    put_long(bench, "/three", 3)
    put_long(bench, "/four", 4)
    three, four = bench.open_many("/three", "/four").files
    assert (three.complete, len(three.extents)) == (True, 3)
    assert (four.complete, len(four.extents)) == (False, 0)
    assert four.entry is not None


def test_many_entries_come_in_the_order_asked(bench: Bench) -> None:
    bench.commit(MakeDirectory(path="/d"), PutFile(path="/d/f"))
    paths = ["/d/f", "/no", "/", "/d", "/d/f/x"] * 30
    found = bench.run(stat_many(StatMany(paths=paths), store=bench.store)).entries
    assert [None if entry is None else entry.path for entry in found] == ["/d/f", None, "/", "/d", None] * 30


# --- list -------------------------------------------------------------------------------------------------------


def test_names_come_in_the_order_of_their_bytes_page_by_page(bench: Bench) -> None:
    # S9
    rng = random.Random(7)
    alphabet = "aZ0 .é\u00e9e\u0301\uffee\U0001f600-~"
    names = {"".join(rng.choices(alphabet, k=rng.randint(1, 6))) for _ in range(200)} - {".", ".."}
    bench.commit(*[PutFile(path=f"/{name}") for name in names])
    ordered = sorted(names, key=lambda name: name.encode())
    for limit in (1, 7, 199, 1000, 5000):
        assert bench.ls("/", limit=limit) == ordered


def test_a_listing_shows_what_stat_shows(bench: Bench) -> None:
    bench.put("/d/f", b"abc", parents=True, attributes={"k": "v"})
    bench.commit(MakeDirectory(path="/d/sub"))
    page = bench.run(list_directory(ListDirectory(path="/d/"), store=bench.store))
    assert page.entries == [bench.stat("/d/f"), bench.stat("/d/sub")]
    assert page.next is None
    alone = bench.run(list_directory(ListDirectory(path="/d/f"), store=bench.store))
    assert (alone.entries, alone.next) == ([bench.stat("/d/f")], None)
    root = bench.run(list_directory(ListDirectory(path="/"), store=bench.store))
    assert root.entries == [bench.stat("/d")]


def test_entries_that_stay_are_listed_once_whatever_comes_and_goes(bench: Bench) -> None:
    # S9
    bench.commit(*[PutFile(path=f"/{n:03}") for n in range(0, 300, 2)])
    rng, seen, after = random.Random(3), [], ""
    while after is not None:
        page = bench.run(list_directory(ListDirectory(path="/", after=after, limit=10), store=bench.store))
        seen += [entry.name for entry in page.entries]
        after = page.next
        number = rng.randrange(1, 300, 2)
        bench.commit(PutFile(path=f"/{number:03}"))
        if rng.random() < 0.5:
            bench.commit(Remove(path=f"/{number:03}"))
        else:
            bench.commit(Rename(source=f"/{number:03}", target="/x", overwrite=True))
    assert [name for name in seen if name.isdigit() and int(name) % 2 == 0] == [f"{n:03}" for n in range(0, 300, 2)]
    assert len(seen) == len(set(seen))


# --- usage, places ----------------------------------------------------------------------------------------------


def test_usage_sums_a_tree_of_any_shape(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespace, "_USAGE_PAGE_ROWS", 3)
    data = bytes(50)
    pack = bench.chunk(data)
    puts = [
        PutFile(path=f"/t/{n % 3}/{n % 5}/{n}", extents=[piece(pack, data, 0, n)], parents=True, replication=1 + n % 2)
        for n in range(1, 40)
    ]
    bench.commit(*puts, MakeDirectory(path="/t/empty"), chunks=[pack])

    def sums(path: str) -> tuple[int, int, int, int]:
        found = bench.run(usage(Stat(path=path), store=bench.store))
        return found.files, found.directories, found.bytes, found.replicated_bytes

    total = sum(range(1, 40))
    replicated = sum(n * (1 + n % 2) for n in range(1, 40))
    assert sums("/t") == (39, 1 + 3 + 15 + 1, total, replicated)
    assert sums("/") == (39, 21, total, replicated)
    assert sums("/t/empty") == (0, 1, 0, 0)
    assert sums("/t/1/2/7") == (1, 0, 7, 14)
    with pytest.raises(FileNotFound):
        sums("/no")


def test_places_show_every_replica_also_those_that_are_no_use(bench: Bench) -> None:
    chunk = bench.chunk(b"abcde")
    bench.commit(PutFile(path="/f", extents=[whole(chunk)]), chunks=[chunk])
    more = bench.chunk(b"more")
    bench.commit(AppendFile(path="/f", extents=[whole(more)]), chunks=[more])
    number = bench.nodes["dn2"].num
    bench.store.write_blocking(lambda tx: replicas.mark_bad(tx, chunk.id, number))
    bench.change("dn1", state="dead")
    found = bench.run(places(Open(path="/f"), store=bench.store, cluster=bench.cluster()))
    assert found.entry == bench.stat("/f")
    assert [(e.position, e.chunk, e.length) for e in found.extents] == [(0, chunk.id, 5), (5, more.id, 4)]
    assert [(p.id, p.length, p.digest, p.replication) for p in found.chunks] == [
        (c.id, c.length, c.digest, 3) for c in (chunk, more)
    ]
    first = found.chunks[0].replicas
    assert [(p.datanode, p.state, p.live) for p in first] == [
        ("dn1", "good", False),
        ("dn2", "bad", True),
        ("dn3", "good", True),
    ]
    assert first[0].url == "http://dn1:2"
    assert first[0].volume == bench.nodes["dn1"].volumes[0].id
    assert found.next_offset is None
