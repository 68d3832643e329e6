"""Passing a request on to a datanode, and its answer back, byte by byte as they come.

Separate because this is plain HTTP between two sockets: it knows nothing of what is passed on. Nothing is held but one
piece each way; a side that stops reading stops the other one. An answer that ends short ends short here, too.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

import httptools

from dfs.protocol import errors as e
from dfs.protocol.http_files import has_body
from dfs.protocol.server import IDLE_BODY_S, Receive, Scope, Send, cut_off

CONNECT_S = 5.0
ANSWER_S = 300.0
"""How long a datanode may work on an answer: it stores what it got, or reads a file for its checksum."""
READ_ANSWER_S = 5.0
"""How long one datanode may think about a read while there are others to ask: it may have stopped, and still take
connections."""
PIECE_BYTES = 256 << 10
AT_ONCE = 64
_NOT_ON = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "expect", "upgrade", "te"}
)
"""Headers of a request that are between the client and us."""
_NOT_BACK = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"date"})


class Relay:
    """Passes requests on, as many at once as memory allows."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(AT_ONCE)

    async def __call__(
        self,
        base_urls: Sequence[str],
        target: str,
        headers: Mapping[str, str],
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        may_repeat: bool,
    ) -> None:
        """Raises DfsError only before an answer has begun.

        may_repeat  a request without effect: if it has no body either, who does not answer soon is passed over
        """
        if self._room.locked():
            raise e.Unavailable("too many transfers through the namenode at once; try again in a moment")
        async with self._room:
            may_repeat = may_repeat and not has_body(headers)
            left = list(base_urls)
            while True:
                base_url, reader, writer = await _connect(left)
                left = left[left.index(base_url) + 1 :] if may_repeat else []
                patience_s = READ_ANSWER_S if left else ANSWER_S
                try:
                    await _pass_on(reader, writer, base_url, target, headers, scope, receive, send, patience_s)
                    return
                except e.Unavailable:
                    if not left:
                        raise
                finally:
                    # Not close(), which would wait for a datanode that has stopped reading: whatever is still to be
                    # sent is of no use to anybody.
                    writer.transport.abort()
                    with suppress(OSError):
                        await writer.wait_closed()


async def _connect(base_urls: Sequence[str]) -> tuple[str, asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the first that takes one. Nothing was sent to the others. Raises Unavailable."""
    why = ""
    for base_url in base_urls:
        parts = urlsplit(base_url)
        try:
            async with asyncio.timeout(CONNECT_S):
                opened = await asyncio.open_connection(parts.hostname, parts.port or 80, limit=PIECE_BYTES)
                return base_url, *opened
        except (OSError, TimeoutError) as error:
            why = f"{base_url}: {error or 'time-out'}"
    raise e.Unavailable(f"no datanode takes a connection ({why}); try again in a moment")


async def _pass_on(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    base_url: str,
    target: str,
    headers: Mapping[str, str],
    scope: Scope,
    receive: Receive,
    send: Send,
    patience_s: float,
) -> None:
    body = asyncio.create_task(_send_request(writer, base_url, target, headers, scope["method"], receive))
    answer = _Answer()
    begun = False
    try:
        # An answer may come before the body is through: a refusal, which ends the sending.
        async for piece in _pieces(reader, answer, patience_s):
            if not begun:
                begun = True
                await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
            if piece:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        if not begun:
            await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": b""})
    except (OSError, TimeoutError, httptools.HttpParserError) as error:
        if begun:
            await cut_off(scope)
            return
        raise e.Unavailable(f"the datanode at {base_url} broke off ({error or 'time-out'}); try again") from None
    finally:
        body.cancel()
        with suppress(asyncio.CancelledError, OSError, TimeoutError):
            await body


async def _send_request(
    writer: asyncio.StreamWriter,
    base_url: str,
    target: str,
    headers: Mapping[str, str],
    method: str,
    receive: Receive,
) -> None:
    """The whole request. If it can't be sent the datanode notices, and says so or breaks off."""
    length = headers.get("content-length")
    lines = [f"{method} {target} HTTP/1.1", f"host: {urlsplit(base_url).netloc}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items() if name not in _NOT_ON]
    chunked = length is None and "transfer-encoding" in headers
    if chunked:
        lines.append("transfer-encoding: chunked")
    else:
        lines.append(f"content-length: {length or 0}")
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    more = chunked or (length or "0") != "0"
    while more:
        message = await asyncio.wait_for(receive(), IDLE_BODY_S)
        if message["type"] != "http.request":
            # Without its end the body is not one: nothing must be made of it.
            writer.transport.abort()
            return
        piece, more = message.get("body", b""), message.get("more_body", False)
        if piece:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await asyncio.wait_for(writer.drain(), IDLE_BODY_S)
    if chunked:
        writer.write(b"0\r\n\r\n")
    await writer.drain()
    while (await receive())["type"] != "http.disconnect":
        pass
    # The client is gone: the datanode must learn that its answer was not heard.
    writer.transport.abort()


class _Answer:
    """An answer as the parser finds it."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []
        self.head_complete = False
        self.complete = False
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() not in _NOT_BACK:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()
        self.head_complete = self.status >= 200

    def on_body(self, body: bytes) -> None:
        self.pieces.append(body)

    def on_message_complete(self) -> None:
        self.complete = self.head_complete
        if not self.complete:
            # An interim answer; the real one follows.
            self.headers.clear()

    def take(self) -> bytes:
        """What came of the body since."""
        taken = b"".join(self.pieces)
        self.pieces.clear()
        return taken


async def _pieces(reader: asyncio.StreamReader, answer: _Answer, patience_s: float) -> AsyncIterator[bytes]:
    """The body in pieces; the first one, which may be empty, comes when the head is there. Raises OSError."""
    while not answer.complete:
        data = await asyncio.wait_for(reader.read(PIECE_BYTES), patience_s)
        if not data:
            raise ConnectionError("the answer ended early")
        answer.parser.feed_data(data)
        if answer.head_complete:
            patience_s = IDLE_BODY_S
            yield answer.take()
