"""What to do after a call ended this way or that. Pure: no clock, no network; the callers perform the verdicts.

Separate because these few rules decide whether a failing datanode is noticed by anybody, and because they can be
tested as tables. A chunk that did not get enough receipts is never repaired or sent again under its id: the next
attempt has a new one, and excludes only those that were to blame.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dfs.protocol.errors import (
    BadAnswer,
    ChunkExists,
    CorruptReplica,
    DfsError,
    DigestMismatch,
    NoSpace,
    NotPermitted,
    NotSent,
    OutcomeUnknown,
    PeerError,
    RangeNotSatisfiable,
    ReplicaNotFound,
    RequestError,
    StateError,
    Unavailable,
)
from dfs.protocol.messages import StoredChunk

ATTEMPTS_MAX = 3
"""Grants that are spent on one chunk, and rounds over the replicas of one, before it is given up."""
MISMATCHES_MAX = 2
"""Times that a chunk may arrive with a wrong digest: the first is a bad wire, the second our own memory or code."""


def backoff_s(attempt: int, uniform: Callable[[], float], *, base_s: float = 0.1, most_s: float = 2.0) -> float:
    """How long to wait before attempt number `attempt` (1 is the first repetition): exponential, with full jitter.

    uniform  gives a number in [0, 1); full jitter keeps many clients from coming back at the same moment
    """
    return float(uniform() * min(most_s, base_s * 2.0 ** min(attempt, 16)))


# --- after the PUT of a chunk -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Try:
    """One PUT: to `chain[hop]`, with the grant number `grants` (from 1), after `mismatches` wrong digests."""

    chain: tuple[str, ...]
    hop: int
    write_min: int
    grants: int = 1
    mismatches: int = 0


@dataclass(frozen=True)
class Keep:
    """Enough replicas are durable."""

    receipts: tuple[str, ...]
    suspects: frozenset[str] = frozenset()


@dataclass(frozen=True)
class NextHop:
    """Nothing of the chunk was sent: go on with the next member of the same chain."""

    hop: int
    suspects: frozenset[str]


@dataclass(frozen=True)
class NewGrant:
    """This chunk id is spent: ask for another one, without these datanodes."""

    suspects: frozenset[str] = frozenset()
    why: str = ""


@dataclass(frozen=True)
class GiveUp:
    error: DfsError


Verdict = Keep | NextHop | NewGrant | GiveUp


def after_put(tried: Try, result: StoredChunk | DfsError) -> Verdict:
    """Decide what follows a PUT that ended with `result`.

    A refused connection costs nothing: the next member of the chain takes over under the same capability, as long as
    enough members are left. Whatever breaks later spends the chunk id.
    """
    head = tried.chain[tried.hop]
    if isinstance(result, StoredChunk):
        culprits = frozenset(failed.datanode for failed in result.failed if failed.culprit)
        if len(result.receipts) >= tried.write_min:
            return Keep(tuple(result.receipts), culprits)
        blamed = ", ".join(f"{failed.datanode} ({failed.why})" for failed in result.failed if failed.culprit)
        verdict = NewGrant(
            culprits, f"only {len(result.receipts)} of {tried.write_min} replicas were stored; failed: {blamed or '?'}"
        )
    elif isinstance(result, NotSent):
        before = frozenset(tried.chain[: tried.hop + 1])
        if len(tried.chain) - tried.hop - 1 >= tried.write_min:
            return NextHop(tried.hop + 1, before)
        verdict = NewGrant(before, result.message)
    elif isinstance(result, DigestMismatch):
        if tried.mismatches + 1 >= MISMATCHES_MAX:
            return GiveUp(result)
        verdict = NewGrant(why=result.message)
    elif isinstance(result, ChunkExists | NotPermitted):
        # An id that was used, or a grant that lay about for too long: nobody is to blame.
        verdict = NewGrant(why=result.message)
    elif isinstance(result, PeerError | NoSpace | StateError):
        verdict = NewGrant(frozenset({head}), result.message)
    else:
        return GiveUp(result)
    return verdict if tried.grants < ATTEMPTS_MAX else give_up(verdict, result)


def give_up(verdict: NewGrant, result: StoredChunk | DfsError) -> GiveUp:
    """What to raise where another grant is called for and none is asked for any more.

    A chunk that nobody has committed is nothing: how its PUT ended may be unknown, but what it means is not.
    """
    if isinstance(result, DfsError) and not isinstance(result, PeerError):
        return GiveUp(result)
    return GiveUp(
        Unavailable(
            f"a chunk could not be stored ({verdict.why}); nothing of it counts: try again, and see `dfs status`"
        )
    )


# --- after the GET of a piece -----------------------------------------------------------------------------------

AfterGet = Literal["elsewhere", "suspect", "bad", "absent", "renew", "raise"]


def after_get(error: DfsError) -> AfterGet:
    """What a failed read of a replica means.

    elsewhere  this datanode can't now: another replica
    suspect    the datanode does not answer: another replica, and this datanode last for a while
    bad        the replica is wrong: another replica, and tell the namenode
    absent     the replica is not there: likewise
    renew      the capability no longer counts: locate the content again
    raise      no other replica will help
    """
    if isinstance(error, NotPermitted):
        return "renew"
    if isinstance(error, CorruptReplica | DigestMismatch | RangeNotSatisfiable):
        return "bad"
    if isinstance(error, ReplicaNotFound):
        return "absent"
    if isinstance(error, NotSent | OutcomeUnknown | BadAnswer):
        return "suspect"
    if isinstance(error, StateError):
        return "elsewhere"
    return "raise" if isinstance(error, RequestError) else "elsewhere"


# --- after a call of a namenode ---------------------------------------------------------------------------------


def may_repeat(error: DfsError, *, idempotent: bool) -> bool:
    """Whether the same call may be made again, here or at another namenode, and could then succeed."""
    if isinstance(error, OutcomeUnknown):
        return idempotent
    return isinstance(error, NotSent | Unavailable)
