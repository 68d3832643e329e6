"""What a figure is worth nothing without: the machine, the versions, and how durable the cluster is."""

import os
import platform
import time
from typing import Any

from dfs import __version__
from dfs.bench import procfs
from dfs.protocol.messages import Status


def describe(local_dir: str) -> dict[str, Any]:
    """This machine, as keys with values for people."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "machine": f"{os.cpu_count()} × {procfs.processor_name()}",
        "memory_bytes": procfs.total_memory_bytes(),
        "kernel": f"{platform.system()} {platform.release()}",
        "disk": procfs.file_system_of(local_dir),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "dfs": __version__,
    }


def describe_cluster(status: Status) -> dict[str, Any]:
    """The cluster that is measured."""
    return {
        "datanodes": len(status.datanodes),
        "replication": status.replication,
        "durability": status.durability,
        "namenode_version": status.version,
    }
