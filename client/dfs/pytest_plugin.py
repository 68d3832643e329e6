"""The pytest fixtures `dfs_cluster`, `dfs_session_cluster` and `make_dfs_cluster`, for anybody's tests.

Separate from `dfs.testing` so that nothing but this module needs pytest, and so that pytest, which loads plug-ins at
every start, loads nothing else of dfs until a test asks for a cluster.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from dfs.testing import Cluster


@pytest.fixture
def dfs_cluster(make_dfs_cluster: "Callable[..., Cluster]") -> "Cluster":
    """A cluster of three datanodes for this test alone: kill, stop and damage what you like."""
    return make_dfs_cluster(datanodes=3)


@pytest.fixture(scope="session")
def dfs_session_cluster() -> "Iterator[Cluster]":
    """One cluster of three datanodes, shared by all tests of the session: harm nothing in it."""
    from dfs.testing import cluster

    with cluster(datanodes=3) as shared:
        yield shared


@pytest.fixture
def make_dfs_cluster() -> "Iterator[Callable[..., Cluster]]":
    """Call it with the arguments of `dfs.testing.cluster` for clusters of this test alone."""
    from dfs.testing import cluster

    with ExitStack() as running:
        yield lambda *args, **kwargs: running.enter_context(cluster(*args, **kwargs))
