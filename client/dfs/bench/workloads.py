"""The workloads by name, in the order in which they are run. One table, for the command, the runner and the tests."""

from dfs.bench import metadata, transfers
from dfs.bench.lab import Workload

WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload("big", "One big file, in and out", transfers.big),
        Workload("parallel", "Four big files at once", transfers.parallel),
        Workload("tree", "A tree of 4 KiB files, by the command", transfers.tree),
        Workload("small", "4 KiB files one by one", transfers.small),
        Workload("ranges", "4 KiB ranges, page cache warm", transfers.ranges),
        Workload("names", "Names: no bytes", metadata.names),
        Workload("commits", "Many files in each commit", metadata.commits),
        Workload("listing", "A directory with very many entries", metadata.listing),
        Workload("namespace", "What a big namespace costs; a namenode of its own", metadata.namespace),
        Workload("start", "The command", metadata.start),
    )
}
ALONE = ("namespace",)
"""Those that need the servers' packages here, and no cluster."""
