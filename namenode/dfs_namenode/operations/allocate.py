"""allocate: give a writer its next chunks, and the datanodes to send them to.

Its own module because it alone joins liveness, placement and capabilities. It stores nothing: a grant that is never
used leaves nothing behind.
"""

from collections.abc import Callable
from random import Random

from dfs.protocol.capability import sign_capability
from dfs.protocol.chunk_format import file_size
from dfs.protocol.errors import NoSpace, NotEnoughDatanodes
from dfs.protocol.hints import HINTS_MAX
from dfs.protocol.ids import new_id
from dfs.protocol.messages import Allocate, Grant, Grants, Target
from dfs_namenode.keys import NodeKeys
from dfs_namenode.liveness import ClusterView, Reservations
from dfs_namenode.placement import Candidate, choose_targets


def allocate(
    request: Allocate,
    *,
    principal: str,
    cluster: ClusterView,
    reservations: Reservations,
    keys: NodeKeys,
    now_ms: int,
    ttl_ms: int,
    rng: Random,
    random_bytes: Callable[[int], bytes],
) -> Grants:
    """Mint `request.count` chunk ids with their chains. Repeatable: a second call gives other, equally good grants.

    now_ms   the namenode's time: it becomes part of the ids, and begins the capabilities' lives
    Raises   NotEnoughDatanodes: fewer live than a commit will ask receipts of; NoSpace: enough live, but they are full
    """
    write_min = cluster.write_min(request.replication)
    wanted = cluster.copies_wanted(request.replication)
    size = file_size(request.length, HINTS_MAX)
    grants = []
    for _ in range(request.count):
        chain = _choose_chain(request, size, wanted, write_min, cluster, reservations, rng)
        chunk = new_id(now_ms, random_bytes)
        capability = sign_capability(
            keys.chain([target.id for target in chain]),
            operation="w",
            chunk=chunk,
            start=0,
            end=request.length,
            expires_ms=now_ms + ttl_ms,
            principal=principal,
        )
        for target in chain:
            reservations.add(target.id, size)
        targets = [Target(target.id, cluster.client_url(target.id)) for target in chain]
        grants.append(Grant(chunk=chunk, chain=targets, capability=capability))
    return Grants(grants=grants, write_min=write_min)


def _choose_chain(
    request: Allocate,
    size: int,
    wanted: int,
    write_min: int,
    cluster: ClusterView,
    reservations: Reservations,
    rng: Random,
) -> list[Candidate]:
    candidates = cluster.candidates(exclude=request.exclude, reserved=reservations.by_datanode())
    roomy = [c for c in candidates if min(c.free_bytes, c.largest_bytes) >= size]
    if len(roomy) < write_min:
        raise _shortage(request, write_min, cluster)
    return choose_targets(
        roomy,
        copies=min(wanted, len(roomy)),
        bytes_needed=size,
        writer_id=request.writer,
        rng=rng,
    )


def _shortage(request: Allocate, write_min: int, cluster: ClusterView) -> NotEnoughDatanodes | NoSpace:
    live = [node for node in cluster.live() if node.admin_state == "in_service" and node.id not in request.exclude]
    if len(live) >= write_min:
        return NoSpace(
            f"no room: {request.length} bytes must fit on {write_min} of {len(live)} live datanodes, and do not; "
            "remove files, wait until their space is back, or add a datanode",
            needed=write_min,
        )
    excluded = f", {len(request.exclude)} of them excluded by the writer" if request.exclude else ""
    return NotEnoughDatanodes(
        f"a new chunk needs {write_min} live datanodes; {len(live)} of {len(cluster.datanodes)} are there{excluded}; "
        "start them or wait",
        needed=write_min,
        found=len(live),
    )
