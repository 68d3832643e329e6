"""Fixtures of the whole suite; each resource's are in a module of its own."""

import signal

from hypothesis import HealthCheck, settings

pytest_plugins = ["dfs.pytest_plugin", "fixtures.command", "fixtures.power"]

# How fast examples come says how busy the machine is, not whether the code is right.
settings.register_profile("dfs", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dfs")

# A suite that a shell started in the background inherits an ignored SIGINT, and so would the commands of its tests.
signal.signal(signal.SIGINT, signal.default_int_handler)
