"""How files get in, against a cluster in memory that fails where it is told to."""

import gc
import os
from pathlib import Path

import pytest

from dfs.protocol import errors as e
from dfs.protocol.digests import tree_digest
from dfs.protocol.messages import ITEMS_MAX
from fixtures.fake_cluster import FakeCluster

CHUNK = 1 << 20


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(chunk_size=CHUNK)


def content(cluster: FakeCluster, path: str) -> bytes:
    """What a path holds, without the client's reader."""
    file = cluster.tree[path]
    assert file is not None
    data = b""
    for extent in file.extents:
        holder = next(replicas for replicas in cluster.replicas.values() if extent.chunk in replicas)
        data += bytes(holder[extent.chunk][extent.offset : extent.offset + extent.length])
    return data


def test_a_file_is_cut_into_chunks_that_have_three_replicas(cluster: FakeCluster) -> None:
    data = os.urandom(2 * CHUNK + 5)
    with cluster.connect() as fs:
        fs.write_bytes("/a", data)
    assert content(cluster, "/a") == data
    file = cluster.tree["/a"]
    assert file is not None
    assert [extent.length for extent in file.extents] == [CHUNK, CHUNK, 5]
    assert all(len(cluster.chunks[extent.chunk].receipts) == 3 for extent in file.extents)


def test_a_refused_head_costs_no_new_chunk_id(cluster: FakeCluster) -> None:
    # F1
    cluster.refused = {"dn1"}
    with cluster.connect() as fs:
        fs.write_bytes("/a", b"data")
    (first, second) = cluster.puts
    assert (first[0], second[0]) == ("dn1", "dn2")
    assert first[1] == second[1]
    assert len(cluster.called("allocate")) == 1


def test_a_head_that_breaks_in_mid_stream_is_excluded_and_the_chunk_gets_a_new_id(cluster: FakeCluster) -> None:
    # F2
    cluster.breaks_after = {"dn1": 2 * CHUNK // 3}
    data = os.urandom(CHUNK)
    with cluster.connect() as fs:
        fs.write_bytes("/a", data)
    assert content(cluster, "/a") == data
    (first, second) = cluster.puts
    assert first[1] != second[1]
    assert cluster.called("allocate")[1].exclude == ["dn1"]


def test_a_culprit_in_the_middle_is_excluded_and_those_behind_it_are_not(cluster: FakeCluster) -> None:
    # F3
    cluster.hop_fails = {"dn2"}
    with cluster.connect() as fs:
        fs.write_bytes("/a", b"data")
    assert cluster.called("allocate")[1].exclude == ["dn2"]
    file = cluster.tree["/a"]
    assert file is not None
    holders = {receipt.partition("/")[0] for receipt in cluster.chunks[file.extents[0].chunk].receipts}
    assert holders == {"dn1", "dn3", "dn4"}


def test_a_failing_last_hop_leaves_enough_replicas(cluster: FakeCluster) -> None:
    # F4
    cluster.hop_fails = {"dn3"}
    with cluster.connect() as fs:
        fs.write_bytes("/a", b"data")
    assert len(cluster.called("allocate")) == 1


def test_a_bit_that_flips_on_the_wire_costs_one_repetition_and_twice_is_an_error(cluster: FakeCluster) -> None:
    # F12
    with cluster.connect() as fs:
        cluster.flip_wire = 1
        fs.write_bytes("/a", b"data")
        assert content(cluster, "/a") == b"data"
        cluster.flip_wire = 2
        with pytest.raises(e.DigestMismatch):
            fs.write_bytes("/b", b"data")
    assert "/b" not in cluster.tree


def test_too_many_suspects_are_better_than_no_datanode(cluster: FakeCluster) -> None:
    with cluster.connect() as fs:
        fs._experience.suspects.add(["dn1", "dn2", "dn3"])
        fs.write_bytes("/a", b"data")
    assert content(cluster, "/a") == b"data"


def test_a_cluster_without_enough_datanodes_is_an_error_and_nothing_is_visible() -> None:
    # F34
    cluster = FakeCluster(datanodes=1)
    with cluster.connect() as fs, pytest.raises(e.NotEnoughDatanodes):
        fs.write_bytes("/a", b"data")
    assert "/a" not in cluster.tree


def test_a_commit_whose_answer_is_lost_is_repeated_with_its_op_id_and_done_once(cluster: FakeCluster) -> None:
    # F21
    cluster.call_faults.append(("commit", "after", e.OutcomeUnknown("no answer")))
    with cluster.connect() as fs:
        outcome = fs.write_bytes("/a", b"data")
    (first, second) = cluster.called("commit")
    assert first == second
    assert cluster.seq == outcome.version


def test_an_op_id_that_the_namenode_finds_too_old_is_minted_anew_once(cluster: FakeCluster) -> None:
    cluster.call_faults.append(("commit", "before", e.OperationExpired("too old")))
    with cluster.connect() as fs:
        fs.write_bytes("/a", b"data")
        (first, second) = cluster.called("commit")
        assert first.op_id != second.op_id
        cluster.call_faults += [("commit", "before", e.OperationExpired("too old"))] * 2
        with pytest.raises(e.OperationExpired):
            fs.write_bytes("/b", b"data")


def test_a_namenode_that_stays_away_after_a_commit_leaves_the_outcome_unknown(cluster: FakeCluster) -> None:
    with cluster.connect() as fs:
        fs.stat("/")
        cluster.call_faults.append(("commit", "after", e.OutcomeUnknown("no answer")))
        cluster.call_faults += [("commit", "before", e.NotSent("refused"))] * 1000
        with pytest.raises(e.OutcomeUnknown, match="not known"):
            fs.write_bytes("/a", b"data")


@pytest.mark.parametrize("later", [e.OperationExpired("too old"), e.BadAnswer("what?")])
def test_a_commit_that_may_be_done_is_never_done_again_under_another_id(
    cluster: FakeCluster, later: e.DfsError
) -> None:
    with cluster.connect() as fs:
        fs.write_bytes("/before", b"x")
        cluster.call_faults.append(("commit", "after", e.OutcomeUnknown("no answer")))
        cluster.call_faults.append(("commit", "before", later))
        with pytest.raises(e.OutcomeUnknown, match="whether it was done is not known"):
            fs.append("/before", b"y")
        assert fs.read_bytes("/before") == b"xy"


def test_a_namenode_that_never_answered_is_given_up_soon_with_advice(cluster: FakeCluster) -> None:
    cluster.call_faults += [("stat", "before", e.NotSent("refused"))] * 1000
    began = cluster.clock.now_s
    with cluster.connect() as fs, pytest.raises(e.NotSent, match="dfs mini"):
        fs.stat("/")
    assert cluster.clock.now_s - began < 5


def test_chunks_whose_receipts_no_longer_count_are_sent_again(cluster: FakeCluster) -> None:
    # F98
    cluster.refuse_receipts_of = {"dn1", "dn2"}
    with cluster.connect() as fs:
        cluster.call_faults.clear()
        original = cluster._commit

        def commit_once_refused(request: object) -> object:
            try:
                return original(request)  # type: ignore[arg-type]
            finally:
                cluster.refuse_receipts_of = set()

        cluster._commit = commit_once_refused  # type: ignore[method-assign,assignment]
        fs.write_bytes("/a", b"data")
    assert content(cluster, "/a") == b"data"
    assert len({chunk for _, chunk in cluster.puts}) == 2


def test_a_local_file_that_shrinks_while_it_is_read_stores_nothing(cluster: FakeCluster, tmp_path: Path) -> None:
    local = tmp_path / "shrinks"
    local.write_bytes(os.urandom(3 * CHUNK))
    with cluster.connect(parallel=1) as fs:
        original = cluster.begin_put

        def begin_put(*arguments: object, **named: object) -> object:
            os.truncate(local, CHUNK // 2)
            return original(*arguments, **named)  # type: ignore[arg-type]

        cluster.begin_put = begin_put  # type: ignore[method-assign,assignment]
        with pytest.raises(e.Conflict, match="became shorter"):
            fs.put(local, "/a")
    assert "/a" not in cluster.tree


def test_a_local_file_that_vanishes_after_it_was_opened_is_stored_whole(cluster: FakeCluster, tmp_path: Path) -> None:
    local = tmp_path / "vanishes"
    data = os.urandom(2 * CHUNK)
    local.write_bytes(data)
    original = cluster.begin_put

    def begin_put(*arguments: object, **named: object) -> object:
        local.unlink(missing_ok=True)
        return original(*arguments, **named)  # type: ignore[arg-type]

    cluster.begin_put = begin_put  # type: ignore[method-assign,assignment]
    with cluster.connect() as fs:
        fs.put(local, "/a")
    assert content(cluster, "/a") == data


def test_put_refuses_an_existing_file_before_a_byte_travels(cluster: FakeCluster, tmp_path: Path) -> None:
    local = tmp_path / "f"
    local.write_bytes(b"new")
    with cluster.connect() as fs:
        fs.write_bytes("/f", b"old")
        cluster.puts.clear()
        with pytest.raises(e.FileExists):
            fs.put(local, "/f")
        assert cluster.puts == []
        fs.put(local, "/f", overwrite=True)
        fs.mkdir("/d")
        fs.put(local, "/d")
    assert content(cluster, "/d/f") == content(cluster, "/f") == b"new"


def test_a_body_that_raises_publishes_nothing(cluster: FakeCluster) -> None:
    with cluster.connect() as fs:
        for mode in ("wb", "w", "ab"):
            with pytest.raises(ZeroDivisionError), fs.open("/a", mode) as file:  # noqa: PT012
                file.write(b"half" if "b" in mode else "half")
                raise ZeroDivisionError
    assert "/a" not in cluster.tree


def test_a_writer_that_is_dropped_publishes_nothing_and_says_so(cluster: FakeCluster) -> None:
    with cluster.connect() as fs:
        for mode in ("wb", "w"):
            file = fs.open("/a", mode)
            file.write(b"half" if mode == "wb" else "half")
            with pytest.warns(ResourceWarning, match="never closed"):  # noqa: PT031
                del file
                gc.collect()
    assert "/a" not in cluster.tree


def test_text_is_written_and_read_as_utf_8_with_its_lines(cluster: FakeCluster) -> None:
    with cluster.connect() as fs:
        with fs.open("/t", "w") as file:
            file.write("grün\nrot\n")
        with fs.open("/t", "a") as file:
            file.write("blau\n")
        with fs.open("/t") as file:
            assert list(file) == ["grün\n", "rot\n", "blau\n"]
        with pytest.raises(e.FileExists):
            fs.open("/t", "x")
        with pytest.raises(ValueError, match="mode"):
            fs.open("/t", "rw")
        with pytest.raises(TypeError, match="parent"):
            fs.open("/new", "wb", parent=True)


def test_many_small_appends_make_one_extent_and_big_ones_make_more(cluster: FakeCluster) -> None:
    with cluster.connect() as fs:
        for number in range(20):
            fs.append("/log", b"line %d\n" % number)
        file = cluster.tree["/log"]
        assert file is not None
        assert len(file.extents) == 1
        big = os.urandom(2 * CHUNK)
        fs.append("/log", big)
        assert fs.read_bytes("/log") == b"".join(b"line %d\n" % number for number in range(20)) + big


def test_an_append_that_loses_a_race_looks_again_and_loses_no_bytes(cluster: FakeCluster) -> None:
    with cluster.connect() as fs, cluster.connect() as other:
        fs.append("/log", b"1")
        original, raced = cluster._commit, []

        def commit(request: object) -> object:
            if not raced:
                raced.append(True)
                other.append("/log", b"2")
            return original(request)  # type: ignore[arg-type]

        cluster._commit = commit  # type: ignore[method-assign,assignment]
        fs.append("/log", b"3")
        assert fs.read_bytes("/log") == b"123"


def test_an_append_without_create_needs_the_file(cluster: FakeCluster) -> None:
    with cluster.connect() as fs, pytest.raises(e.FileNotFound):
        fs.append("/log", b"1", create=False)


def test_a_transaction_is_one_commit_in_order_with_its_small_files_in_one_chunk(cluster: FakeCluster) -> None:
    with cluster.connect() as fs:
        fs.write_bytes("/old", b"old")
        cluster.calls.clear()
        with fs.transaction() as t:
            for number in range(10):
                t.write_bytes(f"/f{number}", b"%d" % number)
            t.write_bytes("/empty", b"")
            t.write_bytes("/big", b"x" * (CHUNK + 1))
            t.rename("/f0", "/g0")
            t.remove("/old")
            assert "/f1" not in cluster.tree
        assert len(cluster.called("commit")) == 1
        assert len(t.outcomes) == 14
        assert [fs.read_bytes(path) for path in ("/g0", "/f9", "/empty")] == [b"0", b"9", b""]
        assert not fs.exists("/old")
        assert len({extent.chunk for n in range(1, 10) for extent in cluster.tree[f"/f{n}"].extents}) == 1  # type: ignore[union-attr]


def test_a_transaction_whose_body_raises_or_that_is_refused_publishes_nothing(cluster: FakeCluster) -> None:
    with cluster.connect() as fs:
        with pytest.raises(ZeroDivisionError), fs.transaction() as t:  # noqa: PT012
            t.write_bytes("/a", b"1")
            raise ZeroDivisionError
        with pytest.raises(e.FileNotFound), fs.transaction() as t:  # noqa: PT012
            t.write_bytes("/a", b"1")
            t.remove("/missing")
        assert not fs.exists("/a")
        with pytest.raises(e.InvalidRequest):
            t.write_bytes("/a", b"1")


def test_what_is_larger_than_a_commit_goes_through_a_draft_and_appears_at_once(cluster: FakeCluster) -> None:
    count = ITEMS_MAX + 10
    with cluster.connect() as fs:
        with fs.transaction() as t:
            for number in range(count):
                t.write_bytes(f"/n{number}", b"%d" % number)
        stages = cluster.called("stage")
        assert len(stages) >= 2
        assert all(len(s.actions) + len(s.extents) + len(s.chunks) <= ITEMS_MAX for s in stages)
        assert sum(len(s.chunks) for s in stages) == 1
        assert len(cluster.called("commit")) == 1
        assert fs.read_bytes(f"/n{count - 1}") == b"%d" % (count - 1)
        assert cluster.drafts == {}


def test_a_draft_that_can_not_be_published_is_dropped(cluster: FakeCluster) -> None:
    with cluster.connect() as fs:
        with pytest.raises(e.FileNotFound), fs.transaction() as t:  # noqa: PT012
            for number in range(ITEMS_MAX + 10):
                t.write_bytes(f"/n{number}", b"%d" % number)
            t.remove("/missing")
        assert cluster.drafts == {}
        assert not fs.exists("/n0")


def test_a_file_of_more_extents_than_a_commit_takes_is_staged_by_number() -> None:
    from dfs.protocol.messages import Extent, NewChunk, PutFile
    from dfs.publisher import stages

    count = 2 * ITEMS_MAX
    extents = [Extent(f"{n:032x}", 0, 5, tree_digest(b"12345")) for n in range(count)]
    chunks = {x.chunk: NewChunk(x.chunk, 5, x.digest, ["r"]) for x in extents}
    found = list(stages([PutFile(path="/a", extents=extents, replication=1)], chunks))
    assert all(len(s.extents) + len(s.chunks) + len(s.actions) <= ITEMS_MAX for s in found)
    staged = [item for s in found for item in s.extents]
    assert [item.extent for item in sorted(staged, key=lambda item: item.index)] == extents
    assert {item.file for item in staged} == {0}
    assert {s.replication for s in found} == {1}
    (action,) = [action for s in found for action in s.actions]
    assert isinstance(action, PutFile)
    assert action.staged == 0
    assert action.extents == []
