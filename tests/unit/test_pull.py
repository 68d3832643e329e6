"""Repair by pull: block by block from whoever has each right (F41, F42)."""

import os
import random
from pathlib import Path

import pytest

from dfs.protocol.digests import BLOCK_SIZE, block_table, tree_digest
from dfs.protocol.errors import CorruptReplica, DfsError, NotSent, OutcomeUnknown
from dfs.protocol.messages import Replicate, Target
from dfs_datanode.pull import PULL_BYTES, SMALL_BYTES, LocalSource, Pull, Source
from fixtures.disks import make_store, store_chunk

CHUNK = "a" * 32


class Replica:
    """A datanode that has the chunk, some blocks of it damaged; it checks what it sends, as datanodes do."""

    def __init__(self, name: str, data: bytes, bad: set[int] = frozenset(), *, lies: bool = False) -> None:  # type: ignore[assignment]
        self.name = name
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


class Away:
    name = "away"
    reads = 0

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
