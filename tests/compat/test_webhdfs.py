"""WebHDFS on real clusters: once with redirects to datanodes, once with the namenode passing the bytes on."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import fsspec
import pytest
import requests

from dfs.testing import Cluster, cluster
from dfs_datanode.gateway.crc32c import FileChecksum

BIG = bytes(range(256)) * 20_000


@pytest.fixture(scope="module", params=["datanode", "namenode"])
def made(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with cluster(datanodes=3, webhdfs_data=request.param, chunk_size_bytes=1 << 20) as running:
        yield running


class Web:
    """WebHDFS under one directory."""

    def __init__(self, made: Cluster, root: str) -> None:
        self.cluster = made
        self.root = root
        self.base = f"{made.url}/webhdfs/v1"

    def url(self, path: str, op: str, **parameters: object) -> str:
        rest = "".join(f"&{name.replace('_', '.')}={quote(str(value))}" for name, value in parameters.items())
        return f"{self.base}{quote(self.root + path)}?op={op}{rest}"

    def call(self, method: str, path: str, op: str, data: Any = None, **parameters: object) -> requests.Response:
        return requests.request(method, self.url(path, op, **parameters), data=data, timeout=30)

    def get(self, path: str, op: str, **parameters: object) -> Any:
        answer = self.call("GET", path, op, **parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def put(self, path: str, op: str, **parameters: object) -> requests.Response:
        return self.call("PUT", path, op, **parameters)

    def create(self, path: str, data: bytes, **parameters: object) -> requests.Response:
        return self.call("PUT", path, "CREATE", data, **parameters)

    def read(self, path: str, **parameters: object) -> bytes:
        answer = self.call("GET", path, "OPEN", **parameters)
        assert answer.status_code == 200, answer.text
        assert int(answer.headers["content-length"]) == len(answer.content)
        return answer.content

    def location(self, method: str, path: str, op: str, **parameters: object) -> str:
        answer = requests.request(method, self.url(path, op, **parameters), allow_redirects=False, timeout=30)
        assert answer.status_code == 307, answer.text
        assert answer.content == b""
        return answer.headers["location"]

    def names(self, path: str) -> list[str]:
        return [one["pathSuffix"] for one in self.get(path, "LISTSTATUS")["FileStatuses"]["FileStatus"]]


def refused(answer: requests.Response) -> tuple[int, str]:
    """Status and class of an answer that must be a RemoteException."""
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()["RemoteException"]
    assert told["javaClassName"].endswith("." + told["exception"])
    assert told["message"]
    return answer.status_code, told["exception"]


@pytest.fixture
def web(made: Cluster, request: pytest.FixtureRequest) -> Web:
    web = Web(made, f"/web/{request.node.name.partition('[')[0]}")
    assert web.put("", "MKDIRS").json() == {"boolean": True}
    return web


# --- bytes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "a b", "100%", "ä/ü", "q?&=#", "+plus;", "%2F"])
def test_names_of_every_kind_go_in_and_come_out(web: Web, name: str) -> None:
    assert web.create(f"/{name}", b"bytes", overwrite="true").status_code == 201
    assert web.read(f"/{name}") == b"bytes"
    assert web.get(f"/{name}", "GETFILESTATUS")["FileStatus"]["length"] == 5
    assert web.cluster.connect().read_bytes(f"{web.root}/{name}") == b"bytes"


def test_a_request_line_in_raw_utf8_is_understood(web: Web) -> None:
    web.create("/ü", b"x")
    host = urlsplit(web.cluster.url)
    with socket.create_connection((host.hostname, host.port), timeout=10) as sock:
        target = f"/webhdfs/v1{web.root}/ü?op=GETFILESTATUS"
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200")


def test_a_file_of_several_chunks_comes_back_in_any_part(web: Web) -> None:
    assert web.create("/big", BIG).status_code == 201
    assert web.read("/big") == BIG
    assert web.read("/big", offset=1_048_570, length=20) == BIG[1_048_570:1_048_590]
    assert web.read("/big", offset=len(BIG)) == b""
    assert web.read("/big", offset=len(BIG) - 3, length=100) == BIG[-3:]
    assert refused(web.call("GET", "/big", "OPEN", offset=len(BIG) + 1)) == (403, "IOException")


def test_a_body_may_come_chunked(web: Web) -> None:
    location = web.location("PUT", "/chunked", "CREATE")
    answer = requests.put(location, data=iter([BIG[:100_000], b"", BIG[100_000:]]), timeout=30)
    assert (answer.status_code, answer.content) == (201, b"")
    assert web.read("/chunked") == BIG


def test_who_wants_no_redirect_gets_the_location_as_json(web: Web) -> None:
    answer = web.put("/f", "CREATE", noredirect="true")
    assert answer.status_code == 200
    assert requests.put(answer.json()["Location"], data=b"here", timeout=30).status_code == 201
    location = web.get("/f", "OPEN", noredirect="TRUE")["Location"]
    assert "?" in location
    assert requests.get(location, timeout=30).content == b"here"


def test_a_read_stays_on_its_version_however_often_it_seeks(web: Web) -> None:
    web.create("/f", BIG)
    location = web.location("GET", "/f", "OPEN")
    assert web.create("/f", b"another", overwrite="true").status_code == 201
    assert requests.get(f"{location}&offset=4000000", timeout=30).content == BIG[4_000_000:]
    assert web.read("/f") == b"another"


def test_a_read_goes_on_whatever_becomes_of_the_name(web: Web) -> None:
    web.create("/f", BIG)
    location = web.location("GET", "/f", "OPEN")
    web.put("/f", "RENAME", destination=f"{web.root}/g")
    assert requests.get(f"{location}&offset=4000000", timeout=30).content == BIG[4_000_000:]
    web.call("DELETE", "/g", "DELETE")
    web.put("/f", "MKDIRS")
    assert requests.get(location, timeout=30).content == BIG


def test_nothing_is_stored_of_a_body_that_ends_early(web: Web) -> None:
    location = urlsplit(web.location("PUT", "/half", "CREATE"))
    with socket.create_connection((location.hostname, location.port), timeout=10) as sock:
        target = f"{location.path}?{location.query}"
        sock.sendall(f"PUT {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n".encode() + b"x" * 500_000)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass
    assert web.names("") == []


def test_an_existing_file_is_replaced_only_on_demand(web: Web) -> None:
    web.create("/f", b"1")
    assert refused(web.create("/f", b"2")) == (403, "FileAlreadyExistsException")
    assert refused(web.create("", b"2", overwrite="true")) == (403, "FileAlreadyExistsException")
    assert web.read("/f") == b"1"
    assert web.create("/f", b"2", overwrite="True").status_code == 201
    assert web.read("/f") == b"2"


def test_what_a_writer_asks_for_is_kept(web: Web) -> None:
    web.create("/f", b"1", permission="640", replication=2, blocksize=1048576, user_name="ann")
    status = web.get("/f", "GETFILESTATUS")["FileStatus"]
    assert (status["permission"], status["replication"], status["owner"]) == ("640", 2, "ann")
    assert status["blockSize"] == 1048576
    assert refused(web.create("/a/b", b"", createparent="false")) == (404, "FileNotFoundException")


def test_appends_go_behind_the_end_of_the_same_file(web: Web) -> None:
    web.create("/f", b"one ")
    assert web.call("POST", "/f", "APPEND", b"two ").status_code == 200
    location = web.location("POST", "/f", "APPEND")
    for data in (b"same ", b"same ", b"", BIG):
        assert requests.post(location, data=data, timeout=30).status_code == 200
    assert web.read("/f") == b"one two same same " + BIG
    assert refused(web.call("POST", "/missing", "APPEND", b"x")) == (404, "FileNotFoundException")
    assert refused(web.call("POST", "", "APPEND", b"x")) == (404, "FileNotFoundException")


def test_an_append_does_not_go_to_another_file_of_that_name(web: Web) -> None:
    web.create("/f", b"old")
    location = web.location("POST", "/f", "APPEND")
    web.call("DELETE", "/f", "DELETE")
    web.create("/f", b"new")
    assert refused(requests.post(location, data=b"lost", timeout=30)) == (404, "FileNotFoundException")
    assert web.read("/f") == b"new"


def is_appended_unheard(web: Web, location: str, data: bytes) -> bool:
    """Whether an append is done although its client left after the last byte, while a datanode held up the answer."""
    split = urlsplit(location)
    head = f"POST {split.path}?{split.query} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    before = web.read("/f")
    for slow in web.cluster.datanodes:
        if slow.url.endswith(f":{split.port}"):
            continue
        slow.stop()
        try:
            with socket.create_connection((split.hostname, split.port), timeout=10) as sock:
                sock.sendall(head + data)
                time.sleep(1)
        finally:
            slow.cont()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if web.read("/f") != before:
                return True
            time.sleep(0.05)
    return False


def test_an_append_whose_client_did_not_hear_the_answer_is_not_done_twice(web: Web) -> None:
    web.create("/f", b"1")
    location = web.location("POST", "/f", "APPEND")
    assert is_appended_unheard(web, location, b"twic")
    assert requests.post(location, data=b"twic", timeout=30).status_code == 200
    assert web.read("/f") == b"1twic"
    assert requests.post(location, data=b"twic", timeout=30).status_code == 200
    assert web.read("/f") == b"1twictwic"


def test_truncate_and_concat_move_no_bytes_and_are_exact(web: Web) -> None:
    web.create("/f", BIG)
    assert web.call("POST", "/f", "TRUNCATE", newlength=1_500_000).json() == {"boolean": True}
    assert web.read("/f") == BIG[:1_500_000]
    assert refused(web.call("POST", "/f", "TRUNCATE", newlength=1_500_001)) == (400, "IllegalArgumentException")
    web.create("/g", b"G")
    web.create("/h", b"H")
    assert web.call("POST", "/f", "CONCAT", sources=f"{web.root}/g,{web.root}/h").content == b""
    assert web.read("/f") == BIG[:1_500_000] + b"GH"
    assert web.names("") == ["f"]


def test_the_checksum_is_the_one_that_hdfs_computes(web: Web) -> None:
    web.create("/f", BIG)
    told = web.get("/f", "GETFILECHECKSUM")["FileChecksum"]
    wanted = FileChecksum(1 << 20)
    wanted.update(BIG)
    assert told == wanted.result()
    assert told["algorithm"] == "MD5-of-2048MD5-of-512CRC32C"
    assert refused(web.call("GET", "", "GETFILECHECKSUM")) == (404, "FileNotFoundException")


def test_many_transfers_at_once_do_not_mix(web: Web) -> None:
    def work(number: int) -> None:
        data = bytes([number]) * 300_000
        assert web.create(f"/{number}", data).status_code == 201
        if web.read(f"/{number}") != data:
            wrong.append(number)
        else:
            right.append(number)

    wrong: list[int] = []
    right: list[int] = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sorted(right), wrong) == (list(range(8)), [])


# --- names --------------------------------------------------------------------------------------------------------


def test_a_file_status_has_every_field_that_hadoop_reads(web: Web) -> None:
    web.create("/f", b"123")
    web.put("/d", "MKDIRS", permission="700")
    file, directory = (web.get(path, "GETFILESTATUS")["FileStatus"] for path in ("/f", "/d"))
    for status in (file, directory):
        for name in ("length", "accessTime", "modificationTime", "blockSize", "replication", "fileId", "childrenNum"):
            assert isinstance(status[name], int), name
        for name in ("pathSuffix", "type", "owner", "group", "permission"):
            assert isinstance(status[name], str), name
    assert (directory["type"], directory["permission"], directory["pathSuffix"]) == ("DIRECTORY", "700", "")
    assert (directory["length"], directory["blockSize"], directory["replication"]) == (0, 0, 0)
    assert abs(file["modificationTime"] / 1000 - time.time()) < 60


def test_listings_are_whole_however_long_they_are(web: Web) -> None:
    with web.cluster.connect().transaction() as t:
        for number in range(2100):
            t.write_bytes(f"{web.root}/{number:04}", b"")
    wanted = [f"{number:04}" for number in range(2100)]
    assert web.names("") == wanted
    after, found = "", []
    while True:
        page = web.get("", "LISTSTATUS_BATCH", startAfter=after)["DirectoryListing"]
        entries = page["partialListing"]["FileStatuses"]["FileStatus"]
        found += [one["pathSuffix"] for one in entries]
        if not page["remainingEntries"]:
            break
        after = found[-1]
    assert found == wanted
    alone = web.get("/0007", "LISTSTATUS")["FileStatuses"]["FileStatus"]
    assert [one["pathSuffix"] for one in alone] == [""]


def test_a_rename_without_options_says_false_where_it_can_not(web: Web) -> None:
    def rename(source: str, target: str) -> bool:
        answer = web.put(source, "RENAME", destination=f"{web.root}{target}").json()["boolean"]
        assert isinstance(answer, bool)
        return answer

    web.create("/f", b"f")
    web.create("/g", b"g")
    web.put("/d/e", "MKDIRS")
    assert not rename("/missing", "/x")
    assert not rename("/f", "/g")
    assert not rename("/f", "/no/parent")
    assert not rename("/d", "/d/e/deeper")
    assert not rename("/d", "/d")
    assert rename("/f", "/f")
    assert rename("/f", "/d")
    assert web.names("/d") == ["e", "f"]
    root = requests.put(f"{web.base}/?op=RENAME&destination=/x", timeout=30)
    assert root.json() == {"boolean": False}


def test_a_rename_with_options_replaces_or_says_why_not(web: Web) -> None:
    def rename(source: str, target: str, options: str) -> requests.Response:
        return web.put(source, "RENAME", destination=f"{web.root}{target}", renameoptions=options)

    web.create("/f", b"f")
    web.create("/g", b"g")
    web.put("/d/e", "MKDIRS")
    assert refused(rename("/f", "/g", "NONE")) == (403, "FileAlreadyExistsException")
    assert refused(rename("/missing", "/g", "OVERWRITE")) == (404, "FileNotFoundException")
    assert refused(rename("/f", "/d", "OVERWRITE")) == (403, "IOException")
    assert refused(rename("/f", "/f", "OVERWRITE")) == (403, "FileAlreadyExistsException")
    assert refused(rename("/f", "/no/f", "OVERWRITE")) == (404, "FileNotFoundException")
    done = rename("/f", "/g", "overwrite")
    assert (done.status_code, done.content) == (200, b"")
    assert web.read("/g") == b"f"


def test_delete_needs_to_be_told_to_be_recursive(web: Web) -> None:
    web.create("/d/f", b"")
    assert refused(web.call("DELETE", "/d", "DELETE")) == (403, "PathIsNotEmptyDirectoryException")
    assert web.call("DELETE", "/d", "DELETE", recursive="true").json() == {"boolean": True}
    assert web.call("DELETE", "/d", "DELETE").json() == {"boolean": False}
    assert requests.delete(f"{web.base}/?op=DELETE&recursive=true", timeout=30).json() == {"boolean": False}


def test_sums_quotas_and_the_cluster(web: Web) -> None:
    web.create("/d/f", b"12345")
    summary = web.get("", "GETCONTENTSUMMARY")["ContentSummary"]
    assert (summary["length"], summary["fileCount"], summary["directoryCount"]) == (5, 1, 2)
    assert (summary["spaceConsumed"], summary["quota"], summary["spaceQuota"]) == (15, -1, -1)
    assert web.get("", "GETQUOTAUSAGE")["QuotaUsage"]["fileAndDirectoryCount"] == 3
    assert web.get("", "GETSTATUS")["FsStatus"]["capacity"] > 0
    assert web.get("", "GETSERVERDEFAULTS")["FsServerDefaults"]["blockSize"] == 1 << 20
    assert web.get("", "GETHOMEDIRECTORY", user_name="ann") == {"Path": "/user/ann"}
    assert web.get("", "GETTRASHROOT", user_name="ann") == {"Path": "/user/ann/.Trash"}
    assert web.get("", "GETDELEGATIONTOKEN") == {"Token": None}
    assert web.call("GET", "/d", "CHECKACCESS", fsaction="r-x").content == b""
    assert refused(web.call("GET", "/no", "CHECKACCESS", fsaction="r-x")) == (404, "FileNotFoundException")


def test_block_locations_cover_the_file(web: Web) -> None:
    web.create("/f", BIG)
    found = web.get("/f", "GETFILEBLOCKLOCATIONS")["BlockLocations"]["BlockLocation"]
    assert [one["offset"] for one in found] == [sum(b["length"] for b in found[:n]) for n in range(len(found))]
    assert sum(one["length"] for one in found) == len(BIG)
    assert all(len(one["hosts"]) == len(one["names"]) == 3 for one in found)
    part = web.get("/f", "GETFILEBLOCKLOCATIONS", offset=1 << 20, length=1)["BlockLocations"]["BlockLocation"]
    assert [one["offset"] for one in part] == [1 << 20]
    assert web.get("/f", "GETFILEBLOCKLOCATIONS", length=(1 << 63) - 1)["BlockLocations"]["BlockLocation"] == found
    assert web.read("/f", offset=len(BIG) - 2, length=(1 << 63) - 1) == BIG[-2:]
    old = web.get("/f", "GET_BLOCK_LOCATIONS", offset=0, length=(1 << 63) - 1)["LocatedBlocks"]
    assert [one["startOffset"] for one in old["locatedBlocks"]] == [one["offset"] for one in found]


# --- what describes -----------------------------------------------------------------------------------------------


def test_owner_mode_times_and_replication_are_kept(web: Web) -> None:
    web.create("/f", b"")
    assert web.put("/f", "SETOWNER", owner="o", group="g").content == b""
    assert web.put("/f", "SETPERMISSION", permission="1751").content == b""
    assert web.put("/f", "SETTIMES", modificationtime=1234, accesstime=5678).content == b""
    assert web.put("/f", "SETTIMES", modificationtime=-1, accesstime=-1).status_code == 200
    assert web.put("/f", "SETREPLICATION", replication=2).json() == {"boolean": True}
    assert web.put("", "SETREPLICATION", replication=2).json() == {"boolean": False}
    status = web.get("/f", "GETFILESTATUS")["FileStatus"]
    assert (status["owner"], status["group"], status["permission"]) == ("o", "g", "1751")
    assert (status["modificationTime"], status["accessTime"], status["replication"]) == (1234, 5678, 2)
    assert refused(web.put("/no", "SETOWNER", owner="o")) == (404, "FileNotFoundException")
    assert refused(web.put("/f", "SETPERMISSION", permission="9")) == (400, "IllegalArgumentException")


def test_extended_attributes_are_kept(web: Web) -> None:
    web.create("/f", b"")
    assert web.put("/f", "SETXATTR", xattr_name="user.a", xattr_value="0x00ff", flag="CREATE").ok
    assert web.put("/f", "SETXATTR", xattr_name="user.b", xattr_value='"text"').ok
    again = web.put("/f", "SETXATTR", xattr_name="user.a", xattr_value="x", flag="CREATE")
    assert refused(again) == (403, "IOException")
    assert json.loads(web.get("/f", "LISTXATTRS")["XAttrNames"]) == ["user.a", "user.b"]
    found = web.get("/f", "GETXATTRS", encoding="hex")["XAttrs"]
    assert {one["name"]: one["value"] for one in found} == {"user.a": "0x00ff", "user.b": "0x74657874"}
    assert web.put("/f", "REMOVEXATTR", xattr_name="user.a").ok
    assert refused(web.put("/f", "REMOVEXATTR", xattr_name="user.a")) == (403, "IOException")
    assert refused(web.call("GET", "/f", "GETXATTRS", xattr_name="user.a")) == (403, "IOException")
    assert web.cluster.connect().stat(f"{web.root}/f").attributes["hdfs.xattr.user.b"] == "dGV4dA=="


def test_access_control_lists_are_kept(web: Web) -> None:
    web.put("/d", "MKDIRS", permission="750")
    assert web.put("/d", "MODIFYACLENTRIES", aclspec="user:ann:rwx,default:group:staff:r-x").ok
    acl = web.get("/d", "GETACLSTATUS")["AclStatus"]
    assert acl["entries"] == [
        "user:ann:rwx", "group::r-x", "default:user::rwx", "default:group::r-x", "default:group:staff:r-x",
        "default:mask::r-x", "default:other::---",
    ]  # fmt: skip
    assert acl["permission"] == "770"
    assert web.get("/d", "GETFILESTATUS")["FileStatus"]["aclBit"] is True
    assert web.put("/d", "REMOVEACLENTRIES", aclspec="user:ann").ok
    assert web.put("/d", "REMOVEDEFAULTACL").ok
    assert web.get("/d", "GETACLSTATUS")["AclStatus"]["entries"] == []
    assert web.get("/d", "GETFILESTATUS")["FileStatus"]["permission"] == "750"
    web.create("/f", b"")
    assert refused(web.put("/f", "MODIFYACLENTRIES", aclspec="default:user:ann:rwx")) == (403, "AclException")


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "query", "status", "kind"),
    [
        ("GET", "/", "op=NOSUCH", 400, "IllegalArgumentException"),
        ("GET", "/", "", 400, "IllegalArgumentException"),
        ("PUT", "/", "op=LISTSTATUS", 400, "IllegalArgumentException"),
        ("GET", "/no", "op=GETFILESTATUS", 404, "FileNotFoundException"),
        ("GET", "/no", "op=OPEN", 404, "FileNotFoundException"),
        ("GET", "/", "op=OPEN", 404, "FileNotFoundException"),
        ("GET", "/f/x", "op=LISTSTATUS", 403, "ParentNotDirectoryException"),
        ("PUT", "/f/x", "op=MKDIRS", 403, "ParentNotDirectoryException"),
        ("PUT", "/f", "op=MKDIRS", 403, "FileAlreadyExistsException"),
        ("PUT", "/f", "op=CREATE&overwrite=maybe", 400, "IllegalArgumentException"),
        ("PUT", "/x", "op=MKDIRS&permission=rwx", 400, "IllegalArgumentException"),
        ("GET", "/f", "op=OPEN&offset=1_0", 400, "IllegalArgumentException"),
        ("GET", "/f", "op=OPEN&offset=-1", 400, "IllegalArgumentException"),
        ("GET", "/%zz", "op=GETFILESTATUS", 400, "InvalidPathException"),
        ("GET", "/%ff", "op=GETFILESTATUS", 400, "InvalidPathException"),
        ("GET", "/a/../b", "op=GETFILESTATUS", 400, "InvalidPathException"),
        ("GET", "/f", "op=GETFILESTATUS&x=%ff", 400, "IllegalArgumentException"),
        ("PUT", "/f", "op=RENAME", 400, "IllegalArgumentException"),
        ("PUT", "/f", "op=RENAME&destination=relative", 400, "InvalidPathException"),
        ("PUT", "/f", "op=SETXATTR&xattr.name=nothing", 400, "IllegalArgumentException"),
        ("PUT", "/f", "op=SETACL&aclspec=nonsense", 400, "IllegalArgumentException"),
        ("PUT", "/f", "op=CREATESNAPSHOT", 400, "UnsupportedOperationException"),
        ("GET", "/", "op=GETHOMEDIRECTORY&user.name=a/b", 400, "IllegalArgumentException"),
    ],
)
def test_bad_input_is_a_remote_exception(
    made: Cluster, method: str, path: str, query: str, status: int, kind: str
) -> None:
    made.connect().write_bytes("/f", b"0123456789")
    host = urlsplit(made.url)
    with socket.create_connection((host.hostname, host.port), timeout=10) as sock:
        head = f"{method} /webhdfs/v1{path}?{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        sock.sendall(head.encode())
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    first, body = answer.partition(b"\r\n")[0], answer.partition(b"\r\n\r\n")[2]
    told = json.loads(body)["RemoteException"]
    assert (int(first.split()[1]), told["exception"]) == (status, kind), told


def test_another_sites_page_can_not_change_anything(web: Web) -> None:
    url = web.url("/d", "MKDIRS")
    answer = requests.put(url, headers={"Origin": "https://evil.example"}, timeout=30)
    assert refused(answer) == (403, "AccessControlException")
    assert web.names("") == []


# --- clients ------------------------------------------------------------------------------------------------------


def test_fsspec_works_through_its_own_webhdfs(web: Web) -> None:
    host = urlsplit(web.cluster.url)
    fs = fsspec.filesystem("webhdfs", host=host.hostname, port=host.port, user="ann", skip_instance_cache=True)
    fs.makedirs(f"{web.root}/d", exist_ok=True)
    with fs.open(f"{web.root}/d/ä b", "wb", block_size=1 << 20) as file:
        file.write(BIG)
    with fs.open(f"{web.root}/d/ä b", "rb") as file:
        file.seek(3_000_000)
        assert file.read(100) == BIG[3_000_000:3_000_100]
    assert fs.cat(f"{web.root}/d/ä b") == BIG
    # Its own "ab" can't work with any server: it forgets the Location.
    assert fs.info(f"{web.root}/d/ä b")["size"] == len(BIG)
    assert [os.path.basename(name) for name in fs.ls(f"{web.root}/d", detail=False)] == ["ä b"]
    assert fs.ukey(f"{web.root}/d/ä b")["length"] == 28
    fs.mv(f"{web.root}/d/ä b", f"{web.root}/d/c")
    fs.chmod(f"{web.root}/d/c", 600)
    assert fs.content_summary(f"{web.root}/d")["fileCount"] == 1
    fs.rm(f"{web.root}/d", recursive=True)
    assert not fs.exists(f"{web.root}/d")
    with pytest.raises(FileNotFoundError):
        fs.info(f"{web.root}/d")


def test_a_dead_datanode_is_passed_over(made: Cluster, web: Web) -> None:
    web.create("/f", BIG)
    dead = made.datanodes[0]
    dead.kill()
    try:
        for number in range(6):
            excluded = {"excludedatanodes": urlsplit(dead.url).netloc}
            assert web.read("/f", **excluded) == BIG
            assert web.create(f"/{number}", b"x", **excluded).status_code == 201
    finally:
        dead.restart()
