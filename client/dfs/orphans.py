"""Reading orphans: replicas that belong to no file, as the namenode's record and the datanodes have them.

Separate from `rebuilding`, which decides what becomes of them. Nobody but an operator gets leave to read them; they are
found by the id of their chunk, and read as any chunk is: verified against the digest that datanodes report.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from dfs.fetcher import Fetcher
from dfs.layout import PlacedExtent
from dfs.namenodes import Namenodes
from dfs.protocol.errors import CorruptReplica, DfsError, ReplicasUnavailable
from dfs.protocol.hints import Hints, decode_hints
from dfs.protocol.messages import Extent, ListOrphans, OrphanChunk, OrphansPage, Target
from dfs.protocol.operations import ORPHANS
from dfs.protocol.transport import Transport
from dfs.runs import Run
from dfs.workers import Workers

T = TypeVar("T")
R = TypeVar("R")

PAGE = 200
"""Orphans of one page: what they give leave for is used well before it ends."""
READ_BYTES = 8 << 20
"""Of a chunk at a time, where nothing needs all of it."""

# Why nothing can be made of an orphan.
IN_FLIGHT = "may still be committed by their writers"
DELETED = "of removed files, and wait for their deletion"
AWAY = "no datanode that has them can be read from now"
DISAGREE = "their replicas differ, and nobody can say which is right"
UNHINTED = "do not say what they are"


class Orphans:
    """The orphans of a cluster. Usable from several threads."""

    def __init__(self, namenodes: Namenodes, transport: Transport, fetcher: Fetcher, workers: Workers) -> None:
        self._namenodes = namenodes
        self._transport = transport
        self._fetcher = fetcher
        self._workers = workers

    def map(self, work: Callable[[T], R], items: Iterable[T], *, ahead: int | None = None) -> Iterator[R]:
        """The results of `work` on each item, in order, some of them at once."""
        return self._workers.map(work, items, ahead=ahead)

    def page(self, request: ListOrphans) -> OrphansPage:
        """One page of them."""
        return self._namenodes.call(ORPHANS, request)

    def everything(self) -> Iterator[OrphanChunk]:
        """All of them, newest first, each with leave to read it."""
        after = ""
        while True:
            page = self.page(ListOrphans(after=after, newest_first=True, limit=PAGE, read=True))
            yield from page.orphans
            if page.next is None:
                return
            after = page.next

    def one(self, chunk: str) -> OrphanChunk | None:
        """The orphan of that id, with leave to read it; None: there is none, or it can't be used."""
        before = f"{int(chunk, 16) - 1:032x}" if int(chunk, 16) else ""
        found = self.page(ListOrphans(after=before, limit=1, read=True)).orphans
        if not found or found[0].chunk != chunk or why_unusable(found[0]) is not None:
            return None
        return found[0]

    def hints_of(self, orphan: OrphanChunk) -> Hints | None:
        """What a chunk says of itself. None: nothing that can be understood. Raises DfsError: nobody answers."""
        last: DfsError = ReplicasUnavailable(f"nobody has the chunk {orphan.chunk}")
        answered = False
        for replica in orphan.replicas:
            if not replica.live:
                continue
            try:
                raw = self._transport.get_hints(replica.url, chunk=orphan.chunk, capability=orphan.capability)
            except DfsError as error:
                last = error
                continue
            answered = True
            hints = decode_hints(raw)
            if hints is not None:
                return hints
        if not answered:
            raise last
        return None

    def hinted(self, orphans: Iterable[OrphanChunk]) -> Iterator[tuple[OrphanChunk, Hints | str]]:
        """Orphans with their hints, or with why they can't be used."""

        def look(orphan: OrphanChunk) -> tuple[OrphanChunk, Hints | str]:
            reason = why_unusable(orphan)
            if reason is not None:
                return orphan, reason
            try:
                return orphan, self.hints_of(orphan) or UNHINTED
            except DfsError:
                return orphan, AWAY

        return self._workers.map(look, orphans)

    def placed(self, orphan: OrphanChunk, extent: Extent | None = None) -> PlacedExtent:
        """An extent of an orphan, or all of it, for the fetcher. Raises ReplicasUnavailable: it has no bytes."""
        known = orphan.replicas[0]
        if not known.length:
            raise ReplicasUnavailable(f"the chunk {orphan.chunk} is empty")
        extent = extent or Extent(orphan.chunk, 0, known.length, known.digest)
        if extent.offset + extent.length > known.length:
            raise CorruptReplica(f"an extent reaches beyond the end of the chunk {orphan.chunk}")
        return PlacedExtent(
            content=0,
            position=0,
            chunk=orphan.chunk,
            offset=extent.offset,
            length=extent.length,
            digest=extent.digest,
            chunk_length=known.length,
            chunk_digest=known.digest,
            replicas=tuple(Target(replica.datanode, replica.url) for replica in orphan.replicas if replica.live),
            capability=orphan.capability,
            grant_start=0,
            grant_end=known.length,
        )

    def windows(self, extent: PlacedExtent) -> Iterator[memoryview]:
        """The verified bytes of an extent, one piece after the other; each is overwritten by the next."""
        step = READ_BYTES if extent.by_blocks else extent.length
        buffer = memoryview(bytearray(min(step, extent.length)))
        for start in range(0, extent.length, step):
            end = min(start + step, extent.length)
            self._fetcher.read(extent, start, end, buffer[: end - start])
            yield buffer[: end - start]

    def read_run(self, run: Run) -> None:
        """Read extents that lie side by side, and check each. Raises DfsError."""
        self._fetcher.read_run(run)


def why_unusable(orphan: OrphanChunk) -> str | None:
    """Why nothing can be made of an orphan, whatever it holds; None: something can. Pure."""
    if orphan.why == "deletion" and not orphan.adoptable:
        return DELETED
    if not orphan.agreed:
        return DISAGREE
    if not orphan.adoptable:
        return IN_FLIGHT
    return None if any(replica.live for replica in orphan.replicas) else AWAY
