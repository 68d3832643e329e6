"""One run of the workloads against a cluster, in a directory that is removed afterwards.

Separate from the command, which only reads arguments, and shared with the checkout's `bench/`, which adds references.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dfs.bench import machine, procfs
from dfs.bench.crew import Crew
from dfs.bench.lab import Lab, Scale, Workload
from dfs.bench.meter import Meter, servers_here
from dfs.bench.runner import References, Results, run
from dfs.bench.samples import Sample
from dfs.bench.stores import Target
from dfs.bench.workloads import ALONE, WORKLOADS
from dfs.cli.show import human_size
from dfs.connecting import connect
from dfs.protocol.errors import InvalidRequest, NoSpace
from dfs.protocol.ids import new_id
from dfs.protocol.messages import DatanodeStatus

_ROOM_FACTOR = 24
"""Of the big file: what a round stores on all datanodes together, if they share one disk."""
_OF_BIG_FILES = ("big", "parallel", "ranges")


def chosen(names: Sequence[str], *, default: Sequence[str] = ()) -> list[Workload]:
    """The workloads of these names, in their own order; all but those that need no cluster if there are none.

    Raises  InvalidRequest: there is none of that name
    """
    for name in names:
        if name not in WORKLOADS:
            raise InvalidRequest(f"there is no workload {name!r}; there are {', '.join(WORKLOADS)}")
    wanted = names or default or [name for name in WORKLOADS if name not in ALONE]
    return [workload for name, workload in WORKLOADS.items() if name in wanted]


@contextmanager
def scratch(url: str) -> Iterator[str]:
    """A directory of the namespace that is nobody else's, removed at the end."""
    with connect(url) as fs:
        root = f"/.bench-{new_id(0, os.urandom)[-12:]}"
        fs.mkdir(root)
        try:
            yield root
        finally:
            fs.remove(root, recursive=True, missing_ok=True)


def replications(datanodes: int) -> list[int]:
    """How many copies are tried: one, and three, as far as there are datanodes."""
    return sorted({1, min(3, datanodes)})


def measure(
    url: str,
    workloads: Sequence[Workload],
    *,
    rounds: int,
    scale: Scale,
    tell: Callable[[Sample], None],
    references: References | None = None,
    peers: Sequence[Target] = (),
    servers: Mapping[int, str] | None = None,
    disk_path: str | None = None,
    evict: Callable[[], None] | None = None,
    collected: Callable[[], None] | None = None,
    local_parent: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[dict[str, Any], Results]:
    """Measure the cluster at `url`: the facts, and what came of it. Arguments as for `Lab`.

    servers    pids of peers' servers, with their roles
    disk_path  on the cluster's disk, if that is known
    """
    with connect(url) as fs:
        status = fs.status()
    nodes = [node for node in status.datanodes if node.state == "live"]
    # What is removed stays on the disks until its grace is over, unless somebody waits for that.
    rounds_held = rounds if collected is None else 1
    if any(workload.name in _OF_BIG_FILES for workload in workloads):
        _require_room(nodes, rounds_held * _ROOM_FACTOR * scale.big_bytes)
    ours = servers_here({"namenode": url.split(","), "datanode": [node.url for node in nodes]})
    whole = len(ours) == len(nodes) + len(url.split(","))
    with scratch(url) as root, tempfile.TemporaryDirectory(prefix="dfs-bench-", dir=local_parent) as local_dir:
        targets = [
            Target(case=f"R = {copies}", options={"url": url, "replication": copies}, root=root)
            for copies in replications(len(nodes))
        ]
        if evict is None and whole and procfs.can_drop_caches():
            evict = procfs.drop_caches
        facts = machine.describe(local_dir) | machine.describe_cluster(status)
        facts["rounds"] = rounds
        facts["cpu_counts"] = "clients and all servers" if whole else "clients, and the servers on this machine"
        facts["cold_reads"] = "measured" if evict is not None else "not measured: the page cache can't be dropped here"
        with Crew(environ) as crew:
            lab = Lab(
                targets=[*targets, *peers],
                crew=crew,
                meter=Meter({**ours, **(servers or {})}, disk_path=disk_path),
                local_dir=local_dir,
                scale=scale,
                command=[sys.executable, "-m", "dfs.cli", "--namenode", url],
                evict=evict,
                collected=collected or _leave,
                ours_synced=status.durability == "sync",
            )
            for target in peers:
                target.make_directory(target.root)
            results = run(lab, workloads, rounds=rounds, references=references or {}, tell=tell)
    return facts, results


def _leave() -> None:
    """Removed files are the cluster's business."""


def _require_room(nodes: Sequence[DatanodeStatus], needed: int) -> None:
    free = min((node.free_bytes for node in nodes), default=0)
    if free < needed:
        raise NoSpace(
            f"a datanode has only {human_size(free)} free, and {human_size(needed)} may be needed until the grace of "
            "what was removed is over: make room, or measure less with --quick or fewer --rounds"
        )
