"""Rows of chunks as commits make them: introduction with the first replicas, references, wanted replication.

What happens to chunks later (condemned, deleted, forgotten) is in `garbage`; what happens to their replicas in
`replicas`. An id is introduced once: any row of it, a tombstone too, refuses it.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from dfs_namenode.store.schema import CHUNK_LIVE, REPLICA_GOOD
from dfs_namenode.store.transaction import Snapshot, Transaction


class NewReplica(NamedTuple):
    """A replica whose receipt counted."""

    datanode: int
    """datanode.num"""
    volume: bytes


def is_known(snapshot: Snapshot, chunk: bytes) -> bool:
    """Whether the id was ever used, as far as that is still known."""
    return snapshot.row("SELECT 1 FROM chunk WHERE id = ?", (chunk,)) is not None


def facts(snapshot: Snapshot, chunk: bytes) -> tuple[int, bytes, int] | None:
    """Length, digest and replication of a chunk."""
    return snapshot.row("SELECT length, digest, replication FROM chunk WHERE id = ?", (chunk,))


def introduce(
    tx: Transaction, chunk: bytes, *, length: int, digest: bytes, replication: int, replicas: Collection[NewReplica]
) -> None:
    """Insert a chunk that nothing refers to yet, with its replicas."""
    tx.run(
        "INSERT INTO chunk (id, length, digest, replication, referenced_bytes, state, state_ms, layout)"
        " VALUES (?, ?, ?, ?, 0, ?, ?, 0)",
        (chunk, length, digest, replication, CHUNK_LIVE, tx.now_ms),
    )
    tx.run_many(
        "INSERT INTO replica (chunk_id, datanode, volume, state, since_seq) VALUES (?, ?, ?, ?, ?)",
        [(chunk, replica.datanode, replica.volume, REPLICA_GOOD, tx.seq) for replica in replicas],
    )


def add_references(tx: Transaction, by_chunk: Mapping[bytes, int]) -> None:
    """Count bytes of extents up, or down where negative: then compaction looks at what is left."""
    if by_chunk:
        tx.run_many(
            "UPDATE chunk SET referenced_bytes = referenced_bytes + ?, released = max(released, ?) WHERE id = ?",
            [(size, int(size < 0), chunk) for chunk, size in by_chunk.items() if size],
        )


def raise_replication(tx: Transaction, chunk_ids: Iterable[bytes], replication: int) -> list[bytes]:
    """Have at least so many replicas of these. Returns those for which that is more than before."""
    return [
        chunk
        for chunk in chunk_ids
        if tx.run(
            "UPDATE chunk SET replication = ? WHERE id = ? AND replication < ?", (replication, chunk, replication)
        )
    ]


def refer_to_new(tx: Transaction, chunk: bytes, *, size: int, replication: int) -> None:
    """`add_references` and `raise_replication`, for a chunk that was introduced in this transaction."""
    tx.run(
        "UPDATE chunk SET referenced_bytes = referenced_bytes + ?, replication = max(replication, ?) WHERE id = ?",
        (size, replication, chunk),
    )


def recount_replication(tx: Transaction, chunk: bytes) -> bool:
    """Want what the most demanding of the chunk's files wants, after one of them came to want less. True: a change."""
    changed = tx.run(
        "UPDATE chunk SET replication = found.most FROM (SELECT max(c.replication) AS most FROM extent AS e"
        " JOIN content AS c ON c.id = e.content_id WHERE e.chunk_id = ?) AS found"
        " WHERE chunk.id = ? AND found.most IS NOT NULL AND chunk.replication != found.most",
        (chunk, chunk),
    )
    return changed > 0


def live_behind(snapshot: Snapshot, after: bytes, limit: int) -> list[tuple[bytes, int]]:
    """The next live chunks in the order of their ids, with the replication that they want."""
    rows = snapshot.rows(
        "SELECT id, replication FROM chunk WHERE id > ? AND state = ? ORDER BY id LIMIT ?", (after, CHUNK_LIVE, limit)
    )
    return [(chunk, replication) for chunk, replication in rows]


def good_replicas(snapshot: Snapshot, chunk: bytes) -> list[tuple[str, str]]:
    """The datanodes that have a good replica, each with the volume that it is on."""
    return [
        (datanode, volume.hex())
        for datanode, volume in snapshot.rows(
            "SELECT d.id, r.volume FROM replica AS r JOIN datanode AS d ON d.num = r.datanode"
            " WHERE r.chunk_id = ? AND r.state = ? ORDER BY r.datanode",
            (chunk, REPLICA_GOOD),
        )
    ]


def bad_replicas(snapshot: Snapshot, chunk: bytes) -> list[tuple[str, str]]:
    """`good_replicas`, of those that are bad or surplus: what a reader may try when there is no other."""
    return [
        (datanode, volume.hex())
        for datanode, volume in snapshot.rows(
            "SELECT d.id, r.volume FROM replica AS r JOIN datanode AS d ON d.num = r.datanode"
            " WHERE r.chunk_id = ? AND r.state != ? ORDER BY r.datanode",
            (chunk, REPLICA_GOOD),
        )
    ]


def all_replicas(snapshot: Snapshot, chunk: bytes) -> list[tuple[str, str, bool]]:
    """Every replica row: datanode, volume, whether it is good."""
    return [
        (datanode, volume.hex(), state == REPLICA_GOOD)
        for datanode, volume, state in snapshot.rows(
            "SELECT d.id, r.volume, r.state FROM replica AS r JOIN datanode AS d ON d.num = r.datanode"
            " WHERE r.chunk_id = ? ORDER BY r.datanode",
            (chunk,),
        )
    ]


def datanode_number(tx: Transaction, datanode: str) -> int:
    """The number that rows of replicas use for a datanode that is registered. It never gets another one."""
    known = tx.memory.numbers.get(datanode)
    if known is None:
        found = tx.value("SELECT num FROM datanode WHERE id = ?", (datanode,))
        assert found is not None, f"the datanode {datanode} is alive, but has no row"
        known = tx.memory.numbers[datanode] = int(found)
    return known
