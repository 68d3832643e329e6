"""When a chunk report is sent, and to whom: soon after each registration, at intervals, and when it is asked for.

Separate from `report`, which says what is in one, and from the heartbeat, which must not wait for a scan.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from dfs.protocol.clock import Clock
from dfs.protocol.errors import BadAnswer, DfsError, StaleIncarnation
from dfs.protocol.messages import LIST_MAX
from dfs.protocol.operations import REPORT, REPORT_RANGES
from dfs.protocol.transport import Transport
from dfs_datanode.chunk_store import ChunkStore
from dfs_datanode.disk import Disk
from dfs_datanode.heartbeat import NamenodeLink
from dfs_datanode.report import Reported, Span

logger = logging.getLogger("dfs.datanode.report")

FIRST_DELAY_MAX_S = 2.0
"""The first report comes after a random part of this, so that a cluster that starts does not report all at once."""
RETRY_S = 5.0
LOOK_S = 1.0
PAGE_TIMEOUT_S = 120.0
RANGE_CHUNKS = 2000
"""Chunks in a range, and so in a page: small enough that one chunk that differs does not cost much."""


@dataclass
class _Due:
    registrations: int = 0
    at_s: float = 0.0


class Reporter:
    """Sends reports to all namenodes. `turn` is used by one thread, `request` by any.

    bad  told of each chunk (id, why) whose file can't be reported
    """

    def __init__(
        self,
        links: list[NamenodeLink],
        *,
        store: ChunkStore,
        disk: Disk,
        transport: Transport,
        datanode: str,
        clock: Clock,
        bad: Callable[[str, str], None],
        rest_s: float,
    ) -> None:
        self._links = links
        self._store = store
        self._disk = disk
        self._transport = transport
        self._datanode = datanode
        self._clock = clock
        self._bad = bad
        self._rest_s = rest_s
        self._requested = False
        self._due = {link.url: _Due() for link in links}

    def request(self) -> None:
        """A namenode wants a report soon. All get one: which of them asked does not matter."""
        self._requested = True

    def turn(self) -> float:
        """Send what is due; the seconds until the next look."""
        requested, self._requested = self._requested, False
        for link in self._links:
            due = self._due[link.url]
            if link.incarnation is None:
                continue
            now_s = self._clock.monotonic_s()
            if link.registrations != due.registrations:
                due.registrations = link.registrations
                due.at_s = now_s + random.uniform(0, FIRST_DELAY_MAX_S)
            if requested or now_s >= due.at_s:
                sent = self._send(link, link.incarnation)
                due.at_s = self._clock.monotonic_s() + (link.report_interval_s if sent else RETRY_S)
        return LOOK_S

    def _send(self, link: NamenodeLink, incarnation: int) -> bool:
        reported = Reported(
            self._store,
            self._disk,
            datanode=self._datanode,
            incarnation=incarnation,
            boot=link.boot,
            as_of=link.seq,
            bad=self._bad,
            rest_s=self._rest_s,
        )
        replicas = 0
        try:
            for span in self._differing(link, reported):
                page = reported.page(span)
                self._transport.call(link.url, REPORT, page, timeout_s=PAGE_TIMEOUT_S)
                replicas += len(page.replicas)
        except StaleIncarnation:
            return False  # the heartbeat learns the same and registers again; a new report follows that
        except DfsError as error:
            logger.warning("a chunk report did not reach %s: %s", link.url, error)
            return False
        logger.info("reported to %s: %d of %d chunks one by one", link.url, replicas, len(reported.scan.found))
        return True

    def _differing(self, link: NamenodeLink, reported: Reported) -> list[Span]:
        """The spans whose pages the namenode wants. Raises DfsError."""
        spans = reported.scan.spans(max(RANGE_CHUNKS, -(-len(reported.scan.found) // LIST_MAX)))
        try:
            answer = self._transport.call(link.url, REPORT_RANGES, reported.digests(spans), timeout_s=PAGE_TIMEOUT_S)
        except BadAnswer:
            # A namenode from before there were ranges.
            return spans
        return [spans[number] for number in answer.wanted if number < len(spans)]
