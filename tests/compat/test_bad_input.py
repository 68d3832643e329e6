"""Bad input at each door: the answer is the one that the users of that door expect, and nothing is changed by it.

One table for each door. What the doors' own tests say about single operations is not repeated here: these are the rows
that every door has to have, side by side.
"""

import errno
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from dfs.client import Client
from dfs.errors import StateError
from dfs.fsspec import DfsFileSystem
from dfs.testing import Cluster, cluster
from fixtures.command import clean_environ, run_dfs

LONG = "x" * 256
DEEP = "/d" * 129
CONTENT = b"0123456789"
FULL_BYTES = 1 << 60
"""More free space than any disk has: a datanode that must leave that much free is full."""


def tree(fs: Client) -> list[tuple[str, int]]:
    return sorted((entry.path, entry.version) for _, below, files in fs.walk("/") for entry in (*below, *files))


@pytest.fixture(scope="module")
def made() -> Iterator[Cluster]:
    with cluster(datanodes=2, chunk_size_bytes=1 << 20) as running:
        fs = running.connect()
        fs.mkdir("/full")
        fs.mkdir("/empty")
        fs.mkdir("/full/below")
        fs.write_bytes("/file", CONTENT)
        fs.write_bytes("/other", b"other")
        yield running


@pytest.fixture
def stage(made: Cluster) -> Iterator[Cluster]:
    """A cluster with /file, /other, /empty and /full/below: no test changes it."""
    before = tree(made.connect())
    yield made
    assert tree(made.connect()) == before, "bad input changed something"
    assert made.connect().read_bytes("/file") == CONTENT


# --- fsspec: the built-in exceptions ------------------------------------------------------------------------------

FSSPEC: list[tuple[str, Callable[[DfsFileSystem], Any], type[Exception]]] = [
    ("missing", lambda fs: fs.info("/nope"), FileNotFoundError),
    ("missing, below", lambda fs: fs.open("/nope/x"), FileNotFoundError),
    ("missing, of many", lambda fs: fs.cat(["/file", "/nope"]), FileNotFoundError),
    ("missing, to get", lambda fs: fs.get("/nope", "/tmp/never-made"), FileNotFoundError),
    ("missing, to put", lambda fs: fs.put("/no/such/local", "/x"), FileNotFoundError),
    ("missing, removed", lambda fs: fs.rm("/nope", recursive=True), FileNotFoundError),
    ("a directory, read", lambda fs: fs.open("/full"), IsADirectoryError),
    ("a directory, written", lambda fs: fs.pipe_file("/full", b"x"), IsADirectoryError),
    ("a directory, appended to", lambda fs: fs.open("/full", "ab"), IsADirectoryError),
    ("not a directory, listed", lambda fs: fs.ls("/file/x"), NotADirectoryError),
    ("not a directory, written below", lambda fs: fs.pipe_file("/file/x", b""), NotADirectoryError),
    ("not a directory, made below", lambda fs: fs.makedirs("/file/x/y"), NotADirectoryError),
    ("exists", lambda fs: fs.mkdir("/full"), FileExistsError),
    ("exists as a file", lambda fs: fs.makedirs("/file", exist_ok=True), FileExistsError),
    ("exists, created", lambda fs: fs.open("/file", "xb"), FileExistsError),
    ("not empty", lambda fs: fs.rmdir("/full"), OSError),
    ("a file, as a directory", lambda fs: fs.rmdir("/file"), NotADirectoryError),
    ("NUL", lambda fs: fs.pipe_file("/a\0b", b""), ValueError),
    ("two dots", lambda fs: fs.pipe_file("/full/../x", b""), ValueError),
    ("too long", lambda fs: fs.pipe_file(f"/{LONG}", b""), ValueError),
    ("too deep", lambda fs: fs.makedirs(DEEP), ValueError),
    ("not UTF-8", lambda fs: fs.pipe_file("/x\udcff", b""), ValueError),
    ("bad mode", lambda fs: fs.open("/file", "q"), ValueError),
    ("ranges that don't go together", lambda fs: fs.cat_ranges(["/file"], [0, 1], [1]), ValueError),
    ("unknown option", lambda fs: DfsFileSystem("127.0.0.1:1", colour="red"), TypeError),
    ("bad option", lambda fs: DfsFileSystem(*fs.storage_args, replication="many").pipe_file("/x", b""), ValueError),
    ("bad replication", lambda fs: fs.open("/x", "wb", replication=-1).close(), ValueError),
    ("bad chunk size", lambda fs: fs.open("/x", "wb", chunk_size=3).close(), ValueError),
    ("bad URL", lambda fs: DfsFileSystem("ftp://x").ls("/"), ValueError),
    ("no namenode", lambda fs: DfsFileSystem("127.0.0.1:1").ls("/"), ConnectionError),
    ("no namenode, asked whether", lambda fs: DfsFileSystem("127.0.0.1:1").exists("/"), ConnectionError),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind"), [row[1:] for row in FSSPEC], ids=[row[0] for row in FSSPEC])
def test_fsspec_raises_the_built_in_exceptions(
    stage: Cluster, call: Callable[[DfsFileSystem], Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind) as caught:
        call(DfsFileSystem(stage.url))
    assert str(caught.value), "it says nothing"


# --- HTTP: a status and a sentence --------------------------------------------------------------------------------

EMPTY_BODY = "content-length: 0"
ONLY_HTTP = (405, 411, 415)
"""What dfs has no code for."""
HTTP: list[tuple[str, str, str, str, int]] = [
    ("missing", "GET", "/nope", "", 404),
    ("missing, below a file", "GET", "/file/x", "", 409),
    ("missing, removed", "DELETE", "/nope", "", 404),
    ("a directory, written", "PUT", "/full", EMPTY_BODY, 409),
    ("not a directory, written below", "PUT", "/file/x", EMPTY_BODY, 409),
    ("not empty", "DELETE", "/full", "", 409),
    ("the root, written", "PUT", "/", EMPTY_BODY, 409),
    ("the root, removed", "DELETE", "/?recursive=true", "", 409),
    ("NUL", "GET", "/a%00b", "", 400),
    ("two dots", "PUT", "/full/%2e%2e/x", EMPTY_BODY, 400),
    ("too long", "PUT", f"/{LONG}", EMPTY_BODY, 400),
    ("too deep", "GET", DEEP, "", 400),
    ("bad encoding", "GET", "/%zz", "", 400),
    ("not UTF-8", "GET", "/%ff", "", 400),
    ("bad range", "GET", "/file", "range: bytes=10-", 416),
    ("bad parameter", "DELETE", "/full?recursive=perhaps", "", 400),
    ("no length", "PUT", "/x", "", 411),
    ("encoded body", "PUT", "/x", f"content-encoding: gzip\r\n{EMPTY_BODY}", 415),
    ("a part of a file", "PUT", "/x", f"content-range: bytes 0-9/10\r\n{EMPTY_BODY}", 400),
    ("unknown method", "PATCH", "/file", EMPTY_BODY, 405),
    ("a foreign page", "DELETE", "/file", "origin: http://example.org", 403),
    ("another version, read", "GET", "/file", 'if-match: "other"', 412),
    ("another version, written", "PUT", "/file", f'if-match: "other"\r\n{EMPTY_BODY}', 412),
    ("another version, removed", "DELETE", "/file", 'if-match: "other"', 412),
    ("exists, created", "PUT", "/file", f"if-none-match: *\r\n{EMPTY_BODY}", 412),
]  # fmt: skip


def answer_of(url: str, method: str, target: str, headers: str = "") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one request that is sent as it is."""
    parts = urlsplit(url)
    with closing(socket.create_connection((parts.hostname, parts.port), timeout=30)) as sock:
        lines = f"{method} {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n"
        sock.sendall(f"{lines}{headers}\r\n\r\n".encode() if headers else f"{lines}\r\n".encode())
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    named = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    return int(first.split()[1]), named, body


def followed(url: str, method: str, target: str, headers: str) -> tuple[int, dict[str, str], bytes]:
    """The same, also behind a redirect."""
    status, named, body = answer_of(url, method, target, headers)
    if status == 307:
        parts = urlsplit(named["location"])
        status, named, body = answer_of(
            f"http://{parts.netloc}", method, parts.path + (parts.query and "?" + parts.query), headers
        )
    return status, named, body


def assert_is_a_sentence(named: dict[str, str], body: bytes) -> None:
    assert named["content-type"].startswith("text/plain")
    text = body.decode()
    assert len(text) > 10, text
    assert text.count("\n") == 1, text
    assert text.endswith("\n"), text
    assert "Traceback" not in text


@pytest.mark.parametrize("role", ["namenode", "datanode"])
@pytest.mark.parametrize(
    ("method", "target", "headers", "status"), [row[1:] for row in HTTP], ids=[row[0] for row in HTTP]
)
def test_http_answers_with_a_status_and_a_sentence(
    stage: Cluster, role: str, method: str, target: str, headers: str, status: int
) -> None:
    url = stage.url if role == "namenode" else stage.datanodes[0].url
    found, named, body = followed(url, method, f"/files{target}", headers)
    assert found == status, (named, body)
    assert_is_a_sentence(named, body)
    assert bool(named.get("dfs-error")) != (status in ONLY_HTTP)


def test_a_ticket_that_nobody_gave_stores_nothing(stage: Cluster) -> None:
    target = "/files/x?ticket=bm90IGEgdGlja2V0"
    status, named, body = answer_of(stage.datanodes[0].url, "PUT", target, EMPTY_BODY)
    assert status == 403
    assert_is_a_sentence(named, body)


# --- WebHDFS: a RemoteException with its class and status ---------------------------------------------------------

WEBHDFS: list[tuple[str, str, str, str, int, str]] = [
    ("missing, opened", "GET", "/nope", "op=OPEN", 404, "FileNotFoundException"),
    ("missing, listed", "GET", "/nope", "op=LISTSTATUS", 404, "FileNotFoundException"),
    ("missing, listed in batches", "GET", "/nope", "op=LISTSTATUS_BATCH", 404, "FileNotFoundException"),
    ("missing, summed", "GET", "/nope", "op=GETCONTENTSUMMARY", 404, "FileNotFoundException"),
    ("missing, located", "GET", "/nope", "op=GETFILEBLOCKLOCATIONS", 404, "FileNotFoundException"),
    ("missing, its checksum", "GET", "/nope", "op=GETFILECHECKSUM", 404, "FileNotFoundException"),
    ("missing, its attributes", "GET", "/nope", "op=GETXATTRS", 404, "FileNotFoundException"),
    ("missing, its list", "GET", "/nope", "op=GETACLSTATUS", 404, "FileNotFoundException"),
    ("missing, its mode", "PUT", "/nope", "op=SETPERMISSION&permission=644", 404, "FileNotFoundException"),
    ("missing, its times", "PUT", "/nope", "op=SETTIMES&modificationtime=1", 404, "FileNotFoundException"),
    ("missing, cut", "POST", "/nope", "op=TRUNCATE&newlength=0", 404, "FileNotFoundException"),
    ("missing, joined", "POST", "/file", "op=CONCAT&sources=/nope", 404, "FileNotFoundException"),
    ("a directory, cut", "POST", "/full", "op=TRUNCATE&newlength=0", 404, "FileNotFoundException"),
    ("a directory, joined", "POST", "/file", "op=CONCAT&sources=/full", 404, "FileNotFoundException"),
    ("a directory, written", "PUT", "/full", "op=CREATE&overwrite=true", 403, "FileAlreadyExistsException"),
    ("not a directory, opened", "GET", "/file/x", "op=OPEN", 403, "ParentNotDirectoryException"),
    ("not a directory, written below", "PUT", "/file/x", "op=CREATE", 403, "ParentNotDirectoryException"),
    ("exists", "PUT", "/file", "op=CREATE", 403, "FileAlreadyExistsException"),
    ("exists, renamed to", "PUT", "/file", "op=RENAME&destination=/other&renameoptions=NONE", 403,
     "FileAlreadyExistsException"),
    ("not empty", "DELETE", "/full", "op=DELETE", 403, "PathIsNotEmptyDirectoryException"),
    ("not empty, replaced", "PUT", "/empty", "op=RENAME&destination=/full&renameoptions=OVERWRITE", 403, "IOException"),
    ("into itself", "PUT", "/full", "op=RENAME&destination=/full/below/x&renameoptions=NONE", 403, "IOException"),
    ("joined to itself", "POST", "/file", "op=CONCAT&sources=/file", 403, "IOException"),
    ("NUL", "PUT", "/a%00b", "op=MKDIRS", 400, "InvalidPathException"),
    ("NUL, renamed to", "PUT", "/file", "op=RENAME&destination=/a%00b", 400, "InvalidPathException"),
    ("two dots", "PUT", "/full/%2e%2e/x", "op=CREATE", 400, "InvalidPathException"),
    ("too long", "PUT", f"/{LONG}", "op=CREATE", 400, "InvalidPathException"),
    ("too deep", "PUT", DEEP, "op=MKDIRS", 400, "InvalidPathException"),
    ("offset behind the end", "GET", "/file", "op=OPEN&offset=11", 403, "IOException"),
    ("length below zero", "GET", "/file", "op=OPEN&length=-1", 400, "IllegalArgumentException"),
    ("longer than it is", "POST", "/file", "op=TRUNCATE&newlength=11", 400, "IllegalArgumentException"),
    ("no new length", "POST", "/file", "op=TRUNCATE", 400, "IllegalArgumentException"),
    ("new length no number", "POST", "/file", "op=TRUNCATE&newlength=x", 400, "IllegalArgumentException"),
    ("no sources", "POST", "/file", "op=CONCAT", 400, "IllegalArgumentException"),
    ("replication 0", "PUT", "/file", "op=SETREPLICATION&replication=0", 400, "IllegalArgumentException"),
    ("replication no number", "PUT", "/file", "op=SETREPLICATION&replication=many", 400, "IllegalArgumentException"),
    ("replication of a new file", "PUT", "/x", "op=CREATE&replication=999", 400, "IllegalArgumentException"),
    ("a time that is none", "PUT", "/file", "op=SETTIMES&modificationtime=now", 400, "IllegalArgumentException"),
    ("no owner and no group", "PUT", "/file", "op=SETOWNER", 400, "IllegalArgumentException"),
    ("mode no octal", "PUT", "/file", "op=SETPERMISSION&permission=rw", 400, "IllegalArgumentException"),
    ("mode of a new file", "PUT", "/x", "op=CREATE&permission=99999", 400, "IllegalArgumentException"),
    ("parents perhaps", "PUT", "/x", "op=CREATE&createparent=perhaps", 400, "IllegalArgumentException"),
    ("recursive perhaps", "DELETE", "/full", "op=DELETE&recursive=perhaps", 400, "IllegalArgumentException"),
    ("unknown rename option", "PUT", "/file", "op=RENAME&destination=/x&renameoptions=QUICK", 400,
     "IllegalArgumentException"),
    ("unknown action", "GET", "/file", "op=CHECKACCESS&fsaction=fly", 400, "IllegalArgumentException"),
    ("unknown encoding", "GET", "/file", "op=GETXATTRS&encoding=rot13", 400, "IllegalArgumentException"),
    ("unknown flag", "PUT", "/file", "op=SETXATTR&xattr.name=user.a&flag=PERHAPS", 400, "IllegalArgumentException"),
    ("unknown operation", "POST", "/file", "op=EXPLODE", 400, "IllegalArgumentException"),
    ("no operation", "DELETE", "/file", "", 400, "IllegalArgumentException"),
    ("of another method", "DELETE", "/file", "op=OPEN", 400, "IllegalArgumentException"),
    ("unknown method", "PATCH", "/file", "op=OPEN", 400, "IllegalArgumentException"),
    ("not supported", "PUT", "/full", "op=ALLOWSNAPSHOT", 400, "UnsupportedOperationException"),
]  # fmt: skip


def remote_exception(named: dict[str, str], body: bytes) -> str:
    """The class of an answer that must be a RemoteException as Hadoop's clients parse it."""
    assert named["content-type"] == "application/json"
    told = json.loads(body)["RemoteException"]
    assert told.keys() == {"exception", "javaClassName", "message"}
    assert told["javaClassName"].rpartition(".")[2] == told["exception"]
    assert told["message"].strip(), told
    assert "\n" not in told["message"]
    kind = told["exception"]
    assert isinstance(kind, str)
    return kind


@pytest.mark.parametrize(
    ("method", "path", "query", "status", "kind"), [row[1:] for row in WEBHDFS], ids=[row[0] for row in WEBHDFS]
)
def test_webhdfs_answers_with_a_remote_exception(
    stage: Cluster, method: str, path: str, query: str, status: int, kind: str
) -> None:
    headers = "" if method == "GET" else EMPTY_BODY
    found, named, body = followed(stage.url, method, f"/webhdfs/v1{path}?{query}", headers)
    assert (found, remote_exception(named, body)) == (status, kind), body


DATA_HALF: list[tuple[str, str, str, str, int, str]] = [
    ("missing, opened", "GET", "/nope", "op=OPEN", 404, "FileNotFoundException"),
    ("a directory, opened", "GET", "/full", "op=OPEN", 404, "FileNotFoundException"),
    ("a directory, written", "PUT", "/full", "op=CREATE&overwrite=true", 403, "FileAlreadyExistsException"),
    ("not a directory, written below", "PUT", "/file/x", "op=CREATE", 403, "ParentNotDirectoryException"),
    ("exists", "PUT", "/file", "op=CREATE", 403, "FileAlreadyExistsException"),
    ("missing, appended to", "POST", "/nope", "op=APPEND", 404, "FileNotFoundException"),
    ("NUL", "PUT", "/a%00b", "op=CREATE", 400, "InvalidPathException"),
    ("offset behind the end", "GET", "/file", "op=OPEN&offset=11", 403, "IOException"),
    ("offset no number", "GET", "/file", "op=OPEN&offset=x", 400, "IllegalArgumentException"),
    ("a version that never was", "GET", "/file", "op=OPEN&content=987654321", 403, "IOException"),
    ("a version that is no number", "GET", "/file", "op=OPEN&content=x", 400, "IllegalArgumentException"),
    ("replication of a new file", "PUT", "/x", "op=CREATE&replication=999", 400, "IllegalArgumentException"),
    ("mode of a new file", "PUT", "/x", "op=CREATE&permission=rwx", 400, "IllegalArgumentException"),
    ("an operation of the namenode", "PUT", "/x", "op=MKDIRS", 400, "IllegalArgumentException"),
    ("unknown operation", "GET", "/file", "op=EXPLODE", 400, "IllegalArgumentException"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "query", "status", "kind"), [row[1:] for row in DATA_HALF], ids=[row[0] for row in DATA_HALF]
)
def test_the_data_half_of_webhdfs_answers_with_a_remote_exception(
    stage: Cluster, method: str, path: str, query: str, status: int, kind: str
) -> None:
    headers = "" if method == "GET" else EMPTY_BODY
    found, named, body = answer_of(stage.datanodes[0].url, method, f"/webhdfs/v1{path}?{query}", headers)
    assert (found, remote_exception(named, body)) == (status, kind), body


# --- the command: an exit code and one line -----------------------------------------------------------------------

COMMAND: list[tuple[str, list[str], int]] = [
    ("missing", ["stat", "/nope"], 3),
    ("missing, removed", ["rm", "/nope"], 3),
    ("missing, moved", ["mv", "/nope", "/x"], 3),
    ("missing, copied", ["cp", "/nope", "/x"], 3),
    ("missing, synced", ["sync", "dfs:/nope", "/tmp/never-made"], 3),
    ("missing, joined", ["concat", "/file", "/nope"], 3),
    ("a directory, shown", ["cat", "/full"], 4),
    ("a directory, removed", ["rm", "/full"], 4),
    ("a directory, copied", ["cp", "/full", "/x"], 4),
    ("a directory, cut", ["truncate", "-s", "0", "/full"], 4),
    ("a directory, appended to", ["append", "/etc/hostname", "/full"], 4),
    ("not a directory, listed", ["ls", "/file/x"], 4),
    ("not a directory, made below", ["mkdir", "-p", "/file/x"], 4),
    ("not a directory, stored below", ["put", "/etc/hostname", "/file/x"], 4),
    ("not a directory, removed", ["rmdir", "/file"], 4),
    ("exists", ["mkdir", "/full"], 4),
    ("exists, stored", ["put", "/etc/hostname", "/file"], 4),
    ("exists, moved to", ["mv", "/file", "/other"], 4),
    ("not empty", ["rmdir", "/full"], 4),
    ("into itself", ["mv", "/full", "/full/below/x"], 4),
    ("two dots", ["mkdir", "/full/../x"], 2),
    ("too long", ["mkdir", f"/{LONG}"], 2),
    ("too deep", ["mkdir", "-p", DEEP], 2),
    ("control character", ["put", "/etc/hostname", "/a\x01b"], 2),
    ("longer than it is", ["truncate", "-s", "11", "/file"], 2),
    ("replication 0", ["setrep", "0", "/file"], 2),
    ("replication no number", ["put", "--replication", "many", "/etc/hostname", "/x"], 2),
    ("a size that is none", ["truncate", "-s", "large", "/file"], 2),
    ("unknown command", ["explode"], 2),
    ("unknown option", ["ls", "--explode"], 2),
    ("an option too few", ["truncate", "/file"], 2),
    ("both sides remote", ["sync", "dfs:/full", "dfs:/x"], 2),
    ("a URL of no namenode", ["--namenode", "ftp://x", "ls", "/"], 2),
    ("no namenode", ["--namenode", "http://127.0.0.1:1", "stat", "/"], 5),
    ("no namenode, stored", ["--namenode", "http://127.0.0.1:1", "put", "/etc/hostname", "/x"], 5),
    ("no namenode, synced", ["--namenode", "http://127.0.0.1:1", "sync", "/etc", "dfs:/x"], 5),
    ("no namenode, its state", ["--namenode", "http://127.0.0.1:1", "status"], 5),
    ("not a namenode", ["--namenode", "DATANODE", "ls", "/"], 2),
    ("pattern of nothing", ["ls", "/nope*"], 3),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "code"), [row[1:] for row in COMMAND], ids=[row[0] for row in COMMAND])
def test_the_command_ends_with_a_code_and_one_line(stage: Cluster, arguments: list[str], code: int) -> None:
    told = [stage.datanodes[0].url if word == "DATANODE" else word for word in arguments]
    ended = run_dfs(*told, environ=clean_environ(DFS_NAMENODE=stage.url))
    assert_is_one_line(ended.error)
    assert (ended.code, ended.out) == (code, b""), ended.error


def assert_is_one_line(error: str) -> None:
    assert error.startswith("dfs: "), error
    assert error.count("\n") == 1, error
    assert len(error) > 15, error


# --- states of the cluster ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["no datanode is alive", "every disk is full"])
def unable(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster that can't take a byte."""
    with cluster(datanodes=1, stale_after_s=1.5, dead_after_s=2) as running:
        running.connect().write_bytes("/file", CONTENT * 100_000)
        running.datanodes[0].kill()
        if request.param == "every disk is full":
            running.add_datanode(reserve_bytes=FULL_BYTES)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            status = running.connect().status()
            if [one.state for one in status.datanodes if one.id == "dn1"] == ["dead"]:
                break
            time.sleep(0.1)
        yield running


def test_a_cluster_that_can_not_store_says_so_at_each_door(unable: Cluster) -> None:
    environ = clean_environ(DFS_NAMENODE=unable.url)
    ended = run_dfs("put", "-", "/x", stdin=CONTENT * 100_000, environ=environ)
    assert_is_one_line(ended.error)
    assert ended.code == 5, ended.error
    body = f"content-length: {len(CONTENT)}\r\n\r\n{CONTENT.decode()}"
    status, named, text = followed(unable.url, "PUT", "/files/x", body)
    assert status in (503, 507), text
    assert_is_a_sentence(named, text)
    status, named, text = followed(unable.url, "PUT", "/webhdfs/v1/x?op=CREATE", body)
    assert (status, remote_exception(named, text)) in ((403, "RetriableException"), (403, "IOException")), text
    with pytest.raises(StateError) as caught:
        DfsFileSystem(unable.url).pipe_file("/x", CONTENT * 100_000)
    full = [one for one in unable.datanodes if one.running]
    assert getattr(caught.value, "errno", None) == (errno.ENOSPC if full else None)
    assert isinstance(caught.value, OSError) == bool(full)
    assert [entry.path for entry in unable.connect().ls("/")] == ["/file"]


def test_bytes_that_can_not_be_reached_are_said_to_be_at_each_door(unable: Cluster) -> None:
    ended = run_dfs("cat", "/file", environ=clean_environ(DFS_NAMENODE=unable.url))
    assert_is_one_line(ended.error)
    assert (ended.code, ended.out) == (5, b""), ended.error
    status, named, text = followed(unable.url, "GET", "/files/file", "")
    assert status == 503, text
    assert_is_a_sentence(named, text)
    status, named, text = followed(unable.url, "GET", "/webhdfs/v1/file?op=OPEN", "")
    assert (status, remote_exception(named, text)) == (403, "RetriableException"), text
