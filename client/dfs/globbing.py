"""Patterns over remote paths: `*`, `?`, `[ab]`, `[!ab]`, `{a,b}`, `**`. Pure but for the listing that is passed in.

Separate because the rules must be the same in the Python API and on the command line. A star matches within one name
and never a leading dot unless the pattern spells it; `**` as a whole component matches any number of directories.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

from dfs.protocol.errors import InvalidRequest

ALTERNATIVES_MAX = 1000
"""Patterns that the braces of one pattern may stand for."""
_MAGIC = re.compile(r"[*?\[{]")


class Listed(Protocol):
    """What a listing must tell about an entry."""

    @property
    def path(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def is_directory(self) -> bool: ...


def has_magic(pattern: str) -> bool:
    """Whether `pattern` is more than a plain path."""
    return _MAGIC.search(pattern) is not None


def expand_braces(pattern: str) -> list[str]:
    """The patterns without braces that `pattern` stands for: `a{b,c}` is `ab` and `ac`. Braces nest.

    Braces without a comma, or without their partner, stand for themselves.
    """
    found: list[str] = []
    waiting = [pattern]
    while waiting:
        current = waiting.pop()
        span = _first_braces(current)
        if span is None:
            found.append(current)
        else:
            start, end, choices = span
            waiting += [current[:start] + choice + current[end:] for choice in reversed(choices)]
        if len(found) + len(waiting) > ALTERNATIVES_MAX:
            raise InvalidRequest(f"{pattern!r} stands for more than {ALTERNATIVES_MAX} patterns; use fewer braces")
    return found


def _first_braces(pattern: str) -> tuple[int, int, list[str]] | None:
    """Where the first braces with a comma at their own level begin and end, and their choices."""
    for start, character in enumerate(pattern):
        if character != "{":
            continue
        depth, cuts = 0, [start]
        for index in range(start, len(pattern)):
            if pattern[index] == "{":
                depth += 1
            elif pattern[index] == "}":
                depth -= 1
                if depth == 0:
                    if len(cuts) == 1:
                        break
                    cuts.append(index)
                    choices = [pattern[left + 1 : right] for left, right in pairwise(cuts)]
                    return start, index + 1, choices
            elif pattern[index] == "," and depth == 1:
                cuts.append(index)
    return None


@lru_cache(maxsize=256)
def name_pattern(component: str, *, hidden: bool = False) -> re.Pattern[str]:
    """The regular expression for one component of a pattern, which has no braces and no slash.

    hidden  a star stands for a leading dot too, as for what is left out
    """
    parts: list[str] = []
    index = 0
    while index < len(component):
        character = component[index]
        index += 1
        if character == "*":
            # One star or several: the same, and the second would only cost time.
            if not parts or parts[-1] != ".*":
                parts.append(".*")
        elif character == "?":
            parts.append(".")
        elif character == "[" and (end := _class_end(component, index)) > 0:
            parts.append(_class_pattern(component[index:end]))
            index = end + 1
        else:
            parts.append(re.escape(character))
    no_dot = "" if hidden or component.startswith(".") else r"(?!\.)"
    return re.compile(no_dot + "".join(parts), re.DOTALL)


def _class_end(component: str, start: int) -> int:
    """Where the character class that begins at `start` (behind its bracket) ends; -1 if it never does."""
    first = start + 1 if component[start : start + 1] in ("!", "^") else start
    return component.find("]", first + 1)


def _class_pattern(inner: str) -> str:
    negated = inner.startswith(("!", "^"))
    members = inner[1:] if negated else inner
    items: list[str] = []
    index = 0
    while index < len(members):
        if members[index + 1 : index + 2] == "-" and index + 2 < len(members):
            low, high = members[index], members[index + 2]
            if low <= high:
                items.append(f"{re.escape(low)}-{re.escape(high)}")
            index += 3
        else:
            items.append(re.escape(members[index]))
            index += 1
    if not items:
        return "." if negated else "(?!)"
    return f"[{'^' if negated else ''}{''.join(items)}]"


def glob(
    pattern: str,
    *,
    list_directory: Callable[[str], Iterable[Listed]],
    exists: Callable[[str], bool],
) -> Iterator[str]:
    """The paths that match an absolute pattern, each once, those of each alternative in listing order.

    list_directory  the entries of a directory; nothing for what is missing or a file
    exists          whether a plain path is there
    """
    seen: set[str] = set()
    for plain in expand_braces(pattern):
        for path in _matches("", [part for part in plain.split("/") if part], list_directory, exists):
            if path not in seen:
                seen.add(path)
                yield path


def _matches(
    base: str,
    components: list[str],
    list_directory: Callable[[str], Iterable[Listed]],
    exists: Callable[[str], bool],
) -> Iterator[str]:
    """Matches of `components` below the directory `base` ("" is the root)."""
    literal = 0
    while literal < len(components) and not has_magic(components[literal]):
        literal += 1
    if literal == len(components):
        path = "/".join([base, *components]) or "/"
        if exists(path):
            yield path
        return
    base = "/".join([base, *components[:literal]])
    component, rest = components[literal], components[literal + 1 :]
    if component == "**":
        while rest and rest[0] == "**":
            rest = rest[1:]
        if rest:
            yield from _matches(base, rest, list_directory, exists)
        elif base:
            yield base
        for entry in list_directory(base or "/"):
            if entry.name.startswith("."):
                continue
            if entry.is_directory:
                yield from _matches(f"{base}/{entry.name}", [component, *rest], list_directory, exists)
            elif not rest:
                yield f"{base}/{entry.name}"
        return
    wanted = name_pattern(component)
    for entry in list_directory(base or "/"):
        if wanted.fullmatch(entry.name) is None:
            continue
        if not rest:
            yield f"{base}/{entry.name}"
        elif entry.is_directory:
            yield from _matches(f"{base}/{entry.name}", rest, list_directory, exists)
