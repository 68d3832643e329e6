"""Whether this store is older than what its datanodes have seen, and what follows (F63).

A namenode that was restored from a backup does not know the files that were made since; to it, their chunks look like
garbage. Datanodes remember the highest sequence number that any namenode showed them, so they can tell. Then the fact
is *latched* in the store: nothing is deleted until an operator has looked; the history gets a new lineage id; and
sequence numbers go on beyond the highest seen, so that no number ever means two things.
"""

from collections.abc import Callable

from dfs.protocol.errors import Conflict
from dfs.protocol.ids import new_id
from dfs_namenode.store import meta
from dfs_namenode.store.transaction import Transaction

SEQ_MARGIN = 1_000_000
"""How far beyond the highest number seen the new history begins: other datanodes may have seen more."""

SEQ_PLAUSIBLE = 1 << 52
"""A number that no history reaches (a million changes a second for a century). Taken over from a datanode that is
damaged or lies, it would soon leave the bounds of the messages, and nobody could speak with this namenode any more."""


def lags(*, seq_seen: int, last_seq: int) -> bool:
    """Whether a datanode has seen more than the store ever did."""
    return seq_seen > last_seq


def latch_if_behind(
    tx: Transaction, *, datanode: str, seq_seen: int, random_bytes: Callable[[int], bytes] | None = None
) -> bool:
    """Latch if the datanode has seen a number that the store has not given out. Repeatable. True: it did.

    Raises Conflict: no namenode ever showed it such a number
    """
    if not lags(seq_seen=seq_seen, last_seq=tx.last_seq):
        return False
    if seq_seen >= SEQ_PLAUSIBLE:
        raise Conflict(
            f"{datanode} says that it has seen the change {seq_seen}, which can't be; give it an empty --dir"
        )
    if meta.latch(tx) is None:
        found = meta.identity(tx)
        assert found is not None
        lineage = new_id(tx.now_ms, random_bytes or tx.random_bytes)
        meta.set_identity(tx, meta.Identity(found.cluster, lineage))
        meta.set_latch(tx, f"{datanode} has seen the change {seq_seen}, and this store ends at {tx.last_seq}")
    tx.raise_seq(seq_seen + SEQ_MARGIN)
    return True
