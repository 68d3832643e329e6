"""The workloads of names: create, stat, rename, remove, lists, commits of many, and what a big namespace costs.

No byte of a file moves in any of them. Separate from `transfers` because what they need differs: these take no disk
but the namenode's, and a namespace of a million files has a namenode of its own, on a store that was generated.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dfs.bench import procfs
from dfs.bench.lab import Chain, Lab
from dfs.bench.meter import Meter
from dfs.bench.samples import LOWER, OURS, Figure, Sample
from dfs.bench.stores import MANY, META, Target
from dfs.bench.transfers import case, clients_text
from dfs.processes import ServerProcess, stop_all

GROUP = 1000
"""Files in one commit, where commits are of many."""
SHORT_LIST = 100
_START_TIMEOUT_S = 120.0


def _figure(workload: str, name: str, target: Target) -> Figure:
    return Figure(workload, name, target.subject)


def names(lab: Lab) -> Sequence[Chain]:
    """Create, stat, list, rename, remove, by one client and by many."""
    # How many copies a byte has is nothing to a name: one target of each subject.
    subjects = {target.subject: target for target in lab.having(META)}
    return [_with(target, count, _names) for target in subjects.values() for count in lab.scale.clients]


def _with(target: Target, clients: int, chain: Callable[[Lab, Target, int], Iterator[Sample]]) -> Chain:
    return lambda lab: chain(lab, target, clients)


def _names(lab: Lab, target: Target, clients: int) -> Iterator[Sample]:
    top, seconds, text = lab.fresh(target), lab.scale.seconds, clients_text(clients)
    store = target.store()
    store.mkdir(top)
    directories = [f"{top}/c{number:02}" for number in range(clients)]
    each = [{"directory": directory, "seconds": seconds, "most": 1 << 20} for directory in directories]
    sample, made = lab.clients(_figure("names", f"create, {text}", target), target, "create", each)
    yield sample
    there = list(zip(directories, made.counts, strict=True))
    each = [{"directory": directory, "count": count, "seconds": seconds} for directory, count in there]
    sample, _ = lab.clients(_figure("names", f"stat, {text}", target), target, "stat", each)
    yield sample
    each = [{"directory": directory, "count": count // 2, "seconds": seconds} for directory, count in there]
    sample, _ = lab.clients(_figure("names", f"rename, {text}", target), target, "rename", each)
    yield sample
    each = [
        {"directory": directory, "first": count // 2, "count": count - count // 2, "seconds": seconds}
        for directory, count in there
    ]
    sample, _ = lab.clients(_figure("names", f"delete, {text}", target), target, "remove", each)
    yield sample
    listed = f"{top}/list"
    lab.crew.work("make_files", target, [{"directory": listed, "count": SHORT_LIST}])
    each = [{"directory": listed, "count": SHORT_LIST, "seconds": seconds, "most": 1 << 20}] * clients
    sample, _ = lab.clients(_figure("names", f"list of {SHORT_LIST}, {text}", target), target, "list_directory", each)
    yield sample
    store.remove_tree(top)
    store.close()


def commits(lab: Lab) -> Sequence[Chain]:
    """A thousand files in each commit: names alone, and files of 4 KiB in transactions."""
    return [_with(target, count, _commits) for target in lab.having(MANY) for count in lab.scale.clients]


def _commits(lab: Lab, target: Target, clients: int) -> Iterator[Sample]:
    top, text = lab.fresh(target), clients_text(clients)
    store = target.store()
    store.mkdir(top)
    for task, title in (("commit_many", "empty files"), ("put_many", "files of 4 KiB")):
        each = [
            {"directory": f"{top}/{task}{number:02}", "group": GROUP, "seconds": lab.scale.seconds, "most": 1 << 20}
            for number in range(clients)
        ]
        figure = Figure("commits", case(target, f"{title}, {GROUP} a commit", text), target.subject, unit="files/s")
        sample, _ = lab.clients(figure, target, task, each)
        yield sample
    store.remove_tree(top)
    store.close()
    lab.collected()


def listing(lab: Lab) -> Sequence[Chain]:
    """One directory with very many entries."""
    subjects = {target.subject: target for target in lab.having(MANY)}
    return [lambda lab, target=target: _listing(lab, target) for target in subjects.values()]  # type: ignore[misc]


def listing_figure(count: int, subject: str) -> Figure:
    """The seconds that a list takes."""
    case_name = f"list of {count:,} with attributes"
    return Figure("listing", case_name, subject, unit="s", better=LOWER, per="1000 entries")


def _listing(lab: Lab, target: Target) -> Iterator[Sample]:
    directory, count = lab.fresh(target), lab.scale.listed_files
    lab.crew.work("make_files", target, [{"directory": directory, "count": count}])
    figure = listing_figure(count, target.subject)
    go = lab.crew.ready("list_directory", target, [{"directory": directory, "count": count, "seconds": 60, "most": 1}])
    with lab.meter.measure(target.subject) as measured:
        done = go()
    yield Sample(figure, done.seconds, done.seconds, work=count / 1000, cost=measured.cost)
    store = target.store()
    store.remove_tree(directory)
    store.close()


# --- namespaces of many files -------------------------------------------------------------------------------------


def namespace(lab: Lab) -> Sequence[Chain]:
    """What it costs a namenode to know many files: start, memory, bytes on disk, and each operation."""
    return [lambda lab, files=files: _namespace(lab, files) for files in lab.scale.namespaces]  # type: ignore[misc]


def _namespace(lab: Lab, files: int) -> Iterator[Sample]:
    directory = lab.local(f"namespace-{files}")
    new = not os.path.exists(directory)
    if new:
        lab.meter.run([sys.executable, "-m", "dfs_namenode.store.generate", directory, "--files", str(files)])
    size = f"{files:,} files"
    if new:
        # Before anything else was done with it: what is generated is a store after packs were committed.
        figure = Figure("namespace", f"bytes on disk a file, {size}", unit="B", better=LOWER)
        yield Sample(figure, procfs.bytes_on_disk(directory) / files, 0.0)
    procfs.evict([directory])
    with _namenode(directory) as (process, seconds):
        figure = Figure("namespace", f"start, cold, {size}", unit="s", better=LOWER)
        yield Sample(figure, seconds, seconds)
        target = Target(options={"url": process.url}, root="/", features=(META,))
        # The cluster's servers have no part in it.
        bystanders = dict.fromkeys(lab.meter.servers, "bystander")
        there = dataclasses.replace(lab, meter=Meter({**bystanders, process.pid: "namenode"}))
        yield from _operations(there, target, files, size)
        figure = Figure("namespace", f"namenode's memory, {size}", unit="MiB", better=LOWER)
        yield Sample(figure, procfs.peak_memory_bytes(process.pid) / (1 << 20), 0.0)


def _operations(lab: Lab, target: Target, files: int, size: str) -> Iterator[Sample]:
    """Stat all over the namespace; create and rename in a new directory, which is removed."""
    seconds = lab.scale.seconds
    each: dict[str, Any] = {"files": files, "seconds": seconds}
    sample, _ = lab.clients(_figure("namespace", f"stat, {size}", target), target, "stat_generated", [each])
    yield sample
    each = {"directory": "/new", "seconds": seconds, "most": 1 << 20}
    sample, made = lab.clients(_figure("namespace", f"create, {size}", target), target, "create", [each])
    yield sample
    each = {"directory": "/new", "count": made.count, "seconds": seconds}
    sample, _ = lab.clients(_figure("namespace", f"rename, {size}", target), target, "rename", [each])
    yield sample
    store = target.store()
    store.remove_tree("/new")
    store.close()


@contextmanager
def _namenode(directory: str) -> Iterator[tuple[ServerProcess, float]]:
    """A namenode on a store, and the seconds until it served."""
    process = ServerProcess(
        "namenode", ["namenode", "--dir", directory, "--listen", "127.0.0.1:0"], log_path=f"{directory}.log"
    )
    began = time.perf_counter()
    process.start()
    try:
        process.wait_ready(time.monotonic() + _START_TIMEOUT_S)
        yield process, time.perf_counter() - began
    finally:
        stop_all([process])


# --- the command --------------------------------------------------------------------------------------------------


def start(_: Lab) -> Sequence[Chain]:
    """The `dfs` command as a whole process."""
    return [_start]


def start_figure(case_name: str, subject: str) -> Figure:
    """The seconds of a whole process."""
    return Figure("start", case_name, subject, unit="s", better=LOWER, per="run")


def _start(lab: Lab) -> Iterator[Sample]:
    for _ in range(lab.scale.starts):
        for case_name, subject, arguments in (
            ("dfs ls, whole process", OURS, [*lab.command, "ls", "/"]),
            ("-c pass", "python", [sys.executable, "-c", "pass"]),
        ):
            figure = start_figure(case_name, subject)
            with lab.meter.measure(subject) as measured:
                seconds = lab.meter.run(arguments)
            yield Sample(figure, seconds, seconds, work=1, cost=measured.cost)
