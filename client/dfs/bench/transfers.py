"""The workloads of bytes: big files, several at once, trees of small files, small files one by one, ranges.

What is compared with dfs does the same work through the same clients, as far as it can (`stores.Target.features`).
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from dfs.bench.lab import Chain, Lab
from dfs.bench.samples import GIB, OURS, Figure, Sample
from dfs.bench.stores import BIG, MANY, RANGE, SMALL, Target
from dfs.bench.tasks import content, small_path

AT_ONCE = 4
GROUP = 1000
"""Ranges in one call of read_many."""


def case(target: Target, *parts: str) -> str:
    """The name of a case: "put, R = 3"."""
    return ", ".join(part for part in (*parts, target.case) if part)


def copies(target: Target) -> int:
    """How many times the target stores each byte."""
    return int(target.options.get("replication") or 1)


def clients_text(count: int) -> str:
    return "1 client" if count == 1 else f"{count} clients"


# --- big files ----------------------------------------------------------------------------------------------------


def big(lab: Lab) -> Sequence[Chain]:
    """1 GiB in and out, cold and warm."""
    return [_for(target, _big) for target in lab.having(BIG)] + [
        _for(target, _big_by_command) for target in lab.having(MANY)
    ]


def _for(target: Target, chain: Callable[[Lab, Target], Iterator[Sample]]) -> Chain:
    return lambda lab: chain(lab, target)


def _gib(workload: str, name: str, target: Target) -> Figure:
    return Figure(workload, name, target.subject, unit="GiB/s", per="GiB")


def _big(lab: Lab, target: Target) -> Iterator[Sample]:
    size, gib = lab.scale.big_bytes, lab.scale.big_bytes / GIB
    local, path, output = lab.source(size), lab.fresh(target), lab.local("output")
    durable = size * copies(target) if target.subject == OURS else 0
    figure = _gib("big", case(target, "put"), target)
    lab.touch_memory(size)
    sample, _ = lab.clients(
        figure, target, "put_file", [{"local": local, "path": path}], gib=gib, durable_bytes=durable
    )
    yield sample
    reading = [{"path": path, "size": size}]
    if lab.evict is not None and target.subject == OURS:
        lab.evict()
        sample, _ = lab.clients(_gib("big", case(target, "get, cold"), target), target, "drain", reading, gib=gib)
        yield sample
    # This read is for the page cache, and for the proof that the bytes are right.
    lab.crew.work("verify", target, [{"path": path, "local": local}])
    sample, _ = lab.clients(_gib("big", case(target, "get, warm"), target), target, "drain", reading, gib=gib)
    yield sample
    figure = _gib("big", case(target, "get to a file, warm"), target)
    lab.touch_memory(size)
    sample, _ = lab.clients(figure, target, "get_file", [{"path": path, "local": output}], gib=gib)
    yield sample
    _remove(lab, target, path)
    os.unlink(output)


def _big_by_command(lab: Lab, target: Target) -> Iterator[Sample]:
    """The same by the command, its start included: what a user waits for."""
    size, gib = lab.scale.big_bytes, lab.scale.big_bytes / GIB
    local, path = lab.source(size), lab.fresh(target)
    put = [*lab.command, "put", "-q", "--replication", str(copies(target)), local, path]
    yield _command(lab, _gib("big", case(target, "dfs put"), target), put, gib)
    lab.crew.work("drain", target, [{"path": path, "size": size}])
    get = [*lab.command, "get", "-q", path, "-"]
    yield _command(lab, _gib("big", case(target, "dfs get > /dev/null, warm"), target), get, gib)
    _remove(lab, target, path)


def _command(lab: Lab, figure: Figure, arguments: Sequence[str], work: float) -> Sample:
    """A whole command as a sample: GiB/s or files/s."""
    with lab.meter.measure() as measured:
        seconds = lab.meter.run(arguments)
    value = work / seconds if figure.unit == "GiB/s" else work * 1000 / seconds
    return Sample(figure, value, seconds, work=work, cost=measured.cost)


def _remove(lab: Lab, target: Target, path: str) -> None:
    _remove_tree(target, path)
    if target.subject == OURS:
        lab.collected()


def _remove_tree(target: Target, path: str) -> None:
    store = target.store()
    store.remove_tree(path)
    store.close()


def parallel(lab: Lab) -> Sequence[Chain]:
    """Four big files at once."""
    return [_for(target, _parallel) for target in lab.having(BIG)]


def _parallel(lab: Lab, target: Target) -> Iterator[Sample]:
    size = lab.scale.part_bytes
    gib, directory = AT_ONCE * size / GIB, lab.fresh(target)
    target.make_directory(directory)
    paths = [f"{directory}/big{number}" for number in range(AT_ONCE)]
    locals_ = [lab.source(size, number) for number in range(AT_ONCE)]
    each = [{"local": local, "path": path} for local, path in zip(locals_, paths, strict=True)]
    durable = AT_ONCE * size * copies(target) if target.subject == OURS else 0
    figure = _gib("parallel", case(target, "put"), target)
    sample, _ = lab.clients(figure, target, "put_file", each, gib=gib, durable_bytes=durable)
    yield sample
    lab.crew.work("verify", target, [{"path": one["path"], "local": one["local"]} for one in each])
    reading = [{"path": path, "size": size} for path in paths]
    sample, _ = lab.clients(_gib("parallel", case(target, "get, warm"), target), target, "drain", reading, gib=gib)
    yield sample
    _remove(lab, target, directory)


# --- a tree of small files ----------------------------------------------------------------------------------------


def make_tree(top: str, files: int) -> None:
    """A local tree of `files` files of 4 KiB, a hundred in each directory."""
    for number in range(files):
        directory = os.path.join(top, f"d{number // 100:04}")
        if number % 100 == 0:
            os.makedirs(directory)
        path = small_path(directory, number)
        with open(path, "wb") as file:
            file.write(content(os.path.relpath(path, top)))


def compare_tree(top: str, files: int) -> None:
    """Raise ValueError if a tree is not what `make_tree` makes."""
    for number in range(files):
        name = small_path(f"d{number // 100:04}", number)
        with open(os.path.join(top, name), "rb") as file:
            if file.read() != content(name):
                raise ValueError(f"{name} came back with other bytes")


def tree(lab: Lab) -> Sequence[Chain]:
    """`dfs put -r` and `dfs get -r` of a tree, whole commands with their start."""
    return [_for(target, _tree) for target in lab.having(MANY)]


def local_tree(lab: Lab) -> str:
    """The tree that is stored; made once."""
    top = lab.local("tree")
    if not os.path.exists(top):
        make_tree(top, lab.scale.tree_files)
    return top


def tree_figure(name: str, subject: str = OURS) -> Figure:
    return Figure("tree", name, subject, unit="files/s")


def _tree(lab: Lab, target: Target) -> Iterator[Sample]:
    files, top, path = lab.scale.tree_files, local_tree(lab), lab.fresh(target)
    output = lab.fresh_local("tree-output")
    put = [*lab.command, "put", "-r", "-q", "--replication", str(copies(target)), top, path]
    yield _command(lab, tree_figure(case(target, "dfs put -r")), put, files / 1000)
    yield _command(
        lab, tree_figure(case(target, "dfs get -r")), [*lab.command, "get", "-r", "-q", path, output], files / 1000
    )
    lab.keep(partial(shutil.rmtree, output))
    lab.keep(partial(_remove_tree, target, path))
    compare_tree(output, files)


# --- small files one by one, and ranges ---------------------------------------------------------------------------


def small(lab: Lab) -> Sequence[Chain]:
    """Files of 4 KiB one by one, by one client and by many."""
    return [_with(target, count, _small) for target in lab.having(SMALL) for count in lab.scale.clients]


def _with(target: Target, clients: int, chain: Callable[[Lab, Target, int], Iterator[Sample]]) -> Chain:
    return lambda lab: chain(lab, target, clients)


def _small(lab: Lab, target: Target, clients: int) -> Iterator[Sample]:
    top, seconds, text = lab.fresh(target), lab.scale.seconds, clients_text(clients)
    directories = [f"{top}/c{number:02}" for number in range(clients)]
    target.make_directory(top)
    lab.keep(partial(_remove_tree, target, top))
    putting = [{"directory": directory, "seconds": seconds, "most": 1 << 20} for directory in directories]
    sample, done = lab.clients(
        Figure("small", case(target, "put 4 KiB", text), target.subject), target, "put_small", putting
    )
    yield sample
    getting = [
        {"directory": directory, "count": count, "seconds": seconds}
        for directory, count in zip(directories, done.counts, strict=True)
    ]
    lab.crew.work("get_small", target, [{**one, "seconds": seconds / 4} for one in getting])
    sample, _ = lab.clients(
        Figure("small", case(target, "get 4 KiB", text), target.subject), target, "get_small", getting
    )
    yield sample


def ranges(lab: Lab) -> Sequence[Chain]:
    """Random ranges of 4 KiB of a big file in the page cache."""
    return [_for(target, _ranges) for target in lab.having(RANGE)]


def _ranges(lab: Lab, target: Target) -> Iterator[Sample]:
    size, seconds = lab.scale.big_bytes, lab.scale.seconds
    local, top = lab.source(size), lab.fresh(target)
    path, packed = f"{top}/big", f"{top}/packed"
    target.make_directory(top)
    lab.crew.work("put_file", target, [{"local": local, "path": path}])
    lab.crew.work("drain", target, [{"path": path, "size": size}])
    for clients in lab.scale.clients:
        each = [{"path": path, "local": local, "seed": number, "seconds": seconds} for number in range(clients)]
        figure = Figure("ranges", case(target, "4 KiB ranges", clients_text(clients)), target.subject)
        sample, _ = lab.clients(figure, target, "ranges", each)
        yield sample
    if MANY in target.features:
        each = [{"path": path, "local": local, "seed": 99, "seconds": seconds, "group": GROUP}]
        figure = Figure("ranges", case(target, "read_many, one file", "1 client"), target.subject)
        sample, _ = lab.clients(figure, target, "read_many", each)
        yield sample
        yield _read_many_small(lab, target, packed)
    _remove(lab, target, top)


def _read_many_small(lab: Lab, target: Target, directory: str) -> Sample:
    """Many small files by read_many, as they lie in packs."""
    count = 4 * GROUP
    lab.crew.work("put_many", target, [{"directory": directory, "group": GROUP, "seconds": 60, "most": 4}])
    names = [{"directory": directory, "count": count, "seconds": lab.scale.seconds, "group": GROUP}]
    figure = Figure("ranges", case(target, "read_many, packed files", "1 client"), target.subject)
    sample, _ = lab.clients(figure, target, "read_many_small", names)
    return sample
