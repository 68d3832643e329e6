"""set_safe_mode and resolve_history: what an operator says about holding deletion and repair back.

One module, since both only set a fact of the store, which `monitors.safety` reads before each turn of a duty.
"""

from collections.abc import Callable, Sequence

from dfs.protocol.messages import HistoryResolved, ResolveHistory, SafeModes, SetSafeMode
from dfs_namenode.store import meta
from dfs_namenode.store.sqlite import SqliteStore


async def set_safe_mode(
    request: SetSafeMode, *, store: SqliteStore, safe_modes: Callable[[], Sequence[str]]
) -> SafeModes:
    """Hold back, or go on as far as nothing else holds back. Repeatable."""
    await store.write(lambda tx: meta.set_safe_mode(tx, on=request.on))
    return SafeModes(modes=list(safe_modes()))


async def resolve_history(_: ResolveHistory, *, store: SqliteStore) -> HistoryResolved:
    """An operator has looked: what the store does not know may be deleted again. Repeatable."""
    return HistoryResolved(resolved=await store.write(meta.clear_latch))
