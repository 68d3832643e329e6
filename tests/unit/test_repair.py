"""What the repair planner decides (F3, F39, F54, F67, F68)."""

from random import Random

import pytest

from dfs.protocol.messages import VolumeState
from dfs_namenode import repair
from dfs_namenode.liveness import ClusterView, Datanode, State
from dfs_namenode.repair import DropReplica, Instruction, Need, Pull, Replica, Reprioritise, Settled, Streams, plan

V = "1" * 32
MIB = 1 << 20
CHUNK = "c" * 32


def cluster(states: str, free: int = 1 << 40, volume: str = "in_service") -> ClusterView:
    """A letter for each datanode a, b, c, …: l(ive), s(tale), d(ead)."""
    names: dict[str, State] = {"l": "live", "s": "stale", "d": "dead"}
    nodes = {}
    for number, letter in enumerate(states):
        name = "abcdefgh"[number]
        volumes = (VolumeState(id=V, state=volume, capacity_bytes=1 << 41, free_bytes=free),)  # type: ignore[arg-type]
        nodes[name] = Datanode(name, f"http://{name}:1", f"http://{name}:2", state=names[letter], volumes=volumes)
    return ClusterView(nodes)


def need(good: str, bad: str = "", replication: int = 3, priority: int = 0, length: int = 64 * MIB) -> Need:
    replicas = [*(Replica(name, V) for name in good), *(Replica(name, V, good=False) for name in bad)]
    return Need(CHUNK, length, "d" * 32, replication, priority, tuple(replicas))


def decide(
    view: ClusterView, *needs: Need, streams: Streams | None = None, under_way: str = "", avoid: str = ""
) -> list[Instruction]:
    return plan(
        needs,
        cluster=view,
        streams=streams or Streams(2),
        under_way={CHUNK: list(under_way)},
        avoid={CHUNK: list(avoid)},
        rng=Random(1),
    )


def test_a_chunk_of_a_dead_datanode_is_pulled_by_the_one_that_lacks_it() -> None:
    pulls = decide(cluster("ldll"), need("abc", priority=repair.PRIORITY_FEW_LEFT))
    assert [(type(p), p.target, set(p.sources)) for p in pulls] == [(Pull, "d", {"a", "c"})]  # type: ignore[union-attr]


def test_a_stale_datanode_still_counts() -> None:
    assert decide(cluster("lsl"), need("abc")) == [Settled(CHUNK)]


def test_a_chunk_with_two_missing_gets_two_pulls_at_different_datanodes() -> None:
    pulls = [p for p in decide(cluster("lddll"), need("abc")) if isinstance(p, Pull)]
    assert {p.target for p in pulls} == {"d", "e"}
    assert all(p.sources == ("a",) for p in pulls)


def test_a_pull_that_is_under_way_counts_and_is_not_repeated() -> None:
    assert decide(cluster("ldll"), need("abc", priority=repair.PRIORITY_FEW_LEFT), under_way="d") == []


def test_where_a_pull_failed_a_moment_ago_it_is_not_tried_again() -> None:
    waiting = need("abc", priority=repair.PRIORITY_FEW_LEFT)
    assert decide(cluster("ldll"), waiting, avoid="d") == []
    (pull,) = decide(cluster("ldlll"), waiting, avoid="d")
    assert isinstance(pull, Pull)
    assert pull.target == "e"


def test_a_chunk_whose_cluster_is_too_small_waits_without_harm() -> None:
    assert decide(cluster("lld"), need("abc", priority=repair.PRIORITY_FEW_LEFT)) == []


def test_a_chunk_without_any_good_replica_waits_at_the_end_and_is_settled_when_they_are_back() -> None:
    assert decide(cluster("ddd"), need("abc")) == [Reprioritise(CHUNK, repair.PRIORITY_MISSING)]
    assert decide(cluster("lll"), need("abc", priority=repair.PRIORITY_MISSING)) == [Settled(CHUNK)]


def test_a_bad_replica_goes_only_after_its_replacement_is_there() -> None:  # F39 F67
    first = decide(cluster("llll"), need("ab", "c"))
    assert [type(i) for i in first] == [Reprioritise, Pull]
    assert first[1].target == "d"  # type: ignore[union-attr]
    after = decide(cluster("llll"), need("abd", "c", priority=repair.PRIORITY_BAD))
    assert after == [DropReplica(CHUNK, "c")]


def test_where_no_other_datanode_could_take_the_replacement_it_is_pulled_beside_the_bad_one() -> None:  # F39
    waiting = need("ab", "c", priority=repair.PRIORITY_FEW_LEFT)
    (pull,) = decide(cluster("lll"), waiting)
    assert isinstance(pull, Pull)
    assert pull.target == "c"
    assert decide(cluster("lll"), waiting, under_way="c") == []
    assert decide(cluster("lll"), waiting, avoid="c") == []
    assert decide(cluster("lld"), waiting) == []
    both = [i for i in decide(cluster("lll"), need("a", "bc")) if isinstance(i, Pull)]
    assert {i.target for i in both} == {"b", "c"}


def test_a_bad_replica_goes_first_only_where_there_is_no_room_for_two() -> None:
    waiting = need("ab", "c", priority=repair.PRIORITY_FEW_LEFT)
    assert decide(cluster("lll", free=MIB), waiting) == [DropReplica(CHUNK, "c")]
    (pull,) = decide(cluster("lll"), need("ab", priority=repair.PRIORITY_FEW_LEFT))
    assert isinstance(pull, Pull)
    assert pull.target == "c"
    busy = Streams(2)
    busy.add("x", "d", 64 * MIB)
    busy.add("x", "d", 64 * MIB)
    assert decide(cluster("llll"), need("ab", "c", priority=repair.PRIORITY_FEW_LEFT), streams=busy) == []
    assert not any(isinstance(i, DropReplica) for i in decide(cluster("lll"), need("", "abc"))), "no good one is left"


def test_no_datanode_sends_or_takes_more_than_its_streams() -> None:  # F68
    needs = [
        Need(f"{number:032x}", 64 * MIB, "d" * 32, 2, repair.PRIORITY_ONE_LEFT, (Replica("a", V),))
        for number in range(10)
    ]
    pulls = [i for i in decide(cluster("lll"), *needs) if isinstance(i, Pull)]
    assert len(pulls) == 2, "one source sends two"
    streams = Streams(2)
    streams.add("b", "c", 64 * MIB)
    streams.add("b", "c", 64 * MIB)
    pulls = [i for i in decide(cluster("lll"), *needs, streams=streams) if isinstance(i, Pull)]
    assert {p.target for p in pulls} == {"b"}, "c takes two already"


def test_small_chunks_travel_many_at_a_time_within_a_bound_of_bytes() -> None:
    needs = [
        Need(f"{number:032x}", MIB, "d" * 32, 2, repair.PRIORITY_ONE_LEFT, (Replica("a", V),)) for number in range(40)
    ]
    pulls = [i for i in decide(cluster("ll"), *needs) if isinstance(i, Pull)]
    assert len(pulls) == repair.SMALL_COMMANDS_MAX


def test_the_sources_are_all_good_replicas_and_the_one_that_is_not_busy_comes_first() -> None:
    streams = Streams(2)
    streams.add("a", "x", 64 * MIB)
    streams.add("a", "x", 64 * MIB)
    (pull,) = decide(cluster("lldl"), need("abc", priority=repair.PRIORITY_FEW_LEFT), streams=streams)
    assert isinstance(pull, Pull)
    assert pull.sources == ("b", "a")


def test_replicas_on_a_failed_volume_do_not_count() -> None:
    assert decide(cluster("lll", volume="failed"), need("abc")) == [Reprioritise(CHUNK, repair.PRIORITY_MISSING)]


def test_a_bad_replica_on_a_failed_volume_is_left_until_it_can_be_deleted() -> None:  # F62
    nodes = dict(cluster("lllll").datanodes)
    nodes["e"] = cluster("lllll", volume="failed").datanodes["e"]
    waiting = need("abc", "de", priority=repair.PRIORITY_BAD)
    assert decide(ClusterView(nodes), waiting) == [DropReplica(CHUNK, "d")]
    assert decide(ClusterView(nodes), need("abc", "e", priority=repair.PRIORITY_BAD)) == [Settled(CHUNK)]


def test_a_target_needs_room() -> None:
    assert decide(cluster("lldl", free=MIB), need("abc", priority=repair.PRIORITY_FEW_LEFT)) == []


@pytest.mark.parametrize(
    ("good", "wanted", "bad", "priority"),
    [
        (0, 3, 0, repair.PRIORITY_MISSING),
        (0, 1, 2, repair.PRIORITY_MISSING),
        (1, 3, 0, repair.PRIORITY_ONE_LEFT),
        (2, 3, 0, repair.PRIORITY_FEW_LEFT),
        (3, 3, 1, repair.PRIORITY_BAD),
        (1, 1, 0, None),
        (4, 3, 0, repair.PRIORITY_SURPLUS),
    ],
)
def test_the_fewer_are_left_the_more_urgent_it_is(good: int, wanted: int, bad: int, priority: int | None) -> None:
    assert repair.priority_of(good, wanted, bad) == priority
