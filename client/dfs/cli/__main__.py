"""`python -m dfs.cli`: the same as `dfs`, for whoever starts a role without knowing where scripts are installed."""

from dfs.cli import main

main()
