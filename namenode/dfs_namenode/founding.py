"""What happens to a store between its opening and its first call: it gets an identity, a leader, and its time.

Separate from the composition because the order matters, and a kill may come between any two steps (see `keys`).
"""

from dataclasses import dataclass

from dfs.protocol.ids import new_id
from dfs_namenode import keys
from dfs_namenode.steady_clock import SteadyClock
from dfs_namenode.store import meta, namespace
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.transaction import Transaction


@dataclass(frozen=True)
class Founded:
    """A store that may be served."""

    cluster: str
    keys: keys.NodeKeys
    epoch: int


def found(store: SqliteStore, directory: str, clock: SteadyClock) -> Founded:
    """Make the store that of a cluster, new or known, and take the lead. Raises Conflict: store and secret differ."""
    with store.read() as snapshot:
        identity = meta.identity(snapshot)
        clock.raise_floor(meta.time_floor_ms(snapshot))
    if identity is None:
        identity = _begin_cluster(store, directory, clock.wall_ms())
    secret = keys.publish_secret(directory, identity.cluster)
    epoch = store.write_blocking(meta.take_lead)
    return Founded(identity.cluster, keys.NodeKeys(secret), epoch)


def _begin_cluster(store: SqliteStore, directory: str, now_ms: int) -> meta.Identity:
    keys.refuse_orphan_secret(directory)
    identity = meta.Identity(cluster=new_id(now_ms), lineage=new_id(now_ms))
    keys.prepare_secret(directory, identity.cluster)

    def write(tx: Transaction) -> None:
        namespace.ensure_root(tx)
        meta.set_identity(tx, identity)

    store.write_blocking(write)
    return identity
