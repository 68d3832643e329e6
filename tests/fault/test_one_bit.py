"""One bit flips in any file of a live datanode: readers never see it, and nobody has to do anything about it."""

import os
import random
import struct
from collections.abc import Callable
from typing import Any

import pytest

import dfs
from dfs.protocol.chunk_format import ALIGNMENT, HEADER_SIZE, TRAILER_SIZE
from dfs.protocol.digests import BLOCK_DIGEST_SIZE
from dfs.testing import Cluster, Datanode, cluster
from fixtures.command import clean_environ, run_dfs
from fixtures.faults import LONG, datanode_of, good_replicas, seeded, wait_until, wrong_replicas

SETTINGS: dict[str, Any] = {
    "scrub_period_s": 4,
    "stale_after_s": 2,
    "dead_after_s": 4,
    "read_grace_s": 1,
    "report_interval_s": 2,
    "chunk_size_bytes": 256 * 1024,
}
Spot = Callable[[Datanode, str, random.Random], tuple[str, int]]
"""Which byte to harm: the file, and the position in it. Told the datanode, one of its chunks, and a random source."""


def _footer(disk_path: str) -> tuple[int, int, int, int]:
    """Of a chunk file: the data's length, where the table begins, its size, and that of the hints."""
    with open(disk_path, "rb") as file:
        file.seek(-TRAILER_SIZE, os.SEEK_END)
        length, blocks, hints = struct.unpack_from("<QII", file.read(16))
    return length, HEADER_SIZE + -(-length // ALIGNMENT) * ALIGNMENT, blocks * BLOCK_DIGEST_SIZE, hints


def in_header(node: Datanode, chunk: str, rng: random.Random) -> tuple[str, int]:
    return node.chunk_path(chunk), rng.randrange(80)


def in_data(node: Datanode, chunk: str, rng: random.Random) -> tuple[str, int]:
    return node.chunk_path(chunk), HEADER_SIZE + rng.randrange(_footer(node.chunk_path(chunk))[0])


def in_table(node: Datanode, chunk: str, rng: random.Random) -> tuple[str, int]:
    _, begin, size, _ = _footer(node.chunk_path(chunk))
    return node.chunk_path(chunk), begin + rng.randrange(size)


def in_hints(node: Datanode, chunk: str, rng: random.Random) -> tuple[str, int]:
    _, begin, size, hints = _footer(node.chunk_path(chunk))
    return node.chunk_path(chunk), begin + size + rng.randrange(max(1, hints))


def in_trailer(node: Datanode, chunk: str, rng: random.Random) -> tuple[str, int]:
    path = node.chunk_path(chunk)
    return path, os.path.getsize(path) - 1 - rng.randrange(TRAILER_SIZE)


def named(*parts: str) -> Spot:
    def spot(node: Datanode, chunk: str, rng: random.Random) -> tuple[str, int]:
        path = os.path.join(node.dir, *parts)
        return path, rng.randrange(os.path.getsize(path))

    return spot


def in_trash(node: Datanode, chunk: str, rng: random.Random) -> tuple[str, int]:
    [name, *_] = os.listdir(os.path.join(node.dir, "trash"))
    return named("trash", name)(node, chunk, rng)


def flip(path: str, at: int, bit: int) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))


def fill(running: Cluster, fs: dfs.Client) -> dict[str, bytes]:
    """A file of several chunks, a small one, and one that is in the trash."""
    rng = seeded("one bit")
    contents = {"/large": rng.randbytes(600_000), "/small": rng.randbytes(3000)}
    for path, data in contents.items():
        fs.write_bytes(path, data)
    fs.write_bytes("/removed", rng.randbytes(100_000))
    fs.remove("/removed")
    wait_until(
        lambda: (
            fs.collect_garbage() is not None
            and sum(bool(os.listdir(os.path.join(node.dir, "trash"))) for node in running.datanodes) >= 3
        ),
        20,
        "something is in the trash",
    )
    return contents


def check_without_a_command(running: Cluster, contents: dict[str, bytes], what: str) -> None:
    """Readers are served right bytes, and all replicas are there, and right, after a while; fsck agrees."""
    with running.connect() as fs:

        def is_well() -> bool:
            for path, data in contents.items():
                assert fs.read_bytes(path) == data
                if any(len(good) < 3 for good in good_replicas(fs, path)):
                    return False
                if wrong_replicas(running, fs, path, data):
                    return False
            return not fs.status().under_replicated

        wait_until(is_well, 45, f"three right replicas of everything after a bit of {what} flipped")
    # It may be noticed only now: until it is mended fsck says so.
    environ = clean_environ(DFS_NAMENODE=running.url)
    wait_until(lambda: run_dfs("fsck", "/", environ=environ).code == 0, 45, f"fsck is content after a bit of {what}")


CHUNK_PARTS: list[Spot] = [in_header, in_data, in_table, in_trailer]


@pytest.mark.parametrize("spot", CHUNK_PARTS)
def test_a_bit_of_a_chunk_file_is_found_and_its_replica_replaced(spot: Spot) -> None:  # F39 F43 F44
    rng = seeded(spot.__name__)
    with cluster(4, 3, **SETTINGS) as running:
        fs = running.connect()
        contents = fill(running, fs)
        chunk = fs.places("/large").chunks[0]
        victim = datanode_of(running, rng.choice(chunk.replicas).datanode)
        path, at = spot(victim, chunk.id, rng)
        flip(path, at, rng.randrange(8))
        with open(path, "rb") as file:
            harmed = file.read()

        def is_gone() -> bool:
            if not os.path.exists(path):
                return True
            with open(path, "rb") as file:
                return file.read() != harmed

        assert fs.read_bytes("/large") == contents["/large"]
        took = wait_until(is_gone, 45, "nobody noticed the flipped bit")
        print(f"{spot.__name__} at {at}: replaced after {took:.1f} s")
        check_without_a_command(running, contents, spot.__name__)


def in_seq_seen(node: Datanode, chunk: str, rng: random.Random) -> tuple[str, int]:
    wait_until(lambda: os.path.exists(os.path.join(node.dir, "seq_seen")), 30, "the upkeep has not noted it")
    return named("seq_seen")(node, chunk, rng)


OTHER_FILES: dict[str, Spot] = {
    "identity.json": named("identity.json"),
    "seq_seen": in_seq_seen,
    "VOLUME.json": named("VOLUME.json"),
    "health/probe": named("health", "probe"),
    "health/scrub.json": named("health", "scrub.json"),
    "a hint": in_hints,
    "trash": in_trash,
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("what", OTHER_FILES)
def test_a_bit_of_any_other_file_costs_at_most_the_datanode(what: str) -> None:  # F38 F44
    """Whether it starts with that file or refuses to: the cluster has everything, by itself."""
    rng = seeded(what)
    with cluster(5, 3, **SETTINGS) as running:
        fs = running.connect()
        contents = fill(running, fs)
        chunk = fs.places("/large").chunks[0]
        for _ in range(6 if LONG else 2):
            victims = [node for node in running.datanodes if node.running and os.path.exists(node.chunk_path(chunk.id))]
            if len(victims) < 3 or sum(node.running for node in running.datanodes) < 5:
                # The last one did not come back: with one more away, the promise is another one.
                break
            victim = rng.choice(victims)
            try:
                path, at = OTHER_FILES[what](victim, chunk.id, rng)
            except ValueError:
                # Its trash was emptied.
                continue
            bit = rng.randrange(8)
            flip(path, at, bit)
            check_without_a_command(running, contents, what)
            victim.kill()
            try:
                victim.restart()
            except dfs.errors.Unavailable as error:
                print(f"{what}, bit {bit} of byte {at}: {victim.id} does not start: {error}")
            check_without_a_command(running, contents, f"{what}, after a restart")
