"""The right to run the monitors: an epoch in the store, checked in every transaction of theirs (I7).

A namenode that was stopped for a while, and replaced meanwhile, wakes up with an old epoch: its next transaction fails
here and ends it, and datanodes ignore its commands.
"""

from collections.abc import Callable
from typing import TypeVar

from dfs.protocol.errors import Conflict
from dfs_namenode.store import meta
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.transaction import Transaction

T = TypeVar("T")


class Leader:
    """Writes for the monitors, for as long as no later leader began."""

    def __init__(self, store: SqliteStore, epoch: int) -> None:
        self._store = store
        self.epoch = epoch

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """`store.write`, fenced. Raises Conflict: another namenode leads."""

        def fenced(tx: Transaction) -> T:
            found = meta.epoch(tx)
            if found != self.epoch:
                raise Conflict(f"another namenode leads with the epoch {found}; this one had {self.epoch}")
            return work(tx)

        return await self._store.write(fenced)
