"""fsck against a real store: every file once, page by page, and each in the state that its replicas give it."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfs.protocol.errors import FileNotFound, InvalidRequest
from dfs.protocol.messages import Fsck, FsckPage, MakeDirectory, PutFile, Remove
from dfs_namenode.commands import Outbox
from dfs_namenode.inspection import chunk_health
from dfs_namenode.liveness import ClusterView
from dfs_namenode.operations.fsck import fsck
from dfs_namenode.repair import PRIORITY_ONE_LEFT, Replica
from dfs_namenode.store import replicas, work
from dfs_namenode.store.sqlite import SqliteStore
from fixtures.namenode_store import Bench, FakeClock, whole


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    clock = FakeClock()
    store = SqliteStore.open(str(tmp_path / "store"), clock=clock)
    bench = Bench(store, clock)
    yield bench
    bench.close()
    store.close()


@pytest.fixture
def outbox(bench: Bench) -> Outbox:
    return Outbox(bench.clock, timeout_s=60)


def view(bench: Bench) -> ClusterView:
    nodes = dict(bench.nodes)
    return ClusterView(nodes, by_num={node.num: name for name, node in nodes.items()})


def page(bench: Bench, outbox: Outbox, limits: dict[str, int] | None = None, **request) -> FsckPage:  # type: ignore[no-untyped-def]
    found: FsckPage = bench.run(
        fsck(Fsck(**request), store=bench.store, cluster=view(bench), outbox=outbox, **(limits or {}))
    )
    return found


def pages(bench: Bench, outbox: Outbox, limits: dict[str, int] | None = None, **request) -> list[FsckPage]:  # type: ignore[no-untyped-def]
    found = [page(bench, outbox, limits, **request)]
    while (after := found[-1].next) is not None:
        going_on = request | {"after": after, "position": found[-1].next_position}
        found.append(page(bench, outbox, limits, **going_on))
    return found


def states(found: list[FsckPage]) -> dict[str, str]:
    return {file.path: file.state for each in found for file in each.files}


def break_replica(bench: Bench, chunk: str, name: str, how: str) -> None:
    change = replicas.mark_bad if how == "bad" else replicas.drop
    bench.store.write_blocking(lambda tx: change(tx, chunk, bench.nodes[name].num))


@pytest.mark.parametrize(("entries", "extents"), [(1000, 4096), (3, 4096), (1, 1), (1000, 2)])
def test_every_file_is_seen_once_in_the_order_of_the_walk_whatever_a_page_holds(
    bench: Bench, outbox: Outbox, entries: int, extents: int
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    paths = set()
    for _ in range(30):
        parts = [rng.choice("abü") + rng.choice("12") for _ in range(rng.randint(1, 4))]
        path = "/d/" + "/".join(f"{part}d" for part in parts[:-1]) + ("/" if parts[:-1] else "") + parts[-1]
        if path not in paths:
            bench.put(path, path.encode() * rng.choice([0, 1]), parents=True)
            paths.add(path)
    chunks = [bench.chunk(bytes([n]) * 10) for n in range(7)]
    bench.commit(PutFile(path="/d/long", extents=[whole(chunk) for chunk in chunks]), chunks=chunks)
    bench.commit(MakeDirectory(path="/d/empty"), MakeDirectory(path="/elsewhere"))
    found = pages(bench, outbox, {"entries": entries, "extents": extents}, path="/d", all_files=True)
    seen = [file.path for each in found for file in each.files if file.complete]
    assert sorted(seen) == sorted([*paths, "/d/long"])
    assert seen == sorted(seen, key=lambda path: [part.encode() for part in path.split("/")])
    assert sum(each.files_seen for each in found) == len(seen)
    assert sum(each.directories_seen for each in found) == bench_directories(bench)
    long = [chunk.id for each in found for file in each.files if file.path == "/d/long" for chunk in file.chunks]
    assert long == [chunk.id for chunk in chunks]
    assert all(len(each.files) <= entries + 1 for each in found)


def bench_directories(bench: Bench) -> int:
    """Directories at and below /d."""
    with bench.store.read() as snapshot:
        rows = snapshot.value("SELECT count(*) FROM inode WHERE kind = 1 AND id != 1 AND name != 'elsewhere'")
    return int(rows)


def test_a_file_is_as_its_worst_chunk_is(bench: Bench, outbox: Outbox) -> None:
    # F39 F58
    chunks = {name: bench.chunk(name.encode()) for name in ("fine", "few", "rotten", "away", "lost")}
    bench.add_datanode("dn4")
    chunks["away"] = bench.chunk(b"away", nodes=["dn1", "dn4"])
    for name, chunk in chunks.items():
        bench.commit(PutFile(path=f"/{name}", extents=[whole(chunk)]), chunks=[chunk])
    bench.put("/empty", b"")
    break_replica(bench, chunks["few"].id, "dn1", "gone")
    break_replica(bench, chunks["rotten"].id, "dn1", "bad")
    break_replica(bench, chunks["away"].id, "dn1", "gone")
    for name in ("dn1", "dn2", "dn3"):
        break_replica(bench, chunks["lost"].id, name, "bad")
    bench.change("dn4", state="dead")
    expected = {"few": "under_replicated", "rotten": "corrupt", "away": "unavailable", "lost": "missing"}
    assert states(pages(bench, outbox)) == {f"/{name}": state for name, state in expected.items()}
    everything = states(pages(bench, outbox, all_files=True))
    assert everything.pop("/empty") == everything.pop("/fine") == "healthy"
    assert everything == {f"/{name}": state for name, state in expected.items()}
    bench.change("dn4", state="live")
    assert states(pages(bench, outbox, path="/away")) == {"/away": "under_replicated"}


def test_repair_puts_what_is_wrong_first_and_verifies_what_can_be_read(bench: Bench, outbox: Outbox) -> None:
    chunk = bench.chunk(b"x")
    bench.commit(PutFile(path="/x", extents=[whole(chunk)]), chunks=[chunk])
    bench.put("/fine", b"y")
    break_replica(bench, chunk.id, "dn2", "gone")
    assert sum(each.repairs for each in pages(bench, outbox)) == 0
    assert sum(each.repairs for each in pages(bench, outbox, repair=True)) == 1
    with bench.store.read() as snapshot:
        rows = work.window(snapshot, work.BEGINNING, 10)
    assert [(row[0], row[2].hex()) for row in rows] == [(PRIORITY_ONE_LEFT, chunk.id)]
    assert [len(outbox.take(name)) for name in ("dn1", "dn2", "dn3")] == [1, 0, 1]


def test_a_walk_goes_on_although_its_last_path_is_gone(bench: Bench, outbox: Outbox) -> None:
    for name in "abc":
        bench.put(f"/d/{name}/f", b"x", parents=True)
    bench.commit(Remove(path="/d/b", recursive=True))
    found = pages(bench, outbox, all_files=True, after="/d/b/f")
    assert [file.path for each in found for file in each.files] == ["/d/c/f"]


def test_a_path_that_is_missing_or_a_cursor_of_elsewhere_is_refused(bench: Bench, outbox: Outbox) -> None:
    with pytest.raises(FileNotFound):
        page(bench, outbox, path="/nothing")
    bench.commit(MakeDirectory(path="/d"))
    with pytest.raises(InvalidRequest):
        page(bench, outbox, path="/d", after="/e/f")


def test_a_bad_replica_on_a_dead_datanode_makes_no_chunk_corrupt(bench: Bench) -> None:
    bench.change("dn1", state="dead")
    held = [Replica(name, bench.nodes[name].volumes[0].id, good=name != "dn1") for name in ("dn1", "dn2", "dn3")]
    cluster = view(bench)
    assert chunk_health(held, wanted=2, cluster=cluster) == "healthy"
    assert chunk_health(held, wanted=3, cluster=cluster) == "under_replicated"
    assert chunk_health(held[:1], wanted=1, cluster=cluster) == "missing"
    assert chunk_health([Replica("dn1", held[0].volume)], wanted=1, cluster=cluster) == "unavailable"
    assert chunk_health([], wanted=1, cluster=cluster) == "missing"
