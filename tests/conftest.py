"""Fixtures of the whole suite; each resource's are in a module of its own."""

import signal

import pytest
from hypothesis import HealthCheck, settings

from dfs.testing import Cluster

pytest_plugins = ["dfs.pytest_plugin", "fixtures.command", "fixtures.power"]

# How fast examples come says how busy the machine is, not whether the code is right.
settings.register_profile("dfs", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dfs")

# A suite that a shell started in the background inherits an ignored SIGINT, and so would the commands of its tests.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def dfs_cluster(dfs_session_cluster: Cluster) -> Cluster:
    """Here one cluster serves all tests that do no harm; the plug-in's own makes one for each test."""
    return dfs_session_cluster
