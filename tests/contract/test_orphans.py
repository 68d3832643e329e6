"""Replicas that belong to no file: how they get on record, what becomes of them, and how an operator adopts them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dfs.adopting import Adopting, Rebuilt, Wanted
from dfs.protocol import messages as m
from dfs.protocol import operations as table
from dfs.protocol.digests import range_digest
from dfs.protocol.errors import Conflict, FileExists, InvalidRequest
from dfs.protocol.ids import new_id
from dfs_namenode.store import meta, orphans
from fixtures.paper_cluster import DIGEST, LENGTH, Bench, Paper

DAY_S = 86_400
PUT = {"when": "absent", "parents": True}


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


def unknown(bench: Bench, papers: list[Paper], *, age_s: float = 2 * DAY_S) -> str:
    """A chunk of that age that these datanodes have and report, and no file does."""
    chunk = new_id(bench.machine.now_ms - int(age_s * 1000))
    for paper in papers:
        paper.disk.add(chunk)
        bench.report(paper)
    return chunk


def recorded(bench: Bench) -> list[tuple[Any, ...]]:
    return bench.rows(
        "SELECT lower(hex(o.chunk_id)), d.id FROM orphan AS o JOIN datanode AS d ON d.num = o.datanode ORDER BY 1, 2"
    )


def listed(bench: Bench, **request: Any) -> list[m.OrphanChunk]:
    page: m.OrphansPage = bench.call(table.ORPHANS, m.ListOrphans(**request))
    return page.orphans


def adopt(bench: Bench, chunks: list[str], *actions: m.PutFile | m.AppendFile, op_id: str = "") -> m.Committed:
    request = m.Adopt(op_id=op_id or bench.op_id(), chunks=chunks, actions=list(actions))
    made: m.Committed = bench.call(table.ADOPT, request)
    return made


def put(path: str, chunk: str, **more: Any) -> m.PutFile:
    return m.PutFile(path=path, extents=[m.Extent(chunk, 0, LENGTH, DIGEST)], **{**PUT, **more})


# --- the record -------------------------------------------------------------------------------------------------


def test_an_orphan_is_on_record_from_the_report_until_its_datanode_loses_it(bench: Bench, papers: list[Paper]) -> None:
    chunk = unknown(bench, papers[:2], age_s=0)
    assert recorded(bench) == [(chunk, "dn1"), (chunk, "dn2")]
    bench.report(papers[0])
    assert recorded(bench) == [(chunk, "dn1"), (chunk, "dn2")]
    papers[0].disk.clear()
    bench.report(papers[0], as_of=0)
    assert recorded(bench) == [(chunk, "dn1"), (chunk, "dn2")], "that scan began before it was reported"
    bench.beat(papers[0])
    bench.report(papers[0], volumes=[])
    assert recorded(bench) == [(chunk, "dn1"), (chunk, "dn2")], "its disk was not scanned"
    bench.report(papers[0])
    assert recorded(bench) == [(chunk, "dn2")]
    bench.beat(papers[1], deleted=[chunk])
    assert recorded(bench) == []


def test_orphans_on_record_make_no_range_differ(bench: Bench, papers: list[Paper]) -> None:
    chunks = sorted([bench.put("/f", papers), unknown(bench, papers[:1], age_s=5), unknown(bench, papers[:1], age_s=0)])

    def differing(facts: list[tuple[bytes, bytes, int, bytes]]) -> list[int]:
        assert papers[0].registered is not None
        answer: m.RangesDiffering = bench.call(
            table.REPORT_RANGES,
            m.RangeReport(
                datanode="dn1",
                incarnation=papers[0].registered.incarnation,
                boot=papers[0].boot,
                as_of=papers[0].seq_seen,
                ranges=[m.RangeDigest("", "", *range_digest(facts))],
            ),
        )
        return answer.wanted

    volume = bytes.fromhex(papers[0].volume)
    facts = [(bytes.fromhex(chunk), volume, LENGTH, bytes.fromhex(DIGEST)) for chunk in chunks]
    assert differing(facts) == []
    assert differing(facts[:2]) == [0], "one is gone"


def test_no_more_than_a_bounded_number_of_orphans_is_on_record(
    bench: Bench, papers: list[Paper], monkeypatch: pytest.MonkeyPatch
) -> None:  # I9
    monkeypatch.setattr(orphans, "ROWS_MAX", 3)
    papers[0].disk = {new_id(bench.machine.now_ms) for _ in range(5)}
    bench.report(papers[0])
    assert len(recorded(bench)) == 3
    bench.report(papers[0])
    assert len(recorded(bench)) == 3
    gone = recorded(bench)[0][0]
    papers[0].disk.discard(gone)
    bench.beat(papers[0])
    bench.report(papers[0])
    bench.report(papers[0])
    assert len(recorded(bench)) == 3, "another one took its place"


def test_a_replica_reported_before_its_commit_counts_as_soon_as_the_commit_comes(
    bench: Bench, papers: list[Paper]
) -> None:  # F5
    chunk = unknown(bench, papers[2:], age_s=0)
    bench.put("/f", papers[:2], chunk=chunk)
    assert bench.rows("SELECT count(*) FROM replica WHERE state = 0") == [(3,)]
    assert recorded(bench) == []
    assert bench.rows("SELECT * FROM work") == []


def test_a_replica_reported_before_its_commit_that_is_another_chunk_is_bad(bench: Bench, papers: list[Paper]) -> None:
    chunk = new_id(bench.machine.now_ms)
    assert papers[2].registered is not None
    bench.call(
        table.REPORT,
        m.ChunkReport(
            datanode="dn3",
            incarnation=papers[2].registered.incarnation,
            boot=papers[2].boot,
            as_of=0,
            after="",
            up_to="",
            volumes=[papers[2].volume],
            replicas=[m.ReportedReplica(chunk, LENGTH, "e" * 32, papers[2].volume)],
        ),
    )
    bench.put("/f", papers[:2], chunk=chunk)
    assert bench.rows("SELECT state, count(*) FROM replica GROUP BY 1") == [(0, 2), (1, 1)]
    assert bench.rows("SELECT count(*) FROM work") == [(1,)]


def test_what_was_reported_in_a_safe_mode_is_deleted_after_it_without_another_report(
    bench: Bench, papers: list[Paper]
) -> None:  # I4
    removed = bench.put("/f", papers)
    bench.remove("/f")
    bench.machine.advance(bench.settings.read_grace_s + 1)
    for paper in papers:
        bench.beat(paper)
    bench.turn("sweep", "collect")
    for paper in papers:
        bench.obey(paper)
    bench.turn("collect")
    assert bench.rows("SELECT state FROM chunk") == [(2,)]
    papers[0].disk = {removed}
    bench.call(table.SET_SAFE_MODE, m.SetSafeMode(on=True))
    old = unknown(bench, papers[:1])
    bench.turn("bury")
    assert bench.obey(papers[0]) == []
    assert [orphan.why for orphan in listed(bench)] == ["safe_mode", "safe_mode"]
    bench.call(table.SET_SAFE_MODE, m.SetSafeMode(on=False))
    bench.turn("bury")
    assert bench.obey(papers[0]) == ["DeleteReplicas"]
    assert papers[0].disk == set()
    assert bench.rows(f"SELECT state FROM chunk WHERE id = x'{old}'") == [(2,)]
    assert recorded(bench) == []


def test_collecting_now_buries_too(bench: Bench, papers: list[Paper]) -> None:
    unknown(bench, papers[:1])
    collected: m.Collected = bench.call(table.COLLECT_GARBAGE, m.CollectGarbage())
    assert collected.orphans_buried == 1


def test_a_tombstone_stays_while_the_deletion_may_be_on_its_way(bench: Bench, papers: list[Paper]) -> None:
    unknown(bench, papers[:1], age_s=10 * DAY_S)
    bench.turn("bury", "forget")
    assert bench.rows("SELECT state FROM chunk") == [(2,)], "its id is old, but it is not"
    bench.machine.advance(3601)
    bench.turn("forget")
    assert bench.rows("SELECT state FROM chunk") == []


def test_the_orphans_of_a_datanode_that_is_forgotten_go_with_it(bench: Bench, papers: list[Paper]) -> None:
    unknown(bench, papers[:2], age_s=0)
    bench.machine.advance(bench.settings.dead_after_s + 1)
    for paper in papers[1:]:
        bench.beat(paper)
    bench.call(table.FORGET_DATANODE, m.ForgetDatanode(datanode="dn1"))
    assert [name for _, name in recorded(bench)] == ["dn2"]


# --- the inspection ---------------------------------------------------------------------------------------------


def test_orphans_are_listed_in_pages_with_where_they_are_and_why(bench: Bench, papers: list[Paper]) -> None:
    chunks = sorted([unknown(bench, papers[:2]), unknown(bench, papers[:1], age_s=60), unknown(bench, papers[2:])])
    bench.beat(papers[0])
    page: m.OrphansPage = bench.call(table.ORPHANS, m.ListOrphans(limit=2))
    assert page.next == chunks[1]
    rest: m.OrphansPage = bench.call(table.ORPHANS, m.ListOrphans(limit=2, after=page.next))
    assert rest.next is None
    assert [orphan.chunk for orphan in (*page.orphans, *rest.orphans)] == chunks
    assert [orphan.why for orphan in (*page.orphans, *rest.orphans)] == ["deletion", "deletion", "young"]
    assert [orphan.chunk for orphan in listed(bench, newest_first=True)] == chunks[::-1]
    assert [orphan.chunk for orphan in listed(bench, newest_first=True, after=chunks[2])] == chunks[:2][::-1]
    assert not any(orphan.capability for orphan in page.orphans)
    assert all(orphan.capability for orphan in listed(bench, read=True))
    assert {replica.datanode for orphan in page.orphans for replica in orphan.replicas} <= {"dn1", "dn2", "dn3"}
    bench.store.write_blocking(lambda tx: meta.set_latch(tx, "for a test"))
    assert {orphan.why for orphan in listed(bench)} == {"history"}


def test_datanodes_that_may_have_more_than_is_known_are_named(bench: Bench, papers: list[Paper]) -> None:
    def unreported() -> list[str]:
        page: m.OrphansPage = bench.call(table.ORPHANS, m.ListOrphans())
        return page.unreported

    for paper in papers:
        bench.report(paper)
    assert unreported() == []
    bench.machine.advance(bench.settings.stale_after_s + 1)
    for paper in papers[1:]:
        bench.beat(paper)
    assert unreported() == ["dn1"], "it is away"
    bench.restart()
    assert unreported() == ["dn1", "dn2", "dn3"]


# --- adoption ---------------------------------------------------------------------------------------------------


def test_an_adopted_chunk_has_the_replicas_that_were_reported_and_gets_the_rest(
    bench: Bench, papers: list[Paper]
) -> None:
    chunk = unknown(bench, papers[:1])
    made = adopt(bench, [chunk], put("/back/here", chunk))
    assert [outcome.path for outcome in made.outcomes] == ["/back/here"]
    assert bench.rows("SELECT state, replication, referenced_bytes FROM chunk") == [(0, 3, LENGTH)]
    assert recorded(bench) == []
    opened: m.Opened = bench.call(table.OPEN, m.Open(path="/back/here"))
    assert [target.datanode for target in opened.layout.chunks[chunk].replicas] == ["dn1"]
    bench.turn("bury", "repair")
    assert sorted(bench.obey(paper) for paper in papers) == [[], ["Replicate"], ["Replicate"]]
    assert chunk in papers[0].disk, "nothing adopted is deleted as unknown"


def test_a_replica_that_its_datanode_found_bad_is_adopted_as_a_bad_one(bench: Bench, papers: list[Paper]) -> None:
    chunk = unknown(bench, papers[:2])
    bench.beat(papers[0], checked=[m.CheckedReplica(chunk=chunk, good=False, why="damaged")])
    bench.report(papers[0])
    assert [(one.datanode, one.state) for one in listed(bench)[0].replicas] == [("dn2", "good"), ("dn1", "bad")]
    adopt(bench, [chunk], put("/f", chunk))
    assert bench.rows("SELECT d.id, r.state FROM replica AS r JOIN datanode AS d ON d.num = r.datanode ORDER BY 1") == [
        ("dn1", 1),
        ("dn2", 0),
    ]
    assert bench.rows("SELECT count(*) FROM work") == [(1,)]


def test_an_adoption_is_done_once_whatever_is_repeated(bench: Bench, papers: list[Paper]) -> None:  # I6
    chunk = unknown(bench, papers[:1])
    op_id = bench.op_id()
    first = adopt(bench, [chunk], put("/f", chunk), op_id=op_id)
    assert adopt(bench, [chunk], put("/f", chunk), op_id=op_id) == first
    with pytest.raises(Conflict, match="known already"):
        adopt(bench, [chunk], put("/g", chunk))


def test_what_was_deleted_or_may_still_be_committed_is_not_adopted(bench: Bench, papers: list[Paper]) -> None:
    buried = unknown(bench, papers[:1])
    bench.turn("bury")
    with pytest.raises(Conflict, match="was deleted"):
        adopt(bench, [buried], put("/f", buried))
    young = unknown(bench, papers[:1], age_s=0)
    with pytest.raises(Conflict, match="may still commit"):
        adopt(bench, [young], put("/f", young))
    with pytest.raises(Conflict, match="no datanode reports"):
        adopt(bench, [new_id(1)], put("/f", new_id(1)))
    assert bench.rows("SELECT count(*) FROM inode WHERE parent_id != 0") == [(0,)]
    assert len(recorded(bench)) == 1, "what was refused is as it was"


def test_an_orphan_from_before_this_history_is_adopted_however_young(bench: Bench, papers: list[Paper]) -> None:  # F63
    chunk = unknown(bench, papers[:1], age_s=0)
    bench.machine.advance(1)
    papers[0].seq_seen = 50_000
    bench.beat(papers[0])
    page: m.OrphansPage = bench.call(table.ORPHANS, m.ListOrphans())
    assert (page.orphans[0].adoptable, page.orphans[0].why) == (True, "history")
    assert 0 < page.history_seq < 50_000
    adopt(bench, [chunk], put("/f", chunk))
    assert bench.rows("SELECT count(*) FROM replica") == [(1,)]


def test_replicas_that_differ_are_not_adopted(bench: Bench, papers: list[Paper]) -> None:
    chunk = unknown(bench, papers[:1])
    assert papers[1].registered is not None
    bench.call(
        table.REPORT,
        m.ChunkReport(
            datanode="dn2",
            incarnation=papers[1].registered.incarnation,
            boot=papers[1].boot,
            as_of=0,
            after="",
            up_to="",
            volumes=[papers[1].volume],
            replicas=[m.ReportedReplica(chunk, LENGTH, "e" * 32, papers[1].volume)],
        ),
    )
    assert not listed(bench, read=True)[0].agreed
    assert listed(bench, read=True)[0].capability == ""
    with pytest.raises(Conflict, match="differ"):
        adopt(bench, [chunk], put("/f", chunk))


def test_what_no_datanode_can_be_read_from_now_is_not_adopted(bench: Bench, papers: list[Paper]) -> None:
    chunk = unknown(bench, papers[:1])
    bench.machine.advance(bench.settings.dead_after_s + 1)
    bench.beat(papers[1])
    with pytest.raises(Conflict, match="wait until one is back"):
        adopt(bench, [chunk], put("/f", chunk))


def test_nothing_that_exists_is_replaced_and_then_nothing_is_adopted(bench: Bench, papers: list[Paper]) -> None:
    bench.put("/f", papers)
    chunk = unknown(bench, papers[:1])
    with pytest.raises(FileExists) as refused:
        adopt(bench, [chunk], put("/g", chunk), put("/f", chunk))
    assert refused.value.detail["action"] == 1
    assert recorded(bench) == [(chunk, "dn1")]
    with pytest.raises(InvalidRequest, match="never replaces"):
        adopt(bench, [chunk], put("/f", chunk, when="any"))
    with pytest.raises(InvalidRequest, match="which version"):
        adopt(bench, [chunk], m.AppendFile(path="/f", extents=[m.Extent(chunk, 0, LENGTH, DIGEST)]))


def test_bytes_that_files_have_already_are_shared_but_only_as_they_are_known(bench: Bench, papers: list[Paper]) -> None:
    known, chunk = bench.put("/f", papers), unknown(bench, papers[:1])
    joined = m.PutFile(
        path="/joined", extents=[m.Extent(known, 0, LENGTH, DIGEST), m.Extent(chunk, 0, LENGTH, DIGEST)], **PUT
    )
    adopt(bench, [chunk], joined)
    assert bench.rows("SELECT DISTINCT referenced_bytes FROM chunk ORDER BY 1") == [(LENGTH,), (2 * LENGTH,)]
    with pytest.raises(Conflict, match="no file has these bytes"):
        adopt(bench, [], m.PutFile(path="/part", extents=[m.Extent(known, 0, 10, "e" * 32)], **PUT))
    with pytest.raises(Conflict, match="neither adopted"):
        adopt(bench, [], put("/unknown", new_id(5)))


def test_a_writer_whose_chunk_was_adopted_is_refused(bench: Bench, papers: list[Paper]) -> None:
    chunk = unknown(bench, papers[:2], age_s=0)
    bench.machine.advance(1)
    papers[0].seq_seen = 50_000
    bench.beat(papers[0])
    adopt(bench, [chunk], put("/f", chunk))
    with pytest.raises(Exception, match="was committed before"):
        bench.put("/g", papers[:2], chunk=chunk)


# --- making files of them ---------------------------------------------------------------------------------------


class OnBench:
    """`Namenodes`, as far as `Adopting` uses it."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def perform(self, operation: Any, request: Any) -> Any:
        return self._bench.call(operation, msgspec.structs.replace(request, op_id=self._bench.op_id()))


def wanted(path: str, *chunks: str, own_path: bool = False) -> Wanted:
    action = m.PutFile(path=path, **PUT)
    return Wanted(path, action, [m.Extent(chunk, 0, LENGTH, DIGEST) for chunk in chunks], own_path=own_path)


@pytest.fixture
def adopting(bench: Bench) -> Adopting:
    return Adopting(OnBench(bench), Rebuilt("/lost+found/T", False))  # type: ignore[arg-type]


def test_a_file_that_is_too_long_for_one_step_is_seen_when_it_is_whole(
    bench: Bench, papers: list[Paper], adopting: Adopting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dfs.adopting.FILES_MAX", 2)
    chunks = [unknown(bench, papers[:1]) for _ in range(5)]
    adopting.make([wanted("/a/long", *chunks, own_path=True)], set(chunks))
    assert bench.call(table.STAT, m.Stat(path="/a/long")).size == 5 * LENGTH
    assert [entry.name for entry in bench.call(table.LIST, m.ListDirectory(path="/a")).entries] == ["long"]
    assert bench.call(table.LIST, m.ListDirectory(path="/lost+found/T/building")).entries == []
    assert (adopting.result.to_paths, adopting.result.bytes, recorded(bench)) == (1, 5 * LENGTH, [])


def test_a_file_whose_name_is_taken_gets_another(bench: Bench, papers: list[Paper], adopting: Adopting) -> None:
    bench.put("/taken", papers)
    first, second, third = chunks = [unknown(bench, papers[:1]) for _ in range(3)]
    adopting.make([wanted("/taken", first, own_path=True)], set(chunks))
    adopting.make([wanted("/lost+found/T/taken", second)], set(chunks))
    adopting.make([wanted("/taken/below", third, own_path=True)], set(chunks))
    found = bench.call(table.LIST, m.ListDirectory(path="/lost+found/T")).entries
    assert [entry.name for entry in found][-2:] == ["taken", "taken.1"]
    assert (adopting.result.to_paths, adopting.result.to_lost_found, dict(adopting.result.lost)) == (0, 3, {})


def test_a_file_whose_chunk_is_gone_does_not_keep_others_from_coming_back(
    bench: Bench, papers: list[Paper], adopting: Adopting
) -> None:
    here, gone = unknown(bench, papers[:1]), new_id(1)
    adopting.make([wanted("/here", here, own_path=True), wanted("/gone", gone, own_path=True)], {here, gone})
    assert (adopting.result.to_paths, adopting.result.lost.total()) == (1, 1)
    assert adopting.result.missing == [f"/gone: no datanode reports a chunk {gone}"]
