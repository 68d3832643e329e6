"""set_datanode_state: an operator takes a datanode out of service, or back into it.

It only decides: the copies of what is being drained are made by the repair duty, and its end is found by the drain
duty. A datanode becomes decommissioned only through that.
"""

from dfs.protocol.errors import Conflict, InvalidRequest
from dfs.protocol.messages import AdminState, DatanodeStateSet, SetDatanodeState
from dfs_namenode.liveness import Liveness
from dfs_namenode.store import datanodes
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.transaction import Transaction


async def set_datanode_state(
    request: SetDatanodeState, *, store: SqliteStore, liveness: Liveness, now_ms: int
) -> DatanodeStateSet:
    """Keep the decision. Repeatable.

    Raises   InvalidRequest: there is no such datanode, or the maintenance would be over already;
             Conflict: none would be left in service
    """
    if request.state == "maintenance" and request.until_ms <= now_ms:
        raise InvalidRequest("a maintenance needs an end that is to come: set until_ms, in the namenode's time")
    until_ms = request.until_ms if request.state == "maintenance" else 0

    def decide(tx: Transaction) -> AdminState:
        everyone = datanodes.everyone(tx)
        found = next((node for node in everyone if node.id == request.datanode), None)
        if found is None:
            known = ", ".join(node.id for node in everyone) or "none"
            raise InvalidRequest(f"there is no datanode {request.datanode}; known are: {known}")
        others = [node for node in everyone if node.id != found.id and node.admin_state == "in_service"]
        if request.state != "in_service" and not others:
            raise Conflict(f"{found.id} is the last datanode in service; add another one, or take one back, first")
        if request.state == "draining" and found.admin_state == "decommissioned":
            return found.admin_state
        datanodes.set_admin_state(tx, found.id, request.state, until_ms=until_ms)
        return request.state

    state = await store.write(decide)
    liveness.decided(request.datanode, state, until_ms=until_ms)
    return DatanodeStateSet(datanode=request.datanode, state=state, until_ms=until_ms)
