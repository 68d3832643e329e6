"""Calls to the namenode: several URLs, repetition, operation ids.

Separate because who answers, how often to ask again and what an unanswered commit means must be the same for every
operation. Errors that another attempt could mend are dealt with here and nowhere else; what leaves this module is
final. Op ids are minted from the namenode's time, as a namenode refuses those that look old.

A refusal proves nothing about an earlier attempt of the same operation that was never answered: it may still be on
its way, held up in the network, and be executed after whatever made the namenode refuse has passed. A refusal is not
kept under the op id, so the id is spent on something that has no effect (`Namenodes._settle`), before the
refusal is believed: from then on, whatever arrives under it is a mismatch. Who sends a refused append again, under a
new op id, would append it twice otherwise.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

import msgspec

from dfs.protocol.clock import Clock, PeerClock
from dfs.protocol.errors import (
    BadAnswer,
    DfsError,
    NotSent,
    OperationExpired,
    OperationMismatch,
    OutcomeUnknown,
    PeerError,
    StateError,
    Unavailable,
)
from dfs.protocol.ids import new_id
from dfs.protocol.messages import ClusterFacts, Commit, Empty
from dfs.protocol.operations import CLUSTER, COMMIT, Operation
from dfs.recovery import backoff_s, may_repeat

Q = TypeVar("Q")
A = TypeVar("A")


class HasEffect(Protocol):
    """A request that changes something: its op id makes that happen once."""

    @property
    def op_id(self) -> str: ...


Effect = TypeVar("Effect", bound=HasEffect)

_QUOTED_CHARACTERS = 60
"""Of an answer that can't be understood: enough to recognise who gave it."""
FIRST_PATIENCE_S = 1.5
"""How long a namenode that never answered this client is asked again: the address is probably wrong."""
PATIENCE_S = 30.0
"""How long one that did answer is asked again: it is probably being restarted."""


class Caller(Protocol):
    """The part of the transport that is used here."""

    def call(self, base_url: str, operation: Operation[Q, A], request: Q, *, timeout_s: float | None = None) -> A: ...


class Namenodes:
    """The namenodes of one cluster, as one that answers. Usable from several threads and after a fork."""

    def __init__(
        self,
        urls: Sequence[str],
        caller: Caller,
        *,
        clock: Clock,
        rng: random.Random,
        wait: Callable[[float], None] = time.sleep,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.urls = tuple(urls)
        self._caller = caller
        self._clock = clock
        self._rng = rng
        self._wait = wait
        self._patience_s = patience_s
        self._preferred = 0
        self._answered = False
        self._facts: ClusterFacts | None = None
        self._peer_clock = PeerClock(clock)
        self._lock = threading.Lock()

    def call(self, operation: Operation[Q, A], request: Q) -> A:
        """Make the call, at whichever namenode answers.

        Raises  the namenode's error; NotSent: none could be reached, nothing happened; OutcomeUnknown: it may have
                happened, or may still happen, and no namenode can say so now
        """
        try:
            return self._call(operation, request)
        except _RefusedInDoubt as refused:
            return self._settle(operation, request, refused)

    def _settle(self, operation: Operation[Q, A], request: Q, refused: "_RefusedInDoubt") -> A:
        """Make a refusal final whose first attempt was never answered; or find that this one did it after all.

        Raises  the refusal; OutcomeUnknown: the op id could not be spent
        """
        nothing = Commit(op_id=getattr(request, "op_id", ""), actions=[])
        try:
            self._call(COMMIT, nothing)
        except (DfsError, _RefusedInDoubt) as found:
            # Its own first answer may be lost, too; what the last one says of the op id is final all the same.
            spent = found.error if isinstance(found, _RefusedInDoubt) else found
        else:
            raise refused.error from refused.error.__cause__
        if isinstance(spent, OperationMismatch):
            # The first attempt arrived between the refusal and now: what it did is kept, and is the answer.
            with suppress(_RefusedInDoubt):
                return self._call(operation, request)
        raise _in_doubt(refused.doubt) from refused.error.__cause__

    def _call(self, operation: Operation[Q, A], request: Q) -> A:
        began = self._clock.monotonic_s()
        attempt = 0
        doubt: OutcomeUnknown | None = None
        while True:
            index = self._preferred
            try:
                answer = self._caller.call(self.urls[index % len(self.urls)], operation, request)
            except DfsError as error:
                if isinstance(error, OutcomeUnknown):
                    doubt = error
                attempt += 1
                elsewhere = isinstance(error, BadAnswer) and attempt < len(self.urls)
                patience_s = self._patience_s if self._answered or doubt else FIRST_PATIENCE_S
                expired = self._clock.monotonic_s() - began >= patience_s
                if not elsewhere and (expired or not may_repeat(error, idempotent=operation.idempotent)):
                    raise self._final(error, doubt, effect=hasattr(request, "op_id")) from error.__cause__
                # Another thread may have moved on already.
                if self._preferred == index and not isinstance(error, Unavailable):
                    self._preferred = (index + 1) % len(self.urls)
                if attempt % len(self.urls) == 0 or isinstance(error, Unavailable):
                    self._wait(backoff_s(attempt // len(self.urls) + 1, self._rng.random))
            else:
                self._answered = True
                return answer

    def tell(self, operation: Operation[Q, A], request: Q) -> None:
        """Make the call once, where the caller has no use for more attempts. Raises whatever it met."""
        self._caller.call(self.urls[self._preferred % len(self.urls)], operation, request)

    def _final(self, error: DfsError, doubt: OutcomeUnknown | None, *, effect: bool) -> "DfsError | _RefusedInDoubt":
        """The error to raise: one that says what the caller may believe, and what to do next.

        effect  the call would have changed something
        Returns a _RefusedInDoubt if only `_settle` can tell
        """
        where = " or ".join(self.urls)
        if doubt is not None and effect and isinstance(error, StateError | PeerError | OperationExpired):
            # Whatever the later attempts met, the first one may have done it.
            return _in_doubt(doubt)
        if doubt is not None and effect:
            return _RefusedInDoubt(error, doubt)
        if isinstance(error, BadAnswer):
            first_words = " ".join(error.message.split())[:_QUOTED_CHARACTERS]
            return BadAnswer(
                f"what answers at {where} is no dfs namenode that this client understands ({first_words}…): "
                "--namenode or DFS_NAMENODE names another one",
                **error.detail,
            )
        if not isinstance(error, NotSent | OutcomeUnknown):
            return error
        if doubt is not None:
            return OutcomeUnknown(f"{doubt.message}; is a namenode there, and well? Try again", **doubt.detail)
        return NotSent(
            f"can't reach the namenode at {where}: is it running? `dfs mini` starts a cluster; "
            "--namenode or DFS_NAMENODE names another one",
            **error.detail,
        )

    def facts(self) -> ClusterFacts:
        """Who the cluster is and what its defaults are; asked once."""
        facts = self._facts
        return self.refresh() if facts is None else facts

    def refresh(self) -> ClusterFacts:
        """Ask for the facts, and take over the namenode's time."""
        facts = self.call(CLUSTER, Empty())
        self._peer_clock.follow(facts.time_ms)
        self._facts = facts
        return facts

    def now_ms(self) -> int:
        """The namenode's time."""
        self.facts()
        return self._peer_clock.wall_ms()

    def new_id(self) -> str:
        """An id for an operation or a draft."""
        return new_id(self.now_ms())

    def perform(self, operation: Operation[Effect, A], request: Effect) -> A:
        """Make a call that has an effect, exactly once: under a new op id, repeated with it while the outcome is open.

        `request.op_id` is filled in here.
        """
        refreshed = False
        while True:
            sent: Effect = msgspec.structs.replace(request, op_id=self.new_id())  # type: ignore[type-var]
            try:
                return self.call(operation, sent)
            except OperationExpired:
                # Our idea of the namenode's time was wrong: nothing was executed. Once is enough to learn it.
                if refreshed:
                    raise
                refreshed = True
                self.refresh()


class _RefusedInDoubt(Exception):
    """A definite refusal of a repetition, while nobody knows what became of the first attempt. Never leaves `call`."""

    def __init__(self, error: DfsError, doubt: OutcomeUnknown) -> None:
        super().__init__(error)
        self.error = error
        self.doubt = doubt


def _in_doubt(doubt: OutcomeUnknown) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{doubt.message}; whether it was done is not known. Look, and repeat it if it was not", **doubt.detail
    )
