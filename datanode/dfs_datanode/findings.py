"""What was found out about the replicas here: which are bad and why, and which must be looked at again.

Separate from the outbox, which forgets a finding once the namenode has it: when the order to remove the replica comes,
this still knows that it was bad, and it goes to the quarantine. And a reader's finding may be the memory's fault, or
that of a cable: it is a suspicion, which the scrubber confirms or clears from the disk before anything else. What was
found by comparing with the namenode's digest only such a comparison clears: a whole file of another chunk looks right.
"""

import threading
from typing import TypeVar

from dfs_datanode.outbox import Outbox

T = TypeVar("T")
KEPT_MAX = 10_000
"""Of each kind; what is forgotten is found again by the scrubber."""


class Findings:
    """Thread-safe. In memory only."""

    def __init__(self, outbox: Outbox) -> None:
        self.bad_found = 0
        self._outbox = outbox
        self._lock = threading.Lock()
        self._bad: dict[str, str] = {}
        self._wrong: dict[str, None] = {}
        """Of the bad ones, those that are not what the namenode recorded, or may not be."""
        self._suspects: dict[str, None] = {}

    def bad(self, chunk: str, why: str) -> None:
        """A replica is bad; the namenode learns it with the next heartbeat."""
        with self._lock:
            if chunk not in self._bad:
                self.bad_found += 1
            _remember(self._bad, chunk, why)
        self._outbox.checked(chunk, good=False, why=why)

    def wrong(self, chunk: str, why: str) -> None:
        """As `bad`, by a check against the namenode's digest."""
        with self._lock:
            _remember(self._wrong, chunk, None)
        self.bad(chunk, why)

    def suspect(self, chunk: str, why: str) -> None:
        """A reader got no good bytes: as `bad`, and the scrubber looks at it soon."""
        self.bad(chunk, why)
        with self._lock:
            _remember(self._suspects, chunk, None)

    def right(self, chunk: str) -> None:
        """A replica was read whole from the disk, and is what the namenode recorded."""
        self.replaced(chunk)
        self._outbox.checked(chunk, good=True)

    def intact(self, chunk: str) -> None:
        """A replica was read whole from the disk, and has no bad block: that clears a suspicion, and no more."""
        with self._lock:
            if chunk in self._wrong:
                return
        self.right(chunk)

    def replaced(self, chunk: str) -> None:
        """The replica that the findings were about is gone."""
        with self._lock:
            self._bad.pop(chunk, None)
            self._wrong.pop(chunk, None)
            self._suspects.pop(chunk, None)

    def why_bad(self, chunk: str) -> str:
        """What is wrong with the replica; "" if nothing is known against it."""
        return self._bad.get(chunk, "")

    def suspects(self) -> list[str]:
        """Those that wait to be looked at, the oldest first."""
        with self._lock:
            return list(self._suspects)

    def looked_at(self, chunk: str) -> None:
        """It need not be looked at again because of the suspicion."""
        with self._lock:
            self._suspects.pop(chunk, None)


def _remember(known: dict[str, T], chunk: str, value: T) -> None:
    known.pop(chunk, None)
    while len(known) >= KEPT_MAX:
        known.pop(next(iter(known)))
    known[chunk] = value
