"""A directory of real data goes in by one door and comes out identical by every other one.

DFS_TEST_DATA_MIB says how much; `make compat` takes more than `make test`.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from dfs.fsspec import DfsFileSystem
from dfs.testing import Cluster, cluster
from fixtures.command import clean_environ, run_dfs
from fixtures.real_data import EMPTY_DIRECTORY, MIB, make_tree, manifest

SIZE = int(os.environ.get("DFS_TEST_DATA_MIB", "40")) * MIB
CHUNK = 2 * MIB
PIECE = MIB
STORED = "/doors/in here, 100%"
CURL = shutil.which("curl")
BIG = 256 << 10
"""From here on a body is not sent to the namenode in vain: curl asks first."""

Manifest = dict[str, str]

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("real") / "data"
    make_tree(root, SIZE)
    yield root
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def wanted(data: Path) -> Manifest:
    return manifest(data)


def digest_of(pieces: Iterator[bytes]) -> str:
    made = hashlib.sha256()
    for piece in pieces:
        made.update(piece)
    return made.hexdigest()


def below(path: str) -> str:
    assert path.startswith(STORED + "/"), path
    return path.removeprefix(STORED + "/")


def files_and_directories(data: Path) -> Iterator[tuple[Path, str]]:
    for place, directories, files in os.walk(data):
        for name in (*directories, *files):
            local = Path(place, name)
            yield local, f"{STORED}/{local.relative_to(data).as_posix()}"


# --- in -----------------------------------------------------------------------------------------------------------


def dfs(made: Cluster, *arguments: str) -> None:
    ended = run_dfs(*arguments, environ=clean_environ(DFS_NAMENODE=made.url))
    assert ended.code == 0, ended.error


def in_by_command(made: Cluster, data: Path) -> None:
    dfs(made, "put", "-r", "--parents", str(data), STORED)


def in_by_sync(made: Cluster, data: Path) -> None:
    dfs(made, "sync", "--parents", str(data), f"dfs:{STORED}")


def in_by_python(made: Cluster, data: Path) -> None:
    report = made.connect().put(data, STORED, recursive=True, parents=True)
    assert not report.failures


def in_by_fsspec(made: Cluster, data: Path) -> None:
    DfsFileSystem(made.url).put(f"{data}/", STORED, recursive=True)


def in_by_http(made: Cluster, data: Path) -> None:
    """Big files through the namenode's redirect, as curl does; the others straight to the datanodes in turn."""
    with requests.Session() as session:
        for number, (local, path) in enumerate(files_and_directories(data)):
            if local.is_dir():
                continue
            if CURL is not None and local.stat().st_size >= BIG:
                url = f"{made.url}/files{quote(path)}"
                subprocess.run([CURL, "-sSfL", "-o", "/dev/null", "-T", str(local), url], check=True)
                continue
            datanode = made.datanodes[number % len(made.datanodes)]
            with local.open("rb") as file:
                answer = session.put(f"{datanode.url}/files{quote(path)}", data=file, timeout=60)
            assert answer.status_code == 201, answer.text
    assert requests.get(f"{made.url}/files{quote(STORED)}/{quote(EMPTY_DIRECTORY)}", timeout=60).status_code == 404
    made.connect().mkdir(f"{STORED}/{EMPTY_DIRECTORY}")  # this door has no way to make one


def in_by_webhdfs(made: Cluster, data: Path) -> None:
    with requests.Session() as session:
        for local, path in files_and_directories(data):
            url = f"{made.url}/webhdfs/v1{quote(path)}"
            if local.is_dir():
                assert session.put(f"{url}?op=MKDIRS", timeout=60).json() == {"boolean": True}
                continue
            sent_on = session.put(f"{url}?op=CREATE", allow_redirects=False, timeout=60)
            assert sent_on.status_code == 307, sent_on.text
            with local.open("rb") as file:
                answer = session.put(sent_on.headers["location"], data=file, timeout=60)
            assert answer.status_code == 201, answer.text


IN: dict[str, Callable[[Cluster, Path], None]] = {
    "command": in_by_command,
    "sync": in_by_sync,
    "python": in_by_python,
    "fsspec": in_by_fsspec,
    "http": in_by_http,
    "webhdfs": in_by_webhdfs,
}


# --- out ----------------------------------------------------------------------------------------------------------


def out_by_command(made: Cluster, room: Path) -> Manifest:
    dfs(made, "get", "-r", STORED, str(room / "got"))
    return manifest(room / "got")


def out_by_sync(made: Cluster, room: Path) -> Manifest:
    dfs(made, "sync", f"dfs:{STORED}", str(room / "synced"))
    return manifest(room / "synced")


def out_by_python(made: Cluster, room: Path) -> Manifest:
    fs, found = made.connect(), {}
    for _, directories, files in fs.walk(STORED):
        for directory in directories:
            found[below(directory.path)] = ""
        for entry in files:
            with fs.open(entry.path, "rb") as file:
                found[below(entry.path)] = digest_of(iter(lambda: file.read(PIECE), b""))
    return found


def out_by_fsspec(made: Cluster, room: Path) -> Manifest:
    fs, found = DfsFileSystem(made.url), {}
    listed = fs.find(STORED, withdirs=True, detail=True)
    small = [path for path, info in listed.items() if info["type"] == "file" and info["size"] < PIECE]
    for path, content in zip(small, fs.cat_ranges(small, [0] * len(small), [None] * len(small)), strict=True):
        found[below(path)] = hashlib.sha256(content).hexdigest()
    for path, info in listed.items():
        if path == STORED:
            continue
        if info["type"] == "directory":
            found[below(path)] = ""
        elif info["size"] >= PIECE:
            with fs.open(path) as file:
                found[below(path)] = digest_of(iter(lambda: file.read(PIECE), b""))
    return found


PART = re.compile(
    rb"\r\n--([^\r]+)\r\n(?:[^\r]+\r\n)*?content-range: bytes (\d+)-(\d+)/(\d+)\r\n(?:[^\r]+\r\n)*?\r\n", re.I
)


def parts_of(answer: requests.Response, ranges: list[tuple[int, int]], size: int) -> Iterator[bytes]:
    """The bytes of an answer to a request for these ranges, which may have one part or several."""
    assert answer.status_code == 206, answer.text
    if len(ranges) == 1:
        assert answer.headers["content-range"] == f"bytes {ranges[0][0]}-{ranges[0][1]}/{size}"
        yield answer.content
        return
    assert answer.headers["content-type"].startswith("multipart/byteranges")
    body, at = b"\r\n" + answer.content.removeprefix(b"\r\n"), 0
    for first, last in ranges:
        head = PART.match(body, at)
        assert head is not None, body[at : at + 300]
        assert [int(number) for number in head.groups()[1:]] == [first, last, size]
        at = head.end() + last - first + 1
        yield body[head.end() : at]
    assert body[at:].strip().endswith(b"--"), body[at:]


def ranges_of(size: int) -> Iterator[list[tuple[int, int]]]:
    """Requests that cover a file: of one range, and of several that are not in step with chunks."""
    at, count = 0, 1
    while at < size:
        step = max(1, min(PIECE - 7, (size - at) // count))
        ranges = []
        while at < size and len(ranges) < count:
            ranges.append((at, min(size, at + step) - 1))
            at += step
        yield ranges
        count = count % 5 + 1


def out_by_http(made: Cluster, room: Path) -> Manifest:
    found: Manifest = {}
    doors = [made.url, *(datanode.url for datanode in made.datanodes)]
    with requests.Session() as session:

        def read(url: str, size: int) -> Iterator[bytes]:
            if not size:
                answer = session.get(url, timeout=60)
                assert answer.status_code == 200, answer.text
                yield answer.content
            for ranges in ranges_of(size):
                asked = "bytes=" + ",".join(f"{first}-{last}" for first, last in ranges)
                yield from parts_of(session.get(url, headers={"range": asked}, timeout=60), ranges, size)

        def walk(path: str) -> None:
            for entry in session.get(f"{made.url}/files{quote(path)}/", timeout=60).json():
                if entry["kind"] == "directory":
                    found[below(entry["path"])] = ""
                    walk(entry["path"])
                    continue
                door = doors[len(found) % len(doors)]
                found[below(entry["path"])] = digest_of(read(f"{door}/files{quote(entry['path'])}", entry["size"]))

        walk(STORED)
    return found


def out_by_webhdfs(made: Cluster, room: Path) -> Manifest:
    found: Manifest = {}
    with requests.Session() as session:

        def read(url: str, size: int) -> Iterator[bytes]:
            half = size // 2
            for part in (f"length={half}", f"offset={half}"):
                with session.get(f"{url}?op=OPEN&{part}", stream=True, timeout=60) as answer:
                    assert answer.status_code == 200, answer.text
                    yield from answer.iter_content(PIECE)

        def walk(path: str) -> None:
            url = f"{made.url}/webhdfs/v1{quote(path)}"
            listed = session.get(f"{url}?op=LISTSTATUS", timeout=60).json()["FileStatuses"]["FileStatus"]
            for status in listed:
                inner = f"{path}/{status['pathSuffix']}"
                if status["type"] == "DIRECTORY":
                    found[below(inner)] = ""
                    walk(inner)
                else:
                    target = f"{made.url}/webhdfs/v1{quote(inner)}"
                    found[below(inner)] = digest_of(read(target, status["length"]))

        walk(STORED)
    return found


OUT: dict[str, Callable[[Cluster, Path], Manifest]] = {
    "command": out_by_command,
    "sync": out_by_sync,
    "python": out_by_python,
    "fsspec": out_by_fsspec,
    "http": out_by_http,
    "webhdfs": out_by_webhdfs,
}


def differing(found: Manifest, wanted: Manifest) -> list[str]:
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))


@pytest.mark.parametrize("door", IN)
def test_what_goes_in_by_one_door_comes_out_identical_by_every_other_one(
    door: str, data: Path, wanted: Manifest, tmp_path: Path
) -> None:
    with cluster(datanodes=3, replication=2, chunk_size_bytes=CHUNK) as made:
        IN[door](made, data)
        for name, out in OUT.items():
            room = tmp_path / name
            room.mkdir()
            assert differing(out(made, room), wanted) == [], f"in by {door}, out by {name}"
            shutil.rmtree(room)


@pytest.mark.parametrize("door", ["python", "webhdfs"])
def test_what_the_namenode_passes_on_is_identical_too(door: str, data: Path, wanted: Manifest, tmp_path: Path) -> None:
    with cluster(datanodes=3, replication=2, chunk_size_bytes=CHUNK, webhdfs_data="namenode") as made:
        IN[door](made, data)
        for name, out in OUT.items() if door == "webhdfs" else [("webhdfs", out_by_webhdfs)]:
            room = tmp_path / name
            room.mkdir()
            assert differing(out(made, room), wanted) == [], f"out by {name}"
            shutil.rmtree(room)
