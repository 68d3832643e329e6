"""concat and truncate on a real cluster: the bytes afterwards, and that none of them moved."""

import os

import pytest

from dfs.errors import InvalidRequest, PreconditionFailed
from dfs.testing import Cluster

CHUNK = 256 << 10
BLOCK = 16 << 10


def test_a_file_is_cut_at_any_byte(dfs_cluster: Cluster) -> None:
    with dfs_cluster.connect() as fs:
        data = os.urandom(2 * CHUNK + 5 * BLOCK + 77)
        fs.write_bytes("/cut/whole", data, parents=True, chunk_size=CHUNK)
        chunks = {extent.chunk for extent in fs.places("/cut/whole").extents}
        sizes = [len(data), len(data) - 1, 2 * CHUNK + BLOCK, 2 * CHUNK + 3, 2 * CHUNK, CHUNK + 9 * BLOCK + 1,
                 CHUNK - BLOCK, BLOCK + 1, BLOCK, BLOCK - 1, 1, 0]  # fmt: skip
        fs.copy("/cut/whole", "/cut/f")
        for size in sizes:
            # Once from the whole file, and once from what the cut before has left.
            fs.copy("/cut/whole", "/cut/once", overwrite=True)
            for path in ("/cut/once", "/cut/f"):
                fs.truncate(path, size)
                assert fs.stat(path).size == size
                assert fs.read_bytes(path) == data[:size]
                assert {extent.chunk for extent in fs.places(path).extents} <= chunks
            if size > BLOCK:
                assert fs.read_bytes("/cut/f", start=size - BLOCK, end=size) == data[size - BLOCK : size]
            assert len(fs.places("/cut/f").extents) <= 5
        fs.append("/cut/f", b"and on")
        assert fs.read_bytes("/cut/f") == b"and on"


def test_a_small_file_in_a_pack_is_cut_and_its_neighbours_stay(dfs_cluster: Cluster) -> None:
    with dfs_cluster.connect() as fs:
        files = {f"/packed/{number}": os.urandom(20_000 + number) for number in range(5)}
        with fs.transaction() as t:
            for path, data in files.items():
                t.write_bytes(path, data, parents=True)
        fs.truncate("/packed/2", 17_000)
        files["/packed/2"] = files["/packed/2"][:17_000]
        assert fs.read_many([(path, 0, None) for path in files]) == list(files.values())


def test_files_are_joined_without_moving_a_byte(dfs_cluster: Cluster) -> None:
    with dfs_cluster.connect() as fs:
        parts = {f"/join/part-{number}": os.urandom(size) for number, size in enumerate((CHUNK + 5, 0, 300, BLOCK))}
        for path, data in parts.items():
            fs.write_bytes(path, data, parents=True, chunk_size=CHUNK)
        chunks = {extent.chunk for path in parts for extent in fs.places(path).extents}
        first, *rest = parts
        fs.concat(first, rest)
        assert fs.read_bytes(first) == b"".join(parts.values())
        assert [entry.path for entry in fs.ls("/join")] == [first]
        assert {extent.chunk for extent in fs.places(first).extents} == chunks


def test_a_file_is_not_made_longer_and_only_the_version_that_was_meant(dfs_cluster: Cluster) -> None:
    with dfs_cluster.connect() as fs:
        version = fs.write_bytes("/limits", b"12345").version
        for size in (6, -1):
            with pytest.raises(InvalidRequest):
                fs.truncate("/limits", size)
        with pytest.raises(PreconditionFailed):
            fs.truncate("/limits", 1, if_version=version + 1)
        assert fs.truncate("/limits", 5).changed is False
        assert fs.truncate("/limits", 2, if_version=version).version > version
        assert fs.read_bytes("/limits") == b"12"
