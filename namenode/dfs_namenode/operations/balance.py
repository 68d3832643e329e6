"""balance: start or stop the mover of chunks. Kept in the store, so that a restart goes on with it."""

from dfs.protocol.messages import Balance, Empty
from dfs_namenode.store import meta
from dfs_namenode.store.sqlite import SqliteStore


async def balance(request: Balance, *, store: SqliteStore) -> Empty:
    """Keep whether, and how even. Repeatable; what is under way when it stops is finished."""
    threshold = request.threshold if request.do == "start" else None
    await store.write(lambda tx: meta.set_balance(tx, threshold))
    return Empty()
