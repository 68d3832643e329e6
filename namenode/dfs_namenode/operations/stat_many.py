"""stat_many: many entries of one moment; what is missing is None."""

import asyncio

from dfs.protocol.messages import EntriesFound, Entry, StatMany
from dfs.protocol.names import split_path
from dfs_namenode.namespace import entry_of
from dfs_namenode.store import namespace
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.walk import Walk

INLINE_MAX = 100
"""More paths are looked up in a thread, to keep the event loop free."""


async def stat_many(request: StatMany, *, store: SqliteStore) -> EntriesFound:
    """The entries in the order asked. Raises InvalidName."""
    paths = [split_path(path) for path in request.paths]
    if len(paths) > INLINE_MAX:
        return await asyncio.to_thread(_stat_many, paths, store)
    return _stat_many(paths, store)


def _stat_many(paths: list[tuple[str, ...]], store: SqliteStore) -> EntriesFound:
    entries: list[Entry | None] = []
    with store.read() as snapshot:
        walk = Walk(snapshot)
        for parts in paths:
            place = walk.find_parts(parts)
            inode = place.inode
            entries.append(
                None if inode is None else entry_of(place.path, inode, namespace.decode_attributes(inode.attributes))
            )
    return EntriesFound(entries)
