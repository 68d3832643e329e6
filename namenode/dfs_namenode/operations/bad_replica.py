"""bad_replica: a reader says that a replica is bad. Clients can lie and networks flip bits, so the datanode is asked
to read it whole; only its own verdict changes anything (F40)."""

from dfs.protocol.messages import BadReplica, CheckReplica, Empty
from dfs_namenode.commands import Outbox
from dfs_namenode.liveness import ClusterView
from dfs_namenode.store import garbage, replicas
from dfs_namenode.store.transaction import Snapshot


def bad_replica(request: BadReplica, *, snapshot: Snapshot, cluster: ClusterView, outbox: Outbox) -> Empty:
    """Have the replica checked, if the store has such a one. Repeatable: one check at a time."""
    node = cluster.datanodes.get(request.datanode)
    if node is None:
        return Empty()
    row = replicas.one(snapshot, request.chunk, node.num)
    known = garbage.known_chunk(snapshot, request.chunk)
    if row is not None and row.good and known is not None and known.state == "live":
        outbox.check(node.id, CheckReplica(chunk=request.chunk, length=known.length, digest=known.digest))
    return Empty()
