"""The command to pull a chunk, with leave to read it from its sources. Shared by repair and balance."""

from dfs.protocol.capability import sign_capability
from dfs.protocol.messages import Replicate, Target
from dfs_namenode.keys import NodeKeys
from dfs_namenode.liveness import ClusterView
from dfs_namenode.repair import Pull

PRINCIPAL = "repair"


def pull_command(pull: Pull, cluster: ClusterView, keys: NodeKeys, *, expires_ms: int) -> Replicate:
    """What the target is told."""
    capability = sign_capability(
        keys.chain(list(pull.sources)),
        operation="r",
        chunk=pull.chunk,
        start=0,
        end=pull.length,
        expires_ms=expires_ms,
        principal=PRINCIPAL,
    )
    return Replicate(
        chunk=pull.chunk,
        length=pull.length,
        digest=pull.digest,
        sources=[Target(name, cluster.peer_url(name)) for name in pull.sources],
        capability=capability,
    )
