"""The control logic under virtual time and an unreliable network (F5, F7, F19, F20, F21, F22, F39, F46, F47, F48, F51,
F54, F57, F62, F66, F78, F92, F93, F98, F100): see `fixtures/sim_world.py` for what happens, `sim_truth.py` for what
must hold.

    DFS_SIM_SEEDS=2000   so many runs, others than by default and each time
    DFS_SIM_SEED=N       one run again, the one that failed

And the counter-tests: with any one of the rules taken away some run must fail, or the simulation proves nothing.
"""

from collections.abc import Callable
from typing import Any

import pytest

from dfs_datanode.membership import Membership
from dfs_namenode import introduction
from dfs_namenode.liveness import ClusterView, Liveness
from dfs_namenode.monitors.leader import Leader
from dfs_namenode.monitors.watch import Watch
from dfs_namenode.operations import report
from dfs_namenode.store import compaction, datanodes, garbage, oplog, work
from fixtures.sim_world import DAYS, DISKS, EVERYTHING, LEADERS, Violation, run_many, run_seed, seeds

COUNTER_SEEDS = 1500
"""At most; each search begins where it soon found something when this was written."""


def test_no_run_loses_or_does_twice_or_leaves_behind() -> None:  # I1 I4 I6 I7 I8
    numbers = seeds()
    totals = run_many(numbers)
    print(f"{totals.runs} runs from the seed {numbers.start}: {totals.sums}")
    if totals.runs >= 50:
        # Runs that never get to the dangerous places prove nothing.
        assert min(totals.sums.values()) > totals.runs // 20, totals.sums


def test_a_seed_decides_everything() -> None:
    first, again = run_seed(5), run_seed(5)
    assert first.kernel.digest() == again.kernel.digest()
    assert first.kernel.digest() != run_seed(6).kernel.digest()


def test_a_run_that_fails_says_how_to_have_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    without_enough_receipts(monkeypatch)
    with pytest.raises(Violation, match=r"(?s)^seed \d+: I1: .*(crash|swap|rot).*DFS_SIM_SEED=\d+$"):
        run_many(range(COUNTER_SEEDS), DISKS)


# --- rules taken away -------------------------------------------------------------------------------------------


def without_age_check(patch: pytest.MonkeyPatch) -> None:  # F93
    patch.setattr(introduction, "check_age", lambda *_, **__: None)


def without_tombstones_for_unknown_chunks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(garbage, "bury_unknown", lambda *_, **__: True)


def without_asking_who_is_in_service(patch: pytest.MonkeyPatch) -> None:  # F98
    patch.setattr(ClusterView, "in_service", lambda *_: True)


def without_enough_receipts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(introduction, "require_enough", lambda *_, **__: None)


def without_looking_for_the_result(patch: pytest.MonkeyPatch) -> None:  # F21 F22
    patch.setattr(oplog, "result_of", lambda *_: None)


def without_the_age_of_a_scan(patch: pytest.MonkeyPatch) -> None:  # F62
    patch.setattr(report, "may_drop_row", lambda *, volume, volumes_scanned, **_: volume in volumes_scanned)


def without_epochs_at_datanodes(patch: pytest.MonkeyPatch) -> None:  # F78
    heard = Membership.heard
    patch.setattr(Membership, "heard", lambda self, answer: heard(self, answer) or True)


def without_epochs_in_the_store(patch: pytest.MonkeyPatch) -> None:  # F78
    async def write(self: Leader, work: Any) -> Any:
        return await self._store.write(work)

    patch.setattr(Leader, "write", write)


def without_incarnations(patch: pytest.MonkeyPatch) -> None:  # F48
    life = Liveness.life

    class Any_:  # noqa: N801
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    def any_life(self: Liveness, datanode: str) -> Any:
        found = life(self, datanode)
        return None if found is None else (Any_(), Any_(), found[2])

    patch.setattr(Liveness, "life", any_life)
    patch.setattr(datanodes, "require_life", lambda *_: None)


def without_noticing_the_dead(patch: pytest.MonkeyPatch) -> None:  # F54
    async def turn(self: Watch) -> None:
        pass

    patch.setattr(Watch, "turn", turn)


def without_making_work(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(work, "look_at", lambda *_, **__: None)


def without_counting_what_has_left(patch: pytest.MonkeyPatch) -> None:  # F100
    patch.setattr(compaction, "leave", lambda *_, **__: [])


@pytest.mark.parametrize(
    ("take_away", "profile", "begin", "found"),
    [
        (without_age_check, DAYS, 340, "I4: .* had a tombstone, and is committed|F92"),
        (without_tombstones_for_unknown_chunks, DAYS, 0, "I4: .* has no tombstone"),
        (without_asking_who_is_in_service, DISKS, 0, "I1: .* is committed with"),
        (without_enough_receipts, DISKS, 0, "I1: .* is committed with"),
        (without_looking_for_the_result, EVERYTHING, 0, "I6|fails inside"),
        (without_the_age_of_a_scan, EVERYTHING, 0, "F62"),
        (without_epochs_at_datanodes, LEADERS, 0, "I7: .* follows epoch"),
        (without_epochs_in_the_store, LEADERS, 0, "I7: the leader with the epoch"),
        (without_incarnations, EVERYTHING, 108, "I7: .* of an earlier life"),
        (without_making_work, DISKS, 0, "I8: .* of [23] replicas"),
        (without_noticing_the_dead, LEADERS, 0, "I8: .* of [23] replicas"),
        (without_counting_what_has_left, DISKS, 0, "the references of"),
    ],
)
def test_the_simulation_finds_what_each_rule_is_for(
    monkeypatch: pytest.MonkeyPatch,
    take_away: Callable[[pytest.MonkeyPatch], None],
    profile: int,
    begin: int,
    found: str,
) -> None:
    take_away(monkeypatch)
    with pytest.raises(Violation, match=found):
        run_many(range(begin, begin + COUNTER_SEEDS), profile)
