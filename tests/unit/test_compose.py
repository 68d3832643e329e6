"""A new chunk of ranges of others (F100): every extent is compared, whoever gives it, and nothing else gets in."""

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfs.protocol.capability import derive_key, read_receipt, sign_capability
from dfs.protocol.chunk_format import encode_wire_footer
from dfs.protocol.clock import SystemClock
from dfs.protocol.digests import block_table, root_digest, tree_digest
from dfs.protocol.errors import CorruptReplica, DfsError, NotPermitted, NotSent
from dfs.protocol.hints import FileHint, FilesHint, decode_hints, encode_hints
from dfs.protocol.ids import new_id
from dfs.protocol.messages import (
    Compose,
    ComposedChunk,
    ComposeExtent,
    ComposeRun,
    ComposeSource,
    Registered,
    StoredChunk,
    Target,
)
from dfs_datanode import compose
from dfs_datanode.chunk_store import ChunkStore
from dfs_datanode.compose import ComposedBody, Composer, Origins, moved_hints
from dfs_datanode.findings import Findings
from dfs_datanode.identity import Identity
from dfs_datanode.membership import Membership, Standing
from dfs_datanode.outbox import Outbox
from dfs_datanode.pipeline import Order, Source, store_stream
from fixtures.disks import CLUSTER, LINEAGE, make_store, store_chunk
from fixtures.fake_namenode import SECRET

NEW = new_id(1_800_000_000_000)
KEY = derive_key(SECRET, "dn0")


def extents(data: bytes, spans: Iterable[tuple[int, int]]) -> list[ComposeExtent]:
    return [ComposeExtent(start, length, tree_digest(data[start : start + length])) for start, length in spans]


def run(data: bytes, at: int, *spans: tuple[int, int]) -> ComposeRun:
    """A run of extents that follow or overlap each other."""
    end = max(start + length for start, length in spans)
    return ComposeRun(spans[0][0], end - spans[0][0], at, extents(data, spans))


def source_of(chunk: str, data: bytes, *runs: ComposeRun, peers: int = 1) -> ComposeSource:
    return ComposeSource(
        chunk=chunk,
        length=len(data),
        digest=tree_digest(data),
        replicas=[Target(f"dn{number}", f"http://dn{number}:1") for number in range(peers)],
        capability="x",
        runs=list(runs),
    )


def command_of(*sources: ComposeSource, **more: Any) -> Compose:
    length = max(one.at + one.length for source in sources for one in source.runs)
    return Compose(**({"chunk": NEW, "length": length, "capability": "x", "sources": list(sources)} | more))


class Memory:
    """A replica in memory."""

    def __init__(self, data: bytes, name: str = "dn1", *, error: DfsError | None = None, hints: bytes = b"") -> None:
        self.name = name
        self.data = data
        self.error = error
        self.reads: list[tuple[int, int]] = []
        self._hints = hints

    def read(self, offset: int, into: memoryview) -> None:
        self.reads.append((offset, len(into)))
        if self.error is not None:
            raise self.error
        into[:] = self.data[offset : offset + len(into)]

    def hints(self) -> bytes:
        if self.error is not None:
            raise self.error
        return self._hints


def body_of(command: Compose, *origins: Memory, piece: int = 1 << 20) -> bytes:
    """All that the PUT's body is."""
    body = ComposedBody(command, [Origins([one], _nobody) for one in origins], hints=b"", pause=lambda count: None)
    got = bytearray()
    buffer = bytearray(piece)
    while count := body.readinto(memoryview(buffer)):
        got += buffer[:count]
    return bytes(got)


def _nobody(datanode: str) -> None:
    raise AssertionError(f"{datanode} is suspected")


def expected(data: bytes) -> bytes:
    table = block_table(data)
    return data + encode_wire_footer(len(data), table, root_digest(len(data), table))


def test_the_body_is_the_runs_with_zeros_between_them_and_the_footer() -> None:
    first, second = random.Random(1).randbytes(50_000), random.Random(2).randbytes(9_000_000)
    command = command_of(
        source_of("a" * 32, first, run(first, 0, (10, 20)), run(first, 20, (30_000, 20_000))),
        source_of("b" * 32, second, run(second, 32_768, (5, 8_000_000), (2_000_000, 6_500_000))),
    )
    whole = first[10:30] + first[30_000:50_000] + bytes(32_768 - 20_020) + second[5:8_500_000]
    for piece in (777, 1 << 20):
        assert body_of(command, Memory(first), Memory(second), piece=piece) == expected(whole)


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 400)), min_size=1, max_size=12), st.randoms())
def test_a_flipped_bit_in_any_live_byte_is_found(spans: list[tuple[int, int]], rng: random.Random) -> None:
    data = rng.randbytes(4000)
    spans.sort()
    runs, position, group = [], 0, [spans[0]]
    for span in [*spans[1:], (1 << 30, 1)]:
        if span[0] < max(start + length for start, length in group):
            group.append(span)
            continue
        runs.append(run(data, position, *group))
        position += runs[-1].length
        group = [span]
    command = command_of(source_of("a" * 32, data, *runs))
    live = [byte for start, length in spans for byte in range(start, start + length)]
    damaged = bytearray(data)
    damaged[rng.choice(live)] ^= 1 << rng.randrange(8)
    assert body_of(command, Memory(data))[: command.length] == b"".join(
        data[one.offset : one.offset + one.length] for one in runs
    )
    with pytest.raises(CorruptReplica):
        body_of(command, Memory(bytes(damaged)))


def test_dead_bytes_in_between_are_read_along_only_where_they_are_few() -> None:
    data = bytes(4 << 20)
    runs = [run(data, n * 10, (n * 1000, 10)) for n in range(50)] + [run(data, 500, (3 << 20, 10))]
    memory = Memory(data)
    body_of(command_of(source_of("a" * 32, data, *runs)), memory)
    assert memory.reads == [(0, 49_010), (3 << 20, 10)]


def test_a_replica_that_is_away_is_passed_over_and_suspected_and_one_that_is_damaged_is_not() -> None:
    data = random.Random(3).randbytes(1000)
    command = command_of(source_of("a" * 32, data, run(data, 0, (0, 500))))
    suspects: list[str] = []
    away = compose.PeerOrigin(Target("dn7", "http://127.0.0.1:1"), command.sources[0], compose.Transport())
    damaged = Memory(data, "dn8", error=CorruptReplica("a block is damaged"))
    body = ComposedBody(
        command, [Origins([away, damaged, Memory(data)], suspects.append)], hints=b"", pause=lambda count: None
    )
    view = memoryview(bytearray(500))
    assert body.readinto(view) == 500
    assert bytes(view) == data[:500]
    assert suspects == ["dn7"]
    with pytest.raises(NotSent):
        Origins([Memory(data, error=NotSent("refused"))], _nobody).read(0, view)


def test_a_command_whose_runs_lie_upon_each_other_is_refused() -> None:
    data = bytes(1000)
    overlapping = command_of(source_of("a" * 32, data, run(data, 0, (0, 100)), run(data, 50, (300, 100))))
    with pytest.raises(CorruptReplica, match="one place"):
        body_of(overlapping, Memory(data))
    with pytest.raises(CorruptReplica, match="runs make"):
        body_of(command_of(source_of("a" * 32, data, run(data, 0, (0, 100))), length=101), Memory(data))


def test_hints_of_the_files_that_moved_come_along_at_their_new_places() -> None:
    data = bytes(1000)
    files = [FileHint(f"/f{n}", n * 100, 100, 0, 100, "") for n in (3, 1, 2, 0, 5)]
    said = FilesHint(5, files, complete=True)
    source = source_of("a" * 32, data, run(data, 0, (100, 100), (200, 100)), run(data, 200, (500, 100)))
    moved = moved_hints([source], [said])
    assert [(one.path, one.offset) for one in moved.files] == [("/f1", 0), ("/f2", 100), ("/f5", 200)]
    assert (moved.written_ms, moved.complete) == (5, True)
    assert not moved_hints([source, source], [said, None]).complete


# --- the whole of it, on a disk ----------------------------------------------------------------------------------


class Trial:
    """A datanode's store with chunks on it, and no peers."""

    def __init__(self, root: Path) -> None:
        self.store: ChunkStore = make_store(root)
        self.membership = Membership(Identity(datanode="dn0"), "b" * 32, SystemClock(), lambda identity: None)
        self.membership.registered(
            Registered(
                cluster=CLUSTER, lineage=LINEAGE, key=KEY.hex(), incarnation=4, time_ms=1_800_000_000_000, seq=1,
                heartbeat_interval_s=3, report_interval_s=60,
            )
        )  # fmt: skip
        self.outbox = Outbox()
        self.after_storing: Callable[[], None] = lambda: None

    def put(self, source: Source, order: Order, standing: Standing, token: str) -> StoredChunk:
        def connect(datanode: str, hop: int) -> Any:
            raise NotSent("there are no others")

        stored = store_stream(
            source, order, store=self.store, standing=standing, connect=connect, suspect=self.outbox.suspect, now_ms=1
        )
        self.after_storing()
        return stored

    def compose(self, command: Compose, *, key: bytes = KEY) -> ComposedChunk:
        capability = sign_capability(
            {"dn0": key, "dn9": KEY},
            operation="w",
            chunk=command.chunk,
            start=0,
            end=command.length,
            expires_ms=1_900_000_000_000,
            principal="compaction",
        )
        composer = Composer(
            store=self.store,
            membership=self.membership,
            findings=Findings(self.outbox),
            transport=compose.Transport(),
            suspect=self.outbox.suspect,
            put=self.put,
            pause=lambda count: None,
        )
        return composer.compose(
            Compose(chunk=command.chunk, length=command.length, capability=capability, sources=command.sources)
        )


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(tmp_path)


def test_a_composed_chunk_is_stored_like_any_other_and_its_receipt_says_so(trial: Trial) -> None:
    data = random.Random(4).randbytes(200_000)
    store_chunk(trial.store, "a" * 32, data)
    command = command_of(source_of("a" * 32, data, run(data, 0, (3, 100_000)), run(data, 100_000, (150_000, 50_000))))
    answer = trial.compose(command)
    whole = data[3:100_003] + data[150_000:]
    assert (answer.length, answer.digest, answer.why) == (150_000, tree_digest(whole), "")
    receipt = read_receipt(answer.receipts[0], SECRET)
    assert (receipt.chunk.hex(), receipt.digest.hex(), receipt.principal) == (NEW, answer.digest, "compaction")
    reader = trial.store.open(NEW)
    assert b"".join(reader.pieces()) == whole
    assert isinstance(decode_hints(reader.read_hints()), FilesHint)
    assert trial.store.open("a" * 32).root.hex() == tree_digest(data), "the source stays as it is"


def test_the_hints_of_local_sources_are_carried_over(trial: Trial) -> None:
    data = bytes(1000)
    hints = encode_hints(FilesHint(1, [FileHint("/a", 500, 100, 0, 100, "")], complete=True))
    store_chunk(trial.store, "a" * 32, data, hints=hints)
    trial.compose(command_of(source_of("a" * 32, data, run(data, 0, (500, 100)))))
    found = decode_hints(trial.store.open(NEW).read_hints())
    assert isinstance(found, FilesHint)
    assert [(one.path, one.offset) for one in found.files] == [("/a", 0)]


def test_what_flips_between_the_comparison_and_the_disk_is_found_when_it_is_read_back(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = random.Random(5).randbytes(100_000)
    store_chunk(trial.store, "a" * 32, data)
    checked = compose.checked_parts
    first = True

    def flips(*arguments: Any) -> Any:
        nonlocal first
        flipping, first = first, False
        for one, offset, part in checked(*arguments):
            if flipping:
                part[0] ^= 1
            yield one, offset, part

    monkeypatch.setattr(compose, "checked_parts", flips)
    with pytest.raises(CorruptReplica, match="do not have their digest"):
        trial.compose(command_of(source_of("a" * 32, data, run(data, 0, (10, 50_000)))))


def test_a_wrong_extent_leaves_nothing_of_the_new_chunk(trial: Trial) -> None:
    data = random.Random(6).randbytes(100_000)
    store_chunk(trial.store, "a" * 32, data)
    wrong = ComposeRun(0, 50_000, 0, [ComposeExtent(0, 50_000, "0" * 32)])
    with pytest.raises(DfsError):
        trial.compose(command_of(source_of("a" * 32, data, wrong)))
    assert trial.store.find(NEW) is None
    assert not list((Path(trial.store.volumes[0].directory) / "tmp").iterdir())


def test_a_command_that_the_namenode_did_not_sign_is_refused(trial: Trial) -> None:
    data = bytes(1000)
    store_chunk(trial.store, "a" * 32, data)
    with pytest.raises(NotPermitted):
        trial.compose(command_of(source_of("a" * 32, data, run(data, 0, (0, 10)))), key=b"x" * 32)


def test_that_a_chunk_was_composed_is_told_until_it_is_delivered_and_not_taken_back() -> None:
    outbox = Outbox()
    outbox.composed(ComposedChunk(chunk=NEW, length=1, digest="d" * 32, receipts=["r"]))
    outbox.composed(ComposedChunk(chunk=NEW, why="this chunk id was used already"))
    [told] = outbox.batch().composed
    assert told.why == ""
    assert outbox.batch().composed == [told]
    outbox.delivered(outbox.batch())
    assert outbox.batch().composed == []
