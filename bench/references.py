"""The limits of this machine, measured in the same rounds: its disk, its page cache, its file system, its network.

What another store does with the same clients is in `peers` and `nginx`; here are the tools that everybody has.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from functools import partial

from bench.nginx import Nginx
from dfs.bench import procfs
from dfs.bench.lab import Chain, Lab
from dfs.bench.metadata import listing_figure, start_figure
from dfs.bench.runner import References
from dfs.bench.samples import GIB, Figure, Sample
from dfs.bench.stores import META, RANGE, SMALL, Target
from dfs.bench.transfers import compare_tree, local_tree, tree_figure

COPIES = 3


def references(web: Nginx | None) -> References:
    """By workload. Clients of a file system are a target like any other; what is compared by a command is here."""
    return {
        "big": lambda _: [_dd, _dd_together, _dd_direct, _page_cache, *([_curl(web)] if web is not None else [])],
        "tree": lambda _: [_cp],
        "listing": lambda _: [_scandir],
        "start": lambda _: [_imports],
    }


def disk_target(directory: str) -> Target:
    """The file system below everything, by the same clients, each file synced before it counts."""
    return Target(
        subject="disk + fsync",
        factory="bench.peers:DiskStore",
        options={"top": directory},
        features=(SMALL, RANGE, META),
        root="/bench",
    )


def _figure(case: str, subject: str) -> Figure:
    return Figure("big", case, subject, unit="GiB/s", per="GiB")


def _run(lab: Lab, figure: Figure, commands: Sequence[Sequence[str]], gib: float) -> Sample:
    """Commands at the same time, as one sample of GiB/s."""
    with lab.meter.measure(figure.subject) as measured:
        seconds = lab.meter.run_together(commands)
    return Sample(figure, gib / seconds, seconds, work=gib, cost=measured.cost)


def _dd_command(lab: Lab, path: str, *more: str) -> list[str]:
    return ["dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={lab.scale.big_bytes >> 20}", "conv=fsync", *more]


def _dd(lab: Lab) -> Iterator[Sample]:
    path = lab.local("dd")
    lab.touch_memory(lab.scale.big_bytes)
    yield _run(lab, _figure("write + fsync", "dd"), [_dd_command(lab, path)], lab.scale.big_bytes / GIB)
    os.unlink(path)


def _dd_together(lab: Lab) -> Iterator[Sample]:
    """As many bytes reach the disk as with three copies; the rate counts them once, as a store's does."""
    paths = [lab.local(f"dd{number}") for number in range(COPIES)]
    commands = [_dd_command(lab, path) for path in paths]
    lab.touch_memory(COPIES * lab.scale.big_bytes)
    yield _run(lab, _figure("three at once, write + fsync", "dd"), commands, lab.scale.big_bytes / GIB)
    for path in paths:
        os.unlink(path)


def _dd_direct(lab: Lab) -> Iterator[Sample]:
    path = lab.local("dd")
    command = _dd_command(lab, path, "oflag=direct")
    yield _run(lab, _figure("write + fsync, O_DIRECT", "dd"), [command], lab.scale.big_bytes / GIB)
    os.unlink(path)
    paths = [lab.local(f"dd{number}") for number in range(COPIES)]
    commands = [_dd_command(lab, path, "oflag=direct") for path in paths]
    yield _run(lab, _figure("three at once, write + fsync, O_DIRECT", "dd"), commands, lab.scale.big_bytes / GIB)
    for path in paths:
        os.unlink(path)


def _page_cache(lab: Lab) -> Iterator[Sample]:
    source, gib = lab.source(lab.scale.big_bytes), lab.scale.big_bytes / GIB
    read = ["dd", f"if={source}", "of=/dev/null", "bs=1M"]
    yield _run(lab, _figure("read, warm", "dd"), [read], gib)
    procfs.evict([source])
    yield _run(lab, _figure("read, cold", "dd"), [read], gib)
    copy = lab.local("copy")
    lab.source(lab.scale.big_bytes)
    lab.touch_memory(lab.scale.big_bytes)
    yield _run(lab, _figure("copy + fsync", "cp"), [["sh", "-c", f"cp '{source}' '{copy}' && sync '{copy}'"]], gib)
    os.unlink(copy)


def _curl(web: Nginx) -> Chain:
    """curl from nginx with sendfile, thrown away, and into a file; curl into nginx."""

    def chain(lab: Lab) -> Iterator[Sample]:
        source, gib = lab.source(lab.scale.big_bytes), lab.scale.big_bytes / GIB
        url, output = f"{web.url}/curl.bin", lab.local("curl-output")
        put = ["curl", "-sfS", "-T", source, url]
        lab.touch_memory(lab.scale.big_bytes)
        yield _run(lab, _figure("put, no fsync", "nginx + curl"), [put], gib)
        get = ["curl", "-sfS", "-o", "/dev/null", url]
        lab.meter.run(get)
        yield _run(lab, _figure("get > /dev/null, warm", "nginx + curl"), [get], gib)
        lab.touch_memory(lab.scale.big_bytes)
        yield _run(lab, _figure("get to a file, warm", "nginx + curl"), [["curl", "-sfS", "-o", output, url]], gib)
        os.unlink(output)
        lab.meter.run(["curl", "-sfS", "-X", "DELETE", url])

    return chain


def _cp(lab: Lab) -> Iterator[Sample]:
    top = local_tree(lab)
    work = lab.scale.tree_files / 1000
    for case, then in (("cp -r, then sync", " && sync -f '{copy}'"), ("cp -r", "")):
        copy = lab.fresh_local("cp-output")
        command = f"cp -r '{top}' '{copy}'" + then.format(copy=copy)
        lab.keep(partial(shutil.rmtree, copy))
        figure = tree_figure(case, "cp")
        with lab.meter.measure(figure.subject) as measured:
            seconds = lab.meter.run(["sh", "-c", command])
        compare_tree(copy, lab.scale.tree_files)
        yield Sample(figure, work * 1000 / seconds, seconds, work=work, cost=measured.cost)


def _scandir(lab: Lab) -> Iterator[Sample]:
    """What `ls -l` costs on a local file system that has it all in memory."""
    directory, count = lab.local("many"), lab.scale.listed_files
    if not os.path.exists(directory):
        os.mkdir(directory)
        for number in range(count):
            os.close(os.open(os.path.join(directory, f"f{number:06}"), os.O_CREAT | os.O_WRONLY))
    figure = listing_figure(count, "ls -l, local")
    with lab.meter.measure(figure.subject) as measured:
        seconds = lab.meter.run(["ls", "-l", "--numeric-uid-gid", directory])
    yield Sample(figure, seconds, seconds, work=count / 1000, cost=measured.cost)


def _imports(lab: Lab) -> Iterator[Sample]:
    """The least that a command with an HTTP client in Python needs."""
    figure = start_figure("import click, http.client, json", "python")
    for _ in range(lab.scale.starts):
        with lab.meter.measure(figure.subject) as measured:
            seconds = lab.meter.run([sys.executable, "-c", "import click, http.client, json"])
        yield Sample(figure, seconds, seconds, work=1, cost=measured.cost)
