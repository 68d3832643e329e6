"""Single facts of the store: the cluster it belongs to, the leader's epoch, the floor of its time, the latch.

Its own module because these few keys are what every other table's meaning hangs on; nobody else writes them.
"""

from dataclasses import dataclass
from typing import Any, Final

from dfs_namenode.store.transaction import Snapshot, Transaction

_CLUSTER: Final = "cluster_id"
_LINEAGE: Final = "lineage"
_EPOCH: Final = "epoch"
_TIME_FLOOR: Final = "time_floor_ms"
_LATCHED: Final = "latched"
_HISTORY_SEQ: Final = "history_seq"
_SPREAD_OVER: Final = "spread_over"
_SAFE_MODE: Final = "safe_mode"
_BALANCE: Final = "balance"
_FORGOTTEN_CHANGES: Final = "forgotten_changes"
_RESTORED: Final = "restored_ms"


@dataclass(frozen=True)
class Identity:
    """The cluster that the store belongs to. `lineage` changes when history was lost."""

    cluster: str
    lineage: str


def get(snapshot: Snapshot, key: str) -> Any:
    """A fact, or None."""
    return snapshot.value("SELECT value FROM meta WHERE key = ?", (key,))


def put(tx: Transaction, key: str, value: Any) -> None:
    """Set a fact."""
    tx.run(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, value),
    )


def identity(snapshot: Snapshot) -> Identity | None:
    """Who the store belongs to; None: it is new."""
    cluster = get(snapshot, _CLUSTER)
    return None if cluster is None else Identity(str(cluster), str(get(snapshot, _LINEAGE)))


def set_identity(tx: Transaction, found: Identity) -> None:
    put(tx, _CLUSTER, found.cluster)
    put(tx, _LINEAGE, found.lineage)


def take_lead(tx: Transaction) -> int:
    """Become the leader: the epoch that is returned is higher than any before, and makes those void.

    It takes a sequence number, so that a copy of the store from before it is known for what it is (see `history`).
    """
    tx.raise_seq(tx.last_seq + 1)
    epoch = int(get(tx, _EPOCH) or 0) + 1
    put(tx, _EPOCH, epoch)
    return epoch


def epoch(snapshot: Snapshot) -> int:
    """The epoch of the leader now."""
    return int(get(snapshot, _EPOCH) or 0)


def time_floor_ms(snapshot: Snapshot) -> int:
    """The latest time at which something was forgotten; the namenode's clock must not go behind it."""
    return int(get(snapshot, _TIME_FLOOR) or 0)


def forgot_at(tx: Transaction, now_ms: int) -> None:
    """Something is forgotten in this transaction, at this time."""
    if now_ms > time_floor_ms(tx):
        put(tx, _TIME_FLOOR, now_ms)


def latch(snapshot: Snapshot) -> str | None:
    """Why the store is taken to lag behind its datanodes; None: it is not."""
    found = get(snapshot, _LATCHED)
    return None if found is None else str(found)


def set_latch(tx: Transaction, why: str) -> None:
    put(tx, _LATCHED, why)


def history_seq(snapshot: Snapshot) -> int:
    """The last number of the history that went before this one, as far as this store has it; 0: there was none."""
    return int(get(snapshot, _HISTORY_SEQ) or 0)


def set_history_seq(tx: Transaction, seq: int) -> None:
    put(tx, _HISTORY_SEQ, seq)


def clear_latch(tx: Transaction) -> bool:
    """An operator has resolved it. False: there was nothing to resolve."""
    return tx.run("DELETE FROM meta WHERE key = ?", (_LATCHED,)) > 0


def spread_over(snapshot: Snapshot) -> int:
    """The number of datanodes for which all chunks have been looked through (see `monitors.spread`)."""
    return int(get(snapshot, _SPREAD_OVER) or 0)


def set_spread_over(tx: Transaction, datanodes: int) -> None:
    put(tx, _SPREAD_OVER, datanodes)


def safe_mode(snapshot: Snapshot) -> bool:
    """Whether an operator holds deletion and repair back."""
    return get(snapshot, _SAFE_MODE) is not None


def set_safe_mode(tx: Transaction, *, on: bool) -> None:
    if on:
        put(tx, _SAFE_MODE, 1)
    else:
        tx.run("DELETE FROM meta WHERE key = ?", (_SAFE_MODE,))


def balance(snapshot: Snapshot) -> float | None:
    """The threshold of the balance that goes on; None: none does."""
    found = get(snapshot, _BALANCE)
    return None if found is None else float(found)


def set_balance(tx: Transaction, threshold: float | None) -> None:
    if threshold is None:
        tx.run("DELETE FROM meta WHERE key = ?", (_BALANCE,))
    else:
        put(tx, _BALANCE, threshold)


def forgotten_changes(snapshot: Snapshot) -> int:
    """The last sequence number whose changes were forgotten: what is asked for from before it is not complete."""
    return int(get(snapshot, _FORGOTTEN_CHANGES) or 0)


def set_forgotten_changes(tx: Transaction, seq: int) -> None:
    put(tx, _FORGOTTEN_CHANGES, seq)


def restored_ms(tx: Transaction) -> int:
    """When the store was restored from a backup, in the namenode's time; 0: never."""
    if tx.memory.restored_ms is None:
        tx.memory.restored_ms = int(get(tx, _RESTORED) or 0)
    return tx.memory.restored_ms


def set_restored(tx: Transaction, now_ms: int) -> None:
    put(tx, _RESTORED, now_ms)
    tx.memory.restored_ms = None


def raise_epoch(tx: Transaction, by: int) -> None:
    """Have the next leader's epoch be higher than any that a lost history may have had."""
    put(tx, _EPOCH, epoch(tx) + by)


def last_seq(snapshot: Snapshot) -> int:
    """The last sequence number that is durable. What others are told: it can't be lost and come again."""
    return int(snapshot.value("SELECT seq FROM counters") or 0)
