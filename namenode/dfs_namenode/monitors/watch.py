"""Watches datanodes and volumes: what they have becomes work when they go, and is looked at when they are back.

Nothing is written about the datanode itself, and no replica row is touched: a replica on a dead datanode is only not
counted, so that it is good again at once when its datanode is back.

    gone    dead, or a failed volume: its chunks need replicas elsewhere
    silent  not dead yet: only those of its chunks of which one replica is left are urgent
    back    it was gone or out of service, or began a new life (it may have been gone before this process started):
            some of its chunks have more replicas now than they want
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Literal

from dfs_namenode.commands import ReportTurns
from dfs_namenode.liveness import ClusterView, Liveness
from dfs_namenode.monitors.leader import Leader
from dfs_namenode.repair import PRIORITY_BAD, PRIORITY_ONE_LEFT, PRIORITY_SURPLUS, Replica, priority_of, standing
from dfs_namenode.store import garbage, replicas, work
from dfs_namenode.store.schema import WORK_SURPLUS, WORK_UNDER_REPLICATED
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.verifications import Verifications

log = logging.getLogger(__name__)
BATCH = 500
BATCHES_IN_TURN = 10

Place = tuple[str, str]
"""A datanode, and one of its volumes; "" for all of them."""
Why = Literal["gone", "silent", "back"]


@dataclass
class _Walk:
    """Through the chunks of a place: how far that has come."""

    after: str = ""
    complete: bool = False


def gone_places(cluster: ClusterView) -> set[Place]:
    """Dead datanodes, and failed volumes of the others."""
    places: set[Place] = set()
    for node in cluster.datanodes.values():
        if node.state == "dead":
            places.add((node.id, ""))
        else:
            places |= {(node.id, volume.id) for volume in node.volumes if volume.state == "failed"}
    return places


def silent_places(cluster: ClusterView) -> set[Place]:
    """Datanodes that are silent but not dead, while they are few."""
    if not cluster.few_silent():
        return set()
    return {(node.id, "") for node in cluster.datanodes.values() if node.state == "stale"}


class Watch:
    """Remembers which places are gone, silent or back, and which of their chunks were looked at already."""

    def __init__(
        self,
        store: SqliteStore,
        leader: Leader,
        liveness: Liveness,
        reports: ReportTurns,
        verifications: Verifications,
    ) -> None:
        self._store = store
        self._leader = leader
        self._liveness = liveness
        self._reports = reports
        self._verifications = verifications
        self._walks: dict[Why, dict[Place, _Walk]] = {"gone": {}, "silent": {}, "back": {}}
        self._decided: dict[str, str] = {}
        self._boots: dict[str, str] = {}

    async def turn(self) -> None:
        """Take notice of who is gone or back, and turn the next batches of chunks into work."""
        cluster = self._liveness.view()
        self._notice_changes(cluster)
        self._notice_gone(gone_places(cluster), cluster)
        silent = silent_places(cluster)
        walks = self._walks["silent"]
        for place in set(walks) - silent:
            del walks[place]
        for place in silent - set(walks):
            walks[place] = _Walk()
        for why, places in self._walks.items():
            for place, walk in list(places.items()):
                for _ in range(BATCHES_IN_TURN):
                    if walk.complete or place[0] not in cluster.datanodes:
                        break
                    await self._enqueue(why, place, walk, cluster)
        self._walks["back"] = {place: walk for place, walk in self._walks["back"].items() if not walk.complete}

    def _notice_changes(self, cluster: ClusterView) -> None:
        """A new life, or an operator's decision, changes what counts: look at the chunks of the datanode once more."""
        for node in cluster.live():
            if node.silence_s is not None and self._boots.get(node.id) != node.boot:
                self._boots[node.id] = node.boot
                self._is_back((node.id, ""))
        for node in cluster.datanodes.values():
            before = self._decided.get(node.id)
            self._decided[node.id] = node.admin_state
            if before is not None and before != node.admin_state:
                for place in [place for place in self._walks["gone"] if place[0] == node.id]:
                    self._walks["gone"][place] = _Walk()
                if node.admin_state == "in_service":
                    self._is_back((node.id, ""))

    def _notice_gone(self, now_gone: set[Place], cluster: ClusterView) -> None:
        gone = self._walks["gone"]
        for place in set(gone) - now_gone:
            del gone[place]
            if cluster.state(place[0]) != "dead":
                log.warning("%s is back", _name(place))
                self._reports.want(place[0])
                self._is_back(place)
        for place in sorted(now_gone - set(gone)):
            log.warning("%s is gone: its chunks are made anew elsewhere", _name(place))
            gone[place] = _Walk()

    def _is_back(self, place: Place) -> None:
        self._walks["back"][place] = _Walk()
        # What is surplus from now on was not when it was verified.
        self._verifications.forget_all()

    async def _enqueue(self, why: Why, place: Place, walk: _Walk, cluster: ClusterView) -> None:
        datanode, volume = place
        number = cluster.datanodes[datanode].num
        chunks, last = await asyncio.to_thread(self._next_chunks, why, number, volume, walk.after, cluster)
        if chunks:
            reason = WORK_SURPLUS if why == "back" else WORK_UNDER_REPLICATED
            await self._leader.write(lambda tx: work.put_many(tx, chunks, why=reason))
        walk.after = last or walk.after
        walk.complete = last is None

    def _next_chunks(
        self, why: Why, number: int, volume: str, after: str, cluster: ClusterView
    ) -> tuple[list[tuple[bytes, int]], str | None]:
        """The next chunks that need work with their priorities, and where to go on; None: that was all."""
        with self._store.read() as snapshot:
            rows = replicas.at_datanode(snapshot, number, after=after, up_to="", limit=BATCH)
            affected = [row.chunk for row in rows if volume in ("", row.volume)]
            held = replicas.replicas_of(snapshot, affected)
            # What is wanted is asked only where it decides; the planner settles what needs nothing.
            wanted = {} if why == "gone" else {chunk: garbage.replication_of(snapshot, chunk) for chunk in affected}
        found = []
        for chunk in affected:
            known = replicas.named(held.get(chunk, ()), cluster.by_num)
            priority = _priority(why, known, wanted.get(chunk), cluster)
            if priority is not None:
                found.append((bytes.fromhex(chunk), priority))
        return found, rows[-1].chunk if len(rows) == BATCH else None


def _priority(why: Why, known: tuple[Replica, ...], replication: int | None, cluster: ClusterView) -> int | None:
    """How urgently the planner shall look at a chunk of a place that is gone, silent or back; None: not at all."""
    if why == "gone":
        good = sum(replica.good and cluster.serves(replica.datanode, replica.volume) for replica in known)
        return priority_of(good, good + 1)
    if replication is None:
        return None
    _, priority = standing(known, cluster, wanted=cluster.copies_wanted(replication))
    looked_at = (PRIORITY_ONE_LEFT,) if why == "silent" else (PRIORITY_BAD, PRIORITY_SURPLUS)
    return priority if priority in looked_at else None


def _name(place: Place) -> str:
    datanode, volume = place
    return f"the volume {volume} of {datanode}" if volume else f"the datanode {datanode}"
