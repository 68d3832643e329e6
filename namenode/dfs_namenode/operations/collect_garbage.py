"""collect_garbage: have the sweeper and the collector take their turns now. Every grace and safe mode holds."""

from collections.abc import Awaitable, Callable

from dfs.protocol.messages import Collected


async def collect_garbage(*, sweep: Callable[[], Awaitable[int]], collect: Callable[[], Awaitable[int]]) -> Collected:
    """Run both, and tell what they did."""
    swept = await sweep()
    return Collected(contents_swept=swept, chunks_condemned=await collect())
