"""Which replicas were read whole and found right lately: what trimming rests on (F67).

In memory only: after a restart everything is verified anew before anything is trimmed. Separate from the outbox, which
forgets a command with its answer. A replica counts as verified as of the sequence number *before* it was asked for, so
that no check speaks about a state of the chunk that came after it.
"""

from dfs.protocol.clock import Clock

VERIFIED_S = 600.0
"""How long a verification is believed. Disks do not rot in minutes, and trimming follows within a few heartbeats."""
_CHUNKS_MAX = 50_000


class Verifications:
    """Checks that were asked for, and those that were answered well. Only the event loop uses it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asked: dict[tuple[str, str], int] = {}
        self._right: dict[str, dict[str, tuple[int, float]]] = {}

    def asked(self, datanode: str, chunk: str, seq: int) -> None:
        """A check leaves for this datanode; `seq` was the last number before."""
        while len(self._asked) >= _CHUNKS_MAX:
            del self._asked[next(iter(self._asked))]
        self._asked[datanode, chunk] = seq

    def answered(self, datanode: str, chunk: str, *, good: bool) -> None:
        """What a check found, whoever asked for it."""
        seq = self._asked.pop((datanode, chunk), None)
        if not good:
            self._right.get(chunk, {}).pop(datanode, None)
        elif seq is not None:
            while len(self._right) >= _CHUNKS_MAX:
                del self._right[next(iter(self._right))]
            self._right.setdefault(chunk, {})[datanode] = seq, self._clock.monotonic_s()

    def right(self, chunk: str) -> dict[str, int]:
        """Datanodes whose replica was right, with the number before the check."""
        now_s = self._clock.monotonic_s()
        return {name: seq for name, (seq, at_s) in self._right.get(chunk, {}).items() if now_s - at_s < VERIFIED_S}

    def forget(self, chunk: str) -> None:
        """The chunk is no surplus any more, as far as is known."""
        self._right.pop(chunk, None)

    def forget_all(self) -> None:
        """A datanode is back, or began a new life: what was surplus before may have become so anew."""
        self._asked.clear()
        self._right.clear()
