"""Extents, content digests, runs of bytes, operation ids, and the receipts that count: all pure."""

import struct
from itertools import pairwise

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from dfs.protocol.digests import EMPTY_DIGEST, tree_digest
from dfs.protocol.errors import InvalidRequest, OperationExpired
from dfs.protocol.ids import new_id
from dfs.protocol.messages import Extent
from dfs_namenode.content_rules import ChunkFacts, check_extents, content_digest
from dfs_namenode.layout import find_runs, join_runs
from dfs_namenode.op_ids import FUTURE_MS, check_age
from dfs_namenode.store.contents import ExtentRow
from dfs_namenode.store.guard import filesystem_of

CHUNK = "0" * 31 + "1"
DIGEST = tree_digest(b"0123456789")
FACTS = {CHUNK: ChunkFacts(10, DIGEST)}


@pytest.mark.parametrize(
    ("extent", "accepted"),
    [
        (Extent(CHUNK, 0, 10, DIGEST), True),
        (Extent(CHUNK, 3, 7, "a" * 32), True),
        (Extent(CHUNK, 0, 10, "a" * 32), False),
        (Extent(CHUNK, 1, 10, DIGEST), False),
        (Extent(CHUNK, 10, 1, DIGEST), False),
        (Extent("f" * 32, 0, 1, DIGEST), False),
    ],
)
def test_an_extent_lies_within_a_chunk_of_its_request(extent: Extent, accepted: bool) -> None:
    if accepted:
        check_extents([extent], FACTS)
    else:
        with pytest.raises(InvalidRequest) as refused:
            check_extents([extent], FACTS)
        assert refused.value.detail["chunk"] == extent.chunk


def test_the_digest_of_a_content_is_that_of_its_only_extent_or_of_the_list() -> None:
    first, second = bytes(range(16)), bytes(range(16, 32))
    assert content_digest([]).hex() == EMPTY_DIGEST
    assert content_digest([(5, first)]) == first
    packed = struct.pack("<Q", 5) + first + struct.pack("<Q", 7) + second
    assert content_digest([(5, first), (7, second)]) == xxhash.xxh3_128_digest(packed)
    # Golden: a change of it would change every entity tag.
    assert content_digest([(5, first), (7, second)]).hex() == "7ab7bef8812fa12f4a20a87ab3750b4f"


EXTENTS = st.lists(
    st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(0, 30), st.integers(1, 10)), max_size=12
).map(lambda found: [ExtentRow(0, chunk, offset, length, b"") for chunk, offset, length in found])


@given(extents=EXTENTS)
def test_runs_cover_exactly_the_bytes_of_their_extents(extents: list[ExtentRow]) -> None:
    runs, index_of = find_runs(extents)
    wanted = {(e.chunk, byte) for e in extents for byte in range(e.offset, e.offset + e.length)}
    granted = [(run.chunk, byte) for run in runs for byte in range(run.start, run.end)]
    assert set(granted) == wanted
    # Nothing twice, and no two runs that touch: each is as long as it can be.
    assert len(granted) == len(wanted)
    for run in runs:
        assert (run.chunk, run.end) not in wanted
    for extent, index in zip(extents, index_of, strict=True):
        run = runs[index]
        assert run.chunk == extent.chunk
        assert run.start <= extent.offset
        assert extent.offset + extent.length <= run.end


@given(extents=EXTENTS)
def test_joined_runs_are_those_of_one_chunk_in_order_and_every_extent_finds_its_own(extents: list[ExtentRow]) -> None:
    runs, index_of = find_runs(extents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dfs_namenode.layout.RUNS_MAX", 2)
        joined, list_of = join_runs(runs, index_of)
    assert [run for group in joined for run in group] == runs
    for group in joined:
        assert len({run.chunk for run in group}) == 1
        assert len(group) <= 2
        assert all(before.end < after.start for before, after in pairwise(group))
    for run_index, list_index in zip(index_of, list_of, strict=True):
        assert runs[run_index] in joined[list_index]


def test_an_operation_id_is_good_from_a_little_ahead_until_results_are_forgotten() -> None:
    now_ms, retention_ms = 1_800_000_000_000, 3_600_000
    for made_ms in (now_ms - retention_ms + 1, now_ms, now_ms + FUTURE_MS):
        check_age(new_id(made_ms), now_ms=now_ms, retention_ms=retention_ms)
    with pytest.raises(OperationExpired):
        check_age(new_id(now_ms - retention_ms), now_ms=now_ms, retention_ms=retention_ms)
    with pytest.raises(InvalidRequest):
        check_age(new_id(now_ms + FUTURE_MS + 1), now_ms=now_ms, retention_ms=retention_ms)


MOUNTS = """\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 22 0:28 / /mnt/nfs rw,relatime shared:9 master:2 - nfs4 server:/export rw,vers=4.2
31 30 254:2 / /mnt/nfs/local rw - xfs /dev/vdb rw
32 22 0:29 / /mnt/with\\040blank rw - cifs //server/share rw
33 22 0:30 / /mnt/nfs2 rw - fuse.sshfs host: rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/home/me/store", "ext4"),
        ("/mnt/nfs", "nfs4"),
        ("/mnt/nfs/store", "nfs4"),
        ("/mnt/nfs/local/store", "xfs"),
        ("/mnt/nfsx", "ext4"),
        ("/mnt/nfs2/x", "fuse.sshfs"),
        ("/mnt/with blank/x", "cifs"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_the_deepest_mount(path: str, kind: str) -> None:
    assert filesystem_of(path, MOUNTS) == kind
