"""Performs what the namenode asks for in its answers to heartbeats.

Separate from the heartbeat, which must never wait for a disk or a peer. Every command is safe to get twice: one that
runs already is not started again, and one whose result was lost finds its work done. Results go to the outbox.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from dfs.protocol.chunk_format import Header, encode_wire_footer
from dfs.protocol.digests import BLOCK_SIZE, first_bad_block, root_digest, table_size
from dfs.protocol.errors import CorruptReplica, DfsError, ReplicaNotFound, Unavailable
from dfs.protocol.messages import (
    CheckReplica,
    Command,
    DeleteReplicas,
    Replicate,
    SendReport,
    StoredReplica,
    Target,
)
from dfs.protocol.transport import Transport
from dfs_datanode.chunk_store import ChunkStore
from dfs_datanode.disk import is_short_of_means
from dfs_datanode.membership import Membership
from dfs_datanode.outbox import Outbox

logger = logging.getLogger("dfs.datanode.commands")

WAITING_MAX = 4096
"""Commands taken on at once; the namenode sends again what is not answered."""
PULL_BYTES = 4 << 20
"""Asked of a source at once: a multiple of the block."""

assert PULL_BYTES % BLOCK_SIZE == 0


class Commands:
    """Takes commands and performs them in threads of its own.

    request_report  called when the namenode wants a full chunk report
    repair_streams  chunks pulled at once
    """

    def __init__(
        self,
        *,
        store: ChunkStore,
        membership: Membership,
        outbox: Outbox,
        transport: Transport,
        request_report: Callable[[], None],
        repair_streams: int,
    ) -> None:
        self._store = store
        self._membership = membership
        self._outbox = outbox
        self._transport = transport
        self._request_report = request_report
        self._lock = threading.Lock()
        self._waiting: set[tuple[str, str]] = set()
        self._pulls = ThreadPoolExecutor(repair_streams, thread_name_prefix="repair")
        self._local = ThreadPoolExecutor(1, thread_name_prefix="local")

    def submit(self, commands: Iterable[Command]) -> None:
        """Take commands on. Returns at once."""
        for command in commands:
            match command:
                case SendReport():
                    self._request_report()
                case Replicate():
                    self._start(self._pulls, "replicate", command.chunk, partial(self.replicate, command))
                case CheckReplica():
                    self._start(self._local, "check", command.chunk, partial(self.check, command))
                case DeleteReplicas():
                    for chunk in command.chunks:
                        self._start(self._local, "delete", chunk, partial(self.delete, chunk))

    def _start(self, threads: ThreadPoolExecutor, kind: str, chunk: str, work: Callable[[], None]) -> None:
        key = (kind, chunk)
        with self._lock:
            if key in self._waiting or len(self._waiting) >= WAITING_MAX:
                return
            self._waiting.add(key)

        def run() -> None:
            try:
                work()
            except Exception:
                # A bug in one command must not stop the others; the namenode sends it again and sees it fail again.
                logger.exception("the command %s of the chunk %s failed", kind, chunk)
            finally:
                with self._lock:
                    self._waiting.discard(key)

        threads.submit(run)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def close(self) -> None:
        for threads in (self._pulls, self._local):
            threads.shutdown(wait=False, cancel_futures=True)

    def delete(self, chunk: str) -> None:
        """Move a chunk to the trash; one that is not here is gone already."""
        try:
            self._store.move_to_trash(chunk, self._membership.clock.wall_ms())
        except OSError as error:
            logger.error("can't delete the chunk %s: %s", chunk, error)
            return
        self._outbox.deleted([chunk])

    def check(self, command: CheckReplica) -> None:
        """Read a replica whole, from the disk, and say whether it is right."""
        try:
            why = self._what_is_wrong(command.chunk, command.length, command.digest)
        except Unavailable as error:
            # Nothing is known of the replica, and nothing is said; the namenode asks again.
            logger.warning("can't check the chunk %s now: %s", command.chunk, error)
            return
        self._outbox.checked(command.chunk, good=not why, why=why)

    def _what_is_wrong(self, chunk: str, length: int, digest: str) -> str:
        """ "" if the replica here is the right one. Raises Unavailable: it could not be looked at."""
        try:
            reader = self._store.open_afresh(chunk)
            if (reader.length, reader.root.hex()) != (length, digest):
                return "the replica is not what the namenode recorded"
            reader.verify()
        except (CorruptReplica, ReplicaNotFound) as error:
            return error.message
        except OSError as error:
            if is_short_of_means(error):
                raise Unavailable(f"no file can be opened now ({error})") from error
            return f"the replica can't be read ({error})"
        return ""

    def replicate(self, command: Replicate) -> None:
        """Pull a chunk, verify it against the namenode's digest, keep it; a bad replica stays until that is done."""
        here = self._store.find(command.chunk)
        replace = None
        if here is not None:
            try:
                why = self._what_is_wrong(command.chunk, command.length, command.digest)
            except Unavailable as error:
                logger.warning("can't check the chunk %s now: %s", command.chunk, error)
                self._outbox.failed(command.chunk)
                return
            if not why:
                self._stored(command, here.id)
                return
            logger.warning("the replica of %s here is bad (%s); pulling another one in its place", command.chunk, why)
            replace = partial(self._make_way, command.chunk)
        standing = self._membership.standing()
        now_ms = self._membership.clock.wall_ms()
        header = Header(standing.cluster, standing.lineage, command.chunk, command.length, now_ms)
        try:
            with self._store.storing(header, command.length, again=True, beside=replace is not None) as (
                writer,
                volume,
            ):
                pull = Pull(command, self._transport, self._outbox.suspect)
                for piece in pull.pieces():
                    writer.write(piece)
                footer = encode_wire_footer(command.length, pull.table, bytes.fromhex(command.digest))
                writer.finish(footer, make_way=replace)
        except DfsError as error:
            logger.warning("the chunk %s could not be pulled: %s", command.chunk, error)
            self._outbox.failed(command.chunk)
            return
        self._stored(command, volume.id)

    def _make_way(self, chunk: str) -> None:
        """The replacement of a bad replica is whole and durable: out with the bad one. Raises OSError."""
        self._store.move_to_trash(chunk, self._membership.clock.wall_ms())

    def _stored(self, command: Replicate, volume_id: str) -> None:
        self._outbox.stored(
            StoredReplica(chunk=command.chunk, length=command.length, digest=command.digest, volume=volume_id)
        )


class Pull:
    """A chunk, taken block-wise from whichever source gives it right.

    The sources are asked in order. One that fails or gives wrong bytes is not asked again; what came from it and was
    right stays, because each block was checked alone: sources that are all damaged, in different places, still make
    one good replica.
    """

    def __init__(self, command: Replicate, transport: Transport, suspect: Callable[[str], None]) -> None:
        self.table = b""
        self._command = command
        self._transport = transport
        self._suspect = suspect
        self._unreachable: set[str] = set()

    def pieces(self) -> Iterable[memoryview]:
        """The verified data in order. Each piece is overwritten by the next. Raises DfsError."""
        buffer = memoryview(bytearray(min(PULL_BYTES, self._command.length)))
        for offset in range(0, self._command.length, PULL_BYTES):
            piece = buffer[: min(PULL_BYTES, self._command.length - offset)]
            self._fetch(offset, piece)
            yield piece

    def _fetch(self, offset: int, piece: memoryview) -> None:
        last: DfsError = CorruptReplica("no source of the chunk is left")
        for source in self._command.sources:
            if source.datanode in self._unreachable:
                continue
            try:
                self._fetch_from(source, offset, piece)
            except CorruptReplica as error:
                last = error
            except DfsError as error:
                self._unreachable.add(source.datanode)
                self._suspect(source.datanode)
                last = error
            else:
                return
        raise last

    def _fetch_from(self, source: Target, offset: int, piece: memoryview) -> None:
        """Fill `piece` with right bytes, and learn the table with the first. Raises DfsError."""
        command = self._command
        table = bytearray() if self.table else bytearray(table_size(command.length))
        self._transport.get_chunk(
            source.url,
            chunk=command.chunk,
            capability=command.capability,
            offset=offset,
            length=len(piece),
            mode="blocks" if self.table else "table",
            into=[piece] if self.table else [memoryview(table), piece],
        )
        if not self.table:
            if root_digest(command.length, table).hex() != command.digest:
                raise CorruptReplica(f"the table at {source.datanode} is not the one that the namenode recorded")
            self.table = bytes(table)
        bad = first_bad_block(piece, self.table, offset // BLOCK_SIZE)
        if bad is not None:
            raise CorruptReplica(f"block {bad} at {source.datanode} is damaged")
