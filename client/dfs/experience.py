"""What the operations of one client learn from each other about datanodes, and the parts that are built on it.

Separate so that everybody who moves bytes (a client, the gateway for all of its callers) hedges reads and limits
retries in the same way: here is the only place where a fetcher and a sender are put together.
"""

import random
import threading
from typing import TYPE_CHECKING

from dfs.namenodes import Namenodes
from dfs.protocol.clock import Clock
from dfs.protocol.transport import Transport
from dfs.retries import RetryBudget
from dfs.suspects import Suspects

if TYPE_CHECKING:
    from dfs.fetcher import Fetcher
    from dfs.racing import Hedging
    from dfs.sender import Sender


class Experience:
    """Who failed a moment ago, and how long reads take. Usable from several threads.

    hedged_reads  False: a second replica is asked only after the first has failed
    """

    def __init__(self, clock: Clock, *, hedged_reads: bool = True) -> None:
        self.suspects = Suspects(clock)
        self._hedged_reads = hedged_reads
        self._hedging: Hedging | None = None
        self._lock = threading.Lock()

    def hedging(self) -> "Hedging | None":
        """What hedged reads share; made when it is first needed, since it has a thread."""
        if not self._hedged_reads:
            return None
        from dfs.racing import Hedging

        with self._lock:
            if self._hedging is None:
                self._hedging = Hedging()
            return self._hedging

    def fetcher(
        self, transport: Transport, namenodes: Namenodes, retries: RetryBudget, rng: random.Random
    ) -> "Fetcher":
        """What reads from datanodes."""
        from dfs.fetcher import Fetcher

        return Fetcher(transport, namenodes, self.suspects, rng=rng, hedging=self.hedging(), retries=retries)

    def sender(self, transport: Transport, retries: RetryBudget, rng: random.Random) -> "Sender":
        """What writes to datanodes."""
        from dfs.sender import Sender

        return Sender(transport, self.suspects, rng=rng, retries=retries)
