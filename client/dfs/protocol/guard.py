"""The one class between the socket and the ASGI app: limits that uvicorn does not have, and the taking-over of bodies.

uvicorn with httptools takes a head of any size, waits for it for ever, and refuses a path in raw UTF-8 (which
Hadoop's Java client sends). This protocol bounds heads in size and time, percent-encodes the request line before the
parser sees it, and drops readers that don't read.

It also lets a handler take the plain socket over for the length of a body. A thread that receives straight into its
own buffer and writes from there needs half the CPU that the same bytes cost through the event loop; everything else
(TLS, another ASGI server) falls back to a source that asks the loop for each piece.
"""

import asyncio
import ctypes
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Protocol

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from dfs.protocol import errors as e
from dfs.protocol.digests import Buffer
from dfs.protocol.interim import INTERIM, INTERIM_EVERY_S
from dfs.protocol.operations import PUT_CHUNK, error_to_bytes
from dfs.protocol.server import EXTENSION, ASGIApp, Receive, Scope

logger = logging.getLogger("dfs.server")

HEAD_BYTES_MAX = 16 * 1024
HEAD_TIMEOUT_S = 10.0
KEEP_ALIVE_S = 75
"""Longer than our own clients keep a connection (20 s), so that the server never closes it under them."""
WRITE_STALL_S = 60.0
CONNECTIONS_MAX = 4000
DRAIN_TIMEOUT_S = 5
"""How long requests in flight may go on after SIGTERM."""

_CHUNK_PREFIX = PUT_CHUNK.path.removesuffix("{chunk}").encode()


def encode_request_line(head: bytes) -> bytes:
    """`head` with the non-ASCII bytes of its first line percent-encoded; the rest as it is."""
    line, separator, rest = head.partition(b"\r\n")
    if line.isascii():
        return head
    return b"".join(b"%%%02X" % byte if byte > 0x7E else bytes((byte,)) for byte in line) + separator + rest


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol behind limits. Its own state is one partial head, its size, and two timers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head = bytearray()
        self._in_parser = 0
        """Bytes of an unfinished head that the parser already has (a pipelined request)."""
        self._awaits_head = True
        self._write_timer: asyncio.TimerHandle | None = None
        self._head_timer: asyncio.TimerHandle | None = self.loop.call_later(HEAD_TIMEOUT_S, self._head_late)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_head_timer()
        self._stop_write_timer()

    def data_received(self, data: bytes) -> None:
        if not self._awaits_head:
            super().data_received(data)
            return
        self._unset_keepalive_if_required()
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._head_late)
        if self._in_parser:
            self._in_parser += len(data)
            if self._in_parser > HEAD_BYTES_MAX and b"\r\n\r\n" not in data:
                self._refuse(431, f"the request's head is larger than {HEAD_BYTES_MAX} bytes")
                return
            super().data_received(data)
            return
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end > HEAD_BYTES_MAX or (end < 0 and len(self._head) > HEAD_BYTES_MAX):
            self._refuse(431, f"the request's head is larger than {HEAD_BYTES_MAX} bytes")
            return
        if end >= 0:
            head = encode_request_line(bytes(self._head))
            self._head.clear()
            super().data_received(head)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_parser = 1

    def on_headers_complete(self) -> None:
        self._in_parser = 0
        self._awaits_head = False
        self._stop_head_timer()
        super().on_headers_complete()
        self.scope["extensions"] = {EXTENSION: self}  # type: ignore[dict-item]
        if self.scope["method"] == "PUT" and self.url.startswith(_CHUNK_PREFIX):
            # Nothing of the body may be read by the loop until the handler has said who reads it.
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._awaits_head = True

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(WRITE_STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_write_timer()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _head_late(self) -> None:
        self._head_timer = None
        if self._head or self._in_parser:
            self._refuse(408, f"the request's head did not arrive within {HEAD_TIMEOUT_S:.0f} s")
        elif not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        self._stop_head_timer()
        if self.transport.is_closing():
            return
        body = error_to_bytes(e.TooLarge(message) if status == 431 else e.InvalidRequest(message))
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()

    def take_socket(self, length: int) -> tuple[bytes, socket.socket | None] | None:
        """Hand the rest of the current body over: what was read of it already, and the socket for what was not.

        None if this connection's bytes can't be read from its socket (TLS).
        """
        if self.scheme != "http" or not self.flow.read_paused:
            return None
        try:
            descriptor = os.dup(self.transport.get_extra_info("socket").fileno())
        except OSError as error:
            raise e.Unavailable(f"this server has too many connections ({error}); try again, or another one") from None
        cycle = self.cycle
        if cycle.waiting_for_100_continue:
            self.transport.write(INTERIM)
            cycle.waiting_for_100_continue = False
        begun = bytes(cycle.body)
        cycle.body = bytearray()
        sock = socket.socket(fileno=descriptor)
        if len(begun) >= length:
            sock.close()
            return begun, None
        return begun, sock

    def show_life(self) -> None:
        """Say that the answer is being worked on. Only between the whole body and the answer."""
        if not self.transport.is_closing():
            self.transport.write(INTERIM)

    def give_back(self, *, complete: bool) -> None:
        """The body has been read to its end, or (not `complete`) the connection ends with this answer."""
        if not complete:
            # What still comes is for whoever throws the rest of a refused body away.
            self.cycle.keep_alive = False
            return
        self.cycle.more_body = False
        self.cycle.message_event.set()
        if not self._awaits_head:
            # The parser still waits for the body that it never saw; a new one waits for the next request.
            self.parser = httptools.HttpRequestParser(self)
            self._awaits_head = True


class BodySource(Protocol):
    """Where a request's body comes from. For use in a thread: it blocks."""

    left: int
    """Bytes of it that have not been read."""

    def readinto(self, view: memoryview) -> int:
        """Fill the beginning of `view`; returns the bytes, 0 at the body's end.

        Raises TimeoutError: nothing came for too long; ConnectionError: it ended early
        """

    def cut_off(self) -> None:
        """Let no more bytes come: a thread that waits for them learns at once that the body ended early."""


class _SocketSource:
    def __init__(self, begun: bytes, sock: socket.socket | None, length: int, idle_s: float) -> None:
        self._begun = memoryview(begun)[:length]
        self._sock = sock
        self.left = length
        if sock is not None:
            sock.settimeout(idle_s)

    def readinto(self, view: memoryview) -> int:
        view = view[: self.left]
        if not view:
            return 0
        if self._begun:
            count = min(len(view), len(self._begun))
            view[:count] = self._begun[:count]
            self._begun = self._begun[count:]
        else:
            assert self._sock is not None, "a body that is not all there has a socket"
            count = self._sock.recv_into(view)
            if count == 0:
                raise ConnectionError("the connection ended before the body did")
        self.left -= count
        return count

    def cut_off(self) -> None:
        if self._sock is not None:
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RD)


class _LoopSource:
    """Asks the event loop for each piece: for TLS, and for servers whose sockets can't be taken over."""

    def __init__(self, receive: Receive, loop: asyncio.AbstractEventLoop, length: int, idle_s: float) -> None:
        self._receive = receive
        self._loop = loop
        self._idle_s = idle_s
        self._piece: Buffer = b""
        self._ended = False
        self._cut = False
        self._waiting: asyncio.Task[Any] | None = None
        self.left = length

    def readinto(self, view: memoryview) -> int:
        while not self._piece:
            if self._ended:
                if self.left:
                    raise ConnectionError("the body ended before its announced length")
                return 0
            try:
                message = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
            except CancelledError:
                raise ConnectionError("the body was cut off") from None
            if message["type"] != "http.request":
                raise ConnectionError("the connection ended before the body did")
            self._ended = not message.get("more_body", False)
            self._piece = memoryview(message.get("body", b""))
        count = min(len(view), len(self._piece), self.left)
        view[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        self.left -= count
        if count == 0 and len(view):
            raise ConnectionError("the body is longer than announced")
        return count

    async def _next(self) -> Any:
        self._waiting = asyncio.current_task()
        if self._cut:
            raise ConnectionError("the body was cut off")
        return await asyncio.wait_for(self._receive(), self._idle_s)

    def cut_off(self) -> None:
        # From the loop's thread, as everything that cuts off is.
        self._cut = True
        if self._waiting is not None:
            self._waiting.cancel()


@asynccontextmanager
async def take_body(scope: Scope, receive: Receive, *, length: int, idle_s: float) -> AsyncIterator[BodySource]:
    """The request's body, of exactly `length` bytes, for a thread to read.

    Whoever leaves the block has stopped reading. If bytes are left then, the connection closes after the answer.
    """
    connection: GuardedProtocol | None = scope.get("extensions", {}).get(EXTENSION)
    taken = connection.take_socket(length) if connection is not None else None
    if connection is None or taken is None:
        yield _LoopSource(receive, asyncio.get_running_loop(), length, idle_s)
        return
    source = _SocketSource(*taken, length, idle_s)
    try:
        yield source
    finally:
        if taken[1] is not None:
            taken[1].close()
        connection.give_back(complete=source.left == 0)


async def wait_showing_life(work: "asyncio.Future[Any]", scope: Scope, source: BodySource) -> None:
    """Wait until `work` has ended, and tell the client every now and then that it goes on, once it sent everything.

    What `work` raised stays in it; whoever is cancelled here has not cancelled it.
    """
    connection: GuardedProtocol | None = scope.get("extensions", {}).get(EXTENSION)
    while not (await asyncio.wait([work], timeout=INTERIM_EVERY_S))[0]:
        if connection is not None and source.left == 0:
            connection.show_life()


# --- running ----------------------------------------------------------------------------------------------------


def bind(listen: str, *, insecure: bool) -> tuple[socket.socket, str]:
    """A listening socket for HOST:PORT (port 0: any free one), and its URL.

    Raises InvalidRequest: malformed; in use; or an address that others can reach, without `insecure`
    """
    host, separator, port_text = listen.rpartition(":")
    host = host.strip("[]")
    if not separator or not host or not (port_text.isascii() and port_text.isdigit()) or int(port_text) > 65535:
        raise e.InvalidRequest(f"{listen!r} is not an address to listen on; it looks like 127.0.0.1:9870")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, int(port_text)))
        bound_host, bound_port = sock.getsockname()[:2]
        if not insecure and not ipaddress.ip_address(bound_host).is_loopback:
            raise e.InvalidRequest(
                f"{listen} can be reached by others, and nothing asks them who they are: listen on 127.0.0.1, "
                "or say --insecure if the network is private"
            )
        sock.listen(1024)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        if isinstance(error, e.DfsError):
            raise
        raise e.InvalidRequest(f"can't listen on {listen}: {(error.strerror or str(error)).lower()}") from None
    except BaseException:
        sock.close()
        raise
    shown = f"[{bound_host}]" if family == socket.AF_INET6 else bound_host
    return sock, f"http://{shown}:{bound_port}"


class _Server(uvicorn.Server):
    """uvicorn's server, which tells when it listens and ends without raising the signal again."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._tell_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run_server(app: ASGIApp, *, sock: socket.socket, started: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight. Blocks; `started` is called once it listens.

    The ASGI lifespan goes to `app`; a start-up that fails ends the process with SystemExit.
    """
    config = uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_TIMEOUT_S,
        limit_concurrency=CONNECTIONS_MAX,
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    _Server(config, started).run(sockets=[sock])


def exit_with_parent() -> None:
    """Ask the kernel for a SIGTERM when the parent ends, however that happens (Linux; elsewhere nothing)."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
    if os.getppid() != parent:
        # It ended between the two calls.
        os.kill(os.getpid(), signal.SIGTERM)
