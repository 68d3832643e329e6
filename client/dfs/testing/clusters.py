"""A real cluster for tests: the servers as processes, on free ports, in a temporary directory.

For anybody's tests, ours too; the pytest fixture `dfs_cluster` is in `dfs.pytest_plugin`. Separate from `dfs.mini`,
which does what a person wants (fixed ports, a directory that stays); this does what a test wants: faults on command,
short intervals, and nothing left behind whatever happens.
"""

import os
import resource
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dfs.mini import HOST, wait_until_writable
from dfs.processes import ServerProcess, stop_all
from dfs.protocol.chunk_format import HEADER_SIZE
from dfs.roles import check_known, role_options
from dfs.testing.leavings import Watch

if TYPE_CHECKING:
    from dfs.client import Client
    from dfs.testing.proxy import Proxy

START_TIMEOUT_S = 30.0
SETTINGS: dict[str, Any] = {
    "heartbeat_interval_s": 0.5,
    "probe_interval_s": 0.5,
    "stale_after_s": 5,
    "dead_after_s": 30,
    "settle_s": 1,
    "monitor_interval_s": 0.2,
    "backup_interval_s": 0,
    "drain_s": 1,
    "reserve_bytes": 64 << 20,
    "reserve_fraction": 0,
}
"""Where the servers of a test differ from the defaults; what the test asks for wins. No backups, since they are chunks
that a test which counts chunks did not put there."""


class Node:
    """One server, and the faults that can happen to it."""

    def __init__(
        self, role: str, name: str, directory: str, arguments: list[str], log_path: str, *, clock_path: str = ""
    ) -> None:
        self.role = role
        self.name = name
        self.dir = directory
        """Where its data is."""
        self._arguments = arguments
        # Nothing that the environment says about dfs: a test's cluster is what the test asks for.
        environ = {name: value for name, value in os.environ.items() if not name.startswith("DFS_")}
        whole = [role, "--dir", directory, *arguments]
        self._clock_path = clock_path
        program = ("-m", "dfs.testing.clocks", clock_path) if clock_path else ("-m", "dfs.cli")
        self._process = ServerProcess(name, whole, log_path=log_path, environ=environ, program=program)

    @property
    def url(self) -> str:
        """Where it serves; the same after a restart."""
        return self._process.url

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.running

    @property
    def process(self) -> ServerProcess:
        return self._process

    @property
    def log(self) -> str:
        """All that it has logged."""
        with open(self._process.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def start(self) -> None:
        """Start it without waiting; `wait_ready` waits."""
        self._process.start()

    def wait_ready(self) -> None:
        """Return once it serves. From then on it keeps its port. Raises Unavailable."""
        url = self._process.wait_ready(time.monotonic() + START_TIMEOUT_S)
        listen = f"{HOST}:{url.rsplit(':', 1)[1]}"
        self._process.arguments = [self.role, "--dir", self.dir, *self._arguments, "--listen", listen]

    def shift_clock(self, seconds: float) -> None:
        """Set its wall clock so far ahead of the machine's (or behind, if negative), now and after restarts."""
        from dfs.testing.clocks import write_shift

        assert self._clock_path, "the cluster was not made with movable_clocks=True"
        write_shift(self._clock_path, seconds)

    def limit_descriptors(self, count: int | None) -> None:
        """Let it open only `count` descriptors more than it has open; None: as many as it may have at all."""
        soft = len(os.listdir(f"/proc/{self.pid}/fd")) + count if count is not None else None
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (min(soft, hard) if soft is not None else hard, hard))

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self._process.signal(signal.SIGKILL)
        self._process.wait()

    def terminate(self) -> int:
        """SIGTERM, and wait for its end; the exit code."""
        self._process.signal(signal.SIGTERM)
        return self._process.wait(START_TIMEOUT_S)

    def stop(self) -> None:
        """SIGSTOP: it hangs, its connections stay open. Returns once it does."""
        self._process.signal(signal.SIGSTOP)
        while self.running and not _is_stopped(self.pid):
            time.sleep(0.001)

    def cont(self) -> None:
        """SIGCONT: it goes on as if nothing had been."""
        self._process.signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop it if it runs, start it again on the same port and directory; return once it serves."""
        stop_all([self._process])
        self.start()
        self.wait_ready()


def _is_stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        # The name before the state is in parentheses and may hold anything.
        return file.read().rpartition(")")[2].split()[0] == "T"


class Datanode(Node):
    """A datanode, whose chunk files can be looked at and damaged."""

    def __init__(
        self, number: int, directory: str, arguments: list[str], *, data_dir: str | None = None, clock_path: str = ""
    ) -> None:
        name = f"datanode-{number}"
        self.id = f"dn{number}"
        """As the cluster knows it."""
        self.proxies: dict[str, Proxy] = {}
        """In a cluster with proxies: before it for "client" and "peer", and before the "namenode" that it calls."""
        super().__init__(
            "datanode",
            name,
            data_dir or os.path.join(directory, name),
            ["--datanode-id", self.id, *arguments],
            os.path.join(directory, f"{name}.log"),
            clock_path=clock_path,
        )

    def wait_ready(self) -> None:
        super().wait_ready()
        for name in ("client", "peer"):
            if name in self.proxies:
                self.proxies[name].upstream = self.url

    def chunk_paths(self) -> dict[str, str]:
        """The chunk files, by chunk id."""
        found: dict[str, str] = {}
        for directory, _, names in os.walk(os.path.join(self.dir, "chunks")):
            found |= {name.partition(".")[0]: os.path.join(directory, name) for name in names if "." in name}
        return found

    def chunk_path(self, chunk: str) -> str:
        """Where the file of a chunk is, if it is there."""
        return os.path.join(self.dir, "chunks", chunk[-2:], f"{chunk}.chunk")

    def flip(self, chunk: str | None = None, *, offset: int = 0, bit: int = 0) -> str:
        """Flip one bit of a chunk's data, as a rotting disk does; the chunk's id.

        chunk    None: the first one that it has
        offset   of the byte within the chunk's data
        """
        paths = self.chunk_paths()
        chosen = chunk if chunk is not None else min(paths)
        with open(paths[chosen], "r+b") as file:
            file.seek(HEADER_SIZE + offset)
            byte = file.read(1)[0]
            file.seek(HEADER_SIZE + offset)
            file.write(bytes([byte ^ 1 << bit]))
        return chosen


class Cluster:
    """A namenode and its datanodes. Made by `cluster`."""

    def __init__(
        self,
        directory: str,
        *,
        datanodes: int,
        replication: int | None,
        settings: dict[str, Any],
        proxied: bool = False,
        movable_clocks: bool = False,
    ) -> None:
        check_known(settings)
        self.dir = directory
        self._proxied = proxied
        self._movable_clocks = movable_clocks
        self.proxies: list[Proxy] = []
        """All of them."""
        self.proxy = self._make_proxy() if proxied else None
        """Between the clients and the namenode."""
        self.replication = replication or min(3, datanodes)
        self._settings = {**SETTINGS, **settings, "replication": self.replication}
        self._clients: list[Client] = []
        self.namenode = Node(
            "namenode",
            "namenode",
            os.path.join(directory, "namenode"),
            ["--listen", f"{HOST}:0", *role_options("namenode", self._settings)],
            os.path.join(directory, "namenode.log"),
            clock_path=self._clock_path("namenode"),
        )
        self.datanodes: list[Datanode] = []
        self._wanted = datanodes

    def _clock_path(self, name: str) -> str:
        return os.path.join(self.dir, f"{name}.clock") if self._movable_clocks else ""

    def _make_proxy(self) -> "Proxy":
        from dfs.testing.proxy import Proxy

        made = Proxy()
        self.proxies.append(made)
        return made

    @property
    def url(self) -> str:
        """The namenode's URL, for clients."""
        return self.proxy.url if self.proxy is not None else self.namenode.url

    def connect(self, **options: Any) -> "Client":
        """A client of this cluster; closed with it."""
        from dfs.client import connect

        client = connect(self.url, **options)
        self._clients.append(client)
        return client

    def start(self) -> None:
        """Start all; return when a put would succeed."""
        self.namenode.start()
        self.namenode.wait_ready()
        if self.proxy is not None:
            self.proxy.upstream = self.namenode.url
        for _ in range(self._wanted):
            self._launch_datanode()
        for datanode in self.datanodes:
            datanode.wait_ready()
        self.wait_writable()

    def wait_writable(self) -> None:
        """Return when a put with all its replicas would succeed. Raises Unavailable."""
        wait_until_writable(
            self.namenode.url, replication=self.replication, deadline=time.monotonic() + START_TIMEOUT_S
        )

    def add_datanode(self, *, data_dir: str | None = None, **settings: Any) -> Datanode:
        """One more datanode, with settings of its own if given; returns once it serves.

        data_dir  where its chunks go; None: a directory beside the others'. It may be on a disk of its own
        """
        check_known(settings)
        datanode = self._launch_datanode(data_dir, **settings)
        datanode.wait_ready()
        return datanode

    def _launch_datanode(self, data_dir: str | None = None, **settings: Any) -> Datanode:
        proxies = {name: self._make_proxy() for name in ("client", "peer", "namenode")} if self._proxied else {}
        own = {f"{name}_url": proxies[name].url for name in ("client", "peer")} if proxies else {}
        if proxies:
            proxies["namenode"].upstream = self.namenode.url
        namenode = proxies["namenode"].url if proxies else self.namenode.url
        arguments = ["--listen", f"{HOST}:0", "--namenode", namenode]
        arguments += role_options("datanode", {**self._settings, **own, **settings})
        number = len(self.datanodes) + 1
        clock_path = self._clock_path(f"datanode-{number}")
        datanode = Datanode(number, self.dir, arguments, data_dir=data_dir, clock_path=clock_path)
        datanode.proxies = proxies
        self.datanodes.append(datanode)
        datanode.start()
        return datanode

    def kill(self) -> None:
        """SIGKILL everything at once."""
        for node in (self.namenode, *self.datanodes):
            node.process.signal(signal.SIGKILL)
        for node in (self.namenode, *self.datanodes):
            node.process.wait()

    def restart(self) -> None:
        """Start everything again on the same ports and directories; return when a put would succeed."""
        stop_all([node.process for node in (*self.datanodes, self.namenode)])
        self.namenode.start()
        self.namenode.wait_ready()
        for datanode in self.datanodes:
            datanode.start()
        for datanode in self.datanodes:
            datanode.wait_ready()
        self.wait_writable()

    def close(self) -> None:
        """Stop everything that still runs."""
        for client in self._clients:
            client.close()
        stop_all([node.process for node in (*self.datanodes, self.namenode)])
        for proxy in self.proxies:
            proxy.close()


@contextmanager
def cluster(
    datanodes: int = 3,
    replication: int | None = None,
    *,
    directory: str | None = None,
    proxied: bool = False,
    movable_clocks: bool = False,
    **settings: Any,
) -> Iterator[Cluster]:
    """A cluster of real processes, ready to take files; stopped and removed at the end, whatever happens.

    If this process is killed, that is done by one that `leavings` starts beside it.

    replication     of new files; None: 3, or as many as there are datanodes
    directory       where its data goes and stays; None: a temporary directory
    proxied         a `dfs.testing.Proxy` on every way: `cluster.proxy`, `datanode.proxies`
    movable_clocks  `node.shift_clock` works
    settings        of the servers, by name: `dead_after_s=3`; each goes to the roles that have it
    """
    own = directory is None
    place = os.path.abspath(directory or os.path.join(tempfile.gettempdir(), f"dfs-test-{secrets.token_hex(8)}"))
    made = Cluster(
        place,
        datanodes=datanodes,
        replication=replication,
        settings=settings,
        proxied=proxied,
        movable_clocks=movable_clocks,
    )
    # Before there is anything to clean up.
    watch = Watch(place, keep=not own)
    sure = False
    try:
        os.makedirs(place, mode=0o700 if own else 0o777, exist_ok=not own)
        made.start()
        yield made
        sure = True
    finally:
        try:
            made.close()
        finally:
            if own:
                shutil.rmtree(place, ignore_errors=True)
        # Not if something went wrong just now, a second Ctrl-C say: then it does the rest once we are gone.
        watch.end(sure=sure)
