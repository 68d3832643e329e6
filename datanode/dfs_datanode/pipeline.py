"""One chunk on its way: received, hashed, written, and forwarded along its chain as the bytes arrive.

`store_stream` runs in a thread and blocks. The bytes are received straight into the writer's aligned buffer and are
sent on from there, so each is touched once. `Branch` holds all that is known of the rest of the chain; its rule:

    state       event                    what follows
    unopened    refused                  that member failed (culprit); the next one is tried
    open        sending or the answer    the branch ends: its head failed (culprit), the ones behind it failed, too,
                fails                    but were never at fault
    open        the answer               its receipts, and the failures that it names

A branch that ends does not end the chunk: the replicas that exist are receipted, and the caller decides.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from dfs.protocol.capability import sign_receipt
from dfs.protocol.chunk_format import Header, wire_size
from dfs.protocol.digests import Buffer
from dfs.protocol.errors import DfsError, InvalidRequest, NotSent
from dfs.protocol.messages import FailedHop, StoredChunk
from dfs_datanode.chunk_store import ChunkStore
from dfs_datanode.membership import Standing

logger = logging.getLogger("dfs.datanode.pipeline")

WINDOW_S = 30.0
WINDOW_BYTES_MIN = 30 * 1024
"""A sender that gives less than 1 KiB/s, averaged, only holds a thread and a buffer."""


class Source(Protocol):
    """Where the body comes from; see `dfs.protocol.guard.BodySource`."""

    def readinto(self, view: memoryview) -> int: ...


class Outgoing(Protocol):
    """A PUT in progress at the next datanode; see `dfs.protocol.transport.OutgoingChunk`."""

    def send(self, piece: Buffer) -> None: ...

    def finish(self) -> StoredChunk: ...

    def abort(self) -> None: ...


@dataclass(frozen=True)
class Order:
    """What is to be stored, as the capability that was checked allows it."""

    chunk: str
    length: int
    principal: str
    chain: tuple[str, ...]
    hop: int
    """The index of this datanode in the chain."""


Connect = Callable[[str, int], Outgoing]
"""Opens a PUT at a datanode, given its id and its index in the chain. Raises NotSent: nothing happened there."""


class Branch:
    """The members of the chain behind this datanode, as one thing that takes bytes and gives receipts."""

    def __init__(self, chain: Sequence[str], first: int, connect: Connect, suspect: Callable[[str], None]) -> None:
        self.failed: list[FailedHop] = []
        self._chain = chain
        self._suspect = suspect
        self._head = first
        self._outgoing: Outgoing | None = None
        while self._outgoing is None and self._head < len(chain):
            try:
                self._outgoing = connect(chain[self._head], self._head)
            except NotSent as error:
                self._blame(error)
                self._head += 1
            except DfsError as error:
                self._end(error)
                return

    def _blame(self, error: DfsError) -> None:
        datanode = self._chain[self._head]
        logger.warning("the datanode %s failed in a chain: %s", datanode, error)
        self.failed.append(FailedHop(datanode, error.message[:1000]))
        self._suspect(datanode)

    def _end(self, error: DfsError) -> None:
        """The head failed, and with it all that lies behind it."""
        self._blame(error)
        behind = self._chain[self._head + 1 :]
        self.failed += [FailedHop(one, "it lay behind a datanode that failed", culprit=False) for one in behind]
        self._head = len(self._chain)
        self.abort()

    def send(self, piece: Buffer) -> None:
        """Forward the next bytes, while the branch lives."""
        if self._outgoing is None:
            return
        try:
            self._outgoing.send(piece)
        except DfsError as error:
            self._end(error)

    def finish(self) -> list[str]:
        """Wait for the receipts of the branch. Who failed is in `failed`."""
        if self._outgoing is None:
            return []
        try:
            answer = self._outgoing.finish()
        except DfsError as error:
            self._end(error)
            return []
        self._outgoing = None
        self.failed += answer.failed
        return answer.receipts

    def abort(self) -> None:
        """Let the branch throw away what it has."""
        outgoing, self._outgoing = self._outgoing, None
        if outgoing is not None:
            outgoing.abort()


class Pace:
    """Fails a sender that keeps a stream open with a trickle: WINDOW_BYTES_MIN in each WINDOW_S of waiting for it.

    Only the time spent in waiting for the sender counts, so that a slow disk or a slow peer is never held against it.
    """

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._waited_s = 0.0
        self._bytes = 0

    def read(self, source: Source, view: memoryview) -> int:
        """Read once from the source. Raises TimeoutError if the sender is too slow, and what the source raises."""
        started_s = self._monotonic_s()
        count = source.readinto(view)
        self._waited_s += self._monotonic_s() - started_s
        self._bytes += count
        if self._waited_s >= WINDOW_S:
            if self._bytes < WINDOW_BYTES_MIN:
                raise TimeoutError(f"only {self._bytes} bytes in {self._waited_s:.0f} s")
            self._waited_s, self._bytes = 0.0, 0
        return count


def store_stream(
    source: Source,
    order: Order,
    *,
    store: ChunkStore,
    standing: Standing,
    connect: Connect,
    suspect: Callable[[str], None],
    now_ms: int,
    monotonic_s: Callable[[], float] = time.monotonic,
) -> StoredChunk:
    """Store the chunk that `source` brings, here and behind here. Blocks; returns once it is durable.

    Raises  DigestMismatch, InvalidRequest: the body is not what was announced; NoSpace: this disk failed;
            ChunkExists. In every case nothing of the chunk is left here, and the branch was told to give up.
    """
    header = Header(standing.cluster, standing.lineage, order.chunk, order.length, now_ms)
    with store.storing(header, order.length) as (writer, volume):
        pace = Pace(monotonic_s)
        branch = Branch(order.chain, order.hop + 1, connect, suspect)
        try:
            left = order.length
            while left:
                room = writer.room()[:left]
                count = _receive(pace, source, room)
                branch.send(room[:count])
                writer.advance(count)
                left -= count
            footer = memoryview(bytearray(wire_size(order.length) - order.length))
            got = 0
            while got < len(footer):
                got += _receive(pace, source, footer[got:])
            # The others begin to verify and sync while we do.
            branch.send(footer)
            root = writer.finish(footer)
            receipts = branch.finish()
        finally:
            branch.abort()
        receipt = sign_receipt(
            standing.key,
            chunk=order.chunk,
            length=order.length,
            digest=root,
            datanode=standing.datanode,
            incarnation=standing.incarnation,
            volume=volume.id,
            principal=order.principal,
        )
    return StoredChunk(receipts=[receipt, *receipts], failed=branch.failed)


def _receive(pace: Pace, source: Source, view: memoryview) -> int:
    """Some bytes of the body into `view`. Raises InvalidRequest if it stalls or ends."""
    try:
        count = pace.read(source, view)
    except TimeoutError:
        raise InvalidRequest("the body paused or trickled; send the chunk again under a new grant") from None
    except OSError as error:
        raise InvalidRequest(f"the body ended early ({error}); send the chunk again under a new grant") from None
    if count == 0:
        raise InvalidRequest("the body is shorter than announced; send the chunk again under a new grant")
    return count
