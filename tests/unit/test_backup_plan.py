"""What is backed up next, and what is kept: tables, and a walk in which nothing that is needed is ever given up."""

from hypothesis import given
from hypothesis import strategies as st

from dfs_namenode.backup_plan import (
    CHANGES_BYTES_MIN,
    ROWS_MAX,
    SMALL_BYTES,
    SMALL_MAX,
    Backup,
    Facts,
    Wanted,
    covered,
    next_backup,
    older_reach,
    to_retire,
)

L = "1" * 32
DAY_MS = 86_400_000
SMALL = 1000


def snapshot(
    number: int, to_seq: int, *, size: int = 100 << 20, made_ms: int = 0, whole: bool = True, lineage: str = L
) -> Backup:
    return Backup(number, "snapshot", 0, to_seq, made_ms, size, lineage, whole)


def changes(
    number: int, from_seq: int, to_seq: int, *, size: int = SMALL, whole: bool = True, lineage: str = L
) -> Backup:
    return Backup(number, "changes", from_seq, to_seq, 0, size, lineage, whole)


def facts(
    *kept: Backup, changed: int = 1, forgotten: int = 0, older: int = 1, lineage: str = L, has_files: bool = True
) -> Facts:
    return Facts(kept, lineage, 1000, forgotten, changed, older, has_files)


def plan(found: Facts, *, now_ms: int = 0) -> Wanted | None:
    return next_backup(found, now_ms=now_ms, snapshot_interval_ms=DAY_MS)


def test_a_cluster_in_which_nothing_ever_happened_is_not_backed_up() -> None:
    assert plan(facts(changed=0, has_files=False)) is None
    assert plan(facts(changed=0, has_files=True)) == Wanted("snapshot"), "its log was forgotten"
    assert plan(facts(changed=1, has_files=False)) == Wanted("snapshot")


def test_only_what_changed_is_backed_up_behind_a_snapshot() -> None:
    assert plan(facts(snapshot(1, 10))) == Wanted("changes", 10)
    assert plan(facts(snapshot(1, 10), changes(2, 10, 20))) == Wanted("changes", 20)
    assert plan(facts(snapshot(1, 10), changes(2, 10, 20), changed=0), now_ms=9 * DAY_MS) is None


def test_a_snapshot_is_made_anew_when_it_is_old_or_outweighed() -> None:
    assert plan(facts(snapshot(1, 10)), now_ms=DAY_MS) == Wanted("snapshot")
    assert plan(facts(snapshot(1, 10, size=8 << 20), changes(2, 10, 20, size=(4 << 20) + 1))) == Wanted("snapshot")
    assert plan(facts(snapshot(1, 10, size=8 << 20), changes(2, 10, 20, size=4 << 20))) == Wanted("changes", 20)
    assert plan(facts(snapshot(1, 10, size=5), changes(2, 10, 20, size=CHANGES_BYTES_MIN))) == Wanted("changes", 20)
    assert plan(facts(snapshot(1, 10), changed=ROWS_MAX + 1)) == Wanted("snapshot")
    assert next_backup(facts(changed=0), now_ms=0, snapshot_interval_ms=1, forced=True) == Wanted("snapshot")


def test_changes_that_were_forgotten_meanwhile_call_for_a_snapshot() -> None:
    assert plan(facts(snapshot(1, 10), forgotten=10)) == Wanted("changes", 10)
    assert plan(facts(snapshot(1, 10), forgotten=11)) == Wanted("snapshot")


def test_a_backup_whose_chunks_are_gone_or_of_another_history_counts_for_nothing() -> None:
    assert plan(facts(snapshot(1, 10, whole=False))) == Wanted("snapshot")
    assert plan(facts(snapshot(1, 10, lineage="2" * 32))) == Wanted("snapshot")
    assert plan(facts(snapshot(1, 10), changes(2, 10, 20, whole=False), changes(3, 20, 30))) == Wanted("changes", 10)
    assert plan(facts(snapshot(1, 10), changes(2, 10, 20, lineage="2" * 32))) == Wanted("changes", 10)


def test_small_ones_are_put_together() -> None:
    kept = [snapshot(1, 10), *(changes(2 + n, 10 + n, 11 + n) for n in range(SMALL_MAX))]
    assert plan(facts(*kept[:-1])) == Wanted("changes", 10 + SMALL_MAX - 1)
    assert plan(facts(*kept)) == Wanted("changes", 10)
    assert plan(facts(*kept, forgotten=11)) == Wanted("changes", 10 + SMALL_MAX), "their rows are not there any more"
    big = [snapshot(1, 5), changes(99, 5, 10, size=SMALL_BYTES), *kept[1:]]
    assert plan(facts(*big)) == Wanted("changes", 10)


def test_two_snapshots_are_kept_with_all_that_changed_since_the_older_one() -> None:
    kept = [
        snapshot(1, 10),
        changes(2, 10, 20),
        snapshot(3, 20),
        changes(4, 20, 30),
        snapshot(5, 30),
        changes(6, 30, 40),
    ]
    assert to_retire(kept) == [1, 2]
    assert to_retire([snapshot(1, 10), changes(2, 10, 11), changes(3, 11, 12), changes(4, 10, 13)]) == [2, 3]
    assert to_retire([snapshot(1, 10), changes(2, 10, 11), changes(3, 10, 11)]) == [2]


def test_the_first_changes_behind_a_new_snapshot_also_follow_those_of_the_one_before() -> None:
    kept = [snapshot(1, 10), changes(2, 10, 20), snapshot(3, 30)]
    assert plan(facts(*kept)) == Wanted("changes", 20)
    assert plan(facts(*kept, forgotten=21)) == Wanted("changes", 30)
    assert plan(facts(*kept, older=ROWS_MAX + 1)) == Wanted("changes", 30)


def test_nothing_is_given_up_for_one_that_is_not_whole() -> None:
    assert to_retire([snapshot(1, 10), snapshot(2, 20), snapshot(3, 30, whole=False)]) == [3]
    assert to_retire([snapshot(1, 10, whole=False)]) == []
    assert to_retire([snapshot(1, 10), changes(2, 10, 20), changes(3, 10, 30, whole=False)]) == [3]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 3 << 20), st.booleans()), max_size=60),
    st.integers(1, 5),
)
def test_whatever_happens_a_restore_comes_as_far_from_either_snapshot(
    turns: list[tuple[int, int, int, bool]], days: int
) -> None:
    """Changes come, are backed up as planned, and now and then a backup is lost: the rest always fits together."""
    kept: list[Backup] = []
    seq, now_ms = 0, 0
    for number, (changed, wait, size, lose) in enumerate(turns, 1):
        seq += changed
        now_ms += wait * days * 3_600_000
        waiting = seq - covered(kept, L)
        older = seq - older_reach(kept, L)
        wanted = plan(Facts(tuple(kept), L, seq, 0, waiting, older, has_files=seq > 0), now_ms=now_ms)
        assert (wanted is None) == (waiting == 0)
        if wanted is not None:
            kept.append(Backup(number, wanted.kind, wanted.from_seq, seq, now_ms, size, L))
            gone = to_retire(kept)
            kept = [one for one in kept if one.content_id not in gone]
            assert covered(kept, L) == seq
            if wanted.kind == "changes":
                assert older_reach(kept, L) == seq
            assert sum(one.kind == "snapshot" for one in kept) <= 2
        elif lose and kept:
            kept.pop(number % len(kept))
