"""`dfs sync` in both directions, `--include` and `--exclude`, and `get --resume`, with a real cluster."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import pytest

from dfs.partial import partial_name
from dfs.testing import Cluster
from fixtures.command import Ended, Run, clean_environ, run_dfs

_NUMBERS = count()


@pytest.fixture(name="base")
def a_path_of_its_own(dfs_command: Run) -> str:
    path = f"/sync-{next(_NUMBERS)}"
    assert dfs_command("mkdir", path).code == 0
    return path


def test_a_time_that_can_not_be_kept_becomes_the_nearest_that_can(dfs_command: Run, base: str, tmp_path: Path) -> None:
    top = tmp_path / "times"
    top.mkdir()
    for name, year in (("now", 50), ("late", 330), ("early", -200)):
        (top / name).write_bytes(name.encode())
        os.utime(top / name, (0, year * 31_556_952))
    assert dfs_command("sync", str(top), f"dfs:{base}/t").code == 0
    assert changes(dfs_command("sync", "--json", str(top), f"dfs:{base}/t")) == []
    assert changes(dfs_command("sync", "--json", f"dfs:{base}/t", str(top))) == []
    assert dfs_command("put", "-p", "-r", str(top), f"{base}/p").code == 0
    assert dfs_command("put", "-p", str(top / "late"), f"{base}/one").code == 0


@pytest.fixture(name="tree")
def a_local_tree(tmp_path: Path) -> Path:
    rng = random.Random(5)
    top = tmp_path / "tree"
    for name, size in ((".git/x", 5), ("a", 0), ("b c", 10), ("ü/d", 70_000), ("x/y/z.log", 2_500_000)):
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(size))
    (top / "empty").mkdir()
    return top


def snapshot(top: Path) -> dict[str, tuple[bytes, int] | None]:
    """Contents and times of files, and None for directories, by relative path."""
    return {
        str(path.relative_to(top)): (path.read_bytes(), path.stat().st_mtime_ns) if path.is_file() else None
        for path in top.rglob("*")
    }


def changes(ended: Ended) -> list[tuple[str, str]]:
    """What `--json` told of a sync, without its last line."""
    assert ended.code == 0, ended.error
    lines = [json.loads(line) for line in ended.lines]
    assert lines[-1]["action"] == "end"
    return sorted((line["action"], line["path"]) for line in lines[:-1])


def test_a_tree_comes_out_as_it_went_in_and_a_second_sync_does_nothing(
    dfs_command: Run, base: str, tree: Path, tmp_path: Path
) -> None:
    assert dfs_command("sync", str(tree), f"dfs:{base}/t") == Ended(0, b"", "")
    assert changes(dfs_command("sync", "--json", str(tree), f"dfs:{base}/t")) == []
    back = tmp_path / "back"
    assert dfs_command("sync", f"dfs:{base}/t", str(back)) == Ended(0, b"", "")
    assert snapshot(back) == snapshot(tree)
    assert changes(dfs_command("sync", "--json", "--delete", f"dfs:{base}/t", str(back))) == []


def test_only_what_differs_travels_and_what_is_gone_is_deleted_if_asked(
    dfs_command: Run, base: str, tree: Path, tmp_path: Path
) -> None:
    remote, back = f"dfs:{base}/t", str(tmp_path / "back")
    assert dfs_command("sync", str(tree), remote).code == 0
    (tree / "a").unlink()
    (tree / "ü" / "d").write_bytes(b"shorter")
    os.utime(tree / "b c", ns=(1, 1_234_567_891_234_567_891))
    (tree / "x" / "y" / "z.log").unlink()
    (tree / "x" / "y").rmdir()
    wanted = [("copy", "b c"), ("copy", "ü/d"), ("delete", "a"), ("delete", "x/y")]
    assert changes(dfs_command("sync", "--json", str(tree), remote, "-n", "--delete")) == wanted
    assert dfs_command("test", "-e", f"{base}/t/a").code == 0, "a dry run changes nothing"
    assert changes(dfs_command("sync", "--json", str(tree), remote)) == wanted[:2]
    assert changes(dfs_command("sync", "--json", str(tree), remote, "--delete")) == wanted[2:]
    assert dfs_command("sync", remote, back).code == 0
    assert snapshot(Path(back)) == snapshot(tree)
    (Path(back) / "extra" / "deep").mkdir(parents=True)
    (Path(back) / "link").symlink_to("/etc")
    wanted = [("delete", "extra"), ("delete", "link")]
    assert changes(dfs_command("sync", "--json", "--delete", remote, back)) == wanted
    assert snapshot(Path(back)) == snapshot(tree)
    assert os.path.isdir("/etc")


def test_a_change_that_keeps_size_and_time_is_seen_by_digests(dfs_command: Run, base: str, tmp_path: Path) -> None:
    here = tmp_path / "t"
    here.mkdir()
    (here / "f").write_bytes(b"old")
    os.utime(here / "f", ns=(0, 10**18))
    remote = f"dfs:{base}/t"
    assert dfs_command("sync", str(here), remote).code == 0
    (here / "f").write_bytes(b"new")
    os.utime(here / "f", ns=(0, 10**18))
    assert changes(dfs_command("sync", "--json", str(here), remote)) == []
    assert changes(dfs_command("sync", "--json", "-c", str(here), remote)) == [("copy", "f")]
    assert dfs_command("cat", f"{base}/t/f").out == b"new"
    os.utime(here / "f", ns=(0, 2 * 10**18))
    assert changes(dfs_command("sync", "--json", "-c", str(here), remote)) == [("time", "f")]
    assert changes(dfs_command("sync", "--json", str(here), remote)) == []


def test_what_is_excluded_stays_on_both_sides(dfs_command: Run, base: str, tree: Path) -> None:
    remote = f"dfs:{base}/t"
    assert dfs_command("sync", str(tree), remote, "--exclude", ".git", "--exclude", "*.log").code == 0
    assert dfs_command("find", f"{base}/t", "-type", "f").lines == [f"{base}/t/{name}" for name in ("a", "b c", "ü/d")]
    assert dfs_command("sync", str(tree), remote).code == 0
    (tree / "x" / "y" / "z.log").unlink()
    (tree / "x" / "y").rmdir()
    assert changes(dfs_command("sync", "--json", str(tree), remote, "--delete", "--exclude", "*.log")) == []
    assert dfs_command("test", "-f", f"{base}/t/x/y/z.log").code == 0


def test_what_can_not_be_synced_is_named_and_the_rest_is_done(dfs_command: Run, base: str, tree: Path) -> None:
    remote = f"dfs:{base}/t"
    assert dfs_command("sync", str(tree), remote).code == 0
    (tree / "link").symlink_to("a")
    (tree / "a").unlink()
    (tree / "a").mkdir()
    (tree / "new").write_bytes(b"new")
    ended = dfs_command("sync", str(tree), remote)
    assert ended.code == 1
    assert f"{tree}/link: symbolic links are not stored" in ended.error
    assert "--delete replaces what is there" in ended.error
    assert dfs_command("cat", f"{base}/t/new").out == b"new"
    (tree / "link").unlink()
    assert dfs_command("sync", "--delete", str(tree), remote).code == 0
    assert dfs_command("test", "-d", f"{base}/t/a").code == 0


@pytest.mark.parametrize(
    ("source", "target", "code", "says"),
    [
        ("here", "there", 2, "dfs:/there"),
        ("/here", "/there", 2, "dfs:/there"),
        ("dfs:/a", "dfs:/b", 2, "dfs cp"),
        ("", "/b", 2, "empty"),
        ("nothing", "dfs:/b", 3, "nothing"),
        ("dfs:/nothing", "there", 3, "/nothing"),
        (".", "dfs:/no/parent", 3, "--parents"),
    ],
)
def test_sides_that_are_not_clear_or_not_there_are_refused(
    dfs_command: Run, source: str, target: str, code: int, says: str
) -> None:
    ended = dfs_command("sync", source, target)
    assert ended.code == code
    assert says in ended.error
    assert ended.error.count("\n") == 1


def test_a_relative_path_is_the_local_side(dfs_cluster: Cluster, base: str, tree: Path, tmp_path: Path) -> None:
    environ = clean_environ(DFS_NAMENODE=dfs_cluster.url)
    for arguments in (["tree", f"{base}/t"], [f"{base}/t", "./back"], ["tree", f"dfs://{dfs_cluster.url[7:]}{base}/u"]):
        done = subprocess.run(
            [sys.executable, "-m", "dfs.cli", "sync", *arguments], cwd=tmp_path, env=environ, capture_output=True
        )
        assert (done.returncode, done.stderr) == (0, b"")
    assert snapshot(tmp_path / "back") == snapshot(tree)
    assert dfs_cluster.connect().exists(f"{base}/u/a")


def test_patterns_choose_what_put_and_get_take(dfs_command: Run, base: str, tree: Path, tmp_path: Path) -> None:
    assert dfs_command("put", "-r", str(tree), f"{base}/t", "--exclude", ".git", "--exclude", "x/").code == 0
    names = [f"{base}/t{rest}" for rest in ("", "/a", "/b c", "/empty", "/ü", "/ü/d")]
    assert dfs_command("find", f"{base}/t").lines == names
    assert dfs_command("put", "-r", str(tree), f"{base}/u", "--include", "*.log").code == 0
    assert dfs_command("find", f"{base}/u").lines == [f"{base}/u{rest}" for rest in ("", "/x", "/x/y", "/x/y/z.log")]
    assert dfs_command("get", "-r", f"{base}/t", str(tmp_path / "o"), "--include", "d", "--exclude", "a").code == 0
    assert set(snapshot(tmp_path / "o")) == {"ü", "ü/d"}
    assert dfs_command("put", str(tree / "a"), f"{base}/v", "--exclude", "b").code == 2


# --- get --resume -----------------------------------------------------------------------------------------------


def test_an_interrupted_get_goes_on_with_what_has_come(
    dfs_cluster: Cluster, dfs_command: Run, base: str, tmp_path: Path
) -> None:
    data = random.Random(6).randbytes(24 << 20)
    fs = dfs_cluster.connect()
    fs.write_bytes(f"{base}/f", data)
    target = tmp_path / "f"
    partial = Path(partial_name(str(target)))
    # The beginning has come, one block of it has rotted since, and behind it is something else.
    damaged = bytearray(data[: 17 << 20])
    damaged[5 << 20] ^= 1
    partial.write_bytes(bytes(damaged) + b"other" * 3_000_000)
    before = sum(datanode_sent(dfs_cluster))
    assert dfs_command("get", "--resume", f"{base}/f", str(target)) == Ended(0, b"", "")
    assert target.read_bytes() == data
    assert not partial.exists()
    sent = sum(datanode_sent(dfs_cluster)) - before
    assert sent < 14 << 20, "three parts of 4 MiB and the tables, not all of it"


def datanode_sent(cluster: Cluster) -> list[float]:
    """Bytes that each datanode has sent to readers."""
    import urllib.request

    sent = []
    for datanode in cluster.datanodes:
        with urllib.request.urlopen(f"{datanode.url}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        sent += [float(line.split()[-1]) for line in lines if line.startswith("dfs_datanode_sent_bytes_total")]
    assert sent
    return sent


def test_a_get_that_is_killed_leaves_what_the_next_one_uses(dfs_cluster: Cluster, base: str, tmp_path: Path) -> None:
    data = random.Random(7).randbytes(48 << 20)
    dfs_cluster.connect().write_bytes(f"{base}/f", data)
    environ = clean_environ(DFS_NAMENODE=dfs_cluster.url)
    target = tmp_path / "f"
    command = [sys.executable, "-m", "dfs.cli", "get", "--resume", f"{base}/f", str(target)]
    for number in (signal.SIGKILL, signal.SIGINT):
        with subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 20
            while not os.path.exists(partial_name(str(target))) and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.002)
            process.send_signal(number)
    assert run_dfs("get", "-f", "--resume", f"{base}/f", str(target), environ=environ) == Ended(0, b"", "")
    assert target.read_bytes() == data
    assert os.listdir(tmp_path) == ["f"]


def test_a_resumed_get_takes_the_version_that_is_there_now(
    dfs_cluster: Cluster, dfs_command: Run, base: str, tmp_path: Path
) -> None:
    fs = dfs_cluster.connect()
    target = tmp_path / "f"
    for data in (b"", b"short", random.Random(8).randbytes(3 << 20)):
        fs.write_bytes(f"{base}/f", data)
        Path(partial_name(str(target))).write_bytes(b"x" * (5 << 20))
        assert dfs_command("get", "-f", "--resume", f"{base}/f", str(target)).code == 0
        assert target.read_bytes() == data


def test_a_partial_file_that_is_not_ours_is_not_used(
    dfs_cluster: Cluster, dfs_command: Run, base: str, tmp_path: Path
) -> None:
    dfs_cluster.connect().write_bytes(f"{base}/f", b"data")
    target = tmp_path / "f"
    partial = Path(partial_name(str(target)))
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    partial.symlink_to(victim)
    ended = dfs_command("get", "--resume", f"{base}/f", str(target))
    assert ended.code == 4
    assert "remove it" in ended.error
    partial.unlink()
    os.link(victim, partial)
    assert dfs_command("get", "--resume", f"{base}/f", str(target)).code == 4
    assert victim.read_bytes() == b"precious"
    assert dfs_command("get", "-r", "--resume", base, str(tmp_path / "d")).code == 2
