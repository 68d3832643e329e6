"""What the tests with other people's programs share: one cluster, and a directory of each test's own."""

import itertools
from collections.abc import Iterator

import pytest

from dfs.fsspec import DfsFileSystem
from dfs.testing import Cluster

_NUMBERS = itertools.count()


@pytest.fixture
def dfs_fs(dfs_cluster: Cluster) -> Iterator[DfsFileSystem]:
    """The file system of the shared cluster."""
    fs = DfsFileSystem(dfs_cluster.url)
    yield fs
    assert not fs._intrans, "a test left a transaction behind"


@pytest.fixture
def home(dfs_fs: DfsFileSystem) -> str:
    """An empty directory of this test's own: its path."""
    path = f"/compat/{next(_NUMBERS)}"
    dfs_fs.makedirs(path)
    return path


@pytest.fixture
def url(dfs_fs: DfsFileSystem, home: str) -> str:
    """The same directory as dfs://host:port/path."""
    return dfs_fs.unstrip_protocol(home)
