"""PUT of `/files/PATH`: take a body of any size and make it a file, whole or not at all.

What can be refused is refused before the first byte of the body is asked for, so that a client that waits for
`100 Continue` keeps it. Preconditions are judged then, and bound to the version that was seen: the commit fails if
another one came in between. A body that ends early, pauses too long, or is not as long as announced stores nothing.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from dfs.protocol import errors as e
from dfs.protocol.capability import Ticket
from dfs.protocol.digests import Buffer
from dfs.protocol.http_conditions import Verdict, evaluate, has_preconditions
from dfs.protocol.http_files import validators
from dfs.protocol.messages import Entry, Outcome, PutFile
from dfs.protocol.server import IDLE_BODY_S, Receive
from dfs_datanode.gateway.budget import Budget
from dfs_datanode.gateway.files import UPLOAD_BYTES_MAX, Files, Upload
from dfs_datanode.gateway.representation import CONTENT_TYPE_ATTRIBUTE, stored_type
from dfs_datanode.pace import Pace

logger = logging.getLogger("dfs.gateway")

PIECE_BYTES = 1 << 20
"""Gathered before a thread takes it: the server hands bodies out in small pieces."""

InThread = Callable[..., Awaitable[Any]]


class Incoming(Protocol):
    """Bytes that are being stored, and not visible yet."""

    @property
    def length(self) -> int: ...

    def write(self, data: Buffer) -> None: ...

    def abort(self) -> None: ...


U = TypeVar("U", bound=Incoming)


class Refusal(Exception):
    """A refusal that only HTTP knows: a status, and one sentence for a person."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Stored:
    """What an upload did."""

    outcome: Outcome
    length: int
    replaced: bool


def check_head(
    path: str, raw_path: bytes, headers: Mapping[str, str], length: int | None, ticket: Ticket | None
) -> None:
    """Refuse what the head alone shows to be wrong.

    length   the Content-Length, or None
    ticket   what the namenode knew of this upload, if it came from there
    """
    if path == "/":
        raise e.IsADirectory("/: a file's name is missing in the URL")
    if raw_path.endswith(b"/"):
        raise e.InvalidRequest(f"{path}/: a URL that ends with / names a directory; PUT stores a file")
    chunked = "transfer-encoding" in headers
    if length is None and not chunked:
        raise Refusal(411, "the length of the body is missing: send Content-Length, or use chunked encoding")
    if "content-range" in headers:
        raise e.InvalidRequest("a part of a file can't be stored; PUT replaces the whole (curl: without -C)")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "files are stored as they come; send the body without Content-Encoding")
    if ticket is None:
        return
    if ticket.length is not None and length is not None and length != ticket.length:
        raise e.InvalidRequest(
            f"{length} bytes are announced here, but {ticket.length} were to the namenode; nothing was stored"
        )
    if ticket.length is None and length == 0:
        raise e.InvalidRequest("the body was lost on the way through the redirect; nothing was stored, send it again")


def action_for(path: str, headers: Mapping[str, str], current: Entry | None) -> PutFile:
    """The action that makes the upload visible. Raises PreconditionFailed, IsADirectory.

    current   what is there now
    """
    if evaluate("PUT", headers, None if current is None else validators(current)) is not Verdict.PROCEED:
        raise _changed(path)
    if current is not None and current.is_directory:
        raise e.IsADirectory(f"{path} is a directory; PUT stores a file")
    kind = stored_type(headers.get("content-type"))
    attributes = {CONTENT_TYPE_ATTRIBUTE: kind} if kind is not None else None
    if not has_preconditions(headers):
        return PutFile(path=path, parents=True, attributes=attributes)
    if current is None:
        return PutFile(path=path, parents=True, attributes=attributes, when="absent")
    return PutFile(path=path, parents=True, attributes=attributes, when="version", if_version=current.version)


def _changed(path: str) -> e.PreconditionFailed:
    return e.PreconditionFailed(f"{path}: it is not the version that the precondition names; nothing was stored")


async def store(
    files: Files,
    path: str,
    headers: Mapping[str, str],
    length: int | None,
    receive: Receive,
    *,
    budget: Budget,
    in_thread: InThread,
    empty_is_lost: bool,
) -> Stored:
    """Take the body and store it, if what is there now allows it. Raises DfsError, Refusal; then nothing is stored.

    length          announced bytes; None: chunked
    empty_is_lost   an empty body of unknown length means that a client dropped it at a redirect
    """
    try:
        current: Entry | None = await in_thread(files.stat, path)
    except e.FileNotFound:
        current = None
    action = action_for(path, headers, current)

    def publish(upload: Upload) -> Outcome:
        if empty_is_lost and length is None and upload.length == 0:
            raise e.InvalidRequest("the body was lost on the way through the redirect; nothing was stored")
        return upload.publish(action)

    try:
        upload, outcome = await take_in(
            lambda: files.begin_upload(path, length), publish, length, receive, budget=budget, in_thread=in_thread
        )
    except e.FileExists:
        if action.when == "absent":
            raise _changed(path) from None
        raise
    return Stored(outcome, upload.length, replaced=current is not None)


async def take_in(
    begin: Callable[[], U],
    publish: Callable[[U], Outcome],
    length: int | None,
    receive: Receive,
    *,
    budget: Budget,
    in_thread: InThread,
) -> tuple[U, Outcome]:
    """Take a body of `length` bytes, or of any length, and publish it; nothing is stored if that raises.

    begin, publish  called in threads
    Raises          Refusal, and what these raise
    """
    async with budget.share(UPLOAD_BYTES_MAX if length is None else min(2 * length, UPLOAD_BYTES_MAX)):
        upload: U = await in_thread(begin)
        try:
            await _take_body(upload, receive, length, in_thread)
            outcome: Outcome = await _to_the_end(in_thread(publish, upload))
        except BaseException:
            await _to_the_end(in_thread(upload.abort))
            raise
    return upload, outcome


async def _take_body(
    upload: Incoming,
    receive: Receive,
    length: int | None,
    in_thread: InThread,
    monotonic_s: Callable[[], float] = time.monotonic,
) -> None:
    """The whole body into `upload`. Raises Refusal: it ended early, paused, trickled, or has another length."""
    gathered = bytearray()
    pace = Pace()
    while True:
        started_s = monotonic_s()
        try:
            message = await asyncio.wait_for(receive(), IDLE_BODY_S)
            pace.note(monotonic_s() - started_s, len(message.get("body", b"")))
        except TimeoutError:
            # Whoever holds a share of the uploads' memory keeps others waiting.
            raise Refusal(408, "the body paused or trickled; nothing was stored") from None
        if message["type"] != "http.request":
            raise Refusal(408, "the connection ended before the body did; nothing was stored")
        gathered += message.get("body", b"")
        more = message.get("more_body", False)
        if gathered and (len(gathered) >= PIECE_BYTES or not more):
            await _to_the_end(in_thread(upload.write, gathered))
            gathered = bytearray()
        if not more:
            break
    if length is not None and upload.length != length:
        raise Refusal(408, f"{upload.length} of {length} bytes arrived; nothing was stored")


async def _to_the_end(work: Awaitable[Any]) -> Any:
    """Await a thread's work even if this task is cancelled meanwhile: two threads must not use one upload."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
