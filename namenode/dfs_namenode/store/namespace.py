"""Rows of inodes: finding them by path, listing them, and changing their places. All SQL about them is here.

What may be done is decided in `dfs_namenode.namespace`; this module does what it is told.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from dfs_namenode.namespace import DIRECTORY_MODE, Inode, Place
from dfs_namenode.store.schema import KIND_DIRECTORY, NOWHERE, ROOT_INODE
from dfs_namenode.store.transaction import Snapshot, Transaction

_SELECT = (
    "SELECT i.parent_id, i.name, i.id, i.kind, i.mode, i.owner, i.grp, i.mtime_ns, i.version, i.content_id,"
    " coalesce(i.attributes, c.attributes), c.size, c.digest, c.replication"
    " FROM inode AS i LEFT JOIN content AS c ON c.id = i.content_id"
)
_CHILD = f"{_SELECT} WHERE i.parent_id = ? AND i.name = ?"
_PAGE = f"{_SELECT} WHERE i.parent_id = ? AND i.name > ? ORDER BY i.name LIMIT ?"
_STEP = "SELECT id, kind FROM inode WHERE parent_id = ? AND name = ?"
_USAGE_PAGE = (
    "SELECT count(*) FILTER (WHERE kind = 0), sum(size), sum(size * replication), max(name),"
    " json_group_array(id) FILTER (WHERE kind = 1)"
    " FROM (SELECT i.kind, i.id, i.name, c.size, c.replication"
    " FROM inode AS i LEFT JOIN content AS c ON c.id = i.content_id"
    " WHERE i.parent_id = ? AND i.name > ? ORDER BY i.name LIMIT ?)"
)
_USAGE_PAGE_ROWS = 5000

_attributes = msgspec.json.Decoder(dict[str, str])


def decode_attributes(text: str | None) -> dict[str, str]:
    return {} if text is None else _attributes.decode(text)


def encode_attributes(attributes: dict[str, str] | None) -> str | None:
    return msgspec.json.encode(attributes).decode() if attributes else None


def ensure_root(tx: Transaction) -> None:
    """Make `/` in a new store."""
    if tx.row(_STEP, (NOWHERE, "")) is None:
        insert_directory(tx, ROOT_INODE, NOWHERE, "", mode=DIRECTORY_MODE, owner="", mtime_ns=tx.now_ms * 1_000_000)


def child(snapshot: Snapshot, parent_id: int, name: str) -> Inode | None:
    """What a directory has under that name."""
    row = snapshot.row(_CHILD, (parent_id, name))
    return None if row is None else Inode._make(row)


def find(snapshot: Snapshot, parts: Sequence[str]) -> Place:
    """Where a path leads: one look-up for each component."""
    return find_below(snapshot, tuple(parts), (ROOT_INODE,))


def find_below(snapshot: Snapshot, parts: tuple[str, ...], known: tuple[int, ...]) -> Place:
    """The same, where the ids of the first directories on the way are known, the root's first."""
    if not parts:
        return Place((), (), (), None, child(snapshot, NOWHERE, ""))
    ancestors = list(known)
    for depth in range(len(known) - 1, len(parts) - 1):
        row = snapshot.row(_STEP, (ancestors[-1], parts[depth]))
        if row is None:
            return Place(parts, tuple(ancestors), parts[depth:-1], None, None)
        if row[1] != KIND_DIRECTORY:
            return Place(parts, tuple(ancestors), (), parts[: depth + 1], None)
        ancestors.append(row[0])
    return Place(parts, tuple(ancestors), (), None, child(snapshot, ancestors[-1], parts[-1]))


def page(snapshot: Snapshot, directory_id: int, *, after: str, limit: int) -> list[Inode]:
    """Up to `limit` entries of a directory with names behind `after`, in the order of their UTF-8 bytes."""
    return [Inode._make(row) for row in snapshot.rows(_PAGE, (directory_id, after, limit))]


def has_between(snapshot: Snapshot, directory_id: int, first: str, last: str) -> bool:
    """Whether a directory has an entry from one name to another, both included, in the order of their UTF-8 bytes."""
    return (
        snapshot.row(
            "SELECT 1 FROM inode WHERE parent_id = ? AND name BETWEEN ? AND ? LIMIT 1", (directory_id, first, last)
        )
        is not None
    )


def has_children(snapshot: Snapshot, directory_id: int) -> bool:
    return snapshot.row("SELECT 1 FROM inode WHERE parent_id = ? LIMIT 1", (directory_id,)) is not None


class UsagePage(NamedTuple):
    """Sums over some entries of one directory."""

    files: int
    bytes: int
    replicated_bytes: int
    directory_ids: list[int]
    last_name: str | None
    """Where to go on; None at the end."""


def usage_page(snapshot: Snapshot, directory_id: int, after: str) -> UsagePage:
    """Sum up the next entries of a directory, those with names behind `after`."""
    row = snapshot.row(_USAGE_PAGE, (directory_id, after, _USAGE_PAGE_ROWS))
    assert row is not None
    files, size, replicated, last, ids = row
    directory_ids = msgspec.json.decode(ids, type=list[int]) if ids else []
    complete = files + len(directory_ids) < _USAGE_PAGE_ROWS
    return UsagePage(files, size or 0, replicated or 0, directory_ids, None if complete else last)


def insert_directory(
    tx: Transaction, inode_id: int, parent_id: int, name: str, *, mode: int, owner: str, mtime_ns: int
) -> None:
    tx.run(
        "INSERT INTO inode (parent_id, name, id, kind, mode, owner, grp, mtime_ns, version)"
        " VALUES (?, ?, ?, 1, ?, ?, '', ?, ?)",
        (parent_id, name, inode_id, mode, owner, mtime_ns, tx.seq),
    )


class FileRow(NamedTuple):
    """A new file."""

    parent_id: int
    name: str
    id: int
    mode: int
    owner: str
    group: str
    mtime_ns: int
    version: int
    content_id: int


def insert_files(tx: Transaction, rows: Sequence[FileRow]) -> None:
    tx.run_many(
        "INSERT INTO inode (parent_id, name, id, kind, mode, owner, grp, mtime_ns, version, content_id)"
        " VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?, ?)",
        rows,
    )


def update_file(
    tx: Transaction, inode: Inode, *, mode: int, owner: str, group: str, mtime_ns: int, content_id: int
) -> None:
    """Give a file another content, and with it a new version."""
    tx.run(
        "UPDATE inode SET mode = ?, owner = ?, grp = ?, mtime_ns = ?, version = ?, content_id = ?"
        " WHERE parent_id = ? AND name = ?",
        (mode, owner, group, mtime_ns, tx.seq, content_id, inode.parent_id, inode.name),
    )


def describe(
    tx: Transaction, inode: Inode, *, mode: int, owner: str, group: str, mtime_ns: int, attributes: str | None
) -> None:
    """Change what describes an inode; its version stays. `attributes` only of directories."""
    tx.run(
        "UPDATE inode SET mode = ?, owner = ?, grp = ?, mtime_ns = ?, attributes = ? WHERE parent_id = ? AND name = ?",
        (mode, owner, group, mtime_ns, attributes, inode.parent_id, inode.name),
    )


def move(tx: Transaction, inode: Inode, parent_id: int, name: str) -> None:
    """Put a file, or a directory with all that is below it, into a free place."""
    tx.run(
        "UPDATE inode SET parent_id = ?, name = ? WHERE parent_id = ? AND name = ?",
        (parent_id, name, inode.parent_id, inode.name),
    )
    if inode.is_directory:
        tx.memory.directories.clear()


def delete(tx: Transaction, inode: Inode) -> None:
    """Remove one row: a file, or a directory without children."""
    if inode.is_directory:
        tx.memory.directories.clear()
    tx.run("DELETE FROM inode WHERE parent_id = ? AND name = ?", (inode.parent_id, inode.name))


def detach(tx: Transaction, inode: Inode) -> None:
    """Cut a directory off the tree, with all that is below it: nothing in it resolves any more (S10)."""
    move(tx, inode, NOWHERE, str(inode.id))
    tx.run("INSERT INTO detached (inode_id, seq, at_ms) VALUES (?, ?, ?)", (inode.id, tx.seq, tx.now_ms))
