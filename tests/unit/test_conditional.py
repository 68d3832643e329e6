"""Preconditions: entity tags, dates, and the order in which they count."""

import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfs.protocol.http_conditions import (
    Tag,
    Validators,
    Verdict,
    evaluate,
    format_date,
    if_range_holds,
    parse_date,
    parse_tags,
)

NOW = Validators('"v7-abc"', 1_000_000_000)
SAME = "Sun, 09 Sep 2001 01:46:40 GMT"
EARLIER = "Sun, 09 Sep 2001 01:46:39 GMT"
LATER = "Sun, 09 Sep 2001 01:46:41 GMT"
FIRST_SECOND_OF_1000, LAST_SECOND_OF_9999 = -30_610_224_000, 253_402_300_799
PROCEED, NOT_MODIFIED, FAILED = Verdict.PROCEED, Verdict.NOT_MODIFIED, Verdict.FAILED


@pytest.mark.parametrize(
    ("headers", "read", "change"),
    [
        ({}, PROCEED, PROCEED),
        ({"if-match": '"v7-abc"'}, PROCEED, PROCEED),
        ({"if-match": '"x", "v7-abc"'}, PROCEED, PROCEED),
        ({"if-match": "*"}, PROCEED, PROCEED),
        ({"if-match": '"x"'}, FAILED, FAILED),
        ({"if-match": 'W/"v7-abc"'}, FAILED, FAILED),
        ({"if-match": ""}, FAILED, FAILED),
        ({"if-match": "v7-abc"}, FAILED, FAILED),
        ({"if-none-match": '"v7-abc"'}, NOT_MODIFIED, FAILED),
        ({"if-none-match": 'W/"v7-abc"'}, NOT_MODIFIED, FAILED),
        ({"if-none-match": '"x", W/"v7-abc"'}, NOT_MODIFIED, FAILED),
        ({"if-none-match": "*"}, NOT_MODIFIED, FAILED),
        ({"if-none-match": '"x"'}, PROCEED, PROCEED),
        ({"if-unmodified-since": SAME}, PROCEED, PROCEED),
        ({"if-unmodified-since": LATER}, PROCEED, PROCEED),
        ({"if-unmodified-since": EARLIER}, FAILED, FAILED),
        ({"if-unmodified-since": "yesterday"}, PROCEED, PROCEED),
        ({"if-modified-since": SAME}, NOT_MODIFIED, PROCEED),
        ({"if-modified-since": LATER}, NOT_MODIFIED, PROCEED),
        ({"if-modified-since": EARLIER}, PROCEED, PROCEED),
        ({"if-modified-since": "yesterday"}, PROCEED, PROCEED),
        # Tags win over dates, and what must match is judged before what must not.
        ({"if-match": '"v7-abc"', "if-unmodified-since": EARLIER}, PROCEED, PROCEED),
        ({"if-none-match": '"x"', "if-modified-since": LATER}, PROCEED, PROCEED),
        ({"if-match": '"x"', "if-none-match": '"v7-abc"'}, FAILED, FAILED),
        ({"if-unmodified-since": EARLIER, "if-none-match": '"v7-abc"'}, FAILED, FAILED),
    ],
)
def test_preconditions_of_a_file_that_exists(headers: dict[str, str], read: Verdict, change: Verdict) -> None:
    assert [evaluate(method, headers, NOW) for method in ("GET", "HEAD", "PUT", "DELETE")] == [
        read,
        read,
        change,
        change,
    ]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, PROCEED),
        ({"if-match": "*"}, FAILED),
        ({"if-match": '"v7-abc"'}, FAILED),
        ({"if-none-match": "*"}, PROCEED),
        ({"if-none-match": '"v7-abc"'}, PROCEED),
        ({"if-unmodified-since": EARLIER}, PROCEED),
    ],
)
def test_preconditions_where_nothing_is(headers: dict[str, str], expected: Verdict) -> None:
    assert evaluate("PUT", headers, None) == expected


@pytest.mark.parametrize(
    ("header", "holds"),
    [
        (None, True),
        ('"v7-abc"', True),
        ('"x"', False),
        ('W/"v7-abc"', False),
        ('"v7-abc", "v7-abc"', False),
        ("*", False),
        ("", False),
        (SAME, False),
        (LATER, False),
    ],
)
def test_only_the_strong_tag_of_this_version_lets_a_range_count(header: str | None, holds: bool) -> None:
    assert if_range_holds(header, NOW) is holds


@pytest.mark.parametrize(
    ("header", "tags"),
    [
        ('"a"', [Tag('"a"', False)]),
        (' "a" ,W/"b",, "" ', [Tag('"a"', False), Tag('"b"', True), Tag('""', False)]),
        ('"a,b"', [Tag('"a,b"', False)]),
        ("", []),
        ('"a" "b"', None),
        ('w/"a"', None),
        ('"a', None),
        ('"a b"', None),
        ("*", None),
    ],
)
def test_lists_of_entity_tags_are_read_by_their_grammar(header: str, tags: list[Tag] | None) -> None:
    assert parse_tags(header) == tags


@pytest.mark.parametrize(
    "text",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
)
def test_a_date_is_understood_in_its_three_forms(text: str) -> None:
    assert parse_date(text) == 784_111_777


@pytest.mark.parametrize(
    "text",
    [
        "", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 +0000", "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT\n", "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT", "06 Nov 1994 08:49:37 GMT", "784111777",
    ],
)  # fmt: skip
def test_what_is_not_a_date_is_none(text: str) -> None:
    assert parse_date(text) is None


def test_a_year_of_two_digits_lies_at_most_fifty_years_ahead() -> None:
    in_2026 = 1_780_000_000
    assert parse_date("Monday, 06-Nov-75 08:49:37 GMT", in_2026) == parse_date("Mon, 06 Nov 2075 08:49:37 GMT")
    assert parse_date("Monday, 06-Nov-77 08:49:37 GMT", in_2026) == parse_date("Mon, 06 Nov 1977 08:49:37 GMT")


@given(st.integers(FIRST_SECOND_OF_1000, LAST_SECOND_OF_9999))
def test_a_date_that_is_written_reads_back_to_the_second(seconds: int) -> None:
    text = format_date(seconds)
    assert text is not None
    assert parse_date(text) == seconds


@given(st.integers(0, 1 << 33))
def test_a_date_is_written_as_the_standard_library_writes_it(seconds: int) -> None:
    assert format_date(seconds) == email.utils.formatdate(seconds, usegmt=True)


@pytest.mark.parametrize("seconds", [1 << 62, -(1 << 62), 253_402_300_800])
def test_a_moment_without_a_four_digit_year_has_no_date(seconds: int) -> None:
    assert format_date(seconds) is None


headers_strategy = st.dictionaries(
    st.sampled_from(["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"]),
    st.text(max_size=30) | st.sampled_from(["*", NOW.etag, "W/" + NOW.etag, SAME, EARLIER, LATER]),
)


@given(st.sampled_from(["GET", "HEAD", "PUT", "DELETE"]), headers_strategy, st.sampled_from([None, NOW]))
def test_any_header_gets_a_verdict_and_a_change_is_never_called_not_modified(
    method: str, headers: dict[str, str], current: Validators | None
) -> None:
    verdict = evaluate(method, headers, current)
    assert verdict is not NOT_MODIFIED or (method in ("GET", "HEAD") and current is not None)
