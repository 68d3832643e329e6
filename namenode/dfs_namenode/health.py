"""What a namenode shows of itself: /healthz, /readyz, /metrics.

Separate from what it shows, which only counts; a registry of its own, so that several namenodes can live in one
process of a test.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dfs_namenode.commands import Outbox
from dfs_namenode.counting import Counted
from dfs_namenode.liveness import ClusterView
from dfs_namenode.monitors.supervise import Monitors

LATE_S = 120.0
"""A duty without success for longer, beyond its own interval, is shown as unhealthy."""
_BUCKETS_S = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


@dataclass(frozen=True)
class Vitals:
    """Where the numbers are found, when they are asked for."""

    cluster: Callable[[], ClusterView]
    monitors: Monitors
    outbox: Outbox
    counted: Callable[[], Counted]
    store_statistics: Callable[[], tuple[int, int]]
    safe_modes: Callable[[], Sequence[str]]
    latest_seq: Callable[[], int]
    replication: int
    chunk_size_bytes: int


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
        yield from self._duties()

    def _cluster(self) -> Iterable[Metric]:
        view = self._vitals.cluster()
        states = GaugeMetricFamily("dfs_namenode_datanodes", "Datanodes by state.", labels=["state"])
        for state in ("live", "stale", "dead"):
            states.add_metric([state], sum(node.state == state for node in view.datanodes.values()))
        yield states
        volumes = [volume for node in view.datanodes.values() for volume in node.volumes]
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
        yield GaugeMetricFamily(
            "dfs_namenode_safe_modes", "Reasons to hold deletion and repair back.", len(self._vitals.safe_modes())
        )

    def _store(self) -> Iterable[Metric]:
        counted = self._vitals.counted()
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
        for priority, rows in sorted(counted.work_by_priority.items()):
            work.add_metric([str(priority)], rows)
        yield work

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
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
