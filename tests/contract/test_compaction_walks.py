"""Thousands of lives of packs that are compacted while others read, copy and remove (F100); see `chunk_compaction`.

And the proof that the model has teeth: with any one of the rules taken away it finds what the rule is for.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest

from dfs_namenode import compaction as rules
from dfs_namenode import introduction
from dfs_namenode.store import compaction
from fixtures.chunk_compaction import CompactingWorld, walk_many

WALKS = int(os.environ.get("DFS_TEST_WALKS", "20000")) // 8
MUTANT_WALKS = 4000


@pytest.fixture(autouse=True)
def every_byte_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chunks of the model have a hundred bytes, and three files."""
    monkeypatch.setattr(rules, "SAVING_MIN", 1)
    monkeypatch.setattr(rules, "ROWS_MAX", 2)


def test_walks_with_compaction_lose_no_file_mix_none_up_and_cut_no_reader_off() -> None:
    reached = walk_many(CompactingWorld(), WALKS)
    # A walk that never gets to the dangerous places proves nothing.
    assert min(reached.swapped, reached.deleted, reached.held) > WALKS // 100, reached


def without_a_grace_for_readers_of_the_old_chunk(patch: pytest.MonkeyPatch) -> None:
    leave = compaction.leave
    patch.setattr(compaction, "leave", lambda tx, old, *, keep_until_ms: leave(tx, old, keep_until_ms=0))


def without_a_look_at_what_each_extent_is_now(patch: pytest.MonkeyPatch) -> None:
    class Anything(dict[Any, int]):
        def __contains__(self, place: object) -> bool:
            return True

        def __missing__(self, place: Any) -> int:
            return 0

    move = compaction.move_extents
    patch.setattr(
        compaction,
        "move_extents",
        lambda tx, moves, new: move(tx, {chunk: Anything(places) for chunk, places in moves.items()}, new),
    )


def without_receipts_that_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(introduction, "require_enough", lambda *_, **__: None)


def without_counting_what_stays_on_the_old_chunk(patch: pytest.MonkeyPatch) -> None:
    def leave(tx: Any, old: Any, *, keep_until_ms: int) -> list[int]:
        tx.run_many("UPDATE chunk SET referenced_bytes = 0, state = 1 WHERE id = ?", [(chunk,) for chunk in old])
        return []

    patch.setattr(compaction, "leave", leave)


@pytest.mark.parametrize(
    ("take_away", "found"),
    [
        (without_a_grace_for_readers_of_the_old_chunk, "a reader within the grace"),
        (without_receipts_that_count, "I1"),
        (without_a_look_at_what_each_extent_is_now, "another one's bytes"),
        (without_counting_what_stays_on_the_old_chunk, "needs it|are gone"),
    ],
)
def test_the_model_finds_what_each_rule_is_for(
    monkeypatch: pytest.MonkeyPatch, take_away: Callable[[pytest.MonkeyPatch], None], found: str
) -> None:
    take_away(monkeypatch)
    with pytest.raises(AssertionError, match=found):
        walk_many(CompactingWorld(), MUTANT_WALKS, seed=3)
