"""Rows that compaction reads and moves: chunks of which something was given up, and extents from an old chunk to a new.

Candidates are found by `chunk.released`, which is set in the transaction that counts references down and cleared once
somebody has looked, so that nothing walks through all chunks. The extents are moved one by one, each only if it is
still exactly what the plan saw: whoever copied, replaced or removed a file meanwhile is not disturbed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from dfs_namenode.compaction import Piece
from dfs_namenode.compositions import Place
from dfs_namenode.store import chunks
from dfs_namenode.store.transaction import Snapshot, Transaction


class Released(NamedTuple):
    """A live chunk of which references were given up."""

    id: bytes
    length: int
    digest: bytes
    replication: int
    referenced_bytes: int


def released(snapshot: Snapshot, *, after: bytes, limit: int) -> list[Released]:
    """The next of them behind an id, in order."""
    rows = snapshot.rows(
        "SELECT id, length, digest, replication, referenced_bytes FROM chunk"
        " WHERE released = 1 AND referenced_bytes > 0 AND state = 0 AND id > ? ORDER BY id LIMIT ?",
        (after, limit),
    )
    return [Released._make(row) for row in rows]


def pieces_of(snapshot: Snapshot, chunk: bytes, *, limit: int) -> tuple[list[Piece], int] | None:
    """What extents refer to, by offset, and the sum of their lengths; None: there are more than `limit`.

    A sum that is not `referenced_bytes` shows that a draft refers to the chunk as a whole.
    """
    found: dict[tuple[int, int, bytes], int] = {}
    total = count = 0
    for offset, length, digest in snapshot.rows(
        "SELECT chunk_offset, length, digest FROM extent WHERE chunk_id = ? LIMIT ?", (chunk, limit + 1)
    ):
        place = (offset, length, digest)
        found[place] = found.get(place, 0) + 1
        total += length
        count += 1
    if count > limit:
        return None
    return [Piece(*place, rows) for place, rows in sorted(found.items())], total


def looked_at(tx: Transaction, seen: Iterable[Released]) -> None:
    """These are not sparse. One of which more was given up meanwhile is looked at again."""
    tx.run_many(
        "UPDATE chunk SET released = 0 WHERE id = ? AND referenced_bytes = ?",
        [(one.id, one.referenced_bytes) for one in seen],
    )


@dataclass
class Moved:
    """What a swap did."""

    contents: set[int] = field(default_factory=set)
    size: int = 0
    """Bytes of all extents that were moved."""
    replication: int = 1
    """What the most demanding of the old chunks wants."""
    old: dict[bytes, int] = field(default_factory=dict)
    """Old chunk -> bytes of the extents that left it."""


def move_extents(tx: Transaction, moves: Mapping[str, Mapping[Place, int]], new: bytes) -> Moved:
    """Let extents refer to the new chunk that lie on the old ones where the plan saw them. Counts no references."""
    moved = Moved()
    for name, places in moves.items():
        old = bytes.fromhex(name)
        row = tx.row("SELECT replication FROM chunk WHERE id = ? AND state = 0", (old,))
        if row is None:
            continue
        found = [
            (content, position, offset, length, digest)
            for content, position, offset, length, digest in tx.rows(
                "SELECT content_id, position, chunk_offset, length, digest FROM extent WHERE chunk_id = ?", (old,)
            )
            if (offset, length, digest) in places
        ]
        if not found:
            continue
        tx.run_many(
            "UPDATE extent SET chunk_id = ?, chunk_offset = ?"
            " WHERE content_id = ? AND position = ? AND chunk_id = ? AND chunk_offset = ?",
            [
                (new, places[offset, length, digest], content, position, old, offset)
                for content, position, offset, length, digest in found
            ],
        )
        moved.contents.update(content for content, *_ in found)
        moved.old[old] = sum(length for _, _, _, length, _ in found)
        moved.size += moved.old[old]
        moved.replication = max(moved.replication, row[0])
    return moved


def leave(tx: Transaction, old: Mapping[bytes, int], *, keep_until_ms: int) -> list[int]:
    """Count down what has left the old chunks, and keep them for readers that hold places in them.

    Returns   the lengths of those that nothing refers to any more
    """
    chunks.add_references(tx, {chunk: -size for chunk, size in old.items()})
    emptied = []
    for chunk in old:
        tx.run("UPDATE chunk SET keep_until_ms = max(keep_until_ms, ?) WHERE id = ?", (keep_until_ms, chunk))
        length = tx.value("SELECT length FROM chunk WHERE id = ? AND referenced_bytes = 0", (chunk,))
        if length is not None:
            emptied.append(int(length))
    return emptied
