"""All calls of our own protocol: one table row, one URL, one answer or one error.

Separate because how bytes reach a peer (connections, time-outs, what a broken connection means) is one subject, and
what to do about it (another replica, another namenode, a new grant) is another, which belongs to the callers.
Blocking, usable from several threads and after a fork.

What a failure means is decided here, once: no connection, or not one byte of the request sent: NotSent. Anything
later: OutcomeUnknown. An answer that is an error of the protocol is raised as that error.
"""

import http.client
import os
import select
import socket
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

from dfs.protocol import PROTOCOL_VERSION
from dfs.protocol.chunk_format import encode_wire_footer, wire_size
from dfs.protocol.digests import Buffer
from dfs.protocol.errors import BadAnswer, DfsError, InvalidRequest, NotSent, OutcomeUnknown
from dfs.protocol.messages import StoredChunk
from dfs.protocol.operations import (
    GET_CHUNK,
    HEADER_CAPABILITY,
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
Connection = http.client.HTTPConnection

FRESH_S = 50.0
"""An idle connection is used again within this time; the servers close theirs after 75 s."""
IDLE_CONNECTIONS_MAX = 32
"""Kept for each peer."""
ANSWER_BYTES_MAX = 256 << 20
WHOLE_CHUNK_BYTES = 64 << 20
RECEIPTS_STEP_S = 1.5
"""More for each datanode behind the one whose receipts are awaited: its answer must still travel back in time."""

_encoder = msgspec.json.Encoder()
_decoders: dict[type, msgspec.json.Decoder[Any]] = {}


def _decode(kind: type[A], body: bytes) -> A:
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        answer: A = decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadAnswer(f"an answer that is not of the dfs protocol: {error}") from None
    return answer


class _Pool:
    """The idle connections of one process, for all of its threads: a thread that ends leaves none behind."""

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._pid = os.getpid()
        self._idle: dict[str, list[tuple[float, Connection]]] = {}

    def take(self, base_url: str) -> Connection | None:
        """A connection that is still fresh and silent, or None."""
        if self._pid != os.getpid():
            # After a fork the connections, and perhaps the lock, belong to the parent's threads. Closing our copies
            # of the descriptors says nothing on the wire.
            for inherited in list(self._idle.values()):
                for _, connection in inherited:
                    connection.close()
            self.__init__()  # type: ignore[misc]
        while True:
            with self._gate:
                waiting = self._idle.get(base_url)
                if not waiting:
                    return None
                since, connection = waiting.pop()
            sock = connection.sock
            # A readable idle connection has been closed by the peer, or says something nobody asked for.
            if sock is not None and time.monotonic() - since < FRESH_S and not _readable(sock, 0):
                return connection
            connection.close()

    def give(self, base_url: str, connection: Connection) -> None:
        with self._gate:
            waiting = self._idle.setdefault(base_url, [])
            if len(waiting) < IDLE_CONNECTIONS_MAX and connection.sock is not None:
                waiting.append((time.monotonic(), connection))
                return
        connection.close()

    def idle(self, base_url: str) -> int:
        """How many connections wait for work."""
        return len(self._idle.get(base_url, []))

    def close(self) -> None:
        if self._pid != os.getpid():
            return
        with self._gate:
            idle, self._idle = self._idle, {}
        for waiting in idle.values():
            for _, connection in waiting:
                connection.close()


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


def _readable(sock: socket.socket, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


class Transport:
    """Makes the calls. Holds nothing but time-outs and idle connections; `close` only saves descriptors.

    principal          who the calls are made for
    connect_timeout_s  for a connection to be made
    call_timeout_s     for the answer of a namenode
    no_progress_s      for the next bytes of a chunk, in either direction
    receipts_s         for the receipt of a datanode that has just got the last byte of a chunk of WHOLE_CHUNK_BYTES;
                       a smaller chunk gets less, a datanode with others behind it more: see `receipts_wait_s`
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
        self._pool = _Pool()
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
                # has had its time.
                if not operation.idempotent or error.detail.get("stalled"):
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
                if not _readable(_sock(connection), 0.1):
                    raise
            status, answer = self._read_answer(connection, base_url)
        if status != 200:
            raise error_from_bytes(status, answer)
        return _decode(operation.response, answer)

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
        self, base_url: str, *, chunk: str, capability: str, length: int, hop: int = 0, behind: int = 0
    ) -> "OutgoingChunk":
        """Connect and announce a chunk of `length` bytes. Raises NotSent.

        hop, behind  members of the chain before and behind the one at `base_url`
        """
        connection = self._pool.take(base_url) or self._connect(base_url)
        with _closed_on_failure(connection, base_url):
            _sock(connection).settimeout(self.no_progress_s)
            connection.putrequest(PUT_CHUNK.method, PUT_CHUNK.path.format(chunk=chunk), skip_accept_encoding=True)
            for name, value in self._headers().items():
                connection.putheader(name, value)
            connection.putheader(HEADER_CAPABILITY, capability)
            connection.putheader(HEADER_LENGTH, str(length))
            connection.putheader(HEADER_HOP, str(hop))
            connection.putheader("content-length", str(wire_size(length)))
            connection.endheaders()
        return OutgoingChunk(self, connection, base_url, receipts_wait_s(self.receipts_s, length, behind))

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
    ) -> StoredChunk:
        """Send a whole chunk whose pieces make `length` bytes, and wait for the receipts.

        Raises  the datanode's error; NotSent; OutcomeUnknown: the chunk id is spent, ask for another one
        """
        outgoing = self.begin_put(base_url, chunk=chunk, capability=capability, length=length, hop=hop, behind=behind)
        try:
            for piece in pieces:
                outgoing.send(piece)
            outgoing.send(encode_wire_footer(length, table, root))
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
        headers = self._headers() | {HEADER_CAPABILITY: capability}
        connection = self._pool.take(base_url)
        if connection is not None:
            try:
                response = self._ask(connection, base_url, path, headers, flight)
            except OutcomeUnknown as error:
                if error.detail.get("stalled"):
                    raise
                connection = None
        if connection is None:
            connection = self._connect(base_url)
            response = self._ask(connection, base_url, path, headers, flight)
        with _closed_on_failure(connection, base_url):
            if response.status != 200:
                body = response.read(1 << 20)
                connection.close()
                raise error_from_bytes(response.status, body)
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


def receipts_wait_s(receipts_s: float, length: int, behind: int) -> float:
    """How long to wait for the receipts of a chunk of `length` bytes, after its last byte was sent. Pure.

    What a datanode still has to do then is to write the rest and to sync, which takes longer for more bytes: a small
    chunk gets a third of the time. Each of the members behind the next one adds a step, so that whoever waits for a
    silent datanode gives up before those who wait for him: otherwise all of them would blame the wrong one at once.

    receipts_s  for a chunk of WHOLE_CHUNK_BYTES and nobody behind
    """
    share = min(1.0, length / WHOLE_CHUNK_BYTES)
    return receipts_s * (1 + 2 * share) / 3 + RECEIPTS_STEP_S * behind


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

    def __init__(self, transport: Transport, connection: Connection, base_url: str, receipts_s: float) -> None:
        self._transport = transport
        self._receipts_s = receipts_s
        self._connection = connection
        self.base_url = base_url

    def send(self, piece: Buffer) -> None:
        """Send the next bytes of the body.

        Raises  the datanode's error, if it answered before the end; OutcomeUnknown: no progress, or broken
        """
        sock = self._connection.sock
        if sock is None:
            raise OutcomeUnknown(f"the connection to {self.base_url} is closed", url=self.base_url)
        if _readable(sock, 0):
            self._early_answer()
        view = memoryview(piece).cast("B")
        try:
            while view:
                view = view[sock.send(view) :]
        except TimeoutError:
            self.abort()
            raise OutcomeUnknown(f"{self.base_url} made no progress in time", url=self.base_url, stalled=True) from None
        except OSError as error:
            if _readable(sock, 0.1):
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
        """Wait for the receipts. Raises as `send` does."""
        with _closed_on_failure(self._connection, self.base_url):
            _sock(self._connection).settimeout(self._receipts_s)
            status, answer = self._transport._read_answer(self._connection, self.base_url)
        if status != 201:
            raise error_from_bytes(status, answer)
        return _decode(StoredChunk, answer)

    def abort(self) -> None:
        """Close the connection: the peer throws away what it has of this chunk."""
        with suppress(OSError):
            self._connection.close()
