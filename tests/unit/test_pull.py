"""Repair by pull: block by block from whoever has each right (F41, F42)."""

import os
import random
from pathlib import Path

import pytest

from dfs.protocol.digests import BLOCK_SIZE, block_table, tree_digest
from dfs.protocol.errors import CorruptReplica, DfsError, NotSent, OutcomeUnknown
from dfs.protocol.hints import FileHint, FilesHint, encode_hints
from dfs.protocol.messages import Replicate, Target
from dfs_datanode.pull import PULL_BYTES, SMALL_BYTES, LocalSource, Pull, Source
from fixtures.disks import make_store, store_chunk

CHUNK = "a" * 32


class Replica:
    """A datanode that has the chunk, some blocks of it damaged; it checks what it sends, as datanodes do."""

    def __init__(
        self, name: str, data: bytes, bad: set[int] = frozenset(), *, lies: bool = False, hints: bytes = b""  # type: ignore[assignment]
    ) -> None:  # fmt: skip
        self.name = name
        self.hints = hints
        self.data = bytearray(data)
        self.table = block_table(data)
        self.bad = bad
        self.lies = lies
        self.reads = 0
        for block in bad:
            self.data[block * BLOCK_SIZE] ^= 1

    def read_table(self, table: memoryview, offset: int, piece: memoryview) -> None:
        self.read(offset, piece)
        table[:] = self.table

    def read(self, offset: int, piece: memoryview) -> None:
        self.reads += 1
        first, last = offset // BLOCK_SIZE, (offset + len(piece) - 1) // BLOCK_SIZE
        met = min(self.bad & set(range(first, last + 1)), default=None)
        if not self.lies and met is not None:
            if met * BLOCK_SIZE >= offset + SMALL_BYTES:
                raise OutcomeUnknown("ended its answer early")
            raise CorruptReplica("damaged")
        piece[:] = self.data[offset : offset + len(piece)]

    def read_hints(self) -> bytes:
        return self.hints


class Away:
    name = "away"
    reads = 0

    def read_hints(self) -> bytes:
        raise NotSent("refused")

    def read_table(self, table: memoryview, offset: int, piece: memoryview) -> None:
        self.read(offset, piece)

    def read(self, offset: int, piece: memoryview) -> None:
        self.reads += 1
        raise NotSent("refused")


def pull(data: bytes, sources: list[Source], suspects: list[str] | None = None) -> bytes:
    command = Replicate(
        chunk=CHUNK, length=len(data), digest=tree_digest(data), sources=[Target("x", "http://x:1")], capability="x"
    )
    told = [] if suspects is None else suspects
    paused: list[int] = []
    made = Pull(command, sources, suspect=told.append, pause=paused.append)
    got = b"".join(bytes(piece) for piece in made.pieces())
    assert made.table == block_table(data)
    assert sum(paused) == len(data)
    return got


@pytest.mark.parametrize("size", [1, BLOCK_SIZE + 1, PULL_BYTES, PULL_BYTES + 5 * BLOCK_SIZE + 7])
def test_sources_that_are_all_damaged_in_different_blocks_make_one_good_replica(size: int) -> None:  # F42
    data = os.urandom(size)
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    blocks = -(-size // BLOCK_SIZE)
    bad: list[set[int]] = [set(), set(), set()]
    for block in range(blocks):
        for owner in rng.sample(range(3), rng.randint(0, 2)):
            bad[owner].add(block)
    sources: list[Source] = [Replica(f"dn{number}", data, bad[number], lies=number == 2) for number in range(3)]
    assert pull(data, sources) == data


def test_a_block_that_is_bad_everywhere_is_an_error_and_no_replica() -> None:  # F42
    data = os.urandom(3 * BLOCK_SIZE)
    with pytest.raises(CorruptReplica):
        pull(data, [Replica("dn1", data, {1}), Replica("dn2", data, {1, 2}, lies=True)])


def test_a_source_that_is_away_is_asked_once_and_told_of() -> None:
    data = os.urandom(2 * PULL_BYTES)
    away, suspects = Away(), list[str]()
    assert pull(data, [away, Replica("dn1", data, {0}), Replica("dn2", data, {300})], suspects) == data
    assert (away.reads, suspects) == (1, ["away"])
    with pytest.raises(DfsError):
        pull(data, [Away()])


def test_a_source_that_hangs_costs_two_time_outs_and_no_more() -> None:  # F10
    class Hanging(Away):
        def read(self, offset: int, piece: memoryview) -> None:
            self.reads += 1
            raise OutcomeUnknown("timed out")

    data = os.urandom(3 * PULL_BYTES)
    hanging, suspects = Hanging(), list[str]()
    others: list[Source] = [Replica("dn1", data, {0, 300}), Replica("dn2", data, {1, 301})]
    assert pull(data, [hanging, *others], suspects) == data
    assert (hanging.reads, suspects) == (2, ["away"])


def test_a_source_with_another_chunk_gives_nothing() -> None:  # F41 F97
    data = os.urandom(4 * BLOCK_SIZE)
    other = Replica("dn1", os.urandom(4 * BLOCK_SIZE))
    assert pull(data, [other, Replica("dn2", data)]) == data
    with pytest.raises(CorruptReplica):
        pull(data, [other])


def test_the_bad_replica_here_gives_the_blocks_that_nobody_else_has(tmp_path: Path) -> None:  # F42
    data = os.urandom(10 * BLOCK_SIZE)
    store = make_store(tmp_path)
    store_chunk(store, CHUNK, data)
    with open(store.volumes[0].path_of(CHUNK), "r+b") as file:
        file.seek(4096 + 2 * BLOCK_SIZE)
        file.write(b"rotten")
    here = LocalSource(store.open_uncached(CHUNK))
    assert pull(data, [Replica("dn1", data, {0, 9}), Replica("dn2", data, {9}), here]) == data


HINTS = encode_hints(FilesHint(1, [FileHint("/a", 0, 5, 0, 5, "")], complete=True))


def pull_hints(*sources: Source) -> bytes:
    command = Replicate(chunk=CHUNK, length=5, digest=tree_digest(b"bytes"), sources=[Target("x", "http://x:1")],
                        capability="x")  # fmt: skip
    return Pull(command, sources, suspect=[].append, pause=lambda _: None).hints()


def test_hints_come_from_the_first_source_that_has_whole_ones() -> None:
    damaged = bytearray(HINTS)
    damaged[3] ^= 1
    none, bad, good = (Replica(str(n), b"bytes", hints=bytes(hints)) for n, hints in enumerate((b"", damaged, HINTS)))
    assert pull_hints(none, bad, good) == HINTS
    assert pull_hints(Away(), good, none) == HINTS


def test_hints_that_nobody_gives_are_no_reason_not_to_pull() -> None:
    away, data = Away(), os.urandom(BLOCK_SIZE + 1)
    assert pull_hints(away, Replica("dn1", data)) == b""
    assert pull_hints(away) == b""
    assert away.reads == 0
    assert pull(data, [Replica("dn1", data)]) == data


def test_a_source_that_gave_no_hints_is_still_asked_for_the_data() -> None:
    class Mute(Replica):
        def read_hints(self) -> bytes:
            raise OutcomeUnknown("made no progress", stalled=True)

    data = os.urandom(BLOCK_SIZE)
    command = Replicate(chunk=CHUNK, length=len(data), digest=tree_digest(data), sources=[Target("x", "http://x:1")],
                        capability="x")  # fmt: skip
    suspects: list[str] = []
    made = Pull(command, [Mute("dn1", data)], suspect=suspects.append, pause=lambda _: None)
    assert made.hints() == b""
    assert b"".join(bytes(piece) for piece in made.pieces()) == data
    assert suspects == []


def test_the_bad_replica_here_gives_its_hints_if_nobody_else_has_them(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store_chunk(store, CHUNK, b"bytes", hints=HINTS)
    with open(store.volumes[0].path_of(CHUNK), "r+b") as file:
        file.seek(4096)
        file.write(b"r")
    assert pull_hints(Away(), LocalSource(store.open_uncached(CHUNK))) == HINTS
