"""Chunk files that are cut, emptied, exchanged or gone: the reader never notices, and the replicas come back."""

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator

import pytest

import dfs
from dfs.protocol.chunk_format import HEADER_SIZE
from dfs.testing import Cluster, Datanode, cluster
from fixtures.faults import MIB, datanode_of, good_replicas, seeded, suspect, wait_until, wrong_replicas


@pytest.fixture(name="running", scope="module")
def four_datanodes() -> Iterator[Cluster]:
    with cluster(datanodes=4, replication=3) as running:
        yield running


def cut_short(disk_path: str, rng: random.Random) -> None:
    os.truncate(disk_path, rng.randrange(HEADER_SIZE, os.path.getsize(disk_path)))


def empty(disk_path: str, rng: random.Random) -> None:
    os.truncate(disk_path, 0)


def zero_the_tail(disk_path: str, rng: random.Random) -> None:
    """As a power cut leaves a file whose space was reserved."""
    size = os.path.getsize(disk_path)
    keep = rng.randrange(HEADER_SIZE, size)
    os.truncate(disk_path, keep)
    os.truncate(disk_path, size)


def remove(disk_path: str, rng: random.Random) -> None:
    os.unlink(disk_path)


def damage_the_header(disk_path: str, rng: random.Random) -> None:
    with open(disk_path, "r+b") as file:
        file.write(rng.randbytes(64))


def check_read_and_healed(running: Cluster, path: str, data: bytes) -> None:
    """Readers see only what is right; a replica that is suspected is replaced if it is wrong."""
    with running.connect() as fs:
        for _ in range(3):
            assert fs.read_bytes(path) == data
        # Not each of them was read, so that no reader complained of it.
        for wrong in wrong_replicas(running, fs, path, data):
            chunk, _, datanode = wrong.partition(" on ")
            suspect(running, chunk, datanode)

        def healed() -> bool:
            assert fs.read_bytes(path) == data
            few = any(len(good) < 3 for good in good_replicas(fs, path))
            return not few and not wrong_replicas(running, fs, path, data)

        took = wait_until(healed, 40, "three right replicas of each chunk")
        print(f"healed after {took:.1f} s")


@pytest.mark.parametrize("harm", [cut_short, empty, zero_the_tail, remove, damage_the_header])
def test_damaged_files_are_replaced(
    running: Cluster, harm: Callable[[str, random.Random], None]
) -> None:  # F40 F43 F44
    rng = seeded(harm.__name__)
    data = rng.randbytes(MIB)
    path = f"/{harm.__name__}"
    with running.connect() as fs:
        fs.write_bytes(path, data)
        [chunk] = fs.places(path).chunks
    # Two of three: what is left is one good replica.
    for replica in chunk.replicas[:2]:
        harm(datanode_of(running, replica.datanode).chunk_paths()[chunk.id], rng)
    check_read_and_healed(running, path, data)


def test_exchanged_chunk_files_are_not_each_other(running: Cluster) -> None:  # F45 F97
    rng = seeded("exchanged")
    contents = {f"/exchanged-{number}": rng.randbytes(MIB) for number in range(2)}
    with running.connect() as fs:
        for path, data in contents.items():
            fs.write_bytes(path, data)
        first, second = (fs.places(path).chunks[0].id for path in contents)
    exchanged = 0
    for node in running.datanodes:
        paths = node.chunk_paths()
        if first in paths and second in paths and exchanged < 2:
            exchange(paths[first], paths[second])
            exchanged += 1
    assert exchanged
    for path, data in contents.items():
        check_read_and_healed(running, path, data)


def exchange(one: str, other: str) -> None:
    aside = one + ".aside"
    shutil.move(one, aside)
    shutil.move(other, one)
    shutil.move(aside, other)


def test_bits_rotten_in_every_replica_in_different_blocks_are_no_loss(running: Cluster) -> None:  # F42
    data = seeded("rot").randbytes(MIB)
    with running.connect() as fs:
        fs.write_bytes("/rot", data)
        [chunk] = fs.places("/rot").chunks
        holders: list[Datanode] = [datanode_of(running, replica.datanode) for replica in chunk.replicas]
        assert len(holders) == 3
        for number, holder in enumerate(holders):
            holder.flip(chunk.id, offset=number * 300_000 + 17)
        # Also once the namenode knows of it.
        for _ in range(6):
            assert running.connect().read_bytes("/rot") == data
            time.sleep(0.4)


@pytest.mark.parametrize("size", [0, 1, 5000])
def test_small_files_in_a_damaged_pack_are_read_from_another_replica(running: Cluster, size: int) -> None:  # F40
    data = {f"/pack-{size}-{number}": bytes([number]) * size for number in range(5)}
    with running.connect() as fs:
        with fs.transaction() as together:
            for path, content in data.items():
                together.write_bytes(path, content)
        chunks = fs.places(f"/pack-{size}-2").chunks
    for chunk in chunks:
        for replica in chunk.replicas[:2]:
            datanode_of(running, replica.datanode).flip(chunk.id, offset=2 * size, bit=7)
    for _ in range(3):
        with running.connect() as fs:
            assert {path: fs.read_bytes(path) for path in data} == data
            ranges = fs.read_many([(path, 0, None) for path in data])
            assert ranges == list(data.values())


def test_a_missing_file_is_an_error_and_not_bytes_once_no_replica_is_left(running: Cluster) -> None:  # F58
    data = seeded("gone").randbytes(MIB)
    with running.connect() as fs:
        fs.write_bytes("/gone", data)
        [chunk] = fs.places("/gone").chunks
        for replica in chunk.replicas:
            zero_the_tail(datanode_of(running, replica.datanode).chunk_paths()[chunk.id], random.Random(1))
        with pytest.raises((dfs.errors.DataError, dfs.errors.StateError)):
            fs.read_bytes("/gone")
        fs.remove("/gone")
