"""`dfs mini` as its users meet it: started, used, interrupted, damaged, started again."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from dfs.protocol.settings import PARENT_VARIABLE
from fixtures.command import clean_environ, run_dfs

READY_S = 30
STOP_S = 5


class Mini:
    """One run of `dfs mini`."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.output: list[str] = []
        self._errors = directory.parent / "stderr"
        with self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dfs.cli", "mini", str(directory), *options],
                stdout=subprocess.PIPE,
                stderr=errors,
                env=clean_environ(),
                text=True,
                start_new_session=True,
            )

    def wait_ready(self) -> "Mini":
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line.rstrip("\n"))
            if line.startswith("ready "):
                return self
        raise AssertionError(self.errors)

    @property
    def url(self) -> str:
        return self.output[-1].removeprefix("ready ")

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    @property
    def record(self) -> dict[str, Any]:
        record = json.loads((self.directory / "cluster.json").read_text())
        assert isinstance(record, dict)
        return record

    @property
    def pids(self) -> list[int]:
        return [self.record["namenode"]["pid"], *(datanode["pid"] for datanode in self.record["datanodes"])]

    def dfs(self, *arguments: str, stdin: bytes = b"") -> bytes:
        ended = run_dfs("--namenode", self.url, *arguments, stdin=stdin)
        assert ended.code == 0, ended.error
        return ended.out

    def end(self, number: int = signal.SIGINT) -> int:
        """Send a signal; the exit code. It must leave within STOP_S."""
        self.process.send_signal(number)
        return self.process.wait(STOP_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(STOP_S * 2)
        assert self.process.stdout is not None
        self.process.stdout.close()


Start = Callable[..., Mini]


@pytest.fixture(name="start")
def start_mini(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as running:

        def start(*options: str, directory: Path = tmp_path / "data") -> Mini:
            mini = Mini(directory, *options)
            running.callback(mini.close)
            return mini

        yield start


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_it_says_what_is_there_and_what_to_try_and_last_that_it_is_ready(start: Start) -> None:
    mini = start("--port", "0").wait_ready()
    assert re.fullmatch(r"ready http://127\.0\.0\.1:\d+", mini.output[-1])
    assert mini.record["namenode"]["url"] == mini.url
    assert [datanode["id"] for datanode in mini.record["datanodes"]] == ["dn1", "dn2", "dn3"]
    assert all(any(datanode["url"] in line for line in mini.output) for datanode in mini.record["datanodes"])
    assert all(len(line) <= 80 for line in mini.output if str(mini.directory) not in line)
    commands = [line.split()[1:] for line in mini.output if line.startswith("  dfs ")]
    assert len(commands) == 3
    for command in commands:
        assert run_dfs(*command).code == 0, command
    assert mini.errors == ""


def test_each_server_is_a_process_and_all_end_with_it(start: Start) -> None:
    mini = start("--port", "0", "--datanodes", "2").wait_ready()
    pids = mini.pids
    assert len(set(pids)) == 3
    assert all(psutil.pid_exists(pid) for pid in pids)
    assert mini.end() == 0
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert mini.errors == ""


def test_started_again_it_has_the_same_ids_ports_and_files(start: Start) -> None:
    first = start("--port", "0", "--datanodes", "2").wait_ready()
    first.dfs("put", "-", "/f", stdin=b"content")
    before = first.record
    assert first.end(signal.SIGTERM) == 0
    second = start().wait_ready()
    strip = [{**datanode, "pid": 0} for datanode in before["datanodes"]]
    assert [{**datanode, "pid": 0} for datanode in second.record["datanodes"]] == strip
    assert second.url == before["namenode"]["url"]
    assert second.dfs("cat", "/f") == b"content"


def test_a_datanode_whose_directory_was_wiped_begins_anew_and_gets_its_chunks_back(start: Start) -> None:
    first = start("--port", "0", "--datanodes", "3").wait_ready()
    first.dfs("put", "-", "/f", stdin=b"content")
    assert first.end(signal.SIGTERM) == 0
    wiped = Path(first.record["datanodes"][1]["dir"])
    had = {path.name for path in wiped.glob("chunks/*/*")}
    assert had
    shutil.rmtree(wiped)
    second = start().wait_ready()
    assert [datanode["id"] for datanode in second.record["datanodes"]] == ["dn1", "dn2", "dn3"]
    assert second.dfs("cat", "/f") == b"content"
    # It may have others too: the store is backed up into the cluster.
    wait_until(
        lambda: had <= {path.name for path in wiped.glob("chunks/*/*")}, "the wiped datanode has the chunk again", 60
    )


def test_killed_itself_it_leaves_no_process_and_starts_again(start: Start) -> None:
    first = start("--port", "0", "--datanodes", "1").wait_ready()
    first.dfs("put", "-", "/f", stdin=b"content")
    pids = first.pids
    first.process.kill()
    first.process.wait()
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids), "the servers end with mini")
    assert start().wait_ready().dfs("cat", "/f") == b"content"


@pytest.mark.parametrize("role", ["namenode", "datanode"])
def test_a_server_whose_parent_is_gone_before_it_could_watch_it_begins_nothing(role: str, tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    arguments = [role, "--dir", str(tmp_path / "data"), "--listen", "127.0.0.1:0", "--exit-with-parent"]
    arguments += ["--namenode", "http://127.0.0.1:1"] if role == "datanode" else []
    environ = clean_environ(**{PARENT_VARIABLE: str(gone.pid)})
    done = subprocess.run([sys.executable, "-m", "dfs.cli", *arguments], env=environ, capture_output=True, timeout=30)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert done.stdout == b""
    assert not (tmp_path / "data").exists()


def test_a_killed_datanode_is_told_and_not_resurrected(start: Start) -> None:
    mini = start("--port", "0").wait_ready()
    victim = mini.record["datanodes"][1]
    os.kill(victim["pid"], signal.SIGKILL)
    wait_until(lambda: bool(mini.errors), "the death is told")
    time.sleep(0.5)
    assert mini.errors == (
        f"dfs: datanode-2 ({victim['url']}, process {victim['pid']}) was killed (SIGKILL): 2 of 3 are left\n"
    )
    assert not psutil.pid_exists(victim["pid"])
    mini.dfs("put", "-", "/f", stdin=b"content")
    assert mini.dfs("cat", "/f") == b"content"


def test_without_its_namenode_it_stops_the_rest_and_fails(start: Start) -> None:
    mini = start("--port", "0").wait_ready()
    pids = mini.pids
    os.kill(pids[0], signal.SIGKILL)
    assert mini.process.wait(STOP_S) == 5
    assert mini.errors.startswith("dfs: the namenode was killed (SIGKILL): stopping the rest")
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_directory_in_use_is_refused(start: Start) -> None:
    mini = start("--port", "0", "--datanodes", "1").wait_ready()
    ended = run_dfs("mini", str(mini.directory), "--port", "0")
    assert ended.code == 4
    assert f"is in use by another dfs mini (process {mini.process.pid})" in ended.error


def test_a_port_in_use_is_told_with_the_way_out(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run_dfs("mini", str(tmp_path), "--port", str(port), "--datanode-port", "0")
        assert ended.code == 4
        assert f"port {port} is in use by another program" in ended.error
        assert "--port 0" in ended.error


def test_a_signal_while_it_starts_ends_it_cleanly(start: Start) -> None:
    mini = start("--port", "0")
    log = mini.directory / "logs" / "namenode.log"
    wait_until(log.exists, "the namenode is started")
    children = psutil.Process(mini.process.pid).children()
    assert mini.end() == 0
    assert not any(child.is_running() for child in children)


def test_an_unknown_setting_in_the_environment_is_refused(tmp_path: Path) -> None:
    ended = run_dfs("mini", str(tmp_path), "--port", "0", environ=clean_environ(DFS_REPLICATON="2"))
    assert ended.code == 2
    assert "DFS_REPLICATON, which no role knows (did you mean DFS_REPLICATION?)" in ended.error


@pytest.mark.parametrize("role", ["namenode", "datanode"])
def test_a_role_refuses_what_it_does_not_know(role: str, tmp_path: Path) -> None:
    config = tmp_path / "dfs.toml"
    config.write_text(f"[{role}]\nlisten_on = 'x'\n")
    ended = run_dfs(role, "--dir", str(tmp_path / "d"), "--config", str(config))
    assert ended.code == 2
    assert "has no setting 'listen_on'" in ended.error
    ended = run_dfs(role, "--dir", str(tmp_path / "d"), environ=clean_environ(DFS_LISTENN="x"))
    assert ended.code == 2
    assert "DFS_LISTENN" in ended.error


@pytest.mark.parametrize("role", ["namenode", "datanode"])
def test_a_role_refuses_to_be_reached_from_outside_unless_told(role: str, tmp_path: Path) -> None:
    ended = run_dfs(role, "--dir", str(tmp_path / "d"), "--listen", "0.0.0.0:0")
    assert ended.code != 0
    assert "insecure" in ended.error


def test_a_role_does_not_begin_in_the_directory_of_another(start: Start) -> None:
    mini = start("--port", "0", "--datanodes", "1").wait_ready()
    assert mini.end(signal.SIGTERM) == 0
    datanode = run_dfs("datanode", "--dir", str(mini.directory / "namenode"), "--listen", "127.0.0.1:0")
    namenode = run_dfs("namenode", "--dir", str(mini.directory / "datanode-1"), "--listen", "127.0.0.1:0")
    for done, other in ((datanode, "namenode"), (namenode, "datanode")):
        assert done.code == 4
        assert f"holds the data of a {other}" in done.error
