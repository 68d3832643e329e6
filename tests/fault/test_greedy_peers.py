"""Clients that open everything, send nothing, or never read: they get little, and the others are served."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import psutil
import pytest
import requests

import dfs
from dfs.testing import Cluster, Node, cluster
from fixtures.faults import LONG, MIB, seeded, wait_until

CROWD = 500 if LONG else 100
HEAD_TIMEOUT_S = 10.0


@pytest.fixture(name="running", scope="module")
def a_cluster() -> Iterator[Cluster]:
    with cluster(datanodes=2, chunk_size_bytes=MIB, idle_body_s=2) as running:
        yield running


def dial(node: Node) -> socket.socket:
    place = urlsplit(node.url)
    return socket.create_connection((place.hostname, place.port), 5)


def descriptors(node: Node) -> int:
    return len(os.listdir(f"/proc/{node.pid}/fd"))


def test_slow_heads_and_slow_readers_hold_up_nobody(running: Cluster) -> None:  # F80 F81
    fs, data = running.connect(), seeded("crowd").randbytes(4 * MIB)
    fs.write_bytes("/big", data)
    memory = {
        node.name: psutil.Process(node.pid).memory_info().rss for node in (running.namenode, running.datanodes[0])
    }
    began = time.monotonic()
    with ExitStack() as stack:
        heads = []
        for node in (running.namenode, running.datanodes[0]):
            for number in range(CROWD):
                sock = stack.enter_context(dial(node))
                if number % 2 or node is running.namenode:
                    sock.sendall(b"POST /v1/status HTTP/1.1\r\nHost: x\r\nX-Slow: ")
                    heads.append(sock)
                else:
                    # Asks for 4 MiB, and never reads.
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    sock.sendall(b"GET /files/big HTTP/1.1\r\nHost: x\r\n\r\n")
        assert fs.read_bytes("/big") == data
        fs.write_bytes("/beside", data)
        waited = time.monotonic() - began
        print(f"a read and a write of 4 MiB among {2 * CROWD} slow clients took {waited:.1f} s")
        assert waited < 8
        grown = {
            node.name: (psutil.Process(node.pid).memory_info().rss - memory[node.name]) / MIB
            for node in (running.namenode, running.datanodes[0])
        }
        print(f"memory grew by {grown} MiB")
        assert max(grown.values()) < 64 + CROWD * 1.5
        if not LONG:
            return
        for sock in heads:
            sock.settimeout(max(0.1, began + HEAD_TIMEOUT_S + 5 - time.monotonic()))
            with contextlib.suppress(ConnectionResetError):
                while sock.recv(4096):
                    pass
        print(f"all slow heads were refused after {time.monotonic() - began:.1f} s")
    wait_until(lambda: descriptors(running.namenode) < CROWD / 2 + 50, 10, "their descriptors are free again")


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
