"""A download that goes on with what an earlier one left behind, whatever that is."""

import fcntl
import os
import random
from pathlib import Path
from typing import Any

import pytest

from dfs.partial import partial_name
from dfs.protocol import errors as e
from fixtures.fake_cluster import FakeCluster

CHUNK = 16 << 20
PART = 4 << 20
DATA = random.Random(3).randbytes(2 * CHUNK + 5)


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(chunk_size=CHUNK)


def fetched(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of data of each read from now on, without tables."""
    sizes: list[int] = []
    get_chunk = cluster.get_chunk

    def counting(*arguments: Any, **options: Any) -> None:
        sizes.append(options["length"])
        get_chunk(*arguments, **options)

    monkeypatch.setattr(cluster, "get_chunk", counting)
    return sizes


@pytest.mark.parametrize(
    ("left", "most"),
    [
        (DATA, 3 * 16384),
        (DATA[: 6 * PART], 2 * PART + 5 + 3 * 16384),
        (DATA + b"and more", 3 * 16384),
        (DATA[:PART] + b"\0" * PART + DATA[2 * PART :], PART + 3 * 16384),
        (b"something else", len(DATA) + 3 * 16384),
        (b"", len(DATA) + 3 * 16384),
    ],
)
def test_only_what_does_not_have_the_right_digests_is_fetched(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: bytes, most: int
) -> None:
    target = tmp_path / "f"
    with cluster.connect() as fs:
        fs.write_bytes("/f", DATA)
        Path(partial_name(str(target))).write_bytes(left)
        sizes = fetched(cluster, monkeypatch)
        fs.get("/f", target, resume=True)
    assert target.read_bytes() == DATA
    assert sum(sizes) <= most
    assert os.listdir(tmp_path) == ["f"]


def test_what_has_come_stays_after_an_error(cluster: FakeCluster, tmp_path: Path) -> None:
    target = tmp_path / "f"

    def interrupt(size: int, _files: int) -> None:
        raise KeyboardInterrupt

    with cluster.connect() as fs:
        fs.write_bytes("/f", DATA)
        with pytest.raises(KeyboardInterrupt):
            fs.get("/f", target, resume=True, progress=interrupt)
        assert os.listdir(tmp_path) == [".f.dfs-partial"]
        fs.get("/f", target, resume=True)
    assert target.read_bytes() == DATA


def test_one_process_at_a_time_fills_a_file(cluster: FakeCluster, tmp_path: Path) -> None:
    target = tmp_path / "f"
    with cluster.connect() as fs, open(partial_name(str(target)), "wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        fs.write_bytes("/f", b"data")
        with pytest.raises(e.Conflict, match="another process"):
            fs.get("/f", target, resume=True)


def test_long_names_have_partial_files_of_their_own() -> None:
    one, other = partial_name("/d/" + "x" * 254 + "a"), partial_name("/d/" + "x" * 254 + "b")
    assert one != other
    assert len(os.path.basename(one)) < 255
    assert partial_name("/d/name") == "/d/.name.dfs-partial"
