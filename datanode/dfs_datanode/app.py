"""Composes a datanode from its parts, runs it, and takes it down. Decides nothing else.

    directories locked → identity → volumes opened and recovered → loops and server → registered → "ready URL"

The server listens before the datanode is registered, because its address is part of the registration; until then it
answers 503. At the end running streams get a moment, then the high-water mark is written and the locks are let go.
"""

import logging
import os
import random
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
from starlette.applications import Starlette

from dfs.protocol.clock import Clock, SystemClock
from dfs.protocol.errors import EXIT_OK, EXIT_SOME_FAILED, DfsError, InvalidRequest
from dfs.protocol.guard import bind, exit_with_parent, look_less_for_garbage, run_server
from dfs.protocol.operations import GET_CHUNK, METADATA_PARTS, PUT_CHUNK, READ_METADATA
from dfs.protocol.server import ASGIApp, protocol_app
from dfs.protocol.transport import Transport
from dfs_datanode.buffers import BufferPool
from dfs_datanode.chunk_store import ChunkStore
from dfs_datanode.commands import Commands
from dfs_datanode.disk import Disk
from dfs_datanode.durability import mode_of
from dfs_datanode.duties import VolumeDuties
from dfs_datanode.findings import Findings
from dfs_datanode.gateway import FilesRoute, WebhdfsRoute, make_gateway
from dfs_datanode.heartbeat import Introduction, NamenodeLink
from dfs_datanode.identity import Identity, load_identity, lock_directory, save_identity
from dfs_datanode.membership import Membership
from dfs_datanode.metrics import DatanodeCollector, health_routes
from dfs_datanode.operations.get_chunk import GetChunk
from dfs_datanode.operations.metadata import Metadata
from dfs_datanode.operations.put_chunk import PutChunk
from dfs_datanode.outbox import Outbox
from dfs_datanode.reporting import Reporter
from dfs_datanode.settings import DatanodeSettings
from dfs_datanode.startup import settle
from dfs_datanode.supervise import Loop, LoopStatistics
from dfs_datanode.throttle import TokenBucket
from dfs_datanode.volumes import Volume, open_volume

logger = logging.getLogger("dfs.datanode")


@dataclass(frozen=True)
class Grounds:
    """What a datanode stands on: its locked directories."""

    directories: tuple[str, ...]
    locks: list[int]
    identity: Identity
    volumes: list[Volume]


def open_grounds(settings: DatanodeSettings, disk: Disk, clock: Clock) -> Grounds:
    """Lock the directories, find out who we are, open the volumes. Raises Conflict, InvalidRequest."""
    directories = tuple(dict.fromkeys(os.path.abspath(one) for one in settings.dirs))
    if not directories:
        raise InvalidRequest("a datanode needs a directory: give it --dir")
    durability = mode_of(settings.durability)
    locks = [lock_directory(disk, directory) for directory in directories]
    try:
        identity = load_identity(disk, directories, settings.datanode_id)
        pool = BufferPool()
        volumes = [
            open_volume(
                disk,
                directory,
                pool,
                datanode=identity.datanode,
                cluster=identity.cluster,
                known_id=identity.volumes.get(directory),
                reserve_bytes=settings.reserve_bytes,
                reserve_fraction=settings.reserve_fraction,
                clock=clock,
                durability=durability,
                probe_timeout_s=settings.probe_timeout_s,
            )
            for directory in directories
        ]
        known = {volume.directory: volume.id for volume in volumes}
        identity = msgspec.structs.replace(identity, volumes=identity.volumes | known)
        _remember(disk, volumes, identity)
    except BaseException:
        for lock in locks:
            disk.close(lock)
        raise
    return Grounds(directories, locks, identity, volumes)


def _remember(disk: Disk, volumes: Sequence[Volume], identity: Identity) -> None:
    """Write the identity down. One that is known on the disk need not be: a disk may be full or read-only.

    Raises InvalidRequest
    """
    try:
        save_identity(disk, _usable(volumes), identity)
    except OSError as error:
        if identity.cluster is None:
            raise InvalidRequest(f"a new datanode can't write into its directories: {error}") from None
        logger.warning("the identity can't be written (%s); it stays as it is on the disk", error)


def _usable(volumes: Sequence[Volume]) -> list[str]:
    return [volume.directory for volume in volumes if volume.holds_chunks]


class Datanode:
    """One datanode: its parts, wired. `fatal` and `refused` end the process."""

    def __init__(
        self,
        settings: DatanodeSettings,
        grounds: Grounds,
        url: str,
        *,
        disk: Disk,
        clock: Clock,
        fatal: Callable[[str], None],
        refused: Callable[[DfsError], None],
    ) -> None:
        self.store = ChunkStore(disk, grounds.volumes)
        self.outbox = Outbox(settings.namenode)
        self.findings = Findings(self.outbox)
        self.membership = Membership(
            grounds.identity,
            secrets.token_hex(16),
            clock,
            lambda identity: save_identity(disk, _usable(grounds.volumes), identity),
        )
        self.transport = Transport(no_progress_s=settings.no_progress_s, receipts_s=settings.receipts_s)
        self.put = PutChunk(
            store=self.store,
            membership=self.membership,
            transport=self.transport,
            suspect=self.outbox.suspect,
            max_streams=settings.max_streams,
            idle_s=settings.idle_body_s,
        )
        self.get = GetChunk(
            store=self.store,
            membership=self.membership,
            findings=self.findings,
            suspected=self._look_at_suspects,
            threads=settings.read_threads,
            limit=TokenBucket(settings.repair_bytes_per_s, clock),
        )
        self.commands = Commands(
            store=self.store,
            membership=self.membership,
            outbox=self.outbox,
            findings=self.findings,
            transport=self.transport,
            fatal=fatal,
            request_report=self._request_report,
            request_scrub=self._scrub_now,
            put=self.put.store,
            repair_streams=settings.repair_streams,
            limit=TokenBucket(settings.repair_bytes_per_s, clock),
        )
        self._duties = [self._duties_of(volume, settings, disk, clock, fatal) for volume in grounds.volumes]
        introduction = Introduction(
            settings.peer_url or url,
            settings.client_url or url,
            settings.rack,
            settings.join_secret,
            mode_of(settings.durability),
        )
        links = [self._link(one, introduction, refused) for one in settings.namenode]
        self._reporter = Reporter(
            links,
            store=self.store,
            disk=disk,
            transport=self.transport,
            datanode=grounds.identity.datanode,
            clock=clock,
            bad=self.findings.bad,
            rest_s=settings.report_pause_s,
        )
        self._beats = [Loop(f"heartbeat {link.url}", link.turn, clock, fatal) for link in links]
        self._report_loop = Loop("report", self._reporter.turn, clock, fatal)
        self.membership.ask = self._beat_now
        self.collector = self._collector()
        self.gateway = make_gateway(
            settings.namenode,
            datanode=grounds.identity.datanode,
            peer_url=lambda datanode: self.membership.peer_url(datanode, wait_s=0),
            ticket_key=lambda: self.membership.standing().key,
            now_ms=self.membership.clock.wall_ms,
            clock=clock,
            rng=random.Random(),
        )
        self.app = self._compose(Metadata(disk, self.store, self.membership, join_secret=settings.join_secret))

    def _duties_of(
        self, volume: Volume, settings: DatanodeSettings, disk: Disk, clock: Clock, fatal: Callable[[str], None]
    ) -> VolumeDuties:
        return VolumeDuties(
            volume,
            disk,
            settings,
            self.findings,
            clock=clock,
            namenode_clock=self.membership.clock,
            seq_seen=lambda: self.membership.identity.seq_seen,
            busy=lambda: bool(self.put.active or self.get.active),
            fatal=fatal,
        )

    def _collector(self) -> DatanodeCollector:
        return DatanodeCollector(
            store=self.store,
            put=self.put,
            get=self.get,
            commands=self.commands,
            scrubbers=[duties.scrubber for duties in self._duties],
            findings=self.findings,
            outbox=self.outbox,
            loops=self.loops,
        )

    def _compose(self, metadata: Metadata) -> ASGIApp:
        pages = health_routes(self.membership, self.store, self.loops, self.collector)
        return protocol_app(
            {METADATA_PARTS: metadata.find, READ_METADATA: metadata.read},
            bytes_handlers={PUT_CHUNK: self.put, GET_CHUNK: self.get},
            bytes_now={GET_CHUNK: self.get.now},
            otherwise=Starlette(routes=[*pages, FilesRoute(self.gateway), WebhdfsRoute(self.gateway)]),
            observe=self.collector.observe,
        )

    def _link(self, url: str, introduction: Introduction, refused: Callable[[DfsError], None]) -> NamenodeLink:
        return NamenodeLink(
            url,
            transport=self.transport,
            membership=self.membership,
            store=self.store,
            outbox=self.outbox,
            introduction=introduction,
            perform=self.commands.submit,
            streams=lambda: self.put.active + self.get.active,
            pulling=self.commands.pulling.named,
            refused=refused,
        )

    def _request_report(self) -> None:
        self._reporter.request()
        self._report_loop.wake()

    def _beat_now(self) -> None:
        for beat in self._beats:
            beat.wake()

    def _scrub_now(self, volumes: list[str]) -> None:
        for duties in self._duties:
            if not volumes or duties.volume.id in volumes:
                duties.scrub_now()

    def _look_at_suspects(self) -> None:
        for duties in self._duties:
            duties.look_at_suspects()

    def loops(self) -> list[LoopStatistics]:
        """Of every background loop."""
        return [loop.statistics() for loop in self._all_loops]

    @property
    def _all_loops(self) -> list[Loop]:
        return [*self._beats, self._report_loop, *(loop for duties in self._duties for loop in duties.loops)]

    def start(self) -> None:
        """Let the loops run: the datanode registers."""
        for loop in self._all_loops:
            loop.start()

    def stop(self) -> None:
        """End the loops, and write down what must survive."""
        self.commands.close()
        self.put.close()
        self.get.close()
        self.gateway.close()
        for loop in [*self._beats, self._report_loop]:
            loop.stop()
        for duties in self._duties:
            duties.stop()


class _Ending:
    """How the process ends: by a signal, or because a part of it says that it can't go on."""

    def __init__(self) -> None:
        self.why = ""
        self.code = EXIT_OK

    def refused(self, error: DfsError) -> None:
        """The namenode will never take this datanode."""
        self._end(error.message, error.exit_code)

    def fatal(self, why: str) -> None:
        """A duty failed for good."""
        self._end(why, EXIT_SOME_FAILED)

    def _end(self, why: str, code: int) -> None:
        if not self.why:
            self.why, self.code = why, code
            logger.error("%s", why)
            os.kill(os.getpid(), signal.SIGTERM)


def run(settings: DatanodeSettings) -> int:
    """Run a datanode until SIGTERM or SIGINT; the exit code. Prints `ready URL` once it is registered."""
    logging.basicConfig(
        level=settings.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    if settings.exit_with_parent:
        exit_with_parent()
    disk, clock = Disk(), SystemClock()
    try:
        sock, url = bind(settings.listen, insecure=settings.insecure)
    except DfsError as error:
        logger.error("%s", error)
        return error.exit_code
    try:
        grounds = open_grounds(settings, disk, clock)
    except DfsError as error:
        sock.close()
        logger.error("%s", error)
        return error.exit_code
    settle([volume for volume in grounds.volumes if volume.holds_chunks], disk, now_ms=clock.wall_ms())
    ending = _Ending()
    node = Datanode(settings, grounds, url, disk=disk, clock=clock, fatal=ending.fatal, refused=ending.refused)
    stopping = threading.Event()

    def tell_when_ready() -> None:
        while not node.membership.is_registered:
            if stopping.wait(0.02):
                return
        sys.stdout.write(f"ready {url}\n")
        sys.stdout.flush()

    def started() -> None:
        look_less_for_garbage()
        node.start()
        threading.Thread(target=tell_when_ready, name="ready", daemon=True).start()

    try:
        run_server(node.app, sock=sock, started=started)
    finally:
        stopping.set()
        drained = _drain(node, settings.drain_s)
        node.stop()
        for lock in grounds.locks:
            disk.close(lock)
    if not drained:
        # A thread may hang in a socket or a disk for a minute; all that is durable is durable already.
        logging.shutdown()
        os._exit(ending.code)
    return ending.code


def _drain(node: Datanode, seconds: float) -> bool:
    """Wait for running streams; whether all of them ended."""
    deadline = time.monotonic() + seconds
    while node.put.active and time.monotonic() < deadline:
        time.sleep(0.05)
    return not node.put.active
