"""Watches datanodes and volumes: those that are gone make work of their chunks, those that are back send a report.

Nothing is written about the datanode itself, and no replica row is touched: a replica on a dead datanode is only not
counted, so that it is good again at once when its datanode is back.
"""

import asyncio
import logging
from dataclasses import dataclass

from dfs_namenode.commands import ReportTurns
from dfs_namenode.liveness import ClusterView, Liveness
from dfs_namenode.monitors.leader import Leader
from dfs_namenode.repair import priority_of
from dfs_namenode.store import replicas, work
from dfs_namenode.store.schema import WORK_UNDER_REPLICATED
from dfs_namenode.store.sqlite import SqliteStore

log = logging.getLogger(__name__)
BATCH = 500
BATCHES_IN_TURN = 10


@dataclass
class _Gone:
    """A place whose chunks become work: how far that has come."""

    after: str = ""
    complete: bool = False


Place = tuple[str, str]
"""A datanode, and one of its volumes; "" for all of them."""


def gone_places(cluster: ClusterView) -> set[Place]:
    """Dead datanodes, and failed volumes of the others."""
    places: set[Place] = set()
    for node in cluster.datanodes.values():
        if node.state == "dead":
            places.add((node.id, ""))
        else:
            places |= {(node.id, volume.id) for volume in node.volumes if volume.state == "failed"}
    return places


class Watch:
    """Remembers which places are gone, and whose chunks are work already."""

    def __init__(self, store: SqliteStore, leader: Leader, liveness: Liveness, reports: ReportTurns) -> None:
        self._store = store
        self._leader = leader
        self._liveness = liveness
        self._reports = reports
        self._gone: dict[Place, _Gone] = {}

    async def turn(self) -> None:
        """Take notice of who is gone or back, and turn the next batches of chunks into work."""
        cluster = self._liveness.view()
        now_gone = gone_places(cluster)
        for place in [place for place in self._gone if place not in now_gone]:
            del self._gone[place]
            if cluster.state(place[0]) != "dead":
                log.warning("%s is back", _name(place))
                self._reports.want(place[0])
        for place in sorted(now_gone - set(self._gone)):
            log.warning("%s is gone: its chunks are made anew elsewhere", _name(place))
            self._gone[place] = _Gone()
        for place, progress in list(self._gone.items()):
            for _ in range(BATCHES_IN_TURN):
                if progress.complete:
                    break
                await self._enqueue(place, progress, cluster)

    async def _enqueue(self, place: Place, progress: _Gone, cluster: ClusterView) -> None:
        datanode, volume = place
        number = cluster.datanodes[datanode].num
        chunks, last = await asyncio.to_thread(self._next_chunks, number, volume, progress.after, cluster)
        if chunks:
            await self._leader.write(lambda tx: work.put_many(tx, chunks, why=WORK_UNDER_REPLICATED))
        progress.after = last or progress.after
        progress.complete = last is None

    def _next_chunks(
        self, number: int, volume: str, after: str, cluster: ClusterView
    ) -> tuple[list[tuple[bytes, int]], str | None]:
        """The next chunks that need work with their priorities, and where to go on; None: that was all."""
        with self._store.read() as snapshot:
            rows = replicas.at_datanode(snapshot, number, after=after, up_to="", limit=BATCH)
            affected = [row.chunk for row in rows if volume in ("", row.volume)]
            held = replicas.replicas_of(snapshot, affected)
        found = []
        for chunk in affected:
            known = replicas.named(held.get(chunk, ()), cluster.by_num)
            good = sum(replica.good and cluster.serves(replica.datanode, replica.volume) for replica in known)
            # What is wanted is not known here; the planner settles what needs nothing.
            priority = priority_of(good, good + 1)
            assert priority is not None
            found.append((bytes.fromhex(chunk), priority))
        return found, rows[-1].chunk if len(rows) == BATCH else None


def _name(place: Place) -> str:
    datanode, volume = place
    return f"the volume {volume} of {datanode}" if volume else f"the datanode {datanode}"
