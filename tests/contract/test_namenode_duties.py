"""The namenode's duties on a real store, with datanodes that are only messages (F7, F40, F41, F46, F47, F48, F62, F63).

No server and no process: handlers and duties are called, and time goes on when it is told to.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dfs.protocol import messages as m
from dfs.protocol import operations as table
from dfs.protocol.capability import check_capability, register_proof
from dfs.protocol.chunk_format import file_size
from dfs.protocol.errors import Conflict, NoSpace, NotEnoughDatanodes, ReceiptRefused, StaleIncarnation
from dfs.protocol.hints import HINTS_MAX
from dfs.protocol.ids import new_id
from dfs_namenode.__main__ import main as operator
from dfs_namenode.history import IDS_JUMP, lags
from dfs_namenode.monitors.repair import Repair
from dfs_namenode.store import meta, work
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.transaction import Transaction
from fixtures.paper_cluster import ANYBODY, LENGTH, Bench, Paper

DAY_S = 86_400


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(str(tmp_path))
    yield made
    made.close()


@pytest.fixture
def papers(bench: Bench) -> list[Paper]:
    made = [Paper(f"dn{number}") for number in range(1, 5)]
    for paper in made:
        bench.register(paper)
        bench.obey(paper)
    return made


def test_a_grant_names_a_chain_whose_datanodes_accept_its_capability(bench: Bench, papers: list[Paper]) -> None:
    grants = bench.call(table.ALLOCATE, m.Allocate(count=2, length=LENGTH, replication=3, writer="dn4"))
    assert grants.write_min == 2
    for grant in grants.grants:
        assert len({target.datanode for target in grant.chain}) == 3
        assert grant.chain[0].datanode == "dn4"
        for target in grant.chain:
            found = check_capability(
                grant.capability,
                bench.keys.of(target.datanode),
                datanode=target.datanode,
                operation="w",
                chunk=grant.chunk,
                now_ms=bench.machine.now_ms,
            )
            assert found.end == LENGTH
    assert bench.rows("SELECT * FROM chunk") == [], "a grant stores nothing"


def test_a_grant_needs_live_datanodes_and_room(bench: Bench, papers: list[Paper]) -> None:  # F1 F32
    with pytest.raises(NotEnoughDatanodes):
        bench.call(table.ALLOCATE, m.Allocate(count=1, length=LENGTH, replication=3, exclude=["dn1", "dn2", "dn3"]))
    for paper in papers:
        full = [m.VolumeState(id=paper.volume, state="in_service", capacity_bytes=1 << 40, free_bytes=10)]
        bench.beat(paper, volumes=full)
    with pytest.raises(NoSpace):
        bench.call(table.ALLOCATE, m.Allocate(count=1, length=LENGTH, replication=3))


def test_a_heartbeat_that_tells_nothing_new_writes_nothing(bench: Bench, papers: list[Paper]) -> None:
    before = bench.rows("SELECT seq FROM counters")
    for _ in range(3):
        assert bench.beat(papers[0]).commands == []
    assert bench.rows("SELECT seq FROM counters") == before


def test_the_chunks_of_a_dead_datanode_come_back_to_three_replicas(bench: Bench, papers: list[Paper]) -> None:  # F54
    chunks = [bench.put(f"/f{number}", papers[:3]) for number in range(3)]
    for _ in range(4):
        bench.machine.advance(10)
        for paper in papers[1:]:
            bench.beat(paper)
    bench.turn("watch", "repair")
    assert bench.status().under_replicated == 3
    for _ in range(3):
        bench.obey(papers[3])
        bench.turn("repair")
    assert papers[3].disk == set(chunks)
    status = bench.status()
    assert (status.under_replicated, status.missing, status.replicas) == (0, 0, 12)
    bench.beat(papers[0])
    bench.turn("watch", "repair")
    assert bench.status().replicas == 12, "what came back is a surplus that hurts nobody"


def test_a_repair_is_held_back_while_most_are_gone(bench: Bench, papers: list[Paper]) -> None:  # F59
    bench.put("/f", papers[:3])
    for _ in range(4):
        bench.machine.advance(10)
        for paper in papers[2:]:
            bench.beat(paper)
    bench.turn("watch", "repair")
    status = bench.status()
    assert [mode.split(":")[0] for mode in status.safe_modes] == ["mass outage"]
    assert status.under_replicated == 1
    assert bench.beat(papers[3]).commands == []


def test_a_removed_file_is_swept_condemned_deleted_and_leaves_a_tombstone(bench: Bench, papers: list[Paper]) -> None:
    chunk = bench.put("/f", papers[:3])
    bench.remove("/f")
    bench.turn("sweep", "collect")
    assert bench.rows("SELECT state FROM chunk") == [(0,)], "within the grace nothing happens"
    bench.machine.advance(bench.settings.read_grace_s + 1)
    for paper in papers:
        bench.beat(paper)
    collected = bench.call(table.COLLECT_GARBAGE, m.CollectGarbage())
    assert (collected.contents_swept, collected.chunks_condemned) == (1, 1)
    for paper in papers[:3]:
        assert "DeleteReplicas" in bench.obey(paper)
    assert bench.rows("SELECT state FROM chunk") == [(2,)]
    assert not any(chunk in paper.disk for paper in papers)
    with pytest.raises(ReceiptRefused, match="committed before"):
        bench.put("/again", papers[:3], chunk=chunk)
    bench.machine.advance(DAY_S)
    bench.turn("forget")
    assert bench.rows("SELECT * FROM chunk") == []
    for paper in papers:
        bench.beat(paper)
    with pytest.raises(ReceiptRefused, match="too long ago"):
        bench.put("/again", papers[:3], chunk=chunk)


def test_a_removed_tree_is_taken_apart_and_its_contents_keep_their_grace(bench: Bench, papers: list[Paper]) -> None:
    make = m.MakeDirectory(path="/a/b/c", parents=True)
    bench.call(table.COMMIT, m.Commit(op_id=bench.op_id(), actions=[make]))
    for path in ("/a/f", "/a/b/f", "/a/b/c/f"):
        bench.put(path, papers[:3])
    bench.call(table.COMMIT, m.Commit(op_id=bench.op_id(), actions=[m.Remove(path="/a", recursive=True)]))
    bench.turn("sweep")
    assert bench.rows("SELECT count(*) FROM inode") == [(1,)], "only the root is left"
    assert bench.rows("SELECT count(*) FROM retired") == [(3,)]
    assert bench.rows("SELECT count(*) FROM detached") == [(0,)]
    bench.machine.advance(bench.settings.read_grace_s + 1)
    bench.turn("sweep")
    assert bench.rows("SELECT count(*) FROM extent") == [(0,)]
    assert bench.rows("SELECT DISTINCT referenced_bytes FROM chunk") == [(0,)]


def test_a_report_adopts_drops_and_judges(bench: Bench, papers: list[Paper]) -> None:  # F5 F46 F47
    kept, lost = bench.put("/kept", papers[:3]), bench.put("/lost", papers[:3])
    papers[3].disk.add(kept)
    bench.beat(papers[3])
    bench.report(papers[3])
    papers[0].disk.discard(lost)
    bench.beat(papers[0])
    bench.report(papers[0], volumes=[])
    assert bench.rows("SELECT count(*) FROM replica") == [(7,)], "a volume that was not scanned says nothing"
    bench.report(papers[0])
    assert bench.rows("SELECT count(*) FROM replica") == [(6,)]
    assert bench.rows("SELECT lower(hex(chunk_id)) FROM work WHERE why = 0") == [(lost,)]
    bench.turn("repair")
    takers = [paper.name for paper in papers if "Replicate" in bench.obey(paper)]
    assert len(takers) == 1


def test_an_orphan_is_deleted_only_behind_its_tombstone_and_when_it_is_old(bench: Bench, papers: list[Paper]) -> None:
    orphan = new_id(bench.machine.now_ms)
    papers[0].disk.add(orphan)
    bench.report(papers[0])
    assert bench.obey(papers[0]) == []
    bench.machine.advance(DAY_S + 1)
    for paper in papers:
        bench.beat(paper)
    bench.turn("bury")
    assert bench.rows("SELECT state FROM chunk") == [(2,)]
    assert bench.obey(papers[0]) == ["DeleteReplicas"]
    assert orphan not in papers[0].disk


def test_unknown_replicas_are_buried_no_faster_than_the_brake_allows(tmp_path: Path) -> None:  # F65
    bench = Bench(str(tmp_path), delete_burst_chunks=3)
    paper = Paper("dn1")
    bench.register(paper)
    bench.obey(paper)
    paper.disk = {new_id(bench.machine.now_ms - 2 * DAY_S * 1000) for _ in range(10)}
    bench.report(paper)
    bench.turn("bury")
    bench.obey(paper)
    assert len(paper.disk) == 7
    bench.turn("bury")
    assert bench.obey(paper) == []
    assert [mode.split(":")[0] for mode in bench.status().safe_modes] == ["brake"]
    bench.machine.advance(20)
    bench.beat(paper)
    bench.machine.advance(3600)
    bench.beat(paper)
    bench.turn("bury")
    bench.obey(paper)
    assert len(paper.disk) == 4
    bench.close()


def test_an_operator_resolves_a_latched_history(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.store.write_blocking(lambda tx: meta.set_latch(tx, "restored"))
    bench.store.close()
    assert operator(["resolve-history", bench.directory]) == 0
    assert operator(["resolve-history", bench.directory]) == 0
    assert capsys.readouterr().out == "resolved\nthere is nothing to resolve\n"
    assert operator(["resolve"]) == 2
    bench.start()
    assert operator(["resolve-history", bench.directory]) == 4, "a namenode runs on it"
    assert bench.status().safe_modes == []


def test_a_replica_that_a_reader_complains_about_is_checked_and_replaced_before_it_is_deleted(
    bench: Bench, papers: list[Paper]
) -> None:  # F40
    chunk = bench.put("/f", papers[:3])
    complaint = m.BadReplica(chunk=chunk, datanode="dn1", why="a block is damaged")
    bench.call(table.BAD_REPLICA, complaint)
    bench.call(table.BAD_REPLICA, complaint)
    (check,) = bench.beat(papers[0]).commands
    assert isinstance(check, m.CheckReplica)
    bench.beat(papers[0], checked=[m.CheckedReplica(chunk=chunk, good=True)])
    assert bench.rows("SELECT count(*) FROM work") == [(0,)], "the reader was wrong"
    bench.beat(papers[0], checked=[m.CheckedReplica(chunk=chunk, good=False, why="damaged")])
    bench.turn("repair")
    assert bench.beat(papers[0]).commands == []
    assert bench.obey(papers[3]) == ["Replicate"]
    bench.turn("repair")
    assert bench.obey(papers[0]) == ["DeleteReplicas"]
    bench.turn("repair")
    assert bench.rows("SELECT datanode, state FROM replica ORDER BY datanode") == [(2, 0), (3, 0), (4, 0)]
    assert bench.rows("SELECT count(*) FROM work") == [(0,)]


def test_a_late_copy_of_a_heartbeat_does_not_undo_what_a_later_one_said(
    bench: Bench, papers: list[Paper]
) -> None:  # F20 F40
    chunk = bench.put("/f", papers[:3])
    facts = bench.rows("SELECT length, digest FROM chunk")[0]
    stored = m.StoredReplica(chunk=chunk, length=facts[0], digest=facts[1].hex(), volume=papers[0].volume)
    bench.beat(papers[0], stored=[stored], beat=4)
    bench.beat(papers[0], checked=[m.CheckedReplica(chunk=chunk, good=False, why="damaged")], beat=5)
    bad = bench.rows("SELECT datanode FROM replica WHERE state = 1")
    assert bad == [(1,)]
    with pytest.raises(Conflict, match="later heartbeat"):
        bench.beat(papers[0], stored=[stored], beat=4)
    assert bench.rows("SELECT datanode FROM replica WHERE state = 1") == bad
    bench.beat(papers[0], stored=[stored], beat=6)
    assert bench.rows("SELECT datanode FROM replica WHERE state = 1") == [], "a later one is believed"


def test_a_pull_that_its_datanode_names_is_planned_no_second_time(bench: Bench, papers: list[Paper]) -> None:  # F57
    chunk = bench.put("/f", papers[:2])
    bench.turn("repair")
    targets = [paper for paper in papers[2:] if bench.beat(paper).commands]
    assert len(targets) == 1
    for _ in range(4):
        bench.machine.advance(20)
        for paper in papers:
            assert bench.beat(paper, pulling=[chunk] if paper in targets else []).commands == []
        bench.turn("repair")


def test_a_new_chunk_needs_room_for_its_whole_file(bench: Bench, papers: list[Paper]) -> None:  # F32
    length = 1 << 20
    with_room_for = {
        size: [
            m.VolumeState(id=paper.volume, state="in_service", capacity_bytes=1 << 40, free_bytes=size)
            for paper in papers
        ]
        for size in (length, file_size(length, HINTS_MAX) - 1, file_size(length, HINTS_MAX))
    }
    for size, volumes in with_room_for.items():
        for paper, volume in zip(papers, volumes, strict=True):
            bench.beat(paper, volumes=[volume])
        if size < file_size(length, HINTS_MAX):
            with pytest.raises(NoSpace):
                bench.call(table.ALLOCATE, m.Allocate(count=1, length=length, replication=4))
        else:
            bench.call(table.ALLOCATE, m.Allocate(count=1, length=length, replication=4))
            with pytest.raises(NoSpace):
                bench.call(table.ALLOCATE, m.Allocate(count=1, length=length, replication=4))


def test_a_restarted_namenode_knows_its_datanodes_and_fences_old_lives(bench: Bench, papers: list[Paper]) -> None:
    bench.restart()
    assert bench.beat(papers[0]).commands == []
    bench.put("/f", papers[:3])
    with pytest.raises(StaleIncarnation):
        bench.call(
            table.HEARTBEAT,
            m.Heartbeat(
                datanode="dn1", incarnation=1, boot=new_id(9), lineage="a" * 32, seq_seen=0, volumes=papers[0].volumes()
            ),
        )


def test_a_copy_of_the_store_from_before_a_later_leader_is_known_by_its_number(bench: Bench) -> None:  # F63 F78
    with bench.store.read() as snapshot:
        copied = meta.last_seq(snapshot)
    bench.store.write_blocking(meta.take_lead)
    with bench.store.read() as snapshot:
        assert lags(seq_seen=meta.last_seq(snapshot), last_seq=copied), "although nothing else has changed"


def test_no_number_of_a_content_is_given_out_by_two_histories(bench: Bench, papers: list[Paper]) -> None:  # F63 I3
    before = bench.rows("SELECT inode, content FROM counters")[0]
    for seen in (50_000, 5_000_000):
        papers[0].seq_seen = seen
        bench.beat(papers[0])
    inode, content = bench.rows("SELECT inode, content FROM counters")[0]
    assert (inode, content) == (before[0] + IDS_JUMP, before[1] + IDS_JUMP), (
        "what lost readers have open is none of ours"
    )


def test_a_new_life_gets_the_next_incarnation_and_a_repeated_registration_the_same(
    bench: Bench, papers: list[Paper]
) -> None:
    paper = papers[0]
    assert bench.register(paper).incarnation == 1
    paper.boot = new_id(7)
    assert bench.register(paper).incarnation == 2
    bench.put("/f", papers[:3])
    other = Paper("dn1")
    proof = register_proof(bench.keys.of("dn1"), "dn1", other.boot)
    with pytest.raises(Conflict):  # F48
        bench.register(other, peer_url="http://elsewhere:1", proof=proof)


def test_a_store_that_is_older_than_its_datanodes_deletes_nothing_unknown(bench: Bench, papers: list[Paper]) -> None:
    # F63: the store was restored from a backup, and a datanode has seen more.
    lineage = papers[0].registered.lineage if papers[0].registered else ""
    orphan = new_id(bench.machine.now_ms - 2 * DAY_S * 1000)
    papers[0].disk.add(orphan)
    papers[0].seq_seen = 50_000
    answer = bench.beat(papers[0])
    assert answer.lineage != lineage
    assert answer.seq > 50_000
    bench.report(papers[0])
    assert bench.beat(papers[0]).commands == []
    assert bench.rows("SELECT count(*) FROM chunk") == [(0,)]
    bench.put("/f", papers[:3])
    bench.restart()
    assert [mode.split(":")[0] for mode in bench.status().safe_modes] == ["history", "cold start"]
    for paper in papers:
        bench.beat(paper)
    assert [mode.split(":")[0] for mode in bench.status().safe_modes] == ["history"]
    bench.turn("bury")
    assert bench.beat(papers[0]).commands == []
    bench.store.write_blocking(meta.clear_latch)
    bench.turn("bury")
    assert bench.obey(papers[0]) == ["DeleteReplicas"], "it is on record, and needs no other report"


def test_a_leader_that_was_replaced_writes_nothing_more(bench: Bench, papers: list[Paper]) -> None:
    bench.store.write_blocking(meta.take_lead)
    bench.put("/f", papers[:3])
    bench.remove("/f")
    bench.machine.advance(bench.settings.read_grace_s + 1)
    with pytest.raises(Conflict, match="another namenode leads"):
        bench.turn("sweep")


# --- clusters that change ---------------------------------------------------------------------------------------


def test_chunks_of_a_small_cluster_spread_when_it_grows(bench: Bench) -> None:
    first, second, third = papers = [Paper(f"dn{number}") for number in range(1, 4)]
    for paper in papers[:2]:
        bench.register(paper)
        bench.obey(paper)
    chunks = {bench.put(f"/f{number}", [first, second]) for number in range(3)}
    bench.turn("watch", "spread", "spread", "repair")
    assert bench.status().under_replicated == 0, "two datanodes can't have three replicas"
    bench.register(third)
    bench.obey(third)
    bench.restart()
    for paper in papers:
        bench.beat(paper)
    bench.turn("spread", "spread", "repair", "repair")
    for _ in range(3):
        bench.obey(third)
        bench.turn("repair")
    assert third.disk == chunks
    assert bench.status().under_replicated == 0
    before = bench.rows("SELECT seq FROM counters")
    bench.turn("spread", "spread")
    assert bench.rows("SELECT * FROM work") == []
    assert bench.rows("SELECT seq FROM counters") == before


def test_a_cluster_that_grows_gives_a_file_that_wants_more_what_it_can(bench: Bench, papers: list[Paper]) -> None:
    chunk = bench.put("/f", papers[:3])
    bench.turn("spread", "spread")
    more = m.SetAttributes(path="/f", replication=5)
    bench.call(table.COMMIT, m.Commit(op_id=bench.op_id(), actions=[more]))
    late = Paper("dn5")
    for _ in range(2):
        bench.turn("spread", "spread", "repair")
        for paper in papers:
            bench.obey(paper)
    assert chunk in papers[3].disk
    assert bench.status().under_replicated == 0
    bench.register(late)
    bench.obey(late)
    bench.turn("spread", "spread", "repair")
    bench.obey(late)
    assert late.disk == {chunk}


def test_datanodes_that_are_gone_for_good_hold_nobody_back_for_ever(bench: Bench, papers: list[Paper]) -> None:
    bench.put("/f", papers[:3])
    for _ in range(4):
        bench.machine.advance(10)
        for paper in papers[2:]:
            bench.beat(paper)
    bench.turn("watch", "repair")
    assert [mode.split(":")[0] for mode in bench.status().safe_modes] == ["mass outage"]
    for _ in range(40):
        bench.machine.advance(10)
        for paper in papers[2:]:
            bench.beat(paper)
    assert bench.status().safe_modes == []
    bench.turn("repair")
    assert bench.obey(papers[3]) == ["Replicate"]


def test_datanodes_that_had_nothing_and_left_are_no_mass_outage(bench: Bench, papers: list[Paper]) -> None:
    bench.put("/f", papers[2:5])
    for _ in range(4):
        bench.machine.advance(10)
        for paper in papers[2:]:
            bench.beat(paper)
    assert [node.state for node in bench.status().datanodes].count("dead") == 2
    assert bench.status().safe_modes == []


def test_a_volume_that_was_taken_out_takes_its_replicas_along(bench: Bench, papers: list[Paper]) -> None:  # F38
    chunk = bench.put("/f", papers[:3])
    lost = papers[0]
    old_volume, lost.volume, lost.boot, lost.disk = lost.volume, new_id(9), new_id(10), set()
    proof = register_proof(bench.keys.of(lost.name), lost.name, lost.boot)
    bench.register(lost, cluster=bench.cluster, proof=proof)
    bench.obey(lost)
    assert bench.rows("SELECT count(*) FROM replica") == [(2,)]
    bench.turn("repair")
    for paper in papers:
        bench.obey(paper)
    assert bench.rows("SELECT count(*) FROM replica") == [(3,)]
    lost.volume, lost.boot, lost.disk = old_volume, new_id(11), {chunk}
    proof = register_proof(bench.keys.of(lost.name), lost.name, lost.boot)
    bench.register(lost, cluster=bench.cluster, proof=proof)
    bench.obey(lost)
    held = bench.rows("SELECT volume FROM replica WHERE datanode = 1")
    assert held == [(bytes.fromhex(old_volume),)], "what returns with its disk is adopted"


def test_a_file_that_comes_to_want_more_does_not_count_the_dead(bench: Bench, papers: list[Paper]) -> None:
    settled = m.SetAttributes(path="/f", replication=2)
    more = m.SetAttributes(path="/f", replication=3)
    chunk = bench.put("/f", papers[:3])
    bench.call(table.COMMIT, m.Commit(op_id=bench.op_id(), actions=[settled]))
    for _ in range(4):
        bench.machine.advance(10)
        for paper in papers[1:]:
            bench.beat(paper)
    bench.turn("watch", "repair")
    assert bench.rows("SELECT * FROM work") == [], "two of two are left"
    bench.call(table.COMMIT, m.Commit(op_id=bench.op_id(), actions=[more]))
    bench.turn("repair")
    bench.obey(papers[3])
    assert papers[3].disk == {chunk}


def test_a_scan_of_another_history_drops_no_rows(bench: Bench, papers: list[Paper]) -> None:  # F63
    bench.put("/f", papers[:3])
    papers[0].disk.clear()
    bench.report(papers[0], as_of=bench.rows("SELECT seq FROM counters")[0][0] + 1)
    assert bench.rows("SELECT count(*) FROM replica") == [(3,)]


def test_who_reads_from_a_tree_that_is_not_taken_apart_yet_keeps_the_grace(bench: Bench, papers: list[Paper]) -> None:
    make = m.MakeDirectory(path="/a")
    bench.call(table.COMMIT, m.Commit(op_id=bench.op_id(), actions=[make]))
    bench.put("/a/f", papers[:3])
    opened = bench.call(table.OPEN, m.Open(path="/a/f"))
    bench.call(table.COMMIT, m.Commit(op_id=bench.op_id(), actions=[m.Remove(path="/a", recursive=True)]))
    grace_s = bench.settings.read_grace_s
    bench.machine.advance(grace_s - 60)
    bench.call(table.LOCATE, m.Locate(content=opened.layout.content))
    bench.turn("sweep")
    bench.machine.advance(grace_s - 60)
    bench.turn("sweep")
    assert bench.call(table.LOCATE, m.Locate(content=opened.layout.content)).extents


def test_a_datanode_that_an_operator_has_forgotten_is_waited_for_no_more(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    wiped, fresh = Paper("wiped"), Paper("fresh")
    bench.register(wiped)
    bench.obey(wiped)
    chunk = bench.put("/f", [wiped])
    bench.turn("spread", "spread")
    bench.register(fresh)
    bench.obey(fresh)
    for _ in range(100):
        bench.machine.advance(10)
        bench.beat(fresh)
    with pytest.raises(NotEnoughDatanodes):
        bench.call(table.ALLOCATE, m.Allocate(count=1, length=LENGTH, replication=3))
    bench.store.close()
    assert operator(["forget-datanode", bench.directory, "nobody"]) == 2
    assert operator(["forget-datanode", bench.directory]) == 2
    assert operator(["forget-datanode", bench.directory, "wiped"]) == 0
    assert capsys.readouterr().out == "wiped is forgotten, with 1 replicas, the last known ones of 1 chunks\n"
    bench.start()
    bench.beat(fresh)
    assert [node.id for node in bench.status().datanodes] == ["fresh"]
    bench.put("/g", [fresh])
    assert bench.status().missing == 1, "the file is there, and waits for its bytes"
    with pytest.raises(StaleIncarnation):
        bench.beat(wiped)
    assert bench.register(wiped).incarnation == 2, "a returning disk begins a new life"
    bench.obey(wiped)
    bench.turn("spread", "spread", "repair")
    assert bench.obey(fresh) == ["Replicate"]
    bench.turn("spread", "spread", "repair")
    bench.obey(wiped)
    bench.turn("repair")
    assert chunk in fresh.disk
    assert len(wiped.disk) == 2
    assert bench.status().under_replicated == 0


def test_a_repair_whose_target_dies_before_it_hears_of_it_goes_to_another(bench: Bench, papers: list[Paper]) -> None:
    chunk = bench.put("/f", papers[:3])
    rest = [papers[1], papers[2], *(Paper(f"dn{number}") for number in range(5, 8))]
    for paper in rest[2:]:
        bench.register(paper)
        bench.obey(paper)
    for _ in range(4):
        bench.machine.advance(10)
        for paper in [*rest, papers[3]]:
            bench.beat(paper)
    bench.turn("watch", "repair")
    (name,) = bench.node.parts.outbox.under_way()[chunk]
    target = next(paper for paper in [papers[3], *rest] if paper.name == name)
    others = [paper for paper in [papers[3], *rest] if paper is not target]
    for _ in range(5):
        bench.machine.advance(10)
        for paper in others:
            bench.beat(paper)
    bench.turn("watch", "repair")
    for paper in others:
        bench.obey(paper)
    assert sum(chunk in paper.disk for paper in others) == 3


def test_a_chunk_is_not_settled_by_a_view_from_before_its_datanode_died(
    bench: Bench, papers: list[Paper], monkeypatch: pytest.MonkeyPatch
) -> None:
    chunk = bytes.fromhex(bench.put("/f", papers[:3]))
    parts = bench.node.parts

    def notice(tx: Transaction) -> None:
        work.put_many(tx, [(chunk, work.urgency(2))], why=0)

    bench.store.write_blocking(notice)
    before = Repair._window

    def window_while_one_dies(repair: Repair, cluster: Any) -> Any:
        found = before(repair, cluster)
        bench.machine.advance(31)
        for paper in papers[1:]:
            parts.liveness.heard(paper.name, volumes=paper.volumes())
        bench.store.write_blocking(notice)
        return found

    monkeypatch.setattr(Repair, "_window", window_while_one_dies)
    bench.turn("repair")
    assert bench.rows("SELECT chunk_id FROM work") == [(chunk,)]


def test_what_many_operations_left_is_forgotten_as_fast_as_they_came(bench: Bench, papers: list[Paper]) -> None:  # I9
    count = 60_000

    def fill(tx: Transaction) -> None:
        numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
        old = "unhex(printf('%012x%020x', 1000, i))"
        tx.run(f"{numbers} INSERT INTO op_result SELECT {old}, x'00', i, 0, x'00' FROM n")
        tx.run(f"{numbers} INSERT INTO change (seq, n, op, inode_id, at_ms) SELECT -i, 0, 'put', i, 1000 FROM n")

    bench.store.write_blocking(fill)
    bench.turn("forget")
    assert bench.rows("SELECT count(*) FROM op_result WHERE request_digest = x'00'") == [(0,)]
    assert bench.rows("SELECT count(*) FROM change WHERE seq < 0") == [(0,)]


def test_a_report_deletes_nothing_while_the_namenode_waits_for_the_others(bench: Bench, papers: list[Paper]) -> None:
    # I4
    orphan = new_id(bench.machine.now_ms)
    papers[0].disk.add(orphan)
    bench.machine.advance(2 * DAY_S)
    for paper in papers:
        bench.beat(paper)
    bench.restart()
    bench.beat(papers[0])
    bench.report(papers[0])
    assert bench.rows("SELECT * FROM chunk") == []
    for paper in papers:
        bench.beat(paper)
    assert bench.status().safe_modes == []
    bench.turn("bury")
    assert bench.rows("SELECT state FROM chunk") == [(2,)]
    assert bench.obey(papers[0]) == ["DeleteReplicas"]


def test_a_number_that_no_history_reaches_is_not_taken_over(bench: Bench, papers: list[Paper]) -> None:
    papers[0].seq_seen = (1 << 62) - 1
    with pytest.raises(Conflict, match="which can't be"):
        bench.beat(papers[0])
    liar = Paper("liar")
    liar.seq_seen = 1 << 52
    with pytest.raises(Conflict, match="which can't be"):
        bench.register(liar, cluster=bench.cluster)
    assert bench.status().safe_modes == []
    assert bench.rows("SELECT seq FROM counters")[0][0] < 100


def test_walks_over_whole_trees_leave_threads_for_others(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    running, most = 0, 0

    async def slow(request: m.Stat, *, store: SqliteStore) -> m.Usage:
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        await asyncio.sleep(0)
        running -= 1
        return m.Usage(files=0, directories=1, bytes=0, replicated_bytes=0)

    monkeypatch.setattr("dfs_namenode.handlers.usage", slow)

    async def ask() -> None:
        await asyncio.gather(*(bench.handlers[table.USAGE](m.Stat(path="/"), ANYBODY) for _ in range(20)))

    bench.loop.run(ask())
    assert most == 2
