"""report_ranges: what a datanode has, as digests of ranges of ids. Only ranges that differ need their pages.

A range agrees if the store has exactly those replicas there, on those volumes: good ones of live chunks, and orphans
that are on record. Then its page would change nothing. Everything else, such as a volume that could not be read, is
judged by `report`.
"""

import asyncio
from collections.abc import Sequence

from dfs.protocol.digests import range_digest
from dfs.protocol.errors import InvalidRequest, StaleIncarnation
from dfs.protocol.messages import RangeDigest, RangeReport, RangesDiffering
from dfs_namenode.commands import ReportTurns
from dfs_namenode.liveness import Liveness
from dfs_namenode.store import replicas
from dfs_namenode.store.sqlite import SqliteStore


async def report_ranges(
    request: RangeReport, *, store: SqliteStore, liveness: Liveness, reports: ReportTurns
) -> RangesDiffering:
    """Name the ranges whose pages must be sent. Repeatable; changes nothing.

    Raises   StaleIncarnation: the datanode must register again; InvalidRequest: the ranges leave something out
    """
    life = liveness.life(request.datanode)
    if life is None or life[:2] != (request.incarnation, request.boot):
        raise StaleIncarnation(f"this report is from an earlier life of {request.datanode}; it must register again")
    require_all_ids(request.ranges)
    number = liveness.view().datanodes[request.datanode].num
    wanted = await asyncio.to_thread(_differing, store, number, request.ranges)
    if not wanted:
        reports.finished(request.datanode)
    elif wanted[-1] != len(request.ranges) - 1:
        wanted.append(len(request.ranges) - 1)
    return RangesDiffering(wanted=wanted)


def require_all_ids(ranges: Sequence[RangeDigest]) -> None:
    """Raise InvalidRequest unless the ranges follow each other from the beginning of all ids to their end."""
    after = ""
    for number, one in enumerate(ranges):
        last = number == len(ranges) - 1
        if one.after != after or (one.up_to == "") != last or (not last and one.up_to <= one.after):
            raise InvalidRequest("the ranges of a report must follow each other, over all ids")
        after = one.up_to


def _differing(store: SqliteStore, datanode: int, ranges: Sequence[RangeDigest]) -> list[int]:
    wanted = []
    for number, one in enumerate(ranges):
        # A short snapshot for each: a range that changes meanwhile differs, or its change is newer than the scan.
        with store.read() as snapshot:
            known = range_digest(replicas.reportable(snapshot, datanode, after=one.after, up_to=one.up_to))
        if known != (one.count, one.digest):
            wanted.append(number)
    return wanted
