"""What a sync decides, without a cluster or a disk."""

from collections.abc import Callable
from typing import Any

import pytest

from dfs.selection import Selection
from dfs.sync_plan import Listing, Rules, Step, Thing, plan, same_time

DIRECTORY = Thing("directory")
Tree = dict[str, Any]


def file(size: int = 1, mtime_ns: int = 1_500_000_001) -> Thing:
    return Thing("file", size, mtime_ns)


def lister(tree: Tree) -> Callable[[str], Listing]:
    """`{"a": file(), "d": {...}}` as the listings of a tree."""

    def listing(path: str) -> Listing:
        here: Any = tree
        for name in path.split("/") if path else ():
            here = here[name]
        if isinstance(here, OSError):
            raise here
        return {name: thing if isinstance(thing, Thing) else DIRECTORY for name, thing in here.items()}

    return listing


def steps(source: Tree, target: Tree, **rules: Any) -> list[tuple[str, str]]:
    return [(step.action, step.path) for step in plan(lister(source), lister(target), Rules(**rules))]


def test_what_is_missing_or_differs_is_copied_and_the_rest_is_left_alone() -> None:
    source = {"a": file(), "b": file(2), "c": file(1, 5_000_000_123), "new": file(), "d": {"x": file()}}
    target = {"a": file(), "b": file(3), "c": file(), "d": {"x": file()}, "extra": file()}
    assert steps(source, target) == [("copy", "b"), ("copy", "c"), ("copy", "new")]


def test_directories_are_made_before_what_is_in_them_and_empty_ones_too() -> None:
    source = {"d": {"e": {}, "x": file()}}
    assert steps(source, {}) == [("make", "d"), ("make", "d/e"), ("copy", "d/x")]
    only = Selection(include=["x"])
    assert steps(source, {}, selection=only) == [("copy", "d/x")]


def test_nothing_is_deleted_unless_asked_for() -> None:
    assert steps({}, {"a": file(), "d": {"x": file()}}) == []
    assert steps({}, {"a": file(), "d": {"x": file()}}, delete=True) == [("delete", "a"), ("delete", "d")]


def test_what_the_patterns_leave_out_is_neither_copied_nor_deleted() -> None:
    target = {"gone": {"keep.log": file(), "x": file()}, "y.log": file()}
    rules = {"delete": True, "selection": Selection(exclude=["*.log"])}
    assert steps({"z.log": file()}, target, **rules) == [("delete", "gone/x"), ("prune", "gone")]


def test_pruning_comes_last_and_from_below() -> None:
    rules = {"delete": True, "selection": Selection(exclude=["q"])}
    assert steps({}, {"a": {"b": {"x": file()}}}, **rules) == [("delete", "a/b/x"), ("prune", "a/b"), ("prune", "a")]


def test_a_file_where_a_directory_is_waits_for_delete() -> None:
    source, target = {"a": file(), "b": {"x": file()}}, {"a": {"y": file()}, "b": file()}
    assert steps(source, target) == [("clash", "a"), ("clash", "b")]
    done = list(plan(lister(source), lister(target), Rules(delete=True)))
    assert [(step.action, step.path, step.now) for step in done] == [
        ("delete", "a", True),
        ("copy", "a", False),
        ("delete", "b", True),
        ("make", "b", False),
        ("copy", "b/x", False),
    ]


def test_a_directory_is_not_replaced_while_something_is_in_it_that_the_patterns_leave_out() -> None:
    rules = {"delete": True, "selection": Selection(exclude=["*.log"])}
    source = {"a": file()}
    assert steps(source, {"a": {"b": {"keep.log": file()}}}, **rules) == [("clash", "a")]
    assert steps(source, {"a": {"b": {"x": file()}}}, **rules) == [("delete", "a"), ("copy", "a")]
    assert steps(source, {"a": {"b": PermissionError(13, "no")}}, **rules) == [("clash", "a")]


def test_a_link_in_the_target_is_never_gone_through() -> None:
    target = {"d": Thing("other")}
    assert steps({"d": {"x": file()}}, target) == [("clash", "d")]


def test_what_can_not_be_read_is_named_and_nothing_of_it_is_deleted() -> None:
    source = {"d": PermissionError(13, "no"), "link": Thing("other", error=ValueError("a link"))}
    target = {"d": {"x": file()}, "link": file()}
    found = list(plan(lister(source), lister(target), Rules(delete=True)))
    assert [(step.action, step.path) for step in found] == [("refuse", "link"), ("refuse", "d")]


def test_digests_decide_instead_of_times_and_then_only_the_time_is_set() -> None:
    source, target = {"a": file(1, 9_000_000_123), "b": file(), "c": file(2)}, {"a": file(), "b": file(), "c": file()}
    asked: list[str] = []

    def same(path: str) -> bool:
        asked.append(path)
        return path == "a"

    assert steps(source, target, same=same) == [("time", "a"), ("copy", "b"), ("copy", "c")]
    assert asked == ["a", "b"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (5_123_456_789, 5_123_456_789, True),
        (5_123_456_700, 5_123_456_789, True),
        (5_123_450_000, 5_123_456_789, False),
        (5_000_000_000, 5_123_456_789, True),
        (5_999_999_999, 6_000_000_000, False),
    ],
)
def test_times_are_compared_as_exactly_as_both_sides_keep_them(one: int, other: int, same: bool) -> None:
    assert same_time(one, other) is same
    assert same_time(other, one) is same


def test_a_step_tells_why_a_file_is_copied() -> None:
    [new, changed] = plan(lister({"a": file(), "b": file(2)}), lister({"b": file()}), Rules())
    assert new == Step("copy", "a", source=file())
    assert changed == Step("copy", "b", source=file(2), target=file())
