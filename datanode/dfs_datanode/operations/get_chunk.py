"""get_chunk: verified bytes of a chunk, no more than the capability allows.

Every block is checked against the chunk's own table before a byte of it leaves, so that rot is found where it
happened. What memory holds is answered on the event loop at once; whatever may wait for a disk is a thread's work.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal, ParamSpec, TypeVar
from urllib.parse import parse_qsl

from dfs.protocol.bodies import send_whole
from dfs.protocol.capability import REPAIR_PRINCIPAL, Capability, check_capability
from dfs.protocol.chunk_format import block_range
from dfs.protocol.digests import BLOCK_SIZE, Buffer
from dfs.protocol.errors import (
    CorruptReplica,
    DfsError,
    InvalidRequest,
    NotPermitted,
    RangeNotSatisfiable,
    Unavailable,
)
from dfs.protocol.operations import HEADER_CAPABILITY, RANGES_BYTES_MAX, RANGES_MAX
from dfs.protocol.server import Answer, Receive, Scope, Send, cut_off, header
from dfs_datanode.chunk_file import ChunkReader
from dfs_datanode.chunk_store import ChunkStore
from dfs_datanode.disk import is_short_of_means
from dfs_datanode.findings import Findings
from dfs_datanode.membership import Membership
from dfs_datanode.throttle import TokenBucket

PIECE_BYTES = 1 << 20
"""Read, checked and sent at once."""
ON_LOOP_MAX = 128 * 1024
"""Reads up to this size are tried without a thread: hashing them takes less time than the change of threads."""

PAUSE_MAX_S = 2.0
"""The longest that a repair waits for its next piece: the puller takes a longer silence for a failure."""

_RANGES = re.compile("[0-9]{1,18}-[0-9]{1,18}(?:,[0-9]{1,18}-[0-9]{1,18})*")

P = ParamSpec("P")
T = TypeVar("T")
Mode = Literal["exact", "blocks", "table", "hints"]


@dataclass(frozen=True)
class Wanted:
    """A range as the request spells it; with the mode `hints` it says nothing."""

    offset: int
    length: int
    mode: Mode
    ranges: tuple[tuple[int, int], ...] = ()
    """Start and end of each, instead of `offset` and `length`."""


class GetChunk:
    """The handler. Owns the threads that read.

    suspected  called when a reader got no good bytes, after the findings have it
    limit      of the bytes that are sent for repairs
    """

    def __init__(
        self,
        *,
        store: ChunkStore,
        membership: Membership,
        findings: Findings,
        suspected: Callable[[], None],
        threads: int,
        limit: TokenBucket,
    ) -> None:
        self.active = 0
        self.bytes_sent = 0
        self._store = store
        self._membership = membership
        self._findings = findings
        self._suspected = suspected
        self._limit = limit
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="get")

    async def __call__(self, scope: Scope, receive: Receive, send: Send, chunk: str) -> None:
        standing = self._membership.standing()
        wanted = read_query(scope["query_string"])
        capability = check_capability(
            header(scope, HEADER_CAPABILITY) or "",
            standing.key,
            datanode=standing.datanode,
            operation="r",
            chunk=chunk,
            now_ms=self._membership.clock.wall_ms(),
        )
        self.active += 1
        try:
            await self._answer(wanted, capability, chunk, scope, receive, send)
        except CorruptReplica as error:
            raise self._corrupt(chunk, error) from error
        except OSError as error:
            if isinstance(error, DfsError):
                raise
            if is_short_of_means(error):
                raise Unavailable(
                    f"this datanode can't open another file now ({error}); read another replica"
                ) from error
            raise self._corrupt(chunk, error) from error
        finally:
            self.active -= 1

    def _corrupt(self, chunk: str, error: Exception) -> CorruptReplica:
        """Tell the namenode, which decides what becomes of the replica; the reader goes elsewhere."""
        self._store.forget(chunk)
        self._findings.suspect(chunk, str(error))
        self._suspected()
        if isinstance(error, CorruptReplica):
            return error
        return CorruptReplica(f"this replica can't be read ({error}); read another one")

    async def _answer(
        self, wanted: Wanted, capability: Capability, chunk: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        reader = self._store.open_now(chunk)
        if reader is None:
            reader = await self._in_thread(self._store.open, chunk)
        if wanted.mode == "hints":
            check_whole(capability, reader.length)
            await self._send_whole(scope, send, await self._in_thread(reader.read_hints))
            return
        if wanted.ranges:
            check_ranges(wanted.ranges, capability, reader.length)
            body = await self._in_thread(_read_ranges, reader, wanted.ranges)
            await self._send_whole(scope, send, body)
            self._limit_for(capability, len(body))
            return
        start, end = check_range(wanted, capability, reader.length)
        first_start, first_end = _piece(start, end, start, reader.length)
        # The first piece is read before the answer begins, so that a bad replica is an error and not a short body.
        piece = await self._read(reader, first_start, first_end)
        prefix = reader.table if wanted.mode == "table" else b""
        if first_end >= end and not prefix:
            await self._send_whole(scope, send, memoryview(piece)[start - first_start : end - first_start])
            self._limit_for(capability, end - start)
            return
        await self._begin(send, len(prefix) + end - start)
        if prefix:
            await send({"type": "http.response.body", "body": prefix, "more_body": True})
        if first_end >= end:
            await self._send_piece(send, piece, first_start, start, end, more=False)
            self._limit_for(capability, end - start)
            return
        try:
            async with _watching(receive) as gone:
                position = first_start
                while position < end and not gone.is_set():
                    following = _piece(start, end, first_end, reader.length) if first_end < end else None
                    # Read on while this piece travels, so that the disk and the network work at the same time.
                    reading = None if following is None else asyncio.ensure_future(self._read(reader, *following))
                    try:
                        await self._send_piece(send, piece, position, start, end, more=reading is not None)
                    finally:
                        if reading is not None:
                            await asyncio.wait([reading])
                    if reading is None or following is None:
                        return
                    pause_s = self._limit_for(capability, len(piece))
                    if pause_s:
                        await asyncio.sleep(min(pause_s, PAUSE_MAX_S))
                    piece = reading.result()
                    position, first_end = following
        except (CorruptReplica, OSError) as error:
            # Too late for an error: the body ends short, and the reader takes the rest from elsewhere.
            if isinstance(error, CorruptReplica) or not is_short_of_means(error):
                self._corrupt(chunk, error)
            await cut_off(scope)

    async def _begin(self, send: Send, length: int) -> None:
        """Begin an answer with a body of `length` bytes."""
        headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _send_whole(self, scope: Scope, send: Send, body: Buffer) -> None:
        self.bytes_sent += len(body)
        await send_whole(scope, send, Answer(200, body, content_type=b"application/octet-stream"))

    def _limit_for(self, capability: Capability, count: int) -> float:
        """The seconds to wait after so many bytes: only repairs have a limit."""
        return self._limit.take(count) if capability.principal == REPAIR_PRINCIPAL else 0.0

    async def _send_piece(self, send: Send, piece: Buffer, place: int, start: int, end: int, *, more: bool) -> None:
        """Send what of the piece, which begins at `place`, lies in [start, end)."""
        body = memoryview(piece)[max(0, start - place) : end - place]
        self.bytes_sent += len(body)
        await send({"type": "http.response.body", "body": body, "more_body": more})

    async def _read(self, reader: ChunkReader, start: int, end: int) -> Buffer:
        if end - start <= ON_LOOP_MAX:
            cached = reader.read_blocks_cached(start, end)
            if cached is not None:
                return cached
        return await self._in_thread(reader.read_blocks, start, end)

    async def _in_thread(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: function(*arguments, **named))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def read_query(query: bytes) -> Wanted:
    """The range that a query asks for. Raises InvalidRequest."""
    try:
        fields = dict(parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=8))
    except ValueError:
        raise InvalidRequest("the query must have offset, length and mode") from None
    mode = fields.get("mode", "exact")
    if mode == "hints":
        return Wanted(0, 0, "hints")
    if mode not in ("exact", "blocks", "table"):
        raise InvalidRequest(f"mode is exact, blocks, table or hints, not {mode!r}")
    if "ranges" in fields:
        return Wanted(0, 0, "blocks", _ranges(fields["ranges"], mode))
    numbers = []
    for name in ("offset", "length"):
        text = fields.get(name, "")
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise InvalidRequest(f"{name} must be a number of bytes, not {text!r}")
        numbers.append(int(text))
    if numbers[1] == 0:
        raise InvalidRequest("a read of no bytes")
    return Wanted(numbers[0], numbers[1], mode)  # type: ignore[arg-type]


def check_range(wanted: Wanted, capability: Capability, chunk_length: int) -> tuple[int, int]:
    """The range [start, end) to answer with. A capability for a part of a pack never shows a neighbour's bytes.

    Raises  RangeNotSatisfiable: not within the chunk; NotPermitted: not within the capability
    """
    start, end = wanted.offset, wanted.offset + wanted.length
    if end > chunk_length:
        raise RangeNotSatisfiable(f"bytes {start} to {end} of a chunk that has {chunk_length}")
    if wanted.mode != "exact":
        start, end = block_range(start, wanted.length, chunk_length)
    if start < capability.start or end > capability.end:
        raise NotPermitted(
            f"the capability allows bytes {capability.start} to {capability.end}, not {start} to {end}; "
            "ask the namenode for them, or read exactly what it allows"
        )
    return start, end


def _ranges(text: str, mode: str) -> tuple[tuple[int, int], ...]:
    if mode != "blocks":
        raise InvalidRequest(f"ranges are of whole blocks; the mode is blocks, not {mode!r}")
    if not _RANGES.fullmatch(text) or text.count(",") >= RANGES_MAX:
        raise InvalidRequest(f"ranges look like 0-16384,49152-65536; there are at most {RANGES_MAX}")
    found = []
    for part in text.split(","):
        start, _, end = part.partition("-")
        found.append((int(start), int(end)))
    return tuple(found)


def check_ranges(ranges: Sequence[tuple[int, int]], capability: Capability, chunk_length: int) -> None:
    """Ranges are whole blocks, in order, without overlaps: no block is read twice for one request.

    Raises  InvalidRequest; RangeNotSatisfiable: not within the chunk; NotPermitted: not within the capability
    """
    before = total = 0
    for start, end in ranges:
        whole = start % BLOCK_SIZE == 0 and (end % BLOCK_SIZE == 0 or end == chunk_length)
        if not (before <= start < end and whole):
            raise InvalidRequest(f"bytes {start} to {end}: ranges are whole blocks, in order, and do not overlap")
        before = end
        total += end - start
    if total > RANGES_BYTES_MAX:
        raise InvalidRequest(f"ranges of {total} bytes in all; at most {RANGES_BYTES_MAX} are answered at once")
    start, end = ranges[0][0], ranges[-1][1]
    check_range(Wanted(start, end - start, "exact"), capability, chunk_length)


def _read_ranges(reader: ChunkReader, ranges: Sequence[tuple[int, int]]) -> bytes:
    return b"".join([reader.read_blocks(start, end) for start, end in ranges])


def check_whole(capability: Capability, chunk_length: int) -> None:
    """Hints name all files of a chunk: whoever may read one of them must not learn of the others.

    Raises  NotPermitted
    """
    if capability.start > 0 or capability.end < chunk_length:
        raise NotPermitted(
            f"the capability allows bytes {capability.start} to {capability.end}; hints need one for all {chunk_length}"
        )


def _piece(start: int, end: int, position: int, chunk_length: int) -> tuple[int, int]:
    """Whole blocks, at most PIECE_BYTES of them, that cover [start, end) from `position` on."""
    assert start <= position < end
    piece_start = position // BLOCK_SIZE * BLOCK_SIZE
    piece_end = min(piece_start + PIECE_BYTES, -(-end // BLOCK_SIZE) * BLOCK_SIZE, chunk_length)
    return piece_start, piece_end


@asynccontextmanager
async def _watching(receive: Receive) -> AsyncIterator[asyncio.Event]:
    """An event that is set once the reader has gone, so that nothing is read for nobody."""
    gone = asyncio.Event()

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    task = asyncio.create_task(watch())
    try:
        yield gone
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
