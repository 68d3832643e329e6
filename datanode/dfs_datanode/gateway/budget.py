"""Memory that uploads may hold together: a semaphore that counts bytes.

Its own module because the limit is the process's, not an upload's. Whoever waits has not read its body yet, so waiting
costs nothing but a connection, and TCP holds the sender back.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dfs.protocol.errors import Unavailable


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
