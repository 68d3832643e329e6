"""The route of WebHDFS: which operation a request names, who asks, and how answers and failures are told.

Separate from the operations so that they can return and raise what they like: here, once, that becomes HTTP.
"""

import logging
from collections.abc import MutableMapping
from typing import Any

from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from dfs.protocol import errors as e
from dfs.protocol.http_files import has_body, headers_of, refuse_foreign_page
from dfs.protocol.server import cut_off
from dfs.protocol.webhdfs import NO_REDIRECT, caller_in, is_webhdfs, path_in, query_of, send_json, send_nothing
from dfs.protocol.webhdfs_errors import (
    RUNTIME,
    UNSUPPORTED,
    RemoteException,
    remote_exception,
    send_exception,
    unknown_operation,
)
from dfs_namenode.webhdfs.asking import Ask, House, Json, Nothing, PassOn, Redirect, Stream, Table
from dfs_namenode.webhdfs.changing import CHANGING
from dfs_namenode.webhdfs.describing import DESCRIBING
from dfs_namenode.webhdfs.looking import LOOKING
from dfs_namenode.webhdfs.moving import MOVING
from dfs_namenode.webhdfs.relay import Relay

logger = logging.getLogger("dfs.doors")

OPERATIONS: Table = {**LOOKING, **CHANGING, **DESCRIBING, **MOVING}
NOT_HERE = frozenset(
    {
        ("GET", "GETDELEGATIONTOKENS"), ("GET", "GETECPOLICY"), ("GET", "GETECPOLICIES"), ("GET", "GETECCODECS"),
        ("GET", "GETLINKTARGET"), ("GET", "GETFILELINKSTATUS"), ("GET", "GETSNAPSHOTDIFF"),
        ("GET", "GETSNAPSHOTDIFFLISTING"), ("GET", "GETSNAPSHOTTABLEDIRECTORYLIST"), ("GET", "GETSNAPSHOTLIST"),
        ("GET", "GETTRASHROOTS"),
        ("PUT", "CREATESYMLINK"), ("PUT", "RENEWDELEGATIONTOKEN"), ("PUT", "CANCELDELEGATIONTOKEN"),
        ("PUT", "ALLOWSNAPSHOT"), ("PUT", "DISALLOWSNAPSHOT"), ("PUT", "CREATESNAPSHOT"), ("PUT", "RENAMESNAPSHOT"),
        ("PUT", "SETSTORAGEPOLICY"), ("PUT", "SATISFYSTORAGEPOLICY"), ("PUT", "SETQUOTA"),
        ("PUT", "SETQUOTABYSTORAGETYPE"), ("PUT", "ENABLEECPOLICY"), ("PUT", "DISABLEECPOLICY"), ("PUT", "SETECPOLICY"),
        ("POST", "UNSETSTORAGEPOLICY"), ("POST", "UNSETECPOLICY"), ("DELETE", "DELETESNAPSHOT"),
    }
)  # fmt: skip
"""What Hadoop has, and dfs has not."""


class WebhdfsRoute(BaseRoute):
    """Everything whose raw target is /webhdfs/v1 or below."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._relay = Relay()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and is_webhdfs(scope["raw_path"]):
            return Match.FULL, {}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = headers_of(scope)
        unread = receive if has_body(headers) else None
        path, begun = "/", False

        async def told(message: MutableMapping[str, Any]) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            path = path_in(scope["raw_path"])
            await self._answer(path, headers, unread, scope, receive, told)
        except RemoteException as error:
            await send_exception(send, error, unread=unread)
        except e.DfsError as error:
            await send_exception(send, remote_exception(error, path), unread=unread)
        except Exception:
            logger.exception("a request for /webhdfs failed")
            if begun:
                await cut_off(scope)
                return
            internal = RemoteException(RUNTIME, "internal error; the namenode's log says more")
            await send_exception(send, internal, unread=unread)

    async def _answer(
        self, path: str, headers: dict[str, str], unread: Receive | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        parameters = query_of(scope)
        method, op = scope["method"], parameters.text("op").upper()
        work = OPERATIONS.get((method, op))
        if work is None:
            if (method, op) in NOT_HERE:
                raise RemoteException(UNSUPPORTED, f"{op} is not supported")
            raise unknown_operation(method, op)
        if method != "GET":
            refuse_foreign_page(headers)
        caller = caller_in(parameters, headers)
        ask = Ask(self._house, path, parameters, caller, scope["query_string"], headers.get("host", ""))
        match await work(ask):
            case Json(value):
                await send_json(send, 200, value, unread=unread)
            case Nothing():
                await send_nothing(send, unread=unread)
            case Redirect(location):
                if parameters.flag(NO_REDIRECT):
                    await send_json(send, 200, {"Location": location}, unread=unread)
                else:
                    await send_nothing(send, 307, ((b"location", location.encode("ascii")),), unread=unread)
            case Stream() as stream:
                await _send_stream(stream, scope, send)
            case PassOn(base_urls, target, may_repeat):
                await self._relay(base_urls, target, headers, scope, receive, send, may_repeat=may_repeat)


async def _send_stream(stream: Stream, scope: Scope, send: Send) -> None:
    start = [(b"content-type", b"application/json"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": start})
    try:
        async for piece in stream.pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    except e.DfsError as error:
        logger.warning("a listing ends short: %s", error)
        await cut_off(scope)
        return
    await send({"type": "http.response.body", "body": b""})
