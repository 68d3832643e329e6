"""`--include` and `--exclude`: which files of a tree are meant."""

import pytest

from dfs.protocol.errors import InvalidRequest
from dfs.selection import Selection


@pytest.mark.parametrize(
    ("pattern", "path", "taken"),
    [
        ("*.pyc", "a/b/x.pyc", False),
        ("*.pyc", "a/b/x.py", True),
        ("*", ".hidden", False),
        (".*", "a/.hidden", False),
        ("b/*.pyc", "b/x.pyc", False),
        ("b/*.pyc", "a/b/x.pyc", True),
        ("/x", "x", False),
        ("/x", "a/x", True),
        ("**/b/*.pyc", "a/b/x.pyc", False),
        ("**/b/*.pyc", "b/x.pyc", False),
        ("a/**/x", "a/x", False),
        ("a/**/x", "a/b/c/x", False),
        ("a/**/x", "b/x", True),
        ("x/", "x", True),
        ("*.{o,a}", "lib/x.a", False),
        ("[!a]", "a", True),
    ],
)
def test_what_matches_is_left_out(pattern: str, path: str, taken: bool) -> None:
    assert Selection(exclude=[pattern]).takes(path) is taken


def test_a_directory_that_is_left_out_is_not_entered() -> None:
    selection = Selection(exclude=[".git", "build/", "a/b"])
    assert not selection.enters("src/.git")
    assert not selection.enters("x/build")
    assert selection.takes("x/build")
    assert not selection.enters("a/b")
    assert selection.enters("x/a/b")


def test_only_what_is_included_is_taken_and_excluding_wins() -> None:
    selection = Selection(include=["*.jpg", "raw/"], exclude=["tmp.jpg"])
    assert selection.takes("a/x.jpg")
    assert not selection.takes("a/x.png")
    assert selection.takes("a/raw/x.png")
    assert not selection.takes("tmp.jpg")
    assert selection.enters("a")
    assert not selection.makes_empty
    assert Selection(exclude=["x"]).makes_empty


@pytest.mark.parametrize("pattern", ["", "/", "../x", "a/./b"])
def test_a_pattern_that_can_match_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidRequest, match="matches nothing"):
        Selection(exclude=[pattern])


def test_many_stars_cost_no_more_than_the_path_is_long() -> None:
    assert Selection(exclude=["/".join(["**", "a"] * 20)]).takes("/".join(["a"] * 100 + ["b"]))
