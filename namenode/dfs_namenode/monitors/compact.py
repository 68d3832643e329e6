"""Has chunks rewritten of which most is dead; the decisions are in `compaction`, the effect in `operations.composed`.

A turn looks at a page of the chunks of which references were given up, keeps those that are sparse, and gives at most
one order. Held back by every safe mode and by a rate: space that comes back a little later is no harm, and copying
must not be noticed. Nothing is deleted here: what is left of an old chunk goes the way of all garbage.
"""

import asyncio
import logging
from dataclasses import dataclass
from random import Random

from dfs.protocol.capability import sign_capability
from dfs.protocol.chunk_format import file_size
from dfs.protocol.clock import Clock
from dfs.protocol.hints import HINTS_MAX
from dfs.protocol.ids import new_id
from dfs.protocol.messages import Compacting, Compose, ComposeExtent, ComposeRun, ComposeSource
from dfs_namenode.commands import SLOWEST_BYTES_PER_S, Outbox
from dfs_namenode.compaction import Composition, Part, Sparse, is_sparse, live_bytes, plan
from dfs_namenode.compositions import Compositions, Order
from dfs_namenode.keys import NodeKeys
from dfs_namenode.liveness import ClusterView, Liveness, Reservations
from dfs_namenode.monitors.leader import Leader
from dfs_namenode.monitors.safety import Safety
from dfs_namenode.operations.composed import PRINCIPAL
from dfs_namenode.pulling import leave_to_read, targets
from dfs_namenode.store import compaction, replicas
from dfs_namenode.store.compaction import Released
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.transaction import Snapshot

log = logging.getLogger(__name__)
PAGE = 64
"""Chunks looked at in a turn."""
EXTENTS_IN_TURN = 50_000
"""Extents read in a turn; a chunk with more is left alone, since nobody could move them in good time."""
POOL_PIECES_MAX = 200_000
"""Pieces of candidates that wait for company, kept in memory."""
ORDERS_IN_CALL = 64
"""That an operator's call gives at most."""
ORDER_S = 60.0
"""How long an order may take, beside the time for its bytes."""


@dataclass(frozen=True)
class Pace:
    """How fast compaction goes, and how large its chunks are."""

    bytes_per_s: int
    chunk_size_bytes: int
    ttl_ms: int
    """Of capabilities."""


@dataclass
class Found:
    """What one look came to."""

    sparse: list[Sparse]
    dense: list[Released]
    last: bytes
    """Where the next look begins."""


class Compaction:
    """Knows the candidates that wait, how far the walk has come, and how much may be copied."""

    def __init__(
        self,
        store: SqliteStore,
        leader: Leader,
        liveness: Liveness,
        reservations: Reservations,
        outbox: Outbox,
        safety: Safety,
        keys: NodeKeys,
        *,
        clock: Clock,
        pace: Pace,
        rng: Random,
    ) -> None:
        self.orders = Compositions(clock)
        self._store = store
        self._leader = leader
        self._liveness = liveness
        self._reservations = reservations
        self._outbox = outbox
        self._safety = safety
        self._keys = keys
        self._clock = clock
        self._pace = pace
        self._rng = rng
        self._pool: dict[str, Sparse] = {}
        self._walked_to = b""
        self._allowed = float(pace.bytes_per_s)
        self._refilled_s = clock.monotonic_s()
        self._lock = asyncio.Lock()

    def progress(self) -> Compacting:
        """What status shows."""
        orders = self.orders
        return Compacting(
            under_way=orders.under_way(),
            composed=orders.composed,
            chunks_emptied=orders.chunks_emptied,
            bytes_saved=orders.bytes_saved,
            failed=orders.failed,
        )

    async def turn(self) -> int:
        """Look at some chunks, and give at most one order. Returns how many."""
        async with self._lock:
            self._refill()
            self._drop_changed()
            if self._safety.modes():
                return 0
            cluster = self._liveness.view()
            self.orders.drop_lost(cluster)
            await self._look(cluster)
            # Also what was changed while this looked, perhaps with the eyes of a moment before.
            self._drop_changed()
            return self._give_order(cluster)

    def _drop_changed(self) -> None:
        """Forget what was read of chunks before their extents were moved: it would be composed again, in vain."""
        for chunk in self.orders.changed():
            self._pool.pop(chunk, None)

    async def whole_turn(self) -> int:
        """What an operator asks for: turns until all chunks were looked at, and no more orders can be given."""
        given = 0
        for _ in range(ORDERS_IN_CALL):
            more = await self.turn()
            given += more
            if not more and not self._walked_to:
                break
        return given

    async def _look(self, cluster: ClusterView) -> None:
        if not self._walked_to:
            self._pool.clear()
        if sum(len(one.pieces) for one in self._pool.values()) >= POOL_PIECES_MAX:
            # They wait for somebody who can compose; the walk goes on when they are gone, or begins anew.
            self._walked_to = b""
            return
        found = await asyncio.to_thread(self._find, cluster)
        self._walked_to = found.last
        self._pool |= {one.chunk: one for one in found.sparse}
        if found.dense:
            await self._leader.write(lambda tx: compaction.looked_at(tx, found.dense))

    def _find(self, cluster: ClusterView) -> Found:
        found = Found([], [], self._walked_to)
        left = EXTENTS_IN_TURN
        with self._store.read() as snapshot:
            page = compaction.released(snapshot, after=self._walked_to, limit=PAGE)
            for released in page:
                left -= self._judge(snapshot, released, cluster, found)
                found.last = released.id
                if left <= 0:
                    return found
        if len(page) < PAGE:
            found.last = b""
        return found

    def _judge(self, snapshot: Snapshot, released: Released, cluster: ClusterView, found: Found) -> int:
        """Sort one chunk in; how many extents were read."""
        read = compaction.pieces_of(snapshot, released.id, limit=EXTENTS_IN_TURN)
        if read is None:
            found.dense.append(released)
            return EXTENTS_IN_TURN
        pieces, total = read
        if total != released.referenced_bytes:
            return len(pieces)  # a draft has it; it is looked at again until that has ended
        if not is_sparse(released.length, live_bytes(pieces)):
            found.dense.append(released)
            return len(pieces)
        chunk = released.id.hex()
        held = replicas.replicas_of(snapshot, [chunk]).get(chunk, ())
        found.sparse.append(
            Sparse(
                chunk,
                released.length,
                released.digest.hex(),
                released.replication,
                tuple(pieces),
                replicas.named(held, cluster.by_num),
            )
        )
        return len(pieces)

    def _give_order(self, cluster: ClusterView) -> int:
        if self._allowed <= 0:
            return 0
        untouchable = self.orders.untouchable()
        made = plan(
            [one for one in self._pool.values() if one.chunk not in untouchable],
            cluster=cluster,
            reserved=self._reservations.by_datanode(),
            busy=self.orders.busy(),
            chunk_size=self._pace.chunk_size_bytes,
            rng=self._rng,
        )
        if made is None:
            return 0
        chunk = new_id(self._clock.wall_ms(), self._rng.randbytes)
        head = made.chain[0]
        if not self._outbox.compose(head, self._command(chunk, made, cluster)):
            return 0
        moves = {
            part.chunk: {
                (piece.offset, piece.length, piece.digest): move.at + piece.offset - move.offset
                for move in part.moves
                for piece in move.pieces
            }
            for part in made.parts
        }
        until_s = self._clock.monotonic_s() + ORDER_S + made.length / SLOWEST_BYTES_PER_S
        self.orders.add(Order(chunk, head, cluster.datanodes[head].incarnation, made.length, moves, until_s))
        for part in made.parts:
            del self._pool[part.chunk]
        for name in made.chain:
            self._reservations.add(name, file_size(made.length, HINTS_MAX))
        self._allowed -= made.length
        log.info("%s composes %s of %d chunks, %d bytes", head, chunk, len(made.parts), made.length)
        return 1

    def _command(self, chunk: str, made: Composition, cluster: ClusterView) -> Compose:
        expires_ms = self._clock.wall_ms() + self._pace.ttl_ms
        capability = sign_capability(
            self._keys.chain(list(made.chain)),
            operation="w",
            chunk=chunk,
            start=0,
            end=made.length,
            expires_ms=expires_ms,
            principal=PRINCIPAL,
        )
        sources = [self._source(part, cluster, expires_ms) for part in made.parts]
        return Compose(chunk=chunk, length=made.length, capability=capability, sources=sources)

    def _source(self, part: Part, cluster: ClusterView, expires_ms: int) -> ComposeSource:
        return ComposeSource(
            chunk=part.chunk,
            length=part.length,
            digest=part.digest,
            replicas=targets(part.sources, cluster),
            capability=leave_to_read(part.chunk, part.length, part.sources, self._keys, expires_ms=expires_ms),
            runs=[
                ComposeRun(
                    move.offset,
                    move.length,
                    move.at,
                    [ComposeExtent(piece.offset, piece.length, piece.digest.hex()) for piece in move.pieces],
                )
                for move in part.moves
            ],
        )

    def _refill(self) -> None:
        """A chunk may overdraw what is allowed; the debt is paid before the next one."""
        now_s = self._clock.monotonic_s()
        rate = self._pace.bytes_per_s
        self._allowed = min(rate, self._allowed + rate * (now_s - self._refilled_s))
        self._refilled_s = now_s
