"""The gateway's route: which method does what, who asks, and how failures are told.

Separate from the transfers so that they can raise what they like: here, once, errors become statuses, and whatever is
odd about a request ends as a 4xx and never as a 500.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from dfs.protocol import errors as e
from dfs.protocol.capability import Ticket, check_ticket
from dfs.protocol.http_conditions import has_preconditions
from dfs.protocol.http_files import (
    RECURSIVE_PARAMETER,
    TICKET_PARAMETER,
    caller_of,
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
from dfs.protocol.messages import Entry
from dfs.protocol.server import content_length
from dfs_datanode.gateway.budget import Budget, Downloads
from dfs_datanode.gateway.download import answer_for, new_boundary, send_answer, send_listing
from dfs_datanode.gateway.files import UPLOAD_BYTES_MAX, Files
from dfs_datanode.gateway.listing import choose_form
from dfs_datanode.gateway.ranges import window_of
from dfs_datanode.gateway.upload import Refusal, check_head, store

logger = logging.getLogger("dfs.gateway")

THREADS = 16
"""Of the gateway: each reads a piece, or writes one, at a time. More requests than that take turns."""
UPLOADS_AT_ONCE = 2
"""Big uploads whose chunks are in memory at once. Others wait with their bodies unread; small files hardly count."""
DOWNLOADS_MAX = 512
DOWNLOAD_BYTES = 64 << 20
"""Of all downloads together, about: with many of them the pieces become small."""
UPLOADS_WAITING_MAX = 200
UPLOAD_PATIENCE_S = 30.0
_METHODS = b"GET, HEAD, PUT, DELETE"


class Gateway:
    """What all requests share: the clients, the threads, the memory for transfers.

    files_of    the cluster for one principal
    ticket_key  this datanode's key; raises Unavailable while it has not registered
    now_ms      the namenode's time as this datanode follows it
    """

    def __init__(
        self, files_of: Callable[[str], Files], *, ticket_key: Callable[[], bytes], now_ms: Callable[[], int]
    ) -> None:
        self.files_of = files_of
        self._ticket_key = ticket_key
        self._now_ms = now_ms
        self.downloads = Downloads(DOWNLOAD_BYTES, most=DOWNLOADS_MAX)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="dfs-gateway")
        self.budget = Budget(
            UPLOADS_AT_ONCE * UPLOAD_BYTES_MAX, waiting_max=UPLOADS_WAITING_MAX, patience_s=UPLOAD_PATIENCE_S
        )

    async def in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Run something that blocks."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def ticket(self, query: dict[str, list[str]], path: str) -> Ticket | None:
        """The namenode's ticket, if the request carries one. Raises NotPermitted, Unavailable."""
        tokens = query.get(TICKET_PARAMETER)
        if not tokens:
            return None
        return check_ticket(tokens[-1], self._ticket_key(), path=path, now_ms=self._now_ms())

    def close(self) -> None:
        """Take no more work. What runs ends by itself: nothing here must keep a datanode from stopping."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class FilesRoute(BaseRoute):
    """Everything whose raw target is /files or below: a pattern over the decoded path would miss odd names."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and is_files(scope["raw_path"]):
            return Match.FULL, {}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = Body(receive)
        started = Started(send)
        try:
            await self._answer(scope, body, started)
        except e.DfsError as error:
            await send_failure(started, error, unread=body.unread(scope))
        except Refusal as refusal:
            await send_text(started, refusal.status, f"{refusal.message}\n", unread=body.unread(scope))
        except Exception:
            logger.exception("%s of a file failed", scope["method"])
            if started.answered:
                return
            internal = e.DfsError("internal error; the datanode's log says more")
            await send_failure(started, internal, unread=body.unread(scope))

    async def _answer(self, scope: Scope, receive: "Body", send: "Started") -> None:
        gateway, method = self._gateway, scope["method"]
        headers = headers_of(scope)
        path = path_of(scope["raw_path"])
        files = gateway.files_of(caller_of(headers).principal)
        if method in ("GET", "HEAD"):
            await self._get(files, path, method, headers, receive, send)
        elif method == "PUT":
            refuse_foreign_page(headers)
            await self._put(scope, path, headers, receive, send)
        elif method == "DELETE":
            refuse_foreign_page(headers)
            recursive = is_true(query_of(scope).get(RECURSIVE_PARAMETER))
            entry = await self._stat(files, path) if has_preconditions(headers) else None
            await gateway.in_thread(files.remove, removal(path, headers, entry, recursive=recursive))
            await send_text(send, 200, f"removed {path}\n", unread=receive.unread(scope))
        else:
            text = f"/files takes GET, HEAD, PUT and DELETE, not {method}\n"
            await send_text(send, 405, text, [(b"allow", _METHODS)], unread=receive.unread(scope))

    async def _stat(self, files: Files, path: str) -> Entry | None:
        try:
            entry: Entry = await self._gateway.in_thread(files.stat, path)
        except e.FileNotFound:
            return None
        return entry

    async def _get(
        self, files: Files, path: str, method: str, headers: dict[str, str], receive: "Body", send: "Started"
    ) -> None:
        gateway = self._gateway
        file = None
        if method == "HEAD":
            entry: Entry = await gateway.in_thread(files.stat, path)
            is_directory = entry.is_directory
        else:
            try:
                file = await gateway.in_thread(files.open, path, *window_of(headers.get("range")))
                entry, is_directory = file.entry, False
            except e.IsADirectory:
                is_directory = True
        if is_directory:
            form = choose_form(path, headers.get("accept"))
            await send_listing(files, path, form, receive, send, method=method, in_thread=gateway.in_thread)
            return
        answer = answer_for(method, headers, entry, now_s=int(time.time()), boundary=new_boundary())
        await send_answer(answer, file, receive, send, in_thread=gateway.in_thread, downloads=gateway.downloads)

    async def _put(self, scope: Scope, path: str, headers: dict[str, str], receive: "Body", send: "Started") -> None:
        gateway = self._gateway
        length = content_length(scope)
        ticket = gateway.ticket(query_of(scope), path)
        check_head(path, scope["raw_path"], headers, length, ticket)
        principal = caller_of(headers).principal if ticket is None else ticket.principal
        stored = await store(
            gateway.files_of(principal),
            path,
            headers,
            length,
            receive,
            budget=gateway.budget,
            in_thread=gateway.in_thread,
            empty_is_lost=ticket is not None and ticket.length != 0,
        )
        verb = "replaced" if stored.replaced else "stored"
        await send_text(
            send,
            200 if stored.replaced else 201,
            f"{verb} {path}, {stored.length} bytes\n",
            [(b"etag", stored.outcome.etag.encode("latin-1"))],
        )


class Body:
    """`receive`, which remembers whether the whole body was read."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False

    async def __call__(self) -> Any:
        message = await self._receive()
        self._ended = self._ended or message["type"] != "http.request" or not message.get("more_body", False)
        return message

    def unread(self, scope: Scope) -> Receive | None:
        """Itself, if something of a body is still to come."""
        return self if has_body(headers_of(scope)) and not self._ended else None


class Started:
    """`send`, which remembers whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.answered = False

    async def __call__(self, message: Any) -> None:
        self.answered = True
        await self._send(message)
