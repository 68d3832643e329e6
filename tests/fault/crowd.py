"""A crowd of slow clients, and what they cost the servers and everybody else.

    PYTHONPATH=tests python -m fault.crowd --clients 1000

Some send heads bit by bit, some upload so, some ask for a big file and hardly read. Whoever is thrown out
comes again, so that the crowd stays as large as it is. One thread plays them all; `besiege` measures meanwhile what
each server needs, from /proc, and how long a put, a get and a listing take. Shared by the stage of `make faults`, which
sends 1 000, and by a test, which sends fewer.
"""

import argparse
import os
import resource
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import dfs
from dfs.testing import Cluster, Node, cluster
from fixtures.page import Section, table
from fixtures.reliability import Peak, Watcher, look_at

MIB = 1 << 20
BIG = "/big"
BIG_BYTES = 4 * MIB
ROUND_S = 1.0
"""Every client does its little something once in a round."""
TRICKLE_BYTES = 16
RECEIVE_BUFFER_BYTES = 4096
DESCRIPTORS_BESIDE = 500
SLOW_READ = b"GET /files%s HTTP/1.1\r\nHost: x\r\n\r\n" % BIG.encode()
SLOW_HEAD = b"POST /v1/status HTTP/1.1\r\nHost: x\r\nX-Slow: "
SLOW_BODY = b"POST /v1/commit HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n"
SLOW_UPLOAD = b"PUT /files/never-%d HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n"


@dataclass
class _Client:
    """One of the crowd."""

    node: Node
    kind: str
    number: int
    sock: socket.socket | None = None


class Crowd(threading.Thread):
    """Slow clients of some servers; they come when it is started, and leave at `leave`."""

    def __init__(self, nodes: Sequence[Node], count: int) -> None:
        super().__init__(name="crowd", daemon=True)
        self._clients = [self._client(nodes[number % len(nodes)], number) for number in range(count)]
        self._over = threading.Event()
        self.arrived = threading.Event()
        """All of them have been let in, or turned away, once."""
        self.turned_away = 0
        """How often a server closed one's connection."""

    @staticmethod
    def _client(node: Node, number: int) -> _Client:
        # Only datanodes hand out files.
        kinds = ("head", "upload", "read") if node.role == "datanode" else ("head", "body")
        return _Client(node, kinds[number // len(kinds) % len(kinds)], number)

    @property
    def connected(self) -> int:
        return sum(client.sock is not None for client in self._clients)

    def run(self) -> None:
        while not self._over.is_set():
            for client in self._clients:
                if self._over.is_set():
                    break
                try:
                    self._step(client)
                except BlockingIOError:
                    # The server reads as slowly as we read.
                    continue
                except OSError:
                    self._turn_away(client)
            self.arrived.set()
            self._over.wait(ROUND_S)
        for client in self._clients:
            if client.sock is not None:
                client.sock.close()

    def _step(self, client: _Client) -> None:
        if client.sock is None:
            client.sock = self._dial(client)
        elif client.kind == "read":
            if not client.sock.recv(TRICKLE_BYTES):
                self._turn_away(client)
        else:
            client.sock.send(b"x" * TRICKLE_BYTES)

    def _turn_away(self, client: _Client) -> None:
        self.turned_away += 1
        if client.sock is not None:
            client.sock.close()
        client.sock = None

    def _dial(self, client: _Client) -> socket.socket:
        place = urlsplit(client.node.url)
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if client.kind == "read":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            sock.settimeout(5)
            sock.connect((place.hostname, place.port))
            first = {"head": SLOW_HEAD, "body": SLOW_BODY, "read": SLOW_READ, "upload": SLOW_UPLOAD % client.number}
            sock.sendall(first[client.kind])
            sock.setblocking(False)
        except OSError:
            sock.close()
            raise
        return sock

    def leave(self) -> None:
        self._over.set()
        self.join()


@dataclass
class Siege:
    """What was seen while a crowd stood before the servers."""

    clients: int
    seconds: float
    turned_away: int = 0
    most_connected: int = 0
    before: dict[str, Peak] = field(default_factory=dict)
    during: dict[str, Peak] = field(default_factory=dict)
    waits: dict[str, list[float]] = field(default_factory=dict)
    """Seconds that each put, get and listing took."""
    failures: list[str] = field(default_factory=list)

    def grown_bytes(self, name: str) -> int:
        return max(0, self.during[name].rss_bytes - self.before[name].rss_bytes)

    def section(self) -> Section:
        """As `docs/reliability.md` shows it."""
        servers = [
            (
                name,
                f"{self.before[name].rss_bytes / MIB:.0f} MiB, {self.before[name].descriptors}",
                f"{peak.rss_bytes / MIB:.0f} MiB, {peak.descriptors}",
                str(peak.threads),
            )
            for name, peak in sorted(self.during.items())
        ]
        waits = [
            (what, str(len(seconds)), f"{sorted(seconds)[len(seconds) // 2] * 1000:.0f} ms", f"{max(seconds):.2f} s")
            for what, seconds in self.waits.items()
        ]
        intro = (
            f"{self.clients:,} clients for {self.seconds:.0f} s, who send heads, upload, or download some bytes a "
            f"second; {self.most_connected:,} were connected at once. The servers closed {self.turned_away:,} "
            f"connections, and the clients came again. Puts, gets and listings that failed meanwhile: "
            f"{len(self.failures)}."
        )
        return Section(
            f"{self.clients:,} slow clients",
            "\n\n".join(
                [
                    intro,
                    table(("server", "memory, descriptors before", "most during", "most threads"), servers),
                    table(("meanwhile, with 1 MiB", "times", "median", "longest"), waits),
                ]
            ),
        )


def besiege(running: Cluster, clients: int, seconds: float) -> Siege:
    """Send a crowd to all servers of a cluster, and work there meanwhile."""
    allow_descriptors(clients + DESCRIPTORS_BESIDE)
    nodes: list[Node] = [running.namenode, *running.datanodes]
    data = os.urandom(MIB)
    fs = running.connect()
    fs.write_bytes(BIG, os.urandom(BIG_BYTES))
    _work(fs, data, 0)
    siege = Siege(clients, seconds, before={node.name: look_at(node.pid) for node in nodes})
    watcher = Watcher(lambda: nodes)
    crowd = Crowd(nodes, clients)
    watcher.start()
    crowd.start()
    try:
        crowd.arrived.wait(60)
        began, number = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            number += 1
            siege.most_connected = max(siege.most_connected, crowd.connected)
            try:
                for what, took in _work(fs, data, number).items():
                    siege.waits.setdefault(what, []).append(took)
            except (dfs.errors.DfsError, AssertionError) as error:
                siege.failures.append(f"{type(error).__name__}: {error}")
            time.sleep(0.2)
    finally:
        crowd.leave()
        watcher.stop()
    siege.turned_away = crowd.turned_away
    siege.during = watcher.peaks
    return siege


def _work(fs: dfs.Client, data: bytes, number: int) -> dict[str, float]:
    """What an ordinary client does; how long each took."""
    path = f"/ordinary-{number % 10}"
    marks = [time.monotonic()]
    fs.write_bytes(path, data)
    marks.append(time.monotonic())
    assert fs.read_bytes(path) == data, "a reader got wrong bytes"
    marks.append(time.monotonic())
    assert path in {entry.path for entry in fs.ls("/")}
    marks.append(time.monotonic())
    return {what: end - begin for what, begin, end in zip(("put", "get", "ls"), marks, marks[1:], strict=False)}


def allow_descriptors(wanted: int) -> None:
    """Let this process, and the servers that it starts, open so many files. Raises OSError: the machine does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))


def measure(clients: int, seconds: float) -> Section:
    """The stage of `make faults`. Raises AssertionError: somebody was not served."""
    allow_descriptors(clients + DESCRIPTORS_BESIDE)
    with cluster(datanodes=3, chunk_size_bytes=MIB) as running:
        siege = besiege(running, clients, seconds)
    assert not siege.failures, f"ordinary clients were not served: {siege.failures[:5]}"
    return siege.section()


def main() -> None:
    parser = argparse.ArgumentParser(description="What slow clients cost.")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    print(measure(options.clients, options.seconds).text)


if __name__ == "__main__":
    main()
