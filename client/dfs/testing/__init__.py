"""A real cluster for tests, and everything that can happen to one.

    with dfs.testing.cluster(datanodes=3) as c:
        c.connect().write_bytes("/a", b"…")
        c.datanodes[0].kill()

    clusters          the servers as processes, on free ports: kill, stop, restart, flip a bit
    proxy             a network that delays, loses, doubles, cuts and damages what goes over it
    disks, power      small disks that fill up, turn read-only or vanish; one whose power can be cut
    syscalls          a system call of a running server that fails, or is its last one
    clocks            servers that live in another time
    linearizability   did a history of concurrent operations happen in some order at all? `files_model`: for files

Names are imported when they are first used: a test that wants a cluster pays for nothing else, and nothing here needs
pytest. Where a tool needs root or a program that is missing, it raises `Impossible`, whose text is the reason to skip.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfs.testing.clusters import Cluster as Cluster
    from dfs.testing.clusters import Datanode as Datanode
    from dfs.testing.clusters import Node as Node
    from dfs.testing.clusters import cluster as cluster
    from dfs.testing.disks import SmallDisk as SmallDisk
    from dfs.testing.impossible import Impossible as Impossible
    from dfs.testing.linearizability import check as check
    from dfs.testing.power import PowerDisk as PowerDisk
    from dfs.testing.proxy import Proxy as Proxy

_HOMES = {
    "Cluster": "clusters",
    "Datanode": "clusters",
    "Impossible": "impossible",
    "Node": "clusters",
    "PowerDisk": "power",
    "Proxy": "proxy",
    "SmallDisk": "disks",
    "check": "linearizability",
    "cluster": "clusters",
}
__all__ = [
    "Cluster",
    "Datanode",
    "Impossible",
    "Node",
    "PowerDisk",
    "Proxy",
    "SmallDisk",
    "check",
    "cluster",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dfs.testing' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"dfs.testing.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
