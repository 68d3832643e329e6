"""cluster: what a client asks once. Who this cluster is, its time, and its defaults."""

from dfs.protocol import PROTOCOL_VERSION
from dfs.protocol.messages import ClusterFacts
from dfs_namenode.liveness import ClusterView
from dfs_namenode.settings import NamenodeSettings

GATEWAYS_MAX = 64
"""Addresses in one answer; any of them serves any path."""


def cluster_facts(
    *, cluster_id: str, version: str, time_ms: int, settings: NamenodeSettings, cluster: ClusterView
) -> ClusterFacts:
    """The facts now."""
    return ClusterFacts(
        cluster=cluster_id,
        version=version,
        protocol=PROTOCOL_VERSION,
        time_ms=time_ms,
        replication=settings.replication,
        chunk_size_bytes=settings.chunk_size_bytes,
        pack_limit_bytes=settings.pack_limit_bytes,
        chunk_commit_window_s=settings.chunk_commit_window_s,
        gateway_urls=[node.client_url for node in cluster.live()[:GATEWAYS_MAX]],
    )
