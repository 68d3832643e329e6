"""The introduction of new chunks inside a transaction: rows first, judgement last.

Separate from `introduction`, which decides and is pure, and shared by commit and stage. The rows of the chunks are
inserted before the actions run, so that a copy in the same request can refer to them; how many replicas each chunk
needs is known only after the actions ran, so the receipts are judged then. The savepoint makes it one step.
"""

from collections.abc import Collection, Iterable, Sequence

from dfs_namenode import introduction
from dfs_namenode.content_rules import ChunkFacts
from dfs_namenode.introduction import Introduced, ReadChunk
from dfs_namenode.liveness import ClusterView
from dfs_namenode.repair import PRIORITY_SURPLUS, priority_of
from dfs_namenode.store import chunks, orphans, replicas, work
from dfs_namenode.store.orphans import Found, Orphan
from dfs_namenode.store.schema import WORK_SURPLUS, WORK_SUSPECT, WORK_UNDER_REPLICATED
from dfs_namenode.store.transaction import Transaction
from dfs_namenode.tally import tally


class Introducer:
    """The new chunks of one request, and what the request makes of chunks."""

    def __init__(self, tx: Transaction, cluster: ClusterView) -> None:
        self._tx = tx
        self._cluster = cluster
        self._introduced: dict[bytes, Introduced] = {}
        self._references: dict[bytes, int] = {}
        self._wanted: dict[bytes, int] = {}
        self._lowered: set[bytes] = set()
        self._published: set[bytes] = set()
        self._reported: set[bytes] = set()
        """New chunks that have replicas without a receipt: only datanodes' reports tell of them."""
        self._adopted: set[bytes] = set()
        """New chunks that have no receipts at all."""
        self._shared: set[bytes] = set()
        self.facts: dict[str, ChunkFacts] = {}
        """Chunks that extents of this request may use, by id."""

    def introduce(self, new: Sequence[ReadChunk], *, window_ms: int) -> None:
        """Insert the rows of new chunks. Raises ReceiptRefused: an id was used, or is too old."""
        for chunk in new:
            introduction.check_age(chunk, now_ms=self._tx.now_ms, window_ms=window_ms)
            if chunks.is_known(self._tx, chunk.id):
                raise introduction.refuse_used(chunk)
            counted = introduction.count_receipts(chunk, self._cluster)
            rows = [
                chunks.NewReplica(chunks.datanode_number(self._tx, receipt.datanode), receipt.volume)
                for receipt in counted.counted
            ]
            chunks.introduce(self._tx, chunk.id, length=chunk.length, digest=chunk.digest, replication=1, replicas=rows)
            self._introduced[chunk.id] = counted
            self.facts[chunk.id.hex()] = ChunkFacts(chunk.length, chunk.digest.hex())
            self._adopt_reported(chunk, {row.datanode for row in rows})

    def _adopt_reported(self, chunk: ReadChunk, with_receipt: Collection[int]) -> None:
        """Replicas of which a report came before the commit, and the receipt never (F5). They count for no receipt."""
        for orphan in orphans.take(self._tx, chunk.id):
            if orphan.datanode in with_receipt:
                continue
            if (orphan.length, orphan.digest) == (chunk.length, chunk.digest.hex()) and not orphan.bad:
                replicas.add_good(self._tx, chunk.id.hex(), orphan.datanode, orphan.volume)
            else:
                self._mark_bad(chunk.id, orphan)
            self._reported.add(chunk.id)

    def adopt(self, found: Found) -> None:
        """Insert the row of an orphan whose replicas agree, with all of them (see `operations.adopt`)."""
        assert found.agreed is not None, "nobody can say which replica is right"
        length, digest = found.agreed
        chunk = bytes.fromhex(found.chunk)
        held = [
            chunks.NewReplica(orphan.datanode, bytes.fromhex(orphan.volume))
            for orphan in found.replicas
            if not orphan.bad
        ]
        chunks.introduce(self._tx, chunk, length=length, digest=bytes.fromhex(digest), replication=1, replicas=held)
        for orphan in found.replicas:
            if orphan.bad:
                self._mark_bad(chunk, orphan)
        self._adopted.add(chunk)
        self._reported.add(chunk)
        self.facts[found.chunk] = ChunkFacts(length, digest)

    def _mark_bad(self, chunk: bytes, orphan: Orphan) -> None:
        replicas.mark_bad(self._tx, chunk.hex(), orphan.datanode)
        work.look_at(self._tx, chunk.hex(), why=WORK_SUSPECT)

    def share(self, chunk: str, facts: ChunkFacts) -> None:
        """Let extents use a chunk that files have already, whatever became of its replicas: as a copy does."""
        self._shared.add(bytes.fromhex(chunk))
        self.facts[chunk] = facts

    def refer(self, used: Iterable[tuple[bytes, int]], *, replication: int) -> None:
        """Extents of a file that wants so many replicas refer to these chunks, with so many bytes each."""
        for chunk, length in used:
            self._references[chunk] = self._references.get(chunk, 0) + length
            self._want(chunk, replication)

    def publish(self, chunk_ids: Iterable[bytes], *, replication: int) -> None:
        """A staged file with bytes in these chunks becomes visible: they must be as safe as new ones (I1)."""
        for chunk in chunk_ids:
            self._published.add(chunk)
            self._want(chunk, replication)

    def want(self, chunk_ids: Iterable[bytes], replication: int) -> None:
        """A file that has bytes in these chunks wants at least so many replicas."""
        for chunk in chunk_ids:
            self._want(chunk, replication)

    def want_less(self, chunk_ids: Iterable[bytes]) -> None:
        """A file that has bytes in these chunks wants fewer replicas than before."""
        self._lowered.update(chunk_ids)

    def finish(self) -> None:
        """Judge the receipts, count the references, and note which chunks need work.

        Raises   ReceiptRefused: too few replicas count; InvalidRequest: a chunk is not used; Conflict: one that is
                 adopted can't be read from anywhere
        """
        if not (self._introduced or self._adopted or self._wanted or self._lowered):
            return
        new = self._introduced.keys() | self._adopted
        introduction.require_used(sorted(new), set(self._references))
        for chunk in sorted(self._adopted):
            # Bad ones too: each may have what the others lack (F42), and whoever adopts has read it all.
            places = [*chunks.good_replicas(self._tx, chunk), *chunks.bad_replicas(self._tx, chunk)]
            introduction.require_readable(chunk, places, self._cluster)
        for chunk, introduced in self._introduced.items():
            needed = self._cluster.write_min(self._wanted.get(chunk, 1))
            introduction.require_enough(introduced, needed=needed)
        # Chunks that the draft introduced earlier, whether a staged file or an extent of an action has bytes in them.
        used = {chunk for chunk, length in self._references.items() if length}
        for chunk in sorted((self._published | used) - new - self._shared):
            introduction.require_replicas(
                chunk,
                chunks.good_replicas(self._tx, chunk),
                self._cluster,
                needed=self._cluster.write_min(self._wanted[chunk]),
            )
        chunks.add_references(self._tx, {chunk: size for chunk, size in self._references.items() if chunk not in new})
        for chunk in sorted(self._lowered):
            if chunks.recount_replication(self._tx, chunk):
                work.put(self._tx, chunk.hex(), why=WORK_SURPLUS, priority=PRIORITY_SURPLUS)
        for chunk, wanted in self._wanted.items():
            if chunk in new:
                # It is wanted because extents refer to it, or a draft or a copy in this request does.
                size = self._references.get(chunk, 0)
                chunks.refer_to_new(self._tx, chunk, size=size, replication=wanted)
                self._note_work(chunk, wanted)
            elif chunks.raise_replication(self._tx, [chunk], wanted):
                self._note_work(chunk, wanted)
        for chunk in sorted(self._reported):
            work.look_for_surplus(self._tx, chunk.hex())

    def _want(self, chunk: bytes, replication: int) -> None:
        if replication > self._wanted.get(chunk, 0):
            self._wanted[chunk] = replication

    def _note_work(self, chunk: bytes, replication: int) -> None:
        introduced = self._introduced.get(chunk)
        if introduced is None or chunk in self._reported:
            # A row at a dead datanode is no replica here: what it lacks was judged by the old number, and is settled.
            held = chunks.good_replicas(self._tx, chunk)
        else:
            held = [(receipt.datanode, receipt.volume.hex()) for receipt in introduced.counted]
        wanted = self._cluster.copies_wanted(replication)
        found = tally(held, self._cluster, wanted=wanted)
        priority = priority_of(found.at_hand, wanted, counted=found.counted)
        if priority is not None:
            work.put(self._tx, chunk.hex(), why=WORK_UNDER_REPLICATED, priority=priority)
