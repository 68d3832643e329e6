"""Composes a namenode from its parts, runs it, and takes it down. Decides nothing else.

    address bound -> directory locked, store opened -> identity, secret, leader's epoch -> monitors and server -> ready

The address comes first: whoever can't listen must not have touched the store.
"""

import logging
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

from starlette.applications import Starlette

from dfs.protocol.clock import SystemClock
from dfs.protocol.errors import EXIT_OK, EXIT_SOME_FAILED, DfsError
from dfs.protocol.guard import bind, exit_with_parent, look_less_for_garbage, run_server
from dfs.protocol.messages import Target
from dfs.protocol.server import ASGIApp, protocol_app
from dfs.protocol.transport import Transport
from dfs_namenode import doors, webhdfs
from dfs_namenode.commands import Outbox, ReportTurns
from dfs_namenode.counting import CountCache
from dfs_namenode.deeds import Deeds
from dfs_namenode.founding import Founded, found
from dfs_namenode.garbage import DeleteBudget
from dfs_namenode.handlers import Facts, Parts, all_handlers
from dfs_namenode.health import NamenodeCollector, Vitals, health_routes
from dfs_namenode.liveness import Liveness, Reservations
from dfs_namenode.monitors.backup import BackupDuty
from dfs_namenode.monitors.balance import BalanceDuty
from dfs_namenode.monitors.bury import Bury
from dfs_namenode.monitors.collect import Collect
from dfs_namenode.monitors.compact import Compaction, Pace
from dfs_namenode.monitors.drain import Draining
from dfs_namenode.monitors.forget import Forget
from dfs_namenode.monitors.leader import Leader
from dfs_namenode.monitors.repair import Repair
from dfs_namenode.monitors.safety import Safety
from dfs_namenode.monitors.seek import Seek
from dfs_namenode.monitors.spread import Spread
from dfs_namenode.monitors.supervise import Duty, Monitors
from dfs_namenode.monitors.sweep import Sweep
from dfs_namenode.monitors.trim import Trimming
from dfs_namenode.monitors.watch import Watch
from dfs_namenode.settings import NamenodeSettings
from dfs_namenode.shipping import PRINCIPAL, Shipper
from dfs_namenode.steady_clock import SteadyClock
from dfs_namenode.store import datanodes
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.verifications import Verifications

log = logging.getLogger(__name__)
FORGET_INTERVAL_S = 60.0


class Namenode:
    """One namenode: its parts, wired. `ended` is told when it can't go on."""

    def __init__(
        self,
        settings: NamenodeSettings,
        store: SqliteStore,
        founded: Founded,
        clock: SteadyClock,
        *,
        ended: Callable[[str], None],
    ) -> None:
        liveness = Liveness(clock, stale_after_s=settings.stale_after_s, dead_after_s=settings.dead_after_s)
        with store.read() as snapshot:
            liveness.load(datanodes.everyone(snapshot), unkeyed=datanodes.unkeyed(snapshot))
        leader = Leader(store, founded.epoch)
        safety = Safety(store, liveness, clock, settle_s=settings.settle_s)
        outbox = Outbox(clock, timeout_s=settings.command_timeout_s)
        reports = ReportTurns(clock, at_once=settings.reports_at_once)
        counts = CountCache(store, clock)
        reservations = Reservations(clock)
        sweep = _sweep(store, leader, clock, settings)
        budget = _delete_budget(settings, clock)
        collect = Collect(store, leader, liveness, outbox, safety, counts, clock=clock, budget=budget)
        bury = Bury(
            store,
            leader,
            liveness,
            outbox,
            safety,
            counts,
            clock=clock,
            budget=budget,
            orphan_age_ms=int(settings.orphan_age_s * 1000),
        )
        self.parts = Parts(
            facts=Facts(founded.cluster, founded.epoch, version("dfs"), settings, clock.monotonic_s()),
            store=store,
            clock=clock,
            keys=founded.keys,
            liveness=liveness,
            reservations=reservations,
            outbox=outbox,
            reports=reports,
            verifications=Verifications(clock),
            counts=counts,
            budget=budget,
            safe_modes=lambda: [*safety.modes(), *collect.brakes(), *bury.brakes()],
            sweep=sweep,
            collect=collect,
            bury=bury,
            draining=Draining(store, leader, liveness, reports, clock),
            backup=BackupDuty(
                store,
                _shipper(leader, liveness, reservations, founded, clock, settings),
                clock,
                directory=settings.dir,
                interval_s=settings.backup_interval_s,
                snapshot_interval_s=settings.backup_snapshot_interval_s,
            ),
            balancing=BalanceDuty(
                store,
                leader,
                liveness,
                outbox,
                safety,
                founded.keys,
                clock=clock,
                bytes_per_s=settings.balance_bytes_per_s,
                ttl_ms=int(settings.capability_ttl_s * 1000),
            ),
            leader=leader,
            compaction=Compaction(
                store,
                leader,
                liveness,
                reservations,
                outbox,
                safety,
                founded.keys,
                clock=clock,
                pace=_pace(settings),
                rng=random.Random(),
            ),
        )
        self.deeds = Deeds()
        self.duties = self._duties(leader, safety)
        self._monitors = Monitors(self.duties, clock=clock, ended=ended)
        self.handlers = all_handlers(self.parts)
        self.vitals = self._vitals()
        self.app = self._compose()

    def _duties(self, leader: Leader, safety: Safety) -> list[Duty]:
        parts, settings = self.parts, self.parts.facts.settings
        watch = Watch(parts.store, leader, parts.liveness, parts.reports, parts.verifications)
        spread = Spread(parts.store, leader, parts.liveness)
        seek = Seek(parts.store, parts.liveness, parts.reports, parts.clock)
        repair = Repair(
            parts.store,
            leader,
            parts.liveness,
            parts.outbox,
            safety,
            parts.keys,
            self.deeds,
            clock=parts.clock,
            streams=settings.repair_streams,
            ttl_ms=int(settings.capability_ttl_s * 1000),
            rng=random.Random(),
        )
        trim = Trimming(
            parts.store,
            leader,
            parts.liveness,
            parts.outbox,
            safety,
            parts.counts,
            clock=parts.clock,
            budget=parts.budget,
            verifications=parts.verifications,
            deeds=self.deeds,
        )
        forget = Forget(
            leader,
            parts.clock,
            op_retention_ms=int(settings.op_retention_s * 1000),
            change_retention_ms=int(settings.change_retention_s * 1000),
            commit_window_ms=int(settings.chunk_commit_window_s * 1000),
        )
        interval_s = settings.monitor_interval_s
        return [
            Duty("watch", interval_s, watch.turn),
            Duty("seek", interval_s, seek.turn),
            Duty("spread", interval_s, spread.turn),
            Duty("repair", interval_s, repair.turn),
            Duty("drain", interval_s, parts.draining.turn),
            Duty("balance", interval_s, parts.balancing.turn),
            Duty("backup", interval_s, parts.backup.turn),
            Duty("trim", interval_s, trim.turn),
            Duty("sweep", interval_s, parts.sweep.turn),
            Duty("collect", interval_s, parts.collect.turn),
            Duty("compact", interval_s, parts.compaction.turn),
            Duty("bury", interval_s, parts.bury.turn),
            Duty("forget", max(interval_s, FORGET_INTERVAL_S), forget.turn),
        ]

    def _vitals(self) -> Vitals:
        parts, settings = self.parts, self.parts.facts.settings
        return Vitals(
            cluster=parts.liveness.view,
            monitors=self._monitors,
            outbox=parts.outbox,
            counts=parts.counts,
            store_statistics=parts.store.statistics,
            safe_modes=parts.safe_modes,
            latest_seq=parts.latest_seq,
            replication=settings.replication,
            chunk_size_bytes=settings.chunk_size_bytes,
            compaction=parts.compaction.progress,
            deeds=self.deeds,
            chunks_left=parts.draining.left,
            balance=parts.balancing.progress,
            moved=lambda: parts.balancing.moved,
            reports_waiting=parts.reports.waiting,
        )

    def _compose(self) -> ASGIApp:
        parts = self.parts
        collector = NamenodeCollector(self.vitals)
        files = doors.Doors(
            handlers=self.handlers,
            live=lambda: [Target(node.id, node.client_url) for node in parts.liveness.view().live()],
            ticket_key=parts.keys.of,
            now_ms=parts.clock.wall_ms,
        )
        hadoop = webhdfs.routes(
            files,
            peer_url=lambda datanode: parts.liveness.view().peer_url(datanode),
            passes_on=parts.facts.settings.webhdfs_data == "namenode",
        )
        pages = Starlette(
            routes=[*health_routes(self.vitals, collector), *doors.routes(files), *hadoop],
            lifespan=self._while_serving,
        )
        return protocol_app(self.handlers, otherwise=pages, observe=collector.observe)

    @asynccontextmanager
    async def _while_serving(self, _: Starlette) -> AsyncIterator[None]:
        self._monitors.start()
        try:
            yield
        finally:
            await self._monitors.stop()


def _shipper(
    leader: Leader,
    liveness: Liveness,
    reservations: Reservations,
    founded: Founded,
    clock: SteadyClock,
    settings: NamenodeSettings,
) -> Shipper:
    return Shipper(
        leader,
        liveness.view,
        reservations,
        founded.keys,
        Transport(principal=PRINCIPAL),
        clock,
        replication=settings.replication,
        ttl_ms=int(settings.capability_ttl_s * 1000),
        window_ms=int(settings.chunk_commit_window_s * 1000),
    )


def _sweep(store: SqliteStore, leader: Leader, clock: SteadyClock, settings: NamenodeSettings) -> Sweep:
    return Sweep(
        store,
        leader,
        clock,
        read_grace_ms=int(settings.read_grace_s * 1000),
        draft_idle_ms=int(settings.draft_idle_s * 1000),
    )


def _pace(settings: NamenodeSettings) -> Pace:
    return Pace(
        bytes_per_s=settings.compaction_bytes_per_s,
        chunk_size_bytes=settings.chunk_size_bytes,
        ttl_ms=int(settings.capability_ttl_s * 1000),
    )


def _delete_budget(settings: NamenodeSettings, clock: SteadyClock) -> DeleteBudget:
    return DeleteBudget(
        share_per_hour=settings.delete_share_per_hour,
        burst=settings.delete_burst_chunks,
        now_s=clock.monotonic_s(),
    )


class _Ending:
    """How the process ends: by a signal, or because a duty says that it can't go on."""

    def __init__(self) -> None:
        self.why = ""

    def __call__(self, why: str) -> None:
        if not self.why:
            self.why = why
            log.critical("the namenode ends: %s", why)
            os.kill(os.getpid(), signal.SIGTERM)


def run(settings: NamenodeSettings) -> int:
    """Run a namenode until SIGTERM or SIGINT; the exit code. Prints `ready URL` once it serves."""
    logging.basicConfig(
        level=settings.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    if settings.exit_with_parent:
        exit_with_parent()
    try:
        sock, url = bind(settings.listen, insecure=settings.insecure)
    except DfsError as error:
        log.error("%s", error)
        return error.exit_code
    ending = _Ending()
    clock = SteadyClock(SystemClock())
    store: SqliteStore | None = None
    try:
        store = SqliteStore.open(settings.dir, clock=clock)
        node = Namenode(settings, store, found(store, settings.dir, clock), clock, ended=ending)
    except DfsError as error:
        log.error("%s", error)
        if store is not None:
            store.close()
        sock.close()
        return error.exit_code

    def tell_ready() -> None:
        look_less_for_garbage()
        sys.stdout.write(f"ready {url}\n")
        sys.stdout.flush()

    try:
        run_server(node.app, sock=sock, started=tell_ready)
    finally:
        store.close()
    return EXIT_SOME_FAILED if ending.why else EXIT_OK
