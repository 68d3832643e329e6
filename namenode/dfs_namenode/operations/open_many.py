"""open_many: entries and whole layouts of many small files at once.

Its own module because it shares what the files have in common: one map of chunks, and one capability for files that
lie side by side in a pack, or (for readers who know of that) anywhere in it. A path that can't be opened is an
answer, not an error: the others can be read.
"""

import asyncio

from dfs.protocol.errors import DfsError
from dfs.protocol.messages import EXTENTS_WINDOW_MAX, OpenedFile, OpenedMany, OpenMany
from dfs_namenode.layout import Granting, chunk_sources, find_runs, join_runs, placed, sign_runs
from dfs_namenode.namespace import entry_of, require_file
from dfs_namenode.store import contents, namespace
from dfs_namenode.store.contents import ExtentRow
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.transaction import Snapshot
from dfs_namenode.walk import Walk

EXTENTS_PER_FILE_MAX = 64
"""A file with more is opened alone: `complete` is false."""
INLINE_MAX = 32
"""More paths are looked up in a thread, to keep the event loop free."""


async def open_many(request: OpenMany, *, store: SqliteStore, granting: Granting) -> OpenedMany:
    """Open each path; the answers are in the order of the paths."""
    if len(request.paths) > INLINE_MAX:
        return await asyncio.to_thread(_open_many, request, store, granting)
    return _open_many(request, store, granting)


def _open_many(request: OpenMany, store: SqliteStore, granting: Granting) -> OpenedMany:
    with store.read() as snapshot:
        found = []
        rows: list[ExtentRow] = []
        walk = Walk(snapshot)
        for path in request.paths:
            opened, extents = _open_one(snapshot, walk, path, EXTENTS_WINDOW_MAX - len(rows))
            found.append((opened, len(rows), len(rows) + len(extents)))
            rows += extents
        runs, index_of = find_runs(rows)
        lists = [[run] for run in runs]
        if request.joined:
            lists, index_of = join_runs(runs, index_of)
        sources = chunk_sources(snapshot, [row.chunk for row in rows], granting.cluster)
    extents_shown = placed(rows, index_of)
    files = [
        OpenedFile(
            entry=opened.entry,
            content=opened.content,
            extents=extents_shown[start:end],
            complete=opened.complete,
            code=opened.code,
            message=opened.message,
        )
        for opened, start, end in found
    ]
    return OpenedMany(
        files=files, chunks=sources, grants=sign_runs(lists, sources, granting), expires_ms=granting.expires_ms
    )


def _open_one(snapshot: Snapshot, walk: Walk, path: str, room: int) -> tuple[OpenedFile, list[ExtentRow]]:
    """The answer for one path, still without its extents, and these; `room` is how many fit."""
    try:
        place = walk.find(path)
        inode = require_file(place)
    except DfsError as error:
        return OpenedFile(code=error.code, message=error.message), []
    limit = min(room, EXTENTS_PER_FILE_MAX)
    content = inode.content
    rows = contents.first_extents(snapshot, content.id, limit=limit + 1) if content.size else []
    entry = entry_of(place.path, inode, namespace.decode_attributes(inode.attributes))
    complete = len(rows) <= limit
    return OpenedFile(entry=entry, content=content.id, complete=complete), rows if complete else []
