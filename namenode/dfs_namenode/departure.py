"""A datanode that will not come back: an operator says so, while no namenode runs on the store.

Separate because nothing else may decide it. A datanode that is known counts towards the replicas that are possible, so
that a cluster which lost two of three does not quietly become one that keeps single copies; the price is that one whose
disk was thrown away is waited for until somebody who knows says that it is gone.
"""

from dataclasses import dataclass

from dfs.protocol.errors import InvalidRequest
from dfs_namenode.store import datanodes, garbage, meta, orphans, replicas, work
from dfs_namenode.store.schema import WORK_UNDER_REPLICATED
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.transaction import Transaction

BATCH = 500


@dataclass
class Departed:
    """What went with it."""

    replicas: int = 0
    last_ones: int = 0
    """Live chunks of which no good replica is known any more. Should its disk return, its report brings them back."""


def forget_datanode(store: SqliteStore, datanode: str) -> Departed:
    """Take a datanode out of the cluster, with its replicas; what they leave short becomes work. Repeatable.

    Its id is free from then on. Raises InvalidRequest: there is no such datanode
    """
    with store.read() as snapshot:
        found = datanodes.find(snapshot, datanode)
        known = [node.id for node in datanodes.everyone(snapshot)]
    if found is None:
        raise InvalidRequest(f"there is no datanode {datanode}; known are: {', '.join(known) or 'none'}")
    departed = Departed()
    while store.write_blocking(lambda tx: drop_some(tx, found.num, departed)):
        pass
    store.write_blocking(lambda tx: _depart(tx, datanode, len(known) - 1))
    return departed


def drop_some(tx: Transaction, number: int, departed: Departed) -> bool:
    """Drop the next rows of a datanode that departs; False: there were none."""
    rows = replicas.at_datanode(tx, number, after="", up_to="", limit=BATCH)
    for row in rows:
        replicas.drop(tx, row.chunk, number)
        departed.replicas += 1
        if garbage.bury_if_gone(tx, row.chunk):
            continue
        work.look_at(tx, row.chunk, why=WORK_UNDER_REPLICATED)
        if garbage.replication_of(tx, row.chunk) is not None and replicas.good_count(tx, row.chunk) == 0:
            departed.last_ones += 1
    return bool(orphans.drop_some_at(tx, number, BATCH) or rows)


def _depart(tx: Transaction, datanode: str, left: int) -> None:
    datanodes.depart(tx, datanode)
    # The next one that joins makes a number of replicas possible again that was not in between.
    meta.set_spread_over(tx, min(left, meta.spread_over(tx)))
