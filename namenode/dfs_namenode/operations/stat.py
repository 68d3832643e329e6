"""stat: one entry."""

from dfs.protocol.messages import Entry, Stat
from dfs.protocol.names import split_path
from dfs_namenode.namespace import entry_of, require_inode
from dfs_namenode.store import namespace
from dfs_namenode.store.sqlite import SqliteStore


def stat(request: Stat, *, store: SqliteStore) -> Entry:
    """What is at the path. Raises FileNotFound, NotADirectory, InvalidName."""
    parts = split_path(request.path)
    with store.read() as snapshot:
        place = namespace.find(snapshot, parts)
    inode = require_inode(place)
    return entry_of(place.path, inode, namespace.decode_attributes(inode.attributes))
