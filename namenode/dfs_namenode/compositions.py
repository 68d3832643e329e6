"""The new chunks that datanodes are composing now, and what came of those before.

In memory only: after a restart an answer to an order that nobody remembers makes nothing live, its bytes are an orphan,
and the chunks that were to be rewritten are found again. Separate from the duty, which gives orders, and from the
operation, which takes the answers.

    ordered --answered--> taken: exactly once, whatever is repeated
    ordered --too old--> gone; a later answer finds nothing
    ordered --its datanode began another life, or is silent--> gone, and its sources are not to blame
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dfs.protocol.clock import Clock
from dfs_namenode.liveness import ClusterView

AVOID_S = 300.0
"""How long chunks whose composition failed are left alone: what was wrong with them, repair or the scrubbers find."""
_AVOIDED_MAX = 10_000

Place = tuple[int, int, bytes]
"""Offset, length and digest of extents on a chunk."""


@dataclass(frozen=True, slots=True)
class Order:
    """A chunk that a datanode was told to compose."""

    chunk: str
    datanode: str
    incarnation: int
    """Of the datanode: its next life knows nothing of the order."""
    length: int
    moves: Mapping[str, Mapping[Place, int]]
    """By old chunk: where each place of it is in the new one."""
    until_s: float


class Compositions:
    """The orders under way. Only the event loop uses it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._orders: dict[str, Order] = {}
        self._avoided: dict[str, float] = {}
        self._taken: dict[str, Order] = {}
        """Answered, and not dealt with yet."""
        self._changed: set[str] = set()
        """Old chunks of orders that were dealt with, until `changed` tells of them."""
        self.composed = 0
        """New chunks that were made live since the start."""
        self.chunks_emptied = 0
        """Chunks that nothing refers to any more because of that."""
        self.bytes_saved = 0
        """What those chunks had more than the new ones have; of one replica."""
        self.failed = 0

    def add(self, order: Order) -> None:
        """An order is on its way."""
        self._orders[order.chunk] = order

    def take(self, chunk: str, datanode: str) -> Order | None:
        """The order that this datanode has answered; None: it has none. It is over in any case."""
        self._forget_old()
        order = self._orders.get(chunk)
        if order is None or order.datanode != datanode:
            return None
        self._taken[chunk] = order
        return self._orders.pop(chunk)

    def settled(self, order: Order) -> None:
        """What was taken is dealt with, in whatever way: what was read of its old chunks before may be wrong now."""
        self._taken.pop(order.chunk, None)
        self._changed |= order.moves.keys()

    def changed(self) -> set[str]:
        """Old chunks whose rows may have changed since this was asked last."""
        changed, self._changed = self._changed, set()
        return changed

    def succeeded(self, *, emptied: int, saved: int) -> None:
        """The new chunk is live."""
        self.composed += 1
        self.chunks_emptied += emptied
        self.bytes_saved += saved

    def did_not(self, order: Order) -> None:
        """Nothing came of it: its sources are left alone for a while."""
        self.failed += 1
        until_s = self._clock.monotonic_s() + AVOID_S
        for chunk in order.moves:
            if len(self._avoided) >= _AVOIDED_MAX:
                self._avoided.pop(next(iter(self._avoided)))
            self._avoided[chunk] = until_s

    def drop_lost(self, cluster: ClusterView) -> None:
        """Forget the orders of datanodes that will not answer.

        One that is merely silent may be at work: what it composes meanwhile would be an orphan for a day. Its time ends
        like everybody's.
        """
        for order in list(self._orders.values()):
            node = cluster.datanodes.get(order.datanode)
            if node is None or node.state == "dead" or node.incarnation != order.incarnation:
                del self._orders[order.chunk]
                self.failed += 1

    def busy(self) -> Collection[str]:
        """Datanodes that compose now."""
        self._forget_old()
        return {order.datanode for order in self._orders.values()}

    def untouchable(self) -> set[str]:
        """Old chunks that must not be planned for now: they are being rewritten, or that failed a moment ago."""
        self._forget_old()
        now_s = self._clock.monotonic_s()
        self._avoided = {chunk: until_s for chunk, until_s in self._avoided.items() if until_s > now_s}
        orders = [*self._orders.values(), *self._taken.values()]
        return {chunk for order in orders for chunk in order.moves} | self._avoided.keys()

    def under_way(self) -> int:
        self._forget_old()
        return len(self._orders)

    def _forget_old(self) -> None:
        now_s = self._clock.monotonic_s()
        for order in [one for one in self._orders.values() if one.until_s <= now_s]:
            del self._orders[order.chunk]
            self.did_not(order)
