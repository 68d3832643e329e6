"""Many local files, each to a path of its own: grouped into transactions, while the next group is read.

Separate from `put_tree`, which walks a directory and leaves out what can't be stored: here the caller has named every
file, and wants an error for the first that fails. Links are followed, as `open` does.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from dfs.transaction import Transaction
from dfs.workers import Workers

GROUP_FILES_MAX = 500
GROUP_BYTES_MAX = 64 << 20
GROUPS_MAX = 2
"""Under way at once: one is stored while the next one is read."""


def put_many(
    transaction: Callable[[], Transaction],
    files: Iterable[tuple[str, str]],
    *,
    small: int,
    **options: Any,
) -> None:
    """Store each local file as the path beside it. `small`: bytes of a file that is packed; options of Transaction.put.

    Raises  the first error; later groups may be committed by then
    """

    def store(group: list[tuple[str, str]]) -> None:
        with transaction() as changes:
            for local, path in group:
                changes.put(local, path, **options)

    workers = Workers(GROUPS_MAX)
    try:
        for _ in workers.map(store, _groups(files, small), ahead=GROUPS_MAX):
            pass
    finally:
        workers.close()


def _groups(files: Iterable[tuple[str, str]], small: int) -> Iterator[list[tuple[str, str]]]:
    """Small files together, big ones alone."""
    group: list[tuple[str, str]] = []
    size = 0
    for local, path in files:
        length = os.stat(local).st_size
        if length > small:
            yield [(local, path)]
            continue
        if group and (len(group) >= GROUP_FILES_MAX or size + length > GROUP_BYTES_MAX):
            yield group
            group, size = [], 0
        group.append((local, path))
        size += length
    if group:
        yield group
