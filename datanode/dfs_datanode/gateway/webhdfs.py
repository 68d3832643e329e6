"""The data half of WebHDFS: what the namenode's redirects lead to.

CREATE, APPEND, OPEN, GETFILECHECKSUM and TRUNCATE at `/webhdfs/v1/PATH` on a datanode. Separate from the door of
`/files` because methods, parameters and errors are Hadoop's; the bytes go through the same upload and download, with
the same budgets, and every one of them is verified.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import xxhash
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from dfs.protocol import errors as e
from dfs.protocol.digests import Buffer
from dfs.protocol.http_files import headers_of, refuse_foreign_page
from dfs.protocol.messages import CHUNK_SIZE_MAX, REPLICATION_MAX, Entry, Outcome, PutFile
from dfs.protocol.server import content_length
from dfs.protocol.webhdfs import (
    APPEND_TO,
    BLOCK_SIZE_ATTRIBUTE,
    CONTENT,
    OCTET_STREAM,
    REPEAT,
    Parameters,
    block_size,
    caller_in,
    is_webhdfs,
    overwrites,
    path_in,
    query_of,
    send_json,
    send_nothing,
)
from dfs.protocol.webhdfs_errors import (
    FILE_EXISTS,
    ILLEGAL_ARGUMENT,
    IO,
    RUNTIME,
    RemoteException,
    remote_exception,
    send_exception,
    unknown_operation,
)
from dfs_datanode.gateway.budget import PIECE_BYTES_MAX
from dfs_datanode.gateway.crc32c import RUN_BYTES, FileChecksum
from dfs_datanode.gateway.door import Body, Gateway, Started
from dfs_datanode.gateway.download import Answer, send_answer, wait_gone
from dfs_datanode.gateway.files import Append, Files, OpenContent, Upload
from dfs_datanode.gateway.ranges import ByteRange
from dfs_datanode.gateway.upload import Refusal, take_in

logger = logging.getLogger("dfs.gateway")

CHECKSUMS_AT_ONCE = 1
"""They need a whole processor each."""
APPENDS_REMEMBERED = 1000


class WebhdfsRoute(BaseRoute):
    """Everything whose raw target is /webhdfs/v1 or below."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._checksums = asyncio.Semaphore(CHECKSUMS_AT_ONCE)
        self._appends = Appends()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and is_webhdfs(scope["raw_path"]):
            return Match.FULL, {}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, started, path = Body(receive), Started(send), "/"
        try:
            path = path_in(scope["raw_path"])
            await self._answer(path, scope, body, started)
        except RemoteException as error:
            await send_exception(started, error, unread=body.unread(scope))
        except Refusal as refusal:
            await send_exception(started, RemoteException(IO, refusal.message), unread=body.unread(scope))
        except e.DfsError as error:
            await send_exception(started, remote_exception(error, path), unread=body.unread(scope))
        except Exception:
            logger.exception("%s of WebHDFS failed", scope["method"])
            if started.answered:
                return
            internal = RemoteException(RUNTIME, "internal error; the datanode's log says more")
            await send_exception(started, internal, unread=body.unread(scope))

    async def _answer(self, path: str, scope: Scope, receive: Body, send: Started) -> None:
        headers, parameters = headers_of(scope), query_of(scope)
        files = self._gateway.files_of(caller_in(parameters, headers).principal)
        if scope["method"] != "GET":
            refuse_foreign_page(headers)
        match scope["method"], parameters.text("op").upper():
            case "GET", "OPEN":
                await self._open(files, path, parameters, receive, send)
            case "GET", "GETFILECHECKSUM":
                await self._checksum(files, path, parameters, receive, send)
            case "PUT", "CREATE":
                await self._create(files, path, parameters, _length(scope, headers), receive, send)
            case "POST", "APPEND":
                await self._append(files, path, parameters, _length(scope, headers), receive, send)
            case "POST", "TRUNCATE":
                await self._truncate(files, path, parameters, receive.unread(scope), send)
            case method, op:
                raise unknown_operation(method, op)

    # --- reading --------------------------------------------------------------------------------------------------

    async def _open(self, files: Files, path: str, parameters: Parameters, receive: Body, send: Started) -> None:
        offset = parameters.position("offset") or 0
        length = parameters.position("length")
        content = parameters.number(CONTENT, high=(1 << 62) - 1)
        # The path is not asked for again: it may have another name by now, or none, and the stream goes on.
        found = (files.open, path) if content is None else (files.open_content, content)
        file: OpenContent = await self._gateway.in_thread(*found, offset, length)
        if offset > file.size:
            raise RemoteException(IO, f"Offset={offset} out of the range [0, {file.size}); OPEN, path={path}")
        end = file.size if length is None else min(file.size, offset + length)
        headers = [
            (b"content-type", OCTET_STREAM),
            (b"content-length", b"%d" % (end - offset)),
            (b"cache-control", b"no-cache"),
            (b"x-content-type-options", b"nosniff"),
        ]
        pieces = (ByteRange(offset, end),) if offset < end else ()
        answer = Answer(200, headers, pieces)
        await send_answer(
            answer, file, receive, send, in_thread=self._gateway.in_thread, downloads=self._gateway.downloads
        )  # fmt: skip

    async def _checksum(self, files: Files, path: str, parameters: Parameters, receive: Body, send: Started) -> None:
        in_thread = self._gateway.in_thread
        content = parameters.number(CONTENT, high=(1 << 62) - 1)
        entry: Entry = await in_thread(files.stat, path)
        found = (files.open, path) if content is None else (files.open_content, content)
        file: OpenContent = await in_thread(*found)
        default: int = await in_thread(files.chunk_size)
        size = block_size(entry, default)
        checksum = FileChecksum(size if size % RUN_BYTES == 0 else default)

        def step(start: int) -> None:
            checksum.update(file.read(start, min(start + PIECE_BYTES_MAX, file.size)))

        async with self._checksums, _watching(receive) as gone:
            for start in range(0, file.size, PIECE_BYTES_MAX):
                if gone.done():
                    return
                await in_thread(step, start)
        await send_json(send, 200, {"FileChecksum": checksum.result()})

    # --- writing --------------------------------------------------------------------------------------------------

    async def _create(
        self, files: Files, path: str, parameters: Parameters, length: int | None, receive: Body, send: Started
    ) -> None:
        if path == "/":
            raise RemoteException(FILE_EXISTS, "/ already exists as a directory")
        overwrite = overwrites(parameters)
        replication = parameters.number("replication", low=1, high=REPLICATION_MAX)
        size = parameters.number("blocksize", low=1) or None
        action = PutFile(
            path=path,
            when="any" if overwrite else "absent",
            parents=parameters.flag("createparent", default=True),
            mode=parameters.permission(),
            replication=replication,
            attributes={BLOCK_SIZE_ATTRIBUTE: str(size)} if size else None,
        )
        hint = min(size, CHUNK_SIZE_MAX) if size else None

        def begin() -> Upload:
            return files.begin_upload(path, length, replication=replication, block_size=hint)

        def publish(upload: Upload) -> Outcome:
            return upload.publish(action)

        try:
            await take_in(
                begin, publish, length, receive, budget=self._gateway.budget, in_thread=self._gateway.in_thread
            )  # fmt: skip
        except e.IsADirectory:
            raise RemoteException(FILE_EXISTS, f"{path} already exists as a directory") from None
        await send_nothing(send, 201)

    async def _append(
        self, files: Files, path: str, parameters: Parameters, length: int | None, receive: Body, send: Started
    ) -> None:
        gateway, repeat = self._gateway, parameters.text(REPEAT)
        inode = parameters.number(APPEND_TO, low=1, high=(1 << 62) - 1)
        if inode is None:
            entry = await gateway.in_thread(files.stat, path)
            if entry.is_directory:
                raise e.IsADirectory(f"{path}: is a directory", path=path)
            inode = entry.inode
        file_id: int = inode
        async with self._appends.turn(repeat) as turn:

            def begin() -> _Counted:
                return _Counted(files.begin_append(path, file_id))

            def publish(append: _Counted) -> Outcome:
                if turn.is_repetition(append.fingerprint):
                    append.abort()
                    return Outcome(path, 0, changed=False)
                return append.publish()

            append, _ = await take_in(
                begin, publish, length, receive, budget=gateway.budget, in_thread=gateway.in_thread
            )  # fmt: skip
            turn.done(append.fingerprint, heard=not await _is_gone(receive))
        await send_nothing(send)

    async def _truncate(
        self, files: Files, path: str, parameters: Parameters, unread: Receive | None, send: Started
    ) -> None:
        length = parameters.number("newlength")
        if length is None:
            raise RemoteException(ILLEGAL_ARGUMENT, 'Invalid value for webhdfs parameter "newlength": it is missing')
        size = (await self._gateway.in_thread(files.stat, path)).size
        if length > size:
            raise RemoteException(
                ILLEGAL_ARGUMENT,
                f"Cannot truncate to a larger file size. Current size: {size}, truncate size: {length}.",
            )
        await self._gateway.in_thread(files.truncate, path, length)
        await send_json(send, 200, {"boolean": True}, unread=unread)


def _length(scope: Scope, headers: Mapping[str, str]) -> int | None:
    """Bytes of the body, or None if only its end will tell."""
    return None if "transfer-encoding" in headers else content_length(scope) or 0


@asynccontextmanager
async def _watching(receive: Receive) -> AsyncIterator["asyncio.Task[None]"]:
    """A task that ends when the client is gone."""
    gone = asyncio.create_task(wait_gone(receive))
    try:
        yield gone
    finally:
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await gone


async def _is_gone(receive: Receive) -> bool:
    """Whether the client is gone already, after its whole body was read."""
    async with _watching(receive) as gone:
        await asyncio.sleep(0)
        return gone.done()


# --- appends that come twice --------------------------------------------------------------------------------------


class _Counted:
    """An append, and the fingerprint of its bytes."""

    def __init__(self, append: Append) -> None:
        self._append = append
        self._hash = xxhash.xxh3_128()

    @property
    def length(self) -> int:
        return self._append.length

    @property
    def fingerprint(self) -> bytes:
        return self.length.to_bytes(8, "big") + self._hash.digest()

    def write(self, data: Buffer) -> None:
        self._hash.update(data)
        self._append.write(data)

    def publish(self) -> Outcome:
        return self._append.publish()

    def abort(self) -> None:
        self._append.abort()


@dataclass
class Turn:
    """The appends through one Location, one after the other."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    unheard: bytes | None = None
    """The fingerprint of an append that was done, whose client was gone before it could be told."""

    def is_repetition(self, fingerprint: bytes) -> bool:
        return self.unheard == fingerprint

    def done(self, fingerprint: bytes, *, heard: bool) -> None:
        self.unheard = None if heard else fingerprint


class Appends:
    """Tells a repeated POST from one more of them.

    Java's HTTP client sends a POST again when a connection dies, while others send every buffer of a stream to the
    same Location. So a body is a repetition if the one before it was the same, was appended, and nobody was there any
    more to hear so. Kept in memory, for the Locations used last.
    """

    def __init__(self) -> None:
        self._turns: OrderedDict[str, Turn] = OrderedDict()

    @asynccontextmanager
    async def turn(self, repeat: str) -> AsyncIterator[Turn]:
        """Appends through one Location wait for each other. "": nothing tells them apart, so none is a repetition."""
        turn = self._turns.setdefault(repeat, Turn()) if repeat else Turn()
        if repeat:
            self._turns.move_to_end(repeat)
            while len(self._turns) > APPENDS_REMEMBERED:
                self._turns.popitem(last=False)
        async with turn.lock:
            yield turn
