"""`make bench`: dfs beside the limits of the machine and its peers, in one run. See `__main__`."""
