"""What the figures must reach, as ratios within one run wherever something is there to compare with.

Separate because goals are the project's and figures the machine's: a goal whose reference was not measured is left
open, never guessed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dfs.bench.samples import HIGHER, OURS, Row

Key = tuple[str, str, str]
"""Workload, case, subject."""


@dataclass(frozen=True)
class Goal:
    """One row of ours, and what it must be.

    needs      the value that it must reach, from all values of the run; None: what it depends on was not measured
    said       the same in words
    cpu_limit  CPU seconds for each GiB or 1000 operations, of all processes
    """

    case: Key
    needs: Callable[[Mapping[Key, float]], float | None]
    said: str
    cpu_limit: float | None = None


@dataclass(frozen=True)
class Verdict:
    """A goal beside a figure."""

    goal: Goal
    needed: float | None
    ratio: float | None
    """1 or more: reached, whichever way is better."""
    cpu_ratio: float | None
    """1 or more: within the limit."""

    @property
    def text(self) -> str:
        """ "0.71 × (0.85 × dd)", with the CPU's if that has a limit."""
        if self.ratio is None:
            return f"? ({self.goal.said})"
        text = f"{self.ratio:.2f} × ({self.goal.said})"
        if self.cpu_ratio is not None:
            text += f"; CPU {self.cpu_ratio:.2f} × ({self.goal.cpu_limit:g} s)"
        return text

    @property
    def reached(self) -> bool | None:
        """None: it can't be told."""
        if self.ratio is None:
            return None
        return self.ratio >= 1 and (self.cpu_ratio is None or self.cpu_ratio >= 1)


def judge(rows: Sequence[Row], goals: Sequence[Goal]) -> dict[Key, Verdict]:
    """The verdict on each row that has a goal. Pure."""
    by_key = {key_of(row): row for row in rows}
    values = {key: row.median for key, row in by_key.items()}
    verdicts: dict[Key, Verdict] = {}
    for goal in goals:
        row = by_key.get(goal.case)
        if row is None:
            continue
        needed = goal.needs(values)
        ratio = None
        if needed and row.median:
            ratio = row.median / needed if row.figure.better == HIGHER else needed / row.median
        cpu = row.cpu_per_work
        cpu_ratio = goal.cpu_limit / cpu if goal.cpu_limit is not None and cpu else None
        verdicts[goal.case] = Verdict(goal, needed, ratio, cpu_ratio)
    return verdicts


def key_of(row: Row) -> Key:
    return row.figure.workload, row.figure.case, row.figure.subject


def ours(workload: str, case: str) -> Key:
    return workload, case, OURS


def _times(factor: float, workload: str, case: str, subject: str) -> Callable[[Mapping[Key, float]], float | None]:
    def needed(values: Mapping[Key, float]) -> float | None:
        found = values.get((workload, case, subject))
        return None if found is None else factor * found

    return needed


def _constant(value: float) -> Callable[[Mapping[Key, float]], float | None]:
    return lambda _: value


def _cost_of_small(operation: str, files: str) -> Goal:
    """At most one and a half times what it costs where there are few files: a rate of two thirds."""
    return Goal(
        ours("namespace", f"{operation}, {files} files"),
        _times(1 / 1.5, "namespace", f"{operation}, 10,000 files", OURS),
        "of 10,000 files / 1.5",
    )


GOALS: tuple[Goal, ...] = (
    Goal(ours("big", "put, R = 1"), _times(0.85, "big", "write + fsync", "dd"), "0.85 × dd", 1.5),
    Goal(ours("big", "put, R = 3"), _times(1.0, "big", "three at once, write + fsync", "dd"), "three dd at once", 3.0),
    Goal(
        ours("big", "get, warm, R = 1"),
        _times(0.75, "big", "get > /dev/null, warm", "nginx + curl"),
        "0.75 × nginx",
        1.0,
    ),
    Goal(
        ours("big", "get, warm, R = 3"),
        _times(0.75, "big", "get > /dev/null, warm", "nginx + curl"),
        "0.75 × nginx",
        1.0,
    ),
    Goal(ours("tree", "dfs put -r, R = 3"), _constant(15_000), "15 000/s"),
    Goal(ours("tree", "dfs get -r, R = 3"), _constant(20_000), "20 000/s"),
    Goal(ours("small", "put 4 KiB, 16 clients, R = 3"), _constant(600), "600/s"),
    Goal(ours("small", "get 4 KiB, 16 clients, R = 3"), _constant(3000), "3 000/s"),
    Goal(ours("ranges", "4 KiB ranges, 16 clients, R = 3"), _constant(6000), "6 000/s"),
    Goal(ours("ranges", "read_many, packed files, 1 client, R = 3"), _constant(40_000), "40 000/s"),
    Goal(ours("names", "create, 16 clients"), _constant(4000), "4 000/s"),
    Goal(ours("names", "stat, 16 clients"), _constant(8000), "8 000/s"),
    Goal(ours("names", "rename, 16 clients"), _constant(4000), "4 000/s"),
    Goal(ours("commits", "empty files, 1000 a commit, 16 clients, R = 3"), _constant(60_000), "60 000/s"),
    Goal(ours("listing", "list of 100,000 with attributes"), _constant(0.8), "0.8 s"),
    Goal(ours("namespace", "start, cold, 1,000,000 files"), _constant(2.0), "2 s"),
    *(_cost_of_small(operation, "1,000,000") for operation in ("stat", "create", "rename")),
    Goal(ours("namespace", "namenode's memory, 1,000,000 files"), _constant(150.0), "150 MiB"),
    Goal(ours("namespace", "bytes on disk a file, 1,000,000 files"), _constant(300.0), "300 B"),
    Goal(ours("start", "dfs ls, whole process"), _constant(0.12), "0.12 s"),
)
"""Medians on a machine of two processors that runs everything, `durability = sync`, every byte verified."""
