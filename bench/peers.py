"""Other stores, behind the interface that the workloads know (`dfs.bench.stores.Store`).

Each is as thin as its protocol allows, on one `http.client` connection, so that the store is measured and not a client
library of it. `found` says which of them are there: those that the environment names.

    BENCH_WEBDAV=http://host:port/path        any WebDAV server
    BENCH_WEBHDFS=http://host:port/user       a WebHDFS namenode, and who works on it
    BENCH_S3=http://host:port/bucket          with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
    BENCH_DIRECTORY=/mnt/other                a file system that is mounted there, each file synced before it counts
"""

import datetime
import hashlib
import hmac
import http.client
import json
import os
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from xml.etree import ElementTree

from dfs.bench.stores import BIG, META, PIECE, RANGE, SMALL, Target

ALL = (BIG, SMALL, RANGE, META)


def found(environ: Mapping[str, str]) -> list[Target]:
    """The peers that the environment names."""
    targets: list[Target] = []
    if url := environ.get("BENCH_WEBDAV"):
        targets.append(_target("webdav", "WebDavStore", {"url": url}, ALL))
    if url := environ.get("BENCH_WEBHDFS"):
        targets.append(_target("webhdfs", "WebHdfsStore", {"url": url}, ALL))
    if url := environ.get("BENCH_S3"):
        # A rename is a copy there, which is no rename.
        targets.append(_target("s3", "S3Store", {"url": url}, (BIG, SMALL, RANGE)))
    if top := environ.get("BENCH_DIRECTORY"):
        targets.append(_target(f"{top} + fsync", "DiskStore", {"top": top}, ALL))
    return targets


def _target(subject: str, name: str, options: dict[str, Any], features: tuple[str, ...]) -> Target:
    return Target(subject=subject, factory=f"bench.peers:{name}", options=options, features=features, root="/dfs-bench")


class PeerError(OSError):
    """A peer answered what the benchmark can't go on with."""


class DiskStore:
    """A directory. What is written is synced before it counts; names are what the file system makes of them."""

    def __init__(self, top: str) -> None:
        self._top = top

    def _at(self, path: str) -> str:
        return self._top + path

    def put_file(self, local: str, path: str) -> None:
        with open(local, "rb", buffering=0) as source, open(self._at(path), "wb", buffering=0) as file:
            while piece := source.read(PIECE):
                file.write(piece)
            os.fsync(file.fileno())

    def get_file(self, path: str, local: str) -> None:
        with open(self._at(path), "rb", buffering=0) as file, open(local, "wb", buffering=0) as target:
            while piece := file.read(PIECE):
                target.write(piece)

    def drain(self, path: str, take: Callable[[memoryview], None]) -> None:
        buffer = memoryview(bytearray(PIECE))
        with open(self._at(path), "rb", buffering=0) as file:
            while count := file.readinto(buffer):
                take(buffer[:count])

    def put(self, path: str, data: bytes) -> None:
        descriptor = os.open(self._at(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        try:
            os.write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def get(self, path: str) -> bytes:
        with open(self._at(path), "rb", buffering=0) as file:
            return file.read()

    def open_range(self, path: str) -> Callable[[int, int], bytes]:
        descriptor = os.open(self._at(path), os.O_RDONLY)
        return lambda start, end: os.pread(descriptor, end - start, start)

    def mkdir(self, path: str) -> None:
        os.makedirs(self._at(path), exist_ok=True)

    def create(self, path: str) -> None:
        self.put(path, b"")

    def size(self, path: str) -> int:
        return os.stat(self._at(path)).st_size

    def list(self, path: str) -> int:
        with os.scandir(self._at(path)) as entries:
            return sum(1 for entry in entries if entry.stat())

    def rename(self, source: str, target: str) -> None:
        os.rename(self._at(source), self._at(target))

    def remove(self, path: str) -> None:
        os.unlink(self._at(path))

    def remove_tree(self, path: str) -> None:
        import shutil

        shutil.rmtree(self._at(path), ignore_errors=True)
        if os.path.isfile(self._at(path)):
            os.unlink(self._at(path))

    def close(self) -> None:
        return


class HttpStore:
    """One kept-alive connection, repeated once if the server closed it meanwhile. The base of the stores over HTTP."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host = parts.netloc
        self.base = parts.path.rstrip("/")
        self._connection = http.client.HTTPConnection(self.host, timeout=120)

    def headers(self, method: str, target: str) -> dict[str, str]:  # noqa: ARG002
        """What each request carries; for signatures."""
        return {}

    def ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        expected: tuple[int, ...] = (200, 201, 204, 206),
    ) -> http.client.HTTPResponse:
        """Send a request. Raises PeerError for an unexpected status."""
        sent = {**self.headers(method, target), **(headers or {})}
        try:
            self._connection.request(method, target, body, sent)
            response = self._connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            if hasattr(body, "seek"):
                body.seek(0)
            self._connection.close()
            self._connection.request(method, target, body, sent)
            response = self._connection.getresponse()
        if response.status not in expected:
            raise PeerError(f"{method} {target}: {response.status} {response.read(200)!r}")
        return response

    def done(self, *arguments: Any, **options: Any) -> bytes:
        """Send a request and read its whole answer."""
        with self.ask(*arguments, **options) as response:
            return response.read()

    def pour(self, response: http.client.HTTPResponse, take: Callable[[memoryview], Any]) -> None:
        """Read an answer piece by piece."""
        buffer = memoryview(bytearray(PIECE))
        with response:
            while count := response.readinto(buffer):
                take(buffer[:count])

    def url_of(self, path: str) -> str:
        return self.base + quote(path)

    def put_file(self, local: str, path: str) -> None:
        with open(local, "rb", buffering=0) as file:
            self.done("PUT", self.url_of(path), file, {"Content-Length": str(os.path.getsize(local))})

    def get_file(self, path: str, local: str) -> None:
        with open(local, "wb", buffering=0) as file:
            self.pour(self.ask("GET", self.url_of(path)), file.write)

    def drain(self, path: str, take: Callable[[memoryview], None]) -> None:
        self.pour(self.ask("GET", self.url_of(path)), take)

    def put(self, path: str, data: bytes) -> None:
        self.done("PUT", self.url_of(path), data)

    def get(self, path: str) -> bytes:
        return self.done("GET", self.url_of(path))

    def open_range(self, path: str) -> Callable[[int, int], bytes]:
        url = self.url_of(path)
        return lambda start, end: self.done("GET", url, None, {"Range": f"bytes={start}-{end - 1}"})

    def create(self, path: str) -> None:
        self.put(path, b"")

    def size(self, path: str) -> int:
        with self.ask("HEAD", self.url_of(path)) as response:
            response.read()
            return int(response.headers["Content-Length"])

    def remove(self, path: str) -> None:
        self.done("DELETE", self.url_of(path))

    def close(self) -> None:
        self._connection.close()


class WebDavStore(HttpStore):
    """WebDAV. Lists are nginx's JSON where it has no PROPFIND, else PROPFIND with depth 1."""

    def mkdir(self, path: str) -> None:
        here = ""
        for name in path.strip("/").split("/"):
            here += f"/{name}"
            # 405: it is there already.
            self.done("MKCOL", self.url_of(here) + "/", expected=(201, 405))

    def list(self, path: str) -> int:
        url = self.url_of(path) + "/"
        with self.ask("GET", url, expected=(200, 403, 404, 405)) as response:
            body = response.read()
            if response.status == 200 and response.headers.get_content_type() == "application/json":
                return len(json.loads(body))
        answer = self.done("PROPFIND", url, None, {"Depth": "1"}, expected=(207,))
        # The directory itself is the first.
        return len(ElementTree.fromstring(answer).findall("{DAV:}response")) - 1

    def rename(self, source: str, target: str) -> None:
        self.done("MOVE", self.url_of(source), None, {"Destination": f"http://{self.host}{self.url_of(target)}"})

    def remove_tree(self, path: str) -> None:
        for end in ("/", ""):
            # 409: it is a file; 404: it is not there.
            with self.ask("DELETE", self.url_of(path) + end, expected=(200, 204, 404, 409)) as response:
                response.read()
                if response.status in (200, 204):
                    return


class WebHdfsStore(HttpStore):
    """WebHDFS: the namenode answers, or names the datanode that has the bytes. The URL's path is the user."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._user = self.base.strip("/") or "hdfs"
        self._datanodes: dict[str, HttpStore] = {}

    def _op(self, path: str, op: str, **more: str) -> str:
        return f"/webhdfs/v1{quote(path)}?{urlencode({'op': op, 'user.name': self._user, **more})}"

    def _at(self, method: str, target: str, body: Any = None) -> http.client.HTTPResponse:
        """Ask where, and then there: the answer of the datanode."""
        with self.ask(method, target, expected=(307,)) as response:
            response.read()
            location = urlsplit(response.headers["Location"])
        node = self._datanodes.setdefault(location.netloc, HttpStore(f"http://{location.netloc}"))
        headers = {"Content-Type": "application/octet-stream"}
        if hasattr(body, "fileno"):
            headers["Content-Length"] = str(os.fstat(body.fileno()).st_size)
        return node.ask(method, f"{location.path}?{location.query}", body, headers)

    def _create(self, path: str, body: Any) -> None:
        with self._at("PUT", self._op(path, "CREATE", overwrite="false"), body) as response:
            response.read()

    def put_file(self, local: str, path: str) -> None:
        with open(local, "rb", buffering=0) as file:
            self._create(path, file)

    def get_file(self, path: str, local: str) -> None:
        with open(local, "wb", buffering=0) as file:
            self.pour(self._at("GET", self._op(path, "OPEN")), file.write)

    def drain(self, path: str, take: Callable[[memoryview], None]) -> None:
        self.pour(self._at("GET", self._op(path, "OPEN")), take)

    def put(self, path: str, data: bytes) -> None:
        self._create(path, data)

    def get(self, path: str) -> bytes:
        with self._at("GET", self._op(path, "OPEN")) as response:
            return response.read()

    def open_range(self, path: str) -> Callable[[int, int], bytes]:
        def read(start: int, end: int) -> bytes:
            with self._at("GET", self._op(path, "OPEN", offset=str(start), length=str(end - start))) as response:
                return response.read()

        return read

    def mkdir(self, path: str) -> None:
        self.done("PUT", self._op(path, "MKDIRS"))

    def size(self, path: str) -> int:
        return int(json.loads(self.done("GET", self._op(path, "GETFILESTATUS")))["FileStatus"]["length"])

    def list(self, path: str) -> int:
        return len(json.loads(self.done("GET", self._op(path, "LISTSTATUS")))["FileStatuses"]["FileStatus"])

    def rename(self, source: str, target: str) -> None:
        self.done("PUT", self._op(source, "RENAME", destination=target))

    def remove(self, path: str) -> None:
        self.done("DELETE", self._op(path, "DELETE"))

    def remove_tree(self, path: str) -> None:
        self.done("DELETE", self._op(path, "DELETE", recursive="true"), expected=(200, 404))

    def close(self) -> None:
        super().close()
        for node in self._datanodes.values():
            node.close()


class S3Store(HttpStore):
    """S3: path style, signature version 4 without a digest of the body. Directories are only names."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._key = os.environ.get("AWS_ACCESS_KEY_ID", "")
        self._secret = os.environ.get("AWS_SECRET_ACCESS_KEY", "")
        self._region = os.environ.get("AWS_REGION", "us-east-1")

    def headers(self, method: str, target: str) -> dict[str, str]:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
        signed = {"host": self.host, "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-date": now}
        return signed | {
            "Authorization": authorization(
                method, target, signed, key=self._key, secret=self._secret, region=self._region, service="s3"
            )
        }

    def mkdir(self, path: str) -> None:  # noqa: ARG002
        return

    def list(self, path: str) -> int:
        count, token = 0, ""
        while True:
            query = {
                "list-type": "2",
                "prefix": path.lstrip("/") + "/",
                **({"continuation-token": token} if token else {}),
            }
            # A signature wants the names sorted, and spaces as %20.
            text = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(query.items()))
            root = ElementTree.fromstring(self.done("GET", f"{self.base}?{text}"))
            space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
            count += len(root.findall(f"{space}Contents"))
            token = root.findtext(f"{space}NextContinuationToken") or ""
            if not token:
                return count

    def rename(self, source: str, target: str) -> None:
        self.done("PUT", self.url_of(target), None, {"x-amz-copy-source": self.url_of(source)})
        self.remove(source)

    def remove_tree(self, path: str) -> None:
        """The object of this name; what is below it is left to whoever made the bucket for the benchmark."""
        self.done("DELETE", self.url_of(path))


def authorization(
    method: str, target: str, headers: Mapping[str, str], *, key: str, secret: str, region: str, service: str
) -> str:
    """The header of AWS signature version 4 over `headers` (names in lower case), of which x-amz-date is one."""
    path, _, query = target.partition("?")
    now = headers["x-amz-date"]
    names = ";".join(sorted(headers))
    canonical = "\n".join(
        [
            method,
            path,
            query,
            *(f"{name}:{headers[name].strip()}" for name in sorted(headers)),
            "",
            names,
            headers["x-amz-content-sha256"],
        ]
    )
    scope = f"{now[:8]}/{region}/{service}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    signing = f"AWS4{secret}".encode()
    for part in (now[:8], region, service, "aws4_request"):
        signing = hmac.digest(signing, part.encode(), "sha256")
    signature = hmac.digest(signing, text.encode(), "sha256").hex()
    return f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, Signature={signature}"
