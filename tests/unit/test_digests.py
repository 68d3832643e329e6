"""The digest tree: one root, any order of arrival, every changed bit seen at its place."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfs.protocol.digests import (
    BLOCK_SIZE,
    EMPTY_DIGEST,
    TreeHasher,
    block_count,
    block_table,
    first_bad_block,
    root_digest,
    table_size,
    tree_digest,
)


@given(st.integers(0, 3 * BLOCK_SIZE + 1), st.lists(st.integers(1, 2 * BLOCK_SIZE), max_size=8), st.integers())
def test_the_root_does_not_depend_on_how_the_bytes_arrive(length: int, cuts: list[int], seed: int) -> None:
    data = random.Random(seed).randbytes(length)
    hasher = TreeHasher()
    start = 0
    for cut in cuts:
        hasher.update(data[start : start + cut])
        start += cut
    hasher.update(data[start:])
    assert hasher.table() == block_table(data)
    assert hasher.root().hex() == tree_digest(data)
    assert hasher.length == length
    assert len(hasher.table()) == table_size(length) == 8 * block_count(length)


@pytest.mark.parametrize("length", [1, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 5 * BLOCK_SIZE + 17])
def test_a_flipped_bit_is_found_in_its_block(length: int) -> None:
    data = bytearray(random.Random(length).randbytes(length))
    table = block_table(data)
    assert first_bad_block(data, table) is None
    place = length - 1
    data[place] ^= 1
    assert first_bad_block(data, table) == place // BLOCK_SIZE


def test_blocks_are_checked_at_their_position() -> None:
    data = random.Random(7).randbytes(4 * BLOCK_SIZE)
    table = block_table(data)
    second = data[BLOCK_SIZE : 2 * BLOCK_SIZE]
    assert first_bad_block(second, table, 1) is None
    assert first_bad_block(second, table, 2) == 2


def test_two_lengths_never_share_a_root() -> None:
    assert tree_digest(b"") == EMPTY_DIGEST == root_digest(0, b"").hex()
    assert tree_digest(b"\0") != tree_digest(b"\0\0")
