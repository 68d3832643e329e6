"""What operators ask of a cluster: inspections, and decisions about datanodes and about holding back.

Separate from `client`, which is for those who store and read files: nothing here touches a file's bytes. Each method
is one call of the protocol, or the pages of one; long work goes on in the cluster, and `status` shows how far it is.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from dfs.namenodes import Namenodes
from dfs.protocol.clock import Clock
from dfs.protocol.errors import FileExists
from dfs.protocol.messages import (
    ORPHANS_PAGE_MAX,
    BackupMade,
    BackupNow,
    Balance,
    DatanodeStateSet,
    FilePlaces,
    ForgetDatanode,
    Forgotten,
    Fsck,
    FsckPage,
    HistoryResolved,
    ListOrphans,
    Open,
    OrphansPage,
    ResolveHistory,
    ScrubDatanodes,
    SetDatanodeState,
    SetSafeMode,
)
from dfs.protocol.operations import (
    BACKUP_NOW,
    BALANCE,
    FORGET_DATANODE,
    FSCK,
    ORPHANS,
    PLACES,
    RESOLVE_HISTORY,
    SCRUB,
    SET_DATANODE_STATE,
    SET_SAFE_MODE,
)

if TYPE_CHECKING:
    from dfs.adopting import Rebuilt
    from dfs.diagnosis import Facts
    from dfs.get_tree import Downloads
    from dfs.orphans import Orphans
    from dfs.rebuilding import HowFar


def places(namenodes: Namenodes, path: str) -> FilePlaces:
    """A file's extents and chunks, and where every replica is: all pages of it."""
    page = found = namenodes.call(PLACES, Open(path=path))
    extents, chunks = list(found.extents), {chunk.id: chunk for chunk in found.chunks}
    while page.next_offset is not None:
        page = namenodes.call(PLACES, Open(path=path, offset=page.next_offset))
        extents += page.extents
        chunks |= {chunk.id: chunk for chunk in page.chunks}
    return FilePlaces(entry=found.entry, extents=extents, chunks=list(chunks.values()))


class Operating:
    """`fs.admin`. Usable from several threads."""

    def __init__(
        self,
        namenodes: Namenodes,
        canonical: Callable[[str], str],
        clock: Clock,
        orphans: "Callable[[], Orphans]",
        downloads: "Callable[[], Downloads]",
    ) -> None:
        self._namenodes = namenodes
        self._canonical = canonical
        self._clock = clock
        self._orphans = orphans
        self._downloads = downloads

    def look(self) -> "Facts":
        """How every server answers this machine; `dfs.diagnosis.diagnose` says what of it is wrong."""
        from dfs import __version__
        from dfs.probing import look

        return look(self._namenodes, self._clock, __version__)

    def fsck(self, path: str = "/", *, all_files: bool = False, repair: bool = False) -> Iterator[FsckPage]:
        """The health of the files at and below a path, page by page.

        all_files  also name the files that are healthy
        repair     have what is wrong looked at and repaired before other work
        """
        request = Fsck(path=self._canonical(path), all_files=all_files, repair=repair)
        while True:
            page = self._namenodes.call(FSCK, request)
            yield page
            if page.next is None:
                return
            request = Fsck(
                path=request.path, after=page.next, position=page.next_position, all_files=all_files, repair=repair
            )

    def orphans(self) -> Iterator[OrphansPage]:
        """What datanodes have and no file does, with why it is kept, page by page."""
        request = ListOrphans(limit=ORPHANS_PAGE_MAX)
        while True:
            page = self._namenodes.call(ORPHANS, request)
            yield page
            if page.next is None:
                return
            request = ListOrphans(after=page.next, limit=ORPHANS_PAGE_MAX)

    def rebuild(self, *, dry_run: bool = False, tell: "Callable[[HowFar], None] | None" = None) -> "Rebuilt":
        """Bring back what the namenode does not know and its datanodes have. Never over an existing path; repeatable.

        dry_run  only say what would come back
        tell     called as it goes on, from several threads, one at a time
        """
        from dfs.rebuilding import Rebuild

        return Rebuild(self._namenodes, self._orphans(), dry_run=dry_run, tell=tell or (lambda _: None)).run()

    def decommission(self, datanode: str) -> DatanodeStateSet:
        """Have what a datanode holds copied elsewhere. It is `decommissioned` in `status` when that is done."""
        return self._set_state(SetDatanodeState(datanode=datanode, state="draining"))

    def recommission(self, datanode: str) -> DatanodeStateSet:
        """Take a datanode back into service, whatever it was taken out for."""
        return self._set_state(SetDatanodeState(datanode=datanode, state="in_service"))

    def maintenance(self, datanode: str, duration_s: float) -> DatanodeStateSet:
        """A datanode will be away for so long: what it has is not made anew meanwhile."""
        until_ms = self._namenodes.refresh().time_ms + int(duration_s * 1000)
        return self._set_state(SetDatanodeState(datanode=datanode, state="maintenance", until_ms=until_ms))

    def _set_state(self, request: SetDatanodeState) -> DatanodeStateSet:
        return self._namenodes.call(SET_DATANODE_STATE, request)

    def forget(self, datanode: str) -> Forgotten:
        """A datanode that is dead or decommissioned will not come back: its replicas are forgotten."""
        return self._namenodes.call(FORGET_DATANODE, ForgetDatanode(datanode=datanode))

    def balance(self, threshold: float) -> None:
        """Begin to move chunks to emptier datanodes, until all are within `threshold` of the mean."""
        self._namenodes.call(BALANCE, Balance(do="start", threshold=threshold))

    def stop_balance(self) -> None:
        """Move no more chunks; what is under way is finished."""
        self._namenodes.call(BALANCE, Balance(do="stop"))

    def backup(self, output: str | None = None, *, overwrite: bool = False) -> BackupMade:
        """Back the namenode's store up into the cluster, and wait until that is done.

        output  a local file that gets the backup as well, for `dfs admin restore --from-file`
        """
        if output is not None and not overwrite and os.path.lexists(output):
            raise FileExists(f"{output} exists already; overwrite=True replaces it", path=output)
        answer = self._namenodes.call(BACKUP_NOW, BackupNow())
        while answer.made is None:
            answer = self._namenodes.call(BACKUP_NOW, BackupNow(since_ms=answer.since_ms))
        if output is not None:
            self._downloads().download_content(answer.made.content, output, overwrite=overwrite)
        return answer.made

    def scrub(self, datanodes: Sequence[str] = ()) -> None:
        """Have these datanodes, or all that are live, read and verify everything they have, beginning now."""
        self._namenodes.call(SCRUB, ScrubDatanodes(datanodes=list(datanodes)))

    def set_safe_mode(self, *, on: bool) -> list[str]:
        """Hold deletion and repair back, or go on. Returns why they are held back now."""
        return self._namenodes.call(SET_SAFE_MODE, SetSafeMode(on=on)).modes

    def resolve_history(self) -> HistoryResolved:
        """What the store does not know may be deleted again: an operator has looked at it."""
        return self._namenodes.call(RESOLVE_HISTORY, ResolveHistory())
