"""open: a file's entry, and the layout of a window of it. What is opened stays readable by its content id."""

from dfs.protocol.messages import Open, Opened
from dfs.protocol.names import split_path
from dfs_namenode.layout import Granting, layout_of
from dfs_namenode.namespace import entry_of, require_file
from dfs_namenode.store import namespace
from dfs_namenode.store.sqlite import SqliteStore


def open_file(request: Open, *, store: SqliteStore, granting: Granting) -> Opened:
    """The entry, and the extents of the window with leave to read them.

    Raises   FileNotFound, NotADirectory, IsADirectory, InvalidName
    """
    parts = split_path(request.path)
    with store.read() as snapshot:
        place = namespace.find(snapshot, parts)
        inode = require_file(place)
        layout = layout_of(
            snapshot,
            inode.content.id,
            inode.content.size,
            offset=request.offset,
            length=request.length,
            granting=granting,
        )
        return Opened(entry=entry_of(place.path, inode, namespace.decode_attributes(inode.attributes)), layout=layout)
