"""The two ends of the wire against each other and against strangers: limits, taken-over bodies, broken connections."""

import asyncio
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import msgspec
import pytest
import requests
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from dfs.protocol import errors as e
from dfs.protocol import messages as m
from dfs.protocol import operations as o
from dfs.protocol.bodies import BodySource, send_whole, take_body, wait_showing_life
from dfs.protocol.chunk_format import wire_size
from dfs.protocol.digests import BLOCK_SIZE, block_table, root_digest
from dfs.protocol.guard import (
    HEAD_BYTES_MAX,
    bind,
    encode_request_line,
)
from dfs.protocol.interim import INTERIM, INTERIM_EVERY_S
from dfs.protocol.server import (
    EXTENSION,
    WHOLE_BYTES_MAX,
    Answer,
    ASGIApp,
    Caller,
    Receive,
    Scope,
    Send,
    content_length,
    header,
    protocol_app,
    send_answer,
    send_error,
)
from dfs.protocol.transport import Transport, patience
from fixtures.servers import served

CHUNK = "0123456789abcdef" * 2
SEED = 20260101


def read_all(source: BodySource) -> bytes:
    buffer = memoryview(bytearray(1 << 16))
    taken = bytearray()
    while count := source.readinto(buffer):
        taken += buffer[:count]
    return bytes(taken)


def an_app(loop_only: bool = False) -> ASGIApp:
    """A server with one operation that answers, one that fails, one that breaks, and chunks that are echoed."""

    def cluster(_request: m.Empty, caller: Caller) -> m.ClusterFacts:
        return m.ClusterFacts(
            cluster=CHUNK, version=caller.principal, protocol=1, time_ms=5, replication=3, chunk_size_bytes=1,
            pack_limit_bytes=1,
        )  # fmt: skip

    def stat(request: m.Stat, _caller: Caller) -> m.Entry:
        raise e.FileNotFound(f"{request.path}: no such file or directory", path=request.path)

    def usage(_request: m.Stat, _caller: Caller) -> m.Usage:
        raise ZeroDivisionError("a bug")

    async def put(scope: Scope, receive: Receive, send: Send, _chunk: str) -> None:
        if header(scope, o.HEADER_CAPABILITY) == "refuse":
            await send_error(send, e.NotPermitted("this capability is not one"), unread=receive)
            return
        length = content_length(scope)
        assert length is not None
        if loop_only:
            scope["extensions"].clear()
        try:
            async with take_body(scope, receive, length=length, idle_s=0.5) as source:
                body = await asyncio.to_thread(read_all, source)
        except TimeoutError:
            await send_error(send, e.InvalidRequest("the body paused for too long"), unread=receive)
            return
        except ConnectionError as error:
            await send_error(send, e.InvalidRequest(str(error)), unread=receive)
            return
        digest = root_digest(len(body), block_table(body)).hex()
        await send_answer(
            send, Answer(201, msgspec.json.encode(m.StoredChunk(receipts=[digest, type(source).__name__])))
        )

    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.scope["raw_path"])

    return protocol_app(
        {o.CLUSTER: cluster, o.STAT: stat, o.USAGE: usage},
        bytes_handlers={o.PUT_CHUNK: put},
        otherwise=Starlette(routes=[Route("/{path:path}", page)]),
    )


@pytest.fixture(name="url", scope="module")
def a_server() -> Iterator[str]:
    with served(an_app()) as url:
        yield url


@pytest.fixture(name="transport")
def a_transport() -> Iterator[Transport]:
    transport = Transport(no_progress_s=2.0)
    yield transport
    transport.close()


def raw(url: str, request: bytes, timeout_s: float = 5.0) -> bytes:
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=timeout_s) as sock:
        sock.sendall(request)
        answer = bytearray()
        try:
            while piece := sock.recv(65536):
                answer += piece
        except (TimeoutError, ConnectionResetError):
            pass
        return bytes(answer)


def send_chunk(transport: Transport, url: str, data: bytes, capability: str = "x", piece: int = 1 << 20) -> list[str]:
    table = block_table(data)
    return transport.put_chunk(
        url,
        chunk=CHUNK,
        capability=capability,
        pieces=(data[start : start + piece] for start in range(0, len(data), piece)),
        length=len(data),
        table=table,
        root=root_digest(len(data), table),
    ).receipts


def test_a_call_returns_the_answer_and_carries_the_principal(url: str) -> None:
    transport = Transport(principal="ada")
    assert transport.call(url, o.CLUSTER, m.Empty()).version == "ada"
    transport.close()


def test_an_error_arrives_as_what_was_raised(url: str, transport: Transport) -> None:
    with pytest.raises(e.FileNotFound, match="/nope: no such file") as caught:
        transport.call(url, o.STAT, m.Stat(path="/nope"))
    assert caught.value.detail == {"path": "/nope"}


def test_a_bug_in_an_operation_is_one_internal_error_without_its_traceback(url: str, transport: Transport) -> None:
    with pytest.raises(e.DfsError, match="internal error") as caught:
        transport.call(url, o.USAGE, m.Stat(path="/"))
    assert "ZeroDivision" not in str(caught.value)


@pytest.mark.parametrize("length", [1, 40_000, BLOCK_SIZE, 70_000, 3_000_000])
@pytest.mark.parametrize("loop_only", [False, True], ids=["taken over", "asked from the loop"])
def test_a_body_arrives_whole_and_the_connection_lives_on(length: int, loop_only: bool, transport: Transport) -> None:
    data = random.Random(SEED + length).randbytes(length)
    table = block_table(data)
    body = data + table + length.to_bytes(8, "little") + root_digest(length, table)
    with served(an_app(loop_only)) as url:
        for _ in range(3):
            digest, source = send_chunk(transport, url, data)
            assert digest == root_digest(len(body), block_table(body)).hex()
            if len(body) <= WHOLE_BYTES_MAX:
                assert source == "_GivenSource"
            else:
                assert source == ("_LoopSource" if loop_only else "_SocketSource")
            assert transport._pool.idle(url) == 1, "the connection is used again"
            transport.call(url, o.CLUSTER, m.Empty())


def test_a_refusal_reaches_the_sender_before_the_whole_body_is_sent(url: str, transport: Transport) -> None:
    for _ in range(5):
        with pytest.raises(e.NotPermitted, match="not one"):
            send_chunk(transport, url, bytes(16 << 20), capability="refuse")


def test_a_body_that_pauses_too_long_is_given_up(url: str, transport: Transport) -> None:
    outgoing = transport.begin_put(url, chunk=CHUNK, capability="x", length=1000)
    outgoing.send(b"x" * 10)
    with pytest.raises(e.InvalidRequest, match="paused"):
        outgoing.finish()


def test_a_small_chunk_leaves_as_one_piece_and_a_larger_one_is_announced_at_once(transport: Transport) -> None:
    with listener() as (sock, url):
        small = transport.begin_put(url, chunk=CHUNK, capability="x", length=100)
        peer, _ = sock.accept()
        with peer:
            peer.setblocking(False)
            small.send(bytes(100))
            with pytest.raises(BlockingIOError):
                peer.recv(1)
            small.send(bytes(wire_size(100) - 100))
            peer.settimeout(5)
            received = peer.recv(1 << 16)
            assert received.startswith(b"PUT ")
            assert received.endswith(b"\r\n\r\n" + bytes(wire_size(100)))
            small.abort()
        large = transport.begin_put(url, chunk=CHUNK, capability="x", length=1 << 20)
        peer, _ = sock.accept()
        with peer:
            peer.settimeout(5)
            assert peer.recv(1 << 16).endswith(b"\r\n\r\n")
        large.abort()


@contextmanager
def listener() -> Iterator[tuple[socket.socket, str]]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock, f"http://127.0.0.1:{sock.getsockname()[1]}"


def test_an_answer_with_more_behind_it_is_believed_and_its_connection_is_not_used_again(transport: Transport) -> None:
    facts = msgspec.json.encode(
        m.ClusterFacts(
            cluster=CHUNK, version="v", protocol=1, time_ms=5, replication=3, chunk_size_bytes=1, pack_limit_bytes=1
        )
    )  # fmt: skip
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(facts) + facts
    for more in (b"", b"HTTP/1.1 200 OK\r\n", answer):
        url, thread = a_stranger(answer + more)
        assert transport.call(url, o.CLUSTER, m.Empty()).version == "v"
        thread.join(5)
        assert transport._pool.take(url) is None
    for headers in (b"connection: close\r\n", b"transfer-encoding: chunked\r\n"):
        url, thread = a_stranger(answer.replace(b"OK\r\n", b"OK\r\n" + headers))
        if b"chunked" in headers:
            with pytest.raises(e.BadAnswer):
                transport.call(url, o.CLUSTER, m.Empty())
        else:
            assert transport.call(url, o.CLUSTER, m.Empty()).version == "v"
        thread.join(5)
        assert transport._pool.idle(url) == 0


@pytest.mark.parametrize("sent", [0, 1, 16, 40, 60])
def test_a_call_whose_answer_is_cut_off_anywhere_has_an_unknown_outcome(sent: int, transport: Transport) -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\n" + b" " * 29
    url, thread = a_stranger(answer[:sent])
    with pytest.raises(e.OutcomeUnknown):
        transport.call(url, o.CLUSTER, m.Empty())
    thread.join(5)


def test_nobody_at_home_is_not_sent(transport: Transport) -> None:
    sock, url = bind("127.0.0.1:0", insecure=False)
    sock.close()
    with pytest.raises(e.NotSent, match="can't reach"):
        transport.call(url, o.CLUSTER, m.Empty())
    with pytest.raises(e.NotSent):
        transport.begin_put(url, chunk=CHUNK, capability="x", length=1)


def a_stranger(answer: bytes) -> tuple[str, threading.Thread]:
    """A server that reads one request and says `answer`."""
    sock = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with sock, sock.accept()[0] as peer:
            peer.recv(65536)
            if answer:
                peer.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return f"http://127.0.0.1:{sock.getsockname()[1]}", thread


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", e.OutcomeUnknown),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", e.OutcomeUnknown),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", e.BadAnswer),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", e.BadAnswer),
        (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 5\r\n\r\noops!", e.BadAnswer),
        (b"SSH-2.0-OpenSSH_9.2\r\n", e.OutcomeUnknown),
    ],
)
def test_what_a_stranger_answers_is_named(answer: bytes, kind: type[e.DfsError], transport: Transport) -> None:
    url, thread = a_stranger(answer)
    with pytest.raises(kind):
        transport.call(url, o.CLUSTER, m.Empty())
    thread.join(5)


def test_a_short_answer_to_a_read_is_never_taken_for_the_chunk(transport: Transport) -> None:
    for answer, kind in [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", e.OutcomeUnknown),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", e.BadAnswer),
    ]:
        url, thread = a_stranger(answer)
        with pytest.raises(kind):
            transport.get_chunk(
                url, chunk=CHUNK, capability="x", offset=0, length=10, mode="exact", into=[memoryview(bytearray(10))]
            )
        thread.join(5)


# --- strangers' requests: never a 500 (F82, F83) --------------------------------------------------------------------

HOST = b"Host: x\r\nDfs-Protocol: 1\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /" + b"a" * (HEAD_BYTES_MAX + 1) + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 4000 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\nGET / HTTP/1.1\r\nx: " + b"y" * 40_000, 200),
        (b"POST /v1/stat HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\n{{{", 400),
        (b"POST /v1/stat HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n\xff\xfe", 400),
        (b"POST /v1/stat HTTP/1.1\r\n" + HOST + b"Content-Length: 200000\r\n\r\n" + b"[" * 200_000, 400),
        (b"POST /v1/stat HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999\r\n\r\n", 413),
        (b"POST /v1/stat HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n", 413),
        (b"POST /v1/stat HTTP/1.1\r\n" + HOST + b"Content-Length: +5\r\n\r\n{}   ", 400),
        (b"POST /v1/stat HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 400),
        (b"POST /v1/nope HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n{}", 400),
        (b"GET /v1/stat HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"PUT /v1/chunks/../etc HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n{}", 400),
        (b"PUT /v1/chunks/" + b"A" * 32 + b" HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n{}", 400),
        (b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 400),
    ],
)
def test_a_malformed_request_gets_its_status_and_never_a_500(url: str, request_bytes: bytes, status: int) -> None:
    answer = raw(url, request_bytes, timeout_s=0.5)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert b"HTTP/1.1 500" not in answer


def test_raw_utf8_in_the_request_line_reaches_the_app_percent_encoded(url: str) -> None:
    request = "GET /files/ü%20x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    assert raw(url, request).endswith(b"/files/%C3%BC%20x")


def test_a_request_line_in_ascii_is_left_alone() -> None:
    head = b"GET /a%20b HTTP/1.1\r\nx: \xff\r\n\r\n"
    assert encode_request_line(head) == head


def test_a_head_that_never_ends_is_dropped(url: str, monkeypatch: pytest.MonkeyPatch) -> None:  # F80
    monkeypatch.setattr("dfs.protocol.guard.HEAD_TIMEOUT_S", 0.3)
    assert raw(url, b"GET / HTTP/1.1\r\nx:").startswith(b"HTTP/1.1 408 ")
    assert raw(url, b"") == b""


def test_requests_that_arrive_byte_by_byte_or_together_are_served(url: str) -> None:
    request = b"GET /one HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /two HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert raw(url, request + request + last).count(b"HTTP/1.1 200") == 3
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as sock:
        for byte in last:
            sock.sendall(bytes((byte,)))
        assert b"/two" in sock.makefile("rb").read()


def test_an_address_that_others_can_reach_needs_insecure() -> None:
    with pytest.raises(e.InvalidRequest, match="--insecure"):
        bind("0.0.0.0:0", insecure=False)
    sock, _ = bind("0.0.0.0:0", insecure=True)
    sock.close()
    for text in ["", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", ":80"]:
        with pytest.raises(e.InvalidRequest, match="listen"):
            bind(text, insecure=False)


def test_a_port_in_use_is_said_in_one_sentence() -> None:
    sock, url = bind("127.0.0.1:0", insecure=False)
    with sock, pytest.raises(e.InvalidRequest, match="in use"):
        bind(url.removeprefix("http://"), insecure=False)


def test_the_announced_size_of_a_put_covers_data_and_footer() -> None:
    assert wire_size(1) == 1 + 8 + 24
    assert wire_size(BLOCK_SIZE + 1) == BLOCK_SIZE + 1 + 16 + 24


def test_whoever_waits_for_a_silent_datanode_gives_up_before_those_who_wait_for_him() -> None:  # F10
    waits = [patience(5.0, 15.0, behind) for behind in (2, 1, 0)]
    for longer, shorter in pairwise(waits):
        assert longer.silence_s - shorter.silence_s >= 2 * INTERIM_EVERY_S
        assert longer.in_all_s - shorter.in_all_s >= 1
    assert waits[0].silence_s <= 8, "what it takes to send the chunk again must fit into ten seconds, too"
    assert waits[2] == (5, 15)


@contextmanager
def answering(*parts: tuple[float, bytes]) -> Iterator[str]:
    """A server that takes one request, and says these things after these seconds each."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            sock, _ = listening.accept()
            with sock:
                for pause_s, part in parts:
                    time.sleep(pause_s)
                    try:
                        sock.sendall(part)
                    except OSError:
                        return
                sock.recv(1 << 16)
                time.sleep(0.1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def put_one_byte(url: str, **waits: float) -> m.StoredChunk:
    table = block_table(b"x")
    return Transport(**waits).put_chunk(
        url, chunk="0" * 32, capability="", pieces=[b"x"], length=1, table=table, root=root_digest(1, table)
    )


def test_a_sender_waits_for_whoever_shows_signs_of_life_and_no_longer_than_in_all() -> None:  # F10
    body = msgspec.json.encode(m.StoredChunk(receipts=["r"]))
    answer = b"HTTP/1.1 201 Created\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    with answering(*[(0.2, INTERIM)] * 5, (0.2, answer)) as url:
        assert put_one_byte(url, no_progress_s=0.6, receipts_s=30.0).receipts == ["r"]
    with answering((1.5, answer)) as url, pytest.raises(e.OutcomeUnknown, match="no progress"):
        put_one_byte(url, no_progress_s=0.6, receipts_s=30.0)
    with answering(*[(0.2, INTERIM)] * 10, (0.0, answer)) as url, pytest.raises(e.OutcomeUnknown, match="no progress"):
        put_one_byte(url, no_progress_s=0.6, receipts_s=1.0)


@pytest.mark.parametrize("loop_only", [False, True], ids=["socket", "loop"])
def test_a_server_that_works_on_an_answer_says_so_and_the_connection_stays_good(loop_only: bool) -> None:  # F10
    async def put(scope: Scope, receive: Receive, send: Send, _chunk: str) -> None:
        connection = scope["extensions"].get(EXTENSION)
        if loop_only:
            scope["extensions"] = {}
        async with take_body(scope, receive, length=content_length(scope) or 0, idle_s=5) as source:
            scope["extensions"] = {EXTENSION: connection}

            def store() -> m.StoredChunk:
                read_all(source)
                time.sleep(2.5)
                return m.StoredChunk(receipts=["r"])

            stored = asyncio.get_running_loop().run_in_executor(None, store)
            await wait_showing_life(stored, scope, source)
        await send_whole(scope, send, Answer(201, msgspec.json.encode(stored.result())))

    with served(protocol_app({}, bytes_handlers={o.PUT_CHUNK: put}, otherwise=Starlette())) as url:
        transport = Transport(no_progress_s=1.2)
        for _ in range(2):
            assert send_chunk(transport, url, b"y" * 100_000) == ["r"]
        assert transport._pool.idle(url) == 1
        transport.close()
        # Any HTTP client passes over them.
        answer = requests.put(
            f"{url}{o.PUT_CHUNK.path.format(chunk=CHUNK)}", b"z", headers={o.HEADER_PROTOCOL: "1"}, timeout=10
        )
        assert answer.json() == {"receipts": ["r"], "failed": []}
