"""What an operator does to a store while no namenode runs on it: `python -m dfs_namenode resolve-history DIR`."""

import sys
from collections.abc import Sequence

from dfs.protocol.clock import SystemClock
from dfs.protocol.errors import EXIT_OK, EXIT_USAGE, DfsError
from dfs_namenode.store import meta
from dfs_namenode.store.sqlite import SqliteStore

_USAGE = "usage: python -m dfs_namenode resolve-history DIR\n"


def main(arguments: Sequence[str]) -> int:
    """Resolve a latched history: from the next start on, what the store does not know may be deleted again."""
    if len(arguments) != 2 or arguments[0] != "resolve-history":
        sys.stderr.write(_USAGE)
        return EXIT_USAGE
    try:
        store = SqliteStore.open(arguments[1], clock=SystemClock())
        try:
            resolved = store.write_blocking(meta.clear_latch)
        finally:
            store.close()
    except DfsError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write("resolved\n" if resolved else "there is nothing to resolve\n")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
