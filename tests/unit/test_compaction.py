"""Which chunks are rewritten, and how (F100, the decisions): tables of facts in, at most one instruction out."""

import random
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dfs.protocol.digests import BLOCK_SIZE
from dfs.protocol.messages import VolumeState
from dfs_namenode.compaction import (
    CHUNKS_MIN,
    ROWS_MAX,
    SAVING_MIN,
    Composition,
    Piece,
    Sparse,
    find_runs,
    is_sparse,
    live_bytes,
    plan,
)
from dfs_namenode.compositions import AVOID_S, Compositions, Order
from dfs_namenode.liveness import ClusterView, Datanode
from dfs_namenode.repair import Replica
from fixtures.namenode_store import FakeClock

MIB = 1 << 20
CHUNK = 64 * MIB


def node(name: str, **more: Any) -> Datanode:
    free = more.pop("free", 1 << 40)
    volume = VolumeState(id=name.encode().hex().zfill(32), state="in_service", capacity_bytes=1 << 41, free_bytes=free)
    return Datanode(name, f"http://{name}:1", f"http://{name}:2", incarnation=1, volumes=(volume,), **more)


def cluster(*nodes: Datanode) -> ClusterView:
    return ClusterView({one.id: one for one in nodes or [node(f"dn{n}") for n in (1, 2, 3)]})


def piece(offset: int, length: int, rows: int = 1) -> Piece:
    return Piece(offset, length, f"{offset}".encode().ljust(16), rows)


def sparse(
    name: str, *pieces: Piece, length: int = 10 * MIB, replication: int = 3, on: tuple[str, ...] = ("dn1", "dn2", "dn3")
) -> Sparse:
    return Sparse(name, length, "0" * 32, replication, pieces, tuple(Replica(one, "v") for one in on))


def planned(*candidates: Sparse, view: ClusterView | None = None, **more: Any) -> Composition | None:
    facts: dict[str, Any] = {"reserved": {}, "busy": (), "chunk_size": CHUNK, "rng": random.Random(1)} | more
    return plan(candidates, cluster=view or cluster(), **facts)


def chunks_of(made: Composition | None) -> list[str]:
    return [] if made is None else [part.chunk for part in made.parts]


def test_bytes_that_several_extents_share_count_once() -> None:
    assert live_bytes([piece(0, 10, rows=5), piece(5, 10), piece(7, 2), piece(100, 1)]) == 16
    assert live_bytes([]) == 0


def test_a_chunk_is_sparse_when_less_than_half_of_it_is_live() -> None:
    assert is_sparse(100, 49)
    assert not is_sparse(100, 50)
    assert not is_sparse(100, 0), "nothing is left to move: that is garbage"


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(1, 60)), max_size=30))
def test_runs_hold_every_piece_once_and_no_cut_goes_through_one(spans: list[tuple[int, int]]) -> None:
    pieces = [piece(*span) for span in sorted(set(spans))]
    runs = find_runs(pieces)
    assert [one for run in runs for one in run] == pieces
    for before, after in pairwise(runs):
        assert max(one.end for one in before) <= after[0].offset


@given(st.lists(st.tuples(st.integers(0, 5 * MIB), st.integers(1, 3000)), min_size=1, max_size=40), st.randoms())
def test_every_byte_has_one_place_in_the_new_chunk(spans: list[tuple[int, int]], rng: random.Random) -> None:
    pieces = [piece(*span) for span in sorted(set(spans))]
    made = planned(sparse("a", *pieces), sparse("b", piece(7, 100)))
    assert made is not None
    moves = [move for part in made.parts for move in part.moves]
    end = 0
    for move in moves:
        assert move.at >= end
        assert all(move.offset <= one.offset and one.end <= move.offset + move.length for one in move.pieces)
        end = move.at + move.length
    assert end == made.length
    assert sum(move.length for move in moves) == live_bytes(pieces) + 100


def test_a_chunk_that_saves_little_waits_until_there_are_enough_of_them() -> None:
    small = [sparse(f"c{n}", piece(0, 10), length=1000) for n in range(CHUNKS_MIN)]
    assert planned(*small[:-1]) is None
    assert chunks_of(planned(*small)) == [one.chunk for one in small]
    assert chunks_of(planned(sparse("big", piece(0, 10), length=SAVING_MIN + 10))) == ["big"]


def test_chunks_that_want_different_numbers_of_replicas_do_not_share_one() -> None:
    made = planned(sparse("a", piece(0, 1)), sparse("b", piece(0, 1), replication=2), sparse("c", piece(0, 1)))
    assert made is not None
    assert (chunks_of(made), made.replication, len(made.chain)) == (["b"], 2, 2)


def test_the_emptiest_go_first_and_the_new_chunk_is_not_overfilled() -> None:
    half, third = piece(0, 30 * MIB), piece(0, 20 * MIB)
    candidates = [
        sparse("half", half, length=CHUNK),
        sparse("third", third, length=CHUNK),
        sparse("fifth", piece(0, 10 * MIB), length=CHUNK),
        sparse("other half", half, length=CHUNK),
    ]
    made = planned(*candidates)
    assert chunks_of(made) == ["fifth", "third", "half"]
    assert made is not None
    assert made.length == 60 * MIB
    huge = sparse("huge", piece(0, 100 * MIB), length=300 * MIB)
    assert chunks_of(planned(huge, sparse("half", half, length=CHUNK))) == ["huge"], "it goes alone"


def test_a_chunk_with_more_extents_than_a_transaction_takes_goes_in_steps() -> None:
    pieces = [piece(n * 1000, 10) for n in range(ROWS_MAX + 5)]
    made = planned(sparse("many", *pieces), sparse("small", piece(0, 10), length=1000))
    assert made is not None
    assert chunks_of(made) == ["many"], "a smaller one that is not worth it alone is not in the way"
    assert sum(len(move.pieces) for move in made.parts[0].moves) == ROWS_MAX
    assert planned(sparse("one place", piece(0, 10, rows=ROWS_MAX + 1))) is None


def test_a_large_extent_that_begins_a_block_goes_on_beginning_one() -> None:
    large = piece(3 * BLOCK_SIZE, 2 * MIB)
    made = planned(sparse("a", piece(5, 10)), sparse("b", piece(0, 77), large))
    assert made is not None
    [place] = [move.at for part in made.parts for move in part.moves if large in move.pieces]
    assert place % BLOCK_SIZE == 0
    assert made.length < 2 * MIB + 2 * BLOCK_SIZE


def test_the_datanode_with_most_of_the_bytes_composes() -> None:
    view = cluster(node("dn1"), node("dn2"), node("dn3"), node("dn4"))
    few = sparse("few", piece(0, 10), on=("dn1", "dn2"))
    most = sparse("most", piece(0, 1000), on=("dn3", "dn4"))
    made = planned(few, most, view=view, busy={"dn3"})
    assert made is not None
    assert made.chain[0] == "dn4"
    assert len(set(made.chain)) == 3
    assert made.parts[0].sources in {("dn1", "dn2"), ("dn3", "dn4")}


def test_nothing_is_composed_that_would_need_repair_at_once_or_cannot_be_read() -> None:
    one = sparse("a", piece(0, 10))
    assert planned(one, view=cluster(node("dn1"), node("dn2"), node("dn3", state="dead"))) is None
    assert planned(one, view=cluster(node("dn1"), node("dn2"), node("dn3", free=5))) is None
    assert planned(one, view=cluster(node("dn1"), node("dn2"), node("dn3", admin_state="draining"))) is None
    assert planned(one, busy={"dn1", "dn2", "dn3"}) is None
    assert planned(sparse("b", piece(0, 10), on=())) is None


def order(chunk: str = "new", *, until_s: float = 2000.0) -> Order:
    return Order(chunk, "dn1", 1, 10, {"old": {(0, 10, b""): 0}}, until_s)


def test_an_answer_is_taken_once_and_from_its_datanode_alone() -> None:
    orders = Compositions(FakeClock())
    orders.add(order())
    assert orders.untouchable() == {"old"}
    assert orders.take("new", "dn2") is None
    taken = orders.take("new", "dn1")
    assert taken is not None
    assert orders.take("new", "dn1") is None
    assert (orders.untouchable(), orders.busy()) == ({"old"}, set()), "its extents are being moved"
    assert orders.changed() == set()
    orders.settled(taken)
    assert orders.untouchable() == set()
    assert orders.changed() == {"old"}, "what was read of it before is not true any more"
    assert orders.changed() == set()


def test_the_sources_of_an_order_that_failed_are_left_alone_for_a_while() -> None:
    clock = FakeClock()
    orders = Compositions(clock)
    orders.add(order(until_s=clock.monotonic_s() + 10))
    clock.advance(11)
    assert orders.take("new", "dn1") is None
    assert (orders.untouchable(), orders.failed) == ({"old"}, 1)
    clock.advance(AVOID_S)
    assert orders.untouchable() == set()


def test_orders_of_a_datanode_that_was_restarted_or_is_dead_are_given_anew_at_once() -> None:
    orders = Compositions(FakeClock())
    orders.add(order())
    orders.drop_lost(cluster(node("dn1", state="stale")))
    assert orders.untouchable() == {"old"}, "it may be at work"
    for nodes in ([node("dn2")], [node("dn1", state="dead")]):
        orders.add(order())
        orders.drop_lost(cluster(*nodes))
        assert orders.untouchable() == set()
    orders.add(Order("new", "dn1", 7, 10, {"old": {}}, 2000.0))
    orders.drop_lost(cluster())
    assert orders.take("new", "dn1") is None
