"""What an operator does to a store while no namenode runs on it.

python -m dfs_namenode resolve-history DIR      what the store does not know may be deleted again
python -m dfs_namenode forget-datanode DIR ID   that datanode will not come back
"""

import os
import sys
from collections.abc import Sequence

from dfs.protocol.clock import SystemClock
from dfs.protocol.errors import EXIT_OK, EXIT_USAGE, DfsError, InvalidRequest
from dfs_namenode.departure import forget_datanode
from dfs_namenode.store import meta
from dfs_namenode.store.sqlite import DATABASE_NAME, SqliteStore

_USAGE = "usage: python -m dfs_namenode resolve-history DIR\n       python -m dfs_namenode forget-datanode DIR ID\n"


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit code."""
    match list(arguments):
        case ["resolve-history", directory]:
            datanode = None
        case ["forget-datanode", directory, datanode]:
            pass
        case _:
            sys.stderr.write(_USAGE)
            return EXIT_USAGE
    try:
        if not os.path.exists(os.path.join(directory, DATABASE_NAME)):
            raise InvalidRequest(f"there is no store in {directory}")
        store = SqliteStore.open(directory, clock=SystemClock())
        try:
            done = _resolve_history(store) if datanode is None else _forget(store, datanode)
        finally:
            store.close()
    except DfsError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{done}\n")
    return EXIT_OK


def _resolve_history(store: SqliteStore) -> str:
    """From the next start on, what the store does not know may be deleted again."""
    return "resolved" if store.write_blocking(meta.clear_latch) else "there is nothing to resolve"


def _forget(store: SqliteStore, datanode: str) -> str:
    """From the next start on, nobody waits for the datanode."""
    departed = forget_datanode(store, datanode)
    lost = f", the last known ones of {departed.last_ones} chunks" if departed.last_ones else ""
    return f"{datanode} is forgotten, with {departed.replicas} replicas{lost}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
