"""Did a history of concurrent operations happen in some order at all? A checker after Wing & Gong and Lowe. Pure.

A history is linearizable if every operation can be given one instant between its call and its return, so that the
operations, in the order of these instants, do what the model says. The search takes the operations that may come next
(no other one has returned before they were called), tries each, and remembers where it has been.

    parts       keys that no operation joins are searched each by itself; the cost is exponential only within one part
    unknown     an operation without a known outcome may take effect at any time after its call, or never
    harmless    an operation that only looks (or failed) and may come next is taken at once: no order with it later can
                do what one with it now can't

Separate from `files_model`, which says what operations on files do; any other model will do.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

UNKNOWN = object()
"""The result of an operation of which nobody can say what became of it."""
STEPS_MAX = 2_000_000
"""Tries for one part, after which it counts as undecided."""


@dataclass(frozen=True)
class Call:
    """One operation of a history.

    operation  what was asked; of the model's own kind
    result     what came back, or UNKNOWN
    began      when it was called, by one clock for the whole history
    ended      when it returned; nothing is made of it for UNKNOWN
    """

    operation: Any
    result: Any
    began: float
    ended: float

    @property
    def known(self) -> bool:
        return self.result is not UNKNOWN


class Model(Protocol):
    """What operations do, one after the other. States are hashable and never changed."""

    def keys(self, operation: Any) -> Iterable[Hashable]:
        """What the operation reads or changes: at least one key."""
        ...

    def initial(self) -> Hashable:
        """The state in which a part of the history begins."""
        ...

    def step(self, state: Any, operation: Any, result: Any) -> Iterable[Hashable]:
        """The states in which the operation may leave this one with that result; none: it can't have that result.

        For UNKNOWN: all in which it may leave it. "It did nothing" need not be among them.
        """
        ...

    def only_looked(self, operation: Any, result: Any) -> bool:
        """Whether an operation with that result changes nothing, in whatever state."""
        ...


@dataclass(frozen=True)
class Verdict:
    """What the search found.

    decided    False: a part was given up after STEPS_MAX tries
    operations how many were checked
    stuck      of each part that can't be explained: its operations in the order of their calls, from the last one
               before which all is well
    """

    operations: int
    parts: int
    undecided: int = 0
    stuck: tuple[tuple[Call, ...], ...] = ()

    @property
    def linearizable(self) -> bool:
        return not self.stuck and not self.undecided

    def explain(self) -> str:
        """For people: the first part that can't be explained."""
        if not self.stuck:
            return f"{self.operations} operations in {self.parts} parts, {self.undecided} undecided"
        lines = [
            f"  {call.began:.6f} to {call.ended if call.known else float('inf'):.6f}: {call.operation} -> "
            f"{call.result if call.known else 'unknown'}"
            for call in self.stuck[0][:30]
        ]
        return "\n".join([f"{len(self.stuck)} of {self.parts} parts have no order; the first from:", *lines])


def check(history: Iterable[Call], model: Model, *, steps_max: int = STEPS_MAX) -> Verdict:
    """Look for an order of each part of the history."""
    calls = list(history)
    parts = partition(calls, model)
    stuck: list[tuple[Call, ...]] = []
    undecided = 0
    for members in parts:
        search = _Search(members, model, model.initial(), steps_max)
        found = search.run()
        if found is None:
            undecided += 1
        elif not found:
            first = min((call.began for call in search.left_over()), default=0.0)
            stuck.append(tuple(call for call in sorted(members, key=lambda call: call.began) if call.ended >= first))
    return Verdict(len(calls), len(parts), undecided, tuple(stuck))


def partition(calls: Sequence[Call], model: Model) -> list[list[Call]]:
    """The history in parts that share no key."""
    leader: dict[Hashable, Hashable] = {}

    def find(key: Hashable) -> Hashable:
        while leader.setdefault(key, key) != key:
            leader[key] = leader[leader[key]]
            key = leader[key]
        return key

    firsts: list[Hashable] = []
    for call in calls:
        keys = list(model.keys(call.operation))
        assert keys, f"{call.operation} has no key"
        firsts.append(keys[0])
        for key in keys:
            leader[find(key)] = find(keys[0])
    members: dict[Hashable, list[Call]] = {}
    for call, first in zip(calls, firsts, strict=True):
        members.setdefault(find(first), []).append(call)
    return list(members.values())


@dataclass(frozen=True)
class _Place:
    """Where the search is.

    front    all known operations before this one have been taken
    taken    bit k: the known operation number front + k has been taken as well
    guessed  bit k: the unknown operation number k has been taken
    """

    front: int
    taken: int
    guessed: int
    state: Hashable


class _Search:
    """The search for an order of one part."""

    def __init__(self, calls: Sequence[Call], model: Model, initial: Hashable, steps_max: int) -> None:
        self._known = sorted((call for call in calls if call.known), key=lambda call: call.began)
        self._unknown = sorted((call for call in calls if not call.known), key=lambda call: call.began)
        self._model = model
        self._start = _Place(0, 0, 0, initial)
        self._steps_left = steps_max
        self._best = self._start

    def run(self) -> bool | None:
        """Whether there is an order; None: given up."""
        seen = {self._start}
        ways = [self._next(self._start)]
        while ways:
            place = next(ways[-1], None)
            if place is None:
                ways.pop()
                continue
            self._steps_left -= 1
            if self._steps_left < 0:
                return None
            if place in seen:
                continue
            seen.add(place)
            if place.front > self._best.front:
                self._best = place
            if place.front == len(self._known):
                return True
            ways.append(self._next(place))
        return not self._known

    def left_over(self) -> list[Call]:
        """The known operations that the best attempt could not take."""
        place = self._best
        return [call for number, call in enumerate(self._known[place.front :]) if not place.taken >> number & 1]

    def _next(self, place: _Place) -> Iterator[_Place]:
        """The places to which one more operation leads; only one if that is harmless."""
        candidates, horizon = self._candidates(place)
        changing: list[tuple[int, list[Hashable]]] = []
        for number in candidates:
            call = self._known[place.front + number]
            states = list(self._model.step(place.state, call.operation, call.result))
            if states == [place.state] and self._model.only_looked(call.operation, call.result):
                yield self._take(place, number, place.state)
                return
            changing.append((number, states))
        for number, states in changing:
            for state in states:
                yield self._take(place, number, state)
        for number, call in enumerate(self._unknown):
            if call.began > horizon:
                break
            if not place.guessed >> number & 1:
                for state in self._model.step(place.state, call.operation, UNKNOWN):
                    if state != place.state:
                        yield _Place(place.front, place.taken, place.guessed | 1 << number, state)

    def _candidates(self, place: _Place) -> tuple[list[int], float]:
        """The known operations that may come next, and the time by which the next one must have been called."""
        found: list[tuple[float, int]] = []
        horizon = float("inf")
        number, taken = 0, place.taken
        for call in self._known[place.front : place.front + taken.bit_length()] if taken else ():
            if call.began > horizon:
                break
            if not taken >> number & 1:
                found.append((call.began, number))
                horizon = min(horizon, call.ended)
            number += 1
        index = place.front + number
        while index < len(self._known) and self._known[index].began <= horizon:
            found.append((self._known[index].began, index - place.front))
            horizon = min(horizon, self._known[index].ended)
            index += 1
        return [number for began, number in found if began <= horizon], horizon

    def _take(self, place: _Place, number: int, state: Hashable) -> _Place:
        taken = place.taken | 1 << number
        front = place.front
        while taken & 1:
            taken >>= 1
            front += 1
        return _Place(front, taken, place.guessed, state)
