"""Which backups a restore takes: the newest that is whole, and what follows it. From datanodes on paper."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfs.protocol.digests import tree_digest
from dfs.protocol.errors import Conflict, DfsError, NotSent, Unavailable
from dfs.protocol.messages import MetadataBytes, MetadataFound, MetadataPart, MetadataParts, ReadMetadata
from dfs.protocol.metadata_log import BackupReader
from dfs.protocol.operations import Operation
from dfs.protocol.transport import Transport
from dfs_namenode import restoring
from dfs_namenode.store import export, meta, namespace
from dfs_namenode.store.sqlite import DATABASE_NAME, SqliteStore
from fixtures.namenode_store import Bench, FakeClock

CLUSTER = "c" * 32


class PaperDatanodes:
    """By URL, what each has: backups as bytes, cut into parts."""

    def __init__(self) -> None:
        self.parts: dict[str, list[MetadataPart]] = {}
        self.data: dict[tuple[str, str], bytes] = {}
        self.down: set[str] = set()
        self.cluster: dict[str, str] = {}
        self.seq_seen = 0
        self._chunks = 0

    def add(self, raw: bytes, *urls: str, pieces: int = 2, without: int | None = None) -> list[str]:
        """Keep a backup on these; the ids of its chunks. `without`: a part that nobody got."""
        header = BackupReader(io.BytesIO(raw)).header
        size = -(-len(raw) // pieces)
        ids = []
        for number in range(pieces):
            data = raw[number * size : (number + 1) * size]
            self._chunks += 1
            chunk = f"{self._chunks:032x}"
            ids.append(chunk)
            part = MetadataPart(
                chunk=chunk,
                length=len(data),
                digest=tree_digest(data),
                what=header.kind,
                from_seq=header.from_seq,
                to_seq=header.to_seq,
                part=number,
                parts=pieces,
                size=len(raw),
                made_ms=header.made_ms,
                cluster=header.cluster,
            )
            for url in urls:
                self.parts.setdefault(url, [])
                if number != without:
                    self.parts[url].append(part)
                    self.data[url, chunk] = data
        return ids

    def call(self, base_url: str, operation: Operation[object, object], request: object, **_: object) -> object:
        if base_url in self.down:
            raise NotSent(f"can't reach {base_url}")
        if isinstance(request, MetadataParts):
            return MetadataFound(
                datanode="dn",
                cluster=self.cluster.get(base_url, CLUSTER),
                seq_seen=self.seq_seen,
                parts=self.parts.get(base_url, []),
            )
        assert isinstance(request, ReadMetadata), operation.name
        data = self.data[base_url, request.chunk]
        return MetadataBytes(data=data[request.offset : request.offset + request.length])


class Source:
    """A store whose backups are kept on paper."""

    def __init__(self, directory: Path) -> None:
        self.clock = FakeClock()
        self.directory = directory / "live"
        self.store = SqliteStore.open(str(self.directory), clock=self.clock)
        self.bench = Bench(self.store, self.clock)
        self.store.write_blocking(lambda tx: meta.set_identity(tx, meta.Identity(CLUSTER, "1" * 32)))
        self.count = 0

    def put(self) -> str:
        """A file more; its path."""
        self.clock.advance(1)
        self.count += 1
        self.bench.put(f"/{self.count}", b"x")
        return f"/{self.count}"

    def snapshot(self) -> tuple[int, bytes]:
        copy, file = self.directory / "copy", io.BytesIO()
        export.copy_database(str(self.directory / DATABASE_NAME), str(copy), began=lambda _: None)
        header, _ = export.write_snapshot(str(copy), file, made_ms=self.clock.wall_ms(), stop=lambda: None)
        copy.unlink()
        return header.to_seq, file.getvalue()

    def changes(self, after: int) -> tuple[int, bytes]:
        file = io.BytesIO()
        with self.store.read() as found:
            header, _ = export.write_changes(
                found, file, after=after, made_ms=self.clock.wall_ms(), stop=lambda: None
            )  # fmt: skip
        return header.to_seq, file.getvalue()


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    made = Source(tmp_path)
    yield made
    made.bench.close()
    made.store.close()


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> PaperDatanodes:
    made = PaperDatanodes()
    monkeypatch.setattr(Transport, "call", lambda _self, *arguments, **named: made.call(*arguments, **named))
    return made


URLS = ["http://dn1:1", "http://dn2:1"]


def restore(directory: Path, source: Source) -> tuple[restoring.Restored, list[str], list[str]]:
    """Restore: what it said of itself, what it told, the names in `/` of the store that it made."""
    told: list[str] = []
    restored = restoring.restore_from_datanodes(
        str(directory), URLS, join_secret="", clock=source.clock, tell=told.append
    )  # fmt: skip
    store = SqliteStore.open(str(directory), clock=source.clock)
    try:
        with store.read() as found:
            names = [inode.name for inode in namespace.page(found, 1, after="", limit=1000)]
            latched = meta.latch(found)
        assert latched is not None
    finally:
        store.close()
    return restored, told, names


def test_the_newest_snapshot_and_all_changes_behind_it_are_taken(
    tmp_path: Path, source: Source, paper: PaperDatanodes
) -> None:
    source.put()
    _, old = source.snapshot()
    source.put()
    at, new = source.snapshot()
    source.put()
    first, one = source.changes(at)
    source.put()
    last, two = source.changes(first)
    paper.add(old, URLS[0])
    paper.add(new, URLS[1])
    paper.add(one, URLS[0])
    paper.add(two, *URLS)
    paper.seq_seen = 5_000_000
    restored, _, names = restore(tmp_path / "new", source)
    assert (restored.seq, restored.changes, restored.files) == (last, 2, 4)
    assert names == ["1", "2", "3", "4"]
    assert (tmp_path / "new" / "secret").stat().st_mode & 0o777 == 0o600
    store = SqliteStore.open(str(tmp_path / "new"), clock=source.clock)
    with store.read() as found:
        assert meta.last_seq(found) > 5_000_000
    store.close()


@pytest.mark.parametrize("how", ["part missing", "damaged", "unreachable"])
def test_a_snapshot_that_is_not_whole_gives_way_to_the_one_before_with_all_since(
    tmp_path: Path, source: Source, paper: PaperDatanodes, how: str
) -> None:  # F71
    source.put()
    at, old = source.snapshot()
    source.put()
    _, new = source.snapshot()
    source.put()
    last, changes = source.changes(at)
    paper.add(old, URLS[0])
    paper.add(changes, URLS[0])
    chunks = paper.add(new, URLS[1], without=1 if how == "part missing" else None)
    if how == "damaged":
        paper.data[URLS[1], chunks[1]] = bytes(len(paper.data[URLS[1], chunks[1]]))
    if how == "unreachable":
        paper.down.add(URLS[1])
    restored, told, names = restore(tmp_path / "new", source)
    assert restored.seq == last
    assert names == ["1", "2", "3"]
    assert any("can't" in line for line in told)


def test_a_replica_that_is_damaged_gives_way_to_another(tmp_path: Path, source: Source, paper: PaperDatanodes) -> None:
    source.put()
    _, raw = source.snapshot()
    chunks = paper.add(raw, *URLS)
    paper.data[URLS[0], chunks[0]] = bytes(len(paper.data[URLS[0], chunks[0]]))
    _, _, names = restore(tmp_path / "new", source)
    assert names == ["1"]


def test_changes_behind_a_gap_or_of_another_history_are_left_for_the_rebuild(
    tmp_path: Path, source: Source, paper: PaperDatanodes
) -> None:
    source.put()
    at, raw = source.snapshot()
    paper.add(raw, URLS[0])
    source.put()
    first, one = source.changes(at)
    source.put()
    gap, _ = source.changes(first)
    source.put()
    _, three = source.changes(gap)
    paper.add(one, URLS[0])
    paper.add(three, URLS[0])
    source.store.write_blocking(lambda tx: meta.set_identity(tx, meta.Identity(CLUSTER, "2" * 32)))
    source.put()
    _, foreign = source.changes(at)
    paper.add(foreign, URLS[1])
    restored, told, names = restore(tmp_path / "new", source)
    assert restored.seq == first
    assert names == ["1", "2"]
    assert any("can't be joined" in line for line in told)


def test_changes_that_are_damaged_are_applied_not_at_all(tmp_path: Path, source: Source, paper: PaperDatanodes) -> None:
    source.put()
    at, raw = source.snapshot()
    paper.add(raw, URLS[0])
    for _ in range(3):
        source.put()
    _, changes = source.changes(at)
    torn = bytearray(changes)
    torn[-20] ^= 1
    paper.add(bytes(torn), URLS[0])
    restored, told, names = restore(tmp_path / "new", source)
    assert (restored.seq, names) == (at, ["1"])
    assert any("can't be used" in line for line in told)


def test_nothing_is_made_of_datanodes_of_two_clusters_or_of_none(
    tmp_path: Path, source: Source, paper: PaperDatanodes
) -> None:
    paper.cluster[URLS[1]] = "d" * 32
    with pytest.raises(Conflict, match="one cluster"):
        restore(tmp_path / "new", source)
    paper.down.update(URLS)
    with pytest.raises(Unavailable, match="no datanode answers"):
        restore(tmp_path / "new", source)
    assert not (tmp_path / "new" / DATABASE_NAME).exists()
    # What failed may be repeated in the same directory.
    paper.down.clear()
    paper.cluster.clear()
    _, raw = source.snapshot()
    paper.add(raw, URLS[0])
    restore(tmp_path / "new", source)


def test_a_directory_with_anything_in_it_is_never_restored_into(
    tmp_path: Path, source: Source, paper: PaperDatanodes
) -> None:
    _, raw = source.snapshot()
    paper.add(raw, URLS[0])
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis").write_text("mine")
    with pytest.raises(Conflict, match="not empty"):
        restore(tmp_path / "used", source)
    file = tmp_path / "file"
    file.write_bytes(raw)
    with pytest.raises(Conflict, match="not empty"):
        restoring.restore_from_file(str(tmp_path / "used"), str(file), clock=source.clock)
    assert (tmp_path / "used" / "thesis").read_text() == "mine"


def test_a_restore_that_was_killed_just_before_its_end_is_repeated_in_its_directory(
    tmp_path: Path, source: Source, paper: PaperDatanodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.put()
    _, raw = source.snapshot()
    paper.add(raw, URLS[0])

    class Killed(BaseException):
        """Nothing that runs afterwards is run."""

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(restoring.os, "rename", die)
        patch.setattr(restoring._Place, "__exit__", lambda place, *_: place._lock.release() if place._lock else None)
        with pytest.raises(Killed):
            restore(tmp_path / "new", source)
    _, _, names = restore(tmp_path / "new", source)
    assert names == ["1"]


def test_a_file_that_holds_changes_or_nothing_of_ours_is_refused(tmp_path: Path, source: Source) -> None:
    source.put()
    _, changes = source.changes(0)
    for content in (changes, b"something else", b""):
        file = tmp_path / "file"
        file.write_bytes(content)
        with pytest.raises(DfsError):
            restoring.restore_from_file(str(tmp_path / "new"), str(file), clock=source.clock)
        assert not (tmp_path / "new" / DATABASE_NAME).exists()
