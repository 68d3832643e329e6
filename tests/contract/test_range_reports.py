"""Reports that begin with digests of ranges: pages are asked for where the numbers differ, nowhere else (F61, F62)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dfs.protocol import messages as m
from dfs.protocol import operations as table
from dfs.protocol.digests import range_digest
from dfs.protocol.errors import InvalidRequest, StaleIncarnation
from dfs.protocol.ids import new_id
from fixtures.paper_cluster import DIGEST, LENGTH, Bench, Paper


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(str(tmp_path))
    yield made
    made.close()


@pytest.fixture
def papers(bench: Bench) -> list[Paper]:
    made = [Paper(f"dn{number}") for number in range(1, 4)]
    for paper in made:
        bench.register(paper)
        bench.obey(paper)
    return made


def ranges_of(paper: Paper, size: int) -> list[m.RangeDigest]:
    """What the datanode would tell, in ranges of so many chunks."""
    chunks = sorted(paper.disk)
    ranges = []
    after = ""
    for begin in range(0, max(1, len(chunks)), size):
        part = chunks[begin : begin + size]
        up_to = "" if begin + size >= len(chunks) else part[-1]
        facts = [(bytes.fromhex(c), bytes.fromhex(paper.volume), LENGTH, bytes.fromhex(DIGEST)) for c in part]
        ranges.append(m.RangeDigest(after, up_to, *range_digest(facts)))
        after = up_to
    return ranges


def differing(bench: Bench, paper: Paper, ranges: list[m.RangeDigest], *, boot: str = "") -> list[int]:
    assert paper.registered is not None
    answer: m.RangesDiffering = bench.call(
        table.REPORT_RANGES,
        m.RangeReport(
            datanode=paper.name,
            incarnation=paper.registered.incarnation,
            boot=boot or paper.boot,
            as_of=paper.seq_seen,
            ranges=ranges,
        ),
    )
    return answer.wanted


def test_no_page_is_asked_for_where_all_is_known(bench: Bench, papers: list[Paper]) -> None:
    assert differing(bench, papers[0], ranges_of(papers[0], 4)) == []
    for number in range(10):
        bench.put(f"/f{number}", papers)
    for paper in papers:
        assert differing(bench, paper, ranges_of(paper, 4)) == []
    assert bench.node.parts.reports.waiting() == 0


def test_a_range_that_differs_is_asked_for_and_the_last_one_ends_the_report(bench: Bench, papers: list[Paper]) -> None:
    chunks = sorted(bench.put(f"/f{number}", papers) for number in range(10))
    papers[0].disk.discard(chunks[5])
    assert differing(bench, papers[0], ranges_of(papers[0], 3)) == [1, 2]
    papers[1].disk.add(new_id(1))
    assert differing(bench, papers[1], ranges_of(papers[1], 3)) == [0, 3]
    bench.beat(papers[2], checked=[m.CheckedReplica(chunk=chunks[9], good=False, why="damaged")])
    assert differing(bench, papers[2], ranges_of(papers[2], 20)) == [0]


def test_a_volume_length_or_digest_that_is_another_makes_a_difference(bench: Bench, papers: list[Paper]) -> None:
    chunk = bench.put("/f", papers)
    volume = bytes.fromhex(papers[0].volume)
    for facts in (
        (bytes.fromhex(chunk), bytes(16), LENGTH, bytes.fromhex(DIGEST)),
        (bytes.fromhex(chunk), volume, LENGTH - 1, bytes.fromhex(DIGEST)),
        (bytes.fromhex(chunk), volume, LENGTH, bytes(16)),
    ):
        assert differing(bench, papers[0], [m.RangeDigest("", "", *range_digest([facts]))]) == [0]


def test_the_ranges_must_be_of_all_ids_and_of_this_life(bench: Bench, papers: list[Paper]) -> None:
    for number in range(4):
        bench.put(f"/f{number}", papers)
    first, second = ranges_of(papers[0], 2)
    for wrong in ([first], [second], [second, first], [first, first, second]):
        with pytest.raises(InvalidRequest, match="follow each other"):
            differing(bench, papers[0], wrong)
    with pytest.raises(StaleIncarnation):
        differing(bench, papers[0], [first, second], boot=new_id(3))


def test_the_digest_of_a_range_is_what_the_protocol_says() -> None:
    facts = [(bytes(range(16)), bytes(16), 1000, b"\x11" * 16), (b"\xff" * 16, bytes(16), 1, b"\x22" * 16)]
    assert range_digest(facts) == (2, "cb1ab206591f8162456e97d712815d3c")
    assert range_digest([])[0] == 0
