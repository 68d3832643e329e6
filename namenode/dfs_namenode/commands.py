"""Commands to datanodes, which ride on the answers to their heartbeats, and what is known of those under way.

In memory only: every command follows from rows of the store, and whoever planned it plans it again when it got lost.
Separate from the planners, which decide, and from the heartbeat, which delivers. Bounded for each datanode.

    waiting --taken with a heartbeat's answer--> sent --answered, or too old--> gone
    waiting --nobody comes for it--> gone (but for deletions)
    waiting, sent --its datanode falls silent--> gone (pulls and checks; deletions too once it is dead)

A pull whose source falls silent is forgotten as well, unless it has left and another source is there to go on from.
What is forgotten is planned again in the next turn, elsewhere. A command that is too old is forgotten, not repeated: by
then the facts may be others. Deletions are the exception: they are sent up to three times, since a report that asked
for one does not come again for hours.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from dfs.protocol.clock import Clock
from dfs.protocol.messages import CheckReplica, Command, Compose, DeleteReplicas, Replicate, Scrub, SendReport
from dfs_namenode.rate import Rate
from dfs_namenode.repair import Streams

Kind = Literal["pull", "delete", "check", "scrub", "compose"]
Outcome = Literal["done", "failed", "given_up", "silent"]
"""Answered; answered with a failure; not answered in time; its datanode, or its source, fell silent."""
WAITING_MAX = 20_000
"""Commands for one datanode; what does not fit is planned again later."""
DELETES_IN_ANSWER = 1000
OTHERS_IN_ANSWER = 64
SLOWEST_BYTES_PER_S = 4 << 20
"""A check or a composition that is slower than this is given up, and a pull of which its datanode does not say that it
makes progress."""
_DELETE_ATTEMPTS = 3
AVOID_S = 30.0
"""How long a target at which a pull failed is not tried again for that chunk."""
_FAILURES_MAX = 10_000
_DELETED_MAX = 100_000


@dataclass(slots=True)
class _Entry:
    command: Command | None
    """None for a deletion: those are packed into one message when they leave."""
    timeout_s: float
    since_s: float
    sent_s: float | None = None
    attempts: int = 0
    source: str = ""
    length: int = 0


@dataclass(slots=True)
class _Failure:
    count: int = 0
    until_s: dict[str, float] = field(default_factory=dict)


class Outbox:
    """The commands of all datanodes. Only the event loop uses it."""

    def __init__(self, clock: Clock, *, timeout_s: float) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._entries: dict[str, dict[tuple[Kind, str], _Entry]] = {}
        self._deleting: dict[str, int] = {}
        """Deletions among the entries of each datanode: asked for each chunk that is collected, so never counted."""
        self._failures: dict[str, _Failure] = {}
        self._deleted: dict[tuple[str, str], int] = {}
        self.pulled = Rate(clock)
        """Replicas that were made as they were asked for."""
        self.outcomes: dict[tuple[Kind, Outcome], int] = {}
        """What became of commands, counted since the start."""

    def pull(self, target: str, command: Replicate, *, source: str) -> bool:
        """Have `target` pull; the first source carries the load. False: there is no room, or it does so already."""
        timeout_s = self._timeout_s + command.length / SLOWEST_BYTES_PER_S
        return self._put(
            target,
            "pull",
            command.chunk,
            _Entry(command, timeout_s, self._clock.monotonic_s(), source=source, length=command.length),
        )

    def check(self, datanode: str, command: CheckReplica) -> bool:
        """Have a replica read and verified."""
        timeout_s = self._timeout_s + command.length / SLOWEST_BYTES_PER_S
        return self._put(datanode, "check", command.chunk, _Entry(command, timeout_s, self._clock.monotonic_s()))

    def delete(self, datanode: str, chunk: str) -> bool:
        """Have a replica moved to the local trash. Only for what a transaction has made safe to delete."""
        return self._put(datanode, "delete", chunk, _Entry(None, self._timeout_s, self._clock.monotonic_s()))

    def scrub(self, datanode: str) -> bool:
        """Have all volumes read and verified, from now on. Not answered: the volumes' states show how far it is."""
        return self._put(datanode, "scrub", "", _Entry(Scrub(), self._timeout_s, self._clock.monotonic_s()))

    def compose(self, datanode: str, command: Compose) -> bool:
        """Have a new chunk made of ranges of others."""
        timeout_s = self._timeout_s + command.length / SLOWEST_BYTES_PER_S
        return self._put(datanode, "compose", command.chunk, _Entry(command, timeout_s, self._clock.monotonic_s()))

    def take(self, datanode: str) -> list[Command]:
        """The commands to send to this datanode now."""
        self._forget_old(datanode)
        deletes: list[str] = []
        others: list[Command] = []
        now_s = self._clock.monotonic_s()
        for (kind, chunk), entry in self._entries.get(datanode, {}).items():
            if entry.sent_s is not None:
                continue
            if kind == "delete":
                if len(deletes) == DELETES_IN_ANSWER:
                    continue
                deletes.append(chunk)
            else:
                if len(others) == OTHERS_IN_ANSWER:
                    continue
                assert entry.command is not None
                others.append(entry.command)
            entry.sent_s = now_s
            entry.attempts += 1
        scrub = self._entries.get(datanode, {}).get(("scrub", ""))
        if scrub is not None and scrub.sent_s is not None:
            # Nothing answers it: it is done with, so that the next one, perhaps asked for at once, is told as well.
            self._drop(datanode, ("scrub", ""), "done")
        return [*others, DeleteReplicas(chunks=deletes)] if deletes else others

    def answered(self, datanode: str, kind: Kind, chunk: str) -> None:
        """The datanode has done it; no matter whether it was asked to."""
        was_asked = self._drop(datanode, (kind, chunk), "done")
        if kind == "pull":
            self.pulled.add(int(was_asked))
            self._failures.pop(chunk, None)

    def pull_failed(self, datanode: str, chunk: str) -> int:
        """The datanode could not pull; returns how often in a row that chunk failed."""
        self._drop(datanode, ("pull", chunk), "failed")
        if chunk not in self._failures and len(self._failures) >= _FAILURES_MAX:
            self._failures.pop(next(iter(self._failures)))
        failure = self._failures.setdefault(chunk, _Failure())
        failure.count += 1
        failure.until_s[datanode] = self._clock.monotonic_s() + AVOID_S
        return failure.count

    def go_on(self, datanode: str, chunks: Iterable[str]) -> None:
        """The datanode says that its pulls of these make progress, however slowly: they are not given up now."""
        entries, now_s = self._entries.get(datanode, {}), self._clock.monotonic_s()
        for chunk in chunks:
            entry = entries.get(("pull", chunk))
            if entry is not None and entry.sent_s is not None:
                entry.sent_s = now_s

    def was_deleted(self, datanode: str, chunk: str, seq: int) -> None:
        """Remember that the replica went at `seq`: a report whose scan began before may still list it."""
        if len(self._deleted) >= _DELETED_MAX:
            self._deleted.pop(next(iter(self._deleted)))
        self._deleted[datanode, chunk] = seq

    def may_adopt(self, datanode: str, chunk: str, as_of: int) -> bool:
        """Whether a replica that a report as of `as_of` lists can be there still."""
        if ("delete", chunk) in self._entries.get(datanode, {}):
            return False
        return as_of >= self._deleted.get((datanode, chunk), -1)

    def begin_life(self, datanode: str) -> None:
        """The datanode was restarted: what it was told and has not answered, it does not know any more."""
        for key in list(self._entries.get(datanode, {})):
            self._drop(datanode, key, "silent")

    def forget_silent(self, *, silent: Collection[str], dead: Collection[str]) -> None:
        """Nobody waits for what these datanodes were told, nor for what others were to pull from them.

        silent  those that do not answer now, dead or not
        dead    of those, the ones from which a report will be wanted if they return: it asks for deletions anew
        """
        for datanode in dead:
            self.begin_life(datanode)
        for target, entries in self._entries.items():
            for key, entry in list(entries.items()):
                if key[0] in ("pull", "check") and (target in silent or not _goes_on(entry, silent)):
                    self._drop(target, key, "silent")

    def streams(self, limit: int) -> Streams:
        """The pulls under way, as the repair planner counts them."""
        found = Streams(limit)
        for target, entries in self._entries.items():
            for (kind, _), entry in entries.items():
                if kind == "pull":
                    found.add(entry.source, target, entry.length)
        return found

    def under_way(self) -> dict[str, list[str]]:
        """Targets that pull each chunk now."""
        found: dict[str, list[str]] = {}
        for target in list(self._entries):
            self._forget_old(target)
            for kind, chunk in self._entries.get(target, {}):
                if kind == "pull":
                    found.setdefault(chunk, []).append(target)
        return found

    def avoid(self, chunks: Iterable[str]) -> Mapping[str, Collection[str]]:
        """For those chunks that have any: datanodes that must not pull them now, since they failed at it a moment
        ago, or are about to delete the chunk."""
        now_s = self._clock.monotonic_s()
        found: dict[str, set[str]] = {}
        for chunk in chunks:
            failure = self._failures.get(chunk)
            avoided = {name for name, until in failure.until_s.items() if until > now_s} if failure else set()
            avoided |= {name for name, entries in self._entries.items() if ("delete", chunk) in entries}
            if avoided:
                found[chunk] = avoided
        return found

    def deleting(self, datanode: str) -> int:
        """Deletions that wait or are under way there."""
        return self._deleting.get(datanode, 0)

    def checking(self, datanode: str) -> int:
        """Checks that wait or are under way there."""
        return sum(kind == "check" for kind, _ in self._entries.get(datanode, {}))

    def statistics(self) -> dict[Kind, int]:
        """Commands that wait or are under way."""
        totals: dict[Kind, int] = {"pull": 0, "delete": 0, "check": 0, "scrub": 0, "compose": 0}
        for entries in self._entries.values():
            for kind, _ in entries:
                totals[kind] += 1
        return totals

    def _put(self, datanode: str, kind: Kind, chunk: str, entry: _Entry) -> bool:
        entries = self._entries.setdefault(datanode, {})
        if (kind, chunk) in entries or len(entries) >= WAITING_MAX:
            return False
        entries[kind, chunk] = entry
        if kind == "delete":
            self._deleting[datanode] = self.deleting(datanode) + 1
        return True

    def _drop(self, datanode: str, key: tuple[Kind, str], outcome: Outcome) -> bool:
        gone = self._entries.get(datanode, {}).pop(key, None)
        if gone is None:
            return False
        if key[0] == "delete":
            self._deleting[datanode] -= 1
        self.outcomes[key[0], outcome] = self.outcomes.get((key[0], outcome), 0) + 1
        return True

    def _forget_old(self, datanode: str) -> None:
        now_s = self._clock.monotonic_s()
        entries = self._entries.get(datanode, {})
        for key, entry in list(entries.items()):
            if entry.sent_s is None:
                # Nobody came for it: the datanode is gone, and a pull would hold its chunk and its source for ever.
                if key[0] != "delete" and now_s - entry.since_s >= entry.timeout_s:
                    self._drop(datanode, key, "given_up")
                continue
            if now_s - entry.sent_s < entry.timeout_s:
                continue
            if key[0] == "delete" and entry.attempts < _DELETE_ATTEMPTS:
                entry.sent_s = None
            else:
                self._drop(datanode, key, "given_up")


def _goes_on(entry: _Entry, silent: Collection[str]) -> bool:
    """Whether a command can be done while some datanodes are silent; notes which source it goes on from."""
    if not isinstance(entry.command, Replicate) or entry.source not in silent:
        return True
    others = [one.datanode for one in entry.command.sources if one.datanode not in silent]
    if entry.sent_s is None or not others:
        return False
    entry.source = others[0]
    return True


class ReportTurns:
    """Whose turn it is to send a full report: few at a time, so that a cluster that starts does not flood us (F61)."""

    def __init__(self, clock: Clock, *, at_once: int, timeout_s: float = 600.0) -> None:
        self._clock = clock
        self._at_once = at_once
        self._timeout_s = timeout_s
        self._wanted: dict[str, None] = {}
        self._asked_s: dict[str, float] = {}
        self._finished_s: dict[str, float] = {}

    def want(self, datanode: str) -> None:
        """A report of this datanode is needed; it began a new life."""
        self._asked_s.pop(datanode, None)
        self._finished_s.pop(datanode, None)
        self._wanted[datanode] = None

    def want_soon(self, datanode: str) -> None:
        """A report of this datanode is needed; one that is on its way will do."""
        if datanode not in self._asked_s:
            self._wanted[datanode] = None

    def take(self, datanode: str) -> list[Command]:
        """The command, if it is this datanode's turn."""
        now_s = self._clock.monotonic_s()
        for name, asked_s in list(self._asked_s.items()):
            if now_s - asked_s >= self._timeout_s:
                del self._asked_s[name]
                self._wanted[name] = None
        if datanode not in self._wanted or len(self._asked_s) >= self._at_once:
            return []
        del self._wanted[datanode]
        self._asked_s[datanode] = now_s
        return [SendReport()]

    def finished(self, datanode: str) -> None:
        """Its last page came."""
        self._asked_s.pop(datanode, None)
        self._finished_s[datanode] = self._clock.monotonic_s()

    def finished_s(self, datanode: str) -> float | None:
        """When the last report of its present life was complete, monotonic; None: none was."""
        return self._finished_s.get(datanode)

    def waiting(self) -> int:
        """Reports that are wanted or on their way."""
        return len(self._wanted) + len(self._asked_s)
