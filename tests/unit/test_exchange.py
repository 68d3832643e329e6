"""Answers of our own protocol, cut anywhere, cut off or garbled: read right, or refused, and never hung on."""

import re
import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfs.protocol import exchange
from dfs.protocol.errors import InvalidRequest
from dfs.protocol.exchange import (
    HEAD_BYTES_MAX,
    JOIN_BYTES_MAX,
    Connection,
    Head,
    address,
    field_value,
    parse_head,
    request_head,
)
from dfs.protocol.interim import INTERIM, Patience

PATIENCE = Patience(5, 15)


class ScriptedSocket:
    """A peer that says these pieces, each after some seconds of a clock of its own, and closes then."""

    def __init__(self, pieces: list[bytes], pause_s: float = 0.0) -> None:
        self.pieces = [piece for piece in pieces if piece]
        self.pause_s = pause_s
        self.now_s = 0.0
        self.sent = bytearray()
        self.calls = 0
        self.timeout_s: float | None = 3.0
        self._pair = socket.socketpair()

    def fileno(self) -> int:
        return self._pair[0].fileno()

    def gettimeout(self) -> float | None:
        return self.timeout_s

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0, "a time-out of nothing means something else"
        self.timeout_s = seconds

    def _wait(self) -> None:
        assert self.timeout_s is not None
        self.now_s += min(self.pause_s, self.timeout_s)
        if self.pause_s > self.timeout_s:
            raise TimeoutError("timed out")

    def recv(self, count: int) -> bytes:
        self._wait()
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if len(piece) > count:
            self.pieces.insert(0, piece[count:])
        return piece[:count]

    def recv_into(self, view: memoryview) -> int:
        piece = self.recv(len(view))
        view[: len(piece)] = piece
        return len(piece)

    def send(self, data: bytes) -> int:
        self.calls += 1
        taken = bytes(data[:40_000])
        self.sent += taken
        return len(taken)

    def close(self) -> None:
        for sock in self._pair:
            sock.close()


@pytest.fixture(name="monotonic", autouse=True)
def a_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The clock is that of the last scripted socket."""
    clock = SimpleNamespace(monotonic=lambda: _current[-1].now_s)
    monkeypatch.setattr(exchange, "time", clock)
    yield
    _current.clear()


_current: list[ScriptedSocket] = []


def talking(pieces: list[bytes], pause_s: float = 0.0) -> Connection:
    sock = ScriptedSocket(pieces, pause_s)
    _current.append(sock)
    return Connection(sock)  # type: ignore[arg-type]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The bytes in pieces, cut at these places."""
    ends = [*sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def whole_answer(connection: Connection) -> bytes:
    connection.read_head(PATIENCE)
    return bytes(connection.read())


NAMES = st.sampled_from(["date", "server", "x-other", "Content-Type", "connection"])
VALUES = st.sampled_from(["", "keep-alive", "uvicorn", "a, b", "Wed, 25 Nov 2026 02:00:00 GMT", "\t x \xfc"])


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, int, bytes]:
    """An answer as a server may send it, its status, and its body."""
    body = draw(
        st.binary(max_size=200) | st.sampled_from([b"x" * 40_000, b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"])
    )
    status = draw(st.sampled_from([200, 201, 404, 500]))
    fields = [f"{name}: {value}" for name, value in draw(st.lists(st.tuples(NAMES, VALUES), max_size=5))]
    space = draw(st.sampled_from([" ", "", "\t "]))
    length = f"{draw(st.sampled_from(['content-length', 'Content-Length', 'CONTENT-LENGTH']))}:{space}{len(body)}"
    fields.insert(draw(st.integers(0, len(fields))), length)
    reason = draw(st.sampled_from(["", " ", " OK", " Not Found"]))
    head = "\r\n".join([f"HTTP/1.1 {status}{reason}", *fields]) + "\r\n\r\n"
    return INTERIM * draw(st.integers(0, 3)) + head.encode("latin-1") + body, status, body


CUTS = st.lists(st.integers(0, 50_000), max_size=12)


@given(answers(), CUTS, st.integers(0, 300))
def test_an_answer_is_read_right_however_it_is_cut(
    answer: tuple[bytes, int, bytes], cuts: list[int], half: int
) -> None:
    raw, status, body = answer
    connection = talking(cut(raw, cuts))
    head = connection.read_head(PATIENCE)
    assert (head.status, head.length) == (status, len(body))
    first = bytearray(min(half, len(body)))
    connection.read_into(memoryview(first))
    assert bytes(first) + connection.read() == body
    assert connection.is_reusable()
    connection.close()


@given(answers(), st.integers(0, 1 << 20), CUTS)
def test_an_answer_that_is_cut_off_is_never_taken_for_one(
    answer: tuple[bytes, int, bytes], place: int, cuts: list[int]
) -> None:
    raw = answer[0]
    connection = talking(cut(raw[: place % len(raw)], cuts))
    with pytest.raises(ConnectionError):
        whole_answer(connection)
    connection.close()


@given(answers(), st.binary(min_size=1, max_size=300))
def test_a_connection_on_which_more_was_said_is_not_used_again(answer: tuple[bytes, int, bytes], more: bytes) -> None:
    raw, status, body = answer
    connection = talking([raw + more])
    assert connection.read_head(PATIENCE).status == status
    # What did not come with the answer is still in the socket, where the pool sees it.
    assert connection.read() == body
    assert not connection.is_reusable() or connection.sock.pieces  # type: ignore[union-attr]
    connection.close()


@given(answers(), st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3)), min_size=1, max_size=4), CUTS)
def test_a_garbled_answer_is_refused_or_framed_by_what_it_says(
    answer: tuple[bytes, int, bytes], changes: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    raw = bytearray(answer[0])
    for place, put in changes:
        raw[place % len(raw) : place % len(raw) + 1] = put
    connection = talking(cut(bytes(raw), cuts))
    try:
        head = connection.read_head(PATIENCE)
        if head.length is None:
            assert not connection.is_reusable()
            return
        body = bytes(connection.read())
    except ConnectionError:
        return
    finally:
        connection.close()
    said = re.findall(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", bytes(raw), re.IGNORECASE)
    assert b"%d" % len(body) in [number.lstrip(b"0") or b"0" for number in said]
    assert body in bytes(raw)


@given(st.binary(max_size=20_000), CUTS)
def test_noise_is_refused(noise: bytes, cuts: list[int]) -> None:
    connection = talking(cut(noise, cuts))
    with pytest.raises(ConnectionError):
        connection.read_head(PATIENCE)
    connection.close()


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/2 200 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1  200 OK",
        b"http/1.1 200 OK",
        b"HTTP/1.1 200 OK\nx: y",
        b"HTTP/1.1 200 OK\r\nno colon",
        b"HTTP/1.1 200 OK\r\nspace : 1",
        b"HTTP/1.1 200 OK\r\nx: y\r\n folded",
        b"HTTP/1.1 200 OK\r\nx: a\x00b",
        b"HTTP/1.1 200 OK\r\nx: a\rb",
        b"HTTP/1.1 200 OK\r\ncontent-length: +5",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5, 5",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5 5",
        b"HTTP/1.1 200 OK\r\ncontent-length:",
        b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 19,
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6",
    ],
)
def test_a_head_that_could_be_read_in_two_ways_is_refused(head: bytes) -> None:
    with pytest.raises(ConnectionError):
        parse_head(head)


def test_a_head_says_how_its_body_is_framed_and_what_becomes_of_the_connection() -> None:
    assert parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 007") == Head(200, 7, False)
    assert parse_head(b"HTTP/1.1 200\r\ncontent-length: 5\r\ncontent-length:5") == Head(200, 5, False)
    assert parse_head(b"HTTP/1.1 200 OK\r\nConnection: Foo , CLOSE\r\ncontent-length: 1") == Head(200, 1, True)
    assert parse_head(b"HTTP/1.0 200 OK\r\ncontent-length: 1") == Head(200, 1, True)
    assert parse_head(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked").length is None
    assert parse_head(b"HTTP/1.1 200 OK\r\ndate: x").length is None


def test_a_head_that_never_ends_is_given_up() -> None:
    connection = talking([b"HTTP/1.1 200 OK\r\n", *[b"x: " + b"y" * 1000 + b"\r\n"] * 100])
    with pytest.raises(ConnectionError, match="too long"):
        connection.read_head(PATIENCE)
    assert len(connection.sock.pieces) > 100 - HEAD_BYTES_MAX // 1000 - 3, "and no more is read"  # type: ignore[union-attr]
    connection.close()


@pytest.mark.parametrize("piece", [b"x", INTERIM], ids=["byte by byte", "interim answers for ever"])
def test_a_peer_that_trickles_is_given_up_when_its_time_is_over(piece: bytes) -> None:
    connection = talking([b"HTTP/1.1 200 OK\r\nx: "] * (piece == b"x") + [piece] * 1000, pause_s=0.9)
    with pytest.raises(TimeoutError):
        connection.read_head(Patience(1, 15))
    assert 14 < _current[-1].now_s < 17
    connection.close()


def test_the_body_of_receipts_has_the_same_end_and_another_body_only_the_silence() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"
    connection = talking([head, *[b"x"] * 100], pause_s=0.9)
    connection.read_head(Patience(1, 15), body_too=True)
    with pytest.raises(TimeoutError):
        connection.read()
    assert _current[-1].now_s < 17
    connection.close()
    connection = talking([head, *[b"x"] * 100], pause_s=0.9)
    connection.read_head(Patience(1, 15))
    assert connection.read() == b"x" * 100
    connection.close()
    connection = talking([head, b"x"], pause_s=1.1)
    with pytest.raises(TimeoutError):
        connection.read_head(Patience(1, 15))
    assert _current[-1].now_s < 2
    connection.close()


@given(st.lists(st.binary(max_size=90_000), min_size=1, max_size=3))
def test_all_parts_are_sent_and_small_ones_in_one_call(parts: list[bytes]) -> None:
    connection = talking([])
    connection.send(*parts)
    sock = _current[-1]
    assert bytes(sock.sent) == b"".join(parts)
    assert sock.calls <= 2 or len(sock.sent) > JOIN_BYTES_MAX
    connection.close()


def test_nothing_can_be_smuggled_into_a_request() -> None:
    for value in ("a\r\nx: y", "a\nb", "a\x00", "\u20ac"):
        with pytest.raises(InvalidRequest):
            field_value(value)
    for target in ("/a b", "/a\r\nx: y", "/\xfc"):
        with pytest.raises(InvalidRequest):
            request_head("GET", target, "host", {})
    assert (
        request_head("GET", "/a?b=c", "host:1", {"x": "\xfc"}) == b"GET /a?b=c HTTP/1.1\r\nhost: host:1\r\nx: \xfc\r\n"
    )


def test_a_url_says_where_to_connect() -> None:
    assert address("http://host:99") == (False, "host", 99, "host:99")
    assert address("http://[::1]:99") == (False, "::1", 99, "[::1]:99")
    assert address("https://host") == (True, "host", 443, "host")
    for text in ("ftp://x", "http://", "host:99", "http://host:port", "http://host:99999", "http://[::1"):
        with pytest.raises(InvalidRequest, match="URL"):
            address(text)
