"""The digest tree: how every byte is checked at its position against one 16-byte root.

Data is cut into blocks of 16 KiB. Each block has an xxh3_64; the digests in order are the *table*; the root is
xxh3_128 over the length and the table. A reader that trusts the root needs the table once, and can then verify any
block alone. A chunk, an extent and a small file all use this one function over their own bytes, so that a file which
fills its chunk has the chunk's digest.
"""

import struct
from collections.abc import Iterable

import xxhash

BLOCK_SIZE = 16 * 1024
"""Bytes in one verified block. Part of the chunk format: changing it makes a new format version."""
BLOCK_DIGEST_SIZE = 8
ROOT_SIZE = 16

_LENGTH = struct.Struct("<Q")
Buffer = bytes | bytearray | memoryview


def block_count(length: int) -> int:
    """How many blocks `length` bytes make; the last one may be short."""
    return -(-length // BLOCK_SIZE)


def table_size(length: int) -> int:
    """Bytes of the table of `length` bytes of data."""
    return block_count(length) * BLOCK_DIGEST_SIZE


def block_digest(block: Buffer) -> bytes:
    """The 8-byte digest of one block: xxh3_64, big-endian as xxHash's canonical form has it."""
    return xxhash.xxh3_64_digest(block)


def block_table(data: Buffer) -> bytes:
    """The table of `data`, whose first byte begins a block: 8 bytes for each block."""
    view = memoryview(data)
    digest = xxhash.xxh3_64_digest
    return b"".join([digest(view[start : start + BLOCK_SIZE]) for start in range(0, len(view), BLOCK_SIZE)])


def root_digest(length: int, table: Buffer) -> bytes:
    """The 16-byte root over a length in bytes and the table that belongs to it."""
    state = xxhash.xxh3_128(_LENGTH.pack(length))
    state.update(table)
    return state.digest()


def tree_digest(data: Buffer) -> str:
    """The root of `data` as 32 hex digits, the form in which messages carry it."""
    if 0 < len(data) <= BLOCK_SIZE:
        # Most small files are one block: the same in two calls.
        return xxhash.xxh3_128_hexdigest(_LENGTH.pack(len(data)) + xxhash.xxh3_64_digest(data))
    return root_digest(len(data), block_table(data)).hex()


EMPTY_DIGEST = tree_digest(b"")
"""The digest of no bytes at all: what an empty file has."""


def first_bad_block(data: Buffer, table: Buffer, first_block: int = 0) -> int | None:
    """The number of the first block of `data` that differs from `table`, or None if all are right.

    data         begins at the block `first_block`; its last block may be short only where the table's last one is
    table        the verified table of the whole chunk
    """
    size = BLOCK_DIGEST_SIZE
    actual = block_table(data)
    expected = bytes(memoryview(table)[first_block * size : first_block * size + len(actual)])
    if actual == expected:
        return None
    for number in range(len(actual) // size):
        if actual[number * size : number * size + size] != expected[number * size : number * size + size]:
            return first_block + number
    raise AssertionError("tables of one length that differ have a first difference")


def range_digest(replicas: Iterable[tuple[bytes, bytes, int, bytes]]) -> tuple[int, str]:
    """What a datanode has of a range of ids, as one number: how many, and a digest in hex.

    replicas   id, volume, length and root of each, in the order of the ids
    """
    hasher = xxhash.xxh3_128()
    count = 0
    for chunk, volume, length, root in replicas:
        hasher.update(chunk + volume + length.to_bytes(8, "little") + root)
        count += 1
    return count, hasher.hexdigest()


class TreeHasher:
    """Builds the table of a stream that arrives in pieces of any size.

    Copies at most one block for each piece: whole blocks are hashed where they lie.
    """

    def __init__(self) -> None:
        self.length = 0
        self._table = bytearray()
        self._open_block = bytearray()

    def update(self, piece: Buffer) -> None:
        """Take the next bytes of the stream; they may be overwritten afterwards."""
        view = memoryview(piece)
        self.length += len(view)
        start = 0
        if self._open_block:
            start = min(BLOCK_SIZE - len(self._open_block), len(view))
            self._open_block += view[:start]
            if len(self._open_block) < BLOCK_SIZE:
                return
            self._table += block_digest(self._open_block)
            self._open_block.clear()
        whole = start + (len(view) - start) // BLOCK_SIZE * BLOCK_SIZE
        if whole > start:
            self._table += block_table(view[start:whole])
        self._open_block += view[whole:]

    def table(self) -> bytes:
        """The table of what came so far, the short last block included. The stream may go on afterwards."""
        if self._open_block:
            return bytes(self._table) + block_digest(self._open_block)
        return bytes(self._table)

    def root(self) -> bytes:
        """The 16-byte root of what came so far."""
        return root_digest(self.length, self.table())
