"""A datanode's answers to reads are the same on every way that they can take, and so is what it counts of them."""

import http.client
import random
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from dfs.protocol import operations as o
from dfs.protocol.capability import sign_capability
from dfs.protocol.chunk_format import HEADER_SIZE
from dfs.protocol.clock import SystemClock
from dfs.protocol.digests import BLOCK_SIZE, block_table
from dfs.protocol.ids import new_id
from dfs.protocol.server import protocol_app
from dfs_datanode.findings import Findings
from dfs_datanode.operations.get_chunk import PIECE_BYTES, GetChunk
from dfs_datanode.operations.small_get import ON_LOOP_MAX
from dfs_datanode.outbox import Outbox
from dfs_datanode.throttle import TokenBucket
from fixtures.disks import make_store, store_chunk
from fixtures.servers import Certificate, make_certificate, served

KEY = b"k" * 32
SIZE = 12 * PIECE_BYTES + 333
"""More than the sockets of both ends hold."""
DATA = random.Random(20260101).randbytes(SIZE)
RANGES = ((0, 5), (5, 6), (BLOCK_SIZE - 1, BLOCK_SIZE + 1), (3 * PIECE_BYTES, 3 * PIECE_BYTES + 7), (SIZE - 1, SIZE))


def spelled(ranges: tuple[tuple[int, int], ...]) -> str:
    return ",".join(f"{start}-{end}" for start, end in ranges)


READS = {
    "offset=7&length=100&mode=exact": DATA[7:107],
    f"offset=1&length={ON_LOOP_MAX}&mode=exact": DATA[1 : 1 + ON_LOOP_MAX],
    f"offset=12345&length={SIZE - 12345}&mode=exact": DATA[12345:],
    f"offset={PIECE_BYTES - 1}&length={PIECE_BYTES + 2}&mode=exact": DATA[PIECE_BYTES - 1 : 2 * PIECE_BYTES + 1],
    f"offset=1&length={SIZE - 1}&mode=table": block_table(DATA) + DATA,
    f"offset=1&length={BLOCK_SIZE}&mode=blocks": DATA[: 2 * BLOCK_SIZE],
    f"mode=exact&ranges={spelled(RANGES)}": b"".join(DATA[start:end] for start, end in RANGES),
}


class Served:
    """A datanode's GET, with one chunk that it has."""

    def __init__(self, directory: Path) -> None:
        self.chunk = new_id(1000)
        self.suspected = 0
        self.observed: list[str] = []
        store = make_store(directory)
        store_chunk(store, self.chunk, DATA)
        self.path = Path(store.volumes[0].path_of(self.chunk))
        standing = SimpleNamespace(key=KEY, datanode="dn0")
        membership = SimpleNamespace(standing=lambda: standing, clock=SimpleNamespace(wall_ms=lambda: 1000))
        self.get = GetChunk(
            store=store,
            membership=cast("Any", membership),
            findings=Findings(Outbox()),
            suspected=self._suspected,
            threads=2,
            limit=TokenBucket(0, SystemClock()),
        )
        self.app = protocol_app(
            {},
            bytes_handlers={o.GET_CHUNK: self.get},
            bytes_now={o.GET_CHUNK: self.get.now},
            otherwise=Starlette(),
            observe=lambda _name, _seconds, outcome: self.observed.append(outcome),
        )
        token = sign_capability(
            {"dn0": KEY}, operation="r", chunk=self.chunk, start=0, end=SIZE, expires_ms=2000, principal="ada"
        )
        self.headers = {"Dfs-Protocol": "1", o.HEADER_CAPABILITY: token}

    def _suspected(self) -> None:
        self.suspected += 1


@pytest.fixture(name="datanode")
def a_datanode(tmp_path: Path) -> Iterator[Served]:
    datanode = Served(tmp_path / "volume")
    yield datanode
    datanode.get.close()


@pytest.fixture(name="certificate", scope="module")
def a_certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@contextmanager
def connected(url: str, certificate: Certificate | None = None) -> Iterator[http.client.HTTPConnection]:
    place = urlsplit(url)
    assert place.hostname is not None
    if certificate is None:
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=15)
    else:
        context: ssl.SSLContext = certificate.trusting()
        connection = http.client.HTTPSConnection(place.hostname, place.port, timeout=15, context=context)
    try:
        yield connection
    finally:
        connection.close()


def check_all_reads(datanode: Served, connection: http.client.HTTPConnection) -> None:
    """Each twice, all over one connection: the second time it is an open file, and in memory."""
    sock = None
    for _ in range(2):
        for query, expected in READS.items():
            before = datanode.get.bytes_sent
            connection.request("GET", f"/v1/chunks/{datanode.chunk}?{query}", headers=datanode.headers)
            answer = connection.getresponse()
            assert answer.status == 200
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.read() == expected
            assert sock in (None, connection.sock), "one connection"
            sock = connection.sock
            # What a thread sends is counted when it has ended.
            until_s = time.monotonic() + 5
            while datanode.get.active and time.monotonic() < until_s:
                time.sleep(0.01)
            assert datanode.get.bytes_sent - before == len(expected)
    assert datanode.observed == ["ok"] * 2 * len(READS)
    assert not datanode.suspected


def test_every_read_is_right_over_our_own_protocol_class(datanode: Served) -> None:
    with served(datanode.app) as url, connected(url) as connection:
        check_all_reads(datanode, connection)


def test_every_read_is_right_over_tls(datanode: Served, certificate: Certificate) -> None:
    with served(datanode.app, certificate) as url, connected(url, certificate) as connection:
        check_all_reads(datanode, connection)


def test_every_read_is_right_on_another_server(datanode: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfs.protocol.guard.GuardedProtocol", H11Protocol)
    with served(datanode.app) as url, connected(url) as connection:
        check_all_reads(datanode, connection)


@contextmanager
def dialled(url: str) -> Iterator[socket.socket]:
    """A connection whose reader must keep reading, or the server notices."""
    place = urlsplit(url)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(15)
        sock.connect((place.hostname, place.port))
        yield sock


def request(datanode: Served, *fields: str) -> bytes:
    """For all of the chunk."""
    lines = [f"GET /v1/chunks/{datanode.chunk}?offset=0&length={SIZE}&mode=exact HTTP/1.1", "Host: x", *fields]
    lines += [f"{name}: {value}" for name, value in datanode.headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


@pytest.mark.parametrize("asked", [1, 2, 3])
def test_a_reader_that_goes_away_ends_all_that_it_asked_for_and_is_nobodys_fault(
    datanode: Served, asked: int, caplog: pytest.LogCaptureFixture
) -> None:  # F81
    with served(datanode.app) as url:
        with dialled(url) as sock:
            sock.sendall(request(datanode) * asked)
            assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
        until_s = time.monotonic() + 15
        while (datanode.get.active or not datanode.observed) and time.monotonic() < until_s:
            time.sleep(0.01)
        # Those behind the first had not begun.
        assert datanode.observed == ["ok"]
        assert not datanode.suspected
        assert not caplog.records


def test_a_reader_that_pauses_gets_nothing_between_the_bytes(datanode: Served) -> None:  # F81
    with served(datanode.app) as url, dialled(url) as sock:
        # Who expects to be told to go on is told so at most before the answer.
        sock.sendall(request(datanode, "Expect: 100-continue", "Connection: close"))
        time.sleep(1)
        received = bytearray()
        while piece := sock.recv(PIECE_BYTES):
            received += piece
    assert received.endswith(b"\r\n\r\n" + DATA)
    assert datanode.get.bytes_sent == SIZE


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_block_damaged_far_behind_cuts_the_answer_off_and_what_left_is_counted(
    datanode: Served, certificate: Certificate, tls: bool
) -> None:  # F40
    with open(datanode.path, "r+b") as file:
        file.seek(HEADER_SIZE + 3 * PIECE_BYTES + 5)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    used = certificate if tls else None
    with served(datanode.app, used) as url:
        with connected(url, used) as connection:
            query = f"offset=0&length={SIZE}&mode=exact"
            connection.request("GET", f"/v1/chunks/{datanode.chunk}?{query}", headers=datanode.headers)
            answer = connection.getresponse()
            assert answer.status == 200
            received = bytearray()
            with pytest.raises((http.client.IncompleteRead, ConnectionError, ssl.SSLError)):  # noqa: PT012
                while piece := answer.read(BLOCK_SIZE):
                    received += piece
                raise http.client.IncompleteRead(bytes(received))
        assert DATA.startswith(received)
        assert len(received) <= 3 * PIECE_BYTES
        assert datanode.suspected == 1
        assert 2 * PIECE_BYTES <= datanode.get.bytes_sent <= 3 * PIECE_BYTES
        with connected(url, used) as connection:
            query = "offset=5&length=5&mode=exact"
            connection.request("GET", f"/v1/chunks/{datanode.chunk}?{query}", headers=datanode.headers)
            assert connection.getresponse().read() == DATA[5:10]
