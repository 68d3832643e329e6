"""get_chunk: verified bytes of a chunk, no more than the capability allows.

Every block is checked against the chunk's own table before a byte of it leaves, so that rot is found where it
happened. What memory holds is answered on the event loop at once; whatever may wait for a disk is a thread's work. A
large answer is sent by the thread that reads it, from one buffer that is used again and again; where that can't be, or
the reader pauses, the loop sends it piece by piece.
"""

import asyncio
import mmap
import re
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal, ParamSpec, TypeVar
from urllib.parse import parse_qsl

from dfs.protocol.bodies import Outlet, send_from_thread, send_whole
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
from dfs_datanode.operations.small_get import ON_LOOP_MAX, read_now, read_spans, spans
from dfs_datanode.throttle import TokenBucket

PIECE_BYTES = 1 << 20
"""Read, checked and sent at once by a thread."""
LOOP_PIECE_BYTES = 256 << 10
"""By the loop, which may hold three of them for each reader, and serves those that are slow: there may be thousands."""
PAUSE_MAX_S = 2.0
"""The longest that a repair waits for its next piece: the puller takes a longer silence for a failure."""

_PLAIN = re.compile(b"offset=([0-9]{1,19})&length=([0-9]{1,19})&mode=([a-z]+)")
_HEAD = Answer(200, b"", content_type=b"application/octet-stream")
_RANGES = re.compile("[0-9]{1,18}-[0-9]{1,18}(?:,[0-9]{1,18}-[0-9]{1,18})*")

P = ParamSpec("P")
T = TypeVar("T")
Mode = Literal["exact", "blocks", "table", "hints"]
_MODES: dict[bytes, Mode] = {b"exact": "exact", b"blocks": "blocks", b"table": "table"}


@dataclass(frozen=True)
class Wanted:
    """A range as the request spells it; with the mode `hints` it says nothing."""

    offset: int
    length: int
    mode: Mode
    ranges: tuple[tuple[int, int], ...] = ()
    """Start and end of each, instead of `offset` and `length`."""


@dataclass(frozen=True)
class _Rest:
    """An answer of which the loop sends the bytes from `position` on: all of it, or what a thread left of it."""

    reader: ChunkReader
    capability: Capability
    prefix: bytes
    start: int
    end: int
    position: int


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
        self._senders = ThreadPoolExecutor(threads, thread_name_prefix="send")
        self._senders_free = threads
        """Nobody waits for one: an answer that finds none free is sent by the loop."""
        self._own = threading.local()

    async def __call__(self, scope: Scope, receive: Receive, send: Send, chunk: str) -> None:
        wanted, capability = self._asked(scope, chunk)
        self.active += 1
        try:
            await self._answer(wanted, capability, chunk, scope, receive, send)
        except (CorruptReplica, OSError) as error:
            raise self._failed(chunk, error) from error
        finally:
            self.active -= 1

    def now(self, scope: Scope, chunk: str) -> Answer | None:
        """The same, without waiting: the answer if it is small and memory has all of it, else None.

        Raises as a call does.
        """
        wanted, capability = self._asked(scope, chunk)
        reader = self._store.open_now(chunk)
        if reader is None:
            return None
        try:
            return self._answer_now(wanted, capability, reader)
        except (CorruptReplica, OSError) as error:
            raise self._failed(chunk, error) from error

    def _asked(self, scope: Scope, chunk: str) -> tuple[Wanted, Capability]:
        """What is wanted, and the leave for it. Raises InvalidRequest, NotPermitted, Unavailable."""
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
        return wanted, capability

    def _failed(self, chunk: str, error: CorruptReplica | OSError) -> DfsError:
        """What the reader is told of a failure; the namenode is told if the replica is bad."""
        if not isinstance(error, CorruptReplica):
            if isinstance(error, DfsError):
                return error
            if is_short_of_means(error):
                return Unavailable(f"this datanode can't open another file now ({error}); read another replica")
        return self._corrupt(chunk, error)

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
        answer = self._answer_now(wanted, capability, reader)
        if answer is not None:
            await send_whole(scope, send, answer)
            return
        if wanted.mode == "hints":
            check_whole(capability, reader.length)
            await send_whole(scope, send, self._whole(await self._in_thread(reader.read_hints)))
            return
        if wanted.ranges:
            ranges = spans(wanted.ranges, reader.length)
            body = await self._in_thread(read_spans, ranges, reader.read_blocks)
            assert body is not None, "whoever waits for the disk gets it, or an error"
            await send_whole(scope, send, self._whole(body))
            self._limit_for(capability, len(body))
            return
        start, end = check_range(wanted, capability, reader.length)
        prefix = reader.table if wanted.mode == "table" else b""
        position = start
        # A repair has its limit, and the loop waits for that.
        if self._senders_free and end - start > ON_LOOP_MAX and capability.principal != REPAIR_PRINCIPAL:
            position = await self._send_from_thread(scope, reader, prefix, start, end)
            if position >= end:
                return
        await self._send_from_loop(_Rest(reader, capability, prefix, start, end, position), scope, receive, send)

    async def _send_from_thread(self, scope: Scope, reader: ChunkReader, prefix: bytes, start: int, end: int) -> int:
        """Send what the reader takes without a pause; the position from which on the loop has to send."""
        position = start
        begun = False

        def work(outlet: Outlet) -> None:
            nonlocal position, begun
            buffer = self._buffer()
            parts: tuple[Buffer, ...] = (prefix,) if prefix else ()
            goes_on = True
            while goes_on and position < end:
                first, last = _piece(start, end, position, reader.length)
                piece = buffer[: last - first]
                reader.read_blocks_into(piece, first)
                if last < end:
                    reader.will_read(*_piece(start, end, last, reader.length))
                begun = True
                body = piece[max(0, start - first) : end - first]
                goes_on = outlet.send(*parts, body)
                position, parts = last, ()
            if not goes_on:
                # The loop reads it again when the reader wants it, rather than hold it until then.
                again = _from_block(min(position, end) - min(len(outlet.rest), len(body)), start)
                if again < min(position, end):
                    outlet.take_back(min(position, end) - again)
                    position = again

        self._senders_free -= 1
        try:
            await send_from_thread(scope, _HEAD, len(prefix) + end - start, self._senders, work)
        except (CorruptReplica, OSError) as error:
            if not begun:
                raise
            self._ended_early(reader.chunk, error)
            return end
        finally:
            self._senders_free += 1
            if position > start:
                # Also if it ended early.
                self.bytes_sent += len(prefix) + min(position, end) - start
        return position

    def _buffer(self) -> memoryview:
        """This thread's own memory for a piece. Fresh memory would cost more than what is done with it."""
        found: memoryview | None = getattr(self._own, "buffer", None)
        if found is None:
            found = self._own.buffer = memoryview(mmap.mmap(-1, PIECE_BYTES))
        return found

    async def _send_from_loop(self, rest: "_Rest", scope: Scope, receive: Receive, send: Send) -> None:
        reader, capability, start, end = rest.reader, rest.capability, rest.start, rest.end
        begun = rest.position > start
        position, first_end = _piece(start, end, rest.position, reader.length)
        if begun or first_end < end:
            position, first_end = _piece(start, end, rest.position, reader.length, LOOP_PIECE_BYTES)
        # Else all of it is verified before it is answered: who repairs from damaged replicas counts on an error that
        # names no more than so many bytes (`pull.SMALL_BYTES`).
        try:
            # The first piece is read before the answer begins, so that a bad replica is an error and not a short body.
            # That it is small and in memory has been tried already.
            piece: Buffer = await self._in_thread(reader.read_blocks, position, first_end)
            if not begun:
                if first_end >= end and not rest.prefix:
                    await send_whole(scope, send, self._whole(memoryview(piece)[start - position : end - position]))
                    self._limit_for(capability, end - start)
                    return
                await self._begin(send, len(rest.prefix) + end - start)
                begun = True
                if rest.prefix:
                    self.bytes_sent += len(rest.prefix)
                    await send({"type": "http.response.body", "body": rest.prefix, "more_body": True})
            async with _watching(receive) as gone:
                while not gone.is_set():
                    following = None
                    if first_end < end:
                        following = _piece(start, end, first_end, reader.length, LOOP_PIECE_BYTES)
                    # Read on while this piece travels, so that the disk and the network work at the same time.
                    reading = None if following is None else asyncio.ensure_future(self._read(reader, *following))
                    try:
                        await self._send_piece(send, piece, position, start, end, more=reading is not None)
                    finally:
                        if reading is not None:
                            await asyncio.wait([reading])
                    pause_s = self._limit_for(capability, len(piece))
                    if reading is None or following is None:
                        return
                    if pause_s:
                        await asyncio.sleep(min(pause_s, PAUSE_MAX_S))
                    piece = reading.result()
                    position, first_end = following
        except (CorruptReplica, OSError) as error:
            if not begun:
                raise
            self._ended_early(reader.chunk, error)
            await cut_off(scope)

    def _ended_early(self, chunk: str, error: CorruptReplica | OSError) -> None:
        """Too late for an error: the body ends short, and the reader takes the rest from elsewhere."""
        if isinstance(error, ConnectionError):
            # It is the reader who is not there any more.
            return
        if isinstance(error, CorruptReplica) or not is_short_of_means(error):
            self._corrupt(chunk, error)

    async def _begin(self, send: Send, length: int) -> None:
        """Begin an answer with a body of `length` bytes."""
        headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    def _answer_now(self, wanted: Wanted, capability: Capability, reader: ChunkReader) -> Answer | None:
        """The whole answer if it is small and in memory. Raises as a call does."""
        if wanted.mode == "hints":
            return None
        prefix = reader.table if wanted.mode == "table" else b""
        if len(prefix) > ON_LOOP_MAX:
            return None
        body = read_now(reader, permitted(wanted, capability, reader.length))
        if body is None:
            return None
        self._limit_for(capability, len(body))
        return self._whole(b"".join((prefix, body)) if prefix else body)

    def _whole(self, body: Buffer) -> Answer:
        """An answer in one piece, counted as sent."""
        self.bytes_sent += len(body)
        return Answer(200, body, content_type=b"application/octet-stream")

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
        self._senders.shutdown(wait=False, cancel_futures=True)


def read_query(query: bytes) -> Wanted:
    """The range that a query asks for. Raises InvalidRequest."""
    plain = _PLAIN.fullmatch(query)
    if plain is not None and plain[3] in _MODES:
        # As our own clients spell it; what the rest of this function makes of it costs several times as much.
        length = int(plain[2])
        if length:
            return Wanted(int(plain[1]), length, _MODES[plain[3]])
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
        # Which of the two must be said: a server that knew only of blocks refused all others.
        return Wanted(0, 0, *_ranges(fields["ranges"], fields.get("mode", "")))
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
    _check_allowed(capability, start, end)
    return start, end


def _check_allowed(capability: Capability, start: int, end: int) -> None:
    if not capability.allows(start, end):
        some = f"some of the bytes {capability.start}" if capability.runs else f"bytes {capability.start}"
        raise NotPermitted(
            f"the capability allows {some} to {capability.end}, not {start} to {end}; "
            "ask the namenode for them, or read exactly what it allows"
        )


def permitted(wanted: Wanted, capability: Capability, chunk_length: int) -> Sequence[tuple[int, int]]:
    """The ranges to answer with, one behind the other. Raises as `check_range` and `check_ranges` do."""
    if not wanted.ranges:
        return (check_range(wanted, capability, chunk_length),)
    check_ranges(wanted.ranges, capability, chunk_length, exact=wanted.mode == "exact")
    return wanted.ranges


def _ranges(text: str, mode: str) -> tuple[Mode, tuple[tuple[int, int], ...]]:
    if mode not in ("exact", "blocks"):
        raise InvalidRequest(f"ranges are exact or of whole blocks; the mode is exact or blocks, not {mode!r}")
    if not _RANGES.fullmatch(text) or text.count(",") >= RANGES_MAX:
        raise InvalidRequest(f"ranges look like 0-16384,49152-65536; there are at most {RANGES_MAX}")
    found = []
    for part in text.split(","):
        start, _, end = part.partition("-")
        found.append((int(start), int(end)))
    return "exact" if mode == "exact" else "blocks", tuple(found)


def check_ranges(
    ranges: Sequence[tuple[int, int]], capability: Capability, chunk_length: int, *, exact: bool = False
) -> None:
    """Ranges are in order, without overlaps, and (unless `exact`) whole blocks: no byte is sent twice for one request.

    Raises  InvalidRequest; RangeNotSatisfiable: not within the chunk; NotPermitted: not within the capability
    """
    before = total = 0
    for start, end in ranges:
        whole = exact or (start % BLOCK_SIZE == 0 and (end % BLOCK_SIZE == 0 or end == chunk_length))
        if not (before <= start < end and whole):
            raise InvalidRequest(
                f"bytes {start} to {end}: ranges are in order and do not overlap, those of blocks are of whole ones"
            )
        before = end
        total += end - start
    if total > RANGES_BYTES_MAX:
        raise InvalidRequest(f"ranges of {total} bytes in all; at most {RANGES_BYTES_MAX} are answered at once")
    if before > chunk_length:
        raise RangeNotSatisfiable(f"bytes up to {before} of a chunk that has {chunk_length}")
    if not capability.allows(ranges[0][0], before):
        for start, end in ranges:
            _check_allowed(capability, start, end)


def check_whole(capability: Capability, chunk_length: int) -> None:
    """Hints name all files of a chunk: whoever may read one of them must not learn of the others.

    Raises  NotPermitted
    """
    if not capability.allows(0, chunk_length):
        raise NotPermitted(
            f"the capability allows bytes {capability.start} to {capability.end}; hints need one for all {chunk_length}"
        )


def _from_block(position: int, start: int) -> int:
    """Where the first block begins that is at `position` or behind it, and behind `start`."""
    return max(-(-position // BLOCK_SIZE), start // BLOCK_SIZE + 1) * BLOCK_SIZE


def _piece(start: int, end: int, position: int, chunk_length: int, size: int = PIECE_BYTES) -> tuple[int, int]:
    """Whole blocks, at most `size` bytes of them, that cover [start, end) from `position` on."""
    assert start <= position < end
    piece_start = position // BLOCK_SIZE * BLOCK_SIZE
    piece_end = min(piece_start + size, -(-end // BLOCK_SIZE) * BLOCK_SIZE, chunk_length)
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
