"""What has to be done so that one tree becomes like another: decided directory by directory. Pure but for the listings.

Separate from doing it, so that a dry run is the same plan, and so that the rules can be tested without a cluster:
which file counts as changed, what is never deleted, what happens where a file meets a directory.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from dfs.selection import EVERYTHING, Selection

Kind = Literal["file", "directory", "other"]
Action = Literal["copy", "make", "time", "delete", "prune", "clash", "refuse"]
_SECOND_NS = 1_000_000_000
_CLOSE_NS = 1000


@dataclass(frozen=True)
class Thing:
    """What has a name in a directory. `other`: neither file nor directory, a link say."""

    kind: Kind
    size: int = 0
    mtime_ns: int = 0
    error: Exception | None = None
    """Why it can't be a source."""


Listing = Mapping[str, Thing]
"""The entries of a directory by name."""
List = Callable[[str], Listing]
"""Lists the directory of a path relative to the top ("" is the top). Raises what the caller's `unreadable` takes."""


@dataclass(frozen=True)
class Step:
    """One thing to be done, at a path relative to the top.

    copy     the file of the source becomes that of the target
    make     a directory is missing
    time     the bytes are the same, only the time is not
    delete   the source has nothing of that name; a directory goes with all that is below
    prune    a directory that the source does not have, if nothing is left in it
    clash    a file on one side, a directory or link on the other: nothing is done, unless the rules delete; with them
             only if something is in that directory that they leave out
    refuse   it can't be read or listed: nothing is done
    """

    action: Action
    path: str
    source: Thing | None = None
    target: Thing | None = None
    now: bool = False
    """Before what follows, not at the end: it is in the way."""
    error: Exception | None = None


@dataclass(frozen=True)
class Rules:
    """How two trees are compared.

    same        whether two files of one size have the same bytes; None: those with the same time have
    unreadable  errors of a listing that concern this directory alone
    """

    delete: bool = False
    selection: Selection = EVERYTHING
    same: Callable[[str], bool] | None = None
    unreadable: tuple[type[Exception], ...] = (OSError,)


def same_time(one_ns: int, other_ns: int) -> bool:
    """Whether two times may be one that went through a file system which keeps no nanoseconds."""
    if one_ns % _SECOND_NS == 0 or other_ns % _SECOND_NS == 0:
        return one_ns // _SECOND_NS == other_ns // _SECOND_NS
    return abs(one_ns - other_ns) < _CLOSE_NS


def plan(source: List, target: List, rules: Rules) -> Iterator[Step]:
    """The steps, parents before children, in the order of names within a directory.

    What the rules leave out is not looked at on either side: it is neither copied nor deleted.
    """
    waiting: list[tuple[str, bool, bool]] = [("", True, True)]
    ends: list[Step] = []
    while waiting:
        here, in_source, in_target = waiting.pop()
        try:
            wanted = _chosen(source(here), here, rules.selection) if in_source else {}
            there = _chosen(target(here), here, rules.selection) if in_target else {}
        except rules.unreadable as error:
            yield Step("refuse", here, error=error)
            continue
        below: list[tuple[str, bool, bool]] = []
        for name in sorted(wanted.keys() | there.keys()):
            path = f"{here}/{name}" if here else name
            one, other = wanted.get(name), there.get(name)
            if one is not None:
                yield from _towards(path, one, other, rules, below, target)
            elif other is not None and rules.delete:
                if other.kind == "directory" and rules.selection is not EVERYTHING:
                    # What the rules leave out may be in it, and stays.
                    below.append((path, False, True))
                    ends.append(Step("prune", path, target=other))
                else:
                    yield Step("delete", path, target=other)
        waiting += reversed(below)
    yield from reversed(ends)


def _chosen(listing: Listing, here: str, selection: Selection) -> dict[str, Thing]:
    if selection is EVERYTHING:
        return dict(listing)
    prefix = f"{here}/" if here else ""
    return {
        name: thing
        for name, thing in listing.items()
        if (selection.enters(prefix + name) if thing.kind == "directory" else selection.takes(prefix + name))
    }


def _is_all_chosen(top: str, target: List, rules: Rules) -> bool:
    """Whether the rules mean all that is in a directory of the target, so that it may go as a whole."""
    waiting = [] if rules.selection is EVERYTHING else [top]
    while waiting:
        here = waiting.pop()
        try:
            there = target(here)
        except rules.unreadable:
            return False
        chosen = _chosen(there, here, rules.selection)
        if len(chosen) < len(there):
            return False
        waiting += [f"{here}/{name}" for name, thing in chosen.items() if thing.kind == "directory"]
    return True


def _towards(
    path: str, one: Thing, other: Thing | None, rules: Rules, below: list[tuple[str, bool, bool]], target: List
) -> Iterator[Step]:
    """What makes `other` like `one`, which the source has. Directories to be looked into go to `below`."""
    if one.error is not None:
        yield Step("refuse", path, source=one, target=other, error=one.error)
        return
    if other is not None and other.kind != one.kind:
        if not rules.delete or (other.kind == "directory" and not _is_all_chosen(path, target, rules)):
            yield Step("clash", path, source=one, target=other)
            return
        yield Step("delete", path, target=other, now=True)
        other = None
    if one.kind == "directory":
        if other is None and rules.selection.makes_empty:
            yield Step("make", path, source=one)
        below.append((path, True, other is not None))
    elif other is None or one.size != other.size:
        yield Step("copy", path, source=one, target=other)
    elif rules.same is None:
        if not same_time(one.mtime_ns, other.mtime_ns):
            yield Step("copy", path, source=one, target=other)
    elif not rules.same(path):
        yield Step("copy", path, source=one, target=other)
    elif not same_time(one.mtime_ns, other.mtime_ns):
        yield Step("time", path, source=one, target=other)
