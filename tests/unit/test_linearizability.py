"""The checker of histories: what has an order is accepted, what has none is not, as trying all orders says too."""

from itertools import permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfs.testing.files_model import (
    EXISTS,
    MISSING,
    OUTDATED,
    Append,
    Done,
    FilesModel,
    List,
    Look,
    Put,
    Read,
    ReadRange,
    Remove,
    Rename,
    Together,
)
from dfs.testing.linearizability import UNKNOWN, Call, Verdict, check, partition

MODEL = FilesModel(lambda pieces, start, end: "".join(pieces)[start:end])


def calls(*rows: tuple[float, float, object, object]) -> list[Call]:
    return [Call(operation, result, began, ended) for began, ended, operation, result in rows]


def judge(*rows: tuple[float, float, object, object]) -> Verdict:
    return check(calls(*rows), MODEL)


GOOD: dict[str, list[tuple[float, float, object, object]]] = {
    "nothing": [],
    "read what was put": [(0, 1, Put("/a", ("x",)), Done(5)), (2, 3, Read("/a"), ("x",))],
    "a read that overlaps a put may see either": [
        (0, 10, Put("/a", ("x",)), Done(5)),
        (1, 2, Read("/a"), MISSING),
        (3, 4, Read("/a"), ("x",)),
    ],
    "an unknown put took effect late": [
        (0, 1, Put("/a", ("x",)), UNKNOWN),
        (2, 3, Read("/a"), MISSING),
        (4, 5, Read("/a"), ("x",)),
    ],
    "an unknown put never took effect": [(0, 1, Put("/a", ("x",)), UNKNOWN), (2, 3, Read("/a"), MISSING)],
    "a rename moves content and version": [
        (0, 1, Put("/a", ("x",)), Done(5)),
        (2, 3, Rename("/a", "/b"), Done()),
        (4, 5, Look("/b"), 5),
        (4, 5, Read("/a"), MISSING),
    ],
    "the loser of a compare-and-swap": [
        (0, 1, Put("/a", ("x",)), Done(5)),
        (2, 9, Put("/a", ("y",), if_version=5), Done(6)),
        (2, 9, Put("/a", ("z",), if_version=5), OUTDATED),
        (10, 11, Read("/a"), ("y",)),
    ],
    "create only": [
        (0, 9, Put("/a", ("x",), if_version=0), EXISTS),
        (0, 9, Put("/a", ("y",), if_version=0), Done(3)),
    ],
    "a version that an unknown put left": [
        (0, 1, Put("/a", ("x",)), UNKNOWN),
        (2, 3, Look("/a"), 7),
        (4, 5, Put("/a", ("y",), if_version=7), Done(8)),
    ],
    "appends that overlap, in either order": [
        (0, 9, Append("/a", "x"), Done(1)),
        (0, 9, Append("/a", "y"), Done(2)),
        (10, 11, Read("/a"), ("y", "x")),
        (10, 11, ReadRange("/a", 1, 2), "x"),
    ],
    "a listing is one instant": [
        (0, 1, Together((Put("/a", ("x",)), Put("/b", ("y",)))), Done()),
        (2, 9, Together((Remove("/a"), Remove("/b"))), Done()),
        (2, 3, List(("/a", "/b")), frozenset({("/a", 4), ("/b", 4)})),
        (4, 5, List(("/a", "/b")), frozenset()),
    ],
    "a transaction that failed did nothing": [
        (0, 1, Put("/a", ("x",)), Done(1)),
        (2, 3, Together((Remove("/a"), Remove("/b"))), MISSING),
        (4, 5, Read("/a"), ("x",)),
    ],
}

BAD: dict[str, list[tuple[float, float, object, object]]] = {
    "a lost put": [(0, 1, Put("/a", ("x",)), Done(5)), (2, 3, Read("/a"), MISSING)],
    "a stale read": [
        (0, 1, Put("/a", ("x",)), Done(5)),
        (2, 3, Put("/a", ("y",)), Done(6)),
        (4, 5, Read("/a"), ("x",)),
    ],
    "back in time": [
        (0, 10, Put("/a", ("x",)), Done(5)),
        (1, 2, Read("/a"), ("x",)),
        (3, 4, Read("/a"), MISSING),
    ],
    "content out of nothing": [(0, 1, Read("/a"), ("x",))],
    "a removed file that rises again": [
        (0, 1, Put("/a", ("x",)), Done(5)),
        (2, 3, Remove("/a"), Done()),
        (4, 5, Read("/a"), ("x",)),
    ],
    "an unknown put that took effect twice": [
        (0, 1, Put("/a", ("x",)), UNKNOWN),
        (2, 3, Read("/a"), ("x",)),
        (4, 5, Remove("/a"), Done()),
        (6, 7, Read("/a"), ("x",)),
    ],
    "two winners of one compare-and-swap": [
        (0, 1, Put("/a", ("x",)), Done(5)),
        (2, 9, Put("/a", ("y",), if_version=5), Done(6)),
        (2, 9, Put("/a", ("z",), if_version=5), Done(7)),
    ],
    "a lost append": [
        (0, 1, Append("/a", "x"), Done(1)),
        (2, 3, Append("/a", "y"), Done(2)),
        (4, 5, Read("/a"), ("x",)),
    ],
    "half of a transaction": [
        (0, 9, Together((Put("/a", ("x",)), Put("/b", ("y",)))), Done()),
        (1, 2, Read("/a"), ("x",)),
        (3, 4, Read("/b"), MISSING),
    ],
    "a file at both ends of a rename": [
        (0, 1, Put("/a", ("x",)), Done(5)),
        (2, 9, Rename("/a", "/b"), Done()),
        (3, 4, Read("/b"), ("x",)),
        (5, 6, Read("/a"), ("x",)),
    ],
    "a rename that changed the version": [
        (0, 1, Put("/a", ("x",)), Done(5)),
        (2, 3, Rename("/a", "/b"), Done()),
        (4, 5, Look("/b"), 6),
    ],
    "a listing that mixes two instants": [
        (0, 1, Put("/a", ("x",)), Done(1)),
        (2, 9, Rename("/a", "/b"), Done()),
        (2, 9, List(("/a", "/b")), frozenset()),
    ],
}


@pytest.mark.parametrize("name", GOOD)
def test_a_history_that_has_an_order_is_accepted(name: str) -> None:
    assert judge(*GOOD[name]).linearizable


@pytest.mark.parametrize("name", BAD)
def test_a_history_without_an_order_is_refused_and_shown(name: str) -> None:
    verdict = judge(*BAD[name])
    assert not verdict.linearizable
    assert "have no order" in verdict.explain()


def test_parts_are_joined_by_operations_on_several_keys() -> None:
    history = calls(
        (0, 1, Put("/a", ("x",)), Done(1)),
        (0, 1, Put("/b", ("x",)), Done(1)),
        (0, 1, Put("/c", ("x",)), Done(1)),
        (2, 3, Rename("/a", "/b"), Done()),
    )
    assert sorted(len(part) for part in partition(history, MODEL)) == [1, 3]


def test_a_long_history_of_one_key_is_checked_quickly() -> None:
    rows: list[tuple[float, float, object, object]] = []
    pieces: tuple[str, ...] = ()
    for number in range(3000):
        at = float(number)
        if number % 3 == 0:
            pieces = (f"{number}",)
            rows.append((at, at + 1.5, Put("/a", pieces), Done(number)))
        else:
            rows.append((at + 0.6, at + 1.4, Read("/a"), pieces))
    assert judge(*rows).linearizable


# --- against all orders -----------------------------------------------------------------------------------------

PATHS = ("/a", "/b")
OPERATIONS = [
    *(Put(path, (value,)) for path in PATHS for value in "xy"),
    *(Append(path, "z") for path in PATHS),
    *(Remove(path) for path in PATHS),
    Rename("/a", "/b"),
    Rename("/b", "/a", overwrite=False),
    Together((Put("/a", ("t",)), Remove("/b"))),
    *(Read(path) for path in PATHS),
]


def has_order(history: list[Call]) -> bool:
    """The definition itself: some order of all known and some unknown operations that the model can follow."""
    known = [call for call in history if call.known]
    unknown = [call for call in history if not call.known]
    for chosen in product((False, True), repeat=len(unknown)):
        taken = known + [call for call, use in zip(unknown, chosen, strict=True) if use]
        if any(follows(order) for order in permutations(taken)):
            return True
    return False


def follows(order: tuple[Call, ...]) -> bool:
    for number, call in enumerate(order):
        if any(later.known and later.ended < call.began for later in order[number + 1 :]):
            return False
    states = {MODEL.initial()}
    for call in order:
        states = {after for state in states for after in MODEL.step(state, call.operation, call.result)}
    return bool(states)


@st.composite
def histories(draw: st.DrawFn) -> list[Call]:
    """Up to six operations on two paths; the results are often, but not always, those of some order."""
    size = draw(st.integers(1, 6))
    state = MODEL.initial()
    made = []
    for number in range(size):
        operation = draw(st.sampled_from(OPERATIONS))
        began = number + draw(st.floats(-3, 0))
        ended = max(began, number + draw(st.floats(0, 3)))
        results = [MISSING, EXISTS, Done(), ("x",), ("y",), ("z",), ("x", "z"), ("t",)]
        right = [(result, after) for result in results for after in MODEL.step(state, operation, result)]
        result: object
        result, state = draw(st.sampled_from(right or [(MISSING, state)]))
        fate = draw(st.integers(0, 9))
        if fate == 0 and not isinstance(operation, Read):
            result = UNKNOWN
        elif fate == 1:
            result = draw(st.sampled_from(results))
        made.append(Call(operation, result, began, ended))
    return made


@settings(max_examples=300, deadline=None)
@given(histories())
def test_the_search_agrees_with_trying_all_orders(history: list[Call]) -> None:
    assert check(history, MODEL).linearizable == has_order(history)
