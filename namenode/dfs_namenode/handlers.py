"""Ties each operation of the table to its function, and gives the function only what it uses.

Separate from `app`, which builds the parts and runs them: here one sees at a glance what every operation depends on.
"""

import asyncio
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dfs.protocol import messages as m
from dfs.protocol import operations as table
from dfs.protocol.clock import Clock
from dfs.protocol.operations import Operation
from dfs.protocol.server import Caller, Handler
from dfs_namenode.commands import Outbox, ReportTurns
from dfs_namenode.counting import CountCache
from dfs_namenode.garbage import DeleteBudget
from dfs_namenode.keys import NodeKeys
from dfs_namenode.layout import Granting
from dfs_namenode.liveness import Liveness, Reservations
from dfs_namenode.monitors.backup import BackupDuty
from dfs_namenode.monitors.balance import BalanceDuty
from dfs_namenode.monitors.bury import Bury
from dfs_namenode.monitors.collect import Collect
from dfs_namenode.monitors.compact import Compaction
from dfs_namenode.monitors.drain import Draining
from dfs_namenode.monitors.leader import Leader
from dfs_namenode.monitors.sweep import Sweep
from dfs_namenode.operations.adopt import adopt
from dfs_namenode.operations.allocate import allocate
from dfs_namenode.operations.backup_now import backup_now
from dfs_namenode.operations.bad_replica import bad_replica
from dfs_namenode.operations.balance import balance
from dfs_namenode.operations.cluster import cluster_facts
from dfs_namenode.operations.collect_garbage import collect_garbage
from dfs_namenode.operations.commit import commit
from dfs_namenode.operations.composed import composed
from dfs_namenode.operations.drop_draft import drop_draft
from dfs_namenode.operations.forget_datanode import forget_datanode
from dfs_namenode.operations.fsck import fsck
from dfs_namenode.operations.heartbeat import heartbeat
from dfs_namenode.operations.list_directory import list_directory
from dfs_namenode.operations.locate import locate
from dfs_namenode.operations.open_file import open_file
from dfs_namenode.operations.open_many import open_many
from dfs_namenode.operations.orphans import OrphanRules, list_orphans
from dfs_namenode.operations.places import places
from dfs_namenode.operations.register import register
from dfs_namenode.operations.report import report
from dfs_namenode.operations.report_ranges import report_ranges
from dfs_namenode.operations.safe_mode import resolve_history, set_safe_mode
from dfs_namenode.operations.scrub import scrub
from dfs_namenode.operations.set_datanode_state import set_datanode_state
from dfs_namenode.operations.stage import stage
from dfs_namenode.operations.stat import stat
from dfs_namenode.operations.stat_many import stat_many
from dfs_namenode.operations.status import status
from dfs_namenode.operations.usage import usage
from dfs_namenode.settings import NamenodeSettings
from dfs_namenode.store import meta
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.verifications import Verifications
from dfs_namenode.write_rules import WriteRules

Handlers = Mapping[Operation[Any, Any], Handler]
WALKS_AT_ONCE = 2
"""Walks over whole trees; more wait, so that they never take all the threads that commits and reports need too."""


@dataclass(frozen=True)
class Facts:
    """What does not change while a namenode runs."""

    cluster: str
    epoch: int
    version: str
    settings: NamenodeSettings
    started_s: float


@dataclass(frozen=True)
class Parts:
    """What operations are made of. No operation sees it: the functions below hand each one its share."""

    facts: Facts
    store: SqliteStore
    clock: Clock
    keys: NodeKeys
    liveness: Liveness
    reservations: Reservations
    outbox: Outbox
    reports: ReportTurns
    verifications: Verifications
    counts: CountCache
    budget: DeleteBudget
    safe_modes: Callable[[], Sequence[str]]
    sweep: Sweep
    collect: Collect
    bury: Bury
    draining: Draining
    balancing: BalanceDuty
    backup: BackupDuty
    leader: Leader
    compaction: Compaction

    def latest_seq(self) -> int:
        """The last durable sequence number."""
        with self.store.read() as snapshot:
            return meta.last_seq(snapshot)


def all_handlers(parts: Parts) -> Handlers:
    """A handler for every operation of the namenode."""
    return {
        **_cluster_handlers(parts),
        **_operator_handlers(parts),
        **_write_handlers(parts),
        **_read_handlers(parts),
        **_datanode_handlers(parts),
    }


def _cluster_handlers(parts: Parts) -> Handlers:
    facts, settings = parts.facts, parts.facts.settings
    rng = random.Random()

    def on_cluster(_: m.Empty, __: Caller) -> m.ClusterFacts:
        return cluster_facts(
            cluster_id=facts.cluster,
            version=facts.version,
            time_ms=parts.clock.wall_ms(),
            settings=settings,
            cluster=parts.liveness.view(),
        )

    def on_allocate(request: m.Allocate, caller: Caller) -> m.Grants:
        return allocate(
            request,
            principal=caller.principal,
            cluster=parts.liveness.view(),
            reservations=parts.reservations,
            keys=parts.keys,
            now_ms=parts.clock.wall_ms(),
            ttl_ms=int(settings.capability_ttl_s * 1000),
            rng=rng,
            random_bytes=secrets.token_bytes,
        )

    async def on_status(_: m.Empty, __: Caller) -> m.Status:
        counted = await parts.counts.get()
        return status(
            counted=counted,
            cluster=parts.liveness.view(),
            safe_modes=parts.safe_modes(),
            cluster_id=facts.cluster,
            version=facts.version,
            uptime_s=parts.clock.monotonic_s() - facts.started_s,
            replication=settings.replication,
            latest_seq=parts.latest_seq,
            pulled=parts.outbox.pulled,
            chunks_left=parts.draining.left,
            balance=parts.balancing.progress(),
            backup=await asyncio.to_thread(parts.backup.status),
            compaction=parts.compaction.progress(),
        )

    async def on_collect_garbage(_: m.CollectGarbage, __: Caller) -> m.Collected:
        return await collect_garbage(
            sweep=parts.sweep.turn,
            collect=parts.collect.turn,
            bury=parts.bury.turn,
            compact=parts.compaction.whole_turn,
        )

    def on_bad_replica(request: m.BadReplica, _: Caller) -> m.Empty:
        with parts.store.read() as snapshot:
            return bad_replica(request, snapshot=snapshot, cluster=parts.liveness.view(), outbox=parts.outbox)

    return {
        table.CLUSTER: on_cluster,
        table.ALLOCATE: on_allocate,
        table.STATUS: on_status,
        table.COLLECT_GARBAGE: on_collect_garbage,
        table.BAD_REPLICA: on_bad_replica,
    }


def _operator_handlers(parts: Parts) -> Handlers:
    store, liveness = parts.store, parts.liveness

    async def on_set_datanode_state(request: m.SetDatanodeState, _: Caller) -> m.DatanodeStateSet:
        return await set_datanode_state(request, store=store, liveness=liveness, now_ms=parts.clock.wall_ms())

    async def on_forget_datanode(request: m.ForgetDatanode, _: Caller) -> m.Forgotten:
        return await forget_datanode(request, store=store, liveness=liveness)

    async def on_set_safe_mode(request: m.SetSafeMode, _: Caller) -> m.SafeModes:
        return await set_safe_mode(request, store=store, safe_modes=parts.safe_modes)

    async def on_resolve_history(request: m.ResolveHistory, _: Caller) -> m.HistoryResolved:
        return await resolve_history(request, store=store)

    def on_scrub(request: m.ScrubDatanodes, _: Caller) -> m.Empty:
        return scrub(request, cluster=liveness.view(), outbox=parts.outbox)

    async def on_balance(request: m.Balance, _: Caller) -> m.Empty:
        return await balance(request, store=store)

    async def on_backup_now(request: m.BackupNow, _: Caller) -> m.BackupAnswer:
        return await backup_now(request, make=parts.backup.now, now_ms=parts.clock.wall_ms())

    return {
        table.SET_DATANODE_STATE: on_set_datanode_state,
        table.FORGET_DATANODE: on_forget_datanode,
        table.SET_SAFE_MODE: on_set_safe_mode,
        table.RESOLVE_HISTORY: on_resolve_history,
        table.SCRUB: on_scrub,
        table.BALANCE: on_balance,
        table.BACKUP_NOW: on_backup_now,
    }


def _write_handlers(parts: Parts) -> Handlers:
    rules = WriteRules.from_settings(parts.facts.settings)

    async def on_commit(request: m.Commit, caller: Caller) -> m.Committed:
        return await commit(
            request,
            principal=caller.principal,
            store=parts.store,
            cluster=parts.liveness.view,
            keys=parts.keys,
            rules=rules,
        )

    async def on_stage(request: m.Stage, caller: Caller) -> m.Staged:
        return await stage(
            request,
            principal=caller.principal,
            store=parts.store,
            cluster=parts.liveness.view,
            keys=parts.keys,
            rules=rules,
        )

    async def on_drop_draft(request: m.DropDraft, caller: Caller) -> m.Empty:
        return await drop_draft(request, principal=caller.principal, store=parts.store, rules=rules)

    async def on_adopt(request: m.Adopt, caller: Caller) -> m.Committed:
        return await adopt(
            request, principal=caller.principal, store=parts.store, cluster=parts.liveness.view, rules=rules
        )

    return {
        table.COMMIT: on_commit,
        table.STAGE: on_stage,
        table.DROP_DRAFT: on_drop_draft,
        table.ADOPT: on_adopt,
    }


def _datanode_handlers(parts: Parts) -> Handlers:
    settings = parts.facts.settings

    async def on_register(request: m.Register, _: Caller) -> m.Registered:
        return await register(
            request,
            store=parts.store,
            liveness=parts.liveness,
            outbox=parts.outbox,
            reports=parts.reports,
            verifications=parts.verifications,
            keys=parts.keys,
            cluster_id=parts.facts.cluster,
            settings=settings,
            clock=parts.clock,
        )

    async def on_composed(answer: m.ComposedChunk, datanode: str) -> None:
        await composed(
            answer,
            datanode=datanode,
            orders=parts.compaction.orders,
            write=parts.leader.write,
            cluster=parts.liveness.view,
            keys=parts.keys,
            window_ms=int(settings.chunk_commit_window_s * 1000),
            keep_ms=int(settings.read_grace_s * 1000),
        )

    async def on_heartbeat(request: m.Heartbeat, _: Caller) -> m.HeartbeatAnswer:
        return await heartbeat(
            request,
            store=parts.store,
            liveness=parts.liveness,
            outbox=parts.outbox,
            reports=parts.reports,
            verifications=parts.verifications,
            clock=parts.clock,
            epoch=parts.facts.epoch,
            composed=on_composed,
        )

    async def on_report(request: m.ChunkReport, _: Caller) -> m.Empty:
        return await report(
            request,
            store=parts.store,
            liveness=parts.liveness,
            outbox=parts.outbox,
            reports=parts.reports,
            held_back=bool(parts.safe_modes()),
        )

    async def on_report_ranges(request: m.RangeReport, _: Caller) -> m.RangesDiffering:
        return await report_ranges(request, store=parts.store, liveness=parts.liveness, reports=parts.reports)

    return {
        table.REGISTER: on_register,
        table.HEARTBEAT: on_heartbeat,
        table.REPORT: on_report,
        table.REPORT_RANGES: on_report_ranges,
    }


def _read_handlers(parts: Parts) -> Handlers:
    settings, store = parts.facts.settings, parts.store
    walks = asyncio.Semaphore(WALKS_AT_ONCE)

    def granting(caller: Caller) -> Granting:
        expires_ms = parts.clock.wall_ms() + int(settings.capability_ttl_s * 1000)
        return Granting(caller.principal, parts.liveness.view(), parts.keys, expires_ms)

    def on_open(request: m.Open, caller: Caller) -> m.Opened:
        return open_file(request, store=store, granting=granting(caller))

    async def on_open_many(request: m.OpenMany, caller: Caller) -> m.OpenedMany:
        return await open_many(request, store=store, granting=granting(caller))

    async def on_locate(request: m.Locate, caller: Caller) -> m.Layout:
        return await locate(
            request,
            store=store,
            granting=granting(caller),
            now_ms=parts.clock.wall_ms(),
            grace_ms=int(settings.read_grace_s * 1000),
        )

    def on_stat(request: m.Stat, _: Caller) -> m.Entry:
        return stat(request, store=store)

    async def on_stat_many(request: m.StatMany, _: Caller) -> m.EntriesFound:
        return await stat_many(request, store=store)

    async def on_list(request: m.ListDirectory, _: Caller) -> m.Listing:
        return await list_directory(request, store=store)

    async def on_usage(request: m.Stat, _: Caller) -> m.Usage:
        async with walks:
            return await usage(request, store=store)

    async def on_fsck(request: m.Fsck, _: Caller) -> m.FsckPage:
        async with walks:
            return await fsck(request, store=store, cluster=parts.liveness.view(), outbox=parts.outbox)

    async def on_orphans(request: m.ListOrphans, caller: Caller) -> m.OrphansPage:
        return await list_orphans(
            request,
            store=store,
            granting=granting(caller),
            now_ms=parts.clock.wall_ms(),
            rules=OrphanRules(int(settings.orphan_age_s * 1000), int(settings.chunk_commit_window_s * 1000)),
            held_back=bool(parts.safe_modes()),
            pending=[name for name in parts.liveness.view().datanodes if parts.reports.finished_s(name) is None],
        )

    async def on_places(request: m.Open, _: Caller) -> m.FilePlaces:
        return await places(request, store=store, cluster=parts.liveness.view())

    return {
        table.OPEN: on_open,
        table.OPEN_MANY: on_open_many,
        table.LOCATE: on_locate,
        table.STAT: on_stat,
        table.STAT_MANY: on_stat_many,
        table.LIST: on_list,
        table.USAGE: on_usage,
        table.PLACES: on_places,
        table.FSCK: on_fsck,
        table.ORPHANS: on_orphans,
    }
