"""Memory that transfers may hold together. Its own module because the limit is the process's, not a transfer's.

Uploads share a semaphore that counts bytes: whoever waits has not read its body yet, so waiting costs nothing but a
connection, and TCP holds the sender back. Downloads can't wait for each other, because a client may read as slowly as
it likes; they get smaller pieces the more of them there are.
"""

import asyncio
import ctypes
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from dfs.protocol.errors import Unavailable

PIECE_BYTES_MAX = 1 << 20
PIECE_BYTES_MIN = 64 << 10
"""Powers of two, and multiples of the block that is verified: pieces are cut between blocks."""
PIECES_HELD = 3
"""Of one download: being sent, waiting to be sent, being read."""


_M_MMAP_THRESHOLD = -3
"""Of glibc's malloc.h."""
BIG_BUFFER_BYTES = 4 << 20


def give_big_buffers_back() -> None:
    """Have the C library return buffers of BIG_BUFFER_BYTES and more to the system as soon as they are free.

    glibc raises that limit by itself after the first big buffer was freed, and then the buffers of uploads stay in
    the heaps of their threads: with eight uploads at once a datanode grew to 280 MB, with a fixed limit to less than
    140. Elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, BIG_BUFFER_BYTES)


class Budget:
    """Hands out shares of `total` bytes, first come, first served. For one event loop.

    waiting_max  more requests than this are refused at once
    patience_s   how long one waits before it is refused
    """

    def __init__(self, total: int, *, waiting_max: int, patience_s: float) -> None:
        self._total = total
        self._free = total
        self._waiting_max = waiting_max
        self._patience_s = patience_s
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def free(self) -> int:
        """Bytes that nobody holds."""
        return self._free

    @asynccontextmanager
    async def share(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes (at most all there are) inside the block. Raises Unavailable."""
        size = min(size, self._total)
        await self._take(size)
        try:
            yield
        finally:
            self._free += size
            self._wake()

    async def _take(self, size: int) -> None:
        if not self._waiting and size <= self._free:
            self._free -= size
            return
        if len(self._waiting) >= self._waiting_max:
            raise Unavailable("too many uploads at once; try again in a moment")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            async with asyncio.timeout(self._patience_s):
                await turn
        except (TimeoutError, asyncio.CancelledError) as error:
            if turn.done() and not turn.cancelled():
                # The share came in the very moment in which we gave up.
                self._free += size
            else:
                self._waiting = deque(one for one in self._waiting if one[1] is not turn)
            self._wake()
            if isinstance(error, TimeoutError):
                raise Unavailable("too many uploads at once; try again in a moment") from None
            raise

    def _wake(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= size
                turn.set_result(None)


class Downloads:
    """Counts downloads and sizes their pieces, so that all of them hold about `total` bytes. For one event loop."""

    def __init__(self, total: int, *, most: int) -> None:
        self._total = total
        self._most = most
        self._running = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """A download runs inside the block. Raises Unavailable."""
        if self._running >= self._most:
            raise Unavailable("too many downloads at once; try again in a moment")
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    def piece_bytes(self) -> int:
        """How much to read at a time now."""
        share = self._total // (PIECES_HELD * max(1, self._running))
        size = PIECE_BYTES_MAX
        while size > max(share, PIECE_BYTES_MIN):
            size //= 2
        return size
