"""One chunk, sent to enough datanodes: grants, chains, and what to do when they fail.

Separate because it alone speaks to datanodes for writing. `recovery` decides, this performs. It knows nothing of
files: it turns a source of bytes into a chunk with receipts, ready for a commit.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from dfs.namenodes import Namenodes
from dfs.protocol.chunk_format import encode_wire_footer
from dfs.protocol.clock import Clock
from dfs.protocol.digests import Buffer, TreeHasher, root_digest
from dfs.protocol.errors import DfsError, NotEnoughDatanodes
from dfs.protocol.messages import Allocate, Grant, NewChunk, StoredChunk
from dfs.protocol.messages import Grants as GrantsAnswer
from dfs.protocol.operations import ALLOCATE
from dfs.recovery import ATTEMPTS_MAX, GiveUp, Keep, NewGrant, NextHop, Try, after_put, backoff_s, give_up
from dfs.retries import RetryBudget
from dfs.sources import Source
from dfs.suspects import Suspects

GRANTS_AHEAD_MAX = 8
"""Grants fetched in one call. An unused one costs nothing, but one that lies about knows less and less."""
DATANODES_PATIENCE_S = 8.0
"""How long a writer waits for enough datanodes: more than two heartbeats."""
GRANT_FRESH_S = 20.0
"""How long a grant may wait for its chunk: the datanodes that it names were live when it was made."""


class Outgoing(Protocol):
    """A PUT in progress."""

    def send(self, piece: Buffer) -> None: ...
    def finish(self) -> StoredChunk: ...
    def abort(self) -> None: ...


class ChunkTransport(Protocol):
    """The part of the transport that is used here."""

    def begin_put(
        self,
        base_url: str,
        *,
        chunk: str,
        capability: str,
        length: int,
        hop: int = 0,
        behind: int = 0,
        hints_length: int = 0,
    ) -> Outgoing: ...


class Grants:
    """Grants for the chunks of one upload, fetched a few at a time. Usable from several threads.

    length       bytes of the longest chunk
    replication  replicas wanted
    expected     chunks that will be needed, or None if nobody knows; then the batches grow as they are used up
    writer       the datanode that this writer is part of: it becomes the head of the chains
    """

    def __init__(
        self,
        namenodes: Namenodes,
        suspects: Suspects,
        clock: Clock,
        *,
        length: int,
        replication: int,
        expected: int | None = None,
        writer: str | None = None,
    ) -> None:
        self.length = length
        self.replication = replication
        self._namenodes = namenodes
        self._suspects = suspects
        self._clock = clock
        self._writer = writer
        self._batch = 1 if expected is None else max(1, min(expected, GRANTS_AHEAD_MAX))
        self._waiting: list[Grant] = []
        self._write_min = 1
        self._since = 0.0
        self._lock = threading.Lock()

    def take(self, *, blamed: frozenset[str] = frozenset()) -> tuple[Grant, int]:
        """A grant whose chain has none of the blamed and suspected, if the others are enough; and its `write_min`.

        Raises  NotEnoughDatanodes, NoSpace, and what a call may raise
        """
        avoid = self._suspects.now() | blamed
        with self._lock:
            if self._clock.monotonic_s() - self._since > GRANT_FRESH_S:
                self._waiting.clear()
            while self._waiting:
                grant = self._waiting.pop()
                if avoid.isdisjoint(target.datanode for target in grant.chain):
                    return grant, self._write_min
            answer = (
                self._namenodes.call(ALLOCATE, self._request(avoid)) if not avoid else self._allocate_without(avoid)
            )
            self._since = self._clock.monotonic_s()
            self._batch = min(self._batch * 2, GRANTS_AHEAD_MAX)
            self._write_min = answer.write_min
            self._waiting = answer.grants[:0:-1]
            return answer.grants[0], self._write_min

    def _allocate_without(self, avoid: frozenset[str]) -> GrantsAnswer:
        try:
            return self._namenodes.call(ALLOCATE, self._request(avoid))
        except NotEnoughDatanodes:
            # Perhaps we suspect too many: better one that failed a moment ago than none.
            return self._namenodes.call(ALLOCATE, self._request(frozenset()))

    def _request(self, avoid: frozenset[str]) -> Allocate:
        return Allocate(
            count=self._batch,
            length=self.length,
            replication=self.replication,
            exclude=sorted(avoid)[:64],
            writer=self._writer,
        )


@dataclass(frozen=True)
class _Sent:
    answer: StoredChunk
    digest: str


class Sender:
    """Sends chunks. Usable from several threads.

    retries  None: as many further grants as one chunk may have
    """

    def __init__(
        self,
        transport: ChunkTransport,
        suspects: Suspects,
        *,
        rng: random.Random,
        wait: Callable[[float], None] = time.sleep,
        retries: RetryBudget | None = None,
    ) -> None:
        self._transport = transport
        self._suspects = suspects
        self._retries = retries
        self.uniform = rng.random
        self.pause = wait

    def send(self, source: Source, grants: Grants) -> NewChunk:
        """Store `source` as a new chunk on at least `write_min` datanodes.

        Raises  NotEnoughDatanodes, NoSpace, Unavailable or a PeerError: too few took it, in several attempts;
                DigestMismatch: it arrived damaged twice; and what the source raises
        """
        blamed: frozenset[str] = frozenset()
        mismatches = 0
        for attempt in range(1, ATTEMPTS_MAX + 1):
            grant, write_min = self._grant(grants, blamed)
            hop = 0
            while True:
                tried = Try(tuple(target.datanode for target in grant.chain), hop, write_min, attempt, mismatches)
                digest, result = self._try(grant, hop, source)
                verdict = after_put(tried, result)
                if isinstance(verdict, GiveUp):
                    raise verdict.error
                self._suspects.add(verdict.suspects)
                if isinstance(verdict, Keep):
                    return NewChunk(grant.chunk, source.length, digest, list(verdict.receipts))
                blamed |= verdict.suspects
                if not isinstance(verdict, NextHop):
                    break
                hop = verdict.hop
            mismatches += getattr(result, "code", "") == "digest_mismatch"
            self._pause_before_retry(attempt, verdict, result)
        raise AssertionError("the last attempt is kept or given up")

    def _pause_before_retry(self, attempt: int, verdict: NewGrant, result: StoredChunk | DfsError) -> None:
        """Wait before another grant. Raises what the attempt met: this client has tried again often enough."""
        wait_s = backoff_s(attempt, self.uniform)
        if self._retries is not None:
            more_s = self._retries.take()
            if more_s is None:
                raise give_up(verdict, result).error
            wait_s = max(wait_s, more_s)
        self.pause(wait_s)

    def _grant(self, grants: Grants, blamed: frozenset[str]) -> tuple[Grant, int]:
        """A grant; waits a while for datanodes, which a namenode that has just begun knows only after they call."""
        waited_s = 0.0
        failures = 0
        while True:
            try:
                return grants.take(blamed=blamed)
            except NotEnoughDatanodes:
                if waited_s >= DATANODES_PATIENCE_S:
                    raise
                failures += 1
                wait_s = 0.05 + backoff_s(failures, self.uniform)
                self.pause(wait_s)
                waited_s += wait_s

    def _try(self, grant: Grant, hop: int, source: Source) -> tuple[str, StoredChunk | DfsError]:
        """One PUT: the digest of what was sent, and how it ended. Errors of the source itself are raised."""
        try:
            outgoing = self._transport.begin_put(
                grant.chain[hop].url,
                chunk=grant.chunk,
                capability=grant.capability,
                length=source.length,
                hop=hop,
                behind=len(grant.chain) - hop - 1,
                hints_length=len(source.hints),
            )
        except DfsError as error:
            return "", error
        hasher = TreeHasher()
        try:
            for piece in source.pieces():
                hasher.update(piece)
                ended = _attempt(outgoing.send, piece)
                if ended is not None:
                    return "", ended
            table = hasher.table()
            root = root_digest(hasher.length, table)
            try:
                outgoing.send(encode_wire_footer(hasher.length, table, root, source.hints))
                return root.hex(), outgoing.finish()
            except DfsError as error:
                return "", error
        except BaseException:
            # The source failed, or the user wants to stop: half a body is of no use to anybody.
            outgoing.abort()
            raise


def _attempt(send: Callable[[Buffer], None], piece: Buffer) -> DfsError | None:
    """Send a piece; the error that ends the PUT, or None."""
    try:
        send(piece)
    except DfsError as error:
        return error
    return None
