"""What the namenodes must learn with their next heartbeats, kept until they have.

Separate because results come from the threads that do the work, while the heartbeats' own threads send them; and a
heartbeat whose answer is lost must be sent again with the same results. Each namenode has a queue of its own: what one
of them was told is no news to the others only if their store is the same, and what they remember beside it (commands
that are answered, checks, who is suspected) never is. Of what is told about a chunk only the newest waits, so that a
namenode which was away for long hears what is, not what was.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from dfs.protocol.messages import CheckedReplica, ComposedChunk, StoredReplica

T = TypeVar("T")
_BATCH = 1000
"""At most this many of each kind in one heartbeat, as the message bounds them."""
COMPOSED_MAX = 64
SUSPECTS_MAX = 64
WAITING_MAX = 50_000
"""Of each kind, for a namenode that is away: beyond it the oldest are forgotten. Reports and the scrub find them."""


@dataclass(frozen=True)
class Batch:
    """What one heartbeat carries."""

    number: int
    """Higher than those of all batches before it, for whichever namenode: two addresses may lead to the same one."""
    stored: list[StoredReplica]
    deleted: list[str]
    checked: list[CheckedReplica]
    failed: list[str]
    suspects: list[str]
    composed: list[ComposedChunk]


@dataclass(slots=True)
class _Waiting:
    """What one namenode has not heard yet."""

    stored: dict[str, StoredReplica] = field(default_factory=dict)
    deleted: dict[str, None] = field(default_factory=dict)
    checked: dict[str, CheckedReplica] = field(default_factory=dict)
    failed: dict[str, None] = field(default_factory=dict)
    suspects: dict[str, None] = field(default_factory=dict)
    composed: dict[str, ComposedChunk] = field(default_factory=dict)


class Outbox:
    """Thread-safe. Bounded by the chunks that commands and readers touch, and by `WAITING_MAX`."""

    def __init__(self, namenodes: Sequence[str] = ("",)) -> None:
        self._lock = threading.Lock()
        self._by_namenode = {namenode: _Waiting() for namenode in namenodes}
        self._batches = 0

    def stored(self, replica: StoredReplica) -> None:
        """A replica came by pull and is durable."""
        with self._lock:
            for waiting in self._by_namenode.values():
                _put(waiting.stored, replica.chunk, replica)
                # What was said before is not true of this file.
                waiting.checked.pop(replica.chunk, None)
                waiting.deleted.pop(replica.chunk, None)

    def deleted(self, chunks: Iterable[str]) -> None:
        """These are gone by command, or were not there."""
        chunks = list(chunks)
        with self._lock:
            for waiting in self._by_namenode.values():
                for chunk in chunks:
                    _put(waiting.deleted, chunk, None)
                    waiting.stored.pop(chunk, None)
                    waiting.checked.pop(chunk, None)

    def checked(self, chunk: str, *, good: bool, why: str = "") -> None:
        """A replica was verified, or found bad while it was read."""
        found = CheckedReplica(chunk=chunk, good=good, why=why[:1024])
        with self._lock:
            for waiting in self._by_namenode.values():
                _put(waiting.checked, chunk, found)

    def failed(self, chunk: str) -> None:
        """A Replicate command did not work."""
        with self._lock:
            for waiting in self._by_namenode.values():
                _put(waiting.failed, chunk, None)

    def composed(self, answer: ComposedChunk) -> None:
        """What became of a Compose command. That a chunk was made is not taken back."""
        with self._lock:
            for waiting in self._by_namenode.values():
                if not answer.why or answer.chunk not in waiting.composed:
                    _put(waiting.composed, answer.chunk, answer)

    def suspect(self, datanode: str) -> None:
        """A peer failed in a chain."""
        with self._lock:
            for waiting in self._by_namenode.values():
                if len(waiting.suspects) < SUSPECTS_MAX:
                    waiting.suspects[datanode] = None

    def batch(self, namenode: str = "") -> Batch:
        """The oldest of what waits for a namenode. It stays until `delivered`."""
        with self._lock:
            waiting = self._by_namenode[namenode]
            stored = list(waiting.stored.values())[:_BATCH]
            # What was found out about a replica that was stored is not told before that it was stored.
            later = waiting.stored.keys() - {replica.chunk for replica in stored}
            checked = [check for check in waiting.checked.values() if check.chunk not in later]
            self._batches += 1
            return Batch(
                self._batches,
                stored,
                list(waiting.deleted)[:_BATCH],
                checked[:_BATCH],
                list(waiting.failed)[:_BATCH],
                list(waiting.suspects),
                list(waiting.composed.values())[:COMPOSED_MAX],
            )

    def delivered(self, batch: Batch, namenode: str = "") -> None:
        """The namenode has these. What was said anew about a chunk meanwhile stays."""
        with self._lock:
            waiting = self._by_namenode[namenode]
            for replica in batch.stored:
                if waiting.stored.get(replica.chunk) is replica:
                    del waiting.stored[replica.chunk]
            for check in batch.checked:
                if waiting.checked.get(check.chunk) is check:
                    del waiting.checked[check.chunk]
            for chunk in batch.deleted:
                waiting.deleted.pop(chunk, None)
            for chunk in batch.failed:
                waiting.failed.pop(chunk, None)
            for datanode in batch.suspects:
                waiting.suspects.pop(datanode, None)
            for answer in batch.composed:
                if waiting.composed.get(answer.chunk) is answer:
                    del waiting.composed[answer.chunk]

    def waiting(self) -> int:
        """What waits for the namenode for which most does."""
        with self._lock:
            totals = [
                len(one.stored) + len(one.deleted) + len(one.checked) + len(one.failed) + len(one.composed)
                for one in self._by_namenode.values()
            ]
        return max(totals, default=0)


def _put(waiting: dict[str, T], chunk: str, value: T) -> None:
    if chunk not in waiting and len(waiting) >= WAITING_MAX:
        del waiting[next(iter(waiting))]
    waiting[chunk] = value
