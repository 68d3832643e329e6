"""Where replicas go (F32)."""

from collections import Counter
from random import Random

import pytest

from dfs.protocol.errors import NotEnoughDatanodes
from dfs_namenode.placement import Candidate, choose_targets, copies_wanted, write_min

GIB = 1 << 30


def candidate(
    name: str, rack: str = "r1", free: int = 100 * GIB, largest: int | None = None, **more: object
) -> Candidate:
    return Candidate(name, rack, free, free if largest is None else largest, **more)  # type: ignore[arg-type]


TWO_RACKS = [
    candidate("a1", "a"),
    candidate("a2", "a"),
    candidate("b1", "b"),
    candidate("b2", "b"),
    candidate("b3", "b"),
]


def choose(candidates: list[Candidate], copies: int, seed: int = 0, **more: object) -> list[Candidate]:
    options: dict[str, object] = {"bytes_needed": GIB, "writer_id": None, **more}
    return choose_targets(candidates, copies=copies, rng=Random(seed), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(20))
def test_three_copies_lie_in_two_racks_and_the_pipeline_crosses_once(seed: int) -> None:
    first, second, third = choose(TWO_RACKS, 3, seed)
    assert first.rack != second.rack
    assert second.rack == third.rack
    assert len({first.id, second.id, third.id}) == 3


@pytest.mark.parametrize("seed", range(10))
def test_the_writers_own_datanode_is_the_head(seed: int) -> None:
    assert choose(TWO_RACKS, 3, seed, writer_id="b2")[0].id == "b2"


def test_a_writer_that_is_full_is_not_the_head() -> None:
    candidates = [candidate("w", free=10), *TWO_RACKS]
    assert "w" not in {c.id for c in choose(candidates, 3, writer_id="w")}


def test_one_rack_gives_as_many_copies_as_it_has_datanodes() -> None:
    candidates = [candidate(f"n{i}") for i in range(4)]
    assert len({c.id for c in choose(candidates, 4)}) == 4


def test_a_datanode_whose_volumes_are_each_too_small_is_not_chosen() -> None:
    candidates = [candidate("split", free=4 * GIB, largest=GIB // 2), candidate("whole")]
    assert choose(candidates, 1)[0].id == "whole"
    with pytest.raises(NotEnoughDatanodes) as raised:
        choose(candidates, 2)
    assert raised.value.detail == {"needed": 2, "found": 1}


def test_a_suspect_is_chosen_only_where_the_others_do_not_suffice() -> None:
    candidates = [candidate("s", suspect=True), candidate("n1"), candidate("n2")]
    for seed in range(20):
        assert "s" not in {c.id for c in choose(candidates, 2, seed)}
    assert {c.id for c in choose(candidates, 3)} == {"s", "n1", "n2"}


def test_emptier_datanodes_get_more_but_not_everything() -> None:
    candidates = [
        candidate("empty", free=100 * GIB),
        candidate("half", free=50 * GIB),
        candidate("nearly", free=5 * GIB),
    ]
    got = Counter(choose(candidates, 1, seed)[0].id for seed in range(600))
    assert got["empty"] > got["half"] > got["nearly"] > 0


def test_a_repair_avoids_the_one_rack_that_has_all_replicas() -> None:
    for seed in range(10):
        assert choose(TWO_RACKS, 1, seed, racks_used={"b"})[0].rack == "a"


@pytest.mark.parametrize(
    ("replication", "known", "wanted", "needed"),
    [(3, 0, 1, 1), (3, 1, 1, 1), (3, 2, 2, 2), (3, 3, 3, 2), (3, 50, 3, 2), (1, 50, 1, 1), (2, 3, 2, 2)],
)
def test_copies_and_write_min_follow_from_all_datanodes_ever_known(
    replication: int, known: int, wanted: int, needed: int
) -> None:
    assert (copies_wanted(replication, known), write_min(replication, known)) == (wanted, needed)
