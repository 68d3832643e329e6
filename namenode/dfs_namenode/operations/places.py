"""places: a file's extents, and where every replica of its chunks is, also those that can't be read now.

Its own module because it shows what is, for people; readers get what they can use from `open`.
"""

import asyncio

from dfs.protocol.messages import EXTENTS_WINDOW_MAX, ChunkPlaces, FileExtent, FilePlaces, Open, ReplicaPlace
from dfs.protocol.names import split_path
from dfs_namenode.liveness import ClusterView
from dfs_namenode.namespace import entry_of, require_file
from dfs_namenode.store import chunks, contents, namespace
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.transaction import Snapshot


async def places(request: Open, *, store: SqliteStore, cluster: ClusterView) -> FilePlaces:
    """Extents of the window, and all replicas. Raises FileNotFound, NotADirectory, IsADirectory, InvalidName."""
    return await asyncio.to_thread(_places, request, store, cluster)


def _places(request: Open, store: SqliteStore, cluster: ClusterView) -> FilePlaces:
    parts = split_path(request.path)
    with store.read() as snapshot:
        place = namespace.find(snapshot, parts)
        inode = require_file(place)
        end = inode.content.size if request.length is None else min(inode.content.size, request.offset + request.length)
        rows = contents.window(snapshot, inode.content.id, start=request.offset, end=end, limit=EXTENTS_WINDOW_MAX + 1)
        shown = rows[:EXTENTS_WINDOW_MAX]
        # A dict keeps the order of the file.
        chunk_ids = dict.fromkeys(row.chunk for row in shown)
        return FilePlaces(
            entry=entry_of(place.path, inode, namespace.decode_attributes(inode.attributes)),
            extents=[
                FileExtent(
                    position=row.position,
                    chunk=row.chunk.hex(),
                    offset=row.offset,
                    length=row.length,
                    digest=row.digest.hex(),
                )
                for row in shown
            ],
            chunks=[_chunk(snapshot, chunk, cluster) for chunk in chunk_ids],
            next_offset=rows[EXTENTS_WINDOW_MAX].position if len(rows) > EXTENTS_WINDOW_MAX else None,
        )


def _chunk(snapshot: Snapshot, chunk: bytes, cluster: ClusterView) -> ChunkPlaces:
    facts = chunks.facts(snapshot, chunk)
    assert facts is not None, "an extent's chunk has a row for as long as the extent exists"
    length, digest, replication = facts
    return ChunkPlaces(
        id=chunk.hex(),
        length=length,
        digest=digest.hex(),
        replication=replication,
        replicas=[
            ReplicaPlace(
                datanode=datanode,
                url=cluster.client_url(datanode),
                volume=volume,
                state="good" if good else "bad",
                live=cluster.state(datanode) == "live",
            )
            for datanode, volume, good in chunks.all_replicas(snapshot, chunk)
        ],
    )
