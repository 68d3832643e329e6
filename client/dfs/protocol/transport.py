"""All calls of our own protocol: one table row, one URL, one answer or one error.

Separate because how bytes reach a peer (connections, time-outs, what a broken connection means) is one subject, and
what to do about it (another replica, another namenode, a new grant) is another, which belongs to the callers.
Blocking, usable from several threads and after a fork.

What a failure means is decided here, once: no connection, or not one byte of the request sent: NotSent. Anything
later: OutcomeUnknown. An answer that is an error of the protocol is raised as that error.
"""

import http.client
import socket
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

from dfs.protocol import PROTOCOL_VERSION
from dfs.protocol.chunk_format import encode_wire_footer, wire_size
from dfs.protocol.connections import Connection, IdleConnections, readable
from dfs.protocol.digests import Buffer
from dfs.protocol.errors import BadAnswer, DfsError, InvalidRequest, NotSent, OutcomeUnknown
from dfs.protocol.hints import HINTS_MAX
from dfs.protocol.interim import Patience, waiting_for_answer
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


class InFlight:
    """A request of one thread that another thread may give up: the first one then meets OutcomeUnknown at once."""

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._sock: socket.socket | None = None
        self.given_up = False

    def begin(self, sock: socket.socket) -> None:
        """The request goes out here. Raises OutcomeUnknown: it was given up before."""
        with self._gate:
            if self.given_up:
                raise OutcomeUnknown("the request was given up", given_up=True)
            self._sock = sock

    def end(self) -> bool:
        """The answer is complete, and the connection is used for other things from now on. False: given up."""
        with self._gate:
            self._sock = None
            return not self.given_up

    def give_up(self) -> None:
        """Nobody wants the answer any more. Only this request's connection is cut."""
        with self._gate:
            self.given_up = True
            if self._sock is not None:
                # The plain socket's: that of TLS would talk to the peer, and belongs to the other thread.
                with suppress(OSError):
                    socket.socket.shutdown(self._sock, socket.SHUT_RDWR)


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
        headers = self._headers() | {"content-type": "application/json"}
        timeout_s = self.call_timeout_s if timeout_s is None else timeout_s
        reused = self._pool.take(base_url)
        if reused is not None:
            try:
                return self._call_on(reused, base_url, operation, body, headers, timeout_s)
            except OutcomeUnknown as error:
                # The peer may have closed the idle connection at this very moment. Nothing of an answer came;
                # what may be repeated is repeated once, on a connection of its own. A peer that is merely silent
                # has had its time. What has an effect is repeated by those who must know that it was in doubt.
                if not operation.idempotent or error.detail.get("stalled") or hasattr(request, "op_id"):
                    raise
        return self._call_on(self._connect(base_url), base_url, operation, body, headers, timeout_s)

    def _call_on(
        self,
        connection: Connection,
        base_url: str,
        operation: Operation[Q, A],
        body: bytes,
        headers: dict[str, str],
        timeout_s: float,
    ) -> A:
        with _closed_on_failure(connection, base_url):
            _sock(connection).settimeout(timeout_s)
            try:
                connection.request(operation.method, operation.path, body, headers)
            except (BrokenPipeError, ConnectionResetError):
                # The peer stopped listening in mid-request; often it said why before.
                if not readable(_sock(connection), 0.1):
                    raise
            status, answer = self._read_answer(connection, base_url)
        if status != 200:
            raise error_from_bytes(status, answer)
        return _decode(operation.decode or _decoder(operation.response), answer)

    def _read_answer(self, connection: Connection, base_url: str) -> tuple[int, bytes]:
        """Status and whole body of the answer; the connection goes back to the pool if it may."""
        response = connection.getresponse()
        length = response.length
        if length is None or length > ANSWER_BYTES_MAX:
            raise BadAnswer(f"{base_url} answered without a length, or with too long a one: is it a dfs server?")
        answer = response.read()
        if len(answer) != length:
            raise OutcomeUnknown(f"{base_url} ended its answer early")
        self._give_back(connection, response, base_url)
        return response.status, answer

    def _give_back(self, connection: Connection, response: http.client.HTTPResponse, base_url: str) -> None:
        if response.will_close:
            connection.close()
        else:
            self._pool.give(base_url, connection)

    def _headers(self) -> dict[str, str]:
        return {HEADER_PROTOCOL: str(PROTOCOL_VERSION), HEADER_PRINCIPAL: self.principal}

    def _connect(self, base_url: str) -> Connection:
        url = urlsplit(base_url)
        kinds: dict[str, type[Connection]] = {
            "http": http.client.HTTPConnection,
            "https": http.client.HTTPSConnection,
        }
        if url.scheme not in kinds or not url.hostname:
            raise InvalidRequest(f"{base_url!r} is not the URL of a dfs server; it looks like http://host:port")
        connection = kinds[url.scheme](url.hostname, url.port, timeout=self.connect_timeout_s)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            why = error.strerror or str(error) or type(error).__name__
            raise NotSent(f"can't reach {base_url} ({why.lower()})", url=base_url) from None
        return connection

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

        hop, behind   members of the chain before and behind the one at `base_url`
        hints_length  bytes of the hints that the wire footer will carry
        """
        connection = self._pool.take(base_url) or self._connect(base_url)
        with _closed_on_failure(connection, base_url):
            waiting = patience(self.no_progress_s, self.receipts_s, behind)
            _sock(connection).settimeout(waiting.silence_s)
            connection.putrequest(PUT_CHUNK.method, PUT_CHUNK.path.format(chunk=chunk), skip_accept_encoding=True)
            for name, value in self._headers().items():
                connection.putheader(name, value)
            connection.putheader(HEADER_CAPABILITY, capability)
            connection.putheader(HEADER_LENGTH, str(length))
            connection.putheader(HEADER_HOP, str(hop))
            if hints_length:
                connection.putheader(HEADER_HINTS, str(hints_length))
            connection.putheader("content-length", str(wire_size(length, hints_length)))
            connection.endheaders()
        return OutgoingChunk(self, connection, base_url, waiting)

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
        path = f"{GET_CHUNK.path.format(chunk=chunk)}?offset={offset}&length={length}&mode={mode}"
        connection, response = self._get(base_url, path, capability, flight)
        with _closed_on_failure(connection, base_url):
            expected = sum(len(view) for view in into)
            if response.length != expected:
                raise BadAnswer(f"{base_url} answered {response.length} bytes of a chunk instead of {expected}")
            for view in into:
                _fill(response, view, base_url)
            response.close()
        if flight is None or flight.end():
            self._give_back(connection, response, base_url)
        else:
            connection.close()

    def get_hints(self, base_url: str, *, chunk: str, capability: str) -> bytes:
        """The encoded hints of the replica at `base_url`, as they are there; `hints.decode_hints` says what they mean.

        capability  one that allows to read all of the chunk
        Raises      the datanode's error; NotSent; OutcomeUnknown: it ended early or stalled; BadAnswer: too long
        """
        path = f"{GET_CHUNK.path.format(chunk=chunk)}?mode=hints"
        connection, response = self._get(base_url, path, capability, None)
        with _closed_on_failure(connection, base_url):
            if response.length is None or response.length > HINTS_MAX:
                raise BadAnswer(f"{base_url} answered {response.length} bytes of hints; there are at most {HINTS_MAX}")
            hints = bytearray(response.length)
            _fill(response, memoryview(hints), base_url)
            response.close()
        self._give_back(connection, response, base_url)
        return bytes(hints)

    def _get(
        self, base_url: str, path: str, capability: str, flight: InFlight | None
    ) -> tuple[Connection, http.client.HTTPResponse]:
        """Ask for a part of a chunk, and get an answer whose body is still to be read. Raises as `get_chunk` does."""
        headers = self._headers() | {HEADER_CAPABILITY: capability}
        connection = self._pool.take(base_url)
        response: http.client.HTTPResponse | None = None
        if connection is not None:
            try:
                response = self._ask(connection, base_url, path, headers, flight)
            except OutcomeUnknown as error:
                if error.detail.get("stalled"):
                    raise
        if connection is None or response is None:
            connection = self._connect(base_url)
            response = self._ask(connection, base_url, path, headers, flight)
        with _closed_on_failure(connection, base_url):
            if response.status != 200:
                body = response.read(1 << 20)
                connection.close()
                raise error_from_bytes(response.status, body)
        return connection, response

    def _ask(
        self,
        connection: Connection,
        base_url: str,
        path: str,
        headers: dict[str, str],
        flight: InFlight | None,
    ) -> http.client.HTTPResponse:
        with _closed_on_failure(connection, base_url):
            if flight is not None:
                flight.begin(_sock(connection))
            _sock(connection).settimeout(self.no_progress_s)
            connection.request(GET_CHUNK.method, path, headers=headers)
            return connection.getresponse()


def patience(no_progress_s: float, receipts_s: float, behind: int) -> Patience:
    """How long a sender waits for a datanode that has `behind` others behind it. Pure.

    Each of those adds a step, so that whoever waits for a silent datanode gives up before those who wait for him:
    otherwise all of them would blame the wrong one at once.
    """
    return Patience(no_progress_s + SILENCE_STEP_S * behind, receipts_s + RECEIPTS_STEP_S * behind)


def _fill(response: http.client.HTTPResponse, view: memoryview, base_url: str) -> None:
    done = 0
    while done < len(view):
        count = response.readinto(view[done:])
        if not count:
            raise OutcomeUnknown(f"{base_url} ended its answer early", url=base_url)
        done += count


def _sock(connection: Connection) -> socket.socket:
    sock: socket.socket | None = connection.sock
    assert sock is not None, "a connection is connected before it is used"
    return sock


@contextmanager
def _closed_on_failure(connection: Connection, base_url: str) -> Iterator[None]:
    """Map what breaks on a connection to PeerErrors, and never use that connection again."""
    try:
        yield
    except TimeoutError:
        connection.close()
        raise OutcomeUnknown(f"{base_url} made no progress in time", url=base_url, stalled=True) from None
    except (http.client.HTTPException, OSError) as error:
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

    def __init__(self, transport: Transport, connection: Connection, base_url: str, waiting: Patience) -> None:
        self._transport = transport
        self._waiting = waiting
        self._connection = connection
        self.base_url = base_url

    def send(self, piece: Buffer) -> None:
        """Send the next bytes of the body.

        Raises  the datanode's error, if it answered before the end; OutcomeUnknown: no progress, or broken
        """
        sock = self._connection.sock
        if sock is None:
            raise OutcomeUnknown(f"the connection to {self.base_url} is closed", url=self.base_url)
        if readable(sock, 0):
            self._early_answer()
        view = memoryview(piece).cast("B")
        try:
            while view:
                view = view[sock.send(view) :]
        except TimeoutError:
            self.abort()
            raise OutcomeUnknown(f"{self.base_url} made no progress in time", url=self.base_url, stalled=True) from None
        except OSError as error:
            if readable(sock, 0.1):
                self._early_answer()
            self.abort()
            raise OutcomeUnknown(f"the connection to {self.base_url} broke ({error})", url=self.base_url) from None

    def _early_answer(self) -> None:
        """The peer answers before it has everything: an error, or the connection's end."""
        with _closed_on_failure(self._connection, self.base_url):
            response = self._connection.getresponse()
            body = response.read(1 << 20)
            self._connection.close()
        raise error_from_bytes(response.status, body)

    def finish(self) -> StoredChunk:
        """Wait for the receipts, as long as the datanode shows that it is alive. Raises as `send` does."""
        with _closed_on_failure(self._connection, self.base_url), waiting_for_answer(self._connection, self._waiting):
            status, answer = self._transport._read_answer(self._connection, self.base_url)
        if status != 201:
            raise error_from_bytes(status, answer)
        return _decode(_decoder(StoredChunk), answer)

    def abort(self) -> None:
        """Close the connection: the peer throws away what it has of this chunk."""
        with suppress(OSError):
            self._connection.close()
