"""The one class between the socket and the ASGI app: limits that uvicorn does not have, and the taking-over of bodies.

uvicorn with httptools takes a head of any size, waits for it for ever, and refuses a path in raw UTF-8 (which
Hadoop's Java client sends). This protocol bounds heads in size and time, percent-encodes the request line before the
parser sees it, and drops readers that don't read.

It also gives away the plain socket for the length of a body, either way, and small bodies whole; `bodies` says to whom.

And it answers small calls itself, where the app can (`server.WholeCalls`): when the body is there, without ASGI's task
and messages. Whatever is not plain about a call (a slow body, one request behind another, a reader that does not read,
an answer that has to be waited for piece by piece) goes the way of ASGI.
"""

import asyncio
import ctypes
import gc
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from dfs.protocol import errors as e
from dfs.protocol.digests import Buffer
from dfs.protocol.interim import INTERIM
from dfs.protocol.operations import PUT_CHUNK, error_to_bytes
from dfs.protocol.server import (
    EXTENSION,
    WHOLE_BYTES_MAX,
    Answer,
    ASGIApp,
    Scope,
    WholeCalls,
    is_small,
)
from dfs.protocol.settings import PARENT_VARIABLE

logger = logging.getLogger("dfs.server")

HEAD_BYTES_MAX = 16 * 1024
HEAD_TIMEOUT_S = 10.0
KEEP_ALIVE_S = 75
"""Longer than our own clients keep a connection (20 s), so that the server never closes it under them."""
WHOLE_S = 1.0
"""A small body that is not there after this time is left to the app, which knows how long it may take."""
WRITE_STALL_S = 60.0
CONNECTIONS_MAX = 4000
GC_OBJECTS = 50_000
"""New objects after which the interpreter looks for cycles of garbage; 700 by default."""
DRAIN_TIMEOUT_S = 5
"""How long requests in flight may go on after SIGTERM."""

_CHUNK_PREFIX = PUT_CHUNK.path.removesuffix("{chunk}").encode()


def encode_request_line(head: bytes) -> bytes:
    """`head` with the non-ASCII bytes of its first line percent-encoded; the rest as it is."""
    if head[: head.find(b"\r\n")].isascii():
        return head
    line, separator, rest = head.partition(b"\r\n")
    return b"".join(b"%%%02X" % byte if byte > 0x7E else bytes((byte,)) for byte in line) + separator + rest


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol behind limits. Its own state is one partial head, its size, the request whose turn it is, a
    call that waits for its body, and three timers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head = bytearray()
        self._in_parser = 0
        """Bytes of an unfinished head that the parser already has (a pipelined request)."""
        self._awaits_head = True
        self._write_timer: asyncio.TimerHandle | None = None
        self._whole: RequestResponseCycle | None = None
        """A call that will be answered without ASGI once its body is there."""
        self._answered: RequestResponseCycle | None = None
        """The request whose turn it is; `cycle` is the last one that came, which may be far behind it."""
        self._whole_timer: asyncio.TimerHandle | None = None
        self._head_timer: asyncio.TimerHandle | None = self.loop.call_later(HEAD_TIMEOUT_S, self._head_late)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered is not None:
            # uvicorn tells the last one that came alone: this one would go on for nobody, and fail in writing.
            self._answered.disconnected = True
            self._answered.message_event.set()
        super().connection_lost(exc)
        self._stop_head_timer()
        self._stop_write_timer()
        self._stop_whole_timer()
        self._whole = None

    def data_received(self, data: bytes) -> None:
        if self._awaits_head:
            self._head_received(data)
        else:
            super().data_received(data)
        self._watch_whole()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # A call behind the one that was answered begins now, and its body may never come.
        self._watch_whole()

    def _watch_whole(self) -> None:
        if self._whole is not None and self._whole_timer is None:
            self._whole_timer = self.loop.call_later(WHOLE_S, self._whole_late)

    def _head_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._in_parser:
            self._start_head_timer()
            self._in_parser += len(data)
            if self._in_parser > HEAD_BYTES_MAX and b"\r\n\r\n" not in data:
                self._refuse(431, f"the request's head is larger than {HEAD_BYTES_MAX} bytes")
                return
            super().data_received(data)
            return
        if self._head:
            self._head += data
            data = bytes(self._head)
        end = data.find(b"\r\n\r\n")
        if end > HEAD_BYTES_MAX or (end < 0 and len(data) > HEAD_BYTES_MAX):
            self._refuse(431, f"the request's head is larger than {HEAD_BYTES_MAX} bytes")
            return
        if end < 0:
            self._start_head_timer()
            self._head[:] = data
            return
        self._head.clear()
        super().data_received(encode_request_line(data))
        self._watch_pipelined()

    def _watch_pipelined(self) -> None:
        """The beginning of another request came along: it has its time, too."""
        if self._in_parser:
            self._start_head_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_parser = 1

    def on_headers_complete(self) -> None:
        self._in_parser = 0
        self._awaits_head = False
        self._stop_head_timer()
        super().on_headers_complete()
        self.scope["extensions"] = {EXTENSION: self}  # type: ignore[dict-item]
        if (
            self.scope["method"] == "PUT"
            and self.url.startswith(_CHUNK_PREFIX)
            and not is_small(cast("Scope", self.scope))
        ):
            # Nothing of the body may be read by the loop until the handler has said who reads it.
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._awaits_head = True
        if self._whole is not None:
            self._answer_whole()

    # --- calls without ASGI ---------------------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        if (
            isinstance(app, WholeCalls)
            and cycle.more_body
            and not cycle.waiting_for_100_continue
            and not self.flow.write_paused
            and app.takes_whole(cast("Scope", cycle.scope))
        ):
            self._whole = cycle
        else:
            super()._start_asgi_task(cycle, app)

    def _whole_late(self) -> None:
        """Leave a call whose body takes its time to ASGI, with what is there of it."""
        self._whole_timer = None
        cycle, self._whole = self._whole, None
        if cycle is not None:
            super()._start_asgi_task(cycle, self.app)

    def _answer_whole(self) -> None:
        self._stop_whole_timer()
        cycle, self._whole = self._whole, None
        assert cycle is not None
        answer = self.app.call_whole(cycle.scope, bytes(cycle.body))
        if isinstance(answer, Answer):
            self._write_answer(cycle, answer)
            return
        if answer is None:
            super()._start_asgi_task(cycle, self.app)
            return
        task = self.loop.create_task(self._answer_later(cycle, answer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answer_later(self, cycle: RequestResponseCycle, answer: Awaitable[Answer]) -> None:
        try:
            self._write_answer(cycle, await answer)
        except asyncio.CancelledError:
            # The server ends; nobody knows here what became of the call, so the caller must see no answer.
            self.transport.abort()

    def write_whole(self, scope: Scope, answer: Answer) -> bool:
        """Answer the request of `scope` in one write. False: that can't be done now, and nothing was."""
        cycle = self.cycle
        if cycle.scope is not scope or cycle.response_started or self.flow.write_paused:
            return False
        self._write_answer(cycle, answer)
        return True

    def _write_answer(self, cycle: RequestResponseCycle, answer: Answer) -> None:
        """As the cycle itself would send it, in one write."""
        if cycle.disconnected:
            return
        lines = self._head_of(cycle, answer, len(answer.body))
        cycle.waiting_for_100_continue = False
        cycle.response_started = cycle.response_complete = True
        if len(answer.body) <= WHOLE_BYTES_MAX:
            lines.append(answer.body)
            self.transport.write(b"".join(lines))
        else:
            # Joined, a large one would be copied.
            self.transport.write(b"".join(lines))
            self.transport.write(answer.body)
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

    def _head_of(self, cycle: RequestResponseCycle, answer: Answer, length: int) -> list[Buffer]:
        """The head of an answer whose body has `length` bytes, in parts."""
        lines: list[Buffer] = [STATUS_LINE[answer.status]]
        for name, value in self.server_state.default_headers:
            lines += (name, b": ", value, b"\r\n")
        lines.append(b"content-type: %s\r\ncontent-length: %d\r\n" % (answer.content_type, length))
        for name, value in answer.headers:
            lines += (name, b": ", value, b"\r\n")
        lines.append(b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n")
        return lines

    # --- readers that don't read ----------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(WRITE_STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_write_timer()

    # --- timers ---------------------------------------------------------------------------------------------------

    def _start_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._head_late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _stop_whole_timer(self) -> None:
        if self._whole_timer is not None:
            self._whole_timer.cancel()
            self._whole_timer = None

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

    def take_small(self, scope: Scope, length: int) -> bytes | None:
        """The body of the request of `scope`, if all of its `length` bytes are here."""
        cycle = self.cycle
        if cycle.scope is not scope or cycle.more_body or len(cycle.body) != length:
            return None
        body, cycle.body = bytes(cycle.body), bytearray()
        return body

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

    # --- answers that a thread sends ------------------------------------------------------------------------------

    def take_writing(self, scope: Scope, answer: Answer, length: int) -> tuple[bytes, socket.socket] | None:
        """Hand the sending of an answer over: its head, to be followed by `length` bytes of body, and the socket.

        None if that can't be done now, and nothing was: TLS, or there is something that must leave before. Nothing is
        read or written here until `give_writing_back`.
        """
        cycle, transport = self.cycle, self.transport
        if (
            self.scheme != "http"
            or cycle.scope is not scope
            or cycle.response_started
            or cycle.disconnected
            or transport.is_closing()
            or transport.get_write_buffer_size()
            or self._head
            or self._in_parser
        ):
            return None
        try:
            descriptor = os.dup(transport.get_extra_info("socket").fileno())
        except OSError:
            # No descriptor is to be had: the loop needs none.
            return None
        self.flow.pause_reading()
        return b"".join(self._head_of(cycle, answer, length)), socket.socket(fileno=descriptor)

    def give_writing_back(self, scope: Scope, rest: Buffer, left: int) -> None:
        """The head has been sent, and of the body all but `rest`, which leaves now, and `left` bytes behind that."""
        cycle = self.cycle
        assert cycle.scope is scope, "one answer after the other"
        cycle.response_started = True
        # Or it would be written into the body, as soon as somebody asks whether the reader is still there.
        cycle.waiting_for_100_continue = False
        if cycle.disconnected or self.transport.is_closing():
            return
        if rest:
            self.transport.write(rest)
        if left:
            cycle.chunked_encoding, cycle.expected_content_length = False, left
            self.flow.resume_reading()
            return
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

    def keep_writing(self) -> None:
        """Nothing of the answer has been sent: it leaves the loop's way, if at all."""
        if not self.transport.is_closing():
            self.flow.resume_reading()


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
        # Whom to believe about a caller's address is nobody's question here, and asking it costs every call.
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_TIMEOUT_S,
        limit_concurrency=CONNECTIONS_MAX,
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    _Server(config, started).run(sockets=[sock])


def look_less_for_garbage() -> None:
    """For a process that serves, once it is ready: what is there stays, and what requests make goes by itself.

    Nearly everything goes with its last reference. The interpreter's search for cycles passes over all that is new
    after every 700 objects, which is several times in a commit of a thousand files.
    """
    gc.freeze()
    gc.set_threshold(GC_OBJECTS)


def exit_with_parent() -> None:
    """Ask the kernel for a SIGTERM when the parent ends, however that happens (Linux; elsewhere nothing)."""
    if not sys.platform.startswith("linux"):
        return
    # One that ended while this process was still importing is noticed only if it left its number.
    parent = int(os.environ.get(PARENT_VARIABLE) or os.getppid())
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
    if os.getppid() != parent:
        # It has ended already.
        os.kill(os.getpid(), signal.SIGTERM)
