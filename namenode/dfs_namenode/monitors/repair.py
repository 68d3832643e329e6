"""Repairs chunks: reads a window of the work table, lets the planner decide, and gives the commands.

The window has two parts. The head, where the most urgent chunks are, is looked at in every turn; the rest is walked
through from turn to turn, so that chunks which nobody can help now do not stand in the way of those behind them.
"""

import asyncio
import logging
from collections.abc import Callable
from random import Random

from dfs.protocol.clock import Clock
from dfs_namenode.commands import Outbox
from dfs_namenode.deeds import Deeds
from dfs_namenode.keys import NodeKeys
from dfs_namenode.liveness import ClusterView, Liveness
from dfs_namenode.monitors.leader import Leader
from dfs_namenode.monitors.safety import Safety
from dfs_namenode.pulling import pull_command
from dfs_namenode.repair import PRIORITY_NAMES, DropReplica, Need, Pull, Reprioritise, Settled, plan, standing
from dfs_namenode.store import garbage, replicas, work
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.transaction import Row, Snapshot, Transaction

log = logging.getLogger(__name__)
HEAD = 100
WALK = 400


class Repair:
    """Knows how far the walk through the work table has come."""

    def __init__(
        self,
        store: SqliteStore,
        leader: Leader,
        liveness: Liveness,
        outbox: Outbox,
        safety: Safety,
        keys: NodeKeys,
        deeds: Deeds,
        *,
        clock: Clock,
        streams: int,
        ttl_ms: int,
        rng: Random,
    ) -> None:
        self._store = store
        self._leader = leader
        self._liveness = liveness
        self._outbox = outbox
        self._safety = safety
        self._keys = keys
        self._deeds = deeds
        self._clock = clock
        self._streams = streams
        self._ttl_ms = ttl_ms
        self._rng = rng
        self._walked_to = work.BEGINNING

    async def turn(self) -> None:
        """Plan for one window, and give the commands; in a safe mode, none."""
        cluster = self._liveness.view()
        self._outbox.forget_silent(
            silent={node.id for node in cluster.datanodes.values() if node.state != "live"},
            dead={node.id for node in cluster.dead()},
        )
        held_back = bool(self._safety.modes())
        needs, finished = await asyncio.to_thread(self._window, cluster)
        under_way = self._outbox.under_way()
        instructions = plan(
            needs,
            cluster=cluster,
            streams=self._outbox.streams(self._streams),
            under_way=under_way,
            avoid=self._outbox.avoid(need.chunk for need in needs),
            rng=self._rng,
        )
        settled, moved = list(finished), []
        priorities = {need.chunk: need.priority for need in needs}
        for instruction in instructions:
            match instruction:
                case Pull() | DropReplica() if held_back:
                    continue  # but what needs it is told of, and in its right order
                case Pull(chunk):
                    if self._pull(instruction, cluster):
                        self._deeds.add("repair", PRIORITY_NAMES[priorities[chunk]])
                case DropReplica(chunk, datanode):
                    if self._outbox.delete(datanode, chunk):
                        log.info("the replica of %s at %s is bad or surplus, and not needed any more", chunk, datanode)
                        self._deeds.add("drop")
                case Settled(chunk):
                    settled.append(chunk)
                case Reprioritise(chunk, priority):
                    priorities[chunk] = priority
                    moved.append(instruction)
        if settled or moved:
            await self._leader.write(lambda tx: keep(tx, settled, moved, self._liveness.view))

    def _pull(self, pull: Pull, cluster: ClusterView) -> bool:
        command = pull_command(pull, cluster, self._keys, expires_ms=self._clock.wall_ms() + self._ttl_ms)
        return self._outbox.pull(pull.target, command, source=pull.sources[0])

    def _window(self, cluster: ClusterView) -> tuple[list[Need], list[str]]:
        """The needs to plan for, and chunks in the work table that are no more."""
        with self._store.read() as snapshot:
            head = work.window(snapshot, work.BEGINNING, HEAD)
            start = max(self._walked_to, work.position(head[-1])) if head else work.BEGINNING
            walked = work.window(snapshot, start, WALK) if len(head) == HEAD else []
            self._walked_to = work.position(walked[-1]) if len(walked) == WALK else work.BEGINNING
            return needs_of(snapshot, [*head, *walked], cluster)


def needs_of(snapshot: Snapshot, rows: list[Row], cluster: ClusterView) -> tuple[list[Need], list[str]]:
    live = [row for row in rows if row[3] is not None]
    held = replicas.replicas_of(snapshot, [row[2].hex() for row in live])
    needs = []
    for priority, _, chunk, length, digest, replication in live:
        known = replicas.named(held.get(chunk.hex(), ()), cluster.by_num)
        needs.append(Need(chunk.hex(), length, digest.hex(), replication, priority, known))
    return needs, [row[2].hex() for row in rows if row[3] is None]


def keep(
    tx: Transaction, settled: list[str], moved: list[Reprioritise], cluster_now: Callable[[], ClusterView]
) -> None:
    """Write down what the plan found. A chunk is looked at again before its row goes: it may have got worse.

    cluster_now   asked inside the transaction: a datanode that died since the plan has made its work already, and that
                  is put in only once
    """
    cluster = cluster_now()
    for chunk in settled:
        if garbage.replication_of(tx, chunk) is None or _needs_nothing(tx, chunk, cluster):
            work.done(tx, chunk)
    for instruction in moved:
        work.set_priority(tx, instruction.chunk, instruction.priority)


def _needs_nothing(tx: Transaction, chunk: str, cluster: ClusterView) -> bool:
    known = replicas.named(replicas.replicas_of(tx, [chunk]).get(chunk, ()), cluster.by_num)
    wanted = cluster.copies_wanted(garbage.replication_of(tx, chunk) or 0)
    return standing(known, cluster, wanted=wanted)[1] is None
