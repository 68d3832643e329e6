"""Leave to read a chunk at other datanodes, and the command to pull one. Shared by repair, balance and compaction."""

from collections.abc import Sequence

from dfs.protocol.capability import REPAIR_PRINCIPAL, sign_capability
from dfs.protocol.messages import Replicate, Target
from dfs_namenode.keys import NodeKeys
from dfs_namenode.liveness import ClusterView
from dfs_namenode.repair import Pull


def leave_to_read(chunk: str, length: int, sources: Sequence[str], keys: NodeKeys, *, expires_ms: int) -> str:
    """A capability for all of a chunk at these datanodes."""
    return sign_capability(
        keys.chain(list(sources)),
        operation="r",
        chunk=chunk,
        start=0,
        end=length,
        expires_ms=expires_ms,
        principal=REPAIR_PRINCIPAL,
    )


def targets(datanodes: Sequence[str], cluster: ClusterView) -> list[Target]:
    """Where datanodes reach these datanodes."""
    return [Target(name, cluster.peer_url(name)) for name in datanodes]


def pull_command(pull: Pull, cluster: ClusterView, keys: NodeKeys, *, expires_ms: int) -> Replicate:
    """What the target is told."""
    return Replicate(
        chunk=pull.chunk,
        length=pull.length,
        digest=pull.digest,
        sources=targets(pull.sources, cluster),
        capability=leave_to_read(pull.chunk, pull.length, pull.sources, keys, expires_ms=expires_ms),
    )
