"""Benchmarks: what `dfs bench` runs against a cluster, and `make bench` beside its references.

The workloads, the client processes that perform them, and the measuring are here, so that an installed client can
measure its own cluster; what needs other programs (dd, nginx, plots) is in the checkout's `bench/`. Nothing outside
this package imports it, but for the command, when it is called.
"""
