"""What operations on files do, for the checker of histories: the namespace of `docs/promises`, as a pure function.

A file's content is a tuple of pieces, each named by whatever names it once and for all; an append adds a piece. The
state of a part of the history is the set of its files: `(path, pieces, version)`. A version is None while nobody has
seen it, which is so after an operation whose outcome is unknown; the first one who sees it fixes it.

Results: OK or `Done(version)` of what changed something, an error's name ("FileNotFound"), or what was read.
"""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from dfs.testing.linearizability import UNKNOWN

Pieces = tuple[Hashable, ...]
Files = frozenset[tuple[str, Pieces, int | None]]

MISSING = "FileNotFound"
EXISTS = "FileExists"
OUTDATED = "PreconditionFailed"
ANY_VERSION = -1
"""`Put.if_version`: whatever is there."""


@dataclass(frozen=True)
class Done:
    """It worked; `version` of the file that it made, if it made one and told."""

    version: int | None = None


@dataclass(frozen=True)
class Put:
    """Make `path` a file of these pieces. `if_version` 0: only if nothing is there."""

    path: str
    pieces: Pieces
    if_version: int = ANY_VERSION


@dataclass(frozen=True)
class Append:
    path: str
    piece: Hashable


@dataclass(frozen=True)
class Remove:
    path: str


@dataclass(frozen=True)
class Rename:
    source: str
    target: str
    overwrite: bool = True


@dataclass(frozen=True)
class Together:
    """All of these at one instant, or none."""

    actions: tuple[Put | Remove | Rename | Append, ...]


@dataclass(frozen=True)
class Read:
    """The result is the file's pieces, or MISSING."""

    path: str


@dataclass(frozen=True)
class ReadRange:
    """The result is whatever `slices` makes of the file's pieces between `start` and `end`, or MISSING."""

    path: str
    start: int
    end: int


@dataclass(frozen=True)
class Look:
    """stat: the result is the version, or MISSING."""

    path: str


@dataclass(frozen=True)
class List:
    """The result is a frozenset of those of `paths` that are there, with their versions: `(path, version)`."""

    paths: tuple[str, ...]


Change = Put | Append | Remove | Rename
Operation = Change | Together | Read | ReadRange | Look | List


class FilesModel:
    """The model. `slices(pieces, start, end)` says what a range read of such a content must return."""

    def __init__(self, slices: Any = None) -> None:
        self._slices = slices

    def keys(self, operation: Operation) -> Iterable[str]:
        match operation:
            case Together(actions):
                return [key for action in actions for key in self.keys(action)]
            case Rename(source, target):
                return source, target
            case List(paths):
                return paths
            case _:
                return (operation.path,)

    def initial(self) -> Files:
        return frozenset()

    def step(self, state: Files, operation: Operation, result: Any) -> Iterator[Files]:
        match operation:
            case Read(path):
                yield from _if(state, result == _pieces_of(state, path))
            case ReadRange(path, start, end):
                pieces = _pieces_of(state, path)
                wanted = pieces if pieces == MISSING else self._slices(pieces, start, end)
                yield from _if(state, result == wanted)
            case Look(path):
                yield from _seen(state, {path: None if result == MISSING else result})
            case List(paths):
                there = dict(result)
                yield from _seen(state, {path: there.get(path) for path in paths})
            case Together(actions):
                yield from _together(state, actions, result)
            case _:
                yield from _change(state, operation, result)

    def only_looked(self, operation: Operation, result: Any) -> bool:
        if isinstance(operation, Read | ReadRange | Look | List):
            return True
        return result is not UNKNOWN and not isinstance(result, Done)


def _if(state: Files, holds: bool) -> Iterator[Files]:
    if holds:
        yield state


def _found(state: Files, path: str) -> tuple[Pieces, int | None] | None:
    for name, pieces, version in state:
        if name == path:
            return pieces, version
    return None


def _pieces_of(state: Files, path: str) -> Pieces | str:
    found = _found(state, path)
    return MISSING if found is None else found[0]


def _with(state: Files, path: str, there: tuple[Pieces, int | None] | None) -> Files:
    others = frozenset(file for file in state if file[0] != path)
    return others if there is None else others | {(path, *there)}


def _seen(state: Files, versions: dict[str, int | None]) -> Iterator[Files]:
    """The state in which these paths have these versions (None: are not there), if it can be so."""
    for path, version in versions.items():
        found = _found(state, path)
        if (found is None) is not (version is None):
            return
        if found is None:
            continue
        if found[1] not in (None, version):
            return
        state = _with(state, path, (found[0], version))
    yield state


def _change(state: Files, action: Change, result: Any) -> Iterator[Files]:
    """Both what it does and that it failed, each if the result allows it."""
    version = result.version if isinstance(result, Done) else None
    for error, after in _effects(state, action, version):
        if result is UNKNOWN:
            if error is None:
                yield after
        elif (error is None and isinstance(result, Done)) or error == result:
            yield after


def _effects(state: Files, action: Change, version: int | None) -> Iterator[tuple[str | None, Files]]:
    """What the action can come to here: an error or None, and the state after it."""
    match action:
        case Put(path, pieces, if_version):
            found = _found(state, path)
            done = _with(state, path, (pieces, version))
            if if_version == ANY_VERSION:
                yield None, done
            elif if_version == 0:
                yield (None, done) if found is None else (EXISTS, state)
            elif found is None:
                # Which of the two errors it is, is for the namespace to choose.
                yield OUTDATED, state
                yield MISSING, state
            elif found[1] is None:
                yield None, done
                yield OUTDATED, state
            else:
                yield (None, done) if found[1] == if_version else (OUTDATED, state)
        case Append(path, piece):
            found = _found(state, path)
            yield None, _with(state, path, ((*(found[0] if found else ()), piece), version))
        case Remove(path):
            found = _found(state, path)
            yield (MISSING, state) if found is None else (None, _with(state, path, None))
        case Rename(source, target, overwrite):
            found = _found(state, source)
            if found is None:
                yield MISSING, state
            elif source == target:
                yield None, state
            elif _found(state, target) is not None and not overwrite:
                yield EXISTS, state
            else:
                yield None, _with(_with(state, source, None), target, found)


def _together(state: Files, actions: tuple[Change, ...], result: Any) -> Iterator[Files]:
    """All of them, or the error of one of them and nothing."""
    after = {state}
    errors: set[str] = set()
    for action in actions:
        outcomes = [effect for one in after for effect in _effects(one, action, None)]
        errors |= {error for error, _ in outcomes if error is not None}
        after = {one for error, one in outcomes if error is None}
    if result is UNKNOWN or isinstance(result, Done):
        yield from after
    elif result in errors:
        yield state
