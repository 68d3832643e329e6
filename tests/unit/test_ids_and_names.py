"""Identifiers and names: what may become part of a path, ours or the disk's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfs.protocol.errors import InvalidName
from dfs.protocol.ids import id_time_ms, is_id, new_id
from dfs.protocol.names import canonical_path, check_name, join_path, split_path


@given(st.integers(min_value=0, max_value=2**48 - 1))
def test_an_id_carries_its_time_and_sorts_by_it(now_ms: int) -> None:
    identifier = new_id(now_ms)
    assert is_id(identifier)
    assert id_time_ms(identifier) == now_ms
    assert new_id(0) <= identifier or now_ms == 0


@pytest.mark.parametrize("text", ["", "0" * 31, "0" * 33, "0" * 32 + "\n", "A" * 32, "../" + "0" * 29, "٠" * 32])
def test_only_32_lower_case_hex_digits_are_an_id(text: str) -> None:
    assert not is_id(text)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "a\nb", "\x7f", "\x85", "x" * 256, "ü" * 128, "\ud800"])
def test_a_name_that_is_not_allowed_is_refused_with_a_reason(name: str) -> None:
    with pytest.raises(InvalidName) as caught:
        check_name(name)
    assert len(str(caught.value)) > 20


@pytest.mark.parametrize("name", ["a", "...", "ü" * 127, "a b", "%2F", "日本", "-rf", "x" * 255])
def test_any_other_utf8_is_a_name(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("path", ["a", "", "//", "/a//b", "/a/../b", "/./a", "/" + "a/" * 129, "/" + "x/" * 2100])
def test_a_path_that_is_not_canonical_is_refused(path: str) -> None:
    with pytest.raises(InvalidName):
        split_path(path)


def test_one_trailing_slash_is_forgiven() -> None:
    assert canonical_path("/a/b/") == "/a/b"
    assert split_path("/") == ()


@given(st.lists(st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=20), max_size=20))
def test_splitting_and_joining_are_inverse(parts: list[str]) -> None:
    assert split_path(join_path(tuple(parts))) == tuple(parts)
