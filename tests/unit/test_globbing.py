"""Patterns over remote paths."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from dfs.globbing import ALTERNATIVES_MAX, expand_braces, glob, has_magic, name_pattern
from dfs.protocol.errors import InvalidRequest

FILES = ["/a.txt", "/b.txt", "/.hidden", "/logs/1.gz", "/logs/2.gz", "/logs/old/3.gz", "/logs/old/deep/4.gz", "/x[1]"]


@dataclass(frozen=True)
class Item:
    path: str
    name: str
    is_directory: bool


def list_directory(path: str) -> Iterator[Item]:
    base = path.rstrip("/") + "/"
    names = {file[len(base) :].partition("/")[0] for file in FILES if file.startswith(base)}
    for name in sorted(names):
        yield Item(base + name, name, base + name not in FILES)


def exists(path: str) -> bool:
    return path == "/" or any(file == path or file.startswith(path + "/") for file in FILES)


def matches(pattern: str) -> list[str]:
    return list(glob(pattern, list_directory=list_directory, exists=exists))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("/*.txt", ["/a.txt", "/b.txt"]),
        ("/?.txt", ["/a.txt", "/b.txt"]),
        ("/[ac].txt", ["/a.txt"]),
        ("/[!a].txt", ["/b.txt"]),
        ("/[a-b].txt", ["/a.txt", "/b.txt"]),
        ("/{b,a}.txt", ["/b.txt", "/a.txt"]),
        ("/logs/*.gz", ["/logs/1.gz", "/logs/2.gz"]),
        ("/*/*.gz", ["/logs/1.gz", "/logs/2.gz"]),
        ("/logs/**/*.gz", ["/logs/1.gz", "/logs/2.gz", "/logs/old/3.gz", "/logs/old/deep/4.gz"]),
        ("/**/4.gz", ["/logs/old/deep/4.gz"]),
        ("/**/old", ["/logs/old"]),
        ("/logs/old/**", ["/logs/old", "/logs/old/3.gz", "/logs/old/deep", "/logs/old/deep/4.gz"]),
        ("/.h*", ["/.hidden"]),
        ("/*hidden", []),
        ("/nothing/*", []),
        ("/a.txt/*", []),
        ("/a.txt", ["/a.txt"]),
        ("/", ["/"]),
        ("/x[[]1]", ["/x[1]"]),
        ("/*.{txt,nope}", ["/a.txt", "/b.txt"]),
        ("/{a,?}.txt", ["/a.txt", "/b.txt"]),
    ],
)
def test_a_pattern_matches_exactly_these(pattern: str, expected: list[str]) -> None:
    assert matches(pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a{b,c}d", ["abd", "acd"]),
        ("{a,{b,c}}", ["a", "b", "c"]),
        ("{a}", ["{a}"]),
        ("{a,b", ["{a,b"]),
        ("a,b}", ["a,b}"]),
        ("{,x}y", ["y", "xy"]),
        ("{a,b}{c,d}", ["ac", "ad", "bc", "bd"]),
    ],
)
def test_braces_stand_for_these_patterns(pattern: str, expected: list[str]) -> None:
    assert expand_braces(pattern) == expected


def test_braces_can_not_stand_for_endless_patterns() -> None:
    with pytest.raises(InvalidRequest):
        expand_braces("{a,b}" * 30)
    assert len(expand_braces("{a,b}" * 9)) == 512 <= ALTERNATIVES_MAX


@pytest.mark.parametrize(("component", "name"), [("[", "["), ("a[b", "a[b"), ("[]a]", "]"), ("a.c", "a.c")])
def test_what_is_no_class_stands_for_itself(component: str, name: str) -> None:
    assert name_pattern(component).fullmatch(name)
    assert not name_pattern("a.c").fullmatch("abc")


def test_only_patterns_have_magic() -> None:
    assert has_magic("/a*")
    assert not has_magic("/a-b.c")
