"""collect_garbage: have the sweeper and the collectors take their turns now. Every grace and safe mode holds."""

from collections.abc import Awaitable, Callable

from dfs.protocol.messages import Collected


async def collect_garbage(
    *,
    sweep: Callable[[], Awaitable[int]],
    collect: Callable[[], Awaitable[int]],
    bury: Callable[[], Awaitable[int]],
    compact: Callable[[], Awaitable[int]],
) -> Collected:
    """Run all of them, and tell what they did."""
    swept = await sweep()
    condemned = await collect()
    buried = await bury()
    return Collected(
        contents_swept=swept, chunks_condemned=condemned, orphans_buried=buried, compositions_begun=await compact()
    )
