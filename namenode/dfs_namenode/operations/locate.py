"""locate: more of a content that was opened, or fresh capabilities for it, whatever became of its path.

Its own module because it keeps a promise to readers (S3): a content whose path is gone stays readable for as long as
its reader comes back within the grace. So asking for a retired content begins its grace anew; that is stored before
the answer, since the sweeper goes by it.
"""

from dfs.protocol.errors import VersionGone
from dfs.protocol.messages import Layout, Locate
from dfs_namenode.layout import Granting, layout_of
from dfs_namenode.store import contents
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.transaction import Snapshot, Transaction

REFRESH_MS = 60_000
"""A grace that began less than this ago is not renewed: one write for each reader and minute."""


async def locate(request: Locate, *, store: SqliteStore, granting: Granting, now_ms: int, grace_ms: int) -> Layout:
    """The layout of a window of the content.

    grace_ms  how long a retired content is kept after somebody asked for it
    Raises    VersionGone: it is not kept any more; open the path again
    """
    refresh_ms = min(REFRESH_MS, grace_ms // 4)
    with store.read() as snapshot:
        since_ms = _require(snapshot, request.content, now_ms, grace_ms)
        if since_ms is None or now_ms - since_ms < refresh_ms:
            return _layout(snapshot, request, granting)

    def renew(tx: Transaction) -> None:
        # Asked again: the sweeper may have begun with it meanwhile.
        if _require(tx, request.content, tx.now_ms, grace_ms) is not None:
            contents.still_read(tx, request.content)

    await store.write(renew)
    with store.read() as snapshot:
        return _layout(snapshot, request, granting)


def _require(snapshot: Snapshot, content_id: int, now_ms: int, grace_ms: int) -> int | None:
    """When the content was retired, None if it was not. Raises VersionGone if it is not kept."""
    since_ms = contents.retired_at_ms(snapshot, content_id)
    if contents.size_of(snapshot, content_id) is None or (since_ms is not None and now_ms - since_ms >= grace_ms):
        raise VersionGone("the version that was being read is no longer kept; open the path again", content=content_id)
    return since_ms


def _layout(snapshot: Snapshot, request: Locate, granting: Granting) -> Layout:
    size = contents.size_of(snapshot, request.content)
    if size is None:
        raise VersionGone(
            "the version that was being read is no longer kept; open the path again", content=request.content
        )
    return layout_of(snapshot, request.content, size, offset=request.offset, length=request.length, granting=granting)
