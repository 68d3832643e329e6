"""What `dfs mini` decides before it starts anything: ports, counts, who may use the directory."""

import json
import os
import socket
from pathlib import Path

import pytest

from dfs.mini import Mini, Plan, _check_port, _datanode_ports, locked
from dfs.protocol.errors import Conflict, InvalidRequest


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DFS_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("first", "recorded", "count", "namenode_port", "ports"),
    [
        (None, [], 3, 9870, [9864, 9865, 9866]),
        (None, [], 8, 9870, [9864, 9865, 9866, 9867, 9868, 9869, 9871, 9872]),
        (None, [5001, 5002], 2, 9870, [5001, 5002]),
        (None, [5001, 5002], 3, 9870, [5001, 5002, 9864]),
        (None, [9864, 9865], 1, 9870, [9864]),
        (7000, [5001], 2, 7001, [7000, 7002]),
        (0, [5001], 2, 9870, [0, 0]),
        (None, [], 2, 0, [0, 0]),
    ],
)
def test_datanodes_keep_their_ports_or_get_the_next_ones(
    first: int | None, recorded: list[int], count: int, namenode_port: int, ports: list[int]
) -> None:
    assert _datanode_ports(first, recorded, count, namenode_port) == ports


def test_ports_end_at_65535() -> None:
    with pytest.raises(InvalidRequest, match="65535"):
        _datanode_ports(65_535, [], 2, 9870)


def _arguments(mini: Mini) -> dict[str, str]:
    options = mini.namenode.arguments[1:]
    return dict(zip(options[::2], options[1::2], strict=True))


def test_with_fewer_datanodes_than_three_replicas_are_their_number(tmp_path: Path) -> None:
    assert Mini(Plan(str(tmp_path), datanodes=2)).replication == 2
    assert Mini(Plan(str(tmp_path), datanodes=5)).replication == 3
    assert Mini(Plan(str(tmp_path), datanodes=5, replication=4)).replication == 4


@pytest.mark.parametrize("plan", [{"datanodes": 0}, {"datanodes": 1000}, {"datanodes": 2, "replication": 3}])
def test_impossible_numbers_are_refused(tmp_path: Path, plan: dict[str, int]) -> None:
    with pytest.raises(InvalidRequest):
        Mini(Plan(str(tmp_path), **plan))


def test_what_was_recorded_is_kept_and_options_win(tmp_path: Path) -> None:
    record = {
        "namenode": {"url": "http://127.0.0.1:4000", "pid": 1},
        "datanodes": [{"id": "dn1", "url": "http://127.0.0.1:4001", "pid": 2, "dir": "x"}],
        "replication": 1,
    }
    (tmp_path / "cluster.json").write_text(json.dumps(record))
    again = Mini(Plan(str(tmp_path)))
    assert _arguments(again)["--listen"] == "127.0.0.1:4000"
    assert again.replication == 1
    moved = Mini(Plan(str(tmp_path), port=4010))
    assert _arguments(moved)["--listen"] == "127.0.0.1:4010"


def test_a_record_that_is_not_json_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text("{")
    with pytest.raises(Conflict, match="remove it"):
        Mini(Plan(str(tmp_path)))


def test_the_environment_wins_over_minis_own_graces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _arguments(Mini(Plan(str(tmp_path))))["--dead-after-s"] == "30"
    monkeypatch.setenv("DFS_DEAD_AFTER_S", "77")
    assert "--dead-after-s" not in _arguments(Mini(Plan(str(tmp_path))))


def test_a_directory_has_one_mini_at_a_time(tmp_path: Path) -> None:
    directory = str(tmp_path / "new" / "data")
    with locked(directory), pytest.raises(Conflict, match=f"process {os.getpid()}"), locked(directory):
        pass
    with locked(directory):
        pass


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Conflict, match="not a directory"), locked(str(tmp_path / "file")):
        pass


def test_a_port_in_use_is_told_with_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=rf"port {port} is in use.*--port 0"):
            _check_port(port, "--port 0", patience_s=0)
    _check_port(port, "--port 0", patience_s=0)
