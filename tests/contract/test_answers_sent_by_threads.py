"""Large answers that a thread sends: whole, to readers that pause or go, when something fails, when the server ends."""

import errno
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette

from dfs.protocol import operations as o
from dfs.protocol.bodies import Outlet, send_from_thread
from dfs.protocol.errors import CorruptReplica
from dfs.protocol.server import Answer, ASGIApp, Receive, Scope, Send, header, protocol_app
from fixtures.servers import served

PIECE = 1 << 20
BODY = random.Random(20260101).randbytes(24 * PIECE + 77)
"""More than the sockets of both ends hold."""
HEAD = Answer(200, b"", content_type=b"application/octet-stream")


class Sender:
    """Answers GETs of chunks with BODY; what goes wrong is said by the capability's header."""

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(4)
        self.began = threading.Event()
        self.go_on = threading.Event()
        self.ended = threading.Event()
        self.by_loop = 0
        self.failure: BaseException | None = None
        self.app: ASGIApp = protocol_app({}, bytes_handlers={o.GET_CHUNK: self._get}, otherwise=Starlette())

    def _work(self, outlet: Outlet, trouble: str) -> None:
        try:
            buffer = bytearray(PIECE)
            for start in range(0, len(BODY), PIECE):
                if trouble == "at once" or (trouble == "later" and start):
                    raise CorruptReplica("a damaged block")
                if trouble == "hang" and start:
                    self.began.set()
                    self.go_on.wait(20)
                piece = BODY[start : start + PIECE]
                buffer[: len(piece)] = piece
                goes_on = outlet.send(memoryview(buffer)[: len(piece)])
                # What was given is the sender's own by now.
                buffer[:] = bytes(PIECE)
                if not goes_on:
                    return
        except BaseException as failure:
            self.failure = failure
            raise
        finally:
            self.ended.set()

    async def _get(self, scope: Scope, _receive: Receive, send: Send, _chunk: str) -> None:
        trouble = header(scope, o.HEADER_CAPABILITY) or ""
        if trouble == "loop only":
            scope["extensions"].clear()
        try:
            outlet = await send_from_thread(
                scope, HEAD, len(BODY), self.threads, lambda outlet: self._work(outlet, trouble)
            )
        except ConnectionError:
            return
        except CorruptReplica:
            if trouble == "later":
                return
            raise
        left = len(BODY) if outlet is None else outlet.left
        if outlet is None:
            headers = [(b"content-length", b"%d" % len(BODY))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        if left:
            self.by_loop = left
            for start in range(len(BODY) - left, len(BODY), PIECE):
                body = BODY[start : start + PIECE]
                more = start + PIECE < len(BODY)
                await send({"type": "http.response.body", "body": body, "more_body": more})


@pytest.fixture
def sender() -> Iterator[Sender]:
    sender = Sender()
    yield sender
    sender.go_on.set()
    sender.threads.shutdown()


@pytest.fixture
def url(sender: Sender) -> Iterator[str]:
    with served(sender.app) as url:
        yield url


def dial(url: str, receive_buffer: int = 0) -> socket.socket:
    place = urlsplit(url)
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(15)
    sock.connect((place.hostname, place.port))
    return sock


def ask(sock: socket.socket, trouble: str = "") -> None:
    lines = (
        f"GET /v1/chunks/{'0123456789abcdef' * 2}?mode=blocks HTTP/1.1", "host: x", "dfs-protocol: 1",
        f"{o.HEADER_CAPABILITY}: {trouble}",
    )  # fmt: skip
    sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")


def answer(sock: socket.socket) -> tuple[bytes, bytes]:
    """The head and the body, as far as it comes."""
    received = bytearray()
    while b"\r\n\r\n" not in received:
        piece = sock.recv(1 << 16)
        assert piece, "an answer"
        received += piece
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    received = bytearray(body)
    try:
        while len(received) < length and (piece := sock.recv(1 << 20)):
            received += piece
    except ConnectionError:
        pass
    return head, bytes(received)


def test_answers_are_whole_and_the_connection_goes_on(url: str, sender: Sender) -> None:
    with dial(url) as sock:
        for _ in range(3):
            ask(sock)
            head, body = answer(sock)
            assert head.startswith(b"HTTP/1.1 200")
            assert body == BODY
    assert sender.failure is None


def test_a_reader_that_pauses_holds_no_thread_and_gets_every_byte(url: str, sender: Sender) -> None:  # F81
    with dial(url, receive_buffer=4096) as sock:
        ask(sock)
        assert sender.ended.wait(10), "the thread waits for nobody"
        time.sleep(0.2)
        assert answer(sock)[1] == BODY
        assert sender.by_loop
        ask(sock)
        assert answer(sock)[1] == BODY


def test_a_reader_that_trickles_holds_no_thread(
    url: str, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:  # F81
    monkeypatch.setattr("dfs.protocol.bodies.KEEP_UP_S", 0.3)
    with dial(url, receive_buffer=4096) as sock:
        ask(sock)
        until_s = time.monotonic() + 15
        while not sender.ended.is_set() and time.monotonic() < until_s:
            sock.recv(4096)
            time.sleep(0.05)
        assert sender.ended.is_set()
        assert sender.failure is None


def test_a_reader_that_goes_away_ends_the_thread(url: str, sender: Sender) -> None:
    with dial(url) as sock:
        ask(sock, "hang")
        assert sender.began.wait(10)
    sender.go_on.set()
    assert sender.ended.wait(10)
    assert isinstance(sender.failure, ConnectionError)
    with dial(url) as sock:
        ask(sock)
        assert answer(sock)[1] == BODY


def test_what_fails_before_the_first_byte_is_an_error_with_its_code(url: str) -> None:  # F40
    with dial(url) as sock:
        ask(sock, "at once")
        head, body = answer(sock)
    assert not head.startswith(b"HTTP/1.1 200")
    assert CorruptReplica.code.encode() in body


def test_what_fails_later_ends_the_answer_short(url: str) -> None:  # F40
    with dial(url) as sock:
        ask(sock, "later")
        head, body = answer(sock)
        assert head.startswith(b"HTTP/1.1 200")
        assert body == BODY[: len(body)]
        assert len(body) <= PIECE


def test_without_our_protocol_class_the_loop_sends_it_all(url: str, sender: Sender) -> None:
    with dial(url) as sock:
        ask(sock, "loop only")
        assert answer(sock)[1] == BODY
    assert sender.by_loop == len(BODY)


def test_a_server_that_ends_waits_for_no_thread_and_cuts_the_answer_off(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dfs.protocol.guard.DRAIN_TIMEOUT_S", 1)
    with served(sender.app) as url:
        sock = dial(url)
        ask(sock, "hang")
        assert sender.began.wait(10)
    with sock:
        body = answer(sock)[1]
        assert len(body) < len(BODY)
        assert body == BODY[: len(body)]
    assert not sender.ended.is_set()
    sender.go_on.set()
    assert sender.ended.wait(10)
    assert isinstance(sender.failure, OSError)


def test_once_the_threads_have_ended_the_loop_answers_and_no_descriptor_is_left(url: str, sender: Sender) -> None:
    sender.threads.shutdown()
    with dial(url) as sock:
        counts = []
        for _ in range(4):
            ask(sock)
            assert answer(sock)[1] == BODY
            counts.append(len(os.listdir("/proc/self/fd")))
    assert len(set(counts)) == 1


class _DeadNetwork(socket.socket):
    def send(self, *_: object) -> int:
        raise OSError(errno.EHOSTUNREACH, "No route to host")


def test_a_network_that_fails_is_not_taken_for_a_disk_that_does() -> None:
    with _DeadNetwork() as sock, pytest.raises(ConnectionError):
        Outlet(b"head", sock, 1).send(b"x")


def test_what_could_not_be_sent_may_be_taken_back() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        outlet = Outlet(b"head", ours, len(BODY))
        assert not outlet.send(BODY)
        unsent = len(outlet.rest)
        outlet.take_back(unsent - 10)
        assert (len(outlet.rest), outlet.left) == (10, unsent - 10)
        ours.close()
        sent = theirs.makefile("rb").read()
    assert sent + outlet.rest == b"head" + BODY[: len(BODY) - outlet.left]
