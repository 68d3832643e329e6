"""One HTTP/1.1 exchange of our own protocol on one socket: a request's bytes out, an answer's head and body in.

Separate from `transport`, which knows what is asked and what a failure means: here is only how answers are told apart
from one another. Both ends are ours, so little of HTTP is needed, and all of it is strict: every answer says how long
its body is, interim answers (1xx) are passed over, and a connection on which anything is left over, or anything was
unclear, is never used again. What is not an answer at all raises ConnectionError; nothing is known then of what the
peer did.
"""

import re
import select
import socket
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from dfs.protocol.digests import Buffer
from dfs.protocol.errors import InvalidRequest
from dfs.protocol.interim import Patience

if TYPE_CHECKING:
    import ssl

HEAD_BYTES_MAX = 16 * 1024
"""Of an answer, or of one interim answer."""
JOIN_BYTES_MAX = 64 * 1024
"""Parts of a request up to this size are copied together, so that they leave in one call and one packet."""

CLOCK_SLACK_S = 0.05
"""A time-out may be later by this much."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_LENGTH_DIGITS_MAX = 18


class Address(NamedTuple):
    """Where a server listens, as its URL says."""

    tls: bool
    host: str
    port: int
    authority: str
    """As the Host header has it."""


@lru_cache(1024)
def address(base_url: str) -> Address:
    """Raises InvalidRequest: it is not a URL of a server."""
    try:
        url = urlsplit(base_url)
        port = url.port
    except ValueError:
        url, port = urlsplit(""), None
    if url.scheme not in ("http", "https") or not url.hostname:
        raise InvalidRequest(f"{base_url!r} is not the URL of a dfs server; it looks like http://host:port")
    tls = url.scheme == "https"
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    if port is None:
        return Address(tls, url.hostname, 443 if tls else 80, host)
    return Address(tls, url.hostname, port, f"{host}:{port}")


def request_head(method: str, target: str, authority: str, fields: dict[str, str]) -> bytes:
    """The first lines of a request; more fields may follow, and then an empty line.

    Raises  InvalidRequest: something in it would be read as more than it is
    """
    if not (target.isascii() and target.isprintable()) or " " in target:
        raise InvalidRequest(f"{target!r} can't be asked for")
    lines = [f"{method} {target} HTTP/1.1", f"host: {authority}"]
    lines += [f"{name}: {field_value(value)}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n").encode("latin-1")


def field_value(value: str) -> str:
    """Raises InvalidRequest: it can't be the value of a header."""
    if _VALUE.fullmatch(value) is None:
        raise InvalidRequest(f"{value[:100]!r} can't be sent in a header of HTTP")
    return value


class Head(NamedTuple):
    """What an answer says before its body."""

    status: int
    length: int | None
    """Of the body, bytes. None: it doesn't say so in the one way that our servers do."""
    will_close: bool


def parse_head(head: bytes) -> Head:
    """The head of an answer, without the empty line at its end. Pure.

    Raises  ConnectionError: it is not the head of an HTTP answer
    """
    lines = head.split(b"\r\n")
    first = _STATUS_LINE.fullmatch(lines[0])
    if first is None:
        raise ConnectionError("what it answers is not HTTP/1.1")
    length: int | None = None
    is_framed = True
    will_close = first[1] == b"0"
    for line in lines[1:]:
        found = _FIELD.fullmatch(line)
        if found is None:
            raise ConnectionError("its answer has a malformed header")
        name = found[1].lower()
        if name == b"content-length":
            value = found[2].strip(b" \t")
            if not value.isdigit() or len(value) > _LENGTH_DIGITS_MAX or length not in (None, int(value)):
                raise ConnectionError("its answer has no clear length")
            length = int(value)
        elif name == b"transfer-encoding":
            is_framed = False
        elif name == b"connection" and b"close" in [token.strip(b" \t") for token in found[2].lower().split(b",")]:
            will_close = True
    return Head(int(first[2]), length if is_framed else None, will_close)


class Connection:
    """A connected socket on which one request is answered after the other. For one thread at a time."""

    __slots__ = ("_deadline_s", "_left", "_poll", "_rest", "_silence_s", "_timeout_s", "_will_close", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock: socket.socket | None = sock
        """None: closed."""
        self._timeout_s = sock.gettimeout()
        self._silence_s = 0.0
        """That the present answer may have."""
        self._deadline_s: float | None = None
        """When the present answer must be there, as time.monotonic() counts. None: it may take its time."""
        self._rest = b""
        """Received, and not yet taken."""
        self._left = 0
        """Bytes of the present answer's body that were not yet taken."""
        self._will_close = False
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def close(self) -> None:
        sock, self.sock = self.sock, None
        if sock is not None:
            sock.close()

    def connected(self) -> socket.socket:
        """The socket. Raises ConnectionError: it was closed."""
        if self.sock is None:
            raise ConnectionError("the connection is closed")
        return self.sock

    def set_timeout(self, seconds: float) -> None:
        """Of silence: whatever waits longer for the peer raises TimeoutError."""
        if seconds != self._timeout_s:
            self.connected().settimeout(seconds)
            self._timeout_s = seconds

    def readable(self, timeout_s: float) -> bool:
        """Whether the peer has said something, or has closed, within the time."""
        return bool(self._poll.poll(timeout_s * 1000))

    def is_reusable(self) -> bool:
        """Whether nothing is left of the last answer, and nothing was said that nobody asked for."""
        if self.sock is None or self._will_close or self._left or self._rest:
            return False
        # What TLS has decrypted already does not make the socket readable.
        pending: Callable[[], int] | None = getattr(self.sock, "pending", None)
        return pending is None or pending() == 0

    def send(self, *parts: Buffer) -> None:
        """Send all of it. The time-out is for the next bytes to move."""
        sock = self.connected()
        if len(parts) > 1 and sum(map(len, parts)) <= JOIN_BYTES_MAX:
            parts = (b"".join(parts),)
        for part in parts:
            count = sock.send(part)
            if count < len(part):
                view = memoryview(part)[count:]
                while view:
                    view = view[sock.send(view) :]

    def read_head(self, waiting: Patience, *, body_too: bool = False) -> Head:
        """Wait for the answer, over any number of interim ones; then its body can be read.

        waiting   how long in all, and without any byte; what is read after the head knows only the silence
        body_too  the time in all is for the body, too
        Raises    TimeoutError; ConnectionError: it ended, or is not an answer; OSError
        """
        assert self._left + len(self._rest) == 0, "one answer after the other"
        self._deadline_s = time.monotonic() + waiting.in_all_s
        self._silence_s = waiting.silence_s
        received = b""
        while True:
            end = received.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
            if end < 0:
                if len(received) >= HEAD_BYTES_MAX:
                    raise ConnectionError("the head of its answer is too long")
                self._look_at_the_clocks()
                piece = self.connected().recv(HEAD_BYTES_MAX)
                if not piece:
                    raise ConnectionError("it closed the connection" + " in the midst of an answer" * bool(received))
                received += piece
                continue
            head = parse_head(received[:end])
            received = received[end + 4 :]
            if head.status >= 200:
                break
            if head.status == 101:
                raise ConnectionError("it wants to speak another protocol")
        self._rest = received
        self._left = head.length or 0
        self._will_close = head.will_close or head.length is None
        if not body_too:
            self._deadline_s = None
        return head

    def _look_at_the_clocks(self) -> None:
        """Before the next bytes of an answer are awaited. Raises TimeoutError: it has had its time."""
        if self._deadline_s is None:
            self.set_timeout(self._silence_s)
            return
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("alive, but without an answer")
        # A system call less where the silence ends first, or at about the same time.
        self.set_timeout(left_s if left_s < self._silence_s - CLOCK_SLACK_S else self._silence_s)

    def read_into(self, view: memoryview) -> None:
        """Fill `view` with the next bytes of the body, which has as many.

        Raises  TimeoutError; ConnectionError: the peer ended its answer early; OSError
        """
        assert len(view) <= self._left, "no more than the answer has"
        self._left -= len(view)
        if self._rest:
            count = min(len(self._rest), len(view))
            view[:count] = self._rest[:count]
            self._rest = self._rest[count:]
            view = view[count:]
        sock = self.connected()
        while view:
            self._look_at_the_clocks()
            count = sock.recv_into(view)
            if not count:
                raise ConnectionError("it ended its answer early")
            view = view[count:]

    def read(self) -> bytes | bytearray:
        """All that is left of the body. Raises as `read_into` does."""
        if len(self._rest) == self._left:
            body, self._rest, self._left = self._rest, b"", 0
            return body
        whole = bytearray(self._left)
        self.read_into(memoryview(whole))
        return whole


def connect(base_url: str, timeout_s: float, tls_context: "ssl.SSLContext | None" = None) -> Connection:
    """Connect to a server. Raises InvalidRequest: it is no URL; OSError: it can't be reached.

    tls_context  for https; None: as the machine trusts others
    """
    where = address(base_url)
    # A name in bytes is looked up as it is; the rules of international names would have to be loaded first.
    host: Any = where.host.encode() if where.host.isascii() else where.host
    sock = socket.create_connection((host, where.port), timeout_s)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if where.tls:
            if tls_context is None:
                import ssl

                tls_context = ssl.create_default_context()
            sock = tls_context.wrap_socket(sock, server_hostname=where.host)
        return Connection(sock)
    except BaseException:
        sock.close()
        raise
