"""Ids and names that try to leave their place: whoever sends them gets a refusal, and no file is touched."""

import http.client
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from dfs.protocol.ids import new_id
from dfs.protocol.operations import HEADER_CAPABILITY, HEADER_LENGTH, HEADER_PROTOCOL
from dfs.testing import Cluster, cluster

ID = "0123456789abcdef" * 2
BAD_IDS = [
    "..",
    "../" * 8 + "etc/passwd",
    "..%2f" * 8 + "etc%2fpasswd",
    "%2e%2e/%2e%2e/DATANODE.json",
    "..\\..\\etc",
    ID.upper(),
    ID + "0",
    ID[:-1],
    ID + "%00",
    ID + "%0a",
    ID + ".chunk",
    ID + "/..",
    "/" + ID,
    "./" + ID,
    "%EF%BC%90" * 32,
    "*" * 32,
    "~root",
    "",
]
BAD_PATHS = [
    "/../etc/passwd",
    "/a/../../b",
    "/a/./b",
    "/a//b",
    "//a",
    "a/b",
    "",
    "/a\0b",
    "/a\nb",
    "/\x1b[2J",
    "/" + "x" * 256,
    "/a" * 200,
    "/" + "y/" * 3000,
]
"""As JSON brings them."""
BAD_URLS = ["/..", "/%2e%2e/x", "/a/%2e%2e%2f%2e%2e/x", "/a%00b", "/a%0ab", "/%ff%fe", "/a/../../x"]
"""Below /files."""


@pytest.fixture(name="one", scope="module")
def a_small_cluster() -> Iterator[Cluster]:
    with cluster(datanodes=1, backup_interval_s=0) as running:
        running.connect().write_bytes("/here", b"here")
        yield running


def request(url: str, method: str, target: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    """A request whose target nobody tidies up on the way."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=10)
    try:
        connection.putrequest(method, target, skip_host=False, skip_accept_encoding=True)
        for name, value in {"content-length": str(len(body)), HEADER_PROTOCOL: "1", **headers}.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def everything_below(directory: str) -> dict[str, int]:
    return {
        os.path.join(where, name): os.path.getsize(os.path.join(where, name))
        for where, _, names in os.walk(directory)
        for name in names
        if "log" not in name and "-wal" not in name and "-shm" not in name and ".db" not in name
    }


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_chunk_id_is_32_hex_digits_and_never_a_path(one: Cluster, method: str) -> None:  # F86
    datanode = one.datanodes[0]
    before = everything_below(datanode.dir)
    for bad in BAD_IDS:
        status, body = request(
            datanode.url,
            method,
            f"/v1/chunks/{bad}?offset=0&length=10",
            b"x" * 40 if method == "PUT" else b"",
            **{HEADER_CAPABILITY: "x", HEADER_LENGTH: "8"},
        )
        assert status in (400, 403, 404, 405), (bad, status, body)
        assert b"root:" not in body
        assert b"Traceback" not in body
    assert everything_below(datanode.dir) == before
    assert one.connect().read_bytes("/here") == b"here"


@pytest.mark.parametrize("call", ["stat", "list", "open", "commit"])
def test_a_path_that_leaves_its_place_is_refused_by_name(one: Cluster, call: str) -> None:  # F86
    for bad in BAD_PATHS:
        body: dict[str, Any] = {"path": bad}
        if call == "commit":
            body = {
                # By the cluster's clock: the machine's may have been set since the namenode began.
                "op_id": new_id(one.connect().cluster().time_ms),
                "actions": [{"do": "put", "path": bad, "parents": True}],
            }
        status, answer = request(one.namenode.url, "POST", f"/v1/{call}", msgspec.json.encode(body))
        assert status == 400, (bad, status, answer)
    for bad in BAD_IDS:
        status, answer = request(one.namenode.url, "POST", "/v1/commit", msgspec.json.encode({"op_id": bad}))
        assert status == 400, (bad, status, answer)
    assert [entry.name for entry in one.connect().ls("/")] == ["here"]


def test_the_http_door_decodes_once_and_then_refuses(one: Cluster) -> None:  # F86
    before = everything_below(one.datanodes[0].dir)
    for url in (one.namenode.url, one.datanodes[0].url):
        for bad in BAD_URLS:
            for method, body in (("GET", b""), ("PUT", b"x"), ("DELETE", b"")):
                status, answer = request(url, method, f"/files{bad}", body)
                assert status in (400, 404, 405), (method, bad, status, answer)
                if method == "PUT":
                    assert status == 400, (bad, status, answer)
    assert everything_below(one.datanodes[0].dir) == before
    assert [entry.name for entry in one.connect().ls("/")] == ["here"]
