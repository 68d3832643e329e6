"""put_chunk: take a chunk from a client or from the datanode before us in its chain.

Everything that can be refused is refused before the body is read. The body itself is a thread's work, because it
blocks on a socket, a disk and the next datanode; how many such threads run is bounded, and beyond it callers are told
to come back.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec

from dfs.protocol.bodies import BodySource, send_whole, take_body, wait_showing_life
from dfs.protocol.capability import check_capability
from dfs.protocol.chunk_format import wire_size
from dfs.protocol.errors import InvalidRequest, NotPermitted, NotSent, Unavailable
from dfs.protocol.hints import HINTS_MAX
from dfs.protocol.messages import CHUNK_SIZE_MAX, StoredChunk
from dfs.protocol.operations import HEADER_CAPABILITY, HEADER_HINTS, HEADER_HOP, HEADER_LENGTH
from dfs.protocol.server import Answer, Receive, Scope, Send, content_length, header
from dfs.protocol.transport import Transport
from dfs_datanode.chunk_store import ChunkStore
from dfs_datanode.membership import Membership, Standing
from dfs_datanode.pipeline import Connect, Order, Outgoing, Source, store_stream


class PutChunk:
    """The handler. Owns the threads of the streams.

    suspect  told of each datanode that failed behind us in a chain
    """

    def __init__(
        self,
        *,
        store: ChunkStore,
        membership: Membership,
        transport: Transport,
        suspect: Callable[[str], None],
        max_streams: int,
        idle_s: float,
    ) -> None:
        self.active = 0
        self.bytes_stored = 0
        self._lock = threading.Lock()
        self._store = store
        self._membership = membership
        self._transport = transport
        self._suspect = suspect
        self._max_streams = max_streams
        self._idle_s = idle_s
        self._threads = ThreadPoolExecutor(max_streams, thread_name_prefix="put")

    async def __call__(self, scope: Scope, receive: Receive, send: Send, chunk: str) -> None:
        standing = self._membership.standing()
        token = header(scope, HEADER_CAPABILITY) or ""
        order = read_order(scope, chunk, token, standing, self._membership.clock.wall_ms())
        if self.active >= self._max_streams:
            raise Unavailable("this datanode receives as many chunks as it can; try again, or another one")
        body_bytes = wire_size(order.length, order.hints)
        async with take_body(scope, receive, length=body_bytes, idle_s=self._idle_s) as source:
            stored = await self._until_stored(scope, source, self._start(source, order, standing, token))
        self.bytes_stored += order.length
        await send_whole(scope, send, Answer(201, msgspec.json.encode(stored)))

    async def _until_stored(self, scope: Scope, source: BodySource, running: "Future[StoredChunk]") -> StoredChunk:
        ended = asyncio.wrap_future(running)
        try:
            await wait_showing_life(ended, scope, source)
        except asyncio.CancelledError:
            # The process ends, and this sender had its time. The thread must have let go of the socket before
            # anybody else may use it, and then throws away what it has of the chunk.
            source.cut_off()
            if not running.cancel():
                ended.add_done_callback(lambda future: future.cancelled() or future.exception())  # wanted by nobody
                await asyncio.wait([ended])
            raise Unavailable("this datanode is being stopped; send the chunk to another one") from None
        return ended.result()

    def _start(self, source: BodySource, order: Order, standing: Standing, token: str) -> "Future[StoredChunk]":
        """Let a thread store the chunk. It counts as active until the thread has ended, whoever waits for it or not."""
        with self._lock:
            self.active += 1
        future = self._threads.submit(self.store, source, order, standing, token)
        future.add_done_callback(self._ended)
        return future

    def store(self, source: Source, order: Order, standing: Standing, token: str) -> StoredChunk:
        """Store a chunk here and along its chain: what a client sends, or what is made here. Blocks.

        Raises  as `store_stream` does
        """
        return store_stream(
            source,
            order,
            store=self._store,
            standing=standing,
            connect=self._connect(order, token),
            suspect=self._suspect,
            now_ms=self._membership.clock.wall_ms(),
        )

    def _ended(self, _: "Future[StoredChunk]") -> None:
        with self._lock:
            self.active -= 1

    def _connect(self, order: Order, token: str) -> Connect:
        def connect(datanode: str, hop: int) -> Outgoing:
            url = self._membership.peer_url(datanode)
            if url is None:
                raise NotSent(f"the datanode {datanode} is not known to be a member of the cluster")
            return self._transport.begin_put(
                url,
                chunk=order.chunk,
                capability=token,
                length=order.length,
                hop=hop,
                behind=len(order.chain) - hop - 1,
                hints_length=order.hints,
            )

        return connect

    def close(self) -> None:
        """Give up the threads, once their streams have ended."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def read_order(scope: Scope, chunk: str, token: str, standing: Standing, now_ms: int) -> Order:
    """What the request's head asks for, checked. Raises NotPermitted, InvalidRequest."""
    capability = check_capability(
        token, standing.key, datanode=standing.datanode, operation="w", chunk=chunk, now_ms=now_ms
    )
    length = _number(scope, HEADER_LENGTH)
    if not 1 <= length <= CHUNK_SIZE_MAX:
        raise InvalidRequest(f"a chunk has 1 to {CHUNK_SIZE_MAX} bytes, not {length}")
    if length > capability.end:
        raise NotPermitted(
            f"the capability allows {capability.end} bytes, not {length}; ask for a grant of that length"
        )
    hints = _number(scope, HEADER_HINTS, default=0)
    if hints > HINTS_MAX:
        raise InvalidRequest(f"a chunk has at most {HINTS_MAX} bytes of hints, not {hints}")
    if content_length(scope) != wire_size(length, hints):
        raise InvalidRequest(
            f"the body of a chunk of {length} bytes with {hints} of hints has {wire_size(length, hints)} with its "
            "footer: say so in Content-Length"
        )
    hop = capability.chain.index(standing.datanode)
    if _number(scope, HEADER_HOP, default=hop) != hop:
        raise InvalidRequest(f"this datanode is number {hop} in the chain of that capability")
    return Order(chunk, length, capability.principal, capability.chain, hop, hints)


def _number(scope: Scope, name: str, default: int | None = None) -> int:
    text = header(scope, name)
    if text is None and default is not None:
        return default
    if text is None or not (text.isascii() and text.isdigit() and len(text) < 20):
        raise InvalidRequest(f"the header {name} must be a number, not {text!r}")
    return int(text)
