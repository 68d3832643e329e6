"""The gateway without a cluster: its answers, and its transfers over a `Files` that lives in memory."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import pytest

from dfs.layout import PlacedExtent
from dfs.protocol.capability import derive_key, sign_ticket
from dfs.protocol.errors import (
    DfsError,
    FileExists,
    FileNotFound,
    IsADirectory,
    ReplicasUnavailable,
    Unavailable,
)
from dfs.protocol.messages import (
    ChunkSource,
    Entry,
    Grant,
    Grants,
    Layout,
    Listing,
    Opened,
    Outcome,
    PutFile,
    Remove,
    Target,
)
from dfs_datanode.gateway import FilesRoute, Gateway
from dfs_datanode.gateway.addresses import inside
from dfs_datanode.gateway.budget import PIECE_BYTES_MAX as PIECE_BYTES
from dfs_datanode.gateway.budget import PIECE_BYTES_MIN, PIECES_HELD, Budget, Downloads
from dfs_datanode.gateway.download import answer_for, cut
from dfs_datanode.gateway.files import OpenFile, Shelf
from dfs_datanode.gateway.listing import HtmlListing, JsonListing
from dfs_datanode.gateway.ranges import ByteRange
from dfs_datanode.gateway.representation import content_type, disposition, runs_in_a_browser, stored_type
from dfs_datanode.gateway.upload import Refusal, _take_body

KEY = derive_key(b"secret", "dn1")
NOW_S = 1_800_000_000


def entry(path: str = "/dir/data.txt", size: int = 10, **changes: Any) -> Entry:
    facts: dict[str, Any] = {
        "path": path, "name": path.rpartition("/")[2], "kind": "file", "size": size,
        "mtime_ns": 1_000_000_000_500_000_000, "mode": 0o644, "owner": "", "group": "", "replication": 3,
        "version": 7, "etag": '"7-abc"', "inode": 5,
    }  # fmt: skip
    return Entry(**(facts | changes))


def headers_for(method: str = "GET", found: Entry | None = None, **headers: str) -> tuple[int, dict[str, str]]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = answer_for(method, sent, found or entry(), now_s=NOW_S, boundary="limit")
    return answer.status, {name.decode(): value.decode("latin-1") for name, value in answer.headers}


# --- what is answered ---------------------------------------------------------------------------------------------


def test_head_is_answered_like_get_and_ignores_the_range() -> None:
    assert headers_for("HEAD", range="bytes=2-5") == headers_for("GET")
    assert headers_for("HEAD", range="bytes=99-") == headers_for("GET")


def test_the_version_is_described_in_every_answer_about_a_file() -> None:
    for status, sent in (
        (200, {}),
        (206, {"range": "bytes=2-5"}),
        (206, {"range": "bytes=0-0,9-9"}),
        (416, {"range": "bytes=10-"}),
        (304, {"if_none_match": "*"}),
        (412, {"if_match": '"x"'}),
    ):
        found, headers = headers_for(**sent)
        assert found == status
        assert headers["etag"] == '"7-abc"'
        assert headers["accept-ranges"] == "bytes"
        assert headers["last-modified"] == "Sun, 09 Sep 2001 01:46:40 GMT"
        assert "content-encoding" not in headers


def test_preconditions_are_judged_before_the_range() -> None:
    assert headers_for(range="bytes=99-", if_none_match='"7-abc"')[0] == 304
    assert headers_for(range="bytes=2-5", if_match='"x"')[0] == 412


def test_a_range_of_another_version_gets_the_whole_file() -> None:
    assert headers_for(range="bytes=2-5", if_range='"7-abc"')[0] == 206
    assert headers_for(range="bytes=2-5", if_range='"x"')[0] == 200
    assert headers_for(range="bytes=99-", if_range='W/"7-abc"')[0] == 200


def test_several_ranges_have_no_content_range_of_their_own() -> None:
    status, headers = headers_for(range="bytes=0-0,9-9")
    assert status == 206
    assert headers["content-type"] == "multipart/byteranges; boundary=limit"
    assert "content-range" not in headers
    assert headers_for(range="bytes=0-1,20-30")[1]["content-range"] == "bytes 0-1/10"


def test_an_unsatisfiable_range_is_told_the_size() -> None:
    status, headers = headers_for(range="bytes=10-")
    assert (status, headers["content-range"]) == (416, "bytes */10")


def test_a_time_in_the_future_is_shown_as_now() -> None:
    assert headers_for(found=entry(mtime_ns=1 << 62))[1]["last-modified"] == "Fri, 15 Jan 2027 08:00:00 GMT"


@pytest.mark.parametrize(
    ("name", "attributes", "expected"),
    [
        ("a.txt", {}, "text/plain"),
        ("a.csv", {}, "text/csv"),
        ("a", {}, "application/octet-stream"),
        ("a.tar.gz", {}, "application/gzip"),
        ("a.txt", {"content-type": "image/png"}, "image/png"),
        ("a.txt", {"content-type": 'text/plain; charset="utf-8"'}, 'text/plain; charset="utf-8"'),
        ("a.txt", {"content-type": "text/html\r\nset-cookie: x"}, "text/plain"),
        ("a.txt", {"content-type": "grüße/x"}, "text/plain"),
        ("a.txt", {"content-type": ""}, "text/plain"),
    ],
)
def test_the_type_is_the_stored_one_if_valid_else_that_of_the_name(
    name: str, attributes: dict[str, str], expected: str
) -> None:
    assert content_type(entry(f"/{name}", attributes=attributes)) == expected


@pytest.mark.parametrize(
    "kind",
    ["text/html", "TEXT/HTML; charset=utf-8", "image/svg+xml", "application/xhtml+xml", "text/xml", "application/xml",
     "application/rss+xml", "text/javascript", "application/javascript"],
)  # fmt: skip
def test_what_a_browser_might_run_is_a_download_in_a_sandbox(kind: str) -> None:
    assert runs_in_a_browser(kind)
    headers = headers_for(found=entry('/x/páge".html', attributes={"content-type": kind}))[1]
    assert headers["content-disposition"].startswith("attachment")
    assert headers["content-security-policy"] == "sandbox"
    assert headers["x-content-type-options"] == "nosniff"


def test_plain_data_is_shown_in_place_but_in_a_sandbox() -> None:
    headers = headers_for(found=entry("/x/a.png"))[1]
    assert "content-disposition" not in headers
    assert headers["content-security-policy"] == "sandbox"


def test_a_name_can_not_break_out_of_its_header() -> None:
    text = disposition('a"; x=\\ü%41\u2028.html')
    assert (
        text
        == "attachment; filename=\"a_; x=___41_.html\"; filename*=UTF-8''a%22%3B%20x%3D%5C%C3%BC%2541%E2%80%A8.html"
    )


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        (None, None),
        ("image/png", "image/png"),
        ("application/x-www-form-urlencoded", None),
        ("multipart/form-data; boundary=x", None),
        ("nonsense", None),
        ("a/" + "b" * 300, None),
    ],
)
def test_only_a_type_that_describes_the_file_is_remembered(header: str | None, kept: str | None) -> None:
    assert stored_type(header) == kept


def test_ranges_are_read_in_pieces_that_end_at_multiples_of_the_piece() -> None:
    pieces = list(cut((b"head", ByteRange(5, 25), ByteRange(30, 31)), lambda: 10))
    assert pieces == [b"head", ByteRange(5, 10), ByteRange(10, 20), ByteRange(20, 25), ByteRange(30, 31)]


# --- listings -----------------------------------------------------------------------------------------------------

EVIL = '<script>alert("1")<!--&\'\u2028.html'


def test_a_json_listing_of_any_number_of_pages_is_one_array() -> None:
    for pages in ([], [[]], [["a"]], [["a", EVIL], ["ü"]]):
        form = JsonListing()
        body = form.begin() + b"".join(form.page([entry(f"/d/{name}") for name in page]) for page in pages) + form.end()
        assert [found["name"] for found in json.loads(body)] == [name for page in pages for name in page]


def test_an_html_listing_escapes_every_name() -> None:
    form = HtmlListing(f"/{EVIL}")
    body = (
        form.begin() + form.page([entry(f"/{EVIL}/{EVIL}"), entry("/x/d%", kind="directory")]) + form.end()
    ).decode()
    assert "<script" not in body
    assert "&lt;script&gt;" in body
    assert 'href="/files/x/d%25/"' in body
    quoted = "%3Cscript%3Ealert%28%221%22%29%3C%21--%26%27%E2%80%A8.html"
    assert f'href="/files/{quoted}/{quoted}"' in body


# --- the budget ---------------------------------------------------------------------------------------------------


def test_shares_are_handed_out_in_order_and_come_back() -> None:
    async def play() -> None:
        budget = Budget(10, waiting_max=2, patience_s=5)
        order: list[str] = []
        leave = asyncio.Event()

        async def hold(name: str, size: int, until: asyncio.Event | None = None) -> None:
            async with budget.share(size):
                order.append(name)
                if until is not None:
                    await until.wait()

        first = asyncio.create_task(hold("first", 8, leave))
        await asyncio.sleep(0)
        big = asyncio.create_task(hold("big", 100))
        await asyncio.sleep(0)
        small = asyncio.create_task(hold("small", 1))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await hold("one too many", 1)
        leave.set()
        await asyncio.gather(first, big, small)
        assert order == ["first", "big", "small"]
        assert budget.free == 10

    asyncio.run(play())


def test_who_waits_too_long_is_refused_and_who_leaves_takes_nothing() -> None:
    async def play() -> None:
        budget = Budget(10, waiting_max=5, patience_s=0.05)
        async with budget.share(10):
            with pytest.raises(Unavailable):
                async with budget.share(1):
                    pass
            waiting = asyncio.create_task(budget.share(1).__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert budget.free == 10

    asyncio.run(play())


def test_downloads_get_smaller_pieces_the_more_there_are_and_their_number_is_limited() -> None:
    total = 64 << 20
    downloads = Downloads(total, most=500)
    with ExitStack() as running:
        for number in range(1, 501):
            running.enter_context(downloads.one())
            size = downloads.piece_bytes()
            assert PIECE_BYTES_MIN <= size <= PIECE_BYTES
            assert size == PIECE_BYTES_MIN or size * PIECES_HELD * number <= total
        with pytest.raises(Unavailable), downloads.one():
            pass
    assert downloads.piece_bytes() == PIECE_BYTES


# --- transfers ----------------------------------------------------------------------------------------------------


class MemoryFile:
    def __init__(self, found: Entry, data: bytes, fails_at: int | None) -> None:
        self.entry = found
        self.reads: list[int] = []
        self._data = data
        self._fails_at = fails_at

    def read(self, start: int, end: int) -> memoryview:
        self.reads.append(start)
        if self._fails_at is not None and end > self._fails_at:
            raise ReplicasUnavailable("the replicas are gone")
        return memoryview(self._data)[start:end]


class MemoryUpload:
    def __init__(self, files: "MemoryFiles") -> None:
        self.data = bytearray()
        self._files = files

    @property
    def length(self) -> int:
        return len(self.data)

    def write(self, data: bytes) -> None:
        self.data += data

    def publish(self, action: PutFile) -> Outcome:
        if self._files.refuse_commit is not None:
            raise self._files.refuse_commit
        self._files.actions.append(action)
        self._files.stored[action.path] = bytes(self.data)
        return Outcome(action.path, 8, '"8-new"')

    def abort(self) -> None:
        self._files.aborted += 1


class MemoryFiles:
    """What `Files` does, over a dictionary."""

    def __init__(self, stored: dict[str, bytes] | None = None, *, fails_at: int | None = None) -> None:
        self.stored = stored or {}
        self.actions: list[PutFile | Remove] = []
        self.aborted = 0
        self.refuse_commit: DfsError | None = None
        self.opened: MemoryFile | None = None
        self._fails_at = fails_at

    def stat(self, path: str) -> Entry:
        if path == "/dir":
            return entry("/dir", 0, kind="directory", etag="")
        if path not in self.stored:
            raise FileNotFound(f"{path}: no such file or directory")
        return entry(path, len(self.stored[path]))

    def open(self, path: str, offset: int = 0, length: int | None = None) -> MemoryFile:
        found = self.stat(path)
        if found.is_directory:
            raise IsADirectory(path)
        self.opened = MemoryFile(found, self.stored[path], self._fails_at)
        return self.opened

    def list_page(self, path: str, after: str) -> Listing:
        if after == "b":
            return Listing(entries=[entry("/dir/c", 3)])
        return Listing(entries=[entry("/dir/a", 1), entry("/dir/b", 2)], next="b")

    def begin_upload(self, path: str, length: int | None) -> MemoryUpload:
        return MemoryUpload(self)

    def remove(self, action: Remove) -> None:
        self.actions.append(action)


class Exchange:
    """One request, and what came back."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.complete = False
        self.asked_for_body = False

    async def run(
        self,
        files: MemoryFiles,
        method: str,
        target: str,
        headers: dict[str, str] | None = None,
        body: list[bytes] | None = None,
        *,
        ends: bool = True,
        on_body: Callable[[], Awaitable[None]] | None = None,
        leaves_after: int | None = None,
    ) -> "Exchange":
        """`ends`: whether the body is complete. `leaves_after`: bytes after which the client is gone."""
        gateway = Gateway(lambda principal: files, ticket_key=lambda: KEY, now_ms=lambda: 1000)  # type: ignore[arg-type,return-value]
        raw_path, _, query = target.partition("?")
        messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in body or []]
        if ends:
            messages.append({"type": "http.request", "body": b"", "more_body": False})
        gone = asyncio.Event()
        if not ends:
            gone.set()

        async def receive() -> dict[str, Any]:
            if messages:
                self.asked_for_body = self.asked_for_body or not self.status
                return messages.pop(0)
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                assert not self.status, "one answer"
                self.status = message["status"]
                self.headers = {name.decode(): value.decode("latin-1") for name, value in message["headers"]}
                return
            self.body += bytes(message["body"])
            self.complete = not message.get("more_body", False)
            if self.complete or (leaves_after is not None and len(self.body) >= leaves_after):
                gone.set()
            await asyncio.sleep(0)

        scope = {
            "type": "http", "method": method, "raw_path": raw_path.encode(), "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()],
        }  # fmt: skip
        try:
            await FilesRoute(gateway).handle(scope, receive, send)
        finally:
            gateway.close()
        return self


def exchange(files: MemoryFiles, method: str, target: str, *args: Any, **kwargs: Any) -> Exchange:
    return asyncio.run(Exchange().run(files, method, target, *args, **kwargs))


BIG = bytes(range(256)) * (4 * PIECE_BYTES // 256) + b"tail"


def test_a_get_sends_the_file_and_announces_its_length() -> None:
    got = exchange(MemoryFiles({"/big": BIG}), "GET", "/files/big")
    assert (got.status, got.body, got.complete) == (200, BIG, True)
    assert got.headers["content-length"] == str(len(BIG))


def test_the_body_of_several_ranges_has_its_announced_length() -> None:
    got = exchange(MemoryFiles({"/big": BIG}), "GET", "/files/big", {"range": "bytes=1048570-1048580,-4"})
    assert got.status == 206
    assert got.headers["content-length"] == str(len(got.body))
    assert BIG[1048570:1048581] in got.body
    assert b"\r\n\r\ntail\r\n--" in got.body


def test_bytes_that_can_not_be_had_are_an_error_and_not_an_answer() -> None:
    got = exchange(MemoryFiles({"/big": BIG}, fails_at=10), "GET", "/files/big")
    assert (got.status, got.headers["dfs-error"]) == (503, "replicas_unavailable")
    assert got.complete


def test_bytes_that_can_not_be_had_in_mid_transfer_end_it_short() -> None:
    got = exchange(MemoryFiles({"/big": BIG}, fails_at=2 * PIECE_BYTES), "GET", "/files/big")
    assert got.status == 200
    assert not got.complete
    assert got.body == BIG[: 2 * PIECE_BYTES]


def test_reading_stops_when_the_client_is_gone() -> None:
    files = MemoryFiles({"/big": BIG * 20})
    got = exchange(files, "GET", "/files/big", leaves_after=PIECE_BYTES)
    assert not got.complete
    assert files.opened is not None
    assert len(files.opened.reads) <= 4


def test_a_directory_is_listed_over_all_its_pages() -> None:
    got = exchange(MemoryFiles(), "GET", "/files/dir/")
    assert [found["name"] for found in json.loads(got.body)] == ["a", "b", "c"]
    page = exchange(MemoryFiles(), "GET", "/files/dir", {"accept": "text/html,*/*"})
    assert page.headers["content-type"].startswith("text/html")
    assert page.body.count(b"<tr>") == 4
    assert exchange(MemoryFiles(), "HEAD", "/files/dir").body == b""


def test_a_put_stores_the_body_with_its_type() -> None:
    files = MemoryFiles()
    got = exchange(files, "PUT", "/files/x/new", {"content-length": "6", "content-type": "image/png"}, [b"abc", b"def"])
    assert (got.status, got.headers["etag"]) == (201, '"8-new"')
    assert files.stored == {"/x/new": b"abcdef"}
    assert files.actions == [PutFile(path="/x/new", parents=True, attributes={"content-type": "image/png"})]
    again = exchange(files, "PUT", "/files/x/new", {"transfer-encoding": "chunked"}, [b"other"])
    assert (again.status, files.stored) == (200, {"/x/new": b"other"})


@pytest.mark.parametrize(
    ("headers", "when", "version"),
    [
        ({}, "any", 0),
        ({"if-match": '"7-abc"'}, "version", 7),
        ({"if-match": "*"}, "version", 7),
        ({"if-none-match": '"x"'}, "version", 7),
    ],
)
def test_a_conditional_put_is_bound_to_the_version_that_was_judged(
    headers: dict[str, str], when: str, version: int
) -> None:
    files = MemoryFiles({"/a": b"old"})
    exchange(files, "PUT", "/files/a", {"content-length": "3"} | headers, [b"new"])
    action = files.actions[0]
    assert isinstance(action, PutFile)
    assert (action.when, action.if_version) == (when, version)


def test_a_put_that_must_create_is_refused_before_its_body_is_asked_for() -> None:
    files = MemoryFiles({"/a": b"old"})
    got = exchange(files, "PUT", "/files/a", {"content-length": "3", "if-none-match": "*"}, [b"new"])
    assert (got.status, got.asked_for_body) == (412, False)
    assert got.headers["connection"] == "close"
    assert files.stored == {"/a": b"old"}


def test_a_put_that_must_create_and_comes_second_fails_its_precondition() -> None:
    files = MemoryFiles()
    files.refuse_commit = FileExists("/a exists")
    got = exchange(files, "PUT", "/files/a", {"content-length": "3", "if-none-match": "*"}, [b"new"])
    assert (got.status, files.aborted) == (412, 1)


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, [b"abc"], 411),
        ({"content-length": "3", "content-range": "bytes 0-2/9"}, [b"abc"], 400),
        ({"content-length": "3", "content-encoding": "gzip"}, [b"abc"], 415),
        ({"content-length": "+3"}, [b"abc"], 400),
        ({"content-length": "3", "if-match": '"x"'}, [b"abc"], 412),
        ({"content-length": "3", "origin": "http://evil"}, [b"abc"], 403),
        ({"content-length": "3", "dfs-principal": "a" * 300}, [b"abc"], 400),
    ],
)
def test_what_the_head_shows_to_be_wrong_is_refused_before_the_body(
    headers: dict[str, str], body: list[bytes], status: int
) -> None:
    files = MemoryFiles()
    got = exchange(files, "PUT", "/files/a", headers, body)
    assert (got.status, got.asked_for_body, files.stored) == (status, False, {})
    assert len(got.body.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "target", ["/files", "/files/", "/files/dir", "/files/a/", "/files/%ff", "/files/..", "/files/%"]
)
def test_a_put_to_what_can_not_be_a_file_is_refused(target: str) -> None:
    files = MemoryFiles()
    got = exchange(files, "PUT", target, {"content-length": "3"}, [b"abc"])
    assert got.status in (400, 409)
    assert files.stored == {}


@pytest.mark.parametrize("headers", [{"content-length": "10"}, {"transfer-encoding": "chunked"}])
def test_a_body_that_ends_early_stores_nothing(headers: dict[str, str]) -> None:
    files = MemoryFiles()
    got = exchange(files, "PUT", "/files/a", headers, [b"abc"], ends=False)
    assert (got.status, files.stored, files.aborted) == (408, {}, 1)


def test_a_body_shorter_than_announced_stores_nothing() -> None:
    files = MemoryFiles()
    got = exchange(files, "PUT", "/files/a", {"content-length": "10"}, [b"abc"])
    assert (got.status, files.stored, files.aborted) == (408, {}, 1)


def with_ticket(path: str, length: int | None, **changes: Any) -> str:
    facts: dict[str, Any] = {"path": path, "length": length, "expires_ms": 2000, "principal": "ann"}
    return f"/files{path}?ticket={sign_ticket(KEY, **(facts | changes))}"


def test_a_ticket_lets_in_what_was_announced_to_the_namenode() -> None:
    files = MemoryFiles()
    assert exchange(files, "PUT", with_ticket("/a", 3), {"content-length": "3"}, [b"abc"]).status == 201
    assert exchange(files, "PUT", with_ticket("/e", 0), {"content-length": "0"}, []).status == 201
    assert exchange(files, "PUT", with_ticket("/c", None), {"transfer-encoding": "chunked"}, [b"abc"]).status == 201
    assert files.stored == {"/a": b"abc", "/e": b"", "/c": b"abc"}


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        (with_ticket("/a", 3), {"content-length": "0"}, 400),
        (with_ticket("/a", 3), {"transfer-encoding": "chunked"}, 400),
        (with_ticket("/a", None), {"content-length": "0"}, 400),
        (with_ticket("/a", None), {"transfer-encoding": "chunked"}, 400),
        (with_ticket("/a", 3), {}, 411),
        (with_ticket("/a", 3, expires_ms=1000), {"content-length": "0"}, 403),
        (with_ticket("/b", 3).replace("/b", "/a", 1), {"content-length": "0"}, 403),
        ("/files/a?ticket=x", {"content-length": "0"}, 403),
    ],
)
def test_an_upload_whose_body_was_lost_at_the_redirect_makes_no_empty_file(
    target: str, headers: dict[str, str], status: int
) -> None:
    files = MemoryFiles()
    assert exchange(files, "PUT", target, headers, []).status == status
    assert files.stored == {}


def test_a_delete_removes_and_says_so() -> None:
    files = MemoryFiles({"/a": b"x"})
    assert exchange(files, "DELETE", "/files/a").status == 200
    assert exchange(files, "DELETE", "/files/dir?recursive=true").status == 200
    assert exchange(files, "DELETE", "/files/a", {"if-match": '"7-abc"'}).status == 200
    assert files.actions == [
        Remove(path="/a"), Remove(path="/dir", recursive=True), Remove(path="/a", if_version=7)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        ("/files/a?recursive=perhaps", {}, 400),
        ("/files/a?" + "&".join(f"x{n}" for n in range(100)), {}, 400),
        ("/files/a", {"if-match": '"x"'}, 412),
        ("/files/a", {"sec-fetch-site": "cross-site"}, 403),
        ("/files/", {}, 409),
    ],
)
def test_a_delete_that_may_not_be_removes_nothing(target: str, headers: dict[str, str], status: int) -> None:
    files = MemoryFiles({"/a": b"x"})
    assert exchange(files, "DELETE", target, headers).status == status
    assert files.actions == []


def test_other_methods_are_told_which_ones_there_are() -> None:
    got = exchange(MemoryFiles(), "POST", "/files/a", {"content-length": "3"}, [b"abc"])
    assert (got.status, got.headers["allow"]) == (405, "GET, HEAD, PUT, DELETE")


def test_a_bug_is_a_500_without_its_details(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(MemoryFiles):
        def stat(self, path: str) -> Entry:
            raise ZeroDivisionError("a secret")

    got = exchange(Broken(), "HEAD", "/files/a")
    assert got.status == 500
    assert b"secret" not in got.body
    assert "ZeroDivisionError" in caplog.text


def test_a_slow_client_makes_nobody_read_ahead_more_than_one_piece() -> None:
    files = MemoryFiles({"/big": BIG})
    ahead: list[int] = []

    async def play() -> None:
        slow = Exchange()
        task = asyncio.create_task(slow.run(files, "GET", "/files/big"))
        while not task.done():
            if files.opened is not None:
                ahead.append(len(files.opened.reads) - len(slow.body) // PIECE_BYTES)
            await asyncio.sleep(0)
        await task
        assert slow.body == BIG

    asyncio.run(play())
    assert max(ahead) <= 2


# --- the cluster as the gateway sees it ---------------------------------------------------------------------------


def test_the_gateway_reaches_other_datanodes_where_datanodes_do() -> None:
    peers = {"dn1": "http://peer1"}
    given = [Target("dn1", "http://client1"), Target("dn2", "http://client2")]
    expected = [Target("dn1", "http://peer1"), Target("dn2", "http://client2")]
    grants = Grants(grants=[Grant(chunk="c" * 32, chain=given, capability="x")], write_min=2)
    assert inside(grants, peers.get).grants[0].chain == expected
    source = ChunkSource(length=1, digest="d" * 32, replicas=given)
    layout = Layout(content=1, size=1, extents=[], chunks={"c" * 32: source}, grants=[], expires_ms=0)
    assert inside(layout, peers.get).chunks["c" * 32].replicas == expected
    opened = inside(Opened(entry=entry(), layout=layout), peers.get)
    assert opened.layout.chunks["c" * 32].replicas == expected
    assert inside(entry(), peers.get) == entry()


# --- many slow clients --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bytes_a_second", "ends"), [(100, True), (5000, False)])
def test_an_upload_that_trickles_gives_its_share_up_and_a_slow_one_does_not(bytes_a_second: int, ends: bool) -> None:
    now_s = [0.0]
    left = [100_000]
    taken = bytearray()

    class Taking:
        length = 0

        def write(self, data: bytes) -> None:
            taken.extend(data)

    async def receive() -> dict[str, Any]:
        left[0] -= 1000
        now_s[0] += 1000 / bytes_a_second
        return {"type": "http.request", "body": b"x" * 1000, "more_body": left[0] > 0}

    async def in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
        return work(*arguments)

    taking = _take_body(Taking(), receive, None, in_thread, lambda: now_s[0])  # type: ignore[arg-type]
    if ends:
        with pytest.raises(Refusal, match="trickled") as raised:
            asyncio.run(taking)
        assert raised.value.status == 408
    else:
        asyncio.run(taking)
        assert len(taken) == 100_000


class OneExtent:
    """A content that is one member of a pack, and the fetcher that reads it; counts the fetches."""

    def __init__(self, length: int) -> None:
        self.data = bytes(range(256)) * (length // 256)
        self.fetches = 0
        self.extent = PlacedExtent(
            content=1, position=0, chunk="c" * 32, offset=100, length=length, digest="", chunk_length=1 << 22,
            chunk_digest="", replicas=(), capability="", grant_start=0, grant_end=0,
        )  # fmt: skip

    def extents(self, _start: int, _end: int) -> list[PlacedExtent]:
        return [self.extent]

    def read(self, _extent: PlacedExtent, start: int, end: int, into: memoryview) -> None:
        self.fetches += 1
        into[:] = self.data[start:end]


def test_what_is_kept_for_slow_downloads_has_a_limit_for_all_of_them_together() -> None:
    shelf = Shelf(1 << 20)
    sources = [OneExtent(1 << 20) for _ in range(3)]
    files = [OpenFile(entry(size=1 << 20), one, one, shelf) for one in sources]  # type: ignore[arg-type]
    for start in range(0, 1 << 20, 1 << 18):
        for one, file in zip(sources, files, strict=True):
            assert bytes(file.read(start, start + (1 << 18))) == one.data[start : start + (1 << 18)]
    assert [one.fetches for one in sources] == [1, 4, 4]
    assert not shelf.take(1)
    del files, file
    assert shelf.take(1 << 20), "a download that ends gives its place back"
