"""The duty that backs the store up, on a store of its own with datanodes on paper that store what they are sent."""

import asyncio
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from dfs.protocol.capability import sign_receipt
from dfs.protocol.errors import NotSent
from dfs.protocol.hints import MetadataHint, decode_hints
from dfs.protocol.messages import BackupMade, MakeDirectory, PutFile, StoredChunk
from dfs.protocol.metadata_log import BackupReader
from dfs.protocol.transport import Transport
from dfs_namenode import shipping
from dfs_namenode.liveness import Reservations
from dfs_namenode.monitors.backup import RETRY_S, BackupDuty
from dfs_namenode.monitors.leader import Leader
from dfs_namenode.shipping import Shipper
from dfs_namenode.store import backups, counts, garbage, meta
from dfs_namenode.store.sqlite import SqliteStore
from fixtures.namenode_store import Bench, FakeClock, whole

INTERVAL_S = 60.0


class PaperTransport:
    """Datanodes that keep what they are sent. `down`: they can't be reached."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.down = False
        self.kept: dict[str, bytes] = {}
        self.hints: dict[str, Any] = {}

    def put_chunk(self, base_url: str, **sent: Any) -> StoredChunk:
        if self.down:
            raise NotSent(f"can't reach {base_url}")
        chunk, data = sent["chunk"], b"".join(sent["pieces"])
        self.kept[chunk], self.hints[chunk] = data, decode_hints(sent["hints"])
        receipts = [
            sign_receipt(
                self.bench.keys.of(name),
                chunk=chunk,
                length=len(data),
                digest=sent["root"],
                datanode=name,
                incarnation=node.incarnation,
                volume=node.volumes[0].id,
                principal=shipping.PRINCIPAL,
            )
            for name, node in self.bench.nodes.items()
        ]
        return StoredChunk(receipts=receipts)


class Duty:
    """A duty with all that it needs."""

    def __init__(self, directory: Path, *, interval_s: float = INTERVAL_S) -> None:
        self.directory = directory
        self.clock = FakeClock()
        self.store = SqliteStore.open(str(directory), clock=self.clock)
        self.bench = Bench(self.store, self.clock)
        self.store.write_blocking(lambda tx: meta.set_identity(tx, meta.Identity("c" * 32, "1" * 32)))
        leader = Leader(self.store, self.store.write_blocking(meta.take_lead))
        self.datanodes = PaperTransport(self.bench)
        shipper = Shipper(
            leader,
            self.bench.cluster,
            Reservations(self.clock),
            self.bench.keys,
            cast("Transport", self.datanodes),
            self.clock,
            replication=3,
            ttl_ms=60_000,
            window_ms=3_600_000,
        )
        self.duty = BackupDuty(
            self.store,
            shipper,
            self.clock,
            directory=str(directory),
            interval_s=interval_s,
            snapshot_interval_s=86_400,
        )

    def turn(self, after_s: float = INTERVAL_S) -> None:
        self.clock.advance(after_s)
        self.bench.run(self.duty.turn())

    def kinds(self) -> list[str]:
        with self.store.read() as snapshot:
            return [one.kind for one in backups.everything(snapshot)]

    def close(self) -> None:
        self.bench.close()
        self.store.close()


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Duty]:
    duty = Duty(tmp_path)
    yield duty
    duty.close()


def change(made: Duty, path: str) -> int:
    return made.bench.put(path, b"bytes", parents=True).seq


def test_a_snapshot_comes_first_then_only_what_changed_and_nothing_while_nothing_does(made: Duty) -> None:
    made.turn()
    assert made.kinds() == [], "nothing has ever happened"
    change(made, "/a")
    made.turn()
    assert made.kinds() == ["snapshot"]
    for _ in range(5):
        made.turn(3600)
    assert made.kinds() == ["snapshot"], "a backup must not be a change that calls for the next one"
    last = change(made, "/b")
    made.turn()
    assert made.kinds() == ["snapshot", "changes"]
    found = made.duty.status()
    assert found is not None
    assert (found.seq >= last, found.behind_s, found.failure, found.age_s) == (True, 0.0, "", 0.0)


def test_backups_come_no_closer_than_the_interval_and_changes_wait_visibly(made: Duty) -> None:
    change(made, "/a")
    made.turn()
    change(made, "/b")
    made.turn(INTERVAL_S / 2)
    assert made.kinds() == ["snapshot"]
    found = made.duty.status()
    assert found is not None
    assert found.behind_s == INTERVAL_S / 2
    made.turn(INTERVAL_S / 2)
    assert made.kinds() == ["snapshot", "changes"]


def test_what_can_not_be_stored_is_told_and_tried_again(made: Duty) -> None:
    change(made, "/a")
    made.datanodes.down = True
    made.turn()
    found = made.duty.status()
    assert found is not None
    assert "can't reach" in found.failure
    assert (found.seq, found.age_s, made.kinds()) == (0, None, [])
    made.datanodes.down = False
    made.turn(RETRY_S)
    found = made.duty.status()
    assert found is not None
    assert found.failure == ""
    assert made.kinds() == ["snapshot"]


def test_a_backup_is_whole_hinted_under_the_care_of_the_store_and_no_file(
    made: Duty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "PIECE_BYTES", 1500)
    change(made, "/a")
    made.turn()
    hints = sorted(made.datanodes.hints.values(), key=lambda hint: hint.part)
    assert len(hints) > 2
    assert all(isinstance(hint, MetadataHint) for hint in hints)
    assert [hint.part for hint in hints] == list(range(hints[0].parts))
    assert {(hint.what, hint.cluster, hint.parts) for hint in hints} == {("snapshot", "c" * 32, len(hints))}
    by_part = {made.datanodes.hints[chunk].part: data for chunk, data in made.datanodes.kept.items()}
    joined = b"".join(by_part[number] for number in range(len(hints)))
    assert len(joined) == hints[0].size
    assert b"".join(BackupReader(io.BytesIO(joined)).frames()).startswith(b"SQLite format 3")
    with made.store.read() as snapshot:
        counted = counts.count(snapshot)
        (backup,) = backups.everything(snapshot)
    assert (counted.files, counted.bytes, counted.chunks) == (1, 5, 1 + len(hints))
    # What is retired is swept and condemned; what is kept is not, however long it lies there.
    made.store.write_blocking(lambda tx: garbage.sweep_retired(tx, before_ms=1 << 60, rows=1000))
    assert made.store.write_blocking(lambda tx: garbage.condemn(tx, limit=1000)) == []
    made.store.write_blocking(lambda tx: backups.retire(tx, [backup.content_id]))
    made.store.write_blocking(lambda tx: garbage.sweep_retired(tx, before_ms=1 << 60, rows=1000))
    condemned = made.store.write_blocking(lambda tx: garbage.condemn(tx, limit=1000))
    assert sorted(condemned) == sorted(made.datanodes.kept)


def test_old_ones_are_retired_when_others_have_taken_their_place(made: Duty) -> None:
    for number in range(30):
        change(made, f"/{number}")
        made.turn()
    assert len(made.kinds()) < 12, "small ones are put together"
    for _ in range(3):
        change(made, "/again")
        made.turn(86_400)
    assert made.kinds().count("snapshot") == 2
    retired = made.bench.value("SELECT count(*) FROM retired")
    assert retired > 20


def test_a_lost_backup_is_replaced(made: Duty) -> None:
    change(made, "/a")
    made.turn()
    made.store.write_blocking(
        lambda tx: tx.run("DELETE FROM replica WHERE chunk_id = ?", (bytes.fromhex(next(iter(made.datanodes.kept))),))
    )
    found = made.duty.status()
    assert found is not None
    assert found.seq == 0
    made.turn()
    with made.store.read() as snapshot:
        assert [(one.kind, one.whole) for one in backups.everything(snapshot)] == [("snapshot", True)]


def test_what_a_killed_namenode_left_behind_is_cleared_away(made: Duty) -> None:
    left = made.directory / "backup.tmp"
    left.mkdir()
    (left / "copy").write_bytes(b"half a database")
    change(made, "/a")
    made.turn()
    assert made.kinds() == ["snapshot"]
    assert not left.exists()


def test_an_operator_gets_a_snapshot_of_now_whatever_is_kept_and_two_get_the_same(tmp_path: Path) -> None:
    made = Duty(tmp_path, interval_s=0)
    try:
        change(made, "/a")
        made.turn()
        assert made.kinds() == [], "0 switches the duty off"
        assert made.duty.status() is None

        async def both() -> list[BackupMade | None]:
            since_ms = made.clock.wall_ms()
            return list(await asyncio.gather(made.duty.now(since_ms, 10), made.duty.now(since_ms, 10)))

        first, second = made.bench.run(both())
        assert first is not None
        assert first == second
        assert made.kinds() == ["snapshot"]
        seq = made.bench.commit(MakeDirectory(path="/d")).seq
        made.clock.advance(1)
        later = made.bench.run(made.duty.now(made.clock.wall_ms(), 10))
        assert later.seq >= seq
        assert made.kinds() == ["snapshot", "snapshot"]
    finally:
        made.close()


def test_without_room_for_a_copy_nothing_is_written(made: Duty, monkeypatch: pytest.MonkeyPatch) -> None:
    change(made, "/a")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1 << 20})())
    made.turn()
    found = made.duty.status()
    assert found is not None
    assert "free bytes" in found.failure
    assert made.datanodes.kept == {}


def test_the_receipts_of_a_backup_commit_no_file(made: Duty) -> None:  # F92
    change(made, "/a")
    made.turn()
    chunk = made.bench.chunk(b"x", principal=shipping.PRINCIPAL)
    with pytest.raises(Exception, match="somebody else"):
        made.bench.commit(PutFile(path="/stolen", extents=[whole(chunk)]), chunks=[chunk])
