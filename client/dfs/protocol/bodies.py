"""Bodies of bytes, from the handler's side: where a request's body comes from, and how its answer leaves.

A handler may take the plain socket over for the length of a body. A thread that receives straight into its own buffer
and writes from there needs half the CPU that the same bytes cost through the event loop; everything else (TLS, another
ASGI server) falls back to a source that asks the loop for each piece. A small body is received on the loop, whatever
the server: it comes with the head, and to take a socket over for it would cost more than it. Separate from `guard`,
whose protocol class does its part of this for one connection.

A large answer goes the same way (`send_from_thread`), as long as its reader takes it. One that pauses gets the rest
from the loop: slow readers are the loop's business, and hold no thread.
"""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import CancelledError, Executor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Protocol

from dfs.protocol.digests import Buffer
from dfs.protocol.guard import GuardedProtocol
from dfs.protocol.interim import INTERIM_EVERY_S
from dfs.protocol.server import EXTENSION, WHOLE_BYTES_MAX, Answer, Receive, Scope, Send, cut_off, send_answer

PAUSE_S = 0.2
"""A reader that takes no byte for so long has paused."""
KEEP_UP_S = 1.0
"""So has one that takes longer for what is sent at once."""


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


class _GivenSource:
    """A small body that the loop has received already, or what kept it from coming."""

    def __init__(self, body: bytes, failure: OSError | None, length: int) -> None:
        self._rest = memoryview(body)
        self._failure = failure
        self.left = length

    def readinto(self, view: memoryview) -> int:
        if self._failure is not None:
            raise self._failure
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self.left -= count
        return count

    def cut_off(self) -> None:
        pass  # Nobody waits for bytes.


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
    if length <= WHOLE_BYTES_MAX:
        # It came with the head, or nearly: there is nothing to wait for in a thread, and no socket to take over.
        body = connection.take_small(scope, length) if connection is not None else None
        if body is not None:
            yield _GivenSource(body, None, length)
        else:
            yield await _receive_small(receive, length, idle_s)
        return
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


async def _receive_small(receive: Receive, length: int, idle_s: float) -> _GivenSource:
    """A body of `length` bytes. It has `idle_s` in all, since it is too small to take longer by itself."""
    body = b""
    try:
        async with asyncio.timeout(idle_s):
            while len(body) < length:
                message = await receive()
                if message["type"] != "http.request":
                    raise ConnectionError("the connection ended before the body did")
                body += message.get("body", b"")
                if len(body) < length and not message.get("more_body"):
                    raise ConnectionError("the body ended before its announced length")
        if len(body) > length:
            raise ConnectionError("the body is longer than announced")
    except OSError as failure:
        # TimeoutError is one. It is for whoever reads: he knows what it means for what he has begun.
        return _GivenSource(b"", failure, length)
    return _GivenSource(body, None, length)


async def wait_showing_life(work: "asyncio.Future[Any]", scope: Scope, source: BodySource) -> None:
    """Wait until `work` has ended, and tell the client every now and then that it goes on, once it sent everything.

    What `work` raised stays in it; whoever is cancelled here has not cancelled it.
    """
    connection: GuardedProtocol | None = scope.get("extensions", {}).get(EXTENSION)
    loop = asyncio.get_running_loop()
    # By hand what `asyncio.wait` does, which costs several times as much.
    ended = loop.create_future()

    def wake(_: object) -> None:
        if not ended.done():
            ended.set_result(None)

    timer: asyncio.TimerHandle

    def tick() -> None:
        nonlocal timer
        if connection is not None and source.left == 0:
            connection.show_life()
        timer = loop.call_later(INTERIM_EVERY_S, tick)

    timer = loop.call_later(INTERIM_EVERY_S, tick)
    work.add_done_callback(wake)
    try:
        await ended
    finally:
        timer.cancel()
        work.remove_done_callback(wake)


async def send_whole(scope: Scope, send: Send, answer: Answer) -> None:
    """Send a whole answer, in one write where the server is ours."""
    connection: GuardedProtocol | None = scope.get("extensions", {}).get(EXTENSION)
    if connection is None or not connection.write_whole(scope, answer):
        await send_answer(send, answer)


class Outlet:
    """An answer that a thread sends through the socket, for as long as the reader keeps up with it.

    length  of the body, bytes
    """

    def __init__(self, head: bytes, sock: socket.socket, length: int) -> None:
        self._head = head
        self._sock = sock
        self._gate = threading.Lock()
        sock.settimeout(PAUSE_S)
        self.left = length
        """Bytes of the body that `send` was not given yet."""
        self.rest = b""
        """What it was given and could not send: the copy that the loop sends."""
        self.begun = False

    def send(self, *parts: Buffer) -> bool:
        """Take the next bytes of the body; they may be overwritten afterwards. False: the reader has paused.

        Raises  ConnectionError: it has gone, or the answer was cut off
        """
        assert not self.rest, "whoever was told of a pause sends no more"
        self.left -= sum(map(len, parts))
        if not self.begun:
            self.begun = True
            parts = (self._head, *parts)
        until_s = time.monotonic() + KEEP_UP_S
        for number, part in enumerate(parts):
            view = memoryview(part)
            more = socket.MSG_MORE if number + 1 < len(parts) else 0
            while view:
                try:
                    view = view[self._sock.send(view, more) :]
                except TimeoutError:
                    until_s = 0.0
                except OSError as error:
                    # Also of a network that is down: whoever reads a disk meanwhile must not take it for the disk's.
                    raise ConnectionError(f"the answer can't be sent: {error}") from error
                if view and time.monotonic() > until_s:
                    self.rest = b"".join((view, *parts[number + 1 :]))
                    return False
        return True

    def take_back(self, count: int) -> None:
        """Let the last bytes of the rest be as if they had not been given: they will come again, from the loop."""
        assert count <= len(self.rest), "what was sent was sent"
        self.rest = self.rest[: len(self.rest) - count]
        self.left += count

    def cut_off(self) -> None:
        """End the connection: a thread that sends learns it at once. From any thread."""
        with self._gate, suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def run(self, work: "Callable[[Outlet], None]") -> None:
        """Do the work, and give the descriptor back: in the thread, whether or not anybody still waits for it."""
        try:
            work(self)
        finally:
            self.close()

    def close(self) -> None:
        """Give the descriptor back. Not by others while `run` goes on, or is still to begin."""
        # Not while another thread uses the descriptor: its number may be somebody else's at once.
        with self._gate:
            self._sock.close()


async def send_from_thread(
    scope: Scope, answer: Answer, length: int, threads: Executor, work: Callable[[Outlet], None]
) -> Outlet | None:
    """Answer with a body of `length` bytes that `work` gives to an outlet, in one of the `threads`.

    answer   without its body
    Returns  None: that can't be done on this connection now, and nothing was. Else the outlet, whose `left` bytes are
             still to be sent by ASGI messages, if there are any: the reader has paused, or `work` wants it so
    Raises   what `work` raises. If it had begun to send then, the connection has ended; else another answer is possible
    """
    connection: GuardedProtocol | None = scope.get("extensions", {}).get(EXTENSION)
    taken = connection.take_writing(scope, answer, length) if connection is not None else None
    if connection is None or taken is None:
        return None
    outlet = Outlet(*taken, length)
    try:
        working = asyncio.get_running_loop().run_in_executor(threads, outlet.run, work)
    except RuntimeError:
        # The threads have been told to end.
        outlet.close()
        connection.keep_writing()
        return None
    try:
        await asyncio.wait([working])
    except asyncio.CancelledError:
        # The server ends. The thread learns it as soon as it sends; a disk may hold it for longer.
        outlet.cut_off()
        working.add_done_callback(partial(_forget, outlet))
        await cut_off(scope)
        raise
    try:
        working.result()
    except BaseException:
        if working.cancelled():
            # No thread ever began with it.
            outlet.close()
        if outlet.begun:
            await cut_off(scope)
        else:
            connection.keep_writing()
        raise
    if not outlet.begun:
        connection.keep_writing()
        return None
    connection.give_writing_back(scope, outlet.rest, outlet.left)
    return outlet


def _forget(outlet: Outlet, working: "asyncio.Future[None]") -> None:
    """Nobody waits for it any more; what it met is the consequence of that."""
    if working.cancelled():
        outlet.close()
    else:
        working.exception()
