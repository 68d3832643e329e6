"""The namenode's store is damaged on its disk: it refuses, or ends, or what it says is true."""

import os
import random

import pytest

import dfs
from dfs.errors import Unavailable
from dfs.testing import Cluster, cluster
from fixtures.faults import LONG, NO_ANSWER, is_internal, seeded

FLIPS = 40 if LONG else 6


def flip_bits(path: str, rng: random.Random, count: int) -> None:
    with open(path, "r+b") as file:
        for _ in range(count):
            at = rng.randrange(os.path.getsize(path))
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << rng.randrange(8)]))


def fill(running: Cluster) -> dict[str, bytes]:
    with running.connect() as fs, fs.transaction() as together:
        contents = {f"/d{number % 7}/file-{number}": b"%d" % number * 10 for number in range(300)}
        for path, data in contents.items():
            together.write_bytes(path, data, parents=True)
    return contents


@pytest.mark.timeout(60 + 15 * FLIPS)
def test_bits_of_the_store_flip_and_no_wrong_byte_is_served() -> None:  # F71
    """SQLite's pages have no digests, so that not each flip is noticed; but bytes are checked against the readers'
    own digests, and whatever the pages' structure shows ends the namenode."""
    rng = seeded("store")
    with cluster(2) as running:
        contents = fill(running)
        running.namenode.terminate()
        database = os.path.join(running.namenode.dir, "namenode.db")
        with open(database, "rb") as file:
            good = file.read()
        ends: dict[str, int] = {}
        for _ in range(FLIPS):
            flip_bits(database, rng, rng.choice([1, 1, 20, 500]))
            end = try_to_use(running, contents)
            ends[end] = ends.get(end, 0) + 1
            if running.namenode.running:
                running.namenode.terminate()
            running.namenode.process.forget()
            for leftover in (f"{database}-wal", f"{database}-shm"):
                if os.path.exists(leftover):
                    os.unlink(leftover)
            with open(database, "wb") as file:
                file.write(good)
        print(f"a damaged store: {ends}")
        running.namenode.restart()
        running.wait_writable()
        with running.connect() as fs:
            for path, data in contents.items():
                assert fs.read_bytes(path) == data


def try_to_use(running: Cluster, contents: dict[str, bytes]) -> str:
    """Start the namenode and read; how it went. Whatever is read is right, or it is an error."""
    running.namenode.start()
    try:
        running.namenode.wait_ready()
    except Unavailable:
        return "did not start"
    with running.connect() as fs:
        for path in random.Random(1).sample(sorted(contents), 40):
            try:
                data = fs.read_bytes(path)
            except (*NO_ANSWER, dfs.errors.RequestError) as error:
                if not running.namenode.running:
                    return "ended"
                print(f"{path}: {type(error).__name__}")
                return "refused"
            except dfs.errors.DfsError as error:
                if not is_internal(error):
                    raise
                return "refused"
            assert data == contents[path], f"{path}: wrong bytes were served"
    return "served what is right"
