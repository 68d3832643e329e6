"""The thrasher: clients at work, everything going wrong around them, and a judgement at the end.

    PYTHONPATH=tests python -m fault.thrasher --minutes 30 [--seed N] [--only KIND,…] [--keep DIR]

A few clients do a little of everything and write down what they saw (`fixtures.workload`); one after the other, faults
of random kinds strike and are healed (`fixtures.nemeses`). Then all is healed, and must hold: the history is
linearizable; no acknowledged byte is lost; no wrong byte was ever served; within a bounded time every chunk has all
its replicas, each of them right on its disk. Exit code 1 if not.
"""

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import dfs
from dfs.protocol.chunk_format import HEADER_SIZE
from dfs.protocol.digests import tree_digest
from dfs.testing import Cluster, Impossible, PowerDisk, SmallDisk, cluster
from dfs.testing.linearizability import check
from fixtures.faults import NO_ANSWER, datanode_of
from fixtures.nemeses import KINDS, World
from fixtures.reliability import Figures, Period, Watcher
from fixtures.workload import MODEL, Records, Worker, keys_of, read_everything

POWER_DISK_BYTES = 8 << 30
SMALL_DISK_BYTES = 2 << 30
LASTING_S = (1.0, 5.0)
"""How long a fault holds before it is healed; those that wait for something take longer."""
CALM_S = (0.5, 3.0)
"""Between two faults."""
WARM_UP_S = 3.0
BACKUP_TIMEOUT_S = 60.0
SETTINGS = {
    "chunk_size_bytes": 256 * 1024,
    "stale_after_s": 3,
    "dead_after_s": 6,
    "read_grace_s": 10,
    "trash_age_s": 10,
    "backup_interval_s": 5,
    "backup_snapshot_interval_s": 20,
    "scrub_period_s": 60,
    "reserve_bytes": 1 << 20,
}


def main() -> int:
    """Run it as the command line says; the exit code."""
    return 0 if thrash(parse()).good else 1


def thrash(options: argparse.Namespace) -> Figures:
    """One whole run, told while it goes on; `Figures.good` says whether all promises were kept."""
    seed = options.seed if options.seed is not None else time.time_ns() % 1_000_000
    names = options.only.split(",") if options.only else list(KINDS)
    print(f"thrasher: {options.minutes:g} minutes, seed {seed}", flush=True)
    figures = Figures(seed, options.minutes)
    with ExitStack() as stack:
        world = build(stack, options, random.Random(seed), figures)
        if world.power is None:
            names = [name for name in names if name != "power cut"]
        if world.small is None:
            names = [name for name in names if name not in ("disk full", "disk hangs")]
        if options.datanodes < 6:
            # Two of fewer are more than a third: then nothing is repaired, on purpose.
            names = [name for name in names if name != "two datanodes lost"]
        run(world, names, figures, seed=seed, options=options)
        judge(world, figures)
        if not figures.good and options.keep:
            print(f"the servers' logs are in {options.keep}")
            save_logs(world.cluster, options.keep)
    tell(figures)
    return figures


def tell(figures: Figures) -> None:
    """Print what was found, and every broken promise."""
    print(figures.text())
    for what, found in (
        ("lost or wrong", figures.lost),
        ("wrong bytes served", figures.wrong),
        ("unexpected errors", figures.surprises),
        ("bad replicas", figures.bad_replicas),
    ):
        for one in found[:20]:
            print(f"{what}: {one[:400]}")
    if figures.not_linearizable:
        print(figures.not_linearizable)
    print("all promises were kept" if figures.good else f"PROMISES WERE BROKEN (seed {figures.seed})", flush=True)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; None: that of this process."""
    parser = argparse.ArgumentParser(description="Clients at work, and everything going wrong around them.")
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--datanodes", type=int, default=6)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rate", type=float, default=10, help="operations a second of each worker, at most")
    parser.add_argument("--only", default="", help=f"kinds of faults, with commas between them: {', '.join(KINDS)}")
    parser.add_argument("--keep", default="", help="a directory for the servers' logs, if a promise was broken")
    return parser.parse_args(arguments)


def build(stack: ExitStack, options: argparse.Namespace, rng: random.Random, figures: Figures) -> World:
    """The cluster, on disks that can fail where this machine has them."""
    place = stack.enter_context(tempfile.TemporaryDirectory(prefix="dfs-thrasher-"))
    power: PowerDisk | None = None
    small: SmallDisk | None = None
    try:
        power = stack.enter_context(PowerDisk(place, POWER_DISK_BYTES, name="power"))
        small = stack.enter_context(SmallDisk(place, SMALL_DISK_BYTES, name="small"))
    except Impossible as reason:
        figures.impossible.append(f"power cuts and full disks ({reason})")
    home = os.path.join(power.path if power is not None else place, "cluster")
    running = stack.enter_context(
        cluster(options.datanodes - 1, 3, directory=home, proxied=True, movable_clocks=True, **SETTINGS)
    )
    running.add_datanode(data_dir=os.path.join(small.path, "datanode") if small is not None else None)
    running.wait_writable()
    return World(running, rng, Records(), power, small)


def run(world: World, names: list[str], figures: Figures, *, seed: int, options: argparse.Namespace) -> None:
    """Let the clients work, and strike."""
    records = world.records
    stop = threading.Event()
    threads = [
        threading.Thread(
            target=Worker(
                f"{number}",
                world.cluster.connect(),
                records,
                random.Random(f"{seed} {number}"),
                per_second=options.rate,
            ).run,
            args=(stop,),
            name=f"worker-{number}",
            daemon=True,
        )
        for number in range(options.workers)
    ]
    watcher = Watcher(lambda: [world.cluster.namenode, *world.cluster.datanodes])
    watcher.start()
    for thread in threads:
        thread.start()
    time.sleep(WARM_UP_S)
    try:
        for kind in kinds(names, world.rng, time.monotonic() + options.minutes * 60):
            figures.periods.append(strike(world, kind))
            world.pause(*CALM_S)
    finally:
        for proxy in world.cluster.proxies:
            proxy.heal()
        if world.small is not None:
            world.small.answer_again()
        stop.set()
        for thread in threads:
            thread.join(120)
        watcher.stop()
    figures.peaks = watcher.peaks
    figures.surprises += [f"{thread.name} hangs" for thread in threads if thread.is_alive()]
    figures.surprises += records.surprises
    figures.internal_errors = records.internal_errors
    figures.wrong += records.wrong
    figures.attempts = records.attempts
    figures.operations = records.operations
    figures.acknowledged_files = len(records.kept)
    figures.acknowledged_bytes = records.acknowledged_bytes


def kinds(names: list[str], rng: random.Random, deadline: float) -> Iterator[str]:
    """Every kind before any comes again, in random order, until the time is over."""
    while True:
        for name in rng.sample(names, len(names)):
            if time.monotonic() >= deadline:
                return
            yield name


def strike(world: World, kind: str) -> Period:
    came = world.struck_s = time.monotonic()
    fault = KINDS[kind](world)
    happened = True
    try:
        happened = next(fault, "nothing") is None
        if happened:
            world.pause(*LASTING_S)
            next(fault, None)
    except dfs.errors.DfsError as error:
        # A server that did not come up again, or refused an operator; the run goes on, and has failed.
        world.records.surprises.append(f"{kind}: {type(error).__name__}: {error}")
    world.look_at_compaction()
    period = Period(kind, world.struck_s, time.monotonic())
    waited = f", after {period.began - came:.1f} s until all was well" if period.began - came > 1 else ""
    what = "" if happened else ", was not possible now"
    print(f"  {kind}: {period.ended - period.began:.1f} s{waited}{what}", flush=True)
    for node in (world.cluster.namenode, *world.cluster.datanodes):
        if not node.running:
            print(f"  {node.name} has ended by itself: {node.process.last_words()}", flush=True)
            world.records.surprises.append(f"{node.name} ended by itself after {kind}: {node.process.last_words()}")
            node.restart()
    return period


# --- the judgement ------------------------------------------------------------------------------------------------


def judge(world: World, figures: Figures) -> None:
    """Heal what is left, and compare everything with what was promised."""
    records = world.records
    world.cluster.wait_writable()
    with dfs.connect(world.cluster.namenode.url) as fs:
        # No reader met each harmed replica; a scrubber would.
        world.told.clear()
        world.tell_of_damage()
        figures.converged_s = world.wait_healthy()
        figures.lost = read_everything(fs, records)
        check_replicas(world, fs, figures)
        check_backups(fs, figures)
    world.look_at_compaction()
    figures.composed = world.composed
    figures.times = world.times
    verdict = check(records.history, MODEL)
    figures.checked = f"{verdict.operations:,} operations in {verdict.parts:,} parts, {verdict.undecided} undecided"
    if not verdict.linearizable:
        figures.not_linearizable = verdict.explain()


def check_backups(fs: dfs.Client, figures: Figures) -> None:
    """With the faults over, the backups catch up."""
    deadline = time.monotonic() + BACKUP_TIMEOUT_S
    while (backup := fs.status().backup) is not None:
        figures.backup_behind_s = backup.behind_s
        if backup.seq and not backup.failure and backup.behind_s < 3 * SETTINGS["backup_interval_s"]:
            return
        if time.monotonic() > deadline:
            figures.surprises.append(f"the backup does not catch up: {backup}")
            return
        time.sleep(0.5)


def check_replicas(world: World, fs: dfs.Client, figures: Figures) -> None:
    """Read every replica from its disk, past the servers."""
    seen: set[str] = set()
    paths = [*world.records.kept, *(key for place in world.records.directories() for key in keys_of(place))]
    for path in paths:
        try:
            chunks = fs.places(path).chunks
        except dfs.errors.FileNotFound:
            continue
        except NO_ANSWER as error:
            figures.bad_replicas.append(f"{path}: {error}")
            continue
        for chunk in chunks:
            if chunk.id in seen:
                continue
            seen.add(chunk.id)
            good = 0
            for replica in chunk.replicas:
                if replica.state == "good" and replica.live:
                    figures.replicas_checked += 1
                    if is_right(world.cluster, chunk.id, replica.datanode, chunk.length, chunk.digest):
                        good += 1
                    else:
                        figures.bad_replicas.append(f"{chunk.id} on {replica.datanode}, of {path}")
            if good < chunk.replication:
                figures.bad_replicas.append(f"{chunk.id} of {path} has {good} good replicas, not {chunk.replication}")


def is_right(running: Cluster, chunk: str, datanode: str, length: int, digest: str) -> bool:
    try:
        with open(datanode_of(running, datanode).chunk_path(chunk), "rb") as file:
            file.seek(HEADER_SIZE)
            return tree_digest(file.read(length)) == digest
    except FileNotFoundError:
        return False


def save_logs(running: Cluster, directory_path: str) -> None:
    os.makedirs(directory_path, exist_ok=True)
    for node in (running.namenode, *running.datanodes):
        with open(os.path.join(directory_path, f"{node.name}.log"), "w", encoding="utf-8") as file:
            file.write(node.log)


if __name__ == "__main__":
    sys.exit(main())
