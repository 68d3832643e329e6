"""What operators ask of a cluster: inspections, and decisions about datanodes and about holding back.

Separate from `client`, which is for those who store and read files: nothing here touches a file's bytes. Each method
is one call of the protocol, or the pages of one; long work goes on in the cluster, and `status` shows how far it is.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from dfs.namenodes import Namenodes
from dfs.protocol.clock import Clock
from dfs.protocol.messages import (
    Balance,
    DatanodeStateSet,
    FilePlaces,
    ForgetDatanode,
    Forgotten,
    Fsck,
    FsckPage,
    HistoryResolved,
    Open,
    ResolveHistory,
    ScrubDatanodes,
    SetDatanodeState,
    SetSafeMode,
)
from dfs.protocol.operations import (
    BALANCE,
    FORGET_DATANODE,
    FSCK,
    PLACES,
    RESOLVE_HISTORY,
    SCRUB,
    SET_DATANODE_STATE,
    SET_SAFE_MODE,
)

if TYPE_CHECKING:
    from dfs.diagnosis import Facts


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

    def __init__(self, namenodes: Namenodes, canonical: Callable[[str], str], clock: Clock) -> None:
        self._namenodes = namenodes
        self._canonical = canonical
        self._clock = clock

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

    def scrub(self, datanodes: Sequence[str] = ()) -> None:
        """Have these datanodes, or all that are live, read and verify everything they have, beginning now."""
        self._namenodes.call(SCRUB, ScrubDatanodes(datanodes=list(datanodes)))

    def set_safe_mode(self, *, on: bool) -> list[str]:
        """Hold deletion and repair back, or go on. Returns why they are held back now."""
        return self._namenodes.call(SET_SAFE_MODE, SetSafeMode(on=on)).modes

    def resolve_history(self) -> HistoryResolved:
        """What the store does not know may be deleted again: an operator has looked at it."""
        return self._namenodes.call(RESOLVE_HISTORY, ResolveHistory())
