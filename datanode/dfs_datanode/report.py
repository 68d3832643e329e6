"""Chunk reports: what this datanode has, in pages sorted by id, or first as digests of ranges of ids.

Nearly always the namenode knows it all: then a number for each few thousand chunks is enough, and pages are sent only
where numbers differ. The digests are of what the trailers say, so that they find whatever a page would have told.

Reports only correct what receipts told already, so they may take their time: trailers are read off the event loop,
with rests between. A volume that could not be listed completely is left out of `volumes`, so that its chunks count as
unavailable and not as gone.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dfs.protocol.digests import range_digest
from dfs.protocol.errors import CorruptReplica, Unavailable
from dfs.protocol.messages import LIST_MAX, ChunkReport, RangeDigest, RangeReport, ReportedReplica
from dfs_datanode.chunk_file import read_trailer
from dfs_datanode.chunk_store import ChunkStore
from dfs_datanode.disk import Disk, is_short_of_means

logger = logging.getLogger("dfs.datanode.report")

_REST_EVERY = 1000


@dataclass(frozen=True)
class Scan:
    """What lies on the volumes, as far as they could be listed. Names only: trailers are read when they are told."""

    complete: list[str]
    """Volumes that were listed completely."""
    found: list[tuple[str, int]]
    """Chunk and number of the volume, in the order of the ids."""

    def spans(self, size: int) -> list["Span"]:
        """All ids, in spans of so many chunks; at least one."""
        spans = []
        after = ""
        for begin in range(0, max(1, len(self.found)), size):
            last = begin + size >= len(self.found)
            up_to = "" if last else self.found[begin + size - 1][0]
            spans.append(Span(begin, begin + size, after, up_to))
            after = up_to
        return spans


@dataclass(frozen=True)
class Span:
    """The chunks [begin, end) of a scan: all that it has of the ids in (after, up_to]."""

    begin: int
    end: int
    after: str
    up_to: str


class Reported:
    """One report of a datanode to one namenode: digests of spans, or their pages.

    as_of   the namenode's sequence number before the scan began
    bad     told of each chunk (id, why) whose file can't be reported; it is not listed as present
    rest_s  pause after each thousand trailers
    """

    def __init__(
        self,
        store: ChunkStore,
        disk: Disk,
        *,
        datanode: str,
        incarnation: int,
        boot: str,
        as_of: int,
        bad: Callable[[str, str], None],
        rest_s: float,
    ) -> None:
        self._store = store
        self._disk = disk
        self._datanode = datanode
        self._incarnation = incarnation
        self._boot = boot
        self._as_of = as_of
        self._bad = bad
        self._rest_s = rest_s
        self.scan = _scan(store)

    def digests(self, spans: Sequence[Span]) -> RangeReport:
        """All spans as one number each. Raises Unavailable: the report must begin anew."""
        ranges = []
        for span in spans:
            listed = (
                (bytes.fromhex(one.chunk), bytes.fromhex(one.volume), one.length, bytes.fromhex(one.digest))
                for one in self._replicas(span)
            )
            count, digest = range_digest(listed)
            ranges.append(RangeDigest(span.after, span.up_to, count, digest))
        return RangeReport(
            datanode=self._datanode,
            incarnation=self._incarnation,
            boot=self._boot,
            as_of=self._as_of,
            ranges=ranges,
        )

    def page(self, span: Span) -> ChunkReport:
        """Everything in a span. Raises Unavailable: a volume vanished in the middle, or no file can be opened."""
        return ChunkReport(
            datanode=self._datanode,
            incarnation=self._incarnation,
            boot=self._boot,
            as_of=self._as_of,
            after=span.after,
            up_to=span.up_to,
            volumes=self.scan.complete,
            replicas=list(self._replicas(span)),
        )

    def _replicas(self, span: Span) -> Iterator[ReportedReplica]:
        for count, (chunk, number) in enumerate(self.scan.found[span.begin : span.end]):
            if count % _REST_EVERY == _REST_EVERY - 1:
                time.sleep(self._rest_s)
            replica = _reported(self._store, self._disk, chunk, number, self._bad)
            if replica is not None:
                yield replica


def report_pages(
    store: ChunkStore,
    disk: Disk,
    *,
    datanode: str,
    incarnation: int,
    boot: str,
    as_of: int,
    bad: Callable[[str, str], None],
    rest_s: float,
    page_size: int = LIST_MAX,
) -> Iterator[ChunkReport]:
    """All pages of one report; at least one. See `Reported`."""
    reported = Reported(
        store, disk, datanode=datanode, incarnation=incarnation, boot=boot, as_of=as_of, bad=bad, rest_s=rest_s
    )
    for span in reported.scan.spans(page_size):
        yield reported.page(span)


def _scan(store: ChunkStore) -> Scan:
    complete: list[str] = []
    found: list[tuple[str, int]] = []
    for number, volume in enumerate(store.volumes):
        if not volume.holds_chunks:
            continue
        try:
            listed = [(chunk, number) for chunk in volume.chunks()]
        except OSError as error:
            logger.error("the volume %s can't be listed: %s", volume.directory, error)
            volume.read_errors += 1
            continue
        complete.append(volume.id)
        found += listed
    found.sort()
    return Scan(complete, found)


def _reported(
    store: ChunkStore, disk: Disk, chunk: str, number: int, bad: Callable[[str, str], None]
) -> ReportedReplica | None:
    volume = store.volumes[number]
    try:
        trailer = read_trailer(disk, volume.path_of(chunk))
        if trailer.chunk != chunk:
            raise CorruptReplica("the file holds another chunk than its name says")
    except FileNotFoundError:
        if volume.check().state == "failed":
            # Its disk was unmounted since it was listed: what is on it is unavailable, not gone.
            raise Unavailable(f"the volume {volume.directory} vanished while it was reported") from None
        return None
    except (OSError, CorruptReplica) as error:
        if isinstance(error, OSError):
            if is_short_of_means(error):
                raise Unavailable(f"no file can be opened now ({error})") from error
            volume.read_errors += 1
        bad(chunk, str(error))
        return None
    return ReportedReplica(chunk, trailer.length, trailer.root.hex(), volume.id)
