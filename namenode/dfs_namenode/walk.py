"""Walk: where paths lead, found with the fewest look-ups.

Separate from `store.namespace`, which looks one path up, because what is remembered is only true for as long as no
directory moves: in a snapshot always. In a transaction the memory is the writer's, and `store.namespace` clears it
whenever a directory moves or goes.
"""

from collections.abc import Iterable

from dfs.protocol.names import DEPTH_MAX, check_name, split_path
from dfs_namenode.namespace import Place
from dfs_namenode.store import namespace
from dfs_namenode.store.schema import ROOT_INODE
from dfs_namenode.store.transaction import Directories, Snapshot

DIRECTORIES_MAX = 1024
"""Directories that are remembered; a path is 4096 bytes at most."""
_PLAIN_MAX = 1024
"""Characters of a path that are 4096 bytes at most, whatever they are."""


class Walk:
    """Finds places, and remembers the directories that it came through while nothing moves."""

    def __init__(self, snapshot: Snapshot, known: Directories | None = None) -> None:
        """known   the memory to use: somebody forgets what is not true any more; None: nothing moves"""
        self._snapshot = snapshot
        self._known: Directories = {} if known is None else known
        self._expected: dict[str, tuple[str, str]] = {}
        """The first and the last name that will be looked for, by the path of the directory."""
        self._vacant: dict[str, tuple[str, str]] = {}
        """Of those, where there is no entry between the two, nor at them."""

    def expect(self, paths: Iterable[str]) -> None:
        """All of these will be looked for: new files mostly lie where no other names are, and one look-up tells it."""
        for path in paths:
            above, _, name = path.rpartition("/")
            first, last = self._expected.get(above, (name, name))
            self._expected[above] = min(first, name), max(last, name)

    def doubt(self) -> None:
        """Entries were made: nothing is vacant for sure."""
        self._vacant.clear()

    def find(self, path: str) -> Place:
        """Where a path leads now. Raises InvalidName."""
        above, _, name = path.rpartition("/")
        known = self._known.get(above)
        # Without a slash, too, there is nothing above.
        is_plain = path.startswith("/") and bool(name) and len(path) <= _PLAIN_MAX
        if known is None or not is_plain or len(known[0]) >= DEPTH_MAX:
            return self.find_parts(split_path(path))
        check_name(name)
        return self._find(above, known[0] + (name,))

    def find_parts(self, parts: tuple[str, ...]) -> Place:
        """The same for a path that is split already."""
        if not parts:
            return namespace.find(self._snapshot, parts)
        return self._find("/".join(("", *parts[:-1])), parts)

    def _find(self, above: str, parts: tuple[str, ...]) -> Place:
        known = self._known.get(above)
        if known is not None and self._is_vacant(above, known[1][-1], parts[-1]):
            return Place(parts, known[1], (), None, None)
        place = namespace.find_below(self._snapshot, parts, (ROOT_INODE,) if known is None else known[1])
        if known is None and len(place.ancestors) == len(parts):
            if len(self._known) >= DIRECTORIES_MAX:
                self._known.clear()
            self._known[above] = (parts[:-1], place.ancestors)
        return place

    def _is_vacant(self, above: str, directory_id: int, name: str) -> bool:
        expected = self._expected.pop(above, None)
        if expected is not None and not namespace.has_between(self._snapshot, directory_id, *expected):
            self._vacant[above] = expected
        vacant = self._vacant.get(above)
        return vacant is not None and vacant[0] <= name <= vacant[1]
