"""What is exported of a store and restored is what the store was: namespace, contents and extents, to the last row.

Seeded walks through the real operations, with sweeps and moved extents in between; the changes are exported in slices
of random sizes, some of them again and coarser, as the duty does. `# F63`, `# F71`.
"""

import io
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dfs.protocol.errors import Conflict, CorruptReplica, DfsError, OperationExpired
from dfs.protocol.messages import (
    AppendFile,
    Copy,
    MakeDirectory,
    PutFile,
    Remove,
    Rename,
    SetAttributes,
    StagedExtent,
)
from dfs.protocol.metadata_log import BackupReader, entries
from dfs_namenode import departure
from dfs_namenode.store import compaction, export, garbage, meta, oplog, restore
from dfs_namenode.store.oplog import Change
from dfs_namenode.store.restore import RestoredStore
from dfs_namenode.store.sqlite import DATABASE_NAME, SqliteStore
from dfs_namenode.store.transaction import Snapshot, Transaction
from fixtures.namenode_store import Bench, FakeClock, whole

CLUSTER = "c" * 32
SEEDS = [int(os.environ["DFS_SEED"])] if "DFS_SEED" in os.environ else range(12)
PATHS = ["/a", "/b", "/a/x", "/a/y", "/b/x", "/a/x/1", "/a/y/ü", "/b/x/2", "/c"]


def nothing() -> None:
    """An export that nobody stops."""


@dataclass
class Slice:
    """An exported backup of changes, and what the store was then."""

    from_seq: int
    to_seq: int
    raw: bytes
    state: list[tuple[Any, ...]]


def state_of(snapshot: Snapshot) -> list[tuple[Any, ...]]:
    """Every path with all that is known of it, and the pieces of each file."""
    found: list[tuple[Any, ...]] = []

    def walk(directory: int, path: str) -> None:
        for row in snapshot.rows(
            "SELECT i.name, i.id, i.kind, i.mode, i.owner, i.grp, i.mtime_ns, i.version, i.content_id, i.attributes,"
            " c.size, c.digest, c.replication, c.attributes FROM inode AS i LEFT JOIN content AS c"
            " ON c.id = i.content_id WHERE i.parent_id = ? ORDER BY i.name",
            (directory,),
        ):
            here = f"{path}/{row[0]}"
            pieces = snapshot.rows(
                "SELECT e.position, e.chunk_id, e.chunk_offset, e.length, e.digest, c.length, c.digest, c.state"
                " FROM extent AS e JOIN chunk AS c ON c.id = e.chunk_id WHERE e.content_id = ? ORDER BY e.position",
                (row[8],),
            )
            found.append((here, *row[1:], tuple(pieces)))
            if row[2] == 1:
                walk(row[1], here)

    walk(1, "")
    return found


class Live:
    """A store that is used at random, and exported."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.clock = FakeClock()
        self.directory = directory / "live"
        self.store = SqliteStore.open(str(self.directory), clock=self.clock)
        self.bench = Bench(self.store, self.clock, seed=seed)
        self.store.write_blocking(lambda tx: meta.set_identity(tx, meta.Identity(CLUSTER, "1" * 32)))
        self.scratch = directory

    def close(self) -> None:
        self.bench.close()
        self.store.close()

    def step(self) -> None:
        """One random operation; errors of the day are part of it."""
        rng, bench = self.rng, self.bench
        self.clock.advance(rng.random() * 30)
        path, other = rng.choice(PATHS), rng.choice(PATHS)
        moves: list[Callable[[], Any]] = [
            lambda: bench.put(
                path, rng.randbytes(rng.randint(0, 9)), parents=True, replication=rng.choice([None, 1, 2])
            ),
            lambda: bench.put(path, b"123", parents=True, attributes={"k": str(rng.random())}),
            lambda: self.append(path, drop_tail=rng.random() < 0.3),
            lambda: bench.commit(Copy(source=path, target=other, parents=True, overwrite=True)),
            lambda: bench.commit(Rename(source=path, target=other, parents=True, overwrite=True)),
            lambda: bench.commit(Rename(source=path, target=other, parents=True)),
            lambda: bench.commit(MakeDirectory(path=path, parents=True)),
            lambda: bench.commit(Remove(path=path, recursive=True)),
            lambda: bench.commit(Remove(path=path)),
            lambda: bench.commit(SetAttributes(path=path, mode=rng.choice([0o600, 0o644]), attributes={"a": "b"})),
            lambda: bench.commit(SetAttributes(path=path, replication=rng.randint(1, 3))),
            lambda: self.pack(path, other),
            lambda: self.publish_draft(path),
            self.begin_draft,
            self.sweep,
            self.move_extents,
        ]
        try:
            rng.choice(moves)()
        except DfsError:
            return

    def append(self, path: str, *, drop_tail: bool) -> None:
        chunk = self.bench.chunk(self.rng.randbytes(12 if drop_tail else 3))
        self.bench.commit(AppendFile(path=path, extents=[whole(chunk)], drop_tail=drop_tail), chunks=[chunk])

    def pack(self, path: str, other: str) -> None:
        """Two files in one chunk, and a change of two paths in one operation."""
        from dfs.protocol.digests import tree_digest
        from dfs.protocol.messages import Extent

        data = self.rng.randbytes(10)
        chunk = self.bench.chunk(data)
        first = Extent(chunk.id, 0, 4, tree_digest(data[:4]))
        second = Extent(chunk.id, 4, 6, tree_digest(data[4:]))
        self.bench.commit(
            PutFile(path=path, extents=[first], parents=True),
            PutFile(path=other, extents=[second], parents=True),
            chunks=[chunk],
        )

    def begin_draft(self) -> str:
        draft, chunk = self.bench.new_id(), self.bench.chunk(self.rng.randbytes(5))
        self.bench.stage(draft, extents=[StagedExtent(0, 0, whole(chunk))], chunks=[chunk])
        return draft

    def publish_draft(self, path: str) -> None:
        draft = self.begin_draft()
        self.bench.commit(PutFile(path=path, staged=0, parents=True), draft=draft)

    def sweep(self) -> None:
        """What the duties do with garbage; nothing of it is in the change log."""
        rows = self.rng.randint(1, 10)
        self.store.write_blocking(lambda tx: garbage.take_apart_detached(tx, rows=rows))
        before_ms = self.clock.wall_ms() - self.rng.randint(0, 60_000)
        self.store.write_blocking(lambda tx: garbage.sweep_retired(tx, before_ms=before_ms, rows=rows))
        for chunk in self.store.write_blocking(lambda tx: garbage.condemn(tx, limit=5)):
            self.store.write_blocking(lambda tx, chunk=chunk: self.drop_chunk(tx, chunk))  # type: ignore[misc]

    def drop_chunk(self, tx: Transaction, chunk: str) -> None:
        tx.run("DELETE FROM replica WHERE chunk_id = ?", (bytes.fromhex(chunk),))
        garbage.bury_if_gone(tx, chunk)

    def move_extents(self) -> None:
        """What compaction does: a content's bytes lie in another chunk, and no path has changed."""
        with self.store.read() as snapshot:
            found = snapshot.rows(
                "SELECT i.content_id, e.position, e.chunk_id, e.length FROM inode AS i JOIN extent AS e"
                " ON e.content_id = i.content_id WHERE i.content_id IS NOT NULL"
            )
        if not found:
            return
        content, position, old, length = self.rng.choice(found)
        new = bytes.fromhex(self.bench.new_id())

        def move(tx: Transaction) -> None:
            tx.run(
                "INSERT INTO chunk (id, length, digest, replication, referenced_bytes, state, state_ms, layout)"
                " VALUES (?, ?, ?, 3, ?, 0, 0, 0)",
                (new, length, bytes(16), length),
            )
            tx.run(
                "UPDATE extent SET chunk_id = ?, chunk_offset = 0 WHERE content_id = ? AND position = ?",
                (new, content, position),
            )
            tx.run("UPDATE chunk SET referenced_bytes = referenced_bytes - ? WHERE id = ?", (length, old))
            oplog.log_changes(tx, "compaction", [Change("compact", 0, content_id=content)])

        self.store.write_blocking(move)

    # --- exports --------------------------------------------------------------------------------------------

    def slice(self, after: int) -> Slice:
        file = io.BytesIO()
        with self.store.read() as snapshot:
            header, _ = export.write_changes(
                snapshot, file, after=after, made_ms=self.clock.wall_ms(), stop=nothing
            )  # fmt: skip
            state = state_of(snapshot)
        return Slice(after, header.to_seq, file.getvalue(), state)

    def snapshot(self) -> tuple[int, bytes]:
        copy, file = self.scratch / "copy", io.BytesIO()
        export.copy_database(str(self.directory / DATABASE_NAME), str(copy), began=lambda _: None)
        header, _ = export.write_snapshot(str(copy), file, made_ms=self.clock.wall_ms(), stop=nothing)
        copy.unlink()
        return header.to_seq, file.getvalue()


def restored_state(
    directory: Path, snapshot: bytes, slices: list[Slice], clock: FakeClock
) -> Iterator[tuple[SqliteStore, Bench]]:
    """Restore into a directory, open it as a namenode would, and close it at the end."""
    directory.mkdir()
    path = directory / DATABASE_NAME
    path.write_bytes(b"".join(BackupReader(io.BytesIO(snapshot)).frames()))
    store = RestoredStore(str(path), now_ms=clock.wall_ms())
    with store.transaction() as tx:
        for one in slices:
            restore.clear_places(tx, BackupReader(io.BytesIO(one.raw)).records())
            restore.apply_changes(tx, BackupReader(io.BytesIO(one.raw)).records(), to_seq=one.to_seq)
        restore.settle(tx)
        restore.begin_history(tx, seq_seen=0, why="restored")
    store.close()
    opened = SqliteStore.open(str(directory), clock=clock)
    bench = Bench(opened, clock, seed=99)
    try:
        yield opened, bench
    finally:
        bench.close()
        opened.close()


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    made = Live(tmp_path, 1)
    yield made
    made.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_restore_brings_back_exactly_what_was_exported(tmp_path: Path, seed: int) -> None:  # F63 F71
    live = Live(tmp_path, seed)
    try:
        for _ in range(live.rng.randint(0, 40)):
            live.step()
        begun, snapshot = live.snapshot()
        slices = [Slice(begun, begun, b"", [])]
        for _ in range(live.rng.randint(1, 6)):
            for _ in range(live.rng.randint(0, 25)):
                live.step()
            # Behind the last one, or coarser over some before it, which it then replaces.
            after = live.rng.choice([slices[-1].to_seq, slices[-1].to_seq, live.rng.choice(slices).to_seq])
            slices = [one for one in slices if one.to_seq <= after] + [live.slice(after)]
        with live.store.read() as now:
            expected = state_of(now)
        for store, bench in restored_state(tmp_path / "restored", snapshot, slices[1:], live.clock):
            with store.read() as found:
                assert state_of(found) == expected, f"DFS_SEED={seed}"
            bench.check_references()
            _sweep_all(store)
            bench.check_references()
            with store.read() as found:
                assert state_of(found) == expected, f"DFS_SEED={seed}: swept"
            assert bench.value("SELECT count(*) FROM inode") == len(expected) + 1, "rows below no directory are left"
            assert bench.value("SELECT count(*) FROM content") == sum(row[2] == 0 for row in expected)
            live.clock.advance(1)
            bench.put("/after", b"the numbers go on")
    finally:
        live.close()


def _sweep_all(store: SqliteStore) -> None:
    """What was left over goes as garbage does, and nothing else goes with it."""
    for _ in range(200):
        done = store.write_blocking(lambda tx: garbage.take_apart_detached(tx, rows=50)).rows
        done += store.write_blocking(lambda tx: garbage.sweep_retired(tx, before_ms=1 << 60, rows=50)).rows
        if not done:
            break
    store.write_blocking(lambda tx: garbage.condemn(tx, limit=10_000))


@pytest.mark.parametrize("seed", SEEDS)
def test_changes_name_each_new_file_at_its_path_with_its_pieces(tmp_path: Path, seed: int) -> None:
    live = Live(tmp_path, seed)
    try:
        for _ in range(60):
            live.step()
        one = live.slice(0)
        files = {row[0]: row for row in one.state}
        found = list(entries(BackupReader(io.BytesIO(one.raw)).records()))
        assert sorted(entry.path for entry in found) == sorted(files), f"DFS_SEED={seed}"
        for entry in found:
            row = files[entry.path]
            assert [
                (e.position, bytes.fromhex(e.chunk), e.offset, e.length, e.chunk_length) for e in entry.extents
            ] == [(*piece[:4], piece[5]) for piece in row[-1]]
    finally:
        live.close()


def test_a_rename_of_a_directory_moves_what_is_below_it(live: Live) -> None:
    live.bench.put("/a/deep/file", b"1", parents=True)
    _, snapshot = live.snapshot()
    with live.store.read() as now:
        begun = meta.last_seq(now)
    live.bench.commit(Rename(source="/a", target="/b"))
    one = live.slice(begun)
    for store, _ in restored_state(live.scratch / "restored", snapshot, [one], live.clock):
        with store.read() as found:
            assert [row[0] for row in state_of(found)] == ["/b", "/b/deep", "/b/deep/file"]


def test_a_chunk_that_was_mostly_given_up_since_the_snapshot_is_found_by_compaction(live: Live) -> None:  # I8
    begun, snapshot = live.snapshot()
    live.pack("/kept", "/removed")
    live.bench.put("/whole", b"all of it")
    live.bench.commit(Remove(path="/removed"))
    _sweep_all(live.store)
    one = live.slice(begun)
    for store, bench in restored_state(live.scratch / "restored", snapshot, [one], live.clock):
        bench.check_references()
        with store.read() as found:
            assert [row.referenced_bytes for row in compaction.released(found, after=b"", limit=9)] == [4]


def test_a_datanode_that_departed_since_the_snapshot_holds_nothing_after_the_restore(live: Live) -> None:  # I8
    live.bench.put("/a", b"1")
    live.bench.add_datanode("dn4")
    begun, snapshot = live.snapshot()
    departure.forget_datanode(live.store, "dn3")
    live.bench.put("/b", b"2")
    one = live.slice(begun)
    for _, bench in restored_state(live.scratch / "restored", snapshot, [one], live.clock):
        chunk = bench.rows("SELECT chunk_id FROM extent ORDER BY content_id LIMIT 1")[0]
        held = bench.rows(
            "SELECT d.id FROM replica AS r JOIN datanode AS d ON d.num = r.datanode WHERE r.chunk_id = ?", chunk
        )
        assert sorted(held) == [("dn1",), ("dn2",)]
        assert bench.value("SELECT count(*) FROM work WHERE chunk_id = ?", chunk) == 1, "dn4 can take a third replica"


def test_what_was_uploaded_but_not_published_is_dropped_and_can_not_be_published_short(live: Live) -> None:
    draft = live.begin_draft()
    _, snapshot = live.snapshot()
    for store, bench in restored_state(live.scratch / "restored", snapshot, [], live.clock):
        assert bench.value("SELECT count(*) FROM draft") == 0
        late = bench.chunk(b"later part")
        live.clock.advance(1)
        with pytest.raises(Conflict, match="lost when the store was restored"):
            bench.stage(draft, extents=[StagedExtent(0, 1, whole(late))], chunks=[late])
        with pytest.raises(Conflict):
            bench.commit(PutFile(path="/short", staged=0), draft=draft)
        assert store.write_blocking(lambda tx: garbage.sweep_retired(tx, before_ms=1 << 60, rows=50)).contents == 1


def test_an_operation_that_may_have_been_done_before_the_loss_is_refused_and_not_done_again(live: Live) -> None:
    before = live.bench.new_id()
    _, snapshot = live.snapshot()
    live.bench.commit(MakeDirectory(path="/once"), op_id=before)
    live.clock.advance(5)
    for _, bench in restored_state(live.scratch / "restored", snapshot, [], live.clock):
        with pytest.raises(OperationExpired):
            bench.commit(MakeDirectory(path="/once"), op_id=before)
        live.clock.advance(1)
        bench.commit(MakeDirectory(path="/twice"))


def test_numbers_of_the_lost_history_never_come_again(live: Live) -> None:
    live.bench.put("/a", b"1")
    begun, snapshot = live.snapshot()
    lost = live.bench.put("/b", b"2").seq
    with live.store.read() as found:
        used = found.row("SELECT seq, inode, content FROM counters")
        lineage = meta.identity(found)
    assert used is not None
    assert lost > begun
    for store, bench in restored_state(live.scratch / "restored", snapshot, [], live.clock):
        with store.read() as found:
            assert meta.latch(found) == "restored"
            now = meta.identity(found)
            assert now is not None
            assert lineage is not None
            assert now.cluster == lineage.cluster
            assert now.lineage != lineage.lineage
            assert meta.epoch(found) > 1000
        live.clock.advance(1)
        assert bench.put("/c", b"3").seq > used[0]
        assert bench.value("SELECT inode FROM counters") > used[1]
        assert bench.value("SELECT content FROM counters") > used[2]


def test_a_damaged_backup_is_never_restored(live: Live) -> None:  # F71
    live.bench.put("/a", b"1")
    _, snapshot = live.snapshot()
    rng = random.Random(3)
    for _ in range(60):
        raw = bytearray(snapshot)
        place = rng.randrange(len(raw))
        raw[place] ^= 1 << rng.randrange(8)
        with pytest.raises(CorruptReplica):
            b"".join(BackupReader(io.BytesIO(bytes(raw))).frames())
    with pytest.raises(CorruptReplica):
        b"".join(BackupReader(io.BytesIO(snapshot[:-1])).frames())


def test_forgotten_changes_are_known_to_be_missing(live: Live) -> None:
    live.bench.put("/a", b"1")
    live.clock.advance(100)
    last = live.bench.put("/b", b"1").seq
    live.store.write_blocking(lambda tx: oplog.forget_changes(tx, before_ms=live.clock.wall_ms(), limit=1000))
    with live.store.read() as found:
        assert meta.forgotten_changes(found) == last - 1
