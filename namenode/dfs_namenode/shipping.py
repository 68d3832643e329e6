"""Sends a backup to the datanodes, and puts it under the same care as every file.

The one place where a namenode writes chunks. Separate from the duty that decides what to back up. A backup becomes
known in one transaction, with its chunks and with the retirement of those that it makes superfluous; before that its
chunks are orphans like those of a client that died, so that a kill at any moment leaves nothing wrong.
"""

import asyncio
import os
from collections.abc import Callable, Collection
from random import Random

from dfs.protocol.clock import Clock
from dfs.protocol.digests import block_table, root_digest
from dfs.protocol.errors import DataError, NotEnoughDatanodes, PeerError, StateError, Unavailable
from dfs.protocol.hints import MetadataHint, encode_hints
from dfs.protocol.messages import Allocate, Grant, Grants, NewChunk, StoredChunk
from dfs.protocol.metadata_log import BackupHeader
from dfs.protocol.transport import Transport
from dfs_namenode.backup_plan import Backup, to_retire
from dfs_namenode.introducer import Introducer
from dfs_namenode.introduction import read_chunks
from dfs_namenode.keys import NodeKeys
from dfs_namenode.liveness import ClusterView, Reservations
from dfs_namenode.monitors.leader import Leader
from dfs_namenode.operations.allocate import allocate
from dfs_namenode.store import backups
from dfs_namenode.store.contents import ExtentRow
from dfs_namenode.store.transaction import Transaction

PRINCIPAL = "backup"
"""In whose name the chunks of backups are stored: their receipts are good for nothing else."""
PIECE_BYTES = 16 << 20
"""Of one chunk: what is held in memory at a time."""
ATTEMPTS_MAX = 3
"""For one chunk, each with other datanodes as far as there are any."""


class Shipper:
    """Stores backups. One at a time."""

    def __init__(
        self,
        leader: Leader,
        cluster: Callable[[], ClusterView],
        reservations: Reservations,
        keys: NodeKeys,
        transport: Transport,
        clock: Clock,
        *,
        replication: int,
        ttl_ms: int,
        window_ms: int,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._leader = leader
        self._cluster = cluster
        self._reservations = reservations
        self._keys = keys
        self._transport = transport
        self._clock = clock
        self._replication = replication
        self._ttl_ms = ttl_ms
        self._window_ms = window_ms
        self._random_bytes = random_bytes
        self._rng = Random()

    async def ship(self, path: str, header: BackupHeader, size: int) -> int:
        """Store the backup that is in a file. Returns its content id.

        Raises   a StateError, PeerError or DataError: it could not be stored now; Conflict: another namenode leads
        """
        parts = -(-size // PIECE_BYTES)
        new: list[NewChunk] = []
        for part in range(parts):
            data = await asyncio.to_thread(_read, path, part * PIECE_BYTES)
            hint = MetadataHint(
                what=header.kind,
                from_seq=header.from_seq,
                to_seq=header.to_seq,
                part=part,
                parts=parts,
                size=size,
                made_ms=header.made_ms,
                cluster=header.cluster,
            )
            new.append(await self._store(data, encode_hints(hint)))
        read = read_chunks(new, secret=self._keys.secret, principal=PRINCIPAL)

        def keep(tx: Transaction) -> int:
            introducer = Introducer(tx, self._cluster())
            introducer.introduce(read, window_ms=self._window_ms)
            introducer.refer([(chunk.id, chunk.length) for chunk in read], replication=self._replication)
            extents, position = [], 0
            for chunk in read:
                extents.append(ExtentRow(position, chunk.id, 0, chunk.length, chunk.digest))
                position += chunk.length
            backup = Backup(
                0, header.kind, header.from_seq, header.to_seq, header.made_ms, position, header.lineage
            )  # fmt: skip
            content_id = backups.insert(tx, backup, extents, replication=self._replication)
            introducer.finish()
            backups.retire(tx, to_retire(backups.everything(tx)))
            return content_id

        return await self._leader.write(keep)

    async def _store(self, data: bytes, hints: bytes) -> NewChunk:
        """Store one chunk on enough datanodes."""
        table = await asyncio.to_thread(block_table, data)
        root = root_digest(len(data), table)
        failed: set[str] = set()
        why = ""
        for _ in range(ATTEMPTS_MAX):
            try:
                grants = self._allocate(len(data), failed)
            except NotEnoughDatanodes as error:
                if not failed:
                    raise
                raise Unavailable(f"a chunk of the backup could not be stored ({why})") from error
            grant = grants.grants[0]
            try:
                answer = await asyncio.to_thread(self._send, grant, data, table, root, hints)
            except (PeerError, StateError, DataError) as error:
                failed.add(grant.chain[0].datanode)
                why = error.message
                continue
            if len(answer.receipts) >= grants.write_min:
                return NewChunk(grant.chunk, len(data), root.hex(), list(answer.receipts))
            culprits = [one for one in answer.failed if one.culprit]
            failed |= {one.datanode for one in culprits}
            why = ", ".join(f"{one.datanode}: {one.why}" for one in culprits) or "too few datanodes stored it"
        raise Unavailable(f"a chunk of the backup could not be stored ({why})")

    def _allocate(self, length: int, exclude: Collection[str]) -> Grants:
        return allocate(
            Allocate(count=1, length=length, replication=self._replication, exclude=sorted(exclude)),
            principal=PRINCIPAL,
            cluster=self._cluster(),
            reservations=self._reservations,
            keys=self._keys,
            now_ms=self._clock.wall_ms(),
            ttl_ms=self._ttl_ms,
            rng=self._rng,
            random_bytes=self._random_bytes,
        )

    def _send(self, grant: Grant, data: bytes, table: bytes, root: bytes, hints: bytes) -> StoredChunk:
        # As the datanodes reach each other: where clients reach them from may be another network.
        return self._transport.put_chunk(
            self._cluster().peer_url(grant.chain[0].datanode),
            chunk=grant.chunk,
            capability=grant.capability,
            pieces=[data],
            length=len(data),
            table=table,
            root=root,
            behind=len(grant.chain) - 1,
            hints=hints,
        )


def _read(path: str, offset: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(PIECE_BYTES)
