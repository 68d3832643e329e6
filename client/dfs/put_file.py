"""One local file into the cluster.

Separate from `put_tree` because a single file is stored as a stream of chunks whatever its size, and may be anything
that can be read: a pipe has no size, and is read as it comes.
"""

import os
import stat
from collections.abc import Callable

from dfs.file import pieces_of, write_all
from dfs.protocol.errors import InvalidRequest
from dfs.protocol.messages import Extent, PutFile
from dfs.storing import Storing, kept_attributes, put_action
from dfs.tree import Progress, Tally, TreeReport


def put_file(
    storing: Storing,
    disk_path: str,
    path: str,
    *,
    overwrite: bool,
    parents: bool,
    preserve: bool,
    replication: int | None,
    chunk_size: int | None,
    progress: Progress | None,
    resume: bool = False,
    notice: Callable[[str], None] | None = None,
) -> TreeReport:
    """Store what is in `disk_path` as the file `path`. Options and errors as for Client.put.

    Raises  InvalidRequest: `resume` of what can't be read a second time
    """
    tally = Tally(progress)
    with open(disk_path, "rb", buffering=0) as file:
        kept = kept_attributes(file.fileno()) if preserve else {}
        make = put_action(
            path,
            overwrite=overwrite,
            parents=parents,
            replication=replication,
            mode=kept.get("mode"),
            mtime_ns=kept.get("mtime_ns"),
        )
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            how = {"replication": replication, "chunk_size": chunk_size}
            if resume:
                from dfs.resuming import send_resumably

                told = notice or _unheard
                size = send_resumably(storing, file.fileno(), disk_path, make, added=tally.moved, notice=told, **how)
            else:
                size = send_at_once(storing, file.fileno(), disk_path, make, added=tally.moved, **how)
        elif resume:
            raise InvalidRequest(f"{disk_path} is not a regular file: it can't be read again from where it was")
        else:
            pending = storing.stream(make, replication=replication, chunk_size=chunk_size)
            write_all(pending, pieces_of(file), tally.moved)
            size = pending.length
    tally.files(1, size, moved=True)
    return tally.report


def send_at_once(
    storing: Storing,
    descriptor: int,
    disk_path: str,
    make: Callable[[list[Extent]], PutFile],
    *,
    replication: int | None,
    chunk_size: int | None,
    added: Callable[[int], None],
) -> int:
    """Store an open local file as the action of `make` says. Returns its size, bytes."""
    staging = storing.staging(replication)
    try:
        sent = storing.send_local(
            descriptor,
            disk_path,
            make([]).path,
            replication=replication,
            chunk_size=chunk_size,
            added=added,
            taken=staging.add_next,
        )
        staging.publish(make([]))
    except BaseException:
        staging.abort()
        raise
    return sum(one.chunk.length for one in sent)


def _unheard(_sentence: str) -> None:
    """Nobody wants to know."""
