"""Serves the operations table over HTTP: the counterpart of `transport`, shared by both server roles.

Separate from the roles because how a request is decoded, bounded and answered is the same for every operation, and
from `guard` because this half is plain ASGI and runs on any ASGI server. Everything outside `/v1` goes to the role's
own Starlette app.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from dfs.protocol import PROTOCOL_VERSION
from dfs.protocol import errors as e
from dfs.protocol.ids import is_id
from dfs.protocol.operations import (
    BODY_BYTES_MAX,
    HEADER_PRINCIPAL,
    HEADER_PROTOCOL,
    Operation,
    error_to_bytes,
)

logger = logging.getLogger("dfs.server")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

EXTENSION = "dfs.connection"
"""The key of a scope's extensions under which the guarded protocol puts itself."""
IDLE_BODY_S = 60.0
"""How long a request's body may pause."""
DRAIN_S = 1.0
DRAIN_BYTES_MAX = 64 << 20
"""After a refusal the rest of a body is read and thrown away this long, so that the answer is not lost to a reset."""
RETRY_AFTER_S = (1, 4)
"""Bounds of the jittered Retry-After that goes with a 503."""


@dataclass(frozen=True)
class Caller:
    """Who makes the call."""

    principal: str


Handler = Callable[[Any, Caller], Any]
"""Takes the decoded request, returns the response or an awaitable of it. A plain function runs on the event loop."""
BytesHandler = Callable[[Scope, Receive, Send, str], Awaitable[None]]
"""Takes the ASGI triple and the chunk id, which is 32 hex digits."""
Observer = Callable[[str, float, str], None]
"""Told of each call: the operation's name, seconds, and the error's code or "ok"."""


def header(scope: Scope, name: str) -> str | None:
    """The value of a request header, or None. Names are lower case."""
    wanted = name.encode()
    for key, value in scope["headers"]:
        if key == wanted:
            text: str = value.decode("latin-1")
            return text
    return None


def content_length(scope: Scope) -> int | None:
    """The announced length of the body, bytes; None if there is none. Raises InvalidRequest."""
    text = header(scope, "content-length")
    if text is None:
        return None
    # Digits only: int() would also take "+5", "1_000" and other scripts' digits.
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise e.InvalidRequest(f"the Content-Length {text!r} is not a number")
    return int(text)


async def send_answer(send: Send, status: int, body: bytes, headers: Headers = ()) -> None:
    """Send a whole JSON answer."""
    start = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, error: e.DfsError, *, unread: Receive | None = None) -> None:
    """Send an error as the protocol describes it.

    unread  given when the request's body was not read: the connection will be closed, after a moment in which what
            is still coming is thrown away; otherwise the reset would destroy the answer on its way
    """
    body = error_to_bytes(error)
    headers: list[tuple[bytes, bytes]] = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    if error.status == 503:
        headers.append((b"retry-after", b"%d" % random.randint(*RETRY_AFTER_S)))
    if unread is not None:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": unread is not None})
    if unread is not None:
        await throw_away(unread)
        await send({"type": "http.response.body", "body": b""})


async def throw_away(receive: Receive) -> None:
    """Read what is still coming of a body, for a moment, and forget it."""
    taken = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            while taken < DRAIN_BYTES_MAX:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body"):
                    return
                taken += len(message.get("body", b""))


async def cut_off(scope: Scope) -> None:
    """End the connection in the middle of an answer, or without one: the only way left to say that it is not whole."""
    connection = scope.get("extensions", {}).get(EXTENSION)
    if connection is None:
        raise RuntimeError("the answer can't be completed")
    connection.transport.abort()
    await asyncio.sleep(0)


def check_announced(scope: Scope, limit: int) -> None:
    """Raise TooLarge if the body is announced as larger, InvalidRequest if its length is no number."""
    announced = content_length(scope)
    if announced is not None and announced > limit:
        raise e.TooLarge(f"a body of {announced} bytes; at most {limit} are accepted")


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body. Raises TooLarge as soon as that is known, InvalidRequest if it ends or pauses too early."""
    check_announced(scope, limit)
    pieces: list[bytes] = []
    size = 0
    while True:
        try:
            message = await asyncio.wait_for(receive(), IDLE_BODY_S)
        except TimeoutError:
            raise e.InvalidRequest(f"the body paused for more than {IDLE_BODY_S:.0f} s") from None
        if message["type"] != "http.request":
            raise e.InvalidRequest("the connection ended before the body did")
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise e.TooLarge(f"a body of more than {limit} bytes")
        pieces.append(piece)
        if not message.get("more_body"):
            return b"".join(pieces)


@dataclass(frozen=True)
class _Route:
    operation: Operation[Any, Any]
    handler: Handler
    decoder: msgspec.json.Decoder[Any]


def protocol_app(
    handlers: Mapping[Operation[Any, Any], Handler],
    *,
    bytes_handlers: Mapping[Operation[Any, Any], BytesHandler] | None = None,
    otherwise: ASGIApp,
    observe: Observer = lambda _name, _seconds, _outcome: None,
) -> ASGIApp:
    """The ASGI app of a role.

    handlers        for the JSON operations that it serves
    bytes_handlers  for those whose bodies are bytes; they answer for themselves, errors that they raise are sent
    otherwise       gets everything that is not under /v1, and the lifespan
    observe         told of each call, for the metrics
    """
    return _ProtocolApp(handlers, bytes_handlers or {}, otherwise, observe)


class _ProtocolApp:
    """Finds the operation of a call, decodes, calls, answers: the same way for each of them."""

    def __init__(
        self,
        handlers: Mapping[Operation[Any, Any], Handler],
        bytes_handlers: Mapping[Operation[Any, Any], BytesHandler],
        otherwise: ASGIApp,
        observe: Observer,
    ) -> None:
        self._otherwise = otherwise
        self._observe = observe
        self._routes = {
            (operation.method, operation.path): _Route(operation, handler, msgspec.json.Decoder(operation.request))
            for operation, handler in handlers.items()
        }
        self._known_paths = {path for _, path in self._routes}
        self._chunk_routes: dict[str, tuple[Operation[Any, Any], BytesHandler]] = {
            operation.method: (operation, handler) for operation, handler in bytes_handlers.items()
        }
        self._chunk_prefixes = {operation.path.removesuffix("{chunk}") for operation in bytes_handlers}
        self._encoder = msgspec.json.Encoder()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._otherwise(scope, receive, send)
            return
        try:
            if scope["path"].startswith("/v1/"):
                await self._serve(scope, receive, send)
            else:
                await self._otherwise(scope, receive, send)
        except asyncio.CancelledError:
            # The server ends, and this call had its time. Whether it was done is not known here, so no answer may
            # claim anything: the caller sees the connection end, and asks again with the same op id.
            if scope.get("extensions", {}).get(EXTENSION) is None:
                raise
            await cut_off(scope)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        route = self._routes.get((method, path))
        if route is not None:
            await self._call(route, scope, receive, send)
            return
        for prefix in self._chunk_prefixes:
            if path.startswith(prefix):
                await self._call_bytes(method, path.removeprefix(prefix), scope, receive, send)
                return
        if path in self._known_paths:
            error: e.DfsError = e.InvalidRequest(f"{path} is not called with {method}")
        else:
            error = e.InvalidRequest(
                f"this server has no operation {path}: it has another role or version; is the URL right?"
            )
        await send_error(send, error, unread=receive)

    async def _call(self, route: _Route, scope: Scope, receive: Receive, send: Send) -> None:
        started = _now()
        outcome = "ok"
        unread: Receive | None = receive
        try:
            check_announced(scope, BODY_BYTES_MAX)
            caller = _caller(scope)
            body = await read_body(scope, receive, BODY_BYTES_MAX)
            unread = None
            try:
                request = route.decoder.decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise e.InvalidRequest(f"{route.operation.name}: malformed request: {error}") from None
            answer = route.handler(request, caller)
            if isinstance(answer, Awaitable):
                answer = await answer
            await send_answer(send, 200, self._encoder.encode(answer))
        except e.DfsError as error:
            outcome = error.code
            await send_error(send, error, unread=unread)
        except Exception:
            outcome = e.DfsError.code
            logger.exception("the operation %s failed", route.operation.name)
            await send_error(send, e.DfsError("internal error; the server's log says more"), unread=unread)
        finally:
            self._observe(route.operation.name, _now() - started, outcome)

    async def _call_bytes(self, method: str, chunk: str, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._chunk_routes.get(method)
        started = _now()
        outcome = "ok"
        try:
            if found is None:
                raise e.InvalidRequest(f"a chunk is not called with {method}")
            if not is_id(chunk):
                raise e.InvalidRequest("a chunk id has 32 lower-case hex digits")
            _caller(scope)
            await found[1](scope, receive, send, chunk)
        except e.DfsError as error:
            outcome = error.code
            await send_error(send, error, unread=receive)
        except Exception:
            outcome = e.DfsError.code
            logger.exception("a call of the chunk %s failed", chunk)
            await send_error(send, e.DfsError("internal error; the server's log says more"), unread=receive)
        finally:
            self._observe(found[0].name if found else "unknown", _now() - started, outcome)


def _now() -> float:
    # Not the loop's time: uvloop counts that in milliseconds.
    return time.perf_counter()


def _caller(scope: Scope) -> Caller:
    version = header(scope, HEADER_PROTOCOL)
    if version != str(PROTOCOL_VERSION):
        # Also what keeps web pages out: a browser sends this header to a foreign server only if that one allows it.
        raise e.InvalidRequest(
            f"calls under /v1 carry the header Dfs-Protocol: {PROTOCOL_VERSION}; this one has {version or 'none'}"
        )
    principal = header(scope, HEADER_PRINCIPAL) or "anonymous"
    if len(principal) > 255:
        raise e.InvalidRequest("the principal is longer than 255 bytes")
    return Caller(principal)
