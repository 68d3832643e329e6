"""Rows of backups: which copies of this store, whole or of what changed, are kept in the cluster. All SQL is here.

A backup is a content without a path. Its row keeps it from being taken for garbage; without the row it is retired like
any other content that nobody has any more.
"""

from collections.abc import Sequence

from dfs_namenode.backup_plan import ROWS_MAX, Backup, Facts, covered, older_reach
from dfs_namenode.content_rules import content_digest
from dfs_namenode.store import contents, meta
from dfs_namenode.store.contents import ExtentRow
from dfs_namenode.store.schema import BACKUP_CHANGES, BACKUP_SNAPSHOT, CHUNK_LIVE, NOWHERE, REPLICA_GOOD
from dfs_namenode.store.transaction import Snapshot, Transaction


def everything(snapshot: Snapshot) -> list[Backup]:
    """All that are kept, the oldest first."""
    rows = snapshot.rows(
        "SELECT b.content_id, b.kind, b.from_seq, b.to_seq, b.made_ms, b.size, b.lineage, NOT EXISTS"
        " (SELECT 1 FROM extent AS e LEFT JOIN chunk AS c ON c.id = e.chunk_id AND c.state = ? WHERE"
        " e.content_id = b.content_id AND (c.id IS NULL OR NOT EXISTS"
        " (SELECT 1 FROM replica AS r WHERE r.chunk_id = e.chunk_id AND r.state = ?)))"
        " FROM backup AS b ORDER BY b.to_seq, b.from_seq DESC",
        (CHUNK_LIVE, REPLICA_GOOD),
    )
    return [
        Backup(
            content_id=content_id,
            kind="changes" if kind == BACKUP_CHANGES else "snapshot",
            from_seq=from_seq,
            to_seq=to_seq,
            made_ms=made_ms,
            size=size,
            lineage=lineage,
            whole=bool(whole),
        )
        for content_id, kind, from_seq, to_seq, made_ms, size, lineage, whole in rows
    ]


def facts(snapshot: Snapshot) -> Facts:
    """What the planning of the next backup has to know."""
    found = meta.identity(snapshot)
    assert found is not None, "a store that is served has an identity"
    kept = everything(snapshot)
    return Facts(
        kept=tuple(kept),
        lineage=found.lineage,
        last_seq=meta.last_seq(snapshot),
        forgotten_seq=meta.forgotten_changes(snapshot),
        changes=_count(snapshot, covered(kept, found.lineage)),
        changes_older=_count(snapshot, older_reach(kept, found.lineage)),
        has_files=snapshot.row("SELECT 1 FROM inode WHERE parent_id != ? LIMIT 1", (NOWHERE,)) is not None,
    )


def _count(snapshot: Snapshot, after: int) -> int:
    """Rows of the change log behind a sequence number, counted up to a few more than are ever exported."""
    return int(
        snapshot.value("SELECT count(*) FROM (SELECT 1 FROM change WHERE seq > ? LIMIT ?)", (after, ROWS_MAX + 1))
    )


def changed_ms(snapshot: Snapshot, seq: int) -> int | None:
    """When the first change behind a sequence number was made; None: there is none."""
    found = snapshot.value("SELECT at_ms FROM change WHERE seq > ? ORDER BY seq, n LIMIT 1", (seq,))
    return None if found is None else int(found)


def insert(tx: Transaction, backup: Backup, extents: Sequence[ExtentRow], *, replication: int) -> int:
    """Keep a backup whose chunks are introduced in this transaction. Returns its content id."""
    content_id = tx.new_content_id()
    digest = content_digest([(row.length, row.digest) for row in extents])
    contents.insert(tx, content_id, size=backup.size, digest=digest, replication=replication, attributes=None)
    contents.insert_extents(tx, content_id, extents)
    kind = BACKUP_SNAPSHOT if backup.kind == "snapshot" else BACKUP_CHANGES
    tx.run(
        "INSERT INTO backup (content_id, kind, from_seq, to_seq, made_ms, size, lineage) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (content_id, kind, backup.from_seq, backup.to_seq, backup.made_ms, backup.size, backup.lineage),
    )
    return content_id


def retire(tx: Transaction, content_ids: Sequence[int]) -> None:
    """Keep these no longer; their space comes back as that of removed files does."""
    for content_id in content_ids:
        tx.run("DELETE FROM backup WHERE content_id = ?", (content_id,))
    contents.retire(tx, content_ids)
