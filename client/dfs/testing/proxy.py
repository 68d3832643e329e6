"""A network that misbehaves: a TCP proxy in a thread, with faults that are switched on and off while it runs.

    with Proxy(server_url) as proxy:
        proxy.add(Delay(0.2))
        proxy.add(Flip("request", at=5000, match=b"PUT "), times=1)
        ...
        proxy.heal()

It sees exchanges: what a client sends is a request until the server has answered and the client sends again. `match` is
looked for in the first piece of a request (its head), so that a fault can be meant for one operation; positions count
from the beginning of that request, or of its answer. It knows nothing else of HTTP.

    Delay(seconds)                    every piece waits, each way
    Throttle(bytes_per_s)             each way, for each connection
    Stall()                           takes connections and passes nothing on, as a cable that was pulled
    Refuse()                          resets connections, old and new
    Flip(direction, at)               one bit of the byte at that position is the other one
    Cut(direction, at)                nothing more than that many bytes, then the connection is reset
    Duplicate()                       the server gets the whole request a second time, when it has answered the first

`Cut("answer", 0)` is the lost answer of something that has happened.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

HOST = "127.0.0.1"
Direction = Literal["request", "answer"]

PIECE = 64 * 1024
MATCH_WITHIN = 512
"""Where `match` is looked for: the request line, of any operation."""
UPSTREAM_WAIT_S = 30.0
"""A connection that comes before the server's address is known waits this long."""
STOP_TIMEOUT_S = 10.0
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no seconds: closing sends RST."""


@dataclass(frozen=True)
class Delay:
    seconds: float
    match: bytes = b""


@dataclass(frozen=True)
class Throttle:
    bytes_per_s: float
    match: bytes = b""


@dataclass(frozen=True)
class Stall:
    match: bytes = b""


@dataclass(frozen=True)
class Refuse:
    match: bytes = b""


@dataclass(frozen=True)
class Flip:
    direction: Direction
    at: int
    match: bytes = b""
    bit: int = 0


@dataclass(frozen=True)
class Cut:
    direction: Direction
    at: int = 0
    match: bytes = b""


@dataclass(frozen=True)
class Duplicate:
    match: bytes = b""


Fault = Delay | Throttle | Stall | Refuse | Flip | Cut | Duplicate


@dataclass
class _Switched:
    """A fault, and how often it is still to happen; None: without end."""

    fault: Fault
    left: int | None


@dataclass
class _Exchange:
    """A request and its answer, as far as they have come."""

    head: bytes = b""
    request: bytearray = field(default_factory=bytearray)
    """All of it, while somebody may want it again."""
    passed: dict[Direction, int] = field(default_factory=lambda: {"request": 0, "answer": 0})
    struck: "list[_Switched]" = field(default_factory=list)
    """The faults that have happened in it: once is enough for each."""


class _Reset(Exception):
    """This connection is to be reset."""


class Proxy:
    """Stands before one server; started at once. Usable from several threads.

    upstream  the server's URL; None: told later (`upstream = url`), connections wait for it
    """

    def __init__(self, upstream: str | None = None) -> None:
        self._switched: list[_Switched] = []
        self._lock = threading.Lock()
        self.happened = 0
        """Faults of exchanges that have struck (flips, cuts, duplicates)."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._socket = socket.create_server((HOST, 0))
        self.url = f"http://{HOST}:{self._socket.getsockname()[1]}"
        self._upstream: tuple[str, int] | None = None
        self._known = threading.Event()
        if upstream is not None:
            self.upstream = upstream
        self._loop = asyncio.new_event_loop()
        self._changed: asyncio.Event = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=f"proxy {self.url}", daemon=True)
        self._thread.start()

    # --- what a test says -------------------------------------------------------------------------------------

    @property
    def upstream(self) -> str:
        """The URL of the server behind it; "" while it is not known."""
        return "" if self._upstream is None else f"http://{self._upstream[0]}:{self._upstream[1]}"

    @upstream.setter
    def upstream(self, url: str) -> None:
        place = urlsplit(url)
        assert place.hostname is not None
        assert place.port is not None
        self._upstream = (place.hostname, place.port)
        self._known.set()

    def add(self, fault: Fault, *, times: int | None = None) -> None:
        """Switch a fault on, also for connections that exist. `times`: only for so many exchanges."""
        with self._lock:
            self._switched = [*self._switched, _Switched(fault, times)]
        self._wake(reset=isinstance(fault, Refuse) and not fault.match)

    def heal(self) -> None:
        """Switch all faults off. What was stalled goes on."""
        with self._lock:
            self._switched = []
        self._wake(reset=False)

    def reset_connections(self) -> None:
        """Reset those that exist now; new ones are welcome."""
        self._wake(reset=True)

    def _wake(self, *, reset: bool) -> None:
        def wake() -> None:
            self._changed.set()
            self._changed = asyncio.Event()
            if reset:
                for writer in list(self._writers):
                    _reset(writer)

        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(wake)

    def close(self) -> None:
        """Reset everything, and end the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(STOP_TIMEOUT_S)

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- what it does -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, sock=self._socket))
        try:
            self._loop.run_forever()
        finally:
            server.close()
            for writer in list(self._writers):
                _reset(writer)
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._connect(reader, writer)
        except (OSError, _Reset, asyncio.CancelledError):
            _reset(writer)
        else:
            writer.close()
        finally:
            self._writers.discard(writer)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end. Raises _Reset, OSError: it is to be reset."""
        await self._wait_while(lambda: self._first(Stall, b"") is not None)
        if self._first(Refuse, b"") is not None:
            raise _Reset
        deadline = self._loop.time() + UPSTREAM_WAIT_S
        while self._upstream is None:
            if self._loop.time() > deadline:
                raise _Reset
            await asyncio.sleep(0.01)
        there_reader, there_writer = await asyncio.open_connection(*self._upstream)
        self._writers.add(there_writer)
        box = _Box()
        ways = [
            asyncio.create_task(self._pass_requests(reader, there_writer, box)),
            asyncio.create_task(self._pass_answers(there_reader, writer, box)),
        ]
        try:
            await self._until_over(ways)
        except BaseException:
            _reset(there_writer)
            raise
        else:
            there_writer.close()
        finally:
            self._writers.discard(there_writer)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _until_over(self, ways: "list[asyncio.Task[None]]") -> None:
        """Until the server has nothing more to say, or one way has failed. A client may be done before its answer."""
        requests, answers = ways
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        if requests.done() and not answers.done():
            requests.result()
            await answers
        for way in ways:
            if way.done():
                way.result()

    async def _pass_requests(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, box: "_Box") -> None:
        while piece := await source.read(PIECE):
            if box.exchange.passed["answer"] or not box.exchange.head:
                box.exchange = _Exchange(head=piece[:MATCH_WITHIN])
            exchange = box.exchange
            if self._first(Duplicate, exchange.head) is not None:
                exchange.request += piece
            await self._pass(piece, "request", target, exchange)
        if target.can_write_eof():
            target.write_eof()

    async def _pass_answers(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, box: "_Box") -> None:
        while piece := await source.read(PIECE):
            exchange = box.exchange
            doubled = self._first(Duplicate, exchange.head)
            if doubled is not None and exchange.request and self._strike(doubled, exchange):
                await self._send_again(bytes(exchange.request))
            await self._pass(piece, "answer", target, exchange)
            if target.is_closing():
                return

    async def _send_again(self, request: bytes) -> None:
        """As a network that delivers a message twice would: the second answer reaches nobody."""
        assert self._upstream is not None
        reader, writer = await asyncio.open_connection(*self._upstream)
        try:
            writer.write(request)
            await writer.drain()
            await asyncio.wait_for(reader.read(PIECE), UPSTREAM_WAIT_S)
        finally:
            writer.close()

    async def _pass(
        self, piece: bytes, direction: Direction, target: asyncio.StreamWriter, exchange: _Exchange
    ) -> None:
        """Pass on one piece of one direction, with what happens to it on its way."""
        head = exchange.head
        await self._wait_while(lambda: self._first(Stall, head) is not None)
        if self._first(Refuse, head) is not None:
            raise _Reset
        delay = self._first(Delay, head)
        if delay is not None and isinstance(delay.fault, Delay):
            await asyncio.sleep(delay.fault.seconds)
        begin = exchange.passed[direction]
        exchange.passed[direction] += len(piece)
        cut = self._cut_of(piece, begin, direction, exchange)
        throttle = self._first(Throttle, head)
        if throttle is not None and isinstance(throttle.fault, Throttle):
            await asyncio.sleep(len(piece) / throttle.fault.bytes_per_s)
        target.write(piece[:cut] if cut is not None else self._damaged(piece, begin, direction, exchange))
        await target.drain()
        if cut is not None:
            raise _Reset

    def _cut_of(self, piece: bytes, begin: int, direction: Direction, exchange: _Exchange) -> int | None:
        """How much of this piece gets through before the connection is cut; None: all, it is not."""
        for switched in self._of(Cut, exchange.head):
            fault = switched.fault
            assert isinstance(fault, Cut)
            if fault.direction == direction and fault.at < begin + len(piece) and self._strike(switched, exchange):
                return max(0, fault.at - begin)
        return None

    def _damaged(self, piece: bytes, begin: int, direction: Direction, exchange: _Exchange) -> bytes:
        for switched in self._of(Flip, exchange.head):
            fault = switched.fault
            assert isinstance(fault, Flip)
            here = fault.direction == direction and begin <= fault.at < begin + len(piece)
            if here and self._strike(switched, exchange):
                changed = bytearray(piece)
                changed[fault.at - begin] ^= 1 << fault.bit
                piece = bytes(changed)
        return piece

    # --- which faults hold now --------------------------------------------------------------------------------

    def _of(self, kind: type[Fault], head: bytes) -> list[_Switched]:
        return [
            one
            for one in self._switched
            if isinstance(one.fault, kind) and one.left != 0 and (not one.fault.match or one.fault.match in head)
        ]

    def _first(self, kind: type[Fault], head: bytes) -> _Switched | None:
        found = self._of(kind, head)
        return found[0] if found else None

    def _strike(self, switched: _Switched, exchange: _Exchange) -> bool:
        """Whether the fault happens now: once in each exchange, and as often as was asked for."""
        with self._lock:
            if any(switched is one for one in exchange.struck) or switched.left == 0:
                return False
            if switched.left is not None:
                switched.left -= 1
            exchange.struck.append(switched)
            self.happened += 1
            return True

    async def _wait_while(self, condition: Callable[[], bool]) -> None:
        while condition():
            await self._changed.wait()


@dataclass
class _Box:
    """The exchange that a connection is in; both ways look at it."""

    exchange: _Exchange = field(default_factory=_Exchange)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, so that the other side learns of it at once, and that something went wrong."""
    there = writer.get_extra_info("socket")
    if there is not None and not writer.is_closing():
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
