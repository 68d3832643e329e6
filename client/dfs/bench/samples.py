"""What is measured: a figure, one sample of it for each round, and the digest of all rounds.

Pure data, separate so that tables, JSON, targets and plots read the same thing, whoever measured it.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

GIB = 1 << 30
OURS = "dfs"
"""The subject that is measured; all others are what it is compared with."""
HIGHER, LOWER = "higher", "lower"
_BUCKET = 1.05
"""Latencies are counted in buckets that are 5 % wide: exact enough, and small whatever was measured."""


@dataclass(frozen=True)
class Figure:
    """What a number is of."""

    workload: str
    case: str
    """Of the workload: "put, R = 3", "stat, 16 clients"."""
    subject: str = OURS
    """Who did it: dfs, or a limit or peer that it is compared with."""
    unit: str = "/s"
    better: str = HIGHER
    per: str = "1000"
    """What the CPU time is divided by: GiB, a thousand operations or files, a run."""


class Latencies:
    """A histogram of durations."""

    def __init__(self, counts: dict[int, int] | None = None) -> None:
        self.counts = {} if counts is None else counts

    def add(self, seconds: float) -> None:
        bucket = round(math.log(max(seconds, 1e-9), _BUCKET))
        self.counts[bucket] = self.counts.get(bucket, 0) + 1

    def merge(self, counts: Iterable[tuple[int, int]]) -> None:
        for bucket, count in counts:
            self.counts[bucket] = self.counts.get(bucket, 0) + count

    def quantile_s(self, share: float) -> float:
        """The duration that so large a share does not exceed; 0 if nothing was measured."""
        left = share * sum(self.counts.values())
        for bucket in sorted(self.counts):
            left -= self.counts[bucket]
            if left <= 0:
                return float(_BUCKET**bucket)
        return 0.0


@dataclass(frozen=True)
class Cost:
    """What a piece of work took of the machine."""

    cpu_s: dict[str, float] = field(default_factory=dict)
    """By role: client, namenode, datanode, or the name of a peer's server."""
    machine_cpu_s: float = 0.0
    """Of all processes of the machine, and of the kernel, in the same time."""
    peak_bytes: dict[str, int] = field(default_factory=dict)
    """The highest resident size of any one process of a role."""
    disk_read_bytes: int | None = None
    disk_written_bytes: int | None = None
    disk_flushes: int | None = None


@dataclass(frozen=True)
class Sample:
    """One measurement of a figure."""

    figure: Figure
    value: float
    seconds: float
    work: float = 0.0
    """GiB or thousands of operations that were done; 0: the CPU time of it is not counted."""
    cost: Cost = field(default_factory=Cost)
    latency_ms: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def cpu_per_work(self) -> float | None:
        """CPU seconds of all processes for each GiB or 1000 operations."""
        return sum(self.cost.cpu_s.values()) / self.work if self.work else None


@dataclass(frozen=True)
class Row:
    """A figure over all rounds."""

    figure: Figure
    samples: Sequence[Sample]

    @property
    def median(self) -> float:
        return statistics.median(sample.value for sample in self.samples)

    @property
    def low(self) -> float:
        return min(sample.value for sample in self.samples)

    @property
    def high(self) -> float:
        return max(sample.value for sample in self.samples)

    @property
    def cpu_per_work(self) -> float | None:
        known = [sample.cpu_per_work for sample in self.samples if sample.cpu_per_work is not None]
        return statistics.median(known) if known else None

    @property
    def cpu_by_role(self) -> dict[str, float]:
        """CPU seconds for each GiB or 1000 operations, of each role."""
        roles = {role for sample in self.samples for role in sample.cost.cpu_s}
        worked = [sample for sample in self.samples if sample.work]
        return {
            role: statistics.median(sample.cost.cpu_s.get(role, 0.0) / sample.work for sample in worked)
            for role in sorted(roles)
            if worked
        }

    @property
    def peak_bytes(self) -> dict[str, int]:
        """The highest resident size of any one process of a role in any round."""
        roles = {role for sample in self.samples for role in sample.cost.peak_bytes}
        return {role: max(sample.cost.peak_bytes.get(role, 0) for sample in self.samples) for role in sorted(roles)}

    @property
    def latency_ms(self) -> dict[str, float]:
        names = {name for sample in self.samples for name in sample.latency_ms}
        return {
            name: statistics.median(sample.latency_ms[name] for sample in self.samples if name in sample.latency_ms)
            for name in sorted(names)
        }

    @property
    def notes(self) -> list[str]:
        return list(dict.fromkeys(sample.note for sample in self.samples if sample.note))


def rows(samples: Iterable[Sample]) -> list[Row]:
    """The samples of each figure together, in the order in which the figures first came."""
    by_figure: dict[Figure, list[Sample]] = {}
    for sample in samples:
        by_figure.setdefault(sample.figure, []).append(sample)
    return [Row(figure, found) for figure, found in by_figure.items()]
