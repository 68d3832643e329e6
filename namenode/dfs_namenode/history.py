"""Whether this store is older than what its datanodes have seen, and what follows (F63).

A namenode that was restored from a backup does not know the files that were made since; to it, their chunks look like
garbage. Datanodes remember the highest sequence number that any namenode showed them, so they can tell. Then the fact
is *latched* in the store: nothing is deleted until an operator has looked; the history gets a new lineage id; and
sequence numbers go on beyond the highest seen, and those of inodes and contents far beyond, so that no number ever
means two things.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dfs.protocol.errors import Conflict
from dfs.protocol.ids import id_time_ms, new_id
from dfs_namenode.store import meta
from dfs_namenode.store.transaction import Snapshot, Transaction

SEQ_MARGIN = 1_000_000
"""How far beyond the highest number seen the new history begins: other datanodes may have seen more."""

IDS_JUMP = 1 << 40
"""Added to the numbers of inodes and contents: more than the lost history can have given out. A reader that has one of
its contents open must not be given the bytes of another (I3)."""

SEQ_PLAUSIBLE = 1 << 52
"""A number that no history reaches (a million changes a second for a century). Taken over from a datanode that is
damaged or lies, it would soon leave the bounds of the messages, and nobody could speak with this namenode any more."""


@dataclass(frozen=True)
class History:
    """The history that goes on now."""

    lineage: str
    seq_before: int
    """The last number of the history before, as far as this store has it; 0: there was none."""

    @property
    def began_ms(self) -> int:
        """When it began: its id was made then."""
        return id_time_ms(self.lineage)


def history_of(snapshot: Snapshot) -> History:
    """The history of the store."""
    identity = meta.identity(snapshot)
    assert identity is not None, "a store that is served has an identity"
    return History(identity.lineage, meta.history_seq(snapshot))


def may_adopt(chunk: str, history: History, *, now_ms: int, window_ms: int) -> bool:
    """Whether no writer is left who would commit an orphan. Pure.

    It is from before this history, whose writers have lost what they had under way, or too old for any commit. A writer
    for whom that is not true is refused afterwards, and sends its bytes again.
    """
    granted_ms = id_time_ms(chunk)
    return granted_ms < history.began_ms or now_ms - granted_ms >= window_ms


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
        meta.set_history_seq(tx, tx.last_seq)
        tx.skip_ids(IDS_JUMP)
        meta.set_latch(tx, f"{datanode} has seen the change {seq_seen}, and this store ends at {tx.last_seq}")
    tx.raise_seq(seq_seen + SEQ_MARGIN)
    return True
