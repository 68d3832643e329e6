"""The pipeline with sources and peers that do as the test says: who is blamed, who is spared, what is stored."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dfs.protocol.capability import derive_key, read_receipt
from dfs.protocol.digests import Buffer, tree_digest
from dfs.protocol.errors import DfsError, DigestMismatch, InvalidRequest, NoSpace, NotSent, OutcomeUnknown
from dfs.protocol.messages import FailedHop, StoredChunk
from dfs_datanode.chunk_store import ChunkStore
from dfs_datanode.membership import Standing
from dfs_datanode.pipeline import Order, store_stream
from fixtures.disks import CLUSTER, EIO, LINEAGE, FaultyDisk, make_store, wire_footer
from fixtures.fake_namenode import SECRET

CHUNK = "0123456789abcdef0123456789abcdef"
DATA = bytes(range(256)) * 12_000
STANDING = Standing("a", CLUSTER, LINEAGE, derive_key(SECRET, "a"), incarnation=3)


class FakeSource:
    """Gives a body in pieces of one size, and then ends as told."""

    def __init__(self, body: bytes, piece: int = 70_000, end: Exception | None = None) -> None:
        self._body = body
        self._piece = piece
        self._end = end

    def readinto(self, view: memoryview) -> int:
        count = min(len(view), self._piece, len(self._body))
        if count == 0 and self._end is not None:
            raise self._end
        view[:count] = self._body[:count]
        self._body = self._body[count:]
        return count


class FakePeer:
    """A datanode behind us. `fail_after` bytes it raises; at the end it answers."""

    def __init__(
        self,
        answer: StoredChunk | DfsError,
        *,
        fail_after: int | None = None,
        on_finish: Callable[[], None] | None = None,
    ) -> None:
        self.got = bytearray()
        self.aborted = False
        self._answer = answer
        self._fail_after = fail_after
        self._on_finish = on_finish

    def send(self, piece: Buffer) -> None:
        self.got += piece
        if self._fail_after is not None and len(self.got) > self._fail_after:
            raise OutcomeUnknown("the connection broke")

    def finish(self) -> StoredChunk:
        if self._on_finish is not None:
            self._on_finish()
        if isinstance(self._answer, DfsError):
            raise self._answer
        return self._answer

    def abort(self) -> None:
        self.aborted = True


class Trial:
    def __init__(self, store: ChunkStore, chain: tuple[str, ...], peers: dict[str, FakePeer | DfsError]) -> None:
        self.store = store
        self.chain = chain
        self.peers = peers
        self.connected: list[tuple[str, int]] = []
        self.suspects: list[str] = []

    def _connect(self, datanode: str, hop: int) -> FakePeer:
        self.connected.append((datanode, hop))
        peer = self.peers[datanode]
        if isinstance(peer, DfsError):
            raise peer
        return peer

    def run(self, source: FakeSource | None = None) -> StoredChunk:
        return store_stream(
            source or FakeSource(DATA + wire_footer(DATA)),
            Order(CHUNK, len(DATA), "alice", self.chain, self.chain.index("a")),
            store=self.store,
            standing=STANDING,
            connect=self._connect,
            suspect=self.suspects.append,
            now_ms=1,
        )

    def stored_here(self) -> bool:
        return self.store.find(CHUNK) is not None


def failures(stored: StoredChunk) -> list[tuple[str, bool]]:
    return [(hop.datanode, hop.culprit) for hop in stored.failed]


@pytest.fixture
def store(tmp_path: Path) -> ChunkStore:
    return make_store(tmp_path)


def test_a_chain_of_one_gives_one_receipt(store: ChunkStore) -> None:
    stored = Trial(store, ("a",), {}).run()
    receipt = read_receipt(stored.receipts[0], SECRET)
    assert (receipt.datanode, receipt.incarnation, receipt.principal) == ("a", 3, "alice")
    assert (receipt.chunk.hex(), receipt.length, receipt.digest.hex()) == (CHUNK, len(DATA), tree_digest(DATA))
    assert receipt.volume.hex() == store.volumes[0].id
    assert stored.failed == []


def test_the_next_member_gets_the_same_body_and_its_receipts_follow_ours(store: ChunkStore) -> None:
    peer = FakePeer(StoredChunk(receipts=["b's", "c's"]))
    trial = Trial(store, ("a", "b", "c"), {"b": peer})
    stored = trial.run()
    assert bytes(peer.got) == DATA + wire_footer(DATA)
    assert trial.connected == [("b", 1)]
    assert stored.receipts[1:] == ["b's", "c's"]


def test_bytes_travel_on_before_the_last_one_has_come(store: ChunkStore) -> None:
    peer = FakePeer(StoredChunk(receipts=["b's"]))

    class Watching(FakeSource):
        seen = 0

        def readinto(self, view: memoryview) -> int:
            assert len(peer.got) == self.seen
            count = super().readinto(view)
            self.seen += count
            return count

    body = DATA + wire_footer(DATA)
    trial = Trial(store, ("a", "b"), {"b": peer})
    # The footer travels as one piece, once it is whole.
    source = Watching(body[: len(DATA)], piece=50_000, end=ConnectionError("the end of the data"))
    with pytest.raises(InvalidRequest):
        trial.run(source)
    assert len(peer.got) == len(DATA)


def test_a_refused_member_is_skipped(store: ChunkStore) -> None:  # F1
    peer = FakePeer(StoredChunk(receipts=["c's"]))
    trial = Trial(store, ("a", "b", "c"), {"b": NotSent("refused"), "c": peer})
    stored = trial.run()
    assert stored.receipts[1:] == ["c's"]
    assert failures(stored) == [("b", True)]
    assert trial.connected == [("b", 1), ("c", 2)]
    assert trial.suspects == ["b"]


def test_when_all_behind_are_refused_our_own_receipt_is_left(store: ChunkStore) -> None:  # F1
    stored = Trial(store, ("a", "b", "c"), {"b": NotSent("refused"), "c": NotSent("refused")}).run()
    assert len(stored.receipts) == 1
    assert failures(stored) == [("b", True), ("c", True)]


def test_a_member_that_breaks_in_mid_stream_ends_the_branch_and_is_the_only_culprit(store: ChunkStore) -> None:  # F3
    peer = FakePeer(StoredChunk(receipts=[]), fail_after=100_000)
    trial = Trial(store, ("a", "b", "c"), {"b": peer})
    stored = trial.run()
    assert len(stored.receipts) == 1
    assert failures(stored) == [("b", True), ("c", False)]
    assert trial.suspects == ["b"]
    assert peer.aborted
    assert len(peer.got) < 300_000, "nothing more is sent to a dead branch"


@pytest.mark.parametrize("answer", [OutcomeUnknown("no progress in time"), DigestMismatch("a bit flipped on the way")])
def test_a_member_that_does_not_acknowledge_is_the_culprit(store: ChunkStore, answer: DfsError) -> None:  # F5, F10, F11
    stored = Trial(store, ("a", "b"), {"b": FakePeer(answer)}).run()
    assert len(stored.receipts) == 1
    assert failures(stored) == [("b", True)]


def test_failures_further_down_are_handed_up(store: ChunkStore) -> None:  # F4
    answer = StoredChunk(receipts=["b's"], failed=[FailedHop("c", "dead")])
    stored = Trial(store, ("a", "b", "c"), {"b": FakePeer(answer)}).run()
    assert stored.receipts[1:] == ["b's"]
    assert failures(stored) == [("c", True)]


def test_the_replica_here_is_durable_before_the_answer_from_behind_is_awaited(tmp_path: Path) -> None:
    disk = FaultyDisk()
    trial = Trial(make_store(tmp_path, disk=disk), ("a", "b"), {})
    synced: list[bool] = []
    trial.peers["b"] = FakePeer(StoredChunk(receipts=["b's"]), on_finish=lambda: synced.append("sync" in disk.calls))
    trial.run()
    assert synced == [True]


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (FakeSource(b"\x01" + DATA[1:] + wire_footer(DATA)), DigestMismatch),  # F12
        (FakeSource(DATA + wire_footer(DATA)[:-1] + b"?"), DigestMismatch),
        (FakeSource(DATA[:-1]), InvalidRequest),  # F83
        (FakeSource(DATA + wire_footer(DATA)[:-1], end=ConnectionError("gone")), InvalidRequest),  # F15
        (FakeSource(DATA[:100_000], end=TimeoutError()), InvalidRequest),  # F80
    ],
)
def test_a_bad_body_stores_nothing_here_and_gives_the_branch_up(
    store: ChunkStore, source: FakeSource, error: type[DfsError]
) -> None:
    peer = FakePeer(StoredChunk(receipts=["b's"]))
    trial = Trial(store, ("a", "b"), {"b": peer})
    with pytest.raises(error):
        trial.run(source)
    assert peer.aborted
    assert not trial.stored_here()
    assert os.listdir(os.path.join(store.volumes[0].directory, "tmp")) == []
    assert trial.suspects == []


@pytest.mark.parametrize("call", ["reserve", "write", "sync"])
def test_a_failing_disk_here_fails_this_hop_and_gives_the_branch_up(tmp_path: Path, call: str) -> None:  # F33, F36
    disk = FaultyDisk()
    peer = FakePeer(StoredChunk(receipts=["b's"]))
    trial = Trial(make_store(tmp_path, disk=disk), ("a", "b"), {"b": peer})
    disk.fail(call, EIO)
    with pytest.raises(NoSpace):
        trial.run()
    disk.heal()
    assert not trial.stored_here()
    assert peer.aborted or not trial.connected


@pytest.mark.parametrize(("bytes_a_second", "ends"), [(100, True), (5000, False)])
def test_a_sender_that_trickles_is_given_up_and_a_slow_one_is_not(  # F80
    store: ChunkStore, bytes_a_second: int, ends: bool
) -> None:
    now_s = [0.0]

    class Slow(FakeSource):
        def readinto(self, view: memoryview) -> int:
            count = super().readinto(view)
            now_s[0] += count / bytes_a_second
            return count

    data = DATA[:200_000]
    trial = Trial(store, ("a",), {})
    order = Order(CHUNK, len(data), "alice", ("a",), 0)

    def run() -> StoredChunk:
        return store_stream(
            Slow(data + wire_footer(data), piece=1000), order, store=store, standing=STANDING,
            connect=trial._connect, suspect=trial.suspects.append, now_ms=1, monotonic_s=lambda: now_s[0],
        )  # fmt: skip

    if ends:
        with pytest.raises(InvalidRequest, match="trickled"):
            run()
        assert not trial.stored_here()
    else:
        assert run().receipts


class FlippingMemory:
    """The next datanode, and the memory of the one before it, where a bit flips after it was hashed."""

    def __init__(self, store: ChunkStore, at: int) -> None:
        self._store = store
        self._at = at
        self._body = bytearray()

    def send(self, piece: Buffer) -> None:
        self._body += piece

    def finish(self) -> StoredChunk:
        self._body[self._at] ^= 1
        return store_stream(
            FakeSource(bytes(self._body)),
            Order(CHUNK, len(DATA), "alice", ("a", "b"), 1),
            store=self._store,
            standing=Standing("b", CLUSTER, LINEAGE, derive_key(SECRET, "b"), incarnation=1),
            connect=lambda _datanode, _hop: FakePeer(StoredChunk(receipts=[])),
            suspect=lambda _datanode: None,
            now_ms=1,
        )

    def abort(self) -> None: ...


@pytest.mark.parametrize(
    "at", [0, len(DATA) // 2, len(DATA) - 1, len(DATA) + 3, len(DATA) + len(wire_footer(DATA)) - 1]
)
def test_a_bit_that_flips_in_the_memory_of_the_first_datanode_is_stored_nowhere(tmp_path: Path, at: int) -> None:  # F13
    for name in "ab":
        (tmp_path / name).mkdir()
    here, there = make_store(tmp_path / "a"), make_store(tmp_path / "b")
    trial = Trial(here, ("a", "b"), {})
    trial.peers["b"] = FlippingMemory(there, at)  # type: ignore[assignment]
    stored = trial.run()
    # The digests come from the client: whoever is behind the flip finds it, and what lies here is right.
    assert [read_receipt(receipt, SECRET).datanode for receipt in stored.receipts] == ["a"]
    assert failures(stored) == [("b", True)]
    assert there.find(CHUNK) is None
    assert read_receipt(stored.receipts[0], SECRET).digest.hex() == tree_digest(DATA)
    assert trial.stored_here()
