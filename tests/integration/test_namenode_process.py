"""A namenode as a process: it starts, says so, shows its health, and refuses what it must (F49, F74)."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from dfs.protocol.errors import EXIT_CONFLICT, EXIT_OK, EXIT_USAGE
from dfs.protocol.messages import Empty
from dfs.protocol.operations import CLUSTER
from dfs.protocol.transport import Transport

PROGRAM = """
import sys
from dfs_namenode.app import run
from dfs_namenode.settings import NamenodeSettings
sys.exit(run(NamenodeSettings(dir=sys.argv[1], listen=sys.argv[2], exit_with_parent=True)))
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []

    def begin(directory: Path, listen: str = "127.0.0.1:0") -> "subprocess.Popen[str]":
        arguments = [sys.executable, "-c", PROGRAM, str(directory), listen]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def url_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    word, url = process.stdout.readline().split()
    assert word == "ready"
    return url


def test_a_namenode_says_that_it_is_ready_and_ends_with_sigterm(start: Start, tmp_path: Path) -> None:
    process = start(tmp_path)
    url = url_of(process)
    transport = Transport()
    cluster = transport.call(url, CLUSTER, Empty()).cluster
    transport.close()
    health = requests.get(f"{url}/healthz", timeout=5)
    assert health.status_code == 200
    duties = {"balance", "collect", "drain", "forget", "repair", "seek", "spread", "sweep", "trim", "watch"}
    assert duties <= health.json()["loops"].keys(), "each shows when it succeeded last"
    assert all(age_s < 10 for age_s in health.json()["loops"].values())
    ready = requests.get(f"{url}/readyz", timeout=5)
    assert (ready.status_code, ready.json()["ok"]) == (503, False), "without datanodes no put would succeed"
    metrics = requests.get(f"{url}/metrics", timeout=5).text
    assert 'dfs_namenode_calls_total{operation="cluster",outcome="ok"} 1.0' in metrics
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == EXIT_OK, errors

    again = start(tmp_path)
    url = url_of(again)
    transport = Transport()
    assert transport.call(url, CLUSTER, Empty()).cluster == cluster
    transport.close()


def test_a_namenode_that_was_killed_starts_again_on_its_directory(start: Start, tmp_path: Path) -> None:
    first = start(tmp_path)
    url_of(first)
    first.kill()
    first.communicate()
    url_of(start(tmp_path))


def test_a_second_namenode_on_one_directory_is_refused(start: Start, tmp_path: Path) -> None:  # F74
    url_of(start(tmp_path))
    second = start(tmp_path)
    output, errors = second.communicate(timeout=10)
    assert (second.returncode, output) == (EXIT_CONFLICT, "")
    assert "Traceback" not in errors
    assert errors.count("\n") == 1, "one sentence"


def test_an_address_that_others_can_reach_is_refused_without_insecure(start: Start, tmp_path: Path) -> None:
    process = start(tmp_path / "never", "0.0.0.0:0")
    output, errors = process.communicate(timeout=10)
    assert (process.returncode, output) == (EXIT_USAGE, "")
    assert "--insecure" in errors
    assert not os.path.exists(tmp_path / "never"), "who can't listen has touched nothing"


def test_a_directory_with_a_secret_but_no_store_is_refused(start: Start, tmp_path: Path) -> None:  # F64
    first = start(tmp_path)
    url_of(first)
    first.kill()
    first.communicate()
    for name in os.listdir(tmp_path):
        if name.startswith("namenode.db"):
            os.unlink(tmp_path / name)
    second = start(tmp_path)
    _, errors = second.communicate(timeout=10)
    assert second.returncode == EXIT_CONFLICT
    assert "restore the store" in errors
