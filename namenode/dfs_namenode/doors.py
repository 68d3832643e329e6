"""What the namenode serves to clients that are not ours: `/files/PATH`, as redirects to datanodes, and its page.

Separate from the operations because this is HTTP: methods, Locations, statuses. Everything that is true comes from the
operations table through `handlers`; this module decides where to send a client, and touches no file content. DELETE
is done here: it needs no datanode, and works when none is alive.
"""

import inspect
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

from dfs.protocol import errors as e
from dfs.protocol.capability import sign_ticket
from dfs.protocol.http_conditions import has_preconditions
from dfs.protocol.http_files import (
    RECURSIVE_PARAMETER,
    TICKET_PARAMETER,
    caller_of,
    files_target,
    has_body,
    headers_of,
    is_files,
    is_true,
    path_of,
    query_of,
    refuse_foreign_page,
    removal,
    send_failure,
    send_text,
)
from dfs.protocol.ids import new_id
from dfs.protocol.messages import Commit, Empty, Entry, Open, Opened, Stat, Status, Target
from dfs.protocol.operations import COMMIT, OPEN, STAT, STATUS, Operation
from dfs.protocol.server import Caller, Handler, content_length
from dfs_namenode.front_page import render_front_page

logger = logging.getLogger("dfs.doors")

TICKET_TTL_MS = 60_000
"""A client follows a redirect at once; a minute forgives a slow one."""
_METHODS = b"GET, HEAD, PUT, DELETE"
_PAGE_HEADERS = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)


@dataclass(frozen=True)
class Doors:
    """What the doors need of the namenode.

    handlers    those of the operations; OPEN, STAT, STATUS and COMMIT are used
    live        the live datanodes with their client URLs, now
    ticket_key  the key of a datanode, from its id
    now_ms      wall clock
    """

    handlers: Mapping[Operation[Any, Any], Handler]
    live: Callable[[], Sequence[Target]]
    ticket_key: Callable[[str], bytes]
    now_ms: Callable[[], int]

    async def call(self, operation: Operation[Any, Any], request: Any, caller: Caller) -> Any:
        """Run an operation as a call from outside would."""
        answer = self.handlers[operation](request, caller)
        return await answer if inspect.isawaitable(answer) else answer

    def any_live(self) -> Target:
        """A live datanode. Raises NotEnoughDatanodes."""
        live = self.live()
        if not live:
            raise e.NotEnoughDatanodes("no datanode is alive now; try again in a moment")
        return random.choice(live)


class _FilesRoute(BaseRoute):
    """Everything whose raw target is /files or below: a pattern over the decoded path would miss odd names."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and is_files(scope["raw_path"]):
            return Match.FULL, {}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await _answer(self._doors, scope, receive, send)
        except e.DfsError as error:
            await send_failure(send, error, unread=_unread(scope, receive))
        except Exception:
            logger.exception("a request for /files failed")
            internal = e.DfsError("internal error; the namenode's log says more")
            await send_failure(send, internal, unread=_unread(scope, receive))


class _FrontPage:
    """The page at `/`. A class, because Starlette hands the ASGI triple only to what is not a function."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        try:
            status: Status = await self._doors.call(STATUS, Empty(), Caller("anonymous"))
        except e.DfsError as error:
            await send_failure(send, error)
            return
        body = render_front_page(status, headers_of(scope).get("host", "")).encode(errors="replace")
        start = [*_PAGE_HEADERS, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": start})
        await send({"type": "http.response.body", "body": body})


def routes(doors: Doors) -> list[BaseRoute]:
    """The routes of the namenode outside /v1: /files/… and the page at /."""
    return [_FilesRoute(doors), Route("/", _FrontPage(doors), methods=["GET", "HEAD"])]


def _unread(scope: Scope, receive: Receive) -> Receive | None:
    """`receive` if the request has a body, which no answer of this door ever reads."""
    return receive if has_body(headers_of(scope)) else None


async def _answer(doors: Doors, scope: Scope, receive: Receive, send: Send) -> None:
    method, unread = scope["method"], _unread(scope, receive)
    headers = headers_of(scope)
    path, query = path_of(scope["raw_path"]), scope["query_string"].decode("latin-1")
    caller = caller_of(headers)
    if method in ("GET", "HEAD"):
        target = await _first_byte(doors, path, caller)
        location = _location(target, path, query)
        await _redirect(send, location, f"The file is at {location}\n", unread)
    elif method == "PUT":
        refuse_foreign_page(headers)
        await _redirect_upload(doors, scope, send, path, query, caller, unread)
    elif method == "DELETE":
        refuse_foreign_page(headers)
        recursive = is_true(query_of(scope).get(RECURSIVE_PARAMETER))
        await _remove(doors, path, headers, caller, recursive=recursive)
        await send_text(send, 200, f"removed {path}\n", unread=unread)
    else:
        await send_text(
            send, 405, f"/files takes GET, HEAD, PUT and DELETE, not {method}\n", [(b"allow", _METHODS)], unread=unread
        )


def _location(target: Target, path: str, query: str) -> str:
    # Built anew from the path, so that what the client sent in odd spelling arrives in the one that is right.
    return f"{target.url.rstrip('/')}{files_target(path)}{'?' if query else ''}{query}"


async def _redirect(send: Send, location: str, text: str, unread: Receive | None) -> None:
    await send_text(send, 307, text, [(b"location", location.encode("latin-1", "replace"))], unread=unread)


async def _first_byte(doors: Doors, path: str, caller: Caller) -> Target:
    """A datanode that has the first byte of the file; any live one for a directory or an empty file."""
    live = doors.any_live
    try:
        opened: Opened = await doors.call(OPEN, Open(path=path, offset=0, length=1), caller)
    except e.IsADirectory:
        return live()
    for extent in opened.layout.extents:
        replicas = opened.layout.chunks[extent.chunk].replicas
        if replicas:
            return replicas[0]
    # None of its replicas can be reached now, or it has no bytes: what that means is the gateway's to say.
    return live()


async def _redirect_upload(
    doors: Doors, scope: Scope, send: Send, path: str, query: str, caller: Caller, unread: Receive | None
) -> None:
    length = content_length(scope)
    expects = (headers_of(scope).get("expect") or "").lower() == "100-continue"
    if path == "/":
        raise e.IsADirectory("/: a file's name is missing in the URL")
    target = doors.any_live()
    if length is None and not expects:
        # A client that streams without asking first has spent its body when the redirect arrives.
        direct = _location(target, path, query)
        text = f"The namenode stores no bytes: send a Content-Length or Expect: 100-continue, or upload to {direct}\n"
        await send_text(send, 411, text, unread=unread)
        return
    ticket = sign_ticket(
        doors.ticket_key(target.datanode),
        path=path,
        length=length,
        expires_ms=doors.now_ms() + TICKET_TTL_MS,
        principal=caller.principal,
    )
    extended = f"{query}{'&' if query else ''}{urlencode({TICKET_PARAMETER: ticket})}"
    location = _location(target, path, extended)
    text = f"Nothing is stored yet: send the same request to {location} (with curl: -L)\n"
    await _redirect(send, location, text, unread)


async def _remove(doors: Doors, path: str, headers: Mapping[str, str], caller: Caller, *, recursive: bool) -> None:
    entry: Entry | None = None
    if has_preconditions(headers):
        try:
            entry = await doors.call(STAT, Stat(path=path), caller)
        except e.FileNotFound:
            entry = None
    action = removal(path, headers, entry, recursive=recursive)
    await doors.call(COMMIT, Commit(op_id=new_id(doors.now_ms()), actions=[action]), caller)
