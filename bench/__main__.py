"""`make bench`: a cluster of its own, all workloads beside their references, a table, a file of results, plots.

    python -m bench [WORKLOAD…] [--rounds N] [--quick] [--dir DIR] [--no-plots]

The cluster is `dfs mini` with its defaults: one namenode, three datanodes, each its own process, every receipt after
its fsync. It differs in how soon removed files leave the disk: at once, or a run would need a hundred gigabytes.
Peers that are found running are measured by the same clients (`peers.found`).
"""

import argparse
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from bench import nginx, peers
from bench.references import disk_target, references
from dfs.bench import procfs, report
from dfs.bench.goals import GOALS
from dfs.bench.lab import Scale
from dfs.bench.samples import Sample, rows
from dfs.bench.session import chosen, measure
from dfs.bench.workloads import WORKLOADS
from dfs.client import Client, connect
from dfs.mini import Mini, Plan
from dfs.protocol.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_SOME_FAILED, DfsError

HERE = os.path.dirname(os.path.abspath(__file__))
RESULTS = os.path.join(HERE, "results")
DATANODES = 3
SETTINGS = {
    "read_grace_s": 1,
    "trash_age_s": 0,
    "heartbeat_interval_s": 1,
    "delete_share_per_hour": 1.0,
    "delete_burst_chunks": 1_000_000,
}
"""Removed files leave the disk at once; the command to do so comes with the answer to a heartbeat."""
COLLECT_TIMEOUT_S = 60.0
_STILL_S = 3.0
"""Three heartbeats: nothing that was told to go is left if the used space did not shrink for so long."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"of {', '.join(WORKLOADS)}; all if none")
    parser.add_argument("--rounds", type=int, default=None, help="3, and 1 with --quick, if not given")
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--dir", default=None, help="where the cluster's data goes; its disk is what is measured")
    parser.add_argument("--no-plots", action="store_true")
    options = parser.parse_args()
    # Whatever ends it, nothing is left behind: servers, gigabytes.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    try:
        workloads = chosen(options.workloads, default=list(WORKLOADS))
        with ExitStack() as running:
            directory = running.enter_context(_room(options.dir or HERE))
            mini, fs = running.enter_context(_cluster(os.path.join(directory, "cluster")))
            web = running.enter_context(nginx.server(os.path.join(directory, "nginx")))
            disk = os.path.join(directory, "disk")
            os.mkdir(disk)
            facts, results = measure(
                mini.namenode.url,
                workloads,
                rounds=options.rounds or (1 if options.quick else 3),
                scale=Scale.quick() if options.quick else Scale(),
                tell=_tell(time.monotonic()),
                references=references(web),
                peers=[disk_target(disk), *([web.target] if web is not None else []), *peers.found(os.environ)],
                servers=web.roles if web is not None else {},
                disk_path=directory,
                evict=lambda: procfs.evict([mini.directory]),
                collected=lambda: _collect(fs),
                local_parent=directory,
                environ={**os.environ, "PYTHONPATH": os.path.dirname(HERE)},
            )
    except DfsError as error:
        sys.stderr.write(f"bench: {error.message}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    facts |= {"nginx": web.version if web is not None else "not installed: no figures of it", "quick": options.quick}
    found = rows(results.samples)
    goals = () if options.quick else GOALS
    sys.stdout.write("\n".join([*report.heading(facts), *report.lines(found, goals, results.failures)]) + "\n")
    _write(report.document(facts, found, goals, results.failures), plots=not options.no_plots)
    if results.interrupted:
        return EXIT_INTERRUPTED
    return EXIT_SOME_FAILED if results.failures else EXIT_OK


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _write(document: dict[str, object], *, plots: bool) -> None:
    """The results of this run, beside those of earlier ones."""
    os.makedirs(RESULTS, exist_ok=True)
    stem = os.path.join(RESULTS, time.strftime("%Y-%m-%d-%H%M%S"))
    with open(f"{stem}.json", "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")
    sys.stdout.write(f"\nWritten: {os.path.relpath(stem)}.json\n")
    if not plots:
        return
    try:
        from bench.plots import draw
    except ModuleNotFoundError as error:
        sys.stdout.write(f"No plots: {error.name} is not installed (pip install 'dfs[bench]')\n")
        return
    for path in draw(document, stem):
        sys.stdout.write(f"Written: {os.path.relpath(path)}\n")


def _tell(began: float) -> Callable[[Sample], None]:
    def tell(sample: Sample) -> None:
        figure = sample.figure
        said = f"{figure.workload}: {figure.case}, {figure.subject}: {report.number(sample.value)} {figure.unit}"
        cpu = sample.cpu_per_work
        if cpu is not None:
            said += f", {report.number(cpu)} CPU s"
        sys.stderr.write(f"{time.monotonic() - began:6.0f} s  {said}  {sample.note}\n")

    return tell


@contextmanager
def _room(parent: str) -> Iterator[str]:
    directory = tempfile.mkdtemp(prefix="run-", dir=parent)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _cluster(directory: str) -> Iterator[tuple[Mini, Client]]:
    """A cluster that runs, and a client of it."""
    mini = Mini(Plan(directory, port=0, datanodes=DATANODES, settings=SETTINGS))
    try:
        mini.start()
        with connect(mini.namenode.url) as fs:
            yield mini, fs
    finally:
        mini.stop()


def _collect(fs: Client) -> None:
    """Wait until what was removed is off the disks, so that its removal is in nobody's figures. Not for ever."""
    deadline = time.monotonic() + COLLECT_TIMEOUT_S
    least, since = math.inf, 0.0
    while (now := time.monotonic()) < deadline:
        fs.collect_garbage()
        status = fs.status()
        used = sum(node.used_bytes for node in status.datanodes)
        if status.waiting_for_deletion or used < least:
            least, since = used, now
        elif now - since >= _STILL_S:
            # What is left is no removed file: packs of which something lives, backups of the namenode.
            return
        time.sleep(0.3)


if __name__ == "__main__":
    sys.exit(main())
