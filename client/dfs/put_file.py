"""One local file into the cluster.

Separate from `put_tree` because a single file is stored as a stream of chunks whatever its size, and may be anything
that can be read: a pipe has no size, and is read as it comes.
"""

import os
import stat

from dfs.file import pieces_of, write_all
from dfs.publisher import Batch
from dfs.storing import Storing, kept_attributes, put_action
from dfs.tree import Progress, Tally, TreeReport
from dfs.writer import whole_chunks


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
) -> TreeReport:
    """Store what is in `disk_path` as the file `path`. Options and errors as for Client.put."""
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
            sent = storing.send_local(
                file.fileno(), disk_path, replication=replication, chunk_size=chunk_size, added=tally.moved
            )
            storing.publisher.publish(Batch([make(whole_chunks(sent))], sent))
            size = sum(one.chunk.length for one in sent)
        else:
            pending = storing.stream(make, replication=replication, chunk_size=chunk_size)
            write_all(pending, pieces_of(file), tally.moved)
            size = pending.length
    tally.files(1, size, moved=True)
    return tally.report
