"""Reading the namespace in its own order, and the chunks of its files: what `fsck` looks at. All SQL of that is here.

Each function is one short statement over one page, so that no read transaction grows with the tree.
"""

from collections.abc import Sequence
from typing import NamedTuple

from dfs_namenode.store.schema import KIND_DIRECTORY
from dfs_namenode.store.transaction import Snapshot

_IDS_AT_ONCE = 500
"""Bound of a list of parameters; well under SQLite's limit."""


class Child(NamedTuple):
    """What a directory has, as far as an inspection needs it."""

    name: str
    id: int
    kind: int
    content_id: int | None
    size: int | None

    @property
    def is_directory(self) -> bool:
        return self.kind == KIND_DIRECTORY


def children(snapshot: Snapshot, directory_id: int, *, after: str, limit: int) -> list[Child]:
    """Up to `limit` entries of a directory with names behind `after`, in the order of their UTF-8 bytes."""
    rows = snapshot.rows(
        "SELECT i.name, i.id, i.kind, i.content_id, c.size FROM inode AS i"
        " LEFT JOIN content AS c ON c.id = i.content_id"
        " WHERE i.parent_id = ? AND i.name > ? ORDER BY i.name LIMIT ?",
        (directory_id, after, limit),
    )
    return [Child._make(row) for row in rows]


def chunks_behind(snapshot: Snapshot, content_id: int, *, position: int, limit: int) -> list[tuple[int, bytes]]:
    """The extents of a content from `position` on, at most `limit`: position and chunk of each, in order."""
    rows = snapshot.rows(
        "SELECT position, chunk_id FROM extent WHERE content_id = ? AND position >= ? ORDER BY position LIMIT ?",
        (content_id, position, limit),
    )
    return [(at, chunk) for at, chunk in rows]


def facts_of(snapshot: Snapshot, chunks: Sequence[bytes]) -> dict[bytes, tuple[int, bytes, int]]:
    """Length, digest and replication of each of these chunks."""
    found: dict[bytes, tuple[int, bytes, int]] = {}
    for start in range(0, len(chunks), _IDS_AT_ONCE):
        ids = chunks[start : start + _IDS_AT_ONCE]
        marks = ",".join("?" * len(ids))
        statement = f"SELECT id, length, digest, replication FROM chunk WHERE id IN ({marks})"  # noqa: S608
        for chunk, length, digest, replication in snapshot.rows(statement, ids):
            found[chunk] = (length, digest, replication)
    return found
