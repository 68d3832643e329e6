"""What the client decides after a call: tables, no I/O."""

import random

import pytest

from dfs.protocol import errors as e
from dfs.protocol.messages import FailedHop, StoredChunk
from dfs.recovery import ATTEMPTS_MAX, GiveUp, Keep, NewGrant, NextHop, Try, after_get, after_put, backoff_s, may_repeat

CHAIN = ("a", "b", "c")


def stored(*receipts: str, failed: tuple[FailedHop, ...] = ()) -> StoredChunk:
    return StoredChunk(receipts=list(receipts), failed=list(failed))


def test_enough_receipts_are_kept_and_only_the_culprit_is_suspected() -> None:
    answer = stored("r1", "r2", failed=(FailedHop("c", "died"),))
    assert after_put(Try(CHAIN, 0, 2), answer) == Keep(("r1", "r2"), frozenset({"c"}))


def test_too_few_receipts_need_a_new_grant_without_the_culprit_but_with_those_behind_it() -> None:
    # F3
    answer = stored("r1", failed=(FailedHop("b", "died"), FailedHop("c", "behind b", culprit=False)))
    verdict = after_put(Try(CHAIN, 0, 2), answer)
    assert isinstance(verdict, NewGrant)
    assert verdict.suspects == {"b"}


def test_a_refused_head_hands_over_to_the_next_member_of_the_chain() -> None:
    # F1
    assert after_put(Try(CHAIN, 0, 2), e.NotSent("refused")) == NextHop(1, frozenset({"a"}))


def test_a_chain_with_too_few_members_left_is_given_up_for_a_new_grant() -> None:
    verdict = after_put(Try(CHAIN, 1, 2), e.NotSent("refused"))
    assert isinstance(verdict, NewGrant)
    assert verdict.suspects == {"a", "b"}


@pytest.mark.parametrize(
    "error", [e.OutcomeUnknown("broke"), e.NoSpace("full"), e.Unavailable("busy"), e.BadAnswer("what?")]
)
def test_a_failing_head_is_the_only_one_that_is_excluded(error: e.DfsError) -> None:
    # F2, F6, F33
    verdict = after_put(Try(CHAIN, 0, 2), error)
    assert isinstance(verdict, NewGrant)
    assert verdict.suspects == {"a"}


@pytest.mark.parametrize("error", [e.ChunkExists("used"), e.NotPermitted("expired"), e.DigestMismatch("block 3")])
def test_nobody_is_blamed_for_an_id_that_is_spent_or_a_wire_that_flipped_a_bit(error: e.DfsError) -> None:
    verdict = after_put(Try(CHAIN, 0, 2), error)
    assert isinstance(verdict, NewGrant)
    assert not verdict.suspects


def test_a_second_wrong_digest_is_an_error() -> None:
    # F12
    error = e.DigestMismatch("block 3")
    assert after_put(Try(CHAIN, 0, 2, grants=2, mismatches=1), error) == GiveUp(error)


def test_the_last_attempt_gives_up_with_the_error_or_with_what_is_missing() -> None:
    error = e.NoSpace("full")
    assert after_put(Try(CHAIN, 0, 2, grants=ATTEMPTS_MAX), error) == GiveUp(error)
    verdict = after_put(Try(CHAIN, 0, 2, grants=ATTEMPTS_MAX), stored("r1", failed=(FailedHop("b", "died"),)))
    assert isinstance(verdict, GiveUp)
    assert isinstance(verdict.error, e.Unavailable)
    assert "b (died)" in verdict.error.message


@pytest.mark.parametrize("error", [e.OutcomeUnknown("broke"), e.BadAnswer("what?"), e.NotSent("refused")])
def test_a_chunk_that_was_given_up_is_not_an_unknown_outcome(error: e.DfsError) -> None:
    verdict = after_put(Try(CHAIN, 2, 2, grants=ATTEMPTS_MAX), error)
    assert isinstance(verdict, GiveUp)
    assert isinstance(verdict.error, e.Unavailable)
    assert verdict.error.exit_code == 5
    assert error.message in verdict.error.message
    assert "nothing of it counts" in verdict.error.message


def test_a_request_that_is_wrong_is_not_repeated() -> None:
    error = e.InvalidRequest("a bug of ours")
    assert after_put(Try(CHAIN, 0, 2), error) == GiveUp(error)


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (e.NotSent("x"), "suspect"),
        (e.OutcomeUnknown("x"), "suspect"),
        (e.CorruptReplica("x"), "bad"),
        (e.RangeNotSatisfiable("x"), "bad"),
        (e.ReplicaNotFound("x"), "absent"),
        (e.NotPermitted("x"), "renew"),
        (e.Unavailable("x"), "elsewhere"),
        (e.InvalidRequest("x"), "raise"),
    ],
)
def test_each_failed_read_means_one_thing(error: e.DfsError, meaning: str) -> None:
    assert after_get(error) == meaning


def test_only_idempotent_calls_are_repeated_when_their_outcome_is_unknown() -> None:
    assert may_repeat(e.OutcomeUnknown("x"), idempotent=True)
    assert not may_repeat(e.OutcomeUnknown("x"), idempotent=False)
    assert may_repeat(e.NotSent("x"), idempotent=False)
    assert not may_repeat(e.FileNotFound("x"), idempotent=True)


def test_waiting_times_grow_and_have_full_jitter_below_a_limit() -> None:
    assert [backoff_s(n, lambda: 1.0) for n in (1, 2, 3)] == [0.2, 0.4, 0.8]
    assert backoff_s(100, lambda: 1.0) == 2.0
    rng = random.Random(3)
    waits = [backoff_s(3, rng.random) for _ in range(100)]
    assert 0 <= min(waits) < 0.1
    assert 0.7 < max(waits) <= 0.8
