"""list: one page of a directory, in the order of the names' UTF-8 bytes.

By key, never by number: entries that stay during a whole listing appear exactly once, whatever comes and goes (S9).
"""

import asyncio

from dfs.protocol.messages import ListDirectory, Listing
from dfs.protocol.names import split_path
from dfs_namenode.namespace import entry_of, require_inode
from dfs_namenode.store import namespace
from dfs_namenode.store.sqlite import SqliteStore

INLINE_MAX = 1000
"""Larger pages are made in a thread, to keep the event loop free."""


async def list_directory(request: ListDirectory, *, store: SqliteStore) -> Listing:
    """Up to `limit` entries with names behind `after`; a file lists itself.

    Raises   FileNotFound, NotADirectory, InvalidName
    """
    if request.limit > INLINE_MAX:
        return await asyncio.to_thread(_list, request, store)
    return _list(request, store)


def _list(request: ListDirectory, store: SqliteStore) -> Listing:
    parts = split_path(request.path)
    with store.read() as snapshot:
        place = namespace.find(snapshot, parts)
        inode = require_inode(place)
        if not inode.is_directory:
            return Listing(entries=[entry_of(place.path, inode, namespace.decode_attributes(inode.attributes))])
        found = namespace.page(snapshot, inode.id, after=request.after, limit=request.limit + 1)
    above = place.path.rstrip("/")
    entries = [
        entry_of(f"{above}/{child.name}", child, namespace.decode_attributes(child.attributes))
        for child in found[: request.limit]
    ]
    return Listing(entries=entries, next=entries[-1].name if len(found) > request.limit else None)
