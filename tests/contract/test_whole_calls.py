"""Small calls that are answered without ASGI mean what they mean on any ASGI server, and end as they end there."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from dfs.protocol import errors as e
from dfs.protocol import messages as m
from dfs.protocol import operations as o
from dfs.protocol.guard import _Server, bind, run_server
from dfs.protocol.server import (
    WHOLE_BYTES_MAX,
    Answer,
    ASGIApp,
    Caller,
    Receive,
    Scope,
    Send,
    WholeCalls,
    protocol_app,
    send_answer,
)

CLUSTER = "0123456789abcdef" * 2
HEAD = b"POST /v1/%s HTTP/1.1\r\nHost: x\r\nDfs-Protocol: 1\r\nDfs-Principal: ada\r\nContent-Length: %d\r\n%s\r\n"


class Served:
    """A server with a call that answers at once, one that waits, one that refuses, one that breaks, one that hangs."""

    def __init__(self) -> None:
        self.observed: list[tuple[str, str]] = []
        self.hanging = threading.Event()
        self.app: ASGIApp = protocol_app(
            {o.CLUSTER: self._facts, o.STAT: self._later, o.OPEN: self._refuse, o.USAGE: self._bug, o.LIST: self._hang},
            otherwise=Starlette(),
            observe=lambda name, _seconds, outcome: self.observed.append((name, outcome)),
        )

    def _facts(self, _: m.Empty, caller: Caller) -> m.ClusterFacts:
        return m.ClusterFacts(
            cluster=CLUSTER, version=caller.principal, protocol=1, time_ms=5, replication=3, chunk_size_bytes=1,
            pack_limit_bytes=1,
        )  # fmt: skip

    async def _later(self, request: m.Stat, _: Caller) -> m.Entry:
        await asyncio.sleep(0.01)
        raise e.FileNotFound(f"{request.path}: no such file or directory", path=request.path)

    def _refuse(self, _: m.Open, __: Caller) -> m.Opened:
        raise e.Unavailable("not now")

    def _bug(self, _: m.Stat, __: Caller) -> m.Usage:
        raise ZeroDivisionError("a bug")

    async def _hang(self, _: m.ListDirectory, __: Caller) -> m.Listing:
        self.hanging.set()
        await asyncio.sleep(60)
        raise AssertionError


@contextmanager
def serving(app: ASGIApp) -> Iterator[tuple[tuple[str, int], Callable[[], None]]]:
    """The address of a server, and how to have it begin to end."""
    servers: list[_Server] = []
    original = _Server.startup

    async def startup(self: _Server, sockets: list[socket.socket] | None = None) -> None:
        servers.append(self)
        await original(self, sockets)

    def end() -> None:
        servers[0].should_exit = True

    sock, _ = bind("127.0.0.1:0", insecure=False)
    host, port = sock.getsockname()
    listening = threading.Event()
    thread = threading.Thread(target=lambda: run_server(app, sock=sock, started=listening.set))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Server, "startup", startup)
        thread.start()
        assert listening.wait(10)
    try:
        yield (host, port), end
    finally:
        end()
        thread.join(15)
        assert not thread.is_alive()


def call(name: bytes, body: bytes, more: bytes = b"") -> bytes:
    return HEAD % (name, len(body), more) + body


def answers(address: tuple[str, int], *parts: bytes, pause_s: float = 0.0) -> bytes:
    """All that the server says to these bytes, until it closes the connection."""
    with socket.create_connection(address, timeout=5) as sock:
        for number, part in enumerate(parts):
            if number:
                time.sleep(pause_s)
            sock.sendall(part)
        received = b""
        while piece := sock.recv(65536):
            received += piece
        return received


def essence(answer: bytes) -> tuple[bytes, bytes, dict[bytes, bytes]]:
    """Status, body, and the headers that mean something."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in lines)
    fields.pop(b"date", None)
    if b"retry-after" in fields:
        fields[b"retry-after"] = b"jittered"
    return status.split(b" ")[1], body, fields


CLOSE = b"Connection: close\r\n"
CALLS = {
    "answers at once": call(b"cluster", b"{}", CLOSE),
    "is refused later": call(b"stat", b'{"path": "/nope"}', CLOSE),
    "is to be repeated": call(b"open", b'{"path": "/x"}', CLOSE),
    "meets a bug": call(b"usage", b'{"path": "/x"}', CLOSE),
    "is malformed": call(b"stat", b"{{{", CLOSE),
    "is of another protocol": call(b"cluster", b"{}", CLOSE).replace(b"Protocol: 1", b"Protocol: 9"),
    "has too long a principal": call(b"cluster", b"{}", CLOSE).replace(b"ada", b"a" * 300),
    "is large": call(b"stat", b'{"path": "' + b"a" * WHOLE_BYTES_MAX + b'"}', CLOSE),
    "is HTTP/1.0": call(b"cluster", b"{}").replace(b"HTTP/1.1", b"HTTP/1.0"),
}


def require_same_answers(
    direct: "Served | ServedChunks",
    portable: "Served | ServedChunks",
    request_bytes: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On our own server and on another one, whose observers must have seen the same as well."""
    with serving(direct.app) as (address, _):
        ours = answers(address, request_bytes)
    monkeypatch.setattr("dfs.protocol.guard.GuardedProtocol", H11Protocol)
    with serving(portable.app) as (address, _):
        theirs = answers(address, request_bytes)
    assert essence(ours) == essence(theirs)
    assert direct.observed == portable.observed


@pytest.mark.parametrize("request_bytes", CALLS.values(), ids=CALLS.keys())
def test_a_call_is_answered_as_on_any_other_server(request_bytes: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    direct, portable = Served(), Served()
    require_same_answers(direct, portable, request_bytes, monkeypatch)
    assert direct.observed


def test_a_small_call_makes_no_use_of_asgi(monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served()
    assert isinstance(served.app, WholeCalls)

    async def no_asgi(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(type(served.app), "_call", no_asgi)
    with serving(served.app) as (address, _):
        assert b"404" in answers(address, call(b"stat", b'{"path": "/nope"}', CLOSE)).split(b"\r\n")[0]


def test_a_body_that_is_slow_is_left_to_asgi_and_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfs.protocol.guard.WHOLE_S", 0.05)
    served = Served()
    request = call(b"cluster", b'{"a": 1}', CLOSE)
    with serving(served.app) as (address, _):
        assert answers(address, request[:-4], request[-4:], pause_s=0.3).startswith(b"HTTP/1.1 200 ")
    assert served.observed == [("cluster", "ok")]


def test_a_body_that_comes_behind_its_head_is_answered() -> None:
    served = Served()
    request = call(b"cluster", b'{"a": 1}', CLOSE)
    with serving(served.app) as (address, _):
        assert answers(address, request[:-8], request[-8:-3], request[-3:], pause_s=0.05).startswith(b"HTTP/1.1 200 ")


def test_calls_behind_one_another_are_answered_in_their_order() -> None:
    served = Served()
    at_once, later = call(b"cluster", b"{}"), call(b"stat", b'{"path": "/nope"}')
    last = call(b"cluster", b"{}", CLOSE)
    with serving(served.app) as (address, _):
        received = answers(address, later + at_once + at_once + later + last)
        assert [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]] == [b"404", b"200", b"200", b"404", b"200"]
        # However many: none waits on the stack of the one before.
        assert answers(address, at_once * 600 + last).count(b"HTTP/1.1 200 ") == 601
    assert len(served.observed) == 606


def test_a_call_behind_another_whose_body_never_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:  # F80
    monkeypatch.setattr("dfs.protocol.guard.WHOLE_S", 0.05)
    monkeypatch.setattr("dfs.protocol.server.IDLE_BODY_S", 0.2)
    served = Served()
    with serving(served.app) as (address, _):
        received = answers(address, call(b"stat", b'{"path": "/nope"}') + call(b"cluster", b"{}")[:-1])
    assert [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]] == [b"404", b"400"]


def test_a_client_that_leaves_in_the_middle_of_a_body_harms_nobody() -> None:
    served = Served()
    with serving(served.app) as (address, _):
        with socket.create_connection(address, timeout=5) as sock:
            sock.sendall(call(b"cluster", b"{}")[:-1])
        assert answers(address, call(b"cluster", b"{}", CLOSE)).startswith(b"HTTP/1.1 200 ")
    assert served.observed == [("cluster", "ok")]


def test_a_server_that_ends_answers_what_is_in_flight_and_closes() -> None:
    served = Served()
    release = threading.Event()

    async def slow(_: m.ListDirectory, __: Caller) -> m.Listing:
        served.hanging.set()
        while not release.is_set():
            await asyncio.sleep(0.01)
        return m.Listing(entries=[])

    app = protocol_app({o.LIST: slow}, otherwise=Starlette())
    with serving(app) as (address, end), socket.create_connection(address, timeout=10) as sock:
        sock.sendall(call(b"list", b'{"path": "/"}'))
        assert served.hanging.wait(5)
        end()
        time.sleep(0.3)
        release.set()
        received = sock.makefile("rb").read()
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close\r\n" in received


def test_a_call_that_a_server_ends_with_gets_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfs.protocol.guard.DRAIN_TIMEOUT_S", 1)
    served = Served()
    with serving(served.app) as (address, end), socket.create_connection(address, timeout=10) as sock:
        sock.sendall(call(b"list", b'{"path": "/"}'))
        assert served.hanging.wait(5)
        end()
        received = b""
        with suppress(ConnectionResetError):
            received = sock.recv(100)
    assert received == b""


# --- reads of chunks ------------------------------------------------------------------------------------------------

CHUNK = "0123456789abcdef" * 2
GET = b"GET /v1/chunks/%s HTTP/1.1\r\nHost: x\r\nDfs-Protocol: 1\r\n%s\r\n"


class ServedChunks:
    """A server of chunks: with `?now` it answers at once, with `?no` it refuses at once, else it takes its time."""

    def __init__(self) -> None:
        self.observed: list[tuple[str, str]] = []
        self.ways: list[str] = []
        self.app: ASGIApp = protocol_app(
            {},
            bytes_handlers={o.GET_CHUNK: self._later},
            bytes_now={o.GET_CHUNK: self._now},
            otherwise=Starlette(),
            observe=lambda name, _seconds, outcome: self.observed.append((name, outcome)),
        )

    def _now(self, scope: Scope, chunk: str) -> Answer | None:
        self.ways.append("now")
        if scope["query_string"] == b"no":
            raise e.NotPermitted("not for you")
        if scope["query_string"] == b"bug":
            raise ZeroDivisionError("a bug")
        return Answer(200, chunk.encode(), content_type=b"text/x") if scope["query_string"] == b"now" else None

    async def _later(self, scope: Scope, _: Receive, send: Send, chunk: str) -> None:
        self.ways.append("later")
        answer = self._now(scope, chunk)
        await send_answer(send, answer or Answer(200, b"later " + chunk.encode(), content_type=b"text/x"))


GETS = {
    "is answered at once": GET % (CHUNK.encode() + b"?now", CLOSE),
    "is refused": GET % (CHUNK.encode() + b"?no", CLOSE),
    "meets a bug": GET % (CHUNK.encode() + b"?bug", CLOSE),
    "has to wait": GET % (CHUNK.encode(), CLOSE),
    "names no chunk": GET % (b"x", CLOSE),
    "names a chunk below another": GET % (b"x/" + CHUNK.encode() + b"?now", CLOSE),
    "is of another protocol": (GET % (CHUNK.encode() + b"?now", CLOSE)).replace(b"Protocol: 1", b"Protocol: 9"),
    "has a body": GET % (CHUNK.encode() + b"?now", CLOSE + b"Content-Length: 2\r\n") + b"xx",
}


@pytest.mark.parametrize("request_bytes", GETS.values(), ids=GETS.keys())
def test_a_read_of_a_chunk_is_answered_as_on_any_other_server(
    request_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct, portable = ServedChunks(), ServedChunks()
    require_same_answers(direct, portable, request_bytes, monkeypatch)
    assert len(direct.observed) == 1


def test_a_read_that_can_be_answered_at_once_makes_no_use_of_asgi_and_another_one_is_not_lost() -> None:
    served = ServedChunks()
    now, later = GET % (CHUNK.encode() + b"?now", b""), GET % (CHUNK.encode(), b"")
    with serving(served.app) as (address, _):
        assert b"\r\n\r\n" + CHUNK.encode() in answers(address, GETS["is answered at once"])
        assert served.ways == ["now"]
        received = answers(address, later + now + now + later + GETS["is answered at once"])
    assert [part.partition(b"\r\n\r\n")[2][:5] for part in received.split(b"HTTP/1.1 ")[1:]] == [
        b"later", b"01234", b"01234", b"later", b"01234",
    ]  # fmt: skip
