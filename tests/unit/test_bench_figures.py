"""Benchmarks: what becomes of samples, and what is said about them."""

import json

import msgspec
import pytest

from dfs.bench import report
from dfs.bench.goals import GOALS, Goal, judge, ours
from dfs.bench.machine import describe
from dfs.bench.samples import HIGHER, LOWER, OURS, Cost, Figure, Latencies, Row, Sample, rows
from dfs.bench.workloads import WORKLOADS

PUT = Figure("big", "put, R = 1", unit="GiB/s", per="GiB")
DD = Figure("big", "write + fsync", "dd", unit="GiB/s", per="GiB")


def sample(figure: Figure, value: float, **more: object) -> Sample:
    return Sample(figure, value, 1.0, **more)  # type: ignore[arg-type]


def test_a_row_is_the_median_of_its_rounds_and_shows_their_spread() -> None:
    (row,) = rows([sample(PUT, 3.0), sample(PUT, 1.0), sample(PUT, 2.5)])
    assert (row.median, row.low, row.high) == (2.5, 1.0, 3.0)


def test_rows_keep_the_order_in_which_figures_first_came() -> None:
    found = rows([sample(PUT, 1.0), sample(DD, 2.0), sample(PUT, 1.0)])
    assert [row.figure for row in found] == [PUT, DD]


def test_cpu_time_is_that_of_all_roles_for_each_unit_of_work() -> None:
    (row,) = rows([sample(PUT, 1.0, work=2.0, cost=Cost(cpu_s={"client": 1.0, "datanode": 3.0}))])
    assert row.cpu_per_work == 2.0
    assert row.cpu_by_role == {"client": 0.5, "datanode": 1.5}


def test_latencies_are_right_to_their_bucket() -> None:
    latencies = Latencies()
    for milliseconds in range(1, 1001):
        latencies.add(milliseconds / 1000)
    assert latencies.quantile_s(0.5) == pytest.approx(0.5, rel=0.05)
    assert latencies.quantile_s(0.99) == pytest.approx(0.99, rel=0.05)


def test_latencies_of_many_clients_become_one() -> None:
    fast, slow, both = Latencies(), Latencies(), Latencies()
    for _ in range(90):
        fast.add(0.001)
    for _ in range(10):
        slow.add(0.1)
    for one in (fast, slow):
        both.merge(one.counts.items())
    assert both.quantile_s(0.5) == pytest.approx(0.001, rel=0.05)
    assert both.quantile_s(0.99) == pytest.approx(0.1, rel=0.05)


def test_a_goal_is_a_ratio_to_what_was_measured_in_the_same_run() -> None:
    goal = next(goal for goal in GOALS if goal.case == ours("big", "put, R = 1"))
    verdict = judge(rows([sample(PUT, 0.85), sample(DD, 1.0)]), [goal])[goal.case]
    assert verdict.ratio == pytest.approx(1.0)
    assert judge(rows([sample(PUT, 0.4), sample(DD, 1.0)]), [goal])[goal.case].reached is False


def test_a_goal_whose_reference_was_not_measured_is_open() -> None:
    goal = next(goal for goal in GOALS if goal.case == ours("big", "put, R = 1"))
    verdict = judge(rows([sample(PUT, 5.0)]), [goal])[goal.case]
    assert verdict.reached is None
    assert "0.85 × dd" in verdict.text


def test_where_less_is_better_half_of_it_is_twice_the_goal() -> None:
    figure = Figure("start", "dfs ls, whole process", unit="s", better=LOWER)
    goal = next(goal for goal in GOALS if goal.case[0] == "start")
    assert judge(rows([sample(figure, 0.06)]), [goal])[goal.case].ratio == pytest.approx(2.0)


def test_a_goal_with_a_limit_of_cpu_time_needs_both() -> None:
    goal = Goal(ours("big", "put, R = 1"), lambda _: 1.0, "1", cpu_limit=1.5)
    costly = sample(PUT, 2.0, work=1.0, cost=Cost(cpu_s={"client": 3.0}))
    cheap = sample(PUT, 2.0, work=1.0, cost=Cost(cpu_s={"client": 1.0}))
    assert judge(rows([costly]), [goal])[goal.case].reached is False
    assert judge(rows([cheap]), [goal])[goal.case].reached is True


def test_every_goal_is_of_a_workload_that_there_is() -> None:
    assert {goal.case[0] for goal in GOALS} <= set(WORKLOADS)
    assert len({goal.case for goal in GOALS}) == len(GOALS)


def test_a_table_shows_ours_first_with_its_goal_and_names_what_failed() -> None:
    text = "\n".join(report.lines(rows([sample(DD, 2.0), sample(PUT, 1.0, note="too good")]), GOALS, ["it broke"]))
    assert text.index("put, R = 1") < text.index("write + fsync")
    assert "0.59 × (0.85 × dd)" in text
    assert "dfs, put, R = 1: too good" in text
    assert "it broke" in text


def test_the_document_has_every_sample_and_is_json() -> None:
    found = rows([sample(PUT, 1.0, work=1.0, cost=Cost(cpu_s={"client": 1.0})), sample(PUT, 3.0), sample(DD, 2.0)])
    document = json.loads(msgspec.json.encode(report.document({"rounds": 2}, found, GOALS)))
    (first, second) = document["figures"]
    assert [one["value"] for one in first["samples"]] == [1.0, 3.0]
    assert first["goal"]["reached"] is True
    assert "goal" not in second
    assert document["facts"] == {"rounds": 2}


@pytest.mark.parametrize(("value", "text"), [(1.234, "1.23"), (45.12, "45.1"), (3120.4, "3 120"), (0.0123, "0.0123")])
def test_numbers_have_three_figures_that_mean_something(value: float, text: str) -> None:
    assert report.number(value) == text


def test_the_machine_is_described(tmp_path) -> None:  # type: ignore[no-untyped-def]
    facts = describe(str(tmp_path))
    assert facts["memory_bytes"] > 1 << 20
    assert " on " in facts["disk"]
    assert all(line for line in report.heading(facts))


def test_a_row_without_work_has_no_cpu_time() -> None:
    row = Row(Figure("namespace", "start", OURS, better=HIGHER), [sample(PUT, 1.0)])
    assert row.cpu_per_work is None
    assert row.cpu_by_role == {}
