"""What may be deleted (F46, F47, F58, F59, F60, F62, F63, F65, F66)."""

import pytest

from dfs.protocol.ids import new_id
from dfs_namenode.garbage import (
    DeleteBudget,
    KnownChunk,
    Verdict,
    forget_before_ms,
    judge_replica,
    may_bury,
    may_condemn,
    may_drop_row,
    safe_modes,
)

NOW = 1_800_000_000_000
HOUR = 3_600_000
DIGEST = "d" * 32
LIVE = KnownChunk("live", 100, DIGEST)


@pytest.mark.parametrize(
    ("known", "length", "has_row", "verdict"),
    [
        (LIVE, 100, True, Verdict.KNOWN),
        (LIVE, 100, False, Verdict.ADOPT),
        (LIVE, 99, True, Verdict.BAD),
        (KnownChunk("condemned", 100, DIGEST), 100, True, Verdict.DELETE),
        (KnownChunk("deleted", 100, DIGEST), 100, False, Verdict.DELETE),
        (None, 100, False, Verdict.ORPHAN),
    ],
)
def test_a_reported_replica_is_judged_by_the_chunks_row(
    known: KnownChunk | None, length: int, has_row: bool, verdict: Verdict
) -> None:
    assert judge_replica(known=known, length=length, digest=DIGEST, has_row=has_row) is verdict


@pytest.mark.parametrize(
    ("age_ms", "latched", "may"),
    [(23 * HOUR, False, False), (24 * HOUR, False, True), (1000 * HOUR, True, False), (-48 * HOUR, False, False)],
)
def test_an_unknown_id_is_buried_only_when_nobody_comes_for_it_and_the_history_is_whole(
    age_ms: int, latched: bool, may: bool
) -> None:  # F63 F66
    assert may_bury(new_id(NOW - age_ms), now_ms=NOW, orphan_age_ms=24 * HOUR, latched=latched) is may


@pytest.mark.parametrize(
    ("since_seq", "as_of", "volumes", "may"),
    [(5, 5, ["v"], True), (6, 5, ["v"], False), (5, 5, [], False), (5, 9, ["other"], False)],
)
def test_only_an_older_row_on_a_volume_that_was_scanned_may_be_dropped(
    since_seq: int, as_of: int, volumes: list[str], may: bool
) -> None:  # F62
    assert may_drop_row(since_seq=since_seq, as_of=as_of, volume="v", volumes_scanned=volumes) is may


def test_a_counter_that_went_wrong_condemns_nothing() -> None:
    assert may_condemn(state="live", referenced_bytes=0, extents=0)
    assert not may_condemn(state="live", referenced_bytes=0, extents=1)
    assert not may_condemn(state="live", referenced_bytes=1, extents=0)
    assert not may_condemn(state="condemned", referenced_bytes=0, extents=0)


def test_a_tombstone_is_kept_for_longer_than_any_commit_could_accept_its_id() -> None:
    assert forget_before_ms(now_ms=NOW, commit_window_ms=12 * HOUR) <= NOW - 24 * HOUR
    assert forget_before_ms(now_ms=5, commit_window_ms=12 * HOUR) == 0


def test_the_budget_lets_a_burst_through_then_a_share_of_the_chunks_each_hour() -> None:  # F65
    budget = DeleteBudget(share_per_hour=0.01, burst=100, now_s=0.0)
    assert budget.available(chunks=1_000_000, now_s=0.0) == 100
    budget.spend(100)
    assert budget.available(chunks=1_000_000, now_s=0.0) == 0
    assert budget.available(chunks=1_000_000, now_s=1800.0) == 5000
    assert budget.available(chunks=1_000_000, now_s=1e9) == 10_000, "what is not used does not pile up"
    budget.spend(10_000)
    assert budget.available(chunks=10, now_s=1e9 + 3600) == 100


@pytest.mark.parametrize(
    ("known", "unheard", "dead", "settled", "latched", "words"),
    [
        (3, 0, 0, True, False, []),
        (3, 0, 1, True, False, []),
        (4, 0, 1, True, False, []),
        (3, 0, 2, True, False, ["mass outage"]),
        (1, 0, 1, True, False, ["mass outage"]),
        (3, 1, 0, False, False, ["cold start"]),
        (3, 0, 0, False, False, ["cold start"]),
        (3, 0, 0, True, True, ["history"]),
        (3, 2, 2, False, True, ["history", "cold start", "mass outage"]),
        (0, 0, 0, True, False, []),
    ],
)
def test_safe_modes_name_every_reason(
    known: int, unheard: int, dead: int, settled: bool, latched: bool, words: list[str]
) -> None:
    modes = safe_modes(known=known, unheard=unheard, dead=dead, settled=settled, latched=latched)
    assert [mode.split(":")[0] for mode in modes] == words
