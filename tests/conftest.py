"""Fixtures of the whole suite; each resource's are in a module of its own."""

pytest_plugins = ["dfs.pytest_plugin", "fixtures.command", "fixtures.power"]
