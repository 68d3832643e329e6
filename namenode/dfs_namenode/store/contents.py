"""Rows of contents and their extents, and of contents that are retired. All SQL about them is here, except where a
sweeper takes them apart (`garbage`).

A content changes in one way only: an append adds extents behind its end. Whoever has it open reads on undisturbed,
since what it reads is a prefix. Everything else makes a new content and retires the old one.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dfs.protocol.messages import Extent
from dfs_namenode.content_rules import content_digest
from dfs_namenode.store.transaction import Snapshot, Transaction


class ExtentRow(NamedTuple):
    """A piece of a content."""

    position: int
    chunk: bytes
    offset: int
    length: int
    digest: bytes


_EXTENT = "SELECT position, chunk_id, chunk_offset, length, digest FROM extent WHERE content_id = ?"
_FIRST_EXTENTS = f"{_EXTENT} ORDER BY position LIMIT ?"
_INSERT_EXTENT = (
    "INSERT INTO extent (content_id, position, chunk_id, chunk_offset, length, digest) VALUES (?, ?, ?, ?, ?, ?)"
)


class ContentRow(NamedTuple):
    """A content, without its extents."""

    id: int
    size: int
    digest: bytes
    replication: int
    attributes: str | None


def insert(
    tx: Transaction, content_id: int, *, size: int, digest: bytes, replication: int, attributes: str | None
) -> None:
    insert_many(tx, [ContentRow(content_id, size, digest, replication, attributes)], [])


def insert_many(tx: Transaction, rows: Sequence[ContentRow], extents: Sequence[tuple[int, ExtentRow]]) -> None:
    """New contents, and extents, each with the id of the content that it is a piece of."""
    tx.run_many("INSERT INTO content (id, size, digest, replication, attributes) VALUES (?, ?, ?, ?, ?)", rows)
    if extents:
        tx.run_many(_INSERT_EXTENT, [(content_id, *row) for content_id, row in extents])


def insert_extents(tx: Transaction, content_id: int, rows: Sequence[ExtentRow]) -> None:
    if len(rows) == 1:
        tx.run(_INSERT_EXTENT, (content_id, *rows[0]))
    else:
        tx.run_many(_INSERT_EXTENT, [(content_id, *row) for row in rows])


def grew(tx: Transaction, content_id: int, *, size: int, digest: bytes) -> None:
    """Extents were added behind the end."""
    tx.run("UPDATE content SET size = ?, digest = ? WHERE id = ?", (size, digest, content_id))


def describe(tx: Transaction, content_id: int, *, replication: int, attributes: str | None) -> None:
    tx.run("UPDATE content SET replication = ?, attributes = ? WHERE id = ?", (replication, attributes, content_id))


def has_extent(snapshot: Snapshot, extent: Extent) -> bool:
    """Whether some content has exactly these bytes of a chunk."""
    return (
        snapshot.row(
            "SELECT 1 FROM extent WHERE chunk_id = ? AND chunk_offset = ? AND length = ? AND digest = ? LIMIT 1",
            (bytes.fromhex(extent.chunk), extent.offset, extent.length, bytes.fromhex(extent.digest)),
        )
        is not None
    )


def size_of(snapshot: Snapshot, content_id: int) -> int | None:
    """The size of a content that was published, in bytes; None if it is not kept."""
    size = snapshot.value("SELECT size FROM content WHERE id = ?", (content_id,))
    return None if size is None else int(size)


def extent_count(snapshot: Snapshot, content_id: int) -> int:
    return int(snapshot.value("SELECT count(*) FROM extent WHERE content_id = ?", (content_id,)))


def extents(snapshot: Snapshot, content_id: int) -> list[ExtentRow]:
    """All extents in order."""
    return [ExtentRow._make(row) for row in snapshot.rows(f"{_EXTENT} ORDER BY position", (content_id,))]


def last_extent(snapshot: Snapshot, content_id: int) -> ExtentRow | None:
    row = snapshot.row(f"{_EXTENT} ORDER BY position DESC LIMIT 1", (content_id,))
    return None if row is None else ExtentRow._make(row)


def window(snapshot: Snapshot, content_id: int, *, start: int, end: int, limit: int) -> list[ExtentRow]:
    """The extents that have bytes of [start, end), in order, at most `limit`."""
    if start >= end:
        return []
    first = snapshot.value(
        "SELECT max(position) FROM extent WHERE content_id = ? AND position <= ?", (content_id, start)
    )
    rows = snapshot.rows(
        f"{_EXTENT} AND position >= ? AND position < ? ORDER BY position LIMIT ?",
        (content_id, first or 0, end, limit),
    )
    return [ExtentRow._make(row) for row in rows]


def first_extents(snapshot: Snapshot, content_id: int, *, limit: int) -> list[ExtentRow]:
    """The first `limit` extents in order."""
    return [ExtentRow._make(row) for row in snapshot.rows(_FIRST_EXTENTS, (content_id, limit))]


def digest_of(snapshot: Snapshot, content_id: int) -> bytes:
    """The digest of a content as its extents are now."""
    return content_digest(
        snapshot.each("SELECT length, digest FROM extent WHERE content_id = ? ORDER BY position", (content_id,))
    )


def lay_out(tx: Transaction, content_id: int) -> tuple[int, bytes]:
    """Turn the indexes of a staged content into positions; returns its size and digest.

    Where the client chose the positions as indexes, nothing has to be written.
    """
    rows = extents(tx, content_id)
    position, placed, moved = 0, [], False
    for row in rows:
        placed.append(row._replace(position=position))
        moved = moved or row.position != position
        position += row.length
    if moved:
        tx.run("DELETE FROM extent WHERE content_id = ?", (content_id,))
        insert_extents(tx, content_id, placed)
    return position, content_digest([(row.length, row.digest) for row in placed])


def copy_extents(
    tx: Transaction, source_id: int, target_id: int, *, before: int | None = None, behind: int = 0
) -> None:
    """Share the extents of a content with another one.

    before  only those at smaller positions
    behind  the position in the target of what is at position 0 of the source
    """
    end = (1 << 62) if before is None else before
    tx.run(
        "INSERT INTO extent (content_id, position, chunk_id, chunk_offset, length, digest)"
        " SELECT ?, position + ?, chunk_id, chunk_offset, length, digest FROM extent"
        " WHERE content_id = ? AND position < ?",
        (target_id, behind, source_id, end),
    )
    tx.run(
        "UPDATE chunk SET referenced_bytes = referenced_bytes + added.bytes FROM"
        " (SELECT chunk_id, sum(length) AS bytes FROM extent WHERE content_id = ? AND position < ? GROUP BY chunk_id)"
        " AS added WHERE chunk.id = added.chunk_id",
        (source_id, end),
    )


def chunks_of(snapshot: Snapshot, content_id: int) -> list[bytes]:
    """Ids of the chunks that a content has bytes in."""
    return [row[0] for row in snapshot.each("SELECT DISTINCT chunk_id FROM extent WHERE content_id = ?", (content_id,))]


def retire(tx: Transaction, content_ids: Iterable[int]) -> None:
    """No path has these any more. Readers may; the sweeper takes them after the grace."""
    for content_id in content_ids:
        tx.run("INSERT INTO retired (content_id, seq, at_ms) VALUES (?, ?, ?)", (content_id, tx.seq, tx.now_ms))


def retired_at_ms(snapshot: Snapshot, content_id: int) -> int | None:
    """When a content was retired, or last asked for after that; None: it was not."""
    found = snapshot.value("SELECT at_ms FROM retired WHERE content_id = ?", (content_id,))
    return None if found is None else int(found)


def still_read(tx: Transaction, content_id: int) -> None:
    """A reader has asked for a retired content: its grace begins anew."""
    tx.run("UPDATE retired SET at_ms = max(at_ms, ?) WHERE content_id = ?", (tx.now_ms, content_id))
