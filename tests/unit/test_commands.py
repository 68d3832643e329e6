"""Commands on their way to datanodes (F57, F61)."""

import pytest

from dfs.protocol.messages import CheckReplica, DeleteReplicas, Replicate, Scrub, SendReport, Target
from dfs_namenode import commands
from dfs_namenode.commands import Outbox, ReportTurns
from fixtures.namenode_store import FakeClock

CHUNK = "c" * 32


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def outbox(clock: FakeClock) -> Outbox:
    return Outbox(clock, timeout_s=30)


def pull(chunk: str = CHUNK) -> Replicate:
    return Replicate(chunk=chunk, length=100, digest="d" * 32, sources=[Target("dn1", "http://dn1:1")], capability="x")


def test_a_command_leaves_once_and_is_forgotten_when_it_is_answered(outbox: Outbox) -> None:
    assert outbox.pull("dn2", pull(), source="dn1")
    assert not outbox.pull("dn2", pull(), source="dn1"), "it does so already"
    assert outbox.take("dn2") == [pull()]
    assert outbox.take("dn2") == []
    assert outbox.under_way() == {CHUNK: ["dn2"]}
    outbox.answered("dn2", "pull", CHUNK)
    assert outbox.under_way() == {}
    assert outbox.take("dn1") == []


def test_a_pull_that_is_not_answered_is_forgotten_so_that_it_is_planned_anew(outbox: Outbox, clock: FakeClock) -> None:
    outbox.pull("dn2", pull(), source="dn1")
    outbox.take("dn2")
    clock.advance(29)
    assert outbox.under_way() == {CHUNK: ["dn2"]}
    clock.advance(2)
    assert outbox.under_way() == {}


def test_a_slow_pull_is_not_given_up_while_its_datanode_says_that_it_makes_progress(
    outbox: Outbox, clock: FakeClock
) -> None:
    outbox.pull("dn2", pull(), source="dn1")
    outbox.go_on("dn2", [CHUNK])
    outbox.take("dn2")
    for _ in range(10):
        clock.advance(29)
        outbox.go_on("dn2", [CHUNK, "e" * 32])
        assert outbox.under_way() == {CHUNK: ["dn2"]}
    clock.advance(31)
    assert outbox.under_way() == {}, "it is not named any more"
    outbox.go_on("dn2", [CHUNK])
    assert outbox.under_way() == {}


def test_a_pull_that_nobody_comes_for_holds_neither_its_chunk_nor_its_source(outbox: Outbox, clock: FakeClock) -> None:
    outbox.pull("dn1", pull(), source="dn2")
    outbox.check("dn1", CheckReplica(chunk=CHUNK, length=100, digest="d" * 32))
    clock.advance(29)
    assert outbox.under_way() == {CHUNK: ["dn1"]}
    clock.advance(2)
    assert outbox.under_way() == {}
    assert outbox.streams(2).sending == {}
    assert outbox.take("dn1") == []


def test_a_deletion_is_sent_three_times_and_packed_with_others(outbox: Outbox, clock: FakeClock) -> None:
    for number in range(commands.DELETES_IN_ANSWER + 1):
        outbox.delete("dn1", f"{number:032x}")
    (first,) = outbox.take("dn1")
    (second,) = outbox.take("dn1")
    assert isinstance(first, DeleteReplicas)
    assert isinstance(second, DeleteReplicas)
    assert (len(first.chunks), len(second.chunks)) == (commands.DELETES_IN_ANSWER, 1)
    for number in range(commands.DELETES_IN_ANSWER):
        outbox.answered("dn1", "delete", f"{number:032x}")
    for _ in range(2):
        clock.advance(31)
        assert outbox.take("dn1") == [second]
    clock.advance(31)
    assert outbox.take("dn1") == []
    assert outbox.deleting("dn1") == 0


def test_a_restarted_datanode_does_not_know_what_it_was_told(outbox: Outbox) -> None:
    outbox.check("dn1", CheckReplica(chunk=CHUNK, length=1, digest="d" * 32))
    outbox.take("dn1")
    outbox.begin_life("dn1")
    assert not any(outbox.statistics().values())


def test_a_failed_pull_is_avoided_for_a_while_and_so_is_a_datanode_that_is_about_to_delete(
    outbox: Outbox, clock: FakeClock
) -> None:
    assert outbox.pull_failed("dn2", CHUNK) == 1
    assert outbox.pull_failed("dn2", CHUNK) == 2
    outbox.delete("dn3", CHUNK)
    assert outbox.avoid([CHUNK, "e" * 32]) == {CHUNK: {"dn2", "dn3"}}
    clock.advance(commands.AVOID_S + 1)
    assert outbox.avoid([CHUNK]) == {CHUNK: {"dn3"}}


def test_a_report_from_before_a_deletion_does_not_bring_the_replica_back(outbox: Outbox) -> None:
    assert outbox.may_adopt("dn1", CHUNK, as_of=5)
    outbox.delete("dn1", CHUNK)
    assert not outbox.may_adopt("dn1", CHUNK, as_of=100)
    outbox.answered("dn1", "delete", CHUNK)
    outbox.was_deleted("dn1", CHUNK, seq=10)
    assert not outbox.may_adopt("dn1", CHUNK, as_of=9)
    assert outbox.may_adopt("dn1", CHUNK, as_of=10)


def test_a_scrub_that_is_asked_for_again_is_told_again_since_more_may_have_rotted(outbox: Outbox) -> None:
    assert outbox.scrub("a")
    assert not outbox.scrub("a"), "one waits already"
    assert outbox.take("a") == [Scrub()]
    assert outbox.scrub("a")
    assert outbox.take("a") == [Scrub()]
    assert outbox.take("a") == []
    assert outbox.outcomes == {("scrub", "done"): 2}, "nobody waits for an answer that never comes"


def test_the_outbox_of_a_datanode_is_bounded(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "WAITING_MAX", 3)
    assert [outbox.delete("dn1", f"{number:032x}") for number in range(5)] == [True] * 3 + [False] * 2


def test_reports_are_asked_of_few_datanodes_at_a_time_and_again_if_none_comes(clock: FakeClock) -> None:  # F61
    turns = ReportTurns(clock, at_once=2, timeout_s=600)
    for name in ("dn1", "dn2", "dn3"):
        turns.want(name)
    asked = [name for name in ("dn1", "dn2", "dn3") if turns.take(name) == [SendReport()]]
    assert asked == ["dn1", "dn2"]
    assert turns.take("dn1") == []
    turns.finished("dn1")
    assert turns.take("dn3") == [SendReport()]
    assert turns.waiting() == 2
    clock.advance(601)
    assert turns.take("dn2") == [SendReport()]


def test_deletions_are_counted_without_looking_at_each(outbox: Outbox, clock: FakeClock) -> None:
    for number in range(4):
        assert outbox.delete("dn1", f"{number:032x}")
    assert not outbox.delete("dn1", "0" * 32)
    outbox.pull("dn1", pull(), source="dn2")
    assert (outbox.deleting("dn1"), outbox.deleting("dn2")) == (4, 0)
    outbox.answered("dn1", "delete", "0" * 32)
    outbox.answered("dn1", "delete", "0" * 32)
    outbox.answered("dn1", "pull", CHUNK)
    assert outbox.deleting("dn1") == 3
    for _ in range(4):
        outbox.take("dn1")
        clock.advance(31)
    outbox.take("dn1")
    assert outbox.deleting("dn1") == 0, "given up after three attempts"
    outbox.delete("dn1", CHUNK)
    outbox.begin_life("dn1")
    assert outbox.deleting("dn1") == 0


def from_two(chunk: str = CHUNK) -> Replicate:
    sources = [Target("dn1", "http://dn1:1"), Target("dn3", "http://dn3:1")]
    return Replicate(chunk=chunk, length=100, digest="d" * 32, sources=sources, capability="x")


@pytest.mark.parametrize("fetched", [False, True])
def test_what_a_silent_datanode_was_told_is_not_waited_for(outbox: Outbox, fetched: bool) -> None:  # F68
    outbox.pull("dn2", pull(), source="dn1")
    outbox.check("dn2", CheckReplica(chunk=CHUNK, length=1, digest="d" * 32))
    outbox.delete("dn2", "e" * 32)
    outbox.pull("dn4", pull("e" * 32), source="dn1")
    if fetched:
        outbox.take("dn2")
    outbox.forget_silent(silent={"dn2"}, dead=())
    assert outbox.under_way() == {"e" * 32: ["dn4"]}
    assert outbox.checking("dn2") == 0
    assert outbox.deleting("dn2") == 1, "a stale one may come back without a report that asks for the deletion again"
    outbox.forget_silent(silent={"dn2"}, dead={"dn2"})
    assert outbox.deleting("dn2") == 0


def test_a_pull_from_a_silent_source_is_planned_anew_unless_it_goes_on_from_another(outbox: Outbox) -> None:  # F68
    outbox.pull("dn2", pull(), source="dn1")
    outbox.pull("dn2", from_two("a" * 32), source="dn1")
    outbox.take("dn2")
    outbox.pull("dn2", from_two("b" * 32), source="dn1")
    outbox.pull("dn4", from_two("f" * 32), source="dn3")
    outbox.forget_silent(silent={"dn1"}, dead=())
    assert outbox.under_way() == {"a" * 32: ["dn2"], "f" * 32: ["dn4"]}
    assert outbox.streams(2).sending == {"dn3": [100, 100]}, "the load is where the pull goes on"


def test_a_report_that_is_on_its_way_is_not_asked_for_again(clock: FakeClock) -> None:
    turns = ReportTurns(clock, at_once=1)
    turns.want_soon("dn1")
    assert turns.take("dn1") == [SendReport()]
    turns.want_soon("dn1")
    assert turns.take("dn1") == []
    assert turns.finished_s("dn1") is None
    clock.advance(5)
    turns.finished("dn1")
    assert turns.finished_s("dn1") == clock.monotonic_s()
    turns.want("dn1")
    assert turns.finished_s("dn1") is None, "it began a new life: what was reported before is not of this one"
