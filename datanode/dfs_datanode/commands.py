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
from dfs.protocol.errors import CorruptReplica, DfsError, ReplicaNotFound, Unavailable
from dfs.protocol.messages import (
    CheckReplica,
    Command,
    DeleteReplicas,
    Replicate,
    Scrub,
    SendReport,
    StoredReplica,
)
from dfs.protocol.transport import Transport
from dfs_datanode.chunk_store import ChunkStore
from dfs_datanode.disk import is_short_of_means
from dfs_datanode.findings import Findings
from dfs_datanode.membership import Membership
from dfs_datanode.outbox import Outbox
from dfs_datanode.pull import LocalSource, PeerSource, Pull, Source
from dfs_datanode.throttle import TokenBucket

logger = logging.getLogger("dfs.datanode.commands")

WAITING_MAX = 4096
"""Commands taken on at once; the namenode sends again what is not answered."""


class Commands:
    """Takes commands and performs them in threads of its own.

    request_report  called when the namenode wants a full chunk report
    request_scrub   called with the ids of volumes to read now; none: all of them
    repair_streams  chunks pulled at once
    limit           of the bytes that they pull together
    """

    def __init__(
        self,
        *,
        store: ChunkStore,
        membership: Membership,
        outbox: Outbox,
        findings: Findings,
        transport: Transport,
        request_report: Callable[[], None],
        request_scrub: Callable[[list[str]], None],
        repair_streams: int,
        limit: TokenBucket,
    ) -> None:
        self._store = store
        self._membership = membership
        self._outbox = outbox
        self._findings = findings
        self._transport = transport
        self._request_report = request_report
        self._request_scrub = request_scrub
        self._limit = limit
        self._closing = threading.Event()
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
                case Scrub():
                    self._request_scrub(command.volumes)
                case Replicate():
                    self._start(self._pulls, "replicate", command.chunk, partial(self.replicate, command))
                case CheckReplica():
                    self._start(self._local, "check", command.chunk, partial(self.check, command))
                case DeleteReplicas():
                    for chunk in command.chunks:
                        self._start(self._local, "delete", chunk, partial(self.delete, chunk, bad=command.bad))

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
        self._closing.set()
        for threads in (self._pulls, self._local):
            threads.shutdown(wait=False, cancel_futures=True)

    def delete(self, chunk: str, *, bad: bool = False) -> None:
        """Take a chunk out of service; one that is not here is gone already.

        bad  the namenode says that the replica is bad: it goes to the quarantine, as one does that was found bad here
        """
        why = self._findings.why_bad(chunk) or ("the namenode ordered its replacement" if bad else "")
        try:
            self._store.retire(chunk, self._membership.clock.wall_ms(), why_bad=why)
        except OSError as error:
            logger.error("can't delete the chunk %s: %s", chunk, error)
            return
        self._findings.replaced(chunk)
        self._outbox.deleted([chunk])

    def check(self, command: CheckReplica) -> None:
        """Read a replica whole, from the disk, and say whether it is right."""
        try:
            why = self._what_is_wrong(command.chunk, command.length, command.digest)
        except Unavailable as error:
            # Nothing is known of the replica, and nothing is said; the namenode asks again.
            logger.warning("can't check the chunk %s now: %s", command.chunk, error)
            return
        if why:
            self._findings.wrong(command.chunk, why)
        else:
            self._findings.right(command.chunk)

    def _what_is_wrong(self, chunk: str, length: int, digest: str) -> str:
        """ "" if the replica here is the right one. Raises Unavailable: it could not be looked at."""
        try:
            reader = self._store.open_uncached(chunk)
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
            replace = partial(self._make_way, command.chunk, why)
        standing = self._membership.standing()
        now_ms = self._membership.clock.wall_ms()
        header = Header(standing.cluster, standing.lineage, command.chunk, command.length, now_ms)
        try:
            with self._store.storing(header, command.length, again=True, beside=replace is not None) as (
                writer,
                volume,
            ):
                pull = Pull(
                    command, self._sources(command, here is not None), suspect=self._outbox.suspect, pause=self._pause
                )
                for piece in pull.pieces():
                    writer.write(piece)
                footer = encode_wire_footer(command.length, pull.table, bytes.fromhex(command.digest))
                writer.finish(footer, make_way=replace)
        except DfsError as error:
            logger.warning("the chunk %s could not be pulled: %s", command.chunk, error)
            self._outbox.failed(command.chunk)
            return
        self._stored(command, volume.id)

    def _sources(self, command: Replicate, is_here: bool) -> list[Source]:
        """The peers in the namenode's order, and last the bad replica here: for blocks that nobody else has right."""
        sources: list[Source] = [PeerSource(one, command, self._transport) for one in command.sources]
        if is_here:
            try:
                sources.append(LocalSource(self._store.open_uncached(command.chunk)))
            except (CorruptReplica, ReplicaNotFound, OSError) as error:
                logger.info("nothing of the replica of %s here is of use: %s", command.chunk, error)
        return sources

    def _pause(self, count: int) -> None:
        """Wait as long as the limit wants after so many bytes. Raises Unavailable: the datanode is being stopped."""
        if self._closing.wait(self._limit.take(count)):
            raise Unavailable("this datanode is being stopped")

    def _make_way(self, chunk: str, why: str) -> None:
        """The replacement of a bad replica is whole and durable: out with the bad one. Raises OSError."""
        self._store.retire(chunk, self._membership.clock.wall_ms(), why_bad=why)

    def _stored(self, command: Replicate, volume_id: str) -> None:
        self._findings.replaced(command.chunk)
        self._outbox.stored(
            StoredReplica(chunk=command.chunk, length=command.length, digest=command.digest, volume=volume_id)
        )
