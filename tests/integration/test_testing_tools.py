"""The tools of `dfs.testing` do what they say, so that a fault test that passes has met its fault."""

import errno
import os
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfs.testing import Impossible, PowerDisk, SmallDisk
from dfs.testing.clocks import MovableClock, write_shift
from dfs.testing.proxy import Cut, Delay, Duplicate, Flip, Proxy, Refuse, Stall, Throttle
from dfs.testing.syscalls import inject

REQUEST = b"PUT /x " + b"r" * 93


class Echo(socketserver.BaseRequestHandler):
    """Answers every 100 bytes with the same 100 bytes."""

    def handle(self) -> None:
        while request := receive(self.request, 100):
            self.server.seen.append(request)  # type: ignore[attr-defined]
            self.request.sendall(request)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, *_: object) -> None:
        """Connections are reset on purpose here."""


def receive(sock: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count and (piece := sock.recv(count - len(got))):
        got += piece
    return got


@pytest.fixture(name="server")
def an_echo_server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Echo) as server:
        server.seen = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(name="proxy")
def a_proxy_before_it(server: Server) -> Iterator[Proxy]:
    with Proxy(f"http://127.0.0.1:{server.server_address[1]}") as proxy:
        yield proxy


def connection(proxy: Proxy, timeout_s: float = 5.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(proxy.url.rpartition(":")[2])), timeout_s)


def ask(proxy: Proxy, request: bytes = REQUEST) -> bytes:
    with connection(proxy) as sock:
        sock.sendall(request)
        return receive(sock, 100)


def test_a_proxy_without_faults_changes_nothing(proxy: Proxy) -> None:
    with connection(proxy) as sock:
        for _ in range(3):
            sock.sendall(REQUEST)
            assert receive(sock, 100) == REQUEST
    assert proxy.happened == 0


def test_a_flip_hits_one_bit_at_its_place_as_often_as_asked(proxy: Proxy, server: Server) -> None:
    proxy.add(Flip("request", 50, bit=3), times=1)
    damaged = ask(proxy)
    assert [place for place in range(100) if damaged[place] != REQUEST[place]] == [50]
    assert damaged[50] ^ REQUEST[50] == 8
    assert ask(proxy) == REQUEST
    proxy.add(Flip("answer", 0, match=b"GET "))
    assert ask(proxy) == REQUEST
    assert proxy.happened == 1
    with connection(proxy) as sock:
        sock.sendall(REQUEST)
        assert receive(sock, 100) == REQUEST
        # The second exchange of a connection has positions of its own.
        other = b"GET" + REQUEST[3:]
        sock.sendall(other)
        assert receive(sock, 100) == bytes([other[0] ^ 1]) + other[1:]


def test_a_cut_answer_is_reset_after_what_was_let_through(proxy: Proxy, server: Server) -> None:
    proxy.add(Cut("answer", 30), times=1)
    with pytest.raises(ConnectionResetError):
        ask(proxy)
    assert server.seen == [REQUEST]  # type: ignore[attr-defined]
    assert ask(proxy) == REQUEST


def test_a_doubled_request_reaches_the_server_twice_and_is_answered_once(proxy: Proxy, server: Server) -> None:
    proxy.add(Duplicate(), times=1)
    assert ask(proxy) == REQUEST
    assert server.seen == [REQUEST, REQUEST]  # type: ignore[attr-defined]
    assert ask(proxy) == REQUEST
    assert len(server.seen) == 3  # type: ignore[attr-defined]


def test_delays_stalls_and_refusals_end_when_they_are_healed(proxy: Proxy) -> None:
    proxy.add(Delay(0.1))
    began = time.monotonic()
    assert ask(proxy) == REQUEST
    assert time.monotonic() - began >= 0.2
    proxy.heal()
    proxy.add(Throttle(1000))
    began = time.monotonic()
    assert ask(proxy) == REQUEST
    assert time.monotonic() - began >= 0.2
    proxy.heal()
    with connection(proxy) as sock:
        sock.sendall(REQUEST)
        assert receive(sock, 100) == REQUEST
        proxy.add(Stall())
        sock.sendall(REQUEST)
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.settimeout(5)
        proxy.heal()
        assert receive(sock, 100) == REQUEST
        proxy.add(Refuse())
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    with pytest.raises(ConnectionError):
        ask(proxy)
    proxy.heal()
    assert ask(proxy) == REQUEST


def test_a_connection_waits_until_the_server_is_known(server: Server) -> None:
    with Proxy() as proxy, connection(proxy) as sock:
        sock.sendall(REQUEST)
        proxy.upstream = f"http://127.0.0.1:{server.server_address[1]}"
        assert receive(sock, 100) == REQUEST


def test_a_small_disk_fills_up_turns_read_only_and_vanishes(tmp_path: Path) -> None:
    try:
        disk = SmallDisk(str(tmp_path), 16 << 20)
    except Impossible as reason:
        pytest.skip(str(reason))
    with disk:
        kept = Path(disk.path) / "kept"
        kept.write_bytes(b"x" * 1000)
        disk.fill()
        with pytest.raises(OSError, match="No space"):
            (Path(disk.path) / "more").write_bytes(b"y" * 100_000)
        disk.empty()
        (Path(disk.path) / "more").write_bytes(b"y" * 100_000)
        os.sync()
        with open(kept, "r+b") as file:
            disk.fail_read_only()
            with pytest.raises(OSError, match="Read-only"):
                (Path(disk.path) / "other").write_bytes(b"")
            assert file.read() == b"x" * 1000
        disk.put_back()
        (Path(disk.path) / "other").write_bytes(b"")
        with open(kept, "rb"):
            disk.pull_out()
            assert not kept.exists()
        disk.put_back()
        assert kept.read_bytes() == b"x" * 1000
    assert not os.path.ismount(disk.path)


def test_a_power_cut_does_take_what_was_not_synced(power_disk: PowerDisk) -> None:
    """The counter-test: a disk that forgets nothing would prove nothing."""
    for name, synced in (("synced", True), ("unsynced", False)):
        with (Path(power_disk.path) / name).open("wb") as file:
            file.write(b"x" * 100_000)
            file.flush()
            if synced:
                os.fsync(file.fileno())
    power_disk.cut()
    power_disk.power_up()
    assert (Path(power_disk.path) / "synced").read_bytes() == b"x" * 100_000
    left = Path(power_disk.path) / "unsynced"
    assert not left.exists() or left.read_bytes() != b"x" * 100_000


PROGRAM = (
    "import os, sys\n"
    "fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)\n"
    "for line in sys.stdin:\n"
    "    try:\n"
    "        os.fsync(fd)\n"
    "        print('synced', flush=True)\n"
    "    except OSError as error:\n"
    "        print(error.errno, flush=True)\n"
)


def test_a_system_call_fails_or_kills_where_it_was_told_to(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "file")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def sync() -> str:
            process.stdin.write("\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        assert sync() == "synced"
        try:
            with inject(process.pid, "fsync", error="EIO", at=2, every=False):
                assert [sync(), sync(), sync()] == ["synced", str(errno.EIO), "synced"]
        except Impossible as reason:
            process.kill()
            pytest.skip(str(reason))
        assert sync() == "synced"
        with inject(process.pid, "fsync", kill=True):
            assert sync() == ""
        assert process.wait(5) == -9


def test_a_clock_is_moved_while_it_runs(tmp_path: Path) -> None:
    path = str(tmp_path / "clock")
    clock = MovableClock(path)
    assert abs(clock.wall_ms() - time.time() * 1000) < 1000
    for seconds in (86400, -86400, 0):
        write_shift(path, seconds)
        assert abs(clock.wall_ms() - (time.time() + seconds) * 1000) < 1000
