"""Metrics: every one is documented, and those of the duties say what the duties did."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from prometheus_client.core import Metric

from dfs.protocol import messages as m
from dfs.protocol import operations as table
from dfs_datanode.app import Datanode
from dfs_namenode.health import NamenodeCollector
from fixtures.composed_datanode import composed_datanode
from fixtures.paper_cluster import Bench, Paper

PAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "docs", "metrics.md")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(str(tmp_path / "namenode"))
    yield made
    made.close()


@pytest.fixture
def datanode(tmp_path: Path) -> Iterator[Datanode]:
    with composed_datanode(tmp_path / "datanode", lambda why: pytest.fail(str(why))) as made:
        yield made


def join(bench: Bench, *names: str) -> list[Paper]:
    papers = [Paper(name) for name in names]
    for paper in papers:
        bench.register(paper)
        bench.obey(paper)
    return papers


def families(metrics: Iterable[Metric]) -> list[str]:
    """The rows of the page."""
    rows = []
    for metric in metrics:
        labels = sorted({label for sample in metric.samples for label in sample.labels} - {"le"})
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        rows.append((name, metric.type, metric.documentation, labels))
    return [f"| `{name}` | {kind} | {text} |" for name, kind, text, _ in sorted(rows)]


def rows_of(role: str) -> list[str]:
    with open(PAGE, encoding="utf-8") as file:
        section = re.split(r"^## ", file.read(), flags=re.MULTILINE)
    (found,) = [part for part in section if part.startswith(f"{role}\n")]
    return [line for line in found.splitlines() if line.startswith("| `dfs_")]


def test_every_metric_of_a_namenode_is_documented(bench: Bench) -> None:
    assert rows_of("namenode") == families(NamenodeCollector(bench.node.vitals).collect())


def test_every_metric_of_a_datanode_is_documented(datanode: Datanode) -> None:
    assert rows_of("datanode") == families(datanode.collector.collect())


def values(bench: Bench) -> dict[str, float]:
    found = {}
    for metric in NamenodeCollector(bench.node.vitals).collect():
        for sample in metric.samples:
            labels = ",".join(sample.labels.values())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_a_repair_shows_in_the_metrics_from_its_need_to_its_end(bench: Bench) -> None:
    papers = join(bench, "dn1", "dn2", "dn3", "dn4")
    chunk = bench.put("/f", papers[:3])
    bench.beat(papers[0], checked=[m.CheckedReplica(chunk=chunk, good=False, why="rot")])
    bench.status()
    assert values(bench)["dfs_namenode_work{few_left}"] == 1
    bench.turn("repair")
    bench.obey(papers[3])
    bench.turn("repair", "repair")
    bench.obey(papers[0])
    bench.turn("repair")
    bench.status()
    after = values(bench)
    assert after["dfs_namenode_repairs_total{few_left}"] == 1
    assert after["dfs_namenode_commands_ended_total{pull,done}"] == 1
    assert after["dfs_namenode_commands_ended_total{delete,done}"] == 1
    assert after["dfs_namenode_replicas_dropped_total"] == 1
    assert after["dfs_namenode_work{few_left}"] == 0


def test_what_holds_duties_back_and_what_drains_shows_in_the_metrics(bench: Bench) -> None:
    papers = join(bench, "dn1", "dn2", "dn3")
    bench.put("/f", papers)
    bench.call(table.SET_SAFE_MODE, m.SetSafeMode(on=True))
    bench.call(table.SET_DATANODE_STATE, m.SetDatanodeState(datanode="dn1", state="draining"))
    bench.turn("drain", "drain", "drain")
    found = values(bench)
    assert found["dfs_namenode_safe_mode{operator}"] == 1
    assert found["dfs_namenode_datanodes_decided{draining}"] == 1
    assert found["dfs_namenode_drain_chunks_left{dn1}"] == 1


def test_what_a_silent_datanode_was_to_do_is_counted_as_that(bench: Bench) -> None:  # F68
    papers = join(bench, "dn1", "dn2", "dn3", "dn4")
    bench.put("/f", papers[:3])
    for _ in range(11):
        bench.machine.advance(3)
        for paper in papers[1:]:
            bench.beat(paper)
    bench.turn("watch", "repair")
    bench.beat(papers[3])
    for _ in range(5):
        bench.machine.advance(3)
        for paper in papers[1:3]:
            bench.beat(paper)
    bench.turn("watch", "repair")
    assert values(bench)["dfs_namenode_commands_ended_total{pull,silent}"] == 1
