"""What a datanode shows of itself: /healthz, /readyz, /metrics.

Separate from what it shows, which only counts; a registry of its own, so that several datanodes can live in one
process of a test.
"""

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dfs_datanode.chunk_store import ChunkStore
from dfs_datanode.commands import Commands
from dfs_datanode.findings import Findings
from dfs_datanode.membership import Membership
from dfs_datanode.operations.get_chunk import GetChunk
from dfs_datanode.operations.put_chunk import PutChunk
from dfs_datanode.outbox import Outbox
from dfs_datanode.scrubbing import Scrubber
from dfs_datanode.supervise import LoopStatistics
from dfs_datanode.volumes import Volume

LOOP_LATE_S = 120.0
"""A loop without success for longer is shown as unhealthy."""


class DatanodeCollector(Collector):
    """Reads the numbers where they are kept, when they are asked for."""

    def __init__(
        self,
        *,
        store: ChunkStore,
        put: PutChunk,
        get: GetChunk,
        commands: Commands,
        scrubbers: Sequence[Scrubber],
        findings: Findings,
        outbox: Outbox,
        loops: Callable[[], list[LoopStatistics]],
    ) -> None:
        self._store = store
        self._put = put
        self._get = get
        self._commands = commands
        self._scrubbers = scrubbers
        self._findings = findings
        self._outbox = outbox
        self._loops = loops
        self._calls: dict[tuple[str, str], int] = {}
        self._seconds: dict[str, float] = {}

    def observe(self, operation: str, seconds: float, outcome: str) -> None:
        """Count one call. Runs on the event loop only."""
        key = (operation, outcome)
        self._calls[key] = self._calls.get(key, 0) + 1
        self._seconds[operation] = self._seconds.get(operation, 0.0) + seconds

    def collect(self) -> Iterable[Metric]:
        calls = CounterMetricFamily("dfs_datanode_calls", "Calls by outcome.", labels=["operation", "outcome"])
        for (operation, outcome), count in list(self._calls.items()):
            calls.add_metric([operation, outcome], count)
        yield calls
        seconds = CounterMetricFamily("dfs_datanode_call_seconds", "Seconds spent in calls.", labels=["operation"])
        for operation, total in list(self._seconds.items()):
            seconds.add_metric([operation], total)
        yield seconds
        yield CounterMetricFamily("dfs_datanode_stored_bytes", "Bytes of chunks received.", self._put.bytes_stored)
        yield CounterMetricFamily("dfs_datanode_sent_bytes", "Bytes of chunks sent.", self._get.bytes_sent)
        streams = GaugeMetricFamily("dfs_datanode_streams", "Chunks in transfer now.", labels=["direction"])
        streams.add_metric(["in"], self._put.active)
        streams.add_metric(["out"], self._get.active)
        yield streams
        yield GaugeMetricFamily("dfs_datanode_commands_waiting", "Commands not done yet.", self._commands.waiting)
        yield from self._volumes()
        yield CounterMetricFamily(
            "dfs_datanode_scrubbed_bytes", "Bytes read by the scrub.", sum(one.bytes_read for one in self._scrubbers)
        )
        yield CounterMetricFamily(
            "dfs_datanode_scrubbed_chunks", "Chunks read by the scrub.", sum(one.chunks_read for one in self._scrubbers)
        )
        yield CounterMetricFamily("dfs_datanode_bad_replicas", "Replicas found bad.", self._findings.bad_found)
        yield GaugeMetricFamily(
            "dfs_datanode_results_waiting", "Results that a namenode has not heard yet.", self._outbox.waiting()
        )
        yield from self._supervised()

    def _supervised(self) -> Iterable[Metric]:
        ages = GaugeMetricFamily("dfs_datanode_loop_age_seconds", "Since the last success.", labels=["loop"])
        failures = CounterMetricFamily(
            "dfs_datanode_loop_failures", "Failed turns of a background loop.", labels=["loop"]
        )
        for loop in self._loops():
            ages.add_metric([loop.name], loop.seconds_since_success)
            failures.add_metric([loop.name], loop.failures)
        commands = CounterMetricFamily(
            "dfs_datanode_command_failures", "Commands that failed as none should.", labels=["kind"]
        )
        for kind, trials in self._commands.trials.items():
            commands.add_metric([kind], trials.failures)
        unknown = CounterMetricFamily(
            "dfs_datanode_unknown_commands", "Commands of a later version that were skipped.", labels=["kind"]
        )
        for kind, count in list(self._commands.unknown.items()):
            unknown.add_metric([kind], count)
        yield from (ages, failures, commands, unknown)

    def _volumes(self) -> Iterable[Metric]:
        free = GaugeMetricFamily("dfs_datanode_volume_free_bytes", "For new chunks.", labels=["volume"])
        used = GaugeMetricFamily("dfs_datanode_volume_used_bytes", "Of chunks.", labels=["volume"])
        state = GaugeMetricFamily("dfs_datanode_volume_state", "1 for the present state.", labels=["volume", "state"])
        errors = CounterMetricFamily("dfs_datanode_volume_read_errors", "Failed reads.", labels=["volume"])
        age = GaugeMetricFamily("dfs_datanode_scrub_age_seconds", "Of the oldest unverified byte.", labels=["volume"])
        left = GaugeMetricFamily("dfs_datanode_scrub_left", "Share that is due to be verified.", labels=["volume"])
        probe = GaugeMetricFamily("dfs_datanode_probe_seconds", "What the last probe took.", labels=["volume"])
        kept = GaugeMetricFamily("dfs_datanode_quarantine_bytes", "Of bad replicas kept.", labels=["volume"])
        count = GaugeMetricFamily("dfs_datanode_quarantine_replicas", "Bad replicas kept.", labels=["volume"])
        falls = CounterMetricFamily("dfs_datanode_volume_failures", "Times it went out of service.", labels=["volume"])
        for volume in self._store.volumes:
            now = volume.state()
            free.add_metric([volume.id], now.free_bytes)
            used.add_metric([volume.id], now.used_bytes)
            state.add_metric([volume.id, now.state], 1)
            errors.add_metric([volume.id], volume.read_errors)
            age.add_metric([volume.id], now.scrub_age_s)
            left.add_metric([volume.id], now.scrub_left)
            probe.add_metric([volume.id], volume.health.probe_s)
            kept.add_metric([volume.id], volume.quarantine.size_bytes)
            count.add_metric([volume.id], volume.quarantine.count)
            falls.add_metric([volume.id], volume.health.falls)
        yield from (free, used, state, errors, age, left, probe, kept, count, falls)


def _health_of(volume: Volume) -> dict[str, object]:
    """What /healthz tells of a volume. Never waits for its disk."""
    now = volume.state()
    return {
        "id": now.id,
        "directory": volume.directory,
        "state": now.state,
        "why": volume.why_failed,
        "scrub_age_s": round(now.scrub_age_s),
        "scrub_left": round(now.scrub_left, 3),
        "read_errors": now.read_errors,
        "quarantined": volume.quarantine.count,
        "quarantined_bytes": volume.quarantine.size_bytes,
    }


def health_routes(
    membership: Membership, store: ChunkStore, loops: Callable[[], list[LoopStatistics]], collector: Collector
) -> list[Route]:
    """The three pages."""
    registry = CollectorRegistry()
    registry.register(collector)

    def healthz(_: Request) -> Response:
        now = loops()
        volumes = [_health_of(volume) for volume in store.volumes]
        # A volume that is out of service keeps its loops waiting, and is told of; the datanode does its duty.
        out = {volume["id"] for volume in volumes if volume["state"] == "failed"}
        late = [loop.name for loop in now if loop.seconds_since_success > LOOP_LATE_S and loop.volume not in out]
        ages = {loop.name: round(loop.seconds_since_success, 1) for loop in now}
        return JSONResponse(
            {"ok": not late, "late": late, "loops": ages, "volumes": volumes}, status_code=503 if late else 200
        )

    def readyz(_: Request) -> Response:
        usable = any(volume.state == "in_service" for volume in store.states())
        problems = [] if membership.is_registered else ["not registered with a namenode"]
        problems += [] if usable else ["no volume can take chunks"]
        return JSONResponse({"ok": not problems, "problems": problems}, status_code=503 if problems else 200)

    def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
