"""Performs what the namenode asks for in its answers to heartbeats.

Separate from the heartbeat, which must never wait for a disk or a peer. Every command is safe to get twice: one that
runs already is not started again, and one whose result was lost finds its work done. Results go to the outbox.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from dfs.protocol.chunk_format import Header, encode_wire_footer
from dfs.protocol.errors import CorruptReplica, DfsError, ReplicaNotFound, Unavailable
from dfs.protocol.messages import (
    CheckReplica,
    Command,
    Compose,
    ComposedChunk,
    DeleteReplicas,
    Replicate,
    Scrub,
    SendReport,
    StoredChunk,
    StoredReplica,
    UnknownCommand,
)
from dfs.protocol.transport import Transport
from dfs_datanode.chunk_store import ChunkStore
from dfs_datanode.compose import Composer
from dfs_datanode.disk import is_short_of_means
from dfs_datanode.findings import Findings
from dfs_datanode.membership import Membership, Standing
from dfs_datanode.outbox import Outbox
from dfs_datanode.pipeline import Order
from dfs_datanode.pipeline import Source as StreamSource
from dfs_datanode.pull import LocalSource, PeerSource, Pull, Source
from dfs_datanode.pulling import Pulling
from dfs_datanode.supervise import Trials
from dfs_datanode.throttle import TokenBucket

logger = logging.getLogger("dfs.datanode.commands")

KINDS = ("replicate", "check", "delete", "compose")
WAITING_MAX = 4096
"""Commands taken on at once; the namenode sends again what is not answered."""
UNKNOWN_KINDS_MAX = 32
"""Kinds of unknown commands that are counted each for itself."""
OTHERS = "others"


class Commands:
    """Takes commands and performs them in threads of its own.

    fatal           ends the process, when commands of a kind fail one and all (F91)
    request_report  called when the namenode wants a full chunk report
    request_scrub   called with the ids of volumes to read now; none: all of them
    put             stores a chunk that is made here along its chain, and blocks
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
        fatal: Callable[[str], None],
        request_report: Callable[[], None],
        request_scrub: Callable[[list[str]], None],
        put: Callable[[StreamSource, Order, Standing, str], StoredChunk],
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
        self._composer = Composer(
            store=store,
            membership=membership,
            findings=findings,
            transport=transport,
            suspect=outbox.suspect,
            put=put,
            pause=self._pause,
        )
        self._limit = limit
        self.trials = {kind: Trials(kind, fatal) for kind in KINDS}
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._waiting: set[tuple[str, str]] = set()
        self.pulling = Pulling(time.monotonic)
        self.unknown: dict[str, int] = {}
        """Commands of a later version that were skipped, counted by what they are called."""
        self._pulls = ThreadPoolExecutor(repair_streams, thread_name_prefix="repair")
        self._local = ThreadPoolExecutor(1, thread_name_prefix="local")
        self._composing = ThreadPoolExecutor(1, thread_name_prefix="compose")

    def submit(self, commands: Iterable[Command]) -> None:
        """Take commands on. Returns at once."""
        for command in commands:
            match command:
                case SendReport():
                    self._request_report()
                case UnknownCommand():
                    self._skip(command.what)
                case Scrub():
                    self._request_scrub(command.volumes)
                case Replicate():
                    self._start(self._pulls, "replicate", command.chunk, partial(self.replicate, command))
                case Compose():
                    self._start(self._composing, "compose", command.chunk, partial(self.compose, command))
                case CheckReplica():
                    self._start(self._local, "check", command.chunk, partial(self.check, command))
                case DeleteReplicas():
                    for chunk in command.chunks:
                        self._start(self._local, "delete", chunk, partial(self.delete, chunk, bad=command.bad))

    def _skip(self, what: str) -> None:
        """The namenode is of a later version, and plans otherwise what is not done here."""
        if what not in self.unknown:
            if len(self.unknown) >= UNKNOWN_KINDS_MAX:
                what = OTHERS
            if what not in self.unknown:
                logger.warning("the namenode sends commands %r, which this version does not know: skipped", what)
        self.unknown[what] = self.unknown.get(what, 0) + 1

    def _start(self, threads: ThreadPoolExecutor, kind: str, chunk: str, work: Callable[[], None]) -> None:
        key = (kind, chunk)
        with self._lock:
            if key in self._waiting or len(self._waiting) >= WAITING_MAX or self._closing.is_set():
                return
            self._waiting.add(key)
            if kind == "replicate":
                self.pulling.queued(chunk)

        def run() -> None:
            try:
                work()
            except OSError as error:
                # One disk's trouble, which its volume's own probes judge; the namenode sends the command again.
                logger.warning("the command %s of the chunk %s failed: %s", kind, chunk, error)
            except BaseException as error:
                # A bug in one command must not stop the others; the namenode sends it again and sees it fail again.
                self.trials[kind].failed(chunk, error)
            else:
                self.trials[kind].succeeded()
            finally:
                self._ended(key)

        try:
            threads.submit(run)
        except RuntimeError:
            # The threads have ended since the look above: the datanode is being stopped.
            self._ended(key)

    def _ended(self, key: tuple[str, str]) -> None:
        kind, chunk = key
        with self._lock:
            self._waiting.discard(key)
            if kind == "replicate":
                self.pulling.ended(chunk)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def close(self) -> None:
        self._closing.set()
        for threads in (self._pulls, self._local, self._composing):
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
        self.pulling.progress(command.chunk)
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
        sources = self._sources(command, here is not None)
        pull = Pull(command, sources, suspect=self._outbox.suspect, pause=partial(self._pause_pull, command.chunk))
        beside = replace is not None
        try:
            hints = pull.hints()
            with self._store.storing(header, command.length, hints=len(hints), again=True, beside=beside) as (
                writer,
                volume,
            ):
                for piece in pull.pieces():
                    writer.write(piece)
                footer = encode_wire_footer(command.length, pull.table, bytes.fromhex(command.digest), hints)
                writer.finish(footer, make_way=replace)
        except DfsError as error:
            logger.warning("the chunk %s could not be pulled: %s", command.chunk, error)
            self._outbox.failed(command.chunk)
            return
        self._stored(command, volume.id)

    def compose(self, command: Compose) -> None:
        """Make a new chunk, and tell the namenode, which alone decides whether any file has its bytes there."""
        try:
            answer = self._composer.compose(command)
        except DfsError as error:
            logger.warning("the chunk %s could not be composed: %s", command.chunk, error)
            answer = ComposedChunk(chunk=command.chunk, why=error.message[:1024])
        self._outbox.composed(answer)

    def _sources(self, command: Replicate, is_here: bool) -> list[Source]:
        """The peers in the namenode's order, and last the bad replica here: for blocks that nobody else has right."""
        sources: list[Source] = [PeerSource(one, command, self._transport) for one in command.sources]
        if is_here:
            try:
                sources.append(LocalSource(self._store.open_uncached(command.chunk)))
            except (CorruptReplica, ReplicaNotFound, OSError) as error:
                logger.info("nothing of the replica of %s here is of use: %s", command.chunk, error)
        return sources

    def _pause_pull(self, chunk: str, count: int) -> None:
        """As `_pause`, for a pull that got a piece of so many bytes."""
        seconds = self._limit.take(count)
        self.pulling.progress(chunk, seconds)
        self._wait(seconds)

    def _pause(self, count: int) -> None:
        """Wait as long as the limit wants after so many bytes. Raises Unavailable: the datanode is being stopped."""
        self._wait(self._limit.take(count))

    def _wait(self, seconds: float) -> None:
        if self._closing.wait(seconds):
            raise Unavailable("this datanode is being stopped")

    def _make_way(self, chunk: str, why: str) -> None:
        """The replacement of a bad replica is whole and durable: out with the bad one. Raises OSError."""
        self._store.retire(chunk, self._membership.clock.wall_ms(), why_bad=why)

    def _stored(self, command: Replicate, volume_id: str) -> None:
        self._findings.replaced(command.chunk)
        self._outbox.stored(
            StoredReplica(chunk=command.chunk, length=command.length, digest=command.digest, volume=volume_id)
        )
