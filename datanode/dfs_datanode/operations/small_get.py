"""Reads of a chunk that are answered in one piece: what a query asks for, what of it memory holds, ranges together.

Separate from `get_chunk`, which streams what is large: here nothing waits, so that a server may ask without a task.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from dfs.protocol.chunk_format import block_range
from dfs.protocol.digests import Buffer
from dfs_datanode.chunk_file import ChunkReader

ON_LOOP_MAX = 128 * 1024
"""Reads up to this size are tried without a thread: hashing them takes less time than the change of threads."""
SPAN_MAX = 1 << 20
"""Blocks that are read together for several ranges, bytes."""

ReadBlocks = Callable[[int, int], Buffer | None]
"""Verified bytes of whole blocks, or None: they can't be had without waiting."""


class Span(NamedTuple):
    """Whole blocks [start, end) of a chunk, and the ranges that lie in them."""

    start: int
    end: int
    ranges: list[tuple[int, int]]


def spans(ranges: Sequence[tuple[int, int]], chunk_length: int) -> list[Span]:
    """The blocks that hold some ranges, which are in order and do not overlap. Pure.

    Ranges that share a block, or touch, are in one span, as long as it is not longer than SPAN_MAX.
    """
    found: list[Span] = []
    for start, end in ranges:
        first, last = block_range(start, end - start, chunk_length)
        if found and first <= found[-1].end and last - found[-1].start <= SPAN_MAX:
            before = found[-1]
            before.ranges.append((start, end))
            found[-1] = Span(before.start, last, before.ranges)
        else:
            found.append(Span(first, last, [(start, end)]))
    return found


def read_spans(wanted: Sequence[Span], read: ReadBlocks) -> Buffer | None:
    """The bytes of all ranges, one behind the other; None as soon as some can't be had.

    Raises  CorruptReplica, OSError
    """
    pieces: list[Buffer] = []
    for span in wanted:
        data = read(span.start, span.end)
        if data is None:
            return None
        if len(span.ranges) == 1 and span.ranges[0] == (span.start, span.end):
            pieces.append(data)
            continue
        view = memoryview(data)
        pieces += [view[start - span.start : end - span.start] for start, end in span.ranges]
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def read_now(reader: ChunkReader, ranges: Sequence[tuple[int, int]]) -> Buffer | None:
    """The bytes of all ranges if they are few and memory holds them, else None. Raises CorruptReplica."""
    wanted = spans(ranges, reader.length)
    if sum(span.end - span.start for span in wanted) > ON_LOOP_MAX:
        return None
    return read_spans(wanted, reader.read_blocks_cached)
