"""GET and HEAD of `/files/PATH`: choose the answer, then send verified bytes as fast as the client takes them.

`answer_for` decides (pure); `send_file` and `send_listing` do. While one piece is on its way to the client the next
one is read, and no more: a slow client holds two pieces in memory, a client that is gone stops the reading. Every byte
was checked before it is sent. If the bytes can't be had any more in mid-transfer the connection ends short of its
announced length, which every client notices; nothing else is ever sent in their place.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dfs.protocol.digests import Buffer
from dfs.protocol.errors import DfsError, PreconditionFailed, RangeNotSatisfiable
from dfs.protocol.http_conditions import Verdict, evaluate, if_range_holds
from dfs.protocol.http_files import HEADER_ERROR, send_text, validators
from dfs.protocol.messages import Entry
from dfs.protocol.server import Receive, Send
from dfs_datanode.gateway.budget import Downloads
from dfs_datanode.gateway.files import Files, OpenContent
from dfs_datanode.gateway.listing import Form
from dfs_datanode.gateway.ranges import ByteRange, Several, Single, Unsatisfiable, Whole, multipart, plan
from dfs_datanode.gateway.representation import Header, content_type, describe, encode, protect

logger = logging.getLogger("dfs.gateway")

T = TypeVar("T")
InThread = Callable[..., Awaitable[T]]
"""Runs a blocking function with its arguments in one of the gateway's threads."""


@dataclass(frozen=True)
class Answer:
    """What a GET or HEAD is answered: a status, headers, and the body as literal bytes and ranges of the file."""

    status: int
    headers: list[Header]
    body: tuple[bytes | ByteRange, ...] = ()
    text: str = field(default="", kw_only=True)
    """Instead of a body: a sentence for a person."""


def answer_for(method: str, headers: Mapping[str, str], entry: Entry, *, now_s: int, boundary: str) -> Answer:
    """Decide the answer about a file: preconditions first, then the range.

    headers    of the request, by lower-case name
    boundary   for a multipart body; must not occur in the file
    """
    common = describe(entry, now_s)
    current = validators(entry)
    verdict = evaluate(method, headers, current)
    if verdict is Verdict.NOT_MODIFIED:
        return Answer(304, common)
    if verdict is Verdict.FAILED:
        failed = encode({HEADER_ERROR: PreconditionFailed.code})
        return Answer(412, common + failed, text=f"{entry.path}: it is not the version that the precondition names\n")
    kind = content_type(entry)
    about = common + protect(entry, kind)
    counts = method == "GET" and if_range_holds(headers.get("if-range"), current)
    chosen = plan(headers.get("range") if counts else None, entry.size)
    match chosen:
        case Whole():
            whole = (ByteRange(0, entry.size),) if entry.size and method == "GET" else ()
            return Answer(200, about + encode({"content-type": kind, "content-length": str(entry.size)}), whole)
        case Single(part):
            described = {
                "content-type": kind,
                "content-range": part.content_range(entry.size),
                "content-length": str(part.length),
            }
            return Answer(206, about + encode(described), (part,))
        case Several(parts):
            layout = multipart(parts, entry.size, kind, boundary)
            described = {"content-type": layout.content_type, "content-length": str(layout.length)}
            return Answer(206, about + encode(described), layout.pieces)
        case Unsatisfiable():
            unsatisfied = encode({"content-range": f"bytes */{entry.size}", HEADER_ERROR: RangeNotSatisfiable.code})
            return Answer(416, common + unsatisfied, text=f"{entry.path} has {entry.size} bytes\n")


def new_boundary() -> str:
    """A boundary that occurs in no file: 144 random bits."""
    return secrets.token_urlsafe(18)


def cut(pieces: Sequence[bytes | ByteRange], size_now: Callable[[], int]) -> Iterator[bytes | ByteRange]:
    """The same body with ranges of at most `size_now()` bytes."""
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
            continue
        start = piece.start
        while start < piece.end:
            size = size_now()
            # At multiples of `size`: cuts between blocks, so that none is read twice.
            end = min((start // size + 1) * size, piece.end)
            yield ByteRange(start, end)
            start = end


async def send_answer(
    answer: Answer,
    file: OpenContent | None,
    receive: Receive,
    send: Send,
    *,
    in_thread: InThread[Buffer],
    downloads: Downloads,
) -> None:
    """Send it. Raises DfsError only before anything was sent.

    file   None if the body has no ranges (HEAD)
    """
    if answer.text:
        await send_text(send, answer.status, answer.text, answer.headers)
    elif not answer.body:
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": b""})
    else:
        with downloads.one():
            await _send_body(answer, file, receive, send, in_thread=in_thread, piece_bytes=downloads.piece_bytes)


async def _send_body(
    answer: Answer,
    file: OpenContent | None,
    receive: Receive,
    send: Send,
    *,
    in_thread: InThread[Buffer],
    piece_bytes: Callable[[], int],
) -> None:

    async def load(piece: bytes | ByteRange) -> Buffer:
        if isinstance(piece, bytes):
            return piece
        assert file is not None, "a body with ranges has a file"
        return await in_thread(file.read, piece.start, piece.end)

    steps = cut(answer.body, piece_bytes)
    # Loaded before the status is sent: bytes that can't be had are an error then, not a broken connection.
    loaded: Buffer | None = await load(next(steps))
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    gone = asyncio.create_task(wait_gone(receive))
    ahead: asyncio.Task[Buffer] | None = None
    try:
        while loaded is not None:
            step = next(steps, None)
            ahead = asyncio.create_task(load(step)) if step is not None else None
            await send({"type": "http.response.body", "body": loaded, "more_body": ahead is not None})
            if gone.done():
                return
            loaded = await ahead if ahead is not None else None
    except DfsError as error:
        logger.warning("a download ends short: %s", error)
    finally:
        gone.cancel()
        for task in (gone, ahead):
            if task is not None:
                # A thread can't be stopped: its piece is awaited, and its failure is told already or wanted by nobody.
                with suppress(DfsError, asyncio.CancelledError):
                    await task


async def send_listing(
    files: Files, path: str, form: Form, receive: Receive, send: Send, *, method: str, in_thread: InThread[Any]
) -> None:
    """Send a directory page by page. Raises DfsError only before anything was sent."""
    page = await in_thread(files.list_page, path, "")
    headers = {
        "content-type": form.content_type,
        "cache-control": "no-cache",
        "vary": "accept",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    }
    await send({"type": "http.response.start", "status": 200, "headers": encode(headers)})
    if method == "HEAD":
        await send({"type": "http.response.body", "body": b""})
        return
    gone = asyncio.create_task(wait_gone(receive))
    try:
        body = form.begin() + form.page(page.entries)
        while page.next is not None:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            if gone.done():
                return
            page = await in_thread(files.list_page, path, page.next)
            body = form.page(page.entries)
        await send({"type": "http.response.body", "body": body + form.end()})
    except DfsError as error:
        logger.warning("the listing of %s ends short: %s", path, error)
    finally:
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await gone


async def wait_gone(receive: Receive) -> None:
    """Return when the client has closed the connection. What it still sends of a body is thrown away."""
    while (await receive())["type"] != "http.disconnect":
        pass
