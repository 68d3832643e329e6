"""Range headers: what RFC 9110 asks, against examples and against a model that thinks byte by byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfs_datanode.gateway.ranges import (
    RANGES_MAX,
    ByteRange,
    Several,
    Single,
    Unsatisfiable,
    Whole,
    multipart,
    parse,
    plan,
    window_of,
)


def one(start: int, end: int) -> Single:
    return Single(ByteRange(start, end))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, Whole()),
        ("bytes=2-5", one(2, 6)),
        ("bytes=5-", one(5, 10)),
        ("bytes=-3", one(7, 10)),
        ("bytes=0-99", one(0, 10)),
        ("bytes=-99", one(0, 10)),
        ("bytes=0-0", one(0, 1)),
        ("bytes=9-9", one(9, 10)),
        ("bytes=10-", Unsatisfiable()),
        ("bytes=10-20", Unsatisfiable()),
        ("bytes=-0", Unsatisfiable()),
        ("bytes=-0,10-", Unsatisfiable()),
        ("bytes=0-1,20-30", one(0, 2)),
        ("bytes=0-0,9-9", Several((ByteRange(0, 1), ByteRange(9, 10)))),
        ("bytes=5-6,0-1", Several((ByteRange(5, 7), ByteRange(0, 2)))),
        ("bytes= 2-5 ,, 7-7\t,", Several((ByteRange(2, 6), ByteRange(7, 8)))),
        ("BYTES=2-5", one(2, 6)),
        ("bytes=0002-00000000000000000000005", one(2, 6)),
        ("bytes=0-" + "9" * 5000, one(0, 10)),
        ("bytes=" + "9" * 5000 + "-", Unsatisfiable()),
    ],
)
def test_a_range_of_ten_bytes_means_what_the_rfc_says(header: str | None, expected: object) -> None:
    assert plan(header, 10) == expected


@pytest.mark.parametrize(
    "header",
    [
        "lines=1-2", "bytes", "bytes=", "bytes=,", "bytes=-", "bytes=5", "bytes=a-b", "bytes=5-2", "bytes=0-1,5-2",
        "bytes=+2-5", "bytes=1_0-", "bytes=٢-٥", "bytes=2-5\n", "bytes=2-5;", "bytes=--5", "bytes=2--5", "bytes = 2-5",
        "bytes=2 -5", "bytes=0x1-", "bytes=1.0-", "", "bytes=2-5 7-8", "xbytes=2-5", "bytes=0-1, lines=2-3",
    ],
)  # fmt: skip
def test_a_header_that_is_malformed_or_of_another_unit_is_ignored(header: str) -> None:
    assert parse(header) is None
    assert plan(header, 10) == Whole()


def test_an_empty_file_satisfies_no_range_but_a_suffix_is_the_whole_of_it() -> None:
    assert plan("bytes=0-", 0) == Unsatisfiable()
    assert plan("bytes=-0", 0) == Unsatisfiable()
    assert plan("bytes=-5", 0) == Whole()


def test_more_ranges_than_the_limit_are_ignored_and_as_many_are_served() -> None:
    at_limit = "bytes=" + ",".join(f"{2 * n}-{2 * n}" for n in range(RANGES_MAX))
    answer = plan(at_limit, 1000)
    assert isinstance(answer, Several)
    assert len(answer.ranges) == RANGES_MAX
    assert plan(at_limit + ",500-500", 1000) == Whole()


def test_ranges_that_overlap_to_more_than_the_file_get_the_file() -> None:
    assert plan("bytes=0-,0-,0-", 10) == Whole()
    assert plan("bytes=0-4,5-9", 10) == Several((ByteRange(0, 5), ByteRange(5, 10)))


@pytest.mark.parametrize(
    ("header", "window"),
    [
        (None, (0, None)),
        ("bytes=5-9", (5, 5)),
        ("bytes=5-", (5, None)),
        ("bytes=-5", (0, 1)),
        ("bytes=5-9,20-", (0, None)),
        ("lines=1-", (0, None)),
        ("bytes=" + "9" * 99 + "-", (10**18, None)),
    ],
)
def test_a_window_is_guessed_from_one_range(header: str | None, window: tuple[int, int | None]) -> None:
    assert window_of(header) == window


def parts_of(body: bytes, boundary: str) -> list[tuple[list[str], bytes]]:
    """The parts of a multipart body, read strictly as MIME has it: every line of the frame ends with CRLF."""
    frame = b"--" + boundary.encode()
    assert body.startswith(frame + b"\r\n")
    assert body.endswith(b"\r\n" + frame + b"--\r\n")
    inner = body[len(frame) + 2 : -(len(frame) + 6)]
    parts = []
    for part in inner.split(b"\r\n" + frame + b"\r\n"):
        head, separator, data = part.partition(b"\r\n\r\n")
        assert separator
        parts.append((head.decode().split("\r\n"), data))
    return parts


def build(data: bytes, ranges: tuple[ByteRange, ...]) -> tuple[bytes, int]:
    layout = multipart(ranges, len(data), "text/plain", "limit")
    body = b"".join(piece if isinstance(piece, bytes) else data[piece.start : piece.end] for piece in layout.pieces)
    return body, layout.length


def test_a_multipart_body_frames_its_parts_with_crlf_in_the_order_asked() -> None:
    body, length = build(b"0123456789", (ByteRange(5, 7), ByteRange(0, 2)))
    assert body == (
        b"--limit\r\nContent-Type: text/plain\r\nContent-Range: bytes 5-6/10\r\n\r\n56"
        b"\r\n--limit\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01"
        b"\r\n--limit--\r\n"
    )
    assert length == len(body)


spec_texts = st.one_of(
    st.builds("{}-{}".format, st.integers(0, 70), st.integers(0, 70)),
    st.builds("{}-".format, st.integers(0, 70)),
    st.builds("-{}".format, st.integers(0, 70)),
)


def model(specs: list[str], size: int) -> list[list[int]] | None:
    """Positions, one by one, that each satisfiable range selects; None: the header is invalid."""
    selected = []
    for spec in specs:
        first, _, last = spec.partition("-")
        if not first:
            positions = [at for at in range(size) if at >= size - int(last)]
        elif last and int(last) < int(first):
            return None
        else:
            positions = [at for at in range(size) if at >= int(first) and (not last or at <= int(last))]
        if positions:
            selected.append(positions)
    return selected


@given(st.lists(spec_texts, min_size=1, max_size=6), st.integers(0, 60), st.sampled_from([",", ", ", " ,\t", ",,"]))
def test_a_plan_selects_the_bytes_that_a_naive_reading_selects(specs: list[str], size: int, comma: str) -> None:
    answer = plan("bytes=" + comma.join(specs), size)
    expected = model(specs, size)
    if expected is None:
        assert answer == Whole()
    elif not expected:
        suffix_of_nothing = size == 0 and any(spec.startswith("-") and int(spec[1:]) for spec in specs)
        assert answer == (Whole() if suffix_of_nothing else Unsatisfiable())
    elif len(expected) > 1 and sum(map(len, expected)) > size:
        assert answer == Whole()
    else:
        ranges = (answer.range,) if isinstance(answer, Single) else answer.ranges if isinstance(answer, Several) else ()
        assert [list(range(found.start, found.end)) for found in ranges] == expected


@given(st.text(max_size=60) | st.from_regex(r"bytes=[-0-9, \t]{0,60}", fullmatch=True), st.integers(0, 1 << 62))
def test_whatever_the_header_says_the_plan_stays_within_the_file(header: str, size: int) -> None:
    answer = plan(header, size)
    ranges = (answer.range,) if isinstance(answer, Single) else answer.ranges if isinstance(answer, Several) else ()
    assert all(0 <= found.start < found.end <= size for found in ranges)
    assert sum(found.length for found in ranges) <= size
    assert len(ranges) <= RANGES_MAX


@given(
    st.binary(min_size=1, max_size=50).filter(lambda data: b"limit" not in data),
    st.lists(st.tuples(st.integers(0, 49), st.integers(1, 50)), min_size=1, max_size=5),
)
def test_the_parts_of_a_multipart_body_are_the_bytes_of_the_ranges(data: bytes, raw: list[tuple[int, int]]) -> None:
    ranges = tuple(ByteRange(start, min(end, len(data))) for start, end in raw if start < min(end, len(data)))
    if not ranges:
        return
    body, length = build(data, ranges)
    assert length == len(body)
    found = parts_of(body, "limit")
    assert [part for _, part in found] == [data[part.start : part.end] for part in ranges]
    assert [head[1] for head, _ in found] == [f"Content-Range: {part.content_range(len(data))}" for part in ranges]
