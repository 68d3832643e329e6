"""Which path becomes which: the rules of fsspec's bulk calls, asked of fsspec itself, without anything being moved.

fsspec's `copy`, `get` and `put` decide about globs, lists, trailing slashes and directories that exist, and then move
one file after the other. Here the same methods run on a planner, which looks like a file system to them but only notes
each pair; who moves the pairs can then do it many at a time.
"""

from typing import Any

from fsspec.spec import AbstractFileSystem

Pairs = list[tuple[str, str]]
"""Source and target, in the order in which fsspec would move them: directories before what is in them."""


class _Planner:
    """What a bulk method needs of a file system: it looks at the real one, and moves nothing."""

    def __init__(self, fs: AbstractFileSystem) -> None:
        self.pairs: Pairs = []
        self.isdir = fs.isdir
        self.expand_path = fs.expand_path
        self._strip_protocol = fs._strip_protocol

    def cp_file(self, source: str, target: str, **_: Any) -> None:
        self.pairs.append((source, self._strip_protocol(target)))

    def get_file(self, source: str, target: str, **_: Any) -> None:
        self.pairs.append((source, target))

    def put_file(self, source: str, target: str, **_: Any) -> None:
        self.pairs.append((str(source), self._strip_protocol(target)))


def plan_copy(fs: AbstractFileSystem, source: Any, target: Any, **how: Any) -> Pairs:
    """What `fs.copy` would copy to where."""
    planner = _Planner(fs)
    AbstractFileSystem.copy(planner, source, target, **how)
    return planner.pairs


def plan_get(fs: AbstractFileSystem, source: Any, target: Any, **how: Any) -> Pairs:
    """What `fs.get` would write where on the local disk."""
    planner = _Planner(fs)
    AbstractFileSystem.get(planner, source, target, **how)
    return planner.pairs


def plan_put(fs: AbstractFileSystem, source: Any, target: Any, **how: Any) -> Pairs:
    """What `fs.put` would store where."""
    planner = _Planner(fs)
    AbstractFileSystem.put(planner, source, target, **how)
    return planner.pairs


def outermost(paths: list[str]) -> list[str]:
    """Those of some paths that lie below none of the others, sorted: what happens to them happens to the others."""
    kept: list[str] = []
    for path in sorted(set(paths), key=lambda path: path.split("/")):
        if not kept or not (path + "/").startswith(kept[-1].rstrip("/") + "/"):
            kept.append(path)
    return kept
