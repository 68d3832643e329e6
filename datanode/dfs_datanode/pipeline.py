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
from functools import partial
from typing import Protocol

from dfs.protocol.capability import sign_receipt
from dfs.protocol.chunk_format import Header, wire_size
from dfs.protocol.digests import Buffer
from dfs.protocol.errors import DfsError, InvalidRequest, NotSent
from dfs.protocol.messages import FailedHop, StoredChunk
from dfs_datanode.chunk_store import ChunkStore
from dfs_datanode.membership import Standing
from dfs_datanode.pace import Pace

logger = logging.getLogger("dfs.datanode.pipeline")


class Source(Protocol):
    """Where the body comes from; see `dfs.protocol.bodies.BodySource`."""

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
    hints: int = 0
    """Bytes of the hints in the footer; they are passed on and stored as they come."""


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
    with store.storing(header, order.length, hints=order.hints) as (writer, volume):
        receive = partial(_receive, source, Pace(), monotonic_s)
        branch = Branch(order.chain, order.hop + 1, connect, suspect)
        try:
            left = order.length
            while left:
                room = writer.room()[:left]
                count = receive(room)
                branch.send(room[:count])
                writer.advance(count)
                left -= count
            footer = memoryview(bytearray(wire_size(order.length, order.hints) - order.length))
            got = 0
            while got < len(footer):
                got += receive(footer[got:])
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


def _receive(source: Source, pace: Pace, monotonic_s: Callable[[], float], view: memoryview) -> int:
    """Some bytes of the body into `view`. Raises InvalidRequest if it stalls or ends."""
    try:
        started_s = monotonic_s()
        count = source.readinto(view)
        pace.note(monotonic_s() - started_s, count)
    except TimeoutError:
        raise InvalidRequest("the body paused or trickled; send the chunk again under a new grant") from None
    except OSError as error:
        raise InvalidRequest(f"the body ended early ({error}); send the chunk again under a new grant") from None
    if count == 0:
        raise InvalidRequest("the body is shorter than announced; send the chunk again under a new grant")
    return count
