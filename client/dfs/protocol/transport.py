"""All calls of our own protocol: one table row, one URL, one answer or one error.

Separate because how bytes reach a peer (connections, time-outs, what a broken connection means) is one subject, and
what to do about it (another replica, another namenode, a new grant) is another, which belongs to the callers.
Blocking, usable from several threads and after a fork.

What a failure means is decided here, once: no connection, or not one byte of the request sent: NotSent. Anything
later: OutcomeUnknown. An answer that is an error of the protocol is raised as that error.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal, TypeVar

import msgspec

from dfs.protocol import PROTOCOL_VERSION
from dfs.protocol.chunk_format import encode_wire_footer, wire_size
from dfs.protocol.connections import IdleConnections
from dfs.protocol.digests import Buffer
from dfs.protocol.errors import BadAnswer, DfsError, NotSent, OutcomeUnknown
from dfs.protocol.exchange import JOIN_BYTES_MAX, Connection, Head, address, connect, request_head
from dfs.protocol.hints import HINTS_MAX
from dfs.protocol.in_flight import InFlight
from dfs.protocol.interim import Patience
from dfs.protocol.messages import StoredChunk
from dfs.protocol.operations import (
    GET_CHUNK,
    HEADER_CAPABILITY,
    HEADER_HINTS,
    HEADER_HOP,
    HEADER_LENGTH,
    HEADER_PRINCIPAL,
    HEADER_PROTOCOL,
    PUT_CHUNK,
    Operation,
    error_from_bytes,
)

Q = TypeVar("Q")
A = TypeVar("A")
ANSWER_BYTES_MAX = 256 << 20
ERROR_BYTES_MAX = 1 << 20
"""Of an answer that is an error, where the other answers are bytes of a chunk."""
HEADS_MAX = 1024
"""Beginnings of requests that are kept: one for each server and operation."""
RECEIPTS_STEP_S = 1.5
"""More for each datanode behind the one whose receipts are awaited: its answer must still travel back in time."""
SILENCE_STEP_S = 1.0
"""More silence for each datanode behind the one that is silent: it may itself be waiting for one of them."""

_encoder = msgspec.json.Encoder()
_decoders: dict[type, msgspec.json.Decoder[Any]] = {}


def _decoder(kind: type[A]) -> Callable[[bytes], A]:
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    return decoder.decode


def _decode(decode: Callable[[bytes], A], body: bytes) -> A:
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadAnswer(f"an answer that is not of the dfs protocol: {error}") from None


class Transport:
    """Makes the calls. Holds nothing but time-outs and idle connections; `close` only saves descriptors.

    principal          who the calls are made for
    connect_timeout_s  for a connection to be made
    call_timeout_s     for the answer of a namenode
    no_progress_s      for the next bytes of a chunk, in either direction, and for a sign of life while it is stored
    receipts_s         for the receipt of a datanode that has the last byte of a chunk, and shows that it is alive

    Both are for one datanode; for one with others behind it they are longer: see `patience`.
    """

    def __init__(
        self,
        *,
        principal: str = "anonymous",
        connect_timeout_s: float = 3.0,
        call_timeout_s: float = 30.0,
        no_progress_s: float = 5.0,
        receipts_s: float = 15.0,
    ) -> None:
        self.principal = principal
        self.connect_timeout_s = connect_timeout_s
        self.call_timeout_s = call_timeout_s
        self.no_progress_s = no_progress_s
        self.receipts_s = receipts_s
        self._heads: dict[tuple[str, str], bytes] = {}
        self._pool = IdleConnections()
        weakref.finalize(self, self._pool.close)

    def close(self) -> None:
        """Close the idle connections. The transport stays usable."""
        self._pool.close()

    def call(self, base_url: str, operation: Operation[Q, A], request: Q, *, timeout_s: float | None = None) -> A:
        """Make one JSON call.

        Raises  the peer's error; NotSent, OutcomeUnknown, BadAnswer
        """
        body = _encoder.encode(request)
        head = b"%scontent-length: %d\r\n\r\n" % (self._call_head(base_url, operation), len(body))
        timeout_s = self.call_timeout_s if timeout_s is None else timeout_s
        reused = self._pool.take(base_url)
        if reused is not None:
            try:
                return self._call_on(reused, base_url, operation, head, body, timeout_s)
            except OutcomeUnknown as error:
                # The peer may have closed the idle connection at this very moment. Nothing of an answer came;
                # what may be repeated is repeated once, on a connection of its own. A peer that is merely silent
                # has had its time. What has an effect is repeated by those who must know that it was in doubt.
                if not operation.idempotent or error.detail.get("stalled") or hasattr(request, "op_id"):
                    raise
        return self._call_on(self._connect(base_url), base_url, operation, head, body, timeout_s)

    def _call_on(
        self,
        connection: Connection,
        base_url: str,
        operation: Operation[Q, A],
        head: bytes,
        body: bytes,
        timeout_s: float,
    ) -> A:
        with _closed_on_failure(connection, base_url):
            connection.set_timeout(timeout_s)
            try:
                connection.send(head, body)
            except (BrokenPipeError, ConnectionResetError):
                # The peer stopped listening in mid-request; often it said why before.
                if not connection.readable(0.1):
                    raise
            status, answer = self._read_answer(connection, base_url, Patience(timeout_s, timeout_s))
        if status != 200:
            raise error_from_bytes(status, answer)
        return _decode(operation.decode or _decoder(operation.response), answer)

    def _read_answer(
        self, connection: Connection, base_url: str, waiting: Patience, *, body_too: bool = False
    ) -> tuple[int, bytes]:
        """Status and whole body of the answer; the connection goes back to the pool if it may."""
        head = connection.read_head(waiting, body_too=body_too)
        _check_length(head, base_url, ANSWER_BYTES_MAX)
        answer = bytes(connection.read())
        self._pool.give(base_url, connection)
        return head.status, answer

    def _call_head(self, base_url: str, operation: Operation[Q, A]) -> bytes:
        """The beginning of a call, as it always is."""
        key = (base_url, operation.path)
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) >= HEADS_MAX:
                self._heads.clear()
            fields = self._headers() | {"content-type": "application/json"}
            head = request_head(operation.method, operation.path, address(base_url).authority, fields)
            self._heads[key] = head
        return head

    def _headers(self) -> dict[str, str]:
        return {HEADER_PROTOCOL: str(PROTOCOL_VERSION), HEADER_PRINCIPAL: self.principal}

    def _connect(self, base_url: str) -> Connection:
        try:
            return connect(base_url, self.connect_timeout_s)
        except OSError as error:
            if isinstance(error, DfsError):
                raise
            why = error.strerror or str(error) or type(error).__name__
            raise NotSent(f"can't reach {base_url} ({why.lower()})", url=base_url) from None

    def begin_put(
        self,
        base_url: str,
        *,
        chunk: str,
        capability: str,
        length: int,
        hop: int = 0,
        behind: int = 0,
        hints_length: int = 0,
    ) -> "OutgoingChunk":
        """Connect and announce a chunk of `length` bytes. Raises NotSent.

        A small one is announced together with its last bytes.

        hop, behind   members of the chain before and behind the one at `base_url`
        hints_length  bytes of the hints that the wire footer will carry
        """
        connection = self._pool.take(base_url) or self._connect(base_url)
        with _closed_on_failure(connection, base_url):
            waiting = patience(self.no_progress_s, self.receipts_s, behind)
            connection.set_timeout(waiting.silence_s)
            fields = self._headers() | {HEADER_CAPABILITY: capability, HEADER_LENGTH: str(length), HEADER_HOP: str(hop)}
            if hints_length:
                fields[HEADER_HINTS] = str(hints_length)
            body_length = wire_size(length, hints_length)
            fields["content-length"] = str(body_length)
            path = PUT_CHUNK.path.format(chunk=chunk)
            head = request_head(PUT_CHUNK.method, path, address(base_url).authority, fields) + b"\r\n"
            outgoing = OutgoingChunk(self, connection, base_url, waiting, head, body_length)
            outgoing.begin()
        return outgoing

    def put_chunk(
        self,
        base_url: str,
        *,
        chunk: str,
        capability: str,
        pieces: Iterable[Buffer],
        length: int,
        table: bytes,
        root: bytes,
        hop: int = 0,
        behind: int = 0,
        hints: bytes = b"",
    ) -> StoredChunk:
        """Send a whole chunk whose pieces make `length` bytes, and wait for the receipts.

        Raises  the datanode's error; NotSent; OutcomeUnknown: the chunk id is spent, ask for another one
        """
        outgoing = self.begin_put(
            base_url,
            chunk=chunk,
            capability=capability,
            length=length,
            hop=hop,
            behind=behind,
            hints_length=len(hints),
        )
        try:
            for piece in pieces:
                outgoing.send(piece)
            outgoing.send(encode_wire_footer(length, table, root, hints))
            return outgoing.finish()
        except BaseException:
            # Also when the source of the pieces fails: a connection with half a body is of no use to anybody.
            outgoing.abort()
            raise

    def get_chunk(
        self,
        base_url: str,
        *,
        chunk: str,
        capability: str,
        offset: int,
        length: int,
        mode: Literal["exact", "blocks", "table"],
        into: Sequence[memoryview],
        flight: InFlight | None = None,
    ) -> None:
        """Fill the buffers `into`, in order, with exactly what the datanode answers. Nothing is verified here.

        flight  by which another thread may give the request up
        Raises  the datanode's error; NotSent; OutcomeUnknown: it ended early or stalled; BadAnswer: another length
        """
        query = f"offset={offset}&length={length}&mode={mode}"
        self._get_into(base_url, chunk, query, capability, into, flight)

    def get_ranges(
        self,
        base_url: str,
        *,
        chunk: str,
        capability: str,
        ranges: Sequence[tuple[int, int]],
        into: memoryview,
        mode: Literal["exact", "blocks"] = "blocks",
        flight: InFlight | None = None,
    ) -> None:
        """Fill `into` with the bytes of each range [start, end) of a chunk, one range behind the other.

        mode    blocks: each range is of whole blocks
        ranges  in order, without overlaps; at most RANGES_MAX and RANGES_BYTES_MAX
        Raises  as `get_chunk` does
        """
        spelled = ",".join([f"{start}-{end}" for start, end in ranges])
        self._get_into(base_url, chunk, f"mode={mode}&ranges={spelled}", capability, [into], flight)

    def _get_into(
        self,
        base_url: str,
        chunk: str,
        query: str,
        capability: str,
        into: Sequence[memoryview],
        flight: InFlight | None,
    ) -> None:
        path = f"{GET_CHUNK.path.format(chunk=chunk)}?{query}"
        connection, answered = self._get(base_url, path, capability, flight)
        with _closed_on_failure(connection, base_url):
            expected = sum(len(view) for view in into)
            if answered != expected:
                raise BadAnswer(f"{base_url} answered {answered} bytes of a chunk instead of {expected}")
            for view in into:
                connection.read_into(view)
        if flight is None or flight.end():
            self._pool.give(base_url, connection)
        else:
            connection.close()

    def get_hints(self, base_url: str, *, chunk: str, capability: str) -> bytes:
        """The encoded hints of the replica at `base_url`, as they are there; `hints.decode_hints` says what they mean.

        capability  one that allows to read all of the chunk
        Raises      the datanode's error; NotSent; OutcomeUnknown: it ended early or stalled; BadAnswer: too long
        """
        path = f"{GET_CHUNK.path.format(chunk=chunk)}?mode=hints"
        connection, answered = self._get(base_url, path, capability, None)
        with _closed_on_failure(connection, base_url):
            if answered > HINTS_MAX:
                raise BadAnswer(f"{base_url} answered {answered} bytes of hints; there are at most {HINTS_MAX}")
            hints = bytes(connection.read())
        self._pool.give(base_url, connection)
        return hints

    def _get(self, base_url: str, path: str, capability: str, flight: InFlight | None) -> tuple[Connection, int]:
        """Ask for a part of a chunk: the connection and the length of a body that is still to be read.

        Raises as `get_chunk` does.
        """
        fields = self._headers() | {HEADER_CAPABILITY: capability}
        request = request_head(GET_CHUNK.method, path, address(base_url).authority, fields) + b"\r\n"
        connection = self._pool.take(base_url)
        head: Head | None = None
        if connection is not None:
            try:
                head = self._ask(connection, base_url, request, flight)
            except OutcomeUnknown as error:
                if error.detail.get("stalled"):
                    raise
        if connection is None or head is None:
            connection = self._connect(base_url)
            head = self._ask(connection, base_url, request, flight)
        with _closed_on_failure(connection, base_url):
            length = _check_length(head, base_url, ANSWER_BYTES_MAX if head.status == 200 else ERROR_BYTES_MAX)
            if head.status != 200:
                body = bytes(connection.read())
                connection.close()
                raise error_from_bytes(head.status, body)
        return connection, length

    def _ask(self, connection: Connection, base_url: str, request: bytes, flight: InFlight | None) -> Head:
        with _closed_on_failure(connection, base_url):
            if flight is not None:
                flight.begin(connection.connected())
            connection.set_timeout(self.no_progress_s)
            connection.send(request)
            return connection.read_head(Patience(self.no_progress_s, self.no_progress_s))


def patience(no_progress_s: float, receipts_s: float, behind: int) -> Patience:
    """How long a sender waits for a datanode that has `behind` others behind it. Pure.

    Each of those adds a step, so that whoever waits for a silent datanode gives up before those who wait for him:
    otherwise all of them would blame the wrong one at once.
    """
    return Patience(no_progress_s + SILENCE_STEP_S * behind, receipts_s + RECEIPTS_STEP_S * behind)


def _check_length(head: Head, base_url: str, most: int) -> int:
    """The length of an answer's body. Raises BadAnswer: none is told in our way, or it is more than `most`."""
    if head.length is None or head.length > most:
        raise BadAnswer(
            f"{base_url} answered {head.status} without a length, or with too long a one: is it a dfs server?"
        )
    return head.length


@contextmanager
def _closed_on_failure(connection: Connection, base_url: str) -> Iterator[None]:
    """Map what breaks on a connection to PeerErrors, and never use that connection again."""
    try:
        yield
    except TimeoutError:
        connection.close()
        raise OutcomeUnknown(f"{base_url} made no progress in time", url=base_url, stalled=True) from None
    except OSError as error:
        connection.close()
        if isinstance(error, DfsError):
            raise
        why = str(error) or type(error).__name__
        raise OutcomeUnknown(f"the connection to {base_url} broke ({why})", url=base_url) from None
    except BaseException:
        connection.close()
        raise


class OutgoingChunk:
    """A PUT in progress: pieces go out as they come; the answer comes when all of them have been sent."""

    def __init__(
        self,
        transport: Transport,
        connection: Connection,
        base_url: str,
        waiting: Patience,
        head: bytes,
        body_length: int,
    ) -> None:
        self._transport = transport
        self._waiting = waiting
        self._connection = connection
        self._held = bytearray(head)
        """Not yet sent: a small request leaves as one, when it is complete."""
        self._held_until = len(head) + body_length if len(head) + body_length <= JOIN_BYTES_MAX else 0
        self.base_url = base_url

    def begin(self) -> None:
        """Send the announcement of a chunk that is not small."""
        if not self._held_until:
            self._connection.send(self._held)
            self._held = bytearray()

    def send(self, piece: Buffer) -> None:
        """Send the next bytes of the body.

        Raises  the datanode's error, if it answered before the end; OutcomeUnknown: no progress, or broken
        """
        if self._held_until:
            self._held += piece
            if len(self._held) < self._held_until:
                return
            piece, self._held, self._held_until = self._held, bytearray(), 0
        self._send(piece)

    def _send(self, piece: Buffer) -> None:
        if self._connection.sock is None:
            raise OutcomeUnknown(f"the connection to {self.base_url} is closed", url=self.base_url)
        if self._connection.readable(0):
            self._early_answer()
        try:
            self._connection.send(memoryview(piece).cast("B"))
        except TimeoutError:
            self.abort()
            raise OutcomeUnknown(f"{self.base_url} made no progress in time", url=self.base_url, stalled=True) from None
        except OSError as error:
            if self._connection.readable(0.1):
                self._early_answer()
            self.abort()
            raise OutcomeUnknown(f"the connection to {self.base_url} broke ({error})", url=self.base_url) from None

    def _early_answer(self) -> None:
        """The peer answers before it has everything: an error, or the connection's end."""
        with _closed_on_failure(self._connection, self.base_url):
            head = self._connection.read_head(self._waiting)
            _check_length(head, self.base_url, ERROR_BYTES_MAX)
            body = bytes(self._connection.read())
            self._connection.close()
        raise error_from_bytes(head.status, body)

    def finish(self) -> StoredChunk:
        """Wait for the receipts, as long as the datanode shows that it is alive. Raises as `send` does."""
        if self._held:
            held, self._held, self._held_until = self._held, bytearray(), 0
            self._send(held)
        with _closed_on_failure(self._connection, self.base_url):
            status, answer = self._transport._read_answer(self._connection, self.base_url, self._waiting, body_too=True)
        if status != 201:
            raise error_from_bytes(status, answer)
        return _decode(_decoder(StoredChunk), answer)

    def abort(self) -> None:
        """Close the connection: the peer throws away what it has of this chunk."""
        with suppress(OSError):
            self._connection.close()
