"""forget_datanode: an operator says that a datanode will not come back. The rule is here, the work in `departure`."""

import asyncio

from dfs.protocol.errors import Conflict, InvalidRequest
from dfs.protocol.messages import ForgetDatanode, Forgotten
from dfs_namenode.departure import forget_datanode as take_out
from dfs_namenode.liveness import Liveness
from dfs_namenode.store.sqlite import SqliteStore


async def forget_datanode(request: ForgetDatanode, *, store: SqliteStore, liveness: Liveness) -> Forgotten:
    """Take it out of the cluster, with its replicas. Not repeatable: the second time there is no such datanode.

    Raises   InvalidRequest: there is no such datanode;
             Conflict: it may still have what others do not, or it runs and would only join anew
    """
    node = liveness.view().datanodes.get(request.datanode)
    if node is None:
        raise InvalidRequest(f"there is no datanode {request.datanode}")
    if node.state == "live":
        raise Conflict(f"{node.id} is running; stop it first, or it would join again at once")
    if node.state != "dead" and node.admin_state != "decommissioned":
        raise Conflict(f"{node.id} is neither dead nor decommissioned; drain it first, or wait until it is dead")
    departed = await asyncio.to_thread(take_out, store, node.id)
    liveness.departed(node.id)
    return Forgotten(replicas=departed.replicas, last_ones=departed.last_ones)
