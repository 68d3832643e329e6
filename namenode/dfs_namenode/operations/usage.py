"""usage: files, directories and bytes at and below a path.

Its own module because it walks a whole subtree: in a thread, one short read for each page of a directory, so that the
write-ahead log never has to wait for it. What changes meanwhile may be counted or not; a directory that is moved
during the walk is counted at most once, by its id.
"""

import asyncio

from dfs.protocol.messages import Stat, Usage
from dfs.protocol.names import split_path
from dfs_namenode.namespace import require_inode
from dfs_namenode.store import namespace
from dfs_namenode.store.sqlite import SqliteStore


async def usage(request: Stat, *, store: SqliteStore) -> Usage:
    """The sums. Raises FileNotFound, NotADirectory, InvalidName."""
    return await asyncio.to_thread(_usage, split_path(request.path), store)


def _usage(parts: tuple[str, ...], store: SqliteStore) -> Usage:
    with store.read() as snapshot:
        inode = require_inode(namespace.find(snapshot, parts))
    if not inode.is_directory:
        size = inode.size or 0
        return Usage(files=1, directories=0, bytes=size, replicated_bytes=size * (inode.replication or 0))
    files, directories, total, replicated = 0, 1, 0, 0
    waiting, seen = [inode.id], {inode.id}
    while waiting:
        directory_id = waiting.pop()
        after: str | None = ""
        while after is not None:
            with store.read() as snapshot:
                page = namespace.usage_page(snapshot, directory_id, after)
            files += page.files
            total += page.bytes
            replicated += page.replicated_bytes
            fresh = [found for found in page.directory_ids if found not in seen]
            directories += len(fresh)
            seen.update(fresh)
            waiting += fresh
            after = page.last_name
    return Usage(files=files, directories=directories, bytes=total, replicated_bytes=replicated)
