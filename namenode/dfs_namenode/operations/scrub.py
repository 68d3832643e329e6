"""scrub: have datanodes read and verify all that they have, beginning now instead of at their own pace."""

from dfs.protocol.errors import InvalidRequest
from dfs.protocol.messages import Empty, ScrubDatanodes
from dfs_namenode.commands import Outbox
from dfs_namenode.liveness import ClusterView


def scrub(request: ScrubDatanodes, *, cluster: ClusterView, outbox: Outbox) -> Empty:
    """Tell them with their next heartbeats. Repeatable. Raises InvalidRequest: one of them is not known."""
    unknown = [name for name in request.datanodes if name not in cluster.datanodes]
    if unknown:
        known = ", ".join(sorted(cluster.datanodes)) or "none"
        raise InvalidRequest(f"there is no datanode {unknown[0]}; known are: {known}")
    for name in request.datanodes or [node.id for node in cluster.live()]:
        outbox.scrub(name)
    return Empty()
