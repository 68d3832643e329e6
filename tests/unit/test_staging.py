"""Uploads that take long, and uploads that are interrupted: drafts and journals, over a cluster in memory."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfs.client import Client
from dfs.journal import Journal, open_journal, state_directory
from dfs.protocol import errors as e
from dfs.protocol import messages as m
from dfs.protocol.ids import new_id
from dfs.resuming import RECEIPTS_USABLE_SHARE
from dfs.staging import STAGE_AGE_SHARE, STAGE_CHUNKS
from fixtures.fake_cluster import BORN_S, NOW_MS, FakeCluster

SIZE = 64 * 1024
"""Of a chunk."""
WINDOW_S = 12 * 3600
"""A cluster that says nothing of its window has this one."""
STAGE_AGE_S = STAGE_AGE_SHARE * WINDOW_S
RECEIPTS_USABLE_S = RECEIPTS_USABLE_SHARE * WINDOW_S


@pytest.fixture(name="cluster")
def a_cluster() -> FakeCluster:
    return FakeCluster(chunk_size=SIZE, pack_limit=1000)


@pytest.fixture(name="fs")
def a_client(cluster: FakeCluster) -> Iterator[Client]:
    with cluster.connect() as fs:
        yield fs


# --- staging ----------------------------------------------------------------------------------------------------


def test_a_stream_that_lasts_stages_its_chunks_before_their_receipts_are_too_old(
    cluster: FakeCluster, fs: Client
) -> None:
    data = os.urandom(5 * SIZE)
    with fs.open("/slow", "wb") as file:
        file.write(data[: 3 * SIZE])
        assert cluster.called("stage") == []
        cluster.clock.wait(STAGE_AGE_S)
        file.write(data[3 * SIZE : 4 * SIZE])
        assert cluster.called("stage")
        assert not fs.exists("/slow")
        file.write(data[4 * SIZE :])
    assert fs.read_bytes("/slow") == data
    assert cluster.drafts == {}


def test_a_cluster_with_a_short_window_has_its_chunks_staged_sooner(cluster: FakeCluster, fs: Client) -> None:
    cluster.commit_window_s = 8000
    stage_age_s = STAGE_AGE_SHARE * 8000
    with fs.open("/slow", "wb") as file:
        file.write(os.urandom(2 * SIZE))
        cluster.clock.wait(stage_age_s - BORN_S - 100)
        file.write(os.urandom(SIZE))
        assert cluster.called("stage") == []
        cluster.clock.wait(200)
        file.write(os.urandom(SIZE))
        assert cluster.called("stage")


def test_a_stream_of_many_chunks_does_not_wait_with_all_of_them(cluster: FakeCluster, fs: Client) -> None:
    data = os.urandom(SIZE) * (STAGE_CHUNKS + 10)
    with fs.open("/long", "wb") as file:
        file.write(data)
    assert sum(len(stage.extents) for stage in cluster.called("stage")) == STAGE_CHUNKS + 10
    assert fs.read_bytes("/long") == data


def test_an_append_that_lasts_becomes_one_append(cluster: FakeCluster, fs: Client) -> None:
    data = os.urandom(4 * SIZE)
    with fs.open("/log", "ab") as file:
        for place in range(4):
            file.write(data[place * SIZE : (place + 1) * SIZE])
            cluster.clock.wait(STAGE_AGE_S)
    assert len(cluster.called("stage")) > 1
    assert len(cluster.called("commit")) == 1
    assert fs.read_bytes("/log") == data


def test_a_quick_upload_needs_no_draft(cluster: FakeCluster, fs: Client) -> None:
    fs.write_bytes("/quick", b"x" * (4 * SIZE))
    assert cluster.called("stage") == []


def test_a_stream_that_is_given_up_drops_its_draft(cluster: FakeCluster, fs: Client) -> None:
    file = fs.open("/never", "wb")
    file.write(os.urandom(3 * SIZE))
    cluster.clock.wait(STAGE_AGE_S)
    file.write(os.urandom(2 * SIZE))
    assert cluster.drafts
    file.abort()
    assert cluster.drafts == {}


# --- resuming ---------------------------------------------------------------------------------------------------


@pytest.fixture(name="source")
def a_big_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    source = tmp_path / "big"
    source.write_bytes(os.urandom(6 * SIZE + 100))
    return source


class Died(Exception):
    """As close to a kill as one process comes."""


def put_until(fs: Client, cluster: FakeCluster, source: Path, chunks: int, **options: object) -> None:
    """Put until so many chunks were stored, then die: nothing is tidied up at the namenode."""
    plain = cluster.begin_put
    put = 0

    def begin_put(*arguments: object, **named: object) -> object:
        nonlocal put
        put += 1
        if put > chunks:
            raise Died
        return plain(*arguments, **named)  # type: ignore[arg-type]

    cluster.begin_put = begin_put  # type: ignore[assignment, method-assign]
    try:
        with pytest.raises(Died):
            fs.put(source, "/big", resume=True, **options)  # type: ignore[arg-type]
    finally:
        cluster.begin_put = plain  # type: ignore[method-assign]
        cluster.puts.clear()


def journals(tmp_path: Path) -> list[str]:
    directory = state_directory({"XDG_STATE_HOME": str(tmp_path / "state")})
    return os.listdir(directory) if os.path.isdir(directory) else []


def test_an_interrupted_put_goes_on_where_it_was(
    cluster: FakeCluster, fs: Client, source: Path, tmp_path: Path
) -> None:  # F18
    put_until(fs, cluster, source, 4)
    assert not fs.exists("/big")
    assert len(journals(tmp_path)) == 1
    heard: list[str] = []
    moved: list[int] = []
    fs.put(source, "/big", resume=True, notice=heard.append, progress=lambda size, _: moved.append(size))
    assert len({chunk for _, chunk in cluster.puts}) == 3, "seven chunks, of which four were stored"
    assert fs.read_bytes("/big") == source.read_bytes()
    assert heard == [f"the upload of {source} goes on: 67% of its {6 * SIZE + 100} bytes are stored already"]
    assert sum(moved) == 6 * SIZE + 100
    assert journals(tmp_path) == []


def test_without_resume_nothing_is_noted_nor_believed(
    cluster: FakeCluster, fs: Client, source: Path, tmp_path: Path
) -> None:
    put_until(fs, cluster, source, 4)
    fs.put(source, "/big")
    assert len({chunk for _, chunk in cluster.puts}) == 7
    assert fs.read_bytes("/big") == source.read_bytes()


@pytest.mark.parametrize("change", ["bytes", "time", "inode"])
def test_a_source_that_changed_starts_anew(
    cluster: FakeCluster, fs: Client, source: Path, tmp_path: Path, change: str
) -> None:  # F18
    put_until(fs, cluster, source, 4)
    if change == "bytes":
        source.write_bytes(os.urandom(6 * SIZE + 100))
        os.utime(source, ns=(1, 1))
    elif change == "time":
        os.utime(source, ns=(2, 2))
    else:
        other = tmp_path / "other"
        other.write_bytes(source.read_bytes())
        os.utime(other, ns=(source.stat().st_mtime_ns,) * 2)
        os.rename(other, source)
    heard: list[str] = []
    fs.put(source, "/big", resume=True, notice=heard.append)
    assert len({chunk for _, chunk in cluster.puts}) == 7
    assert fs.read_bytes("/big") == source.read_bytes()
    assert heard == [f"{source} has changed since its upload was interrupted: it is sent anew"]


def test_another_target_or_another_cut_shares_nothing(cluster: FakeCluster, fs: Client, source: Path) -> None:
    put_until(fs, cluster, source, 4)
    heard: list[str] = []
    fs.put(source, "/elsewhere", resume=True, notice=heard.append)
    assert heard == []
    assert len({chunk for _, chunk in cluster.puts}) == 7
    fs.put(source, "/big", resume=True, notice=heard.append, replication=2)
    assert heard == [f"{source} is to be stored in another way since its upload was interrupted: it is sent anew"]
    assert fs.read_bytes("/big") == fs.read_bytes("/elsewhere") == source.read_bytes()


def test_receipts_that_are_nearly_too_old_are_not_relied_on(cluster: FakeCluster, fs: Client, source: Path) -> None:
    put_until(fs, cluster, source, 4)
    cluster.clock.wait(RECEIPTS_USABLE_S + 1)
    fs.put(source, "/big", resume=True)
    assert len({chunk for _, chunk in cluster.puts}) == 7
    assert fs.read_bytes("/big") == source.read_bytes()


def test_receipts_are_not_relied_on_for_longer_than_the_cluster_takes_them(
    cluster: FakeCluster, fs: Client, source: Path
) -> None:
    cluster.commit_window_s = 8000
    # What the first life stores is not staged: how much of it was, would depend on the threads.
    assert STAGE_AGE_SHARE * 8000 > BORN_S
    put_until(fs, cluster, source, 4)
    cluster.clock.wait(RECEIPTS_USABLE_SHARE * 8000 - BORN_S + 100)
    fs.put(source, "/big", resume=True)
    assert len({chunk for _, chunk in cluster.puts}) == 7, "what was stored is sent again"


def staged_then_died(fs: Client, cluster: FakeCluster, source: Path) -> None:
    """A put that had staged some chunks when it died."""
    put_until(fs, cluster, source, 2)
    cluster.clock.wait(STAGE_AGE_S + 1)
    put_until(fs, cluster, source, 2)
    assert cluster.drafts


def test_what_is_in_the_draft_is_good_for_days(cluster: FakeCluster, fs: Client, source: Path) -> None:  # F18
    staged_then_died(fs, cluster, source)
    staged = sum(len(stage.extents) for stage in cluster.called("stage"))
    assert staged
    cluster.clock.wait(3 * 86_400)
    fs.put(source, "/big", resume=True)
    assert len({chunk for _, chunk in cluster.puts}) == 7 - staged
    assert fs.read_bytes("/big") == source.read_bytes()
    assert cluster.drafts == {}


def test_a_draft_that_is_gone_takes_its_chunks_with_it(cluster: FakeCluster, fs: Client, source: Path) -> None:
    staged_then_died(fs, cluster, source)
    cluster.drafts.clear()
    fs.put(source, "/big", resume=True)
    assert fs.read_bytes("/big") == source.read_bytes()


def test_chunks_that_are_lost_meanwhile_are_sent_again(cluster: FakeCluster, fs: Client, source: Path) -> None:
    put_until(fs, cluster, source, 4)
    cluster.refuse_receipts_of = {"dn1", "dn2"}
    fs._experience.suspects.add(["dn1", "dn2"])
    heard: list[str] = []
    fs.put(source, "/big", resume=True, notice=heard.append)
    assert heard[-1] == f"what was stored of {source} has been lost since: it is sent anew"
    assert fs.read_bytes("/big") == source.read_bytes()


def test_a_source_that_changes_while_it_is_sent_stores_nothing(cluster: FakeCluster, fs: Client, source: Path) -> None:
    plain = cluster.begin_put

    def begin_put(*arguments: object, **named: object) -> object:
        os.utime(source, ns=(5, 5))
        return plain(*arguments, **named)  # type: ignore[arg-type]

    cluster.begin_put = begin_put  # type: ignore[assignment, method-assign]
    with pytest.raises(e.Conflict, match="changed while it was read"):
        fs.put(source, "/big", resume=True)
    assert not fs.exists("/big")


def test_what_can_not_be_read_twice_is_not_resumed(fs: Client, tmp_path: Path) -> None:
    with pytest.raises(e.IsADirectory):
        fs.put(tmp_path, "/tree", resume=True, recursive=True)
    with pytest.raises(e.InvalidRequest, match="regular file"):
        fs.put("/dev/null", "/null", resume=True)


# --- the journal ------------------------------------------------------------------------------------------------


def an_upload(tmp_path: Path, **changes: object) -> "Journal":
    from dfs.journal import FORM, Upload

    facts: dict[str, object] = {
        "form": FORM, "cluster": "c" * 32, "path": "/p", "source": "/s", "device": 1, "inode": 2, "size": 3,
        "mtime_ns": 4, "chunk_size": 5, "replication": 3, "draft": new_id(NOW_MS),
    }  # fmt: skip
    return open_journal(Upload(**(facts | changes)), str(tmp_path / "j"))  # type: ignore[arg-type]


def a_chunk() -> m.NewChunk:
    return m.NewChunk(new_id(NOW_MS), 5, "0" * 32, ["receipt"])


def test_a_line_that_a_dying_client_left_unfinished_is_ignored(tmp_path: Path) -> None:
    first = an_upload(tmp_path)
    chunks = [a_chunk() for _ in range(3)]
    for place, chunk in enumerate(chunks):
        first.add_stored(place, chunk)
    first.add_staged([0])
    first.close()
    (path,) = (tmp_path / "j").iterdir()
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    starts = [whole.index(line) for line in lines]
    # Before, at the beginning, in the middle, and at the end of each line; each opening waits for the disk.
    cuts = [
        start + at for start, line in zip(starts, lines, strict=True) for at in (0, 1, len(line) // 2, len(line) - 1)
    ]
    for cut in cuts:
        path.write_bytes(whole[:cut])
        journal = an_upload(tmp_path)
        complete = whole[:cut].count(b"\n")
        if complete:
            assert journal.chunks == dict(enumerate(chunks[: complete - 1]))
            assert path.read_bytes() == b"".join(lines[:complete])
        assert journal.staged == set()
        journal.add_stored(7, chunks[0])
        journal.close()
        again = an_upload(tmp_path)
        assert again.chunks[7] == chunks[0]
        again.close()


def test_a_journal_is_for_one_process_at_a_time_and_for_its_owner(tmp_path: Path) -> None:
    first = an_upload(tmp_path)
    with pytest.raises(e.Conflict, match="another process"):
        an_upload(tmp_path)
    first.close()
    (path,) = (tmp_path / "j").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    an_upload(tmp_path).close()


def test_a_journal_of_another_form_is_ignored(tmp_path: Path) -> None:
    first = an_upload(tmp_path, form=99)
    first.add_stored(0, a_chunk())
    first.close()
    second = an_upload(tmp_path)
    assert not second.went_on
    second.close()


def test_journals_that_nobody_wants_any_more_go(tmp_path: Path) -> None:
    an_upload(tmp_path, path="/old").close()
    (path,) = (tmp_path / "j").iterdir()
    os.utime(path, (1, 1))
    an_upload(tmp_path).close()
    assert not path.exists()
