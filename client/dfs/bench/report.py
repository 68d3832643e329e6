"""The figures as a table for people and as one object for programs. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from dfs.bench.goals import Goal, Key, Verdict, judge, key_of
from dfs.bench.samples import OURS, Row
from dfs.bench.workloads import WORKLOADS
from dfs.cli.show import human_size, table

_MARKS = {True: "yes", False: "NO", None: "-"}


def number(value: float) -> str:
    """Three figures that mean something: "1.24", "45.1", "3 120"."""
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def heading(facts: Mapping[str, Any]) -> list[str]:
    """The facts about the machine and the cluster, a line each."""
    return table(
        [
            [name.replace("_", " "), human_size(value) if name.endswith("_bytes") else str(value)]
            for name, value in facts.items()
        ]
    )


def lines(rows: Sequence[Row], goals: Sequence[Goal], failures: Sequence[str] = ()) -> list[str]:
    """A table for each workload, and what must be said about single rows."""
    verdicts = judge(rows, goals)
    told: list[str] = []
    for name, workload in WORKLOADS.items():
        found = [row for row in rows if row.figure.workload == name]
        if found:
            told += ["", workload.title, *_workload(found, verdicts)]
    doubts = [f"{row.figure.subject}, {row.figure.case}: {note}" for row in rows for note in row.notes]
    if doubts:
        told += ["", "Doubtful:", *(f"  {doubt}" for doubt in doubts)]
    if failures:
        told += ["", "Failed:", *(f"  {failure}" for failure in failures)]
    return told


def _workload(rows: Sequence[Row], verdicts: Mapping[Key, Verdict]) -> list[str]:
    cells = [["", "by", "median", "", "spread", "p50/p99 ms", "CPU s", "of which", "peak memory", "goal", ""]]
    # What is ours first, then what it is compared with.
    for row in sorted(rows, key=lambda row: row.figure.subject != OURS):
        verdict = verdicts.get(key_of(row))
        cells.append(
            [
                row.figure.case,
                row.figure.subject,
                number(row.median),
                row.figure.unit,
                f"{number(row.low)}–{number(row.high)}",
                "/".join(number(value) for value in row.latency_ms.values()),
                _cpu(row),
                _by_role({role: number(value) for role, value in row.cpu_by_role.items() if value}),
                _by_role({role: human_size(size) for role, size in row.peak_bytes.items()}),
                verdict.text if verdict else "",
                _MARKS[verdict.reached] if verdict else "",
            ]
        )
    return table(cells, right=(2,))


def _cpu(row: Row) -> str:
    cpu = row.cpu_per_work
    return "" if cpu is None else f"{number(cpu)} / {row.figure.per}"


def _by_role(values: Mapping[str, str]) -> str:
    """ "client 0.3, namenode 0.1"; nothing if there is only one, since the sum says it."""
    return ", ".join(f"{role} {value}" for role, value in values.items())


def document(
    facts: Mapping[str, Any], rows: Sequence[Row], goals: Sequence[Goal], failures: Sequence[str] = ()
) -> dict[str, Any]:
    """Everything, for programs: stable keys, every sample."""
    verdicts = judge(rows, goals)
    return {
        "facts": dict(facts),
        "figures": [_figure(row, verdicts.get(key_of(row))) for row in rows],
        "failures": list(failures),
    }


def _figure(row: Row, verdict: Verdict | None) -> dict[str, Any]:
    figure = row.figure
    told: dict[str, Any] = {
        "workload": figure.workload,
        "case": figure.case,
        "subject": figure.subject,
        "unit": figure.unit,
        "better": figure.better,
        "median": row.median,
        "low": row.low,
        "high": row.high,
        "per": figure.per,
        "cpu_s": row.cpu_per_work,
        "cpu_s_by_role": row.cpu_by_role,
        "peak_bytes": row.peak_bytes,
        "latency_ms": row.latency_ms,
        "doubts": row.notes,
        "samples": [
            {
                "value": sample.value,
                "seconds": sample.seconds,
                "work": sample.work,
                "cpu_s": sample.cost.cpu_s,
                "machine_cpu_s": sample.cost.machine_cpu_s,
                "disk_read_bytes": sample.cost.disk_read_bytes,
                "disk_written_bytes": sample.cost.disk_written_bytes,
                "disk_flushes": sample.cost.disk_flushes,
            }
            for sample in row.samples
        ],
    }
    if verdict is not None:
        told["goal"] = {
            "said": verdict.goal.said,
            "needed": verdict.needed,
            "ratio": verdict.ratio,
            "cpu_limit": verdict.goal.cpu_limit,
            "cpu_ratio": verdict.cpu_ratio,
            "reached": verdict.reached,
        }
    return told
