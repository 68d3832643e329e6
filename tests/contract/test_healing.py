"""Healing when things change while it goes on: silent targets and sources, missing chunks, volumes that fail, old lives
(F5, F47, F62, F68, F69).

The duties on a real store, with datanodes that are only messages.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dfs.protocol import messages as m
from dfs.protocol import operations as table
from dfs.protocol.capability import register_proof
from dfs.protocol.errors import StaleIncarnation
from dfs.protocol.ids import new_id
from dfs_namenode import repair
from dfs_namenode.commands import Outbox
from dfs_namenode.store import datanodes, replicas, work
from dfs_namenode.store.schema import WORK_SUSPECT
from fixtures.paper_cluster import DIGEST, LENGTH, Bench, Paper


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(str(tmp_path))
    yield made
    made.close()


def join(bench: Bench, *names: str) -> list[Paper]:
    papers = [Paper(name) for name in names]
    for paper in papers:
        bench.register(paper)
        bench.obey(paper)
    return papers


def pass_time(bench: Bench, seconds: float, beating: list[Paper], step: float = 3.0) -> None:
    """Let time pass with heartbeats that fetch no commands but those that are there."""
    passed = 0.0
    while passed < seconds:
        bench.machine.advance(step)
        passed += step
        for paper in beating:
            bench.beat(paper)


def outbox(bench: Bench) -> Outbox:
    return bench.node.parts.outbox


def lose_the_row(bench: Bench, chunk: str, paper: Paper) -> None:
    """As if the replica were there and no receipt or report had told of it."""

    def lose(tx: Any) -> None:
        node = datanodes.find(tx, paper.name)
        assert node is not None
        replicas.drop(tx, chunk, node.num)
        work.look_at(tx, chunk, why=WORK_SUSPECT)

    bench.store.write_blocking(lose)


def priorities(bench: Bench) -> dict[str, int]:
    return {chunk.hex(): priority for chunk, priority in bench.rows("SELECT chunk_id, priority FROM work")}


# --- who falls silent -------------------------------------------------------------------------------------------


def test_a_repair_whose_target_falls_silent_is_planned_again_at_once(bench: Bench) -> None:  # F68
    papers = join(bench, "dn1", "dn2", "dn3", "dn4", "dn5")
    chunk = bench.put("/f", papers[:3])
    pass_time(bench, 32, papers[1:])
    bench.turn("watch", "repair")
    (target,) = outbox(bench).under_way()[chunk]
    silent = next(paper for paper in papers if paper.name == target)
    bench.beat(silent)  # it fetches the command, and dies
    others = [paper for paper in papers[1:] if paper is not silent]
    pass_time(bench, 15, others)
    bench.turn("watch", "repair")
    (target,) = outbox(bench).under_way()[chunk]
    assert target != silent.name, "15 s of silence are enough; nobody waits 30 s for an answer"


def test_a_repair_whose_only_source_falls_silent_holds_neither_the_chunk_nor_a_stream(bench: Bench) -> None:  # F68
    papers = join(bench, *(f"dn{number}" for number in range(1, 8)))
    bench.put("/f", papers[:2])
    pass_time(bench, 32, papers[1:])
    bench.turn("watch", "repair")
    assert outbox(bench).streams(2).sending == {"dn2": [LENGTH, LENGTH]}
    for paper in papers[2:]:
        bench.beat(paper)
    pass_time(bench, 15, papers[2:])
    bench.turn("watch", "repair")
    assert outbox(bench).streams(2).sending == {"dn2": [LENGTH, LENGTH]}, (
        "the stale one may be back any moment: tried anew"
    )
    assert {entry.sent_s for entries in outbox(bench)._entries.values() for entry in entries.values()} == {None}
    pass_time(bench, 15, papers[2:])
    bench.turn("watch", "repair")
    assert outbox(bench).streams(2).sending == {}


def test_streams_that_are_under_way_count_in_the_next_turn_at_both_ends(bench: Bench) -> None:  # F68
    big = 64 << 20
    papers = join(bench, "dn1", "dn2", "dn3")
    for number in range(8):
        chunk = bench.put(f"/f{number}", papers[:2])
        bench.store.write_blocking(
            lambda tx, chunk=chunk: tx.run("UPDATE chunk SET length = ? WHERE id = ?", (big, bytes.fromhex(chunk)))
        )
        bench.store.write_blocking(lambda tx, chunk=chunk: work.look_at(tx, chunk, why=WORK_SUSPECT))
    for _ in range(4):
        bench.turn("repair")
        streams = outbox(bench).streams(2)
        assert len(streams.taking["dn3"]) == 2
        assert all(len(lengths) <= 2 for lengths in streams.sending.values())
    bench.beat(papers[2])
    bench.turn("repair")
    assert len(outbox(bench).under_way()) == 2, "those that were fetched count still"


# --- chunks that are missing ------------------------------------------------------------------------------------


def test_a_missing_chunk_makes_the_namenode_ask_what_the_datanodes_have(bench: Bench) -> None:  # F5
    papers = join(bench, "dn1", "dn2", "dn3")
    chunk = bench.put("/f", papers)
    for paper in papers:
        lose_the_row(bench, chunk, paper)
    bench.turn("repair")
    assert bench.status().missing == 1
    bench.turn("seek")
    for paper in papers:
        assert bench.obey(paper) == ["SendReport"]
    bench.turn("repair")
    assert bench.status().missing == 0
    assert priorities(bench) == {}


def test_a_chunk_that_becomes_missing_later_is_noticed(bench: Bench) -> None:
    papers = join(bench, "dn1", "dn2", "dn3", "dn4")
    bench.put("/f", papers[:2])
    pass_time(bench, 15, papers[1:])
    bench.turn("watch", "repair", "seek")
    assert not any(isinstance(c, m.SendReport) for paper in papers[1:] for c in bench.beat(paper).commands)
    bench.call(table.SET_SAFE_MODE, m.SetSafeMode(on=True))
    pass_time(bench, 30, papers[2:])
    bench.turn("watch", "repair", "seek")
    assert any(isinstance(c, m.SendReport) for c in bench.beat(papers[2]).commands), "although repair is held back"


def test_a_chunk_that_waited_longer_than_others_and_becomes_missing_is_noticed(bench: Bench) -> None:
    papers = join(bench, "dn1", "dn2", "dn3")
    older, newer = bench.put("/f", papers[:2]), bench.put("/g", papers)
    for paper, chunk in ((papers[0], older), *((paper, newer) for paper in papers)):
        lose_the_row(bench, chunk, paper)
        bench.machine.advance(1)
    bench.turn("repair", "seek")
    for paper in papers:
        assert m.SendReport() in bench.beat(paper).commands
        paper.disk.clear()
        bench.report(paper)
    pass_time(bench, 300, papers)
    assert bench.rows("SELECT count(*) FROM replica") == [(0,)]
    bench.turn("repair", "seek")
    assert [command for paper in papers for command in bench.obey(paper)] == ["SendReport"] * 3


def test_reports_for_missing_chunks_are_asked_for_once_in_minutes(bench: Bench) -> None:
    papers = join(bench, "dn1", "dn2", "dn3")
    for number in range(3):
        chunk = bench.put(f"/f{number}", papers)
        for paper in papers:
            paper.disk.clear()
            lose_the_row(bench, chunk, paper)
        bench.turn("repair", "seek", "seek")
        asked = [command for paper in papers for command in bench.obey(paper)]
        assert asked == (["SendReport"] * 3 if number == 0 else [])
        bench.machine.advance(1)
    pass_time(bench, 300, papers)
    bench.turn("seek")
    assert [command for paper in papers for command in bench.obey(paper)] == ["SendReport"] * 3, "for the later ones"
    pass_time(bench, 300, papers)
    bench.turn("seek")
    assert [command for paper in papers for command in bench.obey(paper)] == [], "nothing new is missing"


# --- bad replicas out of reach ----------------------------------------------------------------------------------


def test_a_bad_replica_of_a_dead_datanode_keeps_no_work_and_goes_when_it_is_back(bench: Bench) -> None:  # F39
    papers = join(bench, "dn1", "dn2", "dn3", "dn4")
    chunk = bench.put("/f", papers[:3])
    bench.beat(papers[0], checked=[m.CheckedReplica(chunk=chunk, good=False, why="rot")])
    pass_time(bench, 32, papers[1:])
    bench.turn("watch", "repair")
    bench.obey(papers[3])
    assert chunk in papers[3].disk
    bench.turn("repair", "repair")
    assert priorities(bench) == {}, "nothing can be done, and nothing is lost by waiting for it"
    bench.beat(papers[0])
    bench.turn("watch", "repair")
    assert "DeleteReplicas" in bench.obey(papers[0])
    assert chunk not in papers[0].disk


# --- volumes ----------------------------------------------------------------------------------------------------


def with_volume(paper: Paper, state: Any) -> dict[str, Any]:
    return {"volumes": [msgspec.structs.replace(volume, state=state) for volume in paper.volumes()]}


def test_what_is_on_a_failed_volume_is_made_anew_and_counts_again_when_it_is_back(bench: Bench) -> None:  # F62
    papers = join(bench, "dn1", "dn2", "dn3", "dn4")
    chunk = bench.put("/f", papers[:3])
    bench.beat(papers[0], **with_volume(papers[0], "failed"))
    bench.turn("watch", "repair")
    assert priorities(bench) == {chunk: repair.PRIORITY_FEW_LEFT}
    bench.report(papers[0], volumes=[])
    assert bench.rows("SELECT count(*) FROM replica") == [(3,)], "a volume that can't be read is not an empty one"
    bench.obey(papers[3])
    bench.turn("repair")
    assert priorities(bench) == {}
    assert bench.status().under_replicated == 0
    bench.beat(papers[0])
    bench.turn("watch")
    assert priorities(bench) == {chunk: repair.PRIORITY_SURPLUS}, "all four count"


def test_with_one_replica_left_on_a_volume_in_service_it_is_urgent_also_for_a_stale_datanode(bench: Bench) -> None:
    papers = join(bench, *(f"dn{number}" for number in range(1, 7)))
    chunk = bench.put("/f", papers[:3])
    bench.beat(papers[0], **with_volume(papers[0], "failed"))
    for _ in range(5):
        bench.machine.advance(3)
        for paper in papers[2:]:
            bench.beat(paper)
        bench.beat(papers[0], **with_volume(papers[0], "failed"))
    assert bench.node.parts.liveness.view().state("dn2") == "stale"
    bench.turn("watch", "repair")
    assert priorities(bench) == {chunk: repair.PRIORITY_ONE_LEFT}
    assert outbox(bench).streams(2).sending == {"dn3": [LENGTH]}, "from the one that is left"


def test_a_bad_replica_on_a_failed_volume_is_not_said_to_be_deleted(bench: Bench) -> None:  # F62
    papers = join(bench, "dn1", "dn2", "dn3", "dn4")
    chunk = bench.put("/f", papers[:3])
    bench.beat(papers[0], checked=[m.CheckedReplica(chunk=chunk, good=False, why="rot")])
    bench.beat(papers[0], **with_volume(papers[0], "failed"))
    bench.turn("watch", "repair")
    # The row of a bad replica may not tell its volume; then the datanode is asked, and must not answer "gone".
    rows = bench.rows("SELECT hex(volume) FROM replica WHERE state != 0")
    assert len(rows) == 1
    bench.obey(papers[3])
    bench.turn("repair")
    assert outbox(bench).deleting("dn1") == 0


# --- draining ---------------------------------------------------------------------------------------------------


def test_a_drained_datanode_does_not_go_because_of_replicas_that_only_rows_tell_of(bench: Bench) -> None:  # F69
    papers = join(bench, "dn1", "dn2", "dn3", "dn4")
    chunk = bench.put("/f", papers[:3])
    bench.put("/g", papers[1:])
    papers[2].disk.discard(chunk)  # its row stays: nobody knows
    bench.call(table.SET_DATANODE_STATE, m.SetDatanodeState(datanode="dn1", state="draining"))
    bench.turn("drain")
    bench.turn("drain", "repair")
    assert "Replicate" in bench.obey(papers[3])  # the copy is made, and by the rows all is well
    for _ in range(3):
        bench.turn("drain", "repair")
        assert bench.node.parts.liveness.view().admin_state("dn1") == "draining"
        bench.machine.advance(1)
    for _ in range(4):
        bench.machine.advance(1)
        for paper in papers:
            bench.obey(paper)
        bench.turn("watch", "drain", "repair")
    assert bench.node.parts.liveness.view().admin_state("dn1") == "decommissioned"
    assert sum(chunk in paper.disk for paper in papers[1:]) == 3


# --- old lives --------------------------------------------------------------------------------------------------


def restarted(bench: Bench, paper: Paper, *, after: bool = False) -> None:
    """Begin a new life at the moment when the next change is to be written, or was."""
    assert paper.registered is not None
    boot = new_id(7)
    proof = register_proof(bytes.fromhex(paper.registered.key), paper.name, boot)
    write = bench.store.write

    async def begin_first(change: Any) -> Any:
        bench.store.write = write  # type: ignore[method-assign]
        handler = bench.handlers[table.REGISTER]
        request = m.Register(
            datanode=paper.name, boot=boot, cluster=bench.cluster, peer_url=f"http://{paper.name}:1",
            client_url=f"http://{paper.name}:2", version="1", volumes=paper.volumes(), proof=proof,
        )  # fmt: skip
        found = await write(change) if after else None
        await handler(request, None)
        return found if after else await write(change)

    bench.store.write = begin_first  # type: ignore[method-assign]


def test_a_report_of_a_life_that_ends_while_it_is_judged_changes_nothing(bench: Bench) -> None:  # F47, I7
    papers = join(bench, "dn1", "dn2", "dn3")
    bench.put("/f", papers)
    papers[0].disk.clear()
    bench.beat(papers[0])
    restarted(bench, papers[0])
    with pytest.raises(StaleIncarnation):
        bench.report(papers[0])
    assert bench.rows("SELECT count(*) FROM replica") == [(3,)]


@pytest.mark.parametrize("after", [False, True])
def test_a_heartbeat_of_a_life_that_ends_while_it_is_written_takes_no_commands(bench: Bench, after: bool) -> None:  # I7
    papers = join(bench, "dn1", "dn2", "dn3", "dn4")
    chunk = bench.put("/f", papers[:3])
    restarted(bench, papers[3], after=after)
    stored = m.StoredReplica(chunk=chunk, length=LENGTH, digest=DIGEST, volume=papers[3].volume)
    with pytest.raises(StaleIncarnation):
        bench.beat(papers[3], stored=[stored])
    assert bench.rows("SELECT count(*) FROM replica") == [(4 if after else 3,)], "what was written was still true"
    assert bench.node.parts.reports.take("dn4") == [m.SendReport()], "the new life's command is there still"
