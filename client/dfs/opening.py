"""What `open` does: a mode becomes a reader or a pending write, with Python's file object on top.

Separate from `file`, which knows positions and buffers but no cluster.
"""

from collections.abc import Callable
from typing import Any

from dfs.file import BinaryWriter, Pending, RawReader, parse_mode, wrap_reader, wrap_writer
from dfs.get_tree import Downloads
from dfs.storing import Storing, put_action
from dfs.targets import check_target


def open_file(
    downloads: Downloads,
    storing: Callable[[], Storing],
    path: str,
    mode: str,
    *,
    parents: bool,
    replication: int | None,
    chunk_size: int | None,
    text: dict[str, Any],
) -> Any:
    """The file object. Options and errors as for Client.open; `storing` is called only to write."""
    letter, binary = parse_mode(mode)
    unknown = set(text) - (set() if binary else {"encoding", "errors", "newline"})
    if unknown:
        raise TypeError(f"open() in mode {mode!r} takes no {min(unknown)}")
    if not binary:
        text = {"encoding": "utf-8"} | text
    if letter == "r":
        entry, reader = downloads.reader(path)
        return wrap_reader(RawReader(entry, reader), binary=binary, **text)
    pending: Pending
    if letter == "a":
        pending = storing().append_stream(path, create=True, parents=parents, replication=replication)
    else:
        check_target(downloads.namenodes, path, overwrite=letter == "w", parents=parents)
        make = put_action(path, overwrite=letter == "w", parents=parents, replication=replication)
        pending = storing().stream(make, replication=replication, chunk_size=chunk_size)
    return wrap_writer(BinaryWriter(path, pending), binary=binary, **text)
