"""What a request for a chunk may ask for: decided before a byte is read or written."""

import random
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfs.protocol.capability import Capability, derive_key, sign_capability
from dfs.protocol.chunk_format import wire_size
from dfs.protocol.digests import BLOCK_SIZE
from dfs.protocol.errors import DfsError, InvalidRequest, NotPermitted, RangeNotSatisfiable
from dfs.protocol.hints import HINTS_MAX
from dfs.protocol.messages import CHUNK_SIZE_MAX
from dfs.protocol.operations import RANGES_BYTES_MAX, RANGES_MAX
from dfs_datanode.membership import Standing
from dfs_datanode.operations.get_chunk import Mode, Wanted, check_range, check_ranges, check_whole, read_query
from dfs_datanode.operations.put_chunk import Order, read_order
from dfs_datanode.operations.small_get import read_spans, spans
from fixtures.disks import CLUSTER, LINEAGE
from fixtures.fake_namenode import SECRET

CHUNK = "0" * 31 + "1"
STANDING = Standing("b", CLUSTER, LINEAGE, derive_key(SECRET, "b"), 1)
LENGTH = 10 * BLOCK_SIZE + 100


def capability(start: int, end: int, *runs: int) -> Capability:
    return Capability(2 if runs else 1, "r", bytes.fromhex(CHUNK), start, end, 0, "anonymous", ("b",), runs)


def test_a_query_says_what_it_wants() -> None:
    assert read_query(b"offset=5&length=7&mode=table") == Wanted(5, 7, "table")
    assert read_query(b"length=7&offset=5") == Wanted(5, 7, "exact")
    assert read_query(b"mode=hints") == Wanted(0, 0, "hints")
    assert read_query(b"mode=blocks&ranges=0-5,7-9") == Wanted(0, 0, "blocks", ((0, 5), (7, 9)))
    assert read_query(b"mode=exact&ranges=0-5,7-9") == Wanted(0, 0, "exact", ((0, 5), (7, 9)))


@pytest.mark.parametrize("mode", ["exact", "blocks", "table"])
@pytest.mark.parametrize(("offset", "length"), [(0, 1), (5, 7), (10**18, 10**18)])
def test_a_query_means_the_same_however_its_fields_are_ordered(offset: int, length: int, mode: Mode) -> None:
    fields = [b"offset=%d" % offset, b"length=%d" % length, b"mode=" + mode.encode()]
    for ordered in permutations(fields):
        assert read_query(b"&".join(ordered)) == Wanted(offset, length, mode)


@pytest.mark.parametrize(
    "query",
    [b"", b"offset=1", b"offset=-1&length=2", b"offset=1&length=0", b"offset=1&length=2&mode=all", b"offset=a&length=2",
     b"offset=1&length=1e3", b"offset=+1&length=2", b"offset=1_0&length=2", b"offset=1&length=" + b"9" * 30,
     b"ranges=0-5", b"mode=table&ranges=0-5", b"mode=blocks&ranges=", b"mode=blocks&ranges=0-5,",
     b"mode=blocks&ranges=5", b"mode=blocks&ranges=-5-7", b"mode=blocks&ranges=0-" + b"9" * 19,
     b"mode=blocks&ranges=" + b"0-5," * RANGES_MAX + b"0-5",
     b"offset=%D9%A1&length=2", b"\xff=1", b"a=1&b=1&c=1&d=1&e=1&f=1&g=1&h=1&offset=1&length=1"],
)  # fmt: skip
def test_a_query_that_is_not_plain_is_refused(query: bytes) -> None:  # F82
    with pytest.raises(InvalidRequest):
        read_query(query)


def test_an_exact_range_needs_exactly_itself() -> None:
    assert check_range(Wanted(100, 50, "exact"), capability(100, 150), LENGTH) == (100, 150)
    for wanted in (Wanted(99, 50, "exact"), Wanted(101, 50, "exact"), Wanted(0, 1, "exact")):
        with pytest.raises(NotPermitted):
            check_range(wanted, capability(100, 150), LENGTH)


@pytest.mark.parametrize("mode", ["blocks", "table"])
def test_a_widened_range_must_be_allowed_as_a_whole(mode: Mode) -> None:
    wanted = Wanted(BLOCK_SIZE + 1, 10, mode)
    assert check_range(wanted, capability(BLOCK_SIZE, 2 * BLOCK_SIZE), LENGTH) == (BLOCK_SIZE, 2 * BLOCK_SIZE)
    with pytest.raises(NotPermitted):
        check_range(wanted, capability(BLOCK_SIZE + 1, BLOCK_SIZE + 11), LENGTH)
    assert check_range(Wanted(LENGTH - 1, 1, mode), capability(0, LENGTH), LENGTH) == (10 * BLOCK_SIZE, LENGTH)


B = BLOCK_SIZE


def test_ranges_are_whole_blocks_in_order_within_the_capability() -> None:
    check_ranges([(0, B), (3 * B, 5 * B), (10 * B, LENGTH)], capability(0, LENGTH), LENGTH)
    check_ranges([(0, B), (B, 2 * B)], capability(0, LENGTH), LENGTH)
    for ranges in ([(1, B)], [(0, B - 1)], [(B, B)], [(2 * B, B)], [(B, 2 * B), (0, B)], [(0, 2 * B), (B, 3 * B)]):
        with pytest.raises(InvalidRequest):
            check_ranges(ranges, capability(0, LENGTH), LENGTH)
    for start, end in ((B, LENGTH), (0, 5 * B), (0, 5 * B - 1), (1, LENGTH)):
        with pytest.raises(NotPermitted):
            check_ranges([(0, B), (3 * B, 6 * B)], capability(start, end), LENGTH)
    with pytest.raises(RangeNotSatisfiable):
        check_ranges([(0, B), (11 * B, 12 * B)], capability(0, 1 << 40), LENGTH)
    large = 4 * RANGES_BYTES_MAX
    check_ranges([(0, RANGES_BYTES_MAX)], capability(0, large), large)
    with pytest.raises(InvalidRequest, match="at once"):
        check_ranges([(0, RANGES_BYTES_MAX), (large - B, large)], capability(0, large), large)


def test_exact_ranges_show_what_the_capability_allows_and_nothing_between() -> None:
    files = [(100, 150), (170, 171), (2 * B - 3, 2 * B + 4)]
    allowed = capability(100, 2 * B + 4, *[number for file in files for number in file])
    check_ranges(files, allowed, LENGTH, exact=True)
    check_ranges(files[1:], allowed, LENGTH, exact=True)
    for ranges in ([(100, 171)], [(100, 151)], [(99, 150)], [(150, 170)], [files[0], (172, 180)], [(100, 2 * B + 4)]):
        with pytest.raises(NotPermitted):
            check_ranges(ranges, allowed, LENGTH, exact=True)
    for ranges in ([(170, 171), (100, 150)], [(100, 150), (149, 150)], [(100, 100)]):
        with pytest.raises(InvalidRequest):
            check_ranges(ranges, allowed, LENGTH, exact=True)
    with pytest.raises(InvalidRequest):
        check_ranges(files, allowed, LENGTH)
    with pytest.raises(NotPermitted):
        check_range(Wanted(100, 71, "exact"), allowed, LENGTH)
    assert check_range(Wanted(170, 1, "exact"), allowed, LENGTH) == (170, 171)
    with pytest.raises(NotPermitted):
        check_whole(capability(0, LENGTH, 0, 5, 7, LENGTH), LENGTH)


@given(cuts=st.lists(st.integers(0, LENGTH), min_size=2, max_size=40, unique=True).map(sorted))
def test_spans_give_exactly_the_bytes_of_their_ranges_and_read_no_block_twice(cuts: list[int]) -> None:
    ranges = list(zip(cuts[::2], cuts[1::2], strict=False))
    data = random.Random(5).randbytes(LENGTH)
    read: list[int] = []

    def blocks(start: int, end: int) -> bytes:
        assert start % B == 0
        assert end % B == 0 or end == LENGTH
        read.extend(range(start, end, B))
        return data[start:end]

    assert read_spans(spans(ranges, LENGTH), blocks) == b"".join(data[start:end] for start, end in ranges)
    assert len(read) == len(set(read))
    assert read_spans(spans(ranges, LENGTH), lambda start, end: None) is None


def test_hints_are_only_for_those_who_may_read_all_of_the_chunk() -> None:
    check_whole(capability(0, LENGTH), LENGTH)
    check_whole(capability(0, 1 << 40), LENGTH)
    for start, end in ((1, LENGTH), (0, LENGTH - 1), (100, 200)):
        with pytest.raises(NotPermitted):
            check_whole(capability(start, end), LENGTH)


def test_a_range_that_leaves_the_chunk_is_not_satisfiable() -> None:
    with pytest.raises(RangeNotSatisfiable):
        check_range(Wanted(LENGTH - 1, 2, "exact"), capability(0, 1 << 40), LENGTH)


def test_no_answer_ever_leaves_its_capability() -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(3000):
        start = rng.randrange(LENGTH)
        end = rng.randint(start + 1, LENGTH)
        mode: Mode = rng.choice(["exact", "blocks", "table"])
        wanted = Wanted(rng.randrange(LENGTH + 10), rng.randint(1, LENGTH), mode)
        try:
            first, last = check_range(wanted, capability(start, end), LENGTH)
        except DfsError:
            continue
        assert start <= first <= wanted.offset < wanted.offset + wanted.length <= last <= end


def scope(token: str, **headers: Any) -> dict[str, Any]:
    pairs = {"dfs-capability": token} | {name.replace("_", "-"): str(value) for name, value in headers.items()}
    return {"headers": [(name.encode(), value.encode()) for name, value in pairs.items()]}


def order(
    length: Any = 1000,
    *,
    end: int = 2000,
    body: int | None = None,
    hop: Any = 1,
    principal: str = "p",
    **more: Any,
) -> Order:
    keys = {name: derive_key(SECRET, name) for name in ("a", "b", "c")}
    token = sign_capability(
        keys, operation="w", chunk=CHUNK, start=0, end=end, expires_ms=1000, principal=principal
    )  # fmt: skip
    size = wire_size(length) if body is None and isinstance(length, int) and length >= 0 else body
    return read_order(
        scope(token, dfs_chunk_length=length, content_length=size, dfs_hop=hop, **more), CHUNK, token, STANDING, 0
    )


def test_an_order_is_what_the_capability_and_the_head_say_together() -> None:
    assert order() == Order(CHUNK, 1000, "p", ("a", "b", "c"), 1)


@pytest.mark.parametrize("length", [0, CHUNK_SIZE_MAX + 1, "1e3", "-5", ""])
def test_a_length_out_of_bounds_is_refused(length: Any) -> None:
    with pytest.raises(InvalidRequest):
        order(length, end=1 << 40, body=100)


def test_more_than_the_capability_allows_is_refused() -> None:
    assert order(2000).length == 2000
    with pytest.raises(NotPermitted):
        order(2001)


def test_a_body_that_is_not_data_and_footer_is_refused() -> None:  # F83
    for size in (0, wire_size(1000) - 1, wire_size(1000) + 1, wire_size(1000, 77), 1 << 40):
        with pytest.raises(InvalidRequest):
            order(1000, body=size)


def test_hints_are_announced_and_part_of_the_body() -> None:  # F83
    assert order(1000).hints == 0
    assert order(1000, body=wire_size(1000), dfs_hints_length=0).hints == 0
    for size in (77, HINTS_MAX):
        assert order(1000, body=wire_size(1000, size), dfs_hints_length=size).hints == size
        with pytest.raises(InvalidRequest):
            order(1000, body=wire_size(1000, size), dfs_hints_length=size - 1)
        with pytest.raises(InvalidRequest):
            order(1000, body=wire_size(1000), dfs_hints_length=size)
    for size_text in (HINTS_MAX + 1, -1, "x", ""):
        with pytest.raises(InvalidRequest):
            order(1000, body=wire_size(1000, HINTS_MAX + 1), dfs_hints_length=size_text)


@pytest.mark.parametrize("hop", [0, 2, "x"])
def test_a_hop_that_is_not_ours_is_refused(hop: Any) -> None:
    with pytest.raises(InvalidRequest):
        order(hop=hop)
