"""The bytes of a chunk: as a file on a datanode's disk, and as the body of a PUT or a GET.

On disk, everything at multiples of 4096 bytes, so that the file can be written and read with O_DIRECT:

    offset          size        what
    0               4096        header
    4096            length      data
    …               0…4095      zeros, to the next multiple of 4096
    F               8 × blocks  table: the xxh3_64 of each 16 KiB block of data
    …               hints       0 … HINTS_MAX bytes, with a digest of their own; see `hints`
    …               0…          zeros, so that the file's size is a multiple of 4096
    size − 64       64          trailer

    header   8 magic "DFSCHUNK" · u16 format version · u16 zero · u32 block size · 16 cluster · 16 lineage ·
             16 chunk · u64 length of the data, or 2^64−1 if unknown when the file was begun · u64 created, ms ·
             zeros · (the last 8 bytes) xxh3_64 of the 4088 before
    trailer  u64 length · u32 blocks · u32 hints · 16 root · 16 chunk · u64 xxh3_64 of everything from F up to
             here · 8 magic "DFSFOOT1"

Integers are little-endian, digests are in xxHash's canonical (big-endian) form. The file describes itself: no
side-car that can get lost. The trailer repeats the chunk's id, so that two halves of different files never match.

On the wire, a PUT's body is the data and then the *wire footer*: the table, the hints, u64 length, 16 root. A GET
answers `mode=exact` with exactly the bytes asked for; `mode=blocks` with the range widened to whole blocks;
`mode=table` with the whole table and then the same; `mode=hints` with the hints.
"""

import struct
from dataclasses import dataclass

import xxhash

from dfs.protocol.digests import BLOCK_DIGEST_SIZE, BLOCK_SIZE, ROOT_SIZE, Buffer, block_count, root_digest, table_size
from dfs.protocol.errors import CorruptReplica, DigestMismatch
from dfs.protocol.hints import HINTS_MAX, hints_are_whole

ALIGNMENT = 4096
"""Bytes; what O_DIRECT needs on every disk in use."""
FORMAT_VERSION = 1
HEADER_SIZE = 4096
UNKNOWN_LENGTH = (1 << 64) - 1

_HEADER_MAGIC = b"DFSCHUNK"
_TRAILER_MAGIC = b"DFSFOOT1"
_HEADER = struct.Struct("<8sHHI16s16s16sQQ")
_TRAILER = struct.Struct("<QII16s16sQ8s")
_U64 = struct.Struct("<Q")
TRAILER_SIZE = _TRAILER.size
WIRE_TAIL_SIZE = _U64.size + ROOT_SIZE
"""What follows the table and the hints in the wire footer."""

assert TRAILER_SIZE == 64


@dataclass(frozen=True)
class Header:
    cluster: str
    lineage: str
    chunk: str
    length: int | None
    """None: not known when the file was begun."""
    created_ms: int


@dataclass(frozen=True)
class Footer:
    chunk: str
    length: int
    table: bytes
    root: bytes
    hints: bytes = b""


def aligned(size: int) -> int:
    """`size` rounded up to a multiple of ALIGNMENT."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def footer_offset(length: int) -> int:
    """Where the footer of a chunk of `length` bytes begins in its file."""
    return HEADER_SIZE + aligned(length)


def footer_size(length: int, hints: int = 0) -> int:
    """Bytes of the footer on disk: table, hints, padding, trailer."""
    return aligned(table_size(length) + hints + TRAILER_SIZE)


def file_size(length: int, hints: int = 0) -> int:
    """Bytes of the whole file of a chunk of `length` bytes."""
    return footer_offset(length) + footer_size(length, hints)


def encode_header(header: Header) -> bytes:
    """The first 4096 bytes of the file."""
    length = UNKNOWN_LENGTH if header.length is None else header.length
    front = _HEADER.pack(
        _HEADER_MAGIC,
        FORMAT_VERSION,
        0,
        BLOCK_SIZE,
        bytes.fromhex(header.cluster),
        bytes.fromhex(header.lineage),
        bytes.fromhex(header.chunk),
        length,
        header.created_ms,
    )
    body = front.ljust(HEADER_SIZE - 8, b"\0")
    return body + xxhash.xxh3_64_digest(body)


def decode_header(raw: Buffer) -> Header:
    """What the first 4096 bytes say. Raises CorruptReplica."""
    raw = bytes(raw)
    if len(raw) != HEADER_SIZE or not raw.startswith(_HEADER_MAGIC):
        raise CorruptReplica("not a chunk file: the header has no magic")
    if xxhash.xxh3_64_digest(raw[:-8]) != raw[-8:]:
        raise CorruptReplica("the header of the chunk file is damaged")
    _, version, _, block_size, cluster, lineage, chunk, length, created_ms = _HEADER.unpack_from(raw)
    if version != FORMAT_VERSION or block_size != BLOCK_SIZE:
        raise CorruptReplica(f"a chunk file of format {version} with blocks of {block_size}; this version reads 1")
    return Header(cluster.hex(), lineage.hex(), chunk.hex(), None if length == UNKNOWN_LENGTH else length, created_ms)


def encode_footer(footer: Footer) -> bytes:
    """Everything behind the padded data."""
    if len(footer.table) != table_size(footer.length) or len(footer.hints) > HINTS_MAX:
        raise ValueError("a footer whose table or hints have the wrong size")
    total = footer_size(footer.length, len(footer.hints))
    body = (footer.table + footer.hints).ljust(total - TRAILER_SIZE, b"\0")
    front = _TRAILER.pack(
        footer.length,
        block_count(footer.length),
        len(footer.hints),
        footer.root,
        bytes.fromhex(footer.chunk),
        0,
        _TRAILER_MAGIC,
    )[:-16]
    return body + front + xxhash.xxh3_64_digest(body + front) + _TRAILER_MAGIC


@dataclass(frozen=True)
class Trailer:
    """The last 64 bytes of the file, not yet checked against the rest of the footer."""

    length: int
    blocks: int
    hints: int
    root: bytes
    chunk: str

    @property
    def footer_offset(self) -> int:
        return footer_offset(self.length)

    @property
    def footer_size(self) -> int:
        return footer_size(self.length, self.hints)


def decode_trailer(raw: Buffer) -> Trailer:
    """What the last 64 bytes say. Raises CorruptReplica. The digest over the footer is `decode_footer`'s to check."""
    raw = bytes(raw)
    if len(raw) != TRAILER_SIZE or not raw.endswith(_TRAILER_MAGIC):
        raise CorruptReplica("the chunk file has no trailer: it is cut off or was never finished")
    length, blocks, hints, root, chunk, _, _ = _TRAILER.unpack(raw)
    if blocks != block_count(length) or hints > HINTS_MAX:
        raise CorruptReplica("the trailer of the chunk file contradicts itself")
    return Trailer(length, blocks, hints, root, chunk.hex())


def decode_footer(raw: Buffer) -> Footer:
    """The footer in `raw`, which begins at `Trailer.footer_offset` and ends with the file. Raises CorruptReplica."""
    raw = bytes(raw)
    trailer = decode_trailer(raw[-TRAILER_SIZE:])
    if len(raw) != trailer.footer_size:
        raise CorruptReplica("the chunk file does not have the size that its trailer says")
    if xxhash.xxh3_64_digest(raw[:-16]) != raw[-16:-8]:
        raise CorruptReplica("the footer of the chunk file is damaged")
    end = table_size(trailer.length)
    table = raw[:end]
    if root_digest(trailer.length, table) != trailer.root:
        raise CorruptReplica("the table of the chunk file does not have the root that its trailer says")
    return Footer(trailer.chunk, trailer.length, table, trailer.root, raw[end : end + trailer.hints])


def wire_size(length: int, hints: int = 0) -> int:
    """The Content-Length of a PUT of `length` bytes of data with `hints` bytes of hints."""
    return length + table_size(length) + hints + WIRE_TAIL_SIZE


def encode_wire_footer(length: int, table: bytes, root: bytes, hints: bytes = b"") -> bytes:
    """What follows the data in a PUT."""
    return table + hints + _U64.pack(length) + root


def check_wire_footer(raw: Buffer, length: int, table: bytes, root: bytes) -> bytes:
    """Compare the sender's footer with what the receiver computed; the hints in it.

    Raises  DigestMismatch, which names the block, if it is one that differs: the sender sends the chunk again
    """
    raw = bytes(raw)
    hints = raw[len(table) : max(len(table), len(raw) - WIRE_TAIL_SIZE)]
    if raw == encode_wire_footer(length, table, root, hints):
        if not hints_are_whole(hints):
            raise DigestMismatch("the hints of the chunk are not what their digest says; send it again")
        return hints
    for number in range(block_count(length)):
        place = slice(number * BLOCK_DIGEST_SIZE, (number + 1) * BLOCK_DIGEST_SIZE)
        if raw[place] != table[place]:
            raise DigestMismatch(
                f"block {number} of the chunk is not what its digest says; send it again", block=number
            )
    raise DigestMismatch("the chunk is not what its digest says; send it again")


def block_range(offset: int, length: int, chunk_length: int) -> tuple[int, int]:
    """The range [start, end) of whole blocks that covers `length` bytes from `offset` on, clamped to the chunk."""
    start = offset // BLOCK_SIZE * BLOCK_SIZE
    end = min(-(-(offset + length) // BLOCK_SIZE) * BLOCK_SIZE, chunk_length)
    return start, end
