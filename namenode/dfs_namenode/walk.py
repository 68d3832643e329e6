"""Walk: where paths lead, found with the fewest look-ups.

Separate from `store.namespace`, which looks one path up, because what is remembered is only true for as long as no
directory moves: in a snapshot always, in a transaction until its owner says otherwise.
"""

from dfs.protocol.names import split_path
from dfs_namenode.namespace import Place
from dfs_namenode.store import namespace
from dfs_namenode.store.schema import ROOT_INODE
from dfs_namenode.store.transaction import Snapshot


class Walk:
    """Finds places, and remembers the directories that it came through while nothing moves."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._known: dict[tuple[str, ...], tuple[int, ...]] = {}

    def find(self, path: str) -> Place:
        """Where a path leads now. Raises InvalidName."""
        return self.find_parts(split_path(path))

    def find_parts(self, parts: tuple[str, ...]) -> Place:
        """The same for a path that is split already."""
        if not parts:
            return namespace.find(self._snapshot, parts)
        above = parts[:-1]
        place = namespace.find_below(self._snapshot, parts, self._known.get(above, (ROOT_INODE,)))
        if len(place.ancestors) == len(parts):
            self._known[above] = place.ancestors
        return place

    def forget(self) -> None:
        """A directory moved or went: nothing that is remembered need be true."""
        self._known.clear()
