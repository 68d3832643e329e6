"""What a namenode shows of itself: /healthz, /readyz, /metrics.

Separate from what it shows, which only counts; a registry of its own, so that several namenodes can live in one
process of a test.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dfs.protocol.messages import Balancing, Compacting
from dfs_namenode.commands import Outbox
from dfs_namenode.counting import CountCache
from dfs_namenode.deeds import Deeds
from dfs_namenode.liveness import ClusterView
from dfs_namenode.monitors.supervise import Monitors
from dfs_namenode.repair import PRIORITY_NAMES

COUNT_WAIT_S = 2.0
LATE_S = 120.0
"""A duty without success for longer, beyond its own interval, is shown as unhealthy."""
_BUCKETS_S = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


@dataclass(frozen=True)
class Vitals:
    """Where the numbers are found, when they are asked for."""

    cluster: Callable[[], ClusterView]
    monitors: Monitors
    outbox: Outbox
    counts: CountCache
    store_statistics: Callable[[], tuple[int, int]]
    safe_modes: Callable[[], Sequence[str]]
    latest_seq: Callable[[], int]
    replication: int
    chunk_size_bytes: int
    compaction: Callable[[], Compacting]
    deeds: Deeds
    chunks_left: Callable[[str], int | None]
    balance: Callable[[], Balancing | None]
    moved: Callable[[], int]
    reports_waiting: Callable[[], int]


def problems_of_a_put(cluster: ClusterView, *, replication: int, bytes_needed: int) -> list[str]:
    """Why a put would fail now; empty: it would succeed."""
    needed = cluster.write_min(replication)
    live = len(cluster.live())
    if live < needed:
        return [f"{live} live datanodes, and a new chunk needs {needed}"]
    roomy = [c for c in cluster.candidates() if min(c.free_bytes, c.largest_bytes) >= bytes_needed]
    if len(roomy) < needed:
        return [f"{len(roomy)} datanodes with room, and a new chunk needs {needed}"]
    return []


class NamenodeCollector(Collector):
    """Counts calls, and reads everything else where it is kept."""

    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals
        self._calls: dict[tuple[str, str], int] = {}
        self._seconds = Histogram(
            "dfs_namenode_call_seconds", "Duration of calls.", ["operation"], registry=None, buckets=_BUCKETS_S
        )
        self._by_operation: dict[str, Histogram] = {}

    def observe(self, operation: str, seconds: float, outcome: str) -> None:
        """Count one call. Runs on the event loop only."""
        key = (operation, outcome)
        self._calls[key] = self._calls.get(key, 0) + 1
        child = self._by_operation.get(operation)
        if child is None:
            child = self._by_operation[operation] = self._seconds.labels(operation)
        child.observe(seconds)

    def collect(self) -> Iterable[Metric]:
        calls = CounterMetricFamily("dfs_namenode_calls", "Calls by outcome.", labels=["operation", "outcome"])
        for (operation, outcome), count in list(self._calls.items()):
            calls.add_metric([operation, outcome], count)
        yield calls
        yield from self._seconds.collect()
        yield from self._cluster()
        yield from self._store()
        yield from self._healing()
        yield from self._compaction()
        yield from self._duties()

    def _cluster(self) -> Iterable[Metric]:
        view = self._vitals.cluster()
        nodes = list(view.datanodes.values())
        states = GaugeMetricFamily("dfs_namenode_datanodes", "Datanodes by state.", labels=["state"])
        for state in ("live", "stale", "dead"):
            states.add_metric([state], sum(node.state == state for node in nodes))
        decided = GaugeMetricFamily(
            "dfs_namenode_datanodes_decided", "Datanodes by what an operator decided.", labels=["state"]
        )
        for decision in ("in_service", "draining", "decommissioned", "maintenance"):
            decided.add_metric([decision], sum(node.admin_state == decision for node in nodes))
        left = GaugeMetricFamily(
            "dfs_namenode_drain_chunks_left", "Chunks of a draining datanode that are not safe elsewhere.",
            labels=["datanode"],
        )  # fmt: skip
        for node in nodes:
            if (count := self._vitals.chunks_left(node.id)) is not None:
                left.add_metric([node.id], count)
        yield from (states, decided, left)
        volumes = [volume for node in nodes for volume in node.volumes]
        by_state = GaugeMetricFamily(
            "dfs_cluster_volumes", "Volumes of datanodes that are not dead, by state.", labels=["state"]
        )
        served = [volume for node in nodes if node.state != "dead" for volume in node.volumes]
        for volume_state in ("in_service", "full", "read_only", "failed"):
            by_state.add_metric([volume_state], sum(volume.state == volume_state for volume in served))
        yield by_state
        yield GaugeMetricFamily(
            "dfs_cluster_scrub_age_seconds", "Every byte of those was verified within this time.",
            max((volume.scrub_age_s for volume in served), default=0.0),
        )  # fmt: skip
        yield GaugeMetricFamily(
            "dfs_cluster_capacity_bytes", "Of all volumes.", sum(volume.capacity_bytes for volume in volumes)
        )
        yield GaugeMetricFamily(
            "dfs_cluster_free_bytes", "For new chunks.", sum(volume.free_bytes for volume in volumes)
        )
        commands = GaugeMetricFamily("dfs_namenode_commands", "Commands not answered yet.", labels=["kind"])
        for kind, count in self._vitals.outbox.statistics().items():
            commands.add_metric([kind], count)
        yield commands
        modes = self._vitals.safe_modes()
        yield GaugeMetricFamily("dfs_namenode_safe_modes", "Reasons to hold deletion and repair back.", len(modes))
        by_name = GaugeMetricFamily("dfs_namenode_safe_mode", "1 for each reason, by its first words.", labels=["mode"])
        for mode in modes:
            by_name.add_metric([mode.partition(":")[0]], 1)
        yield by_name

    def _store(self) -> Iterable[Metric]:
        counted = self._vitals.counts.last
        waiting, wal_pages = self._vitals.store_statistics()
        yield GaugeMetricFamily("dfs_namenode_writes_waiting", "Changes in the writer's queue.", waiting)
        yield GaugeMetricFamily("dfs_namenode_wal_pages", "Pages in the write-ahead log.", wal_pages)
        yield GaugeMetricFamily("dfs_namenode_seq", "The last durable sequence number.", self._vitals.latest_seq())
        counts = counted.counts
        for name, text, value in (
            ("files", "Files.", counts.files),
            ("directories", "Directories.", counts.directories),
            ("file_bytes", "Bytes of files.", counts.bytes),
            ("chunks", "Chunks.", counts.chunks),
            ("replicas", "Replicas.", counts.replicas),
            ("waiting_for_deletion", "Contents and chunks on their way out.", counts.waiting_for_deletion),
            ("drafts", "Uploads that are staged.", counts.drafts),
        ):
            yield GaugeMetricFamily(f"dfs_namenode_{name}", f"{text} As of the last count.", value)
        work = GaugeMetricFamily("dfs_namenode_work", "Chunks that may need something done.", labels=["priority"])
        for priority, name in PRIORITY_NAMES.items():
            work.add_metric([name], counted.work_by_priority.get(priority, 0))
        yield work

    def _healing(self) -> Iterable[Metric]:
        vitals = self._vitals
        outcomes = CounterMetricFamily(
            "dfs_namenode_commands_ended", "What became of commands to datanodes.", labels=["kind", "outcome"]
        )
        for (kind, outcome), count in list(vitals.outbox.outcomes.items()):
            outcomes.add_metric([kind, outcome], count)
        repairs = CounterMetricFamily(
            "dfs_namenode_repairs", "Replicas that datanodes were told to pull, by urgency.", labels=["priority"]
        )
        for priority, count in list(vitals.deeds.of("repair").items()):
            repairs.add_metric([priority], count)
        yield from (outcomes, repairs)
        for name, text, count in (
            (
                "replicas_dropped",
                "Bad and surplus replicas that were ordered to go.",
                vitals.deeds.of("drop").get("", 0),
            ),
            ("replicas_trimmed", "Replicas that were found to be surplus.", vitals.deeds.of("trim").get("", 0)),
        ):
            yield CounterMetricFamily(f"dfs_namenode_{name}", text, count)
        yield GaugeMetricFamily(
            "dfs_namenode_repair_rate", "Replicas made anew each second, over the last minute.",
            vitals.outbox.pulled.per_s(),
        )  # fmt: skip
        yield GaugeMetricFamily("dfs_namenode_reports_waiting", "Chunk reports that are due.", vitals.reports_waiting())
        balance = vitals.balance()
        yield GaugeMetricFamily("dfs_namenode_balancing", "1 while a balance goes on.", int(balance is not None))
        yield GaugeMetricFamily(
            "dfs_namenode_balance_spread", "How far the farthest datanode is from the mean, as a share; 0: no balance.",
            0.0 if balance is None else balance.spread,
        )  # fmt: skip
        yield CounterMetricFamily("dfs_namenode_balance_moved", "Chunks that balances moved.", vitals.moved())

    def _compaction(self) -> Iterable[Metric]:
        found = self._vitals.compaction()
        yield GaugeMetricFamily("dfs_namenode_compositions", "New chunks that are being composed.", found.under_way)
        for name, text, value in (
            ("composed_chunks", "New chunks that were composed of the live parts of others.", found.composed),
            ("compaction_failures", "Compositions that came to nothing.", found.failed),
            ("compacted_chunks", "Chunks that compaction has emptied.", found.chunks_emptied),
            ("compaction_saved_bytes", "What these had more than the new ones, of one replica.", found.bytes_saved),
        ):
            yield CounterMetricFamily(f"dfs_namenode_{name}", text, value)

    def _duties(self) -> Iterable[Metric]:
        ages = GaugeMetricFamily("dfs_namenode_duty_age_seconds", "Since the last success.", labels=["duty"])
        failures = CounterMetricFamily("dfs_namenode_duty_failures", "Failed turns.", labels=["duty"])
        for name, age_s in self._vitals.monitors.ages_s().items():
            ages.add_metric([name], age_s)
        for name, count in self._vitals.monitors.failures().items():
            failures.add_metric([name], count)
        yield from (ages, failures)


def health_routes(vitals: Vitals, collector: Collector) -> list[Route]:
    """The three pages. Coroutines, so that they see the state on the loop that changes it."""
    registry = CollectorRegistry()
    registry.register(collector)

    async def healthz(_: Request) -> Response:
        ages = vitals.monitors.ages_s()
        late = [name for name, age_s in ages.items() if age_s > LATE_S + vitals.monitors.interval_s(name)]
        body = {"ok": not late, "late": late, "loops": {name: round(age_s, 1) for name, age_s in ages.items()}}
        return JSONResponse(body, status_code=503 if late else 200)

    async def readyz(_: Request) -> Response:
        problems = problems_of_a_put(
            vitals.cluster(), replication=vitals.replication, bytes_needed=vitals.chunk_size_bytes
        )
        return JSONResponse({"ok": not problems, "problems": problems}, status_code=503 if problems else 200)

    async def metrics(_: Request) -> Response:
        # Counted anew, as far as that is quick: else the page would tell of the last time that somebody asked.
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(vitals.counts.get()), COUNT_WAIT_S)
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
