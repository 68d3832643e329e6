"""The namenode's doors without a namenode: where clients are sent, and what the page says."""

import asyncio
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from dfs.protocol.capability import check_ticket, derive_key
from dfs.protocol.errors import DirectoryNotEmpty, FileNotFound, IsADirectory
from dfs.protocol.messages import (
    ChunkSource,
    Commit,
    Committed,
    DatanodeStatus,
    Empty,
    Entry,
    Layout,
    LayoutExtent,
    Open,
    Opened,
    Outcome,
    ReadGrant,
    Remove,
    Stat,
    Status,
    Target,
)
from dfs.protocol.operations import COMMIT, OPEN, STAT, STATUS
from dfs.protocol.server import Caller
from dfs_namenode.doors import TICKET_TTL_MS, Doors, routes
from dfs_namenode.front_page import health_in_words, render_front_page, size_in_words

CHUNK = "c" * 32
DN1, DN2 = Target("dn1", "http://h1:1"), Target("dn2", "http://h2:2/")
NOW_MS = 1_800_000_000_000


def file_entry(path: str, size: int) -> Entry:
    return Entry(
        path=path, name=path.rpartition("/")[2], kind="file", size=size, mtime_ns=0, mode=0o644, owner="", group="",
        replication=3, version=7, etag='"7-abc"', inode=5,
    )  # fmt: skip


class Namenode:
    """Handlers over a dictionary of sizes; the bytes of every file are on dn2."""

    def __init__(self) -> None:
        self.files = {"/a": 10, "/empty": 0, "/100% ü?#": 5}
        self.live = [DN1]
        self.commits: list[tuple[Commit, str]] = []

    def open(self, request: Open, caller: Caller) -> Opened:
        if request.path == "/dir":
            raise IsADirectory("/dir is a directory")
        size = self.stat(Stat(path=request.path), caller).size
        extents = [LayoutExtent(0, CHUNK, 0, size, "d" * 32, 0)] if size else []
        chunks = {CHUNK: ChunkSource(length=size, digest="d" * 32, replicas=[DN2])} if size else {}
        grants = [ReadGrant(CHUNK, 0, size, "token")] if size else []
        layout = Layout(content=1, size=size, extents=extents, chunks=chunks, grants=grants, expires_ms=0)
        return Opened(entry=file_entry(request.path, size), layout=layout)

    def stat(self, request: Stat, caller: Caller) -> Entry:
        if request.path not in self.files:
            raise FileNotFound(f"{request.path}: no such file or directory")
        return file_entry(request.path, self.files[request.path])

    async def commit(self, request: Commit, caller: Caller) -> Committed:
        action = request.actions[0]
        assert isinstance(action, Remove)
        if action.path == "/dir" and not action.recursive:
            raise DirectoryNotEmpty("/dir is not empty")
        self.commits.append((request, caller.principal))
        return Committed(seq=1, outcomes=[Outcome(action.path, 1)])

    def status(self, request: Empty, caller: Caller) -> Status:
        return status_of("live")

    def doors(self) -> Doors:
        return Doors(
            {OPEN: self.open, STAT: self.stat, COMMIT: self.commit, STATUS: self.status},
            live=lambda: self.live,
            ticket_key=lambda datanode: derive_key(b"secret", datanode),
            now_ms=lambda: NOW_MS,
        )


class Got:
    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = ""
        self.asked_for_body = False


def ask(namenode: Namenode, method: str, target: str, headers: dict[str, str] | None = None) -> Got:
    got = Got()
    raw_path, _, query = target.partition("?")

    async def receive() -> dict[str, Any]:
        got.asked_for_body = got.asked_for_body or not got.status
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            got.status = message["status"]
            got.headers = {name.decode(): value.decode("latin-1") for name, value in message["headers"]}
        else:
            got.body += message["body"].decode()

    scope = {
        "type": "http", "method": method, "path": raw_path, "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()],
    }  # fmt: skip
    for route in routes(namenode.doors()):
        match, extra = route.matches(scope)
        if match.name == "FULL":
            asyncio.run(route.handle(scope | dict(extra), receive, send))
            return got
    raise AssertionError(f"no route takes {target}")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_read_is_sent_to_a_datanode_that_has_the_first_byte(method: str) -> None:
    got = ask(Namenode(), method, "/files/a?x=1&y=%20")
    assert (got.status, got.headers["location"]) == (307, "http://h2:2/files/a?x=1&y=%20")


def test_odd_names_arrive_encoded_in_the_location() -> None:
    got = ask(Namenode(), "GET", "/files/100%25%20%c3%bc%3f%23")
    assert got.headers["location"] == "http://h2:2/files/100%25%20%C3%BC%3F%23"


@pytest.mark.parametrize("target", ["/files/dir", "/files/empty"])
def test_a_directory_and_an_empty_file_are_any_live_datanodes_business(target: str) -> None:
    assert ask(Namenode(), "GET", target).headers["location"] == f"http://h1:1{target}"


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/files/nope", 404), ("HEAD", "/files/nope", 404), ("GET", "/files/%ff", 400),
        ("PUT", "/files/", 409), ("POST", "/files/a", 405), ("OPTIONS", "/files/a", 405),
    ],
)  # fmt: skip
def test_what_can_not_be_is_told_at_once(method: str, target: str, status: int) -> None:
    got = ask(Namenode(), method, target, {"content-length": "0"})
    assert got.status == status
    assert "location" not in got.headers


def test_without_a_live_datanode_a_transfer_is_unavailable() -> None:
    namenode = Namenode()
    namenode.live = []
    assert ask(namenode, "GET", "/files/dir").status == 503
    put = ask(namenode, "PUT", "/files/b", {"content-length": "3"})
    assert (put.status, put.body.count("\n")) == (503, 1)
    assert 0 < int(put.headers["retry-after"]) < 10


@pytest.mark.parametrize(
    ("headers", "length"),
    [({"content-length": "3"}, 3), ({"content-length": "0"}, 0), ({"expect": "100-Continue"}, None)],
)
def test_an_upload_is_sent_on_with_a_ticket_before_its_body_is_asked_for(
    headers: dict[str, str], length: int | None
) -> None:
    got = ask(Namenode(), "PUT", "/files/d/100%25?x=1", headers | {"dfs-principal": "ann"})
    assert (got.status, got.asked_for_body) == (307, False)
    assert "Nothing is stored yet" in got.body
    location = urlsplit(got.headers["location"])
    assert f"{location.scheme}://{location.netloc}{location.path}" == "http://h1:1/files/d/100%25"
    query = parse_qs(location.query)
    assert query["x"] == ["1"]
    key = derive_key(b"secret", "dn1")
    ticket = check_ticket(query["ticket"][0], key, path="/d/100%", now_ms=NOW_MS + TICKET_TTL_MS - 1)
    assert (ticket.length, ticket.principal) == (length, "ann")


def test_an_upload_that_has_spent_its_body_is_told_where_to_go() -> None:
    got = ask(Namenode(), "PUT", "/files/b", {"transfer-encoding": "chunked"})
    assert (got.status, got.headers["connection"]) == (411, "close")
    assert "http://h1:1/files/b" in got.body
    assert ask(Namenode(), "PUT", "/files/b").status == 411


@pytest.mark.parametrize("length", ["-1", "+3", "1_0", "3, 3", "x", "9" * 30])
def test_a_length_that_is_none_is_refused(length: str) -> None:
    assert ask(Namenode(), "PUT", "/files/b", {"content-length": length}).status == 400


def test_a_delete_is_done_here_for_the_one_who_asked() -> None:
    namenode = Namenode()
    namenode.live = []
    assert ask(namenode, "DELETE", "/files/a", {"dfs-principal": "ann"}).status == 200
    assert ask(namenode, "DELETE", "/files/a", {"if-match": '"7-abc"'}).status == 200
    assert ask(namenode, "DELETE", "/files/dir?recursive=true").status == 200
    assert [(commit.actions, principal) for commit, principal in namenode.commits] == [
        ([Remove(path="/a")], "ann"),
        ([Remove(path="/a", if_version=7)], "anonymous"),
        ([Remove(path="/dir", recursive=True)], "anonymous"),
    ]
    assert len({commit.op_id for commit, _ in namenode.commits}) == 3


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        ("/files/dir", {}, 409), ("/files/a", {"if-match": '"x"'}, 412), ("/files/nope", {"if-match": "*"}, 412),
        ("/files/a", {"origin": "http://evil", "host": "nn:9870"}, 403), ("/files/", {}, 409),
        ("/files/a?recursive=x", {}, 400), ("/files/a?" + "x&" * 5000, {}, 400),
    ],
)  # fmt: skip
def test_a_delete_that_may_not_be_removes_nothing(target: str, headers: dict[str, str], status: int) -> None:
    namenode = Namenode()
    assert ask(namenode, "DELETE", target, headers).status == status
    assert namenode.commits == []


# --- the page -----------------------------------------------------------------------------------------------------


def status_of(*states: str, **changes: Any) -> Status:
    facts: dict[str, Any] = {
        "cluster": "a" * 32, "version": "1", "uptime_s": 1, "seq": 1, "files": 3, "directories": 1, "bytes": 1536,
        "chunks": 1, "replicas": 1, "under_replicated": 0, "missing": 0, "waiting_for_deletion": 0, "drafts": 0,
        "safe_modes": [], "replication": 3, "write_min": 2,
        "datanodes": [
            DatanodeStatus(
                id=f"dn{number}", url="http://h:1/<b>", peer_url="", rack="", state=state,  # type: ignore[arg-type]
                seconds_since_heartbeat=1, version="", capacity_bytes=1, free_bytes=1 << 30, used_bytes=0, replicas=0,
                volumes=[],
            )
            for number, state in enumerate(states)
        ],
    }  # fmt: skip
    return Status(**(facts | changes))


def test_the_page_shows_the_cluster_and_escapes_what_it_shows() -> None:
    got = ask(Namenode(), "GET", "/", {"host": '"><script>'})
    assert got.status == 200
    assert "default-src 'none'" in got.headers["content-security-policy"]
    assert "a" * 32 in got.body
    assert "http://h:1/&lt;b&gt;" in got.body
    assert "<script" not in got.body
    assert "http://h2" not in got.body
    assert render_front_page(status_of("live"), "nn:9870").count("http://nn:9870") == 3


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (status_of(), "No datanode"),
        (status_of("live", "dead"), "too few"),
        (status_of("live", "live", "live", missing=2), "2 chunks have"),
        (status_of("live", "live", "stale"), "Silent datanodes: 1 of 3"),
        (status_of("live", "live", under_replicated=4), "4 chunks are being copied"),
        (status_of("live", "live"), "All datanodes are alive, and"),
    ],
)
def test_the_health_is_one_sentence(status: Status, words: str) -> None:
    assert words in health_in_words(status)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (1 << 20, "1 MiB"),
        (1023 << 20, "1023 MiB"),
        (5 << 60, "5120 PiB"),
    ],
)
def test_sizes_are_told_in_binary_units(size: int, text: str) -> None:
    assert size_in_words(size) == text
