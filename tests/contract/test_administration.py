"""What operators decide about datanodes, and what the namenode trims and moves by itself (F39, F42, F47, F54, F67
F69).

The duties on a real store, with datanodes that are only messages.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dfs.protocol import messages as m
from dfs.protocol import operations as table
from dfs.protocol.capability import register_proof
from dfs.protocol.errors import Conflict, InvalidRequest, StaleIncarnation
from dfs.protocol.ids import new_id
from fixtures.paper_cluster import LENGTH, Bench, Paper

DUTIES = ("watch", "spread", "drain", "trim", "repair")


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


@pytest.fixture
def papers(bench: Bench) -> list[Paper]:
    return join(bench, "dn1", "dn2", "dn3", "dn4")


def live_on(bench: Bench, papers: list[Paper], *, rounds: int = 1, seconds: float = 3.0) -> list[str]:
    """Let some heartbeats and turns of all duties pass; the kinds of commands that were given."""
    kinds = []
    for _ in range(rounds):
        bench.machine.advance(seconds)
        for paper in papers:
            kinds += bench.obey(paper)
        bench.turn(*DUTIES)
    return kinds


def decide(bench: Bench, name: str, state: Any, until_ms: int = 0) -> m.DatanodeStateSet:
    request = m.SetDatanodeState(datanode=name, state=state, until_ms=until_ms)
    answer: m.DatanodeStateSet = bench.call(table.SET_DATANODE_STATE, request)
    return answer


def shown(bench: Bench, name: str) -> m.DatanodeStatus:
    return next(node for node in bench.status().datanodes if node.id == name)


def holders(papers: list[Paper], chunk: str) -> set[str]:
    return {paper.name for paper in papers if chunk in paper.disk - paper.rotten}


# --- draining ---------------------------------------------------------------------------------------------------


def test_a_datanode_is_decommissioned_once_its_chunks_have_all_replicas_elsewhere(
    bench: Bench, papers: list[Paper]
) -> None:  # F69
    chunks = [bench.put(f"/f{number}", papers[:3]) for number in range(3)]
    assert decide(bench, "dn1", "draining").state == "draining"
    bench.turn("drain", "drain", "repair")
    assert shown(bench, "dn1").admin_state == "draining"
    assert shown(bench, "dn1").chunks_left == 3
    status = bench.status()
    assert (status.moving, status.under_replicated) == (3, 0), "no chunk is in danger"
    live_on(bench, papers, rounds=4)
    assert shown(bench, "dn1").admin_state == "decommissioned"
    assert all(holders(papers, chunk) == {"dn1", "dn2", "dn3", "dn4"} for chunk in chunks), "nothing was deleted"
    assert decide(bench, "dn1", "draining").state == "decommissioned"


def test_a_datanode_with_the_last_copies_stays_draining_until_there_is_room(bench: Bench) -> None:  # F69
    papers = join(bench, "dn1", "dn2", "dn3")
    chunk = bench.put("/f", papers)
    decide(bench, "dn1", "draining")
    live_on(bench, papers, rounds=5)
    assert shown(bench, "dn1").admin_state == "draining"
    assert shown(bench, "dn1").chunks_left == 1
    papers += join(bench, "dn4")
    live_on(bench, papers, rounds=5)
    assert shown(bench, "dn1").admin_state == "decommissioned"
    assert chunk in papers[3].disk


def test_a_datanode_that_is_drained_gets_nothing_new_and_is_read_from_last(bench: Bench, papers: list[Paper]) -> None:
    bench.put("/f", papers[:3])
    decide(bench, "dn1", "draining")
    for _ in range(10):
        grants = bench.call(table.ALLOCATE, m.Allocate(count=1, length=LENGTH, replication=3)).grants
        assert "dn1" not in {target.datanode for target in grants[0].chain}
    opened = bench.call(table.OPEN, m.Open(path="/f"))
    (source,) = opened.layout.chunks.values()
    assert source.replicas[-1].datanode == "dn1"
    assert len(source.replicas) == 3


def test_a_receipt_of_a_datanode_that_is_drained_does_not_count(bench: Bench, papers: list[Paper]) -> None:  # F98
    decide(bench, "dn1", "draining")
    chunk = bench.put("/f", papers[:3])
    assert bench.rows("SELECT datanode FROM replica ORDER BY datanode") == [(2,), (3,)]
    live_on(bench, papers, rounds=3)
    assert holders(papers, chunk) >= {"dn2", "dn3", "dn4"}


def test_a_decision_survives_restarts_of_both_sides(bench: Bench, papers: list[Paper]) -> None:
    decide(bench, "dn1", "draining")
    bench.restart()
    assert shown(bench, "dn1").admin_state == "draining"
    papers[0].boot = new_id(7)
    bench.register(papers[0], proof=register_proof(bench.keys.of("dn1"), "dn1", papers[0].boot))
    assert shown(bench, "dn1").admin_state == "draining"


def test_the_last_datanode_in_service_cant_leave(bench: Bench) -> None:
    join(bench, "dn1", "dn2")
    decide(bench, "dn1", "draining")
    with pytest.raises(Conflict, match="last datanode in service"):
        decide(bench, "dn2", "draining")
    with pytest.raises(InvalidRequest, match="there is no datanode"):
        decide(bench, "dn9", "draining")


def test_who_is_taken_back_into_service_is_a_surplus_that_is_trimmed(bench: Bench, papers: list[Paper]) -> None:  # F67
    chunk = bench.put("/f", papers[:3])
    decide(bench, "dn1", "draining")
    live_on(bench, papers, rounds=5)
    assert shown(bench, "dn1").admin_state == "decommissioned"
    decide(bench, "dn1", "in_service")
    live_on(bench, papers, rounds=6)
    assert len(holders(papers, chunk)) == 3
    assert bench.rows("SELECT count(*) FROM replica") == [(3,)]
    assert bench.rows("SELECT * FROM work") == []


# --- maintenance ------------------------------------------------------------------------------------------------


def test_what_a_datanode_in_maintenance_has_is_not_made_anew_until_its_end(bench: Bench, papers: list[Paper]) -> None:
    chunk = bench.put("/f", papers[:3])
    decide(bench, "dn1", "maintenance", until_ms=bench.machine.now_ms + 600_000)
    live_on(bench, papers[1:], rounds=20, seconds=10)
    assert shown(bench, "dn1").state == "dead"
    assert chunk not in papers[3].disk
    assert bench.status().under_replicated == 0
    assert bench.status().safe_modes == []
    live_on(bench, papers[1:], rounds=45, seconds=10)
    assert shown(bench, "dn1").admin_state == "in_service"
    assert chunk in papers[3].disk, "whoever is not back by its end is gone like any other"


def test_a_maintenance_does_not_wait_with_the_last_replica(bench: Bench, papers: list[Paper]) -> None:
    papers += join(bench, "dn5", "dn6", "dn7")
    chunk = bench.put("/f", papers[:3])
    decide(bench, "dn1", "maintenance", until_ms=bench.machine.now_ms + 3_600_000)
    live_on(bench, papers[2:], rounds=5, seconds=10)
    assert [shown(bench, name).state for name in ("dn1", "dn2")] == ["dead", "dead"]
    live_on(bench, papers[2:], rounds=4)
    assert len(holders(papers[2:], chunk)) >= 2


def test_a_maintenance_needs_an_end_that_is_to_come(bench: Bench, papers: list[Paper]) -> None:
    with pytest.raises(InvalidRequest, match="needs an end"):
        decide(bench, "dn1", "maintenance", until_ms=bench.machine.now_ms - 1)


# --- forgetting -------------------------------------------------------------------------------------------------


def test_only_who_is_dead_or_decommissioned_and_silent_is_forgotten(bench: Bench, papers: list[Paper]) -> None:
    bench.put("/f", papers[:3])
    forget = m.ForgetDatanode(datanode="dn1")
    with pytest.raises(Conflict, match="is running"):
        bench.call(table.FORGET_DATANODE, forget)
    live_on(bench, papers[1:], rounds=2, seconds=10)
    with pytest.raises(Conflict, match="neither dead nor decommissioned"):
        bench.call(table.FORGET_DATANODE, forget)
    live_on(bench, papers[1:], rounds=4, seconds=10)
    forgotten = bench.call(table.FORGET_DATANODE, forget)
    assert (forgotten.replicas, forgotten.last_ones) == (1, 0)
    assert [node.id for node in bench.status().datanodes] == ["dn2", "dn3", "dn4"]
    with pytest.raises(StaleIncarnation):
        bench.beat(papers[0])
    with pytest.raises(InvalidRequest):
        bench.call(table.FORGET_DATANODE, forget)


def test_who_comes_back_under_a_forgotten_id_is_in_service(bench: Bench, papers: list[Paper]) -> None:
    decide(bench, "dn1", "draining")
    live_on(bench, papers, rounds=3)
    live_on(bench, papers[1:], rounds=2, seconds=10)
    assert bench.call(table.FORGET_DATANODE, m.ForgetDatanode(datanode="dn1")).replicas == 0
    bench.register(Paper("dn1"))
    assert shown(bench, "dn1").admin_state == "in_service"


# --- trimming ---------------------------------------------------------------------------------------------------


def come_back(bench: Bench, papers: list[Paper], chunk: str) -> None:
    """dn1 dies, its chunk is made anew elsewhere, and it returns."""
    live_on(bench, papers[1:], rounds=6, seconds=10)
    assert holders(papers, chunk) == {"dn1", "dn2", "dn3", "dn4"}
    bench.beat(papers[0])


def test_a_returning_datanodes_copy_is_trimmed_after_the_others_were_verified(
    bench: Bench, papers: list[Paper]
) -> None:  # F54 F67
    chunk = bench.put("/f", papers[:3])
    come_back(bench, papers, chunk)
    bench.turn("watch", "trim", "repair")
    assert bench.status().surplus == 1
    assert "DeleteReplicas" not in live_on(bench, papers), "first they are verified"
    kinds = live_on(bench, papers, rounds=3)
    assert kinds.count("DeleteReplicas") == 1
    assert len(holders(papers, chunk)) == 3
    assert bench.rows("SELECT state FROM replica") == [(0,)] * 3
    assert bench.status().surplus == 0


def test_a_surplus_is_kept_when_one_of_the_others_turns_out_bad(bench: Bench, papers: list[Paper]) -> None:  # F67
    chunk = bench.put("/f", papers[:3])
    come_back(bench, papers, chunk)
    for paper in papers[:3]:
        paper.rotten.add(chunk)
    for _ in range(8):
        live_on(bench, papers)
        assert holders(papers, chunk), "the only good one is never deleted"
    for paper in papers:
        paper.rotten &= paper.disk


def test_nothing_is_trimmed_in_a_safe_mode(bench: Bench, papers: list[Paper]) -> None:
    chunk = bench.put("/f", papers[:3])
    come_back(bench, papers, chunk)
    modes = bench.call(table.SET_SAFE_MODE, m.SetSafeMode(on=True)).modes
    assert [mode.split(":")[0] for mode in modes] == ["operator"]
    assert "DeleteReplicas" not in live_on(bench, papers, rounds=6)
    assert bench.call(table.SET_SAFE_MODE, m.SetSafeMode(on=False)).modes == []
    live_on(bench, papers, rounds=6)
    assert len(holders(papers, chunk)) == 3


def test_a_namenode_that_starts_anew_does_not_trim_a_second_one(bench: Bench, papers: list[Paper]) -> None:  # F67
    chunk = bench.put("/f", papers[:3])
    come_back(bench, papers, chunk)
    while bench.rows("SELECT count(*) FROM replica WHERE state = 2") == [(0,)]:
        bench.machine.advance(3)
        for paper in papers:
            bench.obey(paper)
        bench.turn("watch", "trim")
    bench.restart()
    kinds = live_on(bench, papers, rounds=8)
    assert kinds.count("DeleteReplicas") == 1
    assert len(holders(papers, chunk)) == 3


def test_a_replica_that_is_surplus_counts_again_when_it_is_needed(bench: Bench, papers: list[Paper]) -> None:
    chunk = bench.put("/f", papers[:3])
    come_back(bench, papers, chunk)
    while bench.rows("SELECT count(*) FROM replica WHERE state = 2") == [(0,)]:
        bench.machine.advance(3)
        for paper in papers:
            bench.obey(paper)
        bench.turn("watch", "trim")
    ((marked,),) = bench.rows(
        "SELECT d.id FROM replica AS r JOIN datanode AS d ON d.num = r.datanode WHERE r.state = 2"
    )
    lost = next(paper for paper in papers if paper.name != marked)
    lost.disk.clear()
    bench.report(lost)
    lost_one = m.CheckedReplica(chunk=chunk, good=False, why="gone")
    bench.beat(lost, checked=[lost_one])
    rest = [paper for paper in papers if paper is not lost]
    live_on(bench, papers, rounds=4)
    assert len(holders(papers, chunk)) == 3
    assert {paper.name for paper in rest} & holders(papers, chunk)


def test_a_file_that_comes_to_want_less_is_trimmed(bench: Bench, papers: list[Paper]) -> None:
    chunk = bench.put("/f", papers[:3])
    fewer = m.SetAttributes(path="/f", replication=2)
    bench.call(table.COMMIT, m.Commit(op_id=bench.op_id(), actions=[fewer]))
    live_on(bench, papers, rounds=5)
    assert len(holders(papers, chunk)) == 2
    assert bench.rows("SELECT * FROM work") == []


# --- repair -----------------------------------------------------------------------------------------------------


def test_a_chunk_with_one_replica_left_is_not_waited_with(bench: Bench) -> None:
    papers = join(bench, *(f"dn{number}" for number in range(1, 7)))
    two = m.SetAttributes(path="/f", replication=2)
    chunk = bench.put("/f", papers[:2])
    bench.call(table.COMMIT, m.Commit(op_id=bench.op_id(), actions=[two]))
    other = bench.put("/g", papers[:3])
    live_on(bench, papers[1:], rounds=1, seconds=16)
    assert shown(bench, "dn1").state == "stale"
    live_on(bench, papers[1:], rounds=2, seconds=3)
    assert shown(bench, "dn1").state == "stale"
    assert len(holders(papers[1:], chunk)) == 2
    assert len(holders(papers[1:], other)) == 2, "two are left: there is time"


def test_a_chunk_whose_replicas_are_all_bad_is_put_together_from_them(bench: Bench, papers: list[Paper]) -> None:  # F42
    chunk = bench.put("/f", papers[:3])
    for paper in papers[:3]:
        bench.beat(paper, checked=[m.CheckedReplica(chunk=chunk, good=False, why="damaged")])
    opened = bench.call(table.OPEN, m.Open(path="/f"))
    assert len(opened.layout.chunks[chunk].replicas) == 3, "a reader may put it together too"
    bench.turn("repair")
    commands = [command for paper in papers for command in bench.beat(paper).commands]
    (pull,) = [command for command in commands if isinstance(command, m.Replicate)]
    assert {source.datanode for source in pull.sources} == {"dn1", "dn2", "dn3"}


def test_status_tells_how_fast_repair_goes(bench: Bench, papers: list[Paper]) -> None:
    for number in range(6):
        bench.put(f"/f{number}", papers[:3])
    live_on(bench, papers[1:], rounds=4, seconds=10)
    status = bench.status()
    assert status.repair_rate > 0 or status.under_replicated == 6
    live_on(bench, papers[1:], rounds=3)
    assert bench.status().repair_rate > 0
    assert bench.status().repair_eta_s is None, "nothing is left to do"


# --- balance ----------------------------------------------------------------------------------------------------


def test_a_balance_moves_chunks_to_the_emptier_and_ends_by_itself(bench: Bench) -> None:
    papers = join(bench, "dn1", "dn2", "dn3")
    for paper in papers:
        paper.capacity = 200 * LENGTH
    chunks = [bench.put(f"/f{number}", papers) for number in range(40)]
    new = Paper("dn4")
    new.capacity = 200 * LENGTH
    bench.register(new)
    papers.append(new)
    live_on(bench, papers, rounds=2)
    bench.call(table.BALANCE, m.Balance(do="start", threshold=0.05))
    assert bench.status().balance is not None
    for _ in range(60):
        bench.turn("balance")
        live_on(bench, papers)
        if bench.status().balance is None:
            break
    assert bench.status().balance is None
    assert all(len(holders(papers, chunk)) == 3 for chunk in chunks)
    sizes = [len(paper.disk) for paper in papers]
    assert sum(sizes) == 120
    assert max(sizes) - min(sizes) <= 20


def test_a_balance_is_stopped_by_its_operator_and_survives_a_restart(bench: Bench, papers: list[Paper]) -> None:
    bench.call(table.BALANCE, m.Balance(do="start", threshold=0.2))
    bench.restart()
    found = bench.status().balance
    assert found is not None
    assert found.threshold == 0.2
    bench.call(table.BALANCE, m.Balance(do="stop"))
    assert bench.status().balance is None


def test_an_operator_resolves_a_latched_history_while_the_namenode_runs(bench: Bench, papers: list[Paper]) -> None:
    papers[0].seq_seen = 50_000  # F63
    bench.beat(papers[0])
    assert [mode.split(":")[0] for mode in bench.status().safe_modes] == ["history"]
    assert bench.call(table.RESOLVE_HISTORY, m.ResolveHistory()).resolved
    assert not bench.call(table.RESOLVE_HISTORY, m.ResolveHistory()).resolved
    assert bench.status().safe_modes == []


def test_an_operator_has_datanodes_scrub_now(bench: Bench, papers: list[Paper]) -> None:
    bench.call(table.SCRUB, m.ScrubDatanodes(datanodes=["dn2"]))
    assert bench.beat(papers[0]).commands == []
    assert bench.beat(papers[1]).commands == [m.Scrub()]
    bench.call(table.SCRUB, m.ScrubDatanodes())
    assert bench.beat(papers[0]).commands == [m.Scrub()]
    with pytest.raises(InvalidRequest):
        bench.call(table.SCRUB, m.ScrubDatanodes(datanodes=["nobody"]))


def test_status_shows_the_weakest_durability(bench: Bench, papers: list[Paper]) -> None:
    assert bench.status().durability == "sync"
    bench.beat(papers[0], durability="batch")
    bench.beat(papers[1], durability="none")
    assert bench.status().durability == "none"


def test_a_surplus_from_before_the_namenode_started_is_noticed(bench: Bench, papers: list[Paper]) -> None:
    chunk = bench.put("/f", papers[:3])
    live_on(bench, papers[1:], rounds=6, seconds=10)
    bench.restart()
    assert len(holders(papers, chunk)) == 4
    live_on(bench, papers, rounds=8)
    assert len(holders(papers, chunk)) == 3
