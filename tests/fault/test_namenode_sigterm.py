"""A namenode that is told to end finishes what it has begun: SIGTERM while files are being written (F19, F21, F91).

For a datanode: `test_sigterm_lets_a_running_stream_end`.
"""

import threading
import time
from collections.abc import Iterator

import pytest

from dfs.errors import DfsError
from dfs.testing import Cluster, cluster


@pytest.fixture
def running() -> Iterator[Cluster]:
    with cluster(datanodes=3) as made:
        yield made


def test_a_file_that_is_being_written_over_a_restart_is_whole(running: Cluster) -> None:  # F19
    data = bytes(range(256)) * 4096 * 3
    fs = running.connect()
    with fs.open("/big", "wb") as file:
        file.write(data[: len(data) // 2])
        assert running.namenode.terminate() == 0
        running.namenode.restart()
        file.write(data[len(data) // 2 :])
    assert running.connect().read_bytes("/big") == data
    assert "Traceback" not in running.namenode.log


def test_whoever_was_told_that_it_is_done_finds_it_done_after_sigterm(running: Cluster) -> None:  # F21
    told: list[str] = []
    failures: list[DfsError] = []
    go_on = threading.Event()
    go_on.set()

    def write(writer: int) -> None:
        fs = running.connect()
        number = 0
        while go_on.is_set():
            path = f"/{writer}-{number}"
            number += 1
            try:
                fs.mkdir(path)
                told.append(path)
            except DfsError as error:
                failures.append(error)
                return

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(8)]
    for writer in writers:
        writer.start()
    deadline = time.monotonic() + 20
    while len(told) < 100 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert running.namenode.terminate() == 0, "it does not end in the middle of a group"
    before = len(told)
    running.namenode.restart()
    while len(told) < before + 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    go_on.clear()
    for writer in writers:
        writer.join(60)
    there = {entry.path for entry in running.connect().ls("/")}
    assert before >= 100
    assert set(told) <= there
    assert len(there) <= len(told) + len(failures), "and nothing was done of which nobody was told, but for failures"
    assert "Traceback" not in running.namenode.log
