"""Who is alive, and what that means: states of datanodes, and the immutable view of them that operations get.

In memory only: a namenode that starts anew learns it from the next heartbeats. Silence counts from the later of the
last heartbeat and this process's own start, by the monotonic clock, so that a namenode that was away, or whose wall
clock jumps, declares nobody dead. Separate from the store because nothing of it need survive, and from the monitors
because it decides nothing but the state.

    live    heard within `stale_after_s`
    stale   silent for longer: no new chunks, read from last
    dead    silent for `dead_after_s`: not read from, its replicas are made anew elsewhere

Beside it stands what an operator decided (`admin_state`, kept in the store). One that is not in service gets no new
chunks, its receipts do not count, and it is read from after the others.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec
import xxhash

from dfs.protocol.clock import Clock
from dfs.protocol.messages import AdminState, Durability, Member, Target, VolumeState
from dfs_namenode.placement import Candidate, copies_wanted, write_min

State = Literal["live", "stale", "dead"]
_VIEW_FRESH_S = 0.25
"""A view this old is still good: states turn after seconds of silence."""
SUSPECT_S = 30.0
"""How long the word of a peer that a datanode fails it is remembered."""
_DURABLE_STATES = ("in_service", "full")
"""Volumes whose receipts count: a full one takes no more, but what it took is safe."""
_WEAKER: tuple[Durability, ...] = ("sync", "batch", "none")
GIVEN_UP_AFTER_DEATHS = 12
"""Times the silence that makes a datanode dead, after which it is no part of an outage any more: an hour by default."""
RESERVATION_S = 15.0
"""How long granted space counts as used: by then the data is coming in, or never will."""


@dataclass(frozen=True, slots=True)
class Datanode:
    """A datanode as it is known: what it registered, and its last heartbeat."""

    id: str
    peer_url: str
    client_url: str
    rack: str = "default"
    version: str = ""
    incarnation: int = 0
    boot: str = ""
    volumes: tuple[VolumeState, ...] = ()
    streams: int = 0
    state: State = "live"
    silence_s: float | None = None
    """None: not heard since the namenode started."""
    suspect: bool = False
    num: int = 0
    """Its number in the store."""
    durability: Durability = "sync"
    admin_state: AdminState = "in_service"
    admin_until_ms: int = 0
    """When its maintenance ends, wall clock."""

    def volume(self, volume: str) -> VolumeState | None:
        return next((v for v in self.volumes if v.id == volume), None)


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The datanodes at one moment. Immutable: an operation that holds one decides consistently."""

    datanodes: Mapping[str, Datanode] = field(default_factory=dict)
    members: tuple[Member, ...] = ()
    members_version: int = 0
    by_num: Mapping[int, str] = field(default_factory=dict)
    """Ids by the number in the store."""

    def copies_wanted(self, replication: int) -> int:
        """Replicas that this cluster can have of a chunk with that replication."""
        return copies_wanted(replication, len(self.datanodes))

    def write_min(self, replication: int) -> int:
        """Receipts without which a chunk with that replication is not committed."""
        return write_min(replication, len(self.datanodes))

    def state(self, datanode: str) -> State:
        """The state of a datanode; one that is not known is dead."""
        found = self.datanodes.get(datanode)
        return "dead" if found is None else found.state

    def in_service(self, datanode: str, incarnation: int, volume: str) -> bool:
        """Whether a receipt of this life and volume counts now (F98)."""
        found = self.datanodes.get(datanode)
        if found is None or found.state != "live" or found.incarnation != incarnation:
            return False
        if found.admin_state != "in_service":
            return False
        kept_on = found.volume(volume)
        return kept_on is not None and kept_on.state in _DURABLE_STATES

    def serves(self, datanode: str, volume: str) -> bool:
        """Whether replicas on that volume can be expected to be readable."""
        found = self.datanodes.get(datanode)
        if found is None or found.state == "dead":
            return False
        kept_on = found.volume(volume)
        return kept_on is None or kept_on.state != "failed"

    def admin_state(self, datanode: str) -> AdminState:
        """What an operator decided about a datanode; one that is not known is as good as decommissioned."""
        found = self.datanodes.get(datanode)
        return "decommissioned" if found is None else found.admin_state

    def few_silent(self) -> bool:
        """Whether those that are silent without anybody having said so are few: more look like a broken network."""
        expected = [node for node in self.datanodes.values() if node.admin_state in ("in_service", "draining")]
        return sum(node.state != "live" for node in expected) * 3 <= len(expected)

    def rank(self, datanodes: Iterable[str]) -> list[str]:
        """The best to read from first: live before suspected before out of service before stale, the less busy first;
        dead ones omitted."""
        found = [self.datanodes[name] for name in datanodes if name in self.datanodes]
        readable = [node for node in found if node.state != "dead"]
        readable.sort(
            key=lambda node: (node.state == "stale", node.admin_state != "in_service", node.suspect, node.streams)
        )
        return [node.id for node in readable]

    def readers(self, datanodes: Iterable[str]) -> list[Target]:
        """`rank`, with the addresses that clients use."""
        return [Target(name, self.datanodes[name].client_url) for name in self.rank(datanodes)]

    def client_url(self, datanode: str) -> str:
        """The address that clients use, dead or alive; "" if it is not known."""
        found = self.datanodes.get(datanode)
        return "" if found is None else found.client_url

    def peer_url(self, datanode: str) -> str:
        """The address that datanodes use; "" if it is not known."""
        found = self.datanodes.get(datanode)
        return "" if found is None else found.peer_url

    def durability(self) -> Durability:
        """The weakest that any datanode reports."""
        return max((node.durability for node in self.datanodes.values()), key=_WEAKER.index, default="sync")

    def live(self) -> list[Datanode]:
        """Those that answer now."""
        return [node for node in self.datanodes.values() if node.state == "live"]

    def dead(self) -> list[Datanode]:
        return [node for node in self.datanodes.values() if node.state == "dead"]

    def candidates(
        self, *, exclude: Collection[str] = (), reserved: Mapping[str, int] | None = None
    ) -> list[Candidate]:
        """Live datanodes in service, with a volume that is, for placement.

        exclude   datanodes that must not be chosen
        reserved  bytes granted lately by datanode, which its heartbeats may not show yet
        """
        reserved = reserved or {}
        found = []
        for node in self.live():
            if node.id in exclude or node.admin_state != "in_service":
                continue
            free = [volume.free_bytes for volume in node.volumes if volume.state == "in_service"]
            if not free:
                continue
            left = sum(free) - reserved.get(node.id, 0)
            found.append(Candidate(node.id, node.rack, left, max(free), node.streams, node.suspect))
        return found


class Reservations:
    """Space that was granted a moment ago and is not used yet, by datanode (F32). Two generations, so O(1)."""

    def __init__(self, clock: Clock, window_s: float = RESERVATION_S) -> None:
        self._clock = clock
        self._window_s = window_s
        self._began_s = clock.monotonic_s()
        self._now: dict[str, int] = {}
        self._before: dict[str, int] = {}

    def add(self, datanode: str, size: int) -> None:
        """Count `size` bytes as used for one to two windows."""
        self._turn()
        self._now[datanode] = self._now.get(datanode, 0) + size

    def by_datanode(self) -> dict[str, int]:
        """Bytes reserved now."""
        self._turn()
        total = dict(self._before)
        for datanode, size in self._now.items():
            total[datanode] = total.get(datanode, 0) + size
        return total

    def _turn(self) -> None:
        age_s = self._clock.monotonic_s() - self._began_s
        if age_s >= self._window_s:
            self._before = self._now if age_s < 2 * self._window_s else {}
            self._now = {}
            self._began_s += age_s


@dataclass(slots=True)
class _Heard:
    """What changes with each heartbeat."""

    node: Datanode
    at_s: float | None = None
    beat: int = 0
    """The highest of this life."""
    suspected_by: dict[str, float] = field(default_factory=dict)


class Liveness:
    """Keeps who was heard when. Only the event loop changes it; `view` may be called from anywhere."""

    def __init__(self, clock: Clock, *, stale_after_s: float, dead_after_s: float) -> None:
        self._clock = clock
        self._stale_after_s = stale_after_s
        self._dead_after_s = dead_after_s
        self._started_s = clock.monotonic_s()
        self._heard: dict[str, _Heard] = {}
        self._unkeyed: set[str] = set()
        self._members: tuple[Member, ...] = ()
        self._members_version = 0
        self._view = ClusterView()
        self._view_at_s = float("-inf")

    def load(self, known: Sequence[Datanode], *, unkeyed: Collection[str] = ()) -> None:
        """Begin with the datanodes that the store knows: silent since now.

        unkeyed  those that can check no capability before they have registered anew, since the store was restored
        """
        self._unkeyed = set(unkeyed)
        for node in known:
            self._heard[node.id] = _Heard(replace(node, state="live", silence_s=None))
        self._membership_changed()

    def registered(self, node: Datanode) -> None:
        """Take over a new life, or the first one, of a datanode."""
        self._heard[node.id] = _Heard(node, self._clock.monotonic_s())
        self._unkeyed.discard(node.id)
        self._membership_changed()

    def heard(
        self,
        datanode: str,
        *,
        volumes: Sequence[VolumeState],
        streams: int = 0,
        suspects: Collection[str] = (),
        durability: Durability = "sync",
    ) -> None:
        """Take over a heartbeat of a datanode that is known and whose life was checked."""
        now_s = self._clock.monotonic_s()
        heard = self._heard[datanode]
        was_silent_s = now_s - (self._started_s if heard.at_s is None else heard.at_s)
        heard.at_s = now_s
        node = replace(heard.node, volumes=tuple(volumes), streams=streams, durability=durability)
        changed = node != heard.node
        heard.node = node
        for peer in suspects:
            if peer in self._heard and peer != datanode:
                self._heard[peer].suspected_by[datanode] = now_s
        if changed or suspects or was_silent_s >= self._stale_after_s:
            self._view_at_s = float("-inf")

    def in_order(self, datanode: str, beat: int) -> bool:
        """Whether a heartbeat of a known life is no late copy: nothing that was sent after it has been heard."""
        heard = self._heard[datanode]
        if beat and beat < heard.beat:
            return False
        heard.beat = max(heard.beat, beat)
        return True

    def decided(self, datanode: str, admin_state: AdminState, *, until_ms: int = 0) -> None:
        """An operator's decision about a datanode is in the store."""
        heard = self._heard.get(datanode)
        if heard is not None:
            heard.node = replace(heard.node, admin_state=admin_state, admin_until_ms=until_ms)
            self._view_at_s = float("-inf")

    def departed(self, datanode: str) -> None:
        """It is no part of the cluster any more."""
        self._heard.pop(datanode, None)
        self._membership_changed()

    def life(self, datanode: str) -> tuple[int, str, float | None] | None:
        """Incarnation, boot, and seconds since it was heard (None: not yet) of a datanode; None if it is not known."""
        heard = self._heard.get(datanode)
        if heard is None:
            return None
        silence_s = None if heard.at_s is None else self._clock.monotonic_s() - heard.at_s
        return heard.node.incarnation, heard.node.boot, silence_s

    def unheard(self) -> int:
        """Datanodes that are known, not heard since the start, and not yet dead: cold start waits for them."""
        if self._clock.monotonic_s() - self._started_s >= self._dead_after_s:
            return 0
        awaited = [heard for heard in self._heard.values() if heard.node.admin_state != "decommissioned"]
        return sum(heard.at_s is None for heard in awaited)

    def given_up(self) -> frozenset[str]:
        """Datanodes that were silent for so long that nobody waits for them: replaced, most likely."""
        now_s, limit_s = self._clock.monotonic_s(), GIVEN_UP_AFTER_DEATHS * self._dead_after_s
        return frozenset(
            name
            for name, heard in self._heard.items()
            if now_s - (self._started_s if heard.at_s is None else heard.at_s) >= limit_s
        )

    def view(self) -> ClusterView:
        """The datanodes now."""
        now_s = self._clock.monotonic_s()
        if now_s - self._view_at_s >= _VIEW_FRESH_S:
            self._view = self._build(now_s)
            self._view_at_s = now_s
        return self._view

    def _build(self, now_s: float) -> ClusterView:
        everyone = list(self._heard.values())
        suspects = {
            heard.node.id
            for heard in everyone
            if any(now_s - at_s < SUSPECT_S for at_s in list(heard.suspected_by.values()))
        }
        if len(suspects) * 3 > len(everyone):
            # When everybody accuses everybody it is the network, and demoting them would only concentrate the load.
            suspects = set()
        datanodes = {}
        for heard in everyone:
            silent_s = now_s - (self._started_s if heard.at_s is None else heard.at_s)
            datanodes[heard.node.id] = replace(
                heard.node,
                state=self._state(max(silent_s, self._stale_after_s) if heard.node.id in self._unkeyed else silent_s),
                silence_s=None if heard.at_s is None else silent_s,
                suspect=heard.node.id in suspects,
            )
        by_num = {heard.node.num: heard.node.id for heard in everyone}
        return ClusterView(datanodes, self._members, self._members_version, by_num)

    def _state(self, silent_s: float) -> State:
        if silent_s >= self._dead_after_s:
            return "dead"
        return "stale" if silent_s >= self._stale_after_s else "live"

    def _membership_changed(self) -> None:
        self._members = tuple(Member(name, self._heard[name].node.peer_url) for name in sorted(self._heard))
        # A digest, not a counter: it means the same to a datanode after the namenode was restarted.
        self._members_version = xxhash.xxh3_64_intdigest(msgspec.json.encode(self._members)) >> 12
        self._view_at_s = float("-inf")
