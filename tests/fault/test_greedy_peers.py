"""Clients that open everything, send nothing, or never read: they get little, and the others are served."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import psutil
import pytest
import requests

import dfs
from dfs.protocol.connections import FRESH_S
from dfs.testing import Cluster, Node, cluster
from dfs_datanode.chunk_store import READERS_MAX
from fault.crowd import besiege
from fixtures.faults import LONG, MIB, only_long, seeded, wait_until

CROWD = 1000 if LONG else 150
CROWD_S = 20.0 if LONG else 6.0
SERVER_BYTES_MAX = 400 * MIB
"""No server may need more than this for such a crowd, however large the files are that it wants."""
HEAD_TIMEOUT_S = 10.0
WRITE_STALL_S = 60.0


@pytest.fixture(name="running", scope="module")
def a_cluster() -> Iterator[Cluster]:
    with cluster(datanodes=2, chunk_size_bytes=MIB, idle_body_s=2) as running:
        yield running


def dial(node: Node) -> socket.socket:
    place = urlsplit(node.url)
    return socket.create_connection((place.hostname, place.port), 5)


def connections(node: Node) -> int:
    return len(psutil.Process(node.pid).net_connections("tcp"))


def descriptors(node: Node) -> int:
    return len(os.listdir(f"/proc/{node.pid}/fd"))


def test_a_crowd_of_slow_clients_holds_up_nobody(running: Cluster) -> None:  # F80 F81
    siege = besiege(running, CROWD, CROWD_S)
    for name, waits in siege.waits.items():
        print(f"{name} among {CROWD} slow clients: {max(waits):.2f} s at most")
    assert not siege.failures
    assert siege.most_connected > 0.9 * CROWD
    for name, peak in siege.during.items():
        print(f"{name}: {peak.rss_bytes / MIB:.0f} MiB, {peak.descriptors} descriptors, {peak.threads} threads")
        assert peak.rss_bytes < SERVER_BYTES_MAX
        assert peak.descriptors < CROWD + 200
    nodes = [running.namenode, *running.datanodes]
    wait_until(
        lambda: all(connections(node) <= siege.before[node.name].descriptors for node in nodes),
        FRESH_S + (2 * HEAD_TIMEOUT_S if CROWD_S < HEAD_TIMEOUT_S else WRITE_STALL_S),
        "no server keeps a connection of the crowd, or one that it made because of it",
    )
    for node in running.datanodes:
        assert descriptors(node) < siege.before[node.name].descriptors + READERS_MAX
    if CROWD_S > HEAD_TIMEOUT_S:
        assert siege.turned_away >= CROWD / 4, "heads that do not end are not waited for"
    assert not [entry for entry in running.connect().ls("/") if "never" in entry.path]


def test_a_head_that_does_not_end_is_refused_in_time(running: Cluster) -> None:  # F80
    with dial(running.namenode) as first, dial(running.datanodes[0]) as second:
        began = time.monotonic()
        for sock in (first, second):
            sock.sendall(b"POST /v1/status HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            sock.settimeout(HEAD_TIMEOUT_S + 10)
        for sock in (first, second):
            answer = sock.recv(4096)
            assert answer.split()[1] == b"408"
            assert time.monotonic() - began > HEAD_TIMEOUT_S - 1


@only_long
def test_a_reader_who_never_reads_is_dropped_in_time(running: Cluster) -> None:  # F81
    running.connect().write_bytes("/unread", os.urandom(16 * MIB))
    node = running.datanodes[0]
    with dial(node) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(b"GET /files/unread HTTP/1.1\r\nHost: x\r\n\r\n")
        port = sock.getsockname()[1]

        def is_served() -> bool:
            return any(one.raddr and one.raddr.port == port for one in psutil.Process(node.pid).net_connections("tcp"))

        wait_until(is_served, 5, "the server has the connection")
        took = wait_until(lambda: not is_served(), WRITE_STALL_S + 30, "the server has dropped it")
        assert took > WRITE_STALL_S / 2


def test_a_body_that_stops_is_given_up_and_leaves_nothing(running: Cluster) -> None:  # F15 F80 F83
    datanode = running.datanodes[0]
    before = set(os.listdir(os.path.join(datanode.dir, "tmp")))
    with dial(datanode) as sock:
        sock.sendall(b"PUT /files/never HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 1_500_000)
        time.sleep(0.5)
    wait_until(lambda: set(os.listdir(os.path.join(datanode.dir, "tmp"))) <= before, 15, "no temporary file is left")
    assert not running.connect().exists("/never")


@pytest.mark.parametrize("role", ["namenode", "datanode"])
def test_a_server_without_descriptors_recovers_when_it_has_some_again(running: Cluster, role: str) -> None:  # F89
    node = running.namenode if role == "namenode" else running.datanodes[0]
    fs, data = running.connect(), seeded(role).randbytes(100_000)
    fs.write_bytes("/before", data)
    node.limit_descriptors(8)
    crowd: list[socket.socket] = []
    try:
        for _ in range(60):
            with contextlib.suppress(OSError):
                crowd.append(dial(node))
        time.sleep(1)
        assert node.running
        used = psutil.Process(node.pid).cpu_percent(interval=1)
        print(f"{used:.0f} % CPU while it has no descriptors left")
        assert used < 60
        if role == "datanode":
            assert running.connect().read_bytes("/before") == data
    finally:
        for sock in crowd:
            sock.close()
        node.limit_descriptors(None)
    assert node.running
    wait_until(lambda: requests.get(f"{node.url}/healthz", timeout=10).status_code == 200, 10, "it answers again")
    running.wait_writable()
    fs = running.connect()
    fs.write_bytes("/after", data)
    assert fs.read_bytes("/after") == fs.read_bytes("/before") == data
    assert isinstance(fs, dfs.Client)
