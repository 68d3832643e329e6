"""What the namenode must learn with the next heartbeat, kept until it has.

Separate because results come from the threads that do the work, while the heartbeat's own thread sends them; and a
heartbeat whose answer is lost must be sent again with the same results.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from dfs.protocol.messages import CheckedReplica, StoredReplica

_BATCH = 1000
"""At most this many of each kind in one heartbeat, as the message bounds them."""
SUSPECTS_MAX = 64


@dataclass(frozen=True)
class Batch:
    """What one heartbeat carries."""

    stored: list[StoredReplica]
    deleted: list[str]
    checked: list[CheckedReplica]
    failed: list[str]
    suspects: list[str]


class Outbox:
    """Thread-safe. Bounded by the chunks that commands and readers touch; each is told once at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stored: dict[str, StoredReplica] = {}
        self._deleted: dict[str, None] = {}
        self._checked: dict[str, CheckedReplica] = {}
        self._failed: dict[str, None] = {}
        self._suspects: dict[str, None] = {}

    def stored(self, replica: StoredReplica) -> None:
        """A replica came by pull and is durable."""
        with self._lock:
            self._stored[replica.chunk] = replica
            # What was found before is not true of this file.
            self._checked.pop(replica.chunk, None)

    def deleted(self, chunks: Iterable[str]) -> None:
        """These are gone by command, or were not there."""
        with self._lock:
            self._deleted.update(dict.fromkeys(chunks))

    def checked(self, chunk: str, *, good: bool, why: str = "") -> None:
        """A replica was verified, or found bad while it was read."""
        with self._lock:
            self._checked[chunk] = CheckedReplica(chunk=chunk, good=good, why=why[:1024])

    def failed(self, chunk: str) -> None:
        """A Replicate command did not work."""
        with self._lock:
            self._failed[chunk] = None

    def suspect(self, datanode: str) -> None:
        """A peer failed in a chain."""
        with self._lock:
            if len(self._suspects) < SUSPECTS_MAX:
                self._suspects[datanode] = None

    def batch(self) -> Batch:
        """The oldest of what waits. It stays until `delivered`."""
        with self._lock:
            return Batch(
                list(self._stored.values())[:_BATCH],
                list(self._deleted)[:_BATCH],
                list(self._checked.values())[:_BATCH],
                list(self._failed)[:_BATCH],
                list(self._suspects),
            )

    def delivered(self, batch: Batch) -> None:
        """The namenode has these. What was said anew about a chunk meanwhile stays."""
        with self._lock:
            for replica in batch.stored:
                if self._stored.get(replica.chunk) is replica:
                    del self._stored[replica.chunk]
            for check in batch.checked:
                if self._checked.get(check.chunk) is check:
                    del self._checked[check.chunk]
            for chunk in batch.deleted:
                self._deleted.pop(chunk, None)
            for chunk in batch.failed:
                self._failed.pop(chunk, None)
            for datanode in batch.suspects:
                self._suspects.pop(datanode, None)
