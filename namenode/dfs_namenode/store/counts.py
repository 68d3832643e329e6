"""How much there is of everything: for status pages and metrics.

Separate because counting reads whole indexes: nothing that serves a client may do it, and callers cache the answer.
"""

from dataclasses import dataclass

from dfs_namenode.repair import PRIORITY_MISSING
from dfs_namenode.store.schema import CHUNK_CONDEMNED, CHUNK_DELETED, CHUNK_LIVE, KIND_DIRECTORY
from dfs_namenode.store.transaction import Snapshot

_KEPT_FOR_READERS = "FROM retired AS r JOIN content AS c ON c.id = r.content_id"
_BACKUPS = "FROM backup AS b JOIN content AS c ON c.id = b.content_id"


@dataclass(frozen=True)
class Counts:
    """The store at one moment. What was removed and not yet swept counts as waiting, not as there."""

    seq: int = 0
    files: int = 0
    directories: int = 0
    bytes: int = 0
    chunks: int = 0
    replicas: int = 0
    replicas_by_datanode: tuple[tuple[int, int], ...] = ()
    waiting_for_deletion: int = 0
    """Chunks that nothing refers to, and removed contents in their grace."""
    drafts: int = 0


def count(snapshot: Snapshot) -> Counts:
    """Count everything. Some seconds with many millions of rows: for a thread."""

    def number(statement: str, values: tuple[int, ...] = ()) -> int:
        return int(snapshot.value(statement, values) or 0)

    directories = number("SELECT count(*) FROM inode WHERE kind = ?", (KIND_DIRECTORY,))
    retired = number("SELECT count(*) FROM retired")
    tombstones = number("SELECT count(*) FROM chunk WHERE referenced_bytes = 0 AND state = ?", (CHUNK_DELETED,))
    condemned = number("SELECT count(*) FROM chunk WHERE referenced_bytes = 0 AND state = ?", (CHUNK_CONDEMNED,))
    unreferenced = number("SELECT count(*) FROM chunk WHERE referenced_bytes = 0 AND state = ?", (CHUNK_LIVE,))
    by_datanode = tuple(
        (int(datanode), int(rows)) for datanode, rows in snapshot.rows(
            "SELECT datanode, count(*) FROM replica INDEXED BY replica_by_datanode GROUP BY datanode"
        )
    )  # fmt: skip
    return Counts(
        seq=number("SELECT seq FROM counters"),
        files=number("SELECT count(*) FROM content")
        - number(f"SELECT count(*) {_KEPT_FOR_READERS}")
        - number(f"SELECT count(*) {_BACKUPS}"),
        directories=directories,
        bytes=number("SELECT total(size) FROM content")
        - number(f"SELECT total(c.size) {_KEPT_FOR_READERS}")
        - number(f"SELECT total(c.size) {_BACKUPS}"),
        chunks=number("SELECT count(*) FROM chunk") - tombstones - condemned,
        replicas=sum(rows for _, rows in by_datanode),
        replicas_by_datanode=by_datanode,
        waiting_for_deletion=condemned + unreferenced + retired,
        drafts=number("SELECT count(*) FROM draft"),
    )


UNREADABLE_MAX = 10_000
_CHUNKS_LOOKED_AT = 10_000


def unreadable_files(snapshot: Snapshot) -> int:
    """Files with a chunk that is missing, up to `UNREADABLE_MAX`. Contents on their way in or out are none."""
    return int(
        snapshot.value(
            "SELECT count(*) FROM (SELECT DISTINCT e.content_id"
            " FROM (SELECT chunk_id FROM work WHERE priority = ? ORDER BY since_ms LIMIT ?) AS w"
            " JOIN extent AS e ON e.chunk_id = w.chunk_id"
            " WHERE NOT EXISTS (SELECT 1 FROM retired AS r WHERE r.content_id = e.content_id)"
            " AND NOT EXISTS (SELECT 1 FROM backup AS b WHERE b.content_id = e.content_id)"
            " LIMIT ?)",
            (PRIORITY_MISSING, _CHUNKS_LOOKED_AT, UNREADABLE_MAX),
        )
        or 0
    )
