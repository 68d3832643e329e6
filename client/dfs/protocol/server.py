"""Serves the operations table over HTTP: the counterpart of `transport`, shared by both server roles.

Separate from the roles because how a request is decoded, bounded and answered is the same for every operation, and
from `guard` because this half is plain ASGI and runs on any ASGI server. Everything outside `/v1` goes to the role's
own Starlette app.

There are two ways in. ASGI takes every request. A server that has a small JSON call, or a read of a chunk, in its hands
whole may also ask for the answer directly (`WholeCalls`): most calls are small, and the messages and the task of ASGI
cost more than what they ask for. Both ways meet in `_ProtocolApp._begin`, `_check_chunk` and `_as_answered`, so that
they mean the same.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from dfs.protocol import PROTOCOL_VERSION
from dfs.protocol import errors as e
from dfs.protocol.digests import Buffer
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
WHOLE_BYTES_MAX = 64 << 10
"""The largest body that is small: what a connection holds without flow control."""
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
BytesNow = Callable[[Scope, str], "Answer | None"]
"""Takes the head of a call without a body and the chunk id. None: nothing was done, and the other handler is asked."""
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


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    body: Buffer
    headers: Headers = ()
    """Beside its type and its length."""
    content_type: bytes = b"application/json"


class WholeCalls:
    """An app that also answers small calls directly, for a server that has them whole. Not to be instantiated."""

    def takes_whole(self, scope: Scope) -> bool:
        """Whether `call_whole` takes the request with this head, once its body is there."""
        raise NotImplementedError

    def call_whole(self, scope: Scope, body: bytes) -> Answer | Awaitable[Answer] | None:
        """Do the call of such a request. Raises nothing but CancelledError: errors are answers.

        None: it can't be answered in one piece at once; nothing was done, and ASGI is the way.
        """
        raise NotImplementedError


def refusal(error: e.DfsError) -> Answer:
    """An error as the protocol describes it."""
    headers = [(b"retry-after", b"%d" % random.randint(*RETRY_AFTER_S))] if error.status == 503 else []
    return Answer(error.status, error_to_bytes(error), headers)


def is_small(scope: Scope) -> bool:
    """Whether the body is announced as at most WHOLE_BYTES_MAX bytes; one without a length may be of any."""
    text = header(scope, "content-length")
    return text is not None and text.isdigit() and len(text) < 20 and int(text) <= WHOLE_BYTES_MAX


def is_bodiless(scope: Scope) -> bool:
    """Whether the request ends with its head."""
    return not any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])


async def send_answer(send: Send, answer: Answer) -> None:
    """Send a whole answer."""
    start = [
        (b"content-type", answer.content_type),
        (b"content-length", b"%d" % len(answer.body)),
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": start})
    await send({"type": "http.response.body", "body": answer.body})


async def send_error(send: Send, error: e.DfsError, *, unread: Receive | None = None) -> None:
    """Send an error as the protocol describes it.

    unread  given when the request's body was not read: the connection will be closed, after a moment in which what
            is still coming is thrown away; otherwise the reset would destroy the answer on its way
    """
    status, body, more, _ = refusal(error)
    headers: list[tuple[bytes, bytes]] = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *more,
    ]
    if unread is not None:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
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
            # Not wait_for: that makes a task for each piece.
            async with asyncio.timeout(IDLE_BODY_S):
                message = await receive()
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
    bytes_now: Mapping[Operation[Any, Any], BytesNow] | None = None,
    otherwise: ASGIApp,
    observe: Observer = lambda _name, _seconds, _outcome: None,
) -> ASGIApp:
    """The ASGI app of a role.

    handlers        for the JSON operations that it serves
    bytes_handlers  for those whose bodies are bytes; they answer for themselves, errors that they raise are sent
    bytes_now       for those of them that some requests can be answered of at once, without ASGI
    otherwise       gets everything that is not under /v1, and the lifespan
    observe         told of each call, for the metrics
    """
    return _ProtocolApp(handlers, bytes_handlers or {}, bytes_now or {}, otherwise, observe)


class _ProtocolApp(WholeCalls):
    """Finds the operation of a call, decodes, calls, answers: the same way for each of them."""

    def __init__(
        self,
        handlers: Mapping[Operation[Any, Any], Handler],
        bytes_handlers: Mapping[Operation[Any, Any], BytesHandler],
        bytes_now: Mapping[Operation[Any, Any], BytesNow],
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
        self._chunk_prefixes = tuple({operation.path.removesuffix("{chunk}") for operation in bytes_handlers})
        self._chunk_now = {operation.method: (operation, handler) for operation, handler in bytes_now.items()}
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
        chunk = self._chunk_of(path)
        if chunk is not None:
            await self._call_bytes(method, chunk, scope, receive, send)
            return
        if path in self._known_paths:
            error: e.DfsError = e.InvalidRequest(f"{path} is not called with {method}")
        else:
            error = e.InvalidRequest(
                f"this server has no operation {path}: it has another role or version; is the URL right?"
            )
        await send_error(send, error, unread=receive)

    def _chunk_of(self, path: str) -> str | None:
        """What a path under that of chunks names; nobody has looked yet whether it is an id."""
        for prefix in self._chunk_prefixes:
            if path.startswith(prefix):
                return path[len(prefix) :]
        return None

    async def _call(self, route: _Route, scope: Scope, receive: Receive, send: Send) -> None:
        started = _now()
        outcome = "ok"
        unread: Receive | None = receive
        try:
            check_announced(scope, BODY_BYTES_MAX)
            caller = _caller(scope)
            body = await read_body(scope, receive, BODY_BYTES_MAX)
            unread = None
            answer = self._begin(route, caller, body)
            if isinstance(answer, Awaitable):
                answer = await answer
            await send_answer(send, Answer(200, self._encoder.encode(answer)))
        except Exception as failure:
            error = _as_answered(route.operation.name, failure)
            outcome = error.code
            await send_error(send, error, unread=unread)
        finally:
            self._observe(route.operation.name, _now() - started, outcome)

    def _begin(self, route: _Route, caller: Caller, body: bytes) -> Any:
        """Decode and call: the response, or an awaitable of it."""
        try:
            request = route.decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise e.InvalidRequest(f"{route.operation.name}: malformed request: {error}") from None
        return route.handler(request, caller)

    # --- whole calls, without ASGI --------------------------------------------------------------------------------

    def takes_whole(self, scope: Scope) -> bool:
        if (scope["method"], scope["path"]) in self._routes:
            return is_small(scope)
        return scope["method"] in self._chunk_now and self._chunk_of(scope["path"]) is not None and is_bodiless(scope)

    def call_whole(self, scope: Scope, body: bytes) -> Answer | Awaitable[Answer] | None:
        route = self._routes.get((scope["method"], scope["path"]))
        if route is None:
            return self._call_bytes_now(scope)
        started = _now()
        try:
            answer = self._begin(route, _caller(scope), body)
            if isinstance(answer, Awaitable):
                return self._wait_whole(route, answer, started)
            whole, outcome = Answer(200, self._encoder.encode(answer)), "ok"
        except Exception as failure:
            error = _as_answered(route.operation.name, failure)
            whole, outcome = refusal(error), error.code
        self._observe(route.operation.name, _now() - started, outcome)
        return whole

    async def _wait_whole(self, route: _Route, answer: Awaitable[Any], started: float) -> Answer:
        outcome = "ok"
        try:
            return Answer(200, self._encoder.encode(await answer))
        except Exception as failure:
            error = _as_answered(route.operation.name, failure)
            outcome = error.code
            return refusal(error)
        finally:
            self._observe(route.operation.name, _now() - started, outcome)

    # --- bodies of bytes ------------------------------------------------------------------------------------------

    async def _call_bytes(self, method: str, chunk: str, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._chunk_routes.get(method)
        started = _now()
        outcome = "ok"
        try:
            if found is None:
                raise e.InvalidRequest(f"a chunk is not called with {method}")
            _check_chunk(chunk, scope)
            await found[1](scope, receive, send, chunk)
        except Exception as failure:
            error = _as_answered(f"{method} of the chunk {chunk}", failure)
            outcome = error.code
            await send_error(send, error, unread=receive)
        finally:
            self._observe(found[0].name if found else "unknown", _now() - started, outcome)

    def _call_bytes_now(self, scope: Scope) -> Answer | None:
        method, path = scope["method"], scope["path"]
        operation, handler = self._chunk_now[method]
        chunk = self._chunk_of(path)
        assert chunk is not None, "takes_whole has looked"
        started = _now()
        outcome = "ok"
        try:
            _check_chunk(chunk, scope)
            answer = handler(scope, chunk)
            if answer is None:
                return None
        except Exception as failure:
            error = _as_answered(f"{method} of the chunk {chunk}", failure)
            answer, outcome = refusal(error), error.code
        self._observe(operation.name, _now() - started, outcome)
        return answer


def _check_chunk(chunk: str, scope: Scope) -> None:
    """Raise InvalidRequest if that is no chunk, or the head is not one of ours."""
    if not is_id(chunk):
        raise e.InvalidRequest("a chunk id has 32 lower-case hex digits")
    _caller(scope)


def _as_answered(what: str, failure: Exception) -> e.DfsError:
    """What the caller of `what` is told of a failure; a bug is logged, and is none of his business."""
    if isinstance(failure, e.DfsError):
        return failure
    logger.error("%s failed", what, exc_info=failure)
    return e.DfsError("internal error; the server's log says more")


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
