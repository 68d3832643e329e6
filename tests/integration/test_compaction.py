"""Packs that are mostly dead are rewritten by real processes: space comes back, and nobody who reads notices (F100).

The processes are killed at the moments that matter; the cluster converges, and every file that was not removed is
read back as it was written.
"""

import contextlib
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import dfs
from dfs.testing import Cluster, cluster
from dfs_namenode.store.sqlite import DATABASE_NAME

MIB = 1 << 20
KEPT = 0.3


@pytest.fixture(name="rng")
def a_printed_seed() -> random.Random:
    seed = int(os.environ.get("DFS_TEST_SEED", time.time_ns() % 1_000_000))
    print(f"seed {seed}; repeat with DFS_TEST_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(name="running")
def a_cluster_with_short_graces() -> Iterator[Cluster]:
    with cluster(
        datanodes=3,
        read_grace_s=4,
        trash_age_s=0,
        dead_after_s=8,
        compaction_bytes_per_s=1 << 30,
        # On a machine that is busy a chunk may be sent, or composed, a second time; the first goes at this age.
        chunk_commit_window_s=30,
        orphan_age_s=35,
        report_interval_s=5,
    ) as made:
        yield made


class Tree:
    """Small files below /tree, and which of them are still there."""

    def __init__(self, fs: dfs.Client, local: Path, rng: random.Random, *, files: int) -> None:
        self.fs = fs
        self.files: dict[str, bytes] = {}
        for number in range(files):
            folder = f"d{number % 20}"
            (local / folder).mkdir(parents=True, exist_ok=True)
            data = rng.randbytes(rng.randint(1, 8000))
            (local / folder / f"f{number}").write_bytes(data)
            self.files[f"/tree/{folder}/f{number}"] = data
        fs.put(local, "/tree", recursive=True)

    def remove_most(self, rng: random.Random) -> None:
        gone = rng.sample(sorted(self.files), int(len(self.files) * (1 - KEPT)))
        for path in gone:
            del self.files[path]
        with self.fs.transaction() as together:
            for path in gone:
                together.remove(path)

    def chunks(self) -> set[str]:
        return {chunk.id for path in self.files for chunk in self.fs.places(path).chunks}

    def check(self, fs: dfs.Client) -> None:
        wrong = [path for path, data in self.files.items() if fs.read_bytes(path) != data]
        assert wrong == []


def used(running: Cluster) -> int:
    """Bytes of chunks on all disks, trash and what nobody knows included."""
    return sum(
        file.stat().st_size for node in running.datanodes for file in Path(node.dir).rglob("*.chunk") if file.is_file()
    )


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 90) -> None:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout_s, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.1)


def test_space_comes_back_while_readers_read_on(running: Cluster, tmp_path: Path, rng: random.Random) -> None:  # F100
    fs = running.connect()
    tree = Tree(fs, tmp_path / "local", rng, files=2000)
    before, packs = used(running), tree.chunks()
    tree.remove_most(rng)
    readers = {path: fs.open(path, "rb") for path in rng.sample(sorted(tree.files), 20)}
    first = {path: reader.read(1) for path, reader in readers.items()}
    time.sleep(4)  # the grace of those who read the removed files

    def compacted() -> bool:
        fs.collect_garbage()
        return not tree.chunks() & packs

    wait_until(compacted, "every file has its bytes in a new chunk")
    for path in list(readers)[:10]:
        assert first[path] + readers[path].read() == tree.files[path], "a reader within the grace reads on"
    tree.check(fs)

    def dead_is_gone() -> bool:
        fs.collect_garbage()
        return used(running) < before * 0.45

    wait_until(dead_is_gone, "what is dead has left the disks", 150)
    for path in list(readers)[10:]:
        assert first[path] + readers[path].read() == tree.files[path], "one that comes back later does, too"
    tree.check(running.connect())
    status = fs.status()
    assert status.compaction is not None
    assert status.compaction.composed >= 1
    assert status.compaction.bytes_saved > 0
    assert (status.under_replicated, status.missing) == (0, 0)


@pytest.fixture(name="slow")
def a_cluster_that_composes_slowly() -> Iterator[Cluster]:
    with cluster(
        datanodes=3,
        read_grace_s=1,
        trash_age_s=0,
        dead_after_s=8,
        repair_bytes_per_s=200_000,
        chunk_commit_window_s=10,
        orphan_age_s=20,
        report_interval_s=5,
    ) as made:
        yield made


def begin_to_compose(running: Cluster) -> str:
    """The id of the datanode that composes now; the order was given a moment ago."""
    fs, begun = running.connect(), list[str]()

    def ordered() -> bool:
        fs.collect_garbage()  # its own turn may have been faster
        begun[:] = [line for line in running.namenode.log.splitlines() if " composes " in line]
        return bool(begun)

    wait_until(ordered, "a composition is ordered")
    return begun[-1].split(" composes ")[0].split()[-1]


def moved(running: Cluster) -> int:
    """How many contents were moved, as the store on the disk has it."""
    path = f"file:{running.namenode.dir}/{DATABASE_NAME}?mode=ro"
    with contextlib.closing(sqlite3.connect(path, uri=True)) as store:
        return int(store.execute("SELECT count(*) FROM change WHERE op = 'compact'").fetchone()[0])


def expect_rest(running: Cluster, tree: Tree, packs: set[str]) -> None:
    """Everything is right, and at last only what files refer to is on the disks."""
    fs = running.connect()
    tree.check(fs)

    def compacted() -> bool:
        fs.collect_garbage()
        return not tree.chunks() & packs

    wait_until(compacted, "every file has its bytes in a new chunk")
    tree.check(fs)

    def on_disks() -> set[str]:
        return {file.stem for node in running.datanodes for file in Path(node.dir, "chunks").rglob("*.chunk")}

    def at_rest() -> bool:
        fs.collect_garbage()
        status = fs.status()
        return on_disks() == tree.chunks() and not (status.under_replicated or status.missing)

    wait_until(at_rest, "only what is referred to is there, three times")
    tree.check(running.connect())


def test_the_composing_datanode_dies(slow: Cluster, tmp_path: Path, rng: random.Random) -> None:  # F100
    tree = Tree(slow.connect(), tmp_path / "local", rng, files=900)
    packs = tree.chunks()
    tree.remove_most(rng)
    name = begin_to_compose(slow)
    victim = next(node for node in slow.datanodes if node.id == name)
    wait_until(lambda: list(Path(victim.dir, "tmp").iterdir()), "it has begun to write")
    victim.kill()
    assert moved(slow) == 0
    tree.check(slow.connect())
    victim.start()
    victim.wait_ready()
    expect_rest(slow, tree, packs)


def test_the_namenode_dies_before_it_has_the_answer(slow: Cluster, tmp_path: Path, rng: random.Random) -> None:  # F100
    tree = Tree(slow.connect(), tmp_path / "local", rng, files=900)
    packs = tree.chunks()
    tree.remove_most(rng)
    begin_to_compose(slow)
    slow.namenode.kill()
    assert moved(slow) == 0, "its answer had not come"
    slow.namenode.start()
    slow.namenode.wait_ready()
    expect_rest(slow, tree, packs)


def test_the_namenode_dies_when_it_has_committed_and_not_answered(
    slow: Cluster, tmp_path: Path, rng: random.Random
) -> None:  # F100
    tree = Tree(slow.connect(), tmp_path / "local", rng, files=900)
    packs = tree.chunks()
    tree.remove_most(rng)
    begin_to_compose(slow)
    while not moved(slow):
        time.sleep(0.001)
    slow.namenode.kill()
    slow.namenode.start()
    slow.namenode.wait_ready()
    assert moved(slow) >= len(tree.files), "what was committed stays"
    expect_rest(slow, tree, packs)
    assert moved(slow) == len(tree.files), "and was done once"
