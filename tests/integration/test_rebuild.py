"""A namenode that went back in time, with real processes: nothing is lost, one command brings the rest back (F63)."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dfs.client import Client
from dfs.protocol.chunk_format import HEADER_SIZE
from dfs.testing import Cluster, Datanode, cluster
from fixtures.command import Ended, Run, clean_environ, run_dfs

CHUNK = 1 << 20
BIG = os.urandom(3 * CHUNK + 12_345)


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.1)


@pytest.fixture(name="three")
def three_datanodes() -> Iterator[Cluster]:
    with cluster(
        datanodes=3, replication=2, orphan_age_s=1, read_grace_s=1, chunk_size_bytes=CHUNK, report_interval_s=2
    ) as running:
        yield running


@pytest.fixture(name="run")
def a_command(three: Cluster) -> Run:
    environ = clean_environ(DFS_NAMENODE=three.url)
    return lambda *arguments: run_dfs(*arguments, environ=environ)


def save(three: Cluster, to: Path) -> None:
    """Copy the namenode's directory, as a backup of yesterday."""
    three.namenode.terminate()
    shutil.copytree(three.namenode.dir, to)
    start(three)
    # Another leader, so that the datanodes have obeyed a later one than the copy will have.
    three.namenode.terminate()
    start(three)


def go_back(three: Cluster, to: Path) -> None:
    """Lose the namenode, and start another one on what was saved. The datanodes have heard of everything before."""
    time.sleep(1.5)
    three.namenode.kill()
    shutil.rmtree(three.namenode.dir)
    shutil.copytree(to, three.namenode.dir)
    start(three)


def start(three: Cluster) -> None:
    three.namenode.start()
    three.namenode.wait_ready()


def orphans_of(run: Run) -> dict[str, object]:
    found = run("fsck", "--orphans", "--json")
    assert found.code == 0, found.error
    return dict(json.loads(found.text))


def write_much(fs: Client, source: Path) -> dict[str, bytes]:
    """Big, small, renamed, streamed: what was written, by the path at which its writer put it."""
    tree = {f"f{number}": os.urandom(1 + 997 * number) for number in range(40)}
    source.mkdir()
    for name, data in tree.items():
        (source / name).write_bytes(data)
    fs.put_tree(str(source), "/new/tree", parents=True)
    fs.write_bytes("/new/big", BIG, parents=True)
    fs.write_bytes("/new/before", BIG[:5000])
    fs.rename("/new/before", "/new/after")
    with fs.open("/new/stream", "wb") as file:
        for start_at in range(0, len(BIG), 100_000):
            file.write(BIG[start_at : start_at + 100_000])
    written = {f"/new/tree/{name}": data for name, data in tree.items()}
    return written | {"/new/big": BIG, "/new/before": BIG[:5000], "/new/stream": BIG}


def test_a_namenode_on_yesterdays_backup_deletes_nothing_and_the_newer_files_come_back(
    three: Cluster, run: Run, tmp_path: Path
) -> None:  # F63
    fs = three.connect()
    fs.write_bytes("/old", b"from before")
    save(three, tmp_path / "yesterday")
    written = write_much(fs, tmp_path / "tree")
    go_back(three, tmp_path / "yesterday")

    wait_until(lambda: orphans_of(run)["chunks"] == 10, "every chunk of the newer files is reported")
    assert "`dfs admin rebuild --from-datanodes`" in run("status").text
    doctor = run("doctor")
    assert doctor.code == 1
    assert "dfs admin rebuild --from-datanodes" in doctor.text
    assert orphans_of(run)["by_reason"] == {"young": 0, "history": 10, "safe_mode": 0, "deletion": 0}
    assert "kept" in run("fsck", "--orphans").lines[-1]
    time.sleep(2.5)
    assert json.loads(run("admin", "gc", "--now", "--json").text)["orphans_buried"] == 0
    assert orphans_of(run)["chunks"] == 10, "nothing unknown is deleted, however old it is"
    assert fs.read_bytes("/old") == b"from before"
    fs.write_bytes("/new/after", b"of the new history", parents=True)

    tried = json.loads(run("admin", "rebuild", "--from-datanodes", "--dry-run", "--json").text)
    assert (tried["to_lost_found"], orphans_of(run)["chunks"]) == (len(written), 10)
    rebuilt = run("admin", "rebuild", "--from-datanodes", "--json")
    assert rebuilt.code == 0, rebuilt.text
    record = json.loads(rebuilt.text)
    assert (record["to_lost_found"], record["incomplete"], record["left"]) == (len(written), 0, {})
    for path, data in written.items():
        assert fs.read_bytes(record["lost_found"] + path) == data
    assert fs.read_bytes("/new/after") == b"of the new history"
    wait_until(lambda: run("fsck", "/").code == 0, "what came back has all its replicas")

    again = json.loads(run("admin", "rebuild", "--from-datanodes", "--json").text)
    assert (again["to_paths"], again["to_lost_found"], again["incomplete"]) == (0, 0, 0)
    assert [entry.name for entry in fs.ls("/lost+found")] == [record["lost_found"].rsplit("/", 1)[1]]

    assert run("admin", "resolve-history", "--yes").code == 0
    assert orphans_of(run)["summary"].startswith("No orphans")  # type: ignore[attr-defined]
    for path, data in written.items():
        assert fs.read_bytes(record["lost_found"] + path) == data


def test_what_is_left_is_collected_when_the_history_is_resolved(three: Cluster, run: Run, tmp_path: Path) -> None:
    fs = three.connect()
    save(three, tmp_path / "yesterday")
    fs.write_bytes("/new", BIG)
    go_back(three, tmp_path / "yesterday")
    wait_until(lambda: orphans_of(run)["replicas"] == 8, "every replica of the newer file is reported")
    fs.admin.set_safe_mode(on=True)
    assert run("admin", "resolve-history", "--yes").code == 0
    wait_until(lambda: orphans_of(run)["by_reason"]["safe_mode"] == 4, "it is told why")  # type: ignore[index]
    fs.admin.set_safe_mode(on=False)
    wait_until(lambda: orphans_of(run)["chunks"] == 0, "they are buried without another report")
    wait_until(lambda: sum(node.used_bytes for node in fs.status().datanodes) == 0, "they are deleted")


@pytest.fixture(name="backed")
def three_datanodes_with_backups() -> Iterator[Cluster]:
    with cluster(
        datanodes=3, replication=2, chunk_size_bytes=CHUNK, report_interval_s=2, backup_interval_s=0.5
    ) as running:
        yield running


def is_backed_up(fs: Client) -> bool:
    backup = fs.status().backup
    return backup is not None and backup.seq > 0 and backup.behind_s == 0


def test_what_the_change_log_tells_comes_back_to_its_own_path(backed: Cluster, tmp_path: Path) -> None:  # F63
    environ = clean_environ(DFS_NAMENODE=backed.url)

    def run(*arguments: str) -> Ended:
        return run_dfs(*arguments, environ=environ)

    fs = backed.connect()
    fs.write_bytes("/replaced", b"as it was")
    fs.write_bytes("/dir/kept", b"kept", parents=True)
    wait_until(lambda: is_backed_up(fs), "the first backup is made")
    save(backed, tmp_path / "yesterday")
    written = write_much(fs, tmp_path / "tree")
    fs.write_bytes("/removed", b"nobody wants it back")
    fs.write_bytes("/replaced", b"as it is")
    fs.append("/dir/kept", b" and longer")
    fs.copy("/new/big", "/new/copy")
    fs.set_attributes("/new/big", mode=0o600, attributes={"colour": "green"})
    fs.mkdir("/empty")
    fs.write_bytes("/nothing", b"")
    wait_until(lambda: is_backed_up(fs), "the changes are backed up")
    fs.rename("/new/tree", "/moved")
    fs.remove("/removed")
    wait_until(lambda: is_backed_up(fs), "the later changes are backed up")
    go_back(backed, tmp_path / "yesterday")
    wait_until(lambda: "are kept" in run("fsck", "--orphans").lines[-1], "what is newer is reported")

    rebuilt = run("admin", "rebuild", "--from-datanodes", "--json")
    record = json.loads(rebuilt.text)
    assert (rebuilt.code, record["lost"], record["incomplete"]) == (0, {}, 0), rebuilt.text
    expected = {
        path.replace("/new/tree", "/moved").replace("/new/before", "/new/after"): data for path, data in written.items()
    } | {"/new/copy": BIG, "/nothing": b""}
    for path, data in expected.items():
        assert fs.read_bytes(path) == data, path
    assert fs.read_bytes("/replaced") == b"as it was", "what is there is not touched"
    assert fs.read_bytes(record["lost_found"] + "/replaced") == b"as it is"
    assert fs.read_bytes(record["lost_found"] + "/dir/kept") == b"kept and longer"
    assert (fs.stat("/new/big").mode, fs.stat("/new/big").attributes) == (0o600, {"colour": "green"})
    assert fs.stat("/empty").is_directory
    assert not fs.exists("/new/tree")
    assert not fs.exists("/removed")
    assert record["to_paths"] == len(expected)

    again = run("admin", "rebuild", "--from-datanodes", "--json")
    told = json.loads(again.text)
    assert (told["to_paths"], told["unchanged"]) == (0, len(expected))


def is_right(node: Datanode, chunk: str, data: bytes) -> bool:
    path = node.chunk_paths().get(chunk)
    return path is None or Path(path).read_bytes()[HEADER_SIZE:][: len(data)] == data


def test_only_the_beginning_of_a_file_comes_back_if_a_piece_of_it_is_gone(
    three: Cluster, run: Run, tmp_path: Path
) -> None:
    fs = three.connect()
    save(three, tmp_path / "yesterday")
    fs.write_bytes("/torn", BIG)
    fs.write_bytes("/rotten", BIG[:1000])
    pieces = [extent.chunk for extent in fs.places("/torn").extents]
    (rotten,) = fs.places("/rotten").chunks
    go_back(three, tmp_path / "yesterday")
    wait_until(lambda: orphans_of(run)["replicas"] == 10, "every replica is reported")
    holders = [node for node in three.datanodes if rotten.id in node.chunk_paths()]
    holders[0].flip(rotten.id)
    for node in three.datanodes:
        if pieces[2] in node.chunk_paths():
            os.unlink(node.chunk_path(pieces[2]))
    wait_until(lambda: orphans_of(run)["chunks"] == 4, "all but the piece that is gone is reported")
    fs.admin.scrub()
    wait_until(lambda: "(bad)" in run("fsck", "--orphans").text, "the rotten replica is told")
    rebuilt = run("admin", "rebuild", "--from-datanodes", "--json")
    record = json.loads(rebuilt.text)
    assert rebuilt.code == 1
    assert (record["to_lost_found"], record["incomplete"]) == (1, 1), record
    assert record["missing"] == [
        f"/torn: bytes {2 * CHUNK} to {3 * CHUNK} are missing, of {len(BIG)} bytes",
    ]
    assert list(record["left"].values()) == [1], "the piece behind the gap"
    assert fs.read_bytes(record["lost_found"] + "/torn.partial") == BIG[: 2 * CHUNK]
    assert fs.read_bytes(record["lost_found"] + "/rotten") == BIG[:1000], "from the replica that is right"
    assert run("admin", "resolve-history", "--yes").code == 0
    wait_until(lambda: run("fsck", record["lost_found"]).code == 0, "what came back gets all its replicas")
    wait_until(lambda: is_right(holders[0], rotten.id, BIG[:1000]), "also the one that was bad")
