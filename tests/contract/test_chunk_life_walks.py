"""Twenty thousand lives of chunks (see `unit/test_chunk_life_model.py`, and `fixtures/chunk_life.py` for the world).

And the proof that the model has teeth: with any one of the rules taken away it finds what the rule is for.
"""

import os
from typing import Any

import pytest

from dfs_namenode import garbage as rules
from dfs_namenode import introduction, surplus
from dfs_namenode.garbage import Verdict
from dfs_namenode.operations import report
from dfs_namenode.store import garbage
from fixtures import chunk_life
from fixtures.chunk_life import World
from fixtures.chunk_walks import walk_many

WALKS = int(os.environ.get("DFS_TEST_WALKS", "20000"))
"""`make check` takes fewer, to be quick; the whole suite takes them all."""
MUTANT_WALKS = 20_000
HEALING_WALKS = WALKS // 5


def test_twenty_thousand_walks_lose_no_acknowledged_file_and_commit_no_buried_id() -> None:
    reached = walk_many(World(), WALKS)
    # A walk that never gets to the dangerous places proves nothing.
    assert min(reached.files, reached.buried, reached.deleted, reached.adopted) > WALKS // 400, reached


def test_walks_with_repair_trimming_and_draining_lose_no_acknowledged_file() -> None:  # F67 F69
    reached = walk_many(World(), HEALING_WALKS, healing=True)
    assert min(reached.files, reached.deleted, reached.trimmed, reached.drained) > HEALING_WALKS // 400, reached


def without_age_check(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(introduction, "check_age", lambda *_, **__: None)


def without_tombstones_for_unknown_chunks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(garbage, "bury_unknown", lambda *_, **__: True)


def without_a_second_look_at_references(patch: pytest.MonkeyPatch) -> None:
    def condemn_everything(tx: Any, *, limit: int) -> list[str]:
        found = tx.rows("SELECT id FROM chunk WHERE state = 0 LIMIT ?", (limit,))
        tx.run_many("UPDATE chunk SET state = 1, referenced_bytes = 0 WHERE id = ?", found)
        return [chunk.hex() for (chunk,) in found]

    patch.setattr(garbage, "condemn", condemn_everything)


def without_respect_for_the_unknown(patch: pytest.MonkeyPatch) -> None:
    def judge(*, known: Any, **facts: Any) -> Verdict:
        return Verdict.DELETE if known is None else rules.judge_replica(known=known, **facts)

    patch.setattr(report, "judge_replica", judge)


def without_verification_before_trimming(patch: pytest.MonkeyPatch) -> None:  # F67
    class Everything(dict[str, int]):
        def get(self, *_: Any) -> int:
            return 1 << 60

    def plan(surpluses: Any, *, verified: Any, **facts: Any) -> Any:
        return surplus.plan_trims(surpluses, verified={one.chunk: Everything() for one in surpluses}, **facts)

    patch.setattr(chunk_life, "plan_trims", plan)


def without_a_look_at_what_is_left_before_a_datanode_leaves(patch: pytest.MonkeyPatch) -> None:  # F69
    patch.setattr(chunk_life, "chunks_left", lambda *_: [])


# Each search begins at a seed near which it found something when this was written, and goes on as long as it must.


@pytest.mark.parametrize(
    ("take_away", "seed"),
    [
        (without_age_check, 2480),
        (without_tombstones_for_unknown_chunks, 3),
        (without_a_second_look_at_references, 3),
        (without_respect_for_the_unknown, 3),
    ],
)
def test_the_model_finds_what_each_rule_is_for(monkeypatch: pytest.MonkeyPatch, take_away: Any, seed: int) -> None:
    take_away(monkeypatch)
    with pytest.raises(AssertionError, match="of seed"):
        walk_many(World(), MUTANT_WALKS, seed=seed)


@pytest.mark.parametrize(
    ("take_away", "seed"),
    [
        (without_verification_before_trimming, 24_320),
        (without_a_look_at_what_is_left_before_a_datanode_leaves, 18_203),
    ],
)
def test_the_model_finds_what_each_rule_of_healing_is_for(
    monkeypatch: pytest.MonkeyPatch, take_away: Any, seed: int
) -> None:
    take_away(monkeypatch)
    with pytest.raises(AssertionError, match="of seed"):
        walk_many(World(), MUTANT_WALKS, seed=seed, healing=True)
