"""Verified bytes of one extent, from whichever replica has them.

Separate because every read comes through here and nothing leaves it unchecked: parts of a chunk are compared block by
block with the table whose root the namenode gave, small extents as a whole with their own digest. A replica that does
not answer is passed over, one that is wrong is also reported; if every replica is wrong somewhere, the good parts of
all of them are put together.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol

from dfs.layout import PlacedExtent, renew
from dfs.namenodes import Namenodes
from dfs.protocol.chunk_format import block_range
from dfs.protocol.digests import BLOCK_SIZE, first_bad_block, root_digest, table_size, tree_digest
from dfs.protocol.errors import CorruptReplica, DataLost, DfsError, InvalidRequest, ReplicasUnavailable
from dfs.protocol.in_flight import InFlight
from dfs.protocol.messages import BadReplica, Empty, Target
from dfs.protocol.operations import BAD_REPLICA, STATUS
from dfs.recovery import ATTEMPTS_MAX, AfterGet, after_get, backoff_s
from dfs.retries import RetryBudget
from dfs.runs import Run
from dfs.suspects import Suspects
from dfs.tables import Tables

if TYPE_CHECKING:
    from dfs.racing import Hedging

Fault = tuple[AfterGet, DfsError]
"""What a failed read of a replica means, and its error."""
ReadFrom = Callable[[Target, memoryview, InFlight | None], None]
"""Reads from one replica into a buffer, and checks. Raises CorruptReplica, and what the transport raises."""

REPORTS_MAX = 10_000
"""Bad replicas that a client remembers having reported, so that it says each thing once."""
ROUND_WAIT_S = 0.5
"""Before the second round over the replicas: a datanode that is restarted is back about then."""


class GetTransport(Protocol):
    """The part of the transport that is used here."""

    def get_chunk(
        self,
        base_url: str,
        *,
        chunk: str,
        capability: str,
        offset: int,
        length: int,
        mode: Literal["exact", "blocks", "table"],
        into: Sequence[memoryview],
        flight: InFlight | None = None,
    ) -> None: ...

    def get_ranges(
        self,
        base_url: str,
        *,
        chunk: str,
        capability: str,
        ranges: Sequence[tuple[int, int]],
        into: memoryview,
        mode: Literal["exact", "blocks"] = "blocks",
        flight: InFlight | None = None,
    ) -> None: ...


class Fetcher:
    """Reads extents. Usable from several threads.

    hedging  None: a second replica is asked only after the first has failed
    retries  None: as many further rounds as one read may make
    renewed  how an extent is asked for again before another round
    """

    def __init__(
        self,
        transport: GetTransport,
        namenodes: Namenodes,
        suspects: Suspects,
        *,
        rng: random.Random,
        wait: Callable[[float], None] = time.sleep,
        hedging: "Hedging | None" = None,
        retries: RetryBudget | None = None,
        renewed: Callable[[Namenodes, PlacedExtent], PlacedExtent] = renew,
    ) -> None:
        self._transport = transport
        self._namenodes = namenodes
        self._suspects = suspects
        self._rng = rng
        self._wait = wait
        self._hedging = hedging
        self._retries = retries
        self._renewed = renewed
        self._tables = Tables()
        self._reported: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def read(self, extent: PlacedExtent, start: int, end: int, into: memoryview) -> None:
        """Fill `into` with the bytes [start, end) of the extent. After an error its contents mean nothing.

        Raises  DataLost: every replica is there and wrong; ReplicasUnavailable: some could not be reached;
                VersionGone: the content is no longer kept
        """
        assert 0 <= start < end <= extent.length, "a part of the extent"
        assert len(into) == end - start, "a buffer of the part's size"
        faults: dict[str, Fault] = {}
        for attempt in range(1, ATTEMPTS_MAX + 1):
            if attempt > 1:
                expired = any(kind == "renew" for kind, _ in faults.values())
                if not expired and not self._may_go_on(attempt):
                    break
                extent = self._renewed(self._namenodes, extent)
            found = self._ask_all(extent, into, partial(self._read_from, extent, start, end))
            if found is None:
                return
            faults = found
            if any(kind == "bad" for kind, _ in faults.values()) and self._salvage(extent, start, end, into):
                return
        raise self._why_not(extent, faults)

    def _may_go_on(self, attempt: int) -> bool:
        """Wait for another round over the replicas. False: the cluster is sick, and this client has asked enough."""
        wait_s = backoff_s(attempt - 1, self._rng.random, base_s=ROUND_WAIT_S)
        if self._retries is not None:
            more_s = self._retries.take()
            if more_s is None:
                return False
            wait_s = max(wait_s, more_s)
        self._wait(wait_s)
        return True

    def table(self, extent: PlacedExtent) -> bytes:
        """The verified table of the chunk of an extent that is read by blocks. Raises as `read` does."""
        assert extent.by_blocks, "others are checked by their own digest"
        known = self._tables.get(extent.chunk, extent.chunk_digest)
        if known is None:
            first = min(BLOCK_SIZE, extent.length)
            self.read(extent, 0, first, memoryview(bytearray(first)))
            known = self._tables.get(extent.chunk, extent.chunk_digest)
        if known is None:
            raise ReplicasUnavailable(f"the digests of chunk {extent.chunk} can't be read now; try again")
        return known

    def matches(self, extent: PlacedExtent, start: int, end: int, data: memoryview) -> bool:
        """Whether `data`, from anywhere, are the bytes [start, end) of the extent. Only its table may be fetched.

        Begin and end lie between blocks where it is read by blocks; else it is all of it. Raises as `read` does.
        """
        if not extent.by_blocks:
            assert (start, end) == (0, extent.length), "it can only be checked whole"
            return tree_digest(data) == extent.digest
        first, last = block_range(extent.offset + start, end - start, extent.chunk_length)
        assert last - first == len(data), "whole blocks"
        return first_bad_block(data, self.table(extent), first // BLOCK_SIZE) is None

    def read_run(self, run: Run) -> list[memoryview]:
        """The bytes of each extent of a run, in its order. Raises as `read` does."""
        first = run.extents[0]
        if len(run.extents) > 1:
            buffer = memoryview(bytearray(run.length))
            with suppress(InvalidRequest):  # of a datanode that does not know of such ranges
                if self._ask_all(first, buffer, partial(self._get_stretches, run)) is None:
                    return [self._checked(*cut) for cut in run.cut(buffer)]
        return [self._whole(extent) for extent in run.extents]

    def _get_stretches(self, run: Run, target: Target, into: memoryview, flight: InFlight | None) -> None:
        """All bytes of a run, unchecked."""
        first = run.extents[0]
        if len(run.stretches) == 1:
            self._get(first, run.start, target, into, flight)
            return
        self._transport.get_ranges(
            target.url,
            chunk=first.chunk,
            capability=first.capability,
            ranges=run.stretches,
            into=into,
            mode="exact",
            flight=flight,
        )

    def read_ranges(self, extent: PlacedExtent, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """The bytes of whole blocks of an extent that is read by blocks, in one request. Raises as `read` does.

        ranges  [start, end) in the chunk; in order and bounded as `Transport.get_ranges` wants them
        """
        buffer = memoryview(bytearray(sum(end - start for start, end in ranges)))
        views = []
        place = 0
        for start, end in ranges:
            views.append(buffer[place : place + end - start])
            place += end - start
        table = self.table(extent)

        def read(target: Target, into: memoryview, flight: InFlight | None) -> None:
            self._transport.get_ranges(
                target.url, chunk=extent.chunk, capability=extent.capability, ranges=ranges, into=into, flight=flight
            )
            place = 0
            for start, end in ranges:
                bad = first_bad_block(into[place : place + end - start], table, start // BLOCK_SIZE)
                if bad is not None:
                    raise CorruptReplica(f"{target.datanode} sent block {bad} of a chunk wrong", block=bad)
                place += end - start

        try:
            if self._ask_all(extent, buffer, read) is None:
                return views
        except InvalidRequest:
            # A datanode that does not know of ranges.
            pass
        # Each alone, with all that can be tried.
        for (start, end), view in zip(ranges, views, strict=True):
            self.read(extent, start - extent.offset, end - extent.offset, view)
        return views

    def _checked(self, extent: PlacedExtent, found: memoryview) -> memoryview:
        """The extent's bytes as a run brought them if they are right, else read alone, with all that can be tried."""
        return found if tree_digest(found) == extent.digest else self._whole(extent)

    def _whole(self, extent: PlacedExtent) -> memoryview:
        view = memoryview(bytearray(extent.length))
        self.read(extent, 0, extent.length, view)
        return view

    # --- one replica ------------------------------------------------------------------------------------------

    def _best_first(self, replicas: Sequence[Target]) -> list[Target]:
        """As the namenode orders them, but those that failed us a moment ago last."""
        suspects = self._suspects.now()
        return sorted(replicas, key=lambda target: target.datanode in suspects)

    def _ask_all(self, extent: PlacedExtent, into: memoryview, read: ReadFrom) -> dict[str, Fault] | None:
        """Read from one replica after the other, until one gave verified bytes: None then, else what each met."""
        faults: dict[str, Fault] = {}
        waiting = self._best_first(extent.replicas)
        while waiting:
            first, *others = waiting
            found = self._ask(first, others[0] if others else None, extent, into, read)
            if found is None:
                return None
            faults |= found
            waiting = [target for target in others if target.datanode not in faults]
        return faults

    def _ask(
        self, first: Target, spare: Target | None, extent: PlacedExtent, into: memoryview, read: ReadFrom
    ) -> dict[str, Fault] | None:
        """Read from one replica, and from `spare` too if that takes long. None if it went well, else what they met."""
        if self._hedging is None or spare is None:
            fault = self._try(first, extent, partial(read, first, into, None))
            return None if fault is None else {first.datanode: fault}
        from dfs.racing import Race

        race: Race[Fault] = Race(
            self._hedging,
            len(into),
            lambda buffer, flight: self._try(spare, extent, partial(read, spare, buffer, flight)),
        )
        try:
            fault = self._try(first, extent, partial(read, first, into, race.first), lost=lambda: race.won)
        except BaseException:
            race.abandon()
            raise
        if fault is None:
            race.succeeded()
            self._hedging.answered(first.datanode)
            return None
        filled, spare_fault = race.failed(into)
        if filled:
            if race.won and self._hedging.lost(first.datanode):
                self._suspects.add([first.datanode])
            return None
        return {first.datanode: fault} | ({} if spare_fault is None else {spare.datanode: spare_fault})

    def _try(
        self, target: Target, extent: PlacedExtent, read: Callable[[], None], lost: Callable[[], bool] = lambda: False
    ) -> Fault | None:
        """Read from one replica. None if that went well, else what it means; the replica has been reported then.

        lost  whether the read was given up since: then its failure says nothing about the datanode
        """
        try:
            read()
        except DfsError as error:
            if lost():
                return "elsewhere", error
            kind = after_get(error)
            if kind == "raise":
                raise
            if kind == "suspect" and not error.detail.get("given_up"):
                self._suspects.add([target.datanode])
            elif kind in ("bad", "absent"):
                self._report(extent.chunk, target.datanode, error.message)
            return kind, error
        self._suspects.clear(target.datanode)
        return None

    def _report(self, chunk: str, datanode: str, why: str) -> None:
        with self._lock:
            if (chunk, datanode) in self._reported or len(self._reported) >= REPORTS_MAX:
                return
            self._reported.add((chunk, datanode))
        # One attempt: the reader waits, and the scrubber finds the replica anyhow.
        with suppress(DfsError):
            self._namenodes.tell(BAD_REPLICA, BadReplica(chunk=chunk, datanode=datanode, why=why[:1000]))

    def _read_from(
        self, extent: PlacedExtent, start: int, end: int, target: Target, into: memoryview, flight: InFlight | None
    ) -> None:
        """Read from this replica and check. Raises CorruptReplica, and what the transport raises."""
        if extent.by_blocks:
            self._read_blocks(extent, start, end, target, into, flight)
            return
        whole = into if end - start == extent.length else memoryview(bytearray(extent.length))
        self._get(extent, extent.offset, target, whole, flight)
        if tree_digest(whole) != extent.digest:
            raise CorruptReplica(f"{target.datanode} sent bytes that are not what their digest says")
        if whole is not into:
            into[:] = whole[start:end]

    def _get(
        self, extent: PlacedExtent, offset: int, target: Target, into: memoryview, flight: InFlight | None = None
    ) -> None:
        """Exactly these bytes of the chunk, unchecked."""
        self._transport.get_chunk(
            target.url,
            chunk=extent.chunk,
            capability=extent.capability,
            offset=offset,
            length=len(into),
            mode="exact",
            into=[into],
            flight=flight,
        )

    def _read_blocks(
        self,
        extent: PlacedExtent,
        start: int,
        end: int,
        target: Target,
        into: memoryview,
        flight: InFlight | None = None,
    ) -> None:
        first, last = block_range(extent.offset + start, end - start, extent.chunk_length)
        blocks = into if last - first == len(into) else memoryview(bytearray(last - first))
        table = self._tables.get(extent.chunk, extent.chunk_digest)
        known = table is not None
        if table is None:
            table_view = memoryview(bytearray(table_size(extent.chunk_length)))
            self._get_blocks(target, extent, first, last, [table_view, blocks], flight)
            table = bytes(table_view)
            if root_digest(extent.chunk_length, table).hex() != extent.chunk_digest:
                raise CorruptReplica(f"{target.datanode} sent a table that is not the chunk's")
        else:
            self._get_blocks(target, extent, first, last, [blocks], flight)
        bad = first_bad_block(blocks, table, first // BLOCK_SIZE)
        if not known:
            self._tables.put(extent.chunk, extent.chunk_digest, table)
        if bad is not None:
            raise CorruptReplica(f"{target.datanode} sent block {bad} of a chunk wrong", block=bad)
        if blocks is not into:
            into[:] = blocks[extent.offset + start - first :][: len(into)]

    def _get_blocks(
        self,
        target: Target,
        extent: PlacedExtent,
        first: int,
        last: int,
        into: Sequence[memoryview],
        flight: InFlight | None,
    ) -> None:
        self._transport.get_chunk(
            target.url,
            chunk=extent.chunk,
            capability=extent.capability,
            offset=first,
            length=last - first,
            mode="table" if len(into) > 1 else "blocks",
            into=into,
            flight=flight,
        )

    # --- all replicas together --------------------------------------------------------------------------------

    def _salvage(self, extent: PlacedExtent, start: int, end: int, into: memoryview) -> bool:
        """Put the good parts of replicas together that are all wrong somewhere. Whether that worked.

        Halves what can't be read in one go, down to single blocks. Each part of an extent that is read by blocks is
        checked by itself; the other kind as a whole in the end.
        """
        if extent.by_blocks:
            return self._salvage_part(extent, start, end, into)
        whole = memoryview(bytearray(extent.length))
        if self._salvage_part(extent, 0, extent.length, whole) and tree_digest(whole) == extent.digest:
            into[:] = whole[start:end]
            return True
        return False

    def _salvage_part(self, extent: PlacedExtent, start: int, end: int, into: memoryview) -> bool:
        for target in self._best_first(extent.replicas):
            with suppress(DfsError):
                if extent.by_blocks:
                    self._read_blocks(extent, start, end, target, into)
                else:
                    self._get(extent, extent.offset + start, target, into)
                return True
        # Cut between two blocks of the chunk, so that no block is in both halves.
        middle = (extent.offset + (start + end) // 2) // BLOCK_SIZE * BLOCK_SIZE - extent.offset
        if middle <= start:
            middle += BLOCK_SIZE
        if middle >= end:
            return False
        return self._salvage_part(extent, start, middle, into[: middle - start]) and self._salvage_part(
            extent, middle, end, into[middle - start :]
        )

    def _why_not(self, extent: PlacedExtent, faults: dict[str, tuple[AfterGet, DfsError]]) -> DfsError:
        """The error for bytes that no replica gave."""
        told = "; ".join(f"{datanode}: {error.message}" for datanode, (_, error) in faults.items())
        if all(kind in ("bad", "absent") for kind, _ in faults.values()) and self._all_are_live():
            return DataLost(
                f"no good copy is left of chunk {extent.chunk} ({told or 'no datanode has it'}); "
                "restore the file from elsewhere",
                chunk=extent.chunk,
            )
        why = told or "no datanode that has it is live"
        return ReplicasUnavailable(
            f"chunk {extent.chunk} can't be read now ({why}); try again when its datanodes are back, see `dfs status`",
            chunk=extent.chunk,
        )

    def _all_are_live(self) -> bool:
        """Whether no datanode is away that could have another copy. Only then is anything lost."""
        try:
            datanodes = self._namenodes.call(STATUS, Empty()).datanodes
        except DfsError:
            return False
        return all(datanode.state == "live" for datanode in datanodes)
