"""Which files of a tree are meant: the rules of `--include` and `--exclude`. Pure.

Separate because put, get and sync must choose alike, and because what is left out must also be left alone: a sync that
deletes asks here too. Patterns are those of `globbing`, except that a star stands for a leading dot as well.

A pattern without a slash is compared with the name of a file or directory, wherever it lies; one with a slash with the
path below the top of the tree. One that ends with a slash means directories only. What matches an exclude pattern is
left out, a directory with all that is below it. If there are include patterns, only files that match one of them are
taken, or that lie in a directory that does.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dfs.globbing import expand_braces, name_pattern
from dfs.protocol.errors import InvalidRequest


@dataclass(frozen=True)
class _Pattern:
    """One pattern without braces."""

    components: tuple[re.Pattern[str] | None, ...]
    """None: any number of directories."""
    directories_only: bool
    anywhere: bool

    def matches(self, parts: Sequence[str], directory: bool) -> bool:
        """Whether it means the path of these components itself."""
        if self.directories_only and not directory:
            return False
        if self.anywhere:
            first = self.components[0]
            return first is None or first.fullmatch(parts[-1]) is not None
        return _match(self.components, parts)


def _match(components: Sequence[re.Pattern[str] | None], parts: Sequence[str]) -> bool:
    # The places in the pattern where one may be after each part: no backtracking, however many `**` there are.
    places = _through({0}, components)
    for part in parts:
        ahead: set[int] = set()
        for place in places:
            if place == len(components):
                continue
            wanted = components[place]
            if wanted is None:
                ahead.add(place)
            elif wanted.fullmatch(part) is not None:
                ahead.add(place + 1)
        places = _through(ahead, components)
    return len(components) in places


def _through(places: set[int], components: Sequence[re.Pattern[str] | None]) -> set[int]:
    """`places`, and those behind each `**` that may stand for nothing."""
    found = set(places)
    for place in places:
        while place < len(components) and components[place] is None:
            place += 1
            found.add(place)
    return found


class Selection:
    """What is to be taken of a tree. Paths are relative to its top, with slashes.

    Raises  InvalidRequest: a pattern that means nothing
    """

    def __init__(self, *, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        self._include = [one for text in include for one in _parse(text)]
        self._exclude = [one for text in exclude for one in _parse(text)]

    def enters(self, path: str) -> bool:
        """Whether the directory `path` is to be looked into; asked of parents before their children."""
        parts = path.split("/")
        return not any(one.matches(parts, True) for one in self._exclude)

    def takes(self, path: str) -> bool:
        """Whether the file `path`, in a directory that was entered, is meant."""
        parts = path.split("/")
        if any(one.matches(parts, False) for one in self._exclude):
            return False
        if not self._include:
            return True
        return any(
            one.matches(parts[:depth], depth < len(parts))
            for one in self._include
            for depth in range(1, len(parts) + 1)
        )

    @property
    def makes_empty(self) -> bool:
        """Whether directories come along for their own sake, not only for the files that are taken."""
        return not self._include


EVERYTHING = Selection()


def _parse(text: str) -> list[_Pattern]:
    found = []
    for plain in expand_braces(text):
        stripped = plain.strip("/")
        if not stripped or any(part in (".", "..") for part in stripped.split("/")):
            raise InvalidRequest(
                f"the pattern {text!r} matches nothing; write a name like '*.tmp', or a path like 'a/*'"
            )
        components = tuple(
            None if part == "**" else name_pattern(part, hidden=True) for part in stripped.split("/") if part
        )
        anywhere = "/" not in plain.removesuffix("/")
        found.append(_Pattern(components, plain.endswith("/"), anywhere))
    return found
