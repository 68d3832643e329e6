"""Rows of files that one commit makes, held back so that they go in together: a tenth of what a thousand files cost.

Separate from the query modules, which do at once what they are told. While rows wait, what is read may be out of date:
whoever reads asks `hides` about a place, or has everything stored first.
"""

from collections.abc import Sequence

from dfs_namenode.namespace import Place
from dfs_namenode.store import contents, namespace
from dfs_namenode.store.contents import ContentRow, ExtentRow
from dfs_namenode.store.namespace import FileRow
from dfs_namenode.store.transaction import Transaction

WAITING_MAX = 4096
"""Files, and contents, that wait; a draft's commit can make any number."""


class NewFiles:
    """The rows that wait."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._contents: list[ContentRow] = []
        self._extents: list[tuple[int, ExtentRow]] = []
        self._files: list[FileRow] = []
        self._places: set[tuple[int, str]] = set()

    def add_content(self, row: ContentRow, extents: Sequence[ExtentRow]) -> None:
        """A content that a file gets in this action."""
        self._contents.append(row)
        self._extents += [(row.id, extent) for extent in extents]

    def add_file(self, row: FileRow) -> None:
        """A file in a place where nothing is."""
        self._files.append(row)
        self._places.add((row.parent_id, row.name))

    def are_many(self) -> bool:
        """Whether they should be stored before more are added."""
        return max(len(self._files), len(self._contents)) >= WAITING_MAX

    def hides(self, place: Place) -> bool:
        """Whether the place may be something else once the rows are in: then store them, and find it again."""
        if place.inode is not None:
            # A file that was there and has got a content that waits.
            return place.inode.content_id is not None and place.inode.size is None
        if not self._files:
            return False
        # What looks like a parent that is missing may be a file that waits.
        return bool(place.missing) or (place.ancestors[-1], place.parts[-1]) in self._places

    def store(self) -> None:
        """Write all of them."""
        if self._contents:
            contents.insert_many(self._tx, self._contents, self._extents)
        if self._files:
            namespace.insert_files(self._tx, self._files)
        self._contents, self._extents, self._files = [], [], []
        self._places.clear()
