"""`dfs mini`: a whole cluster on this machine, one process for each server, everything under one directory.

Owns what makes a directory a mini cluster: the lock that keeps a second one out, `cluster.json`, the ports and ids that
survive a restart, and the rule of what happens when a process ends. A datanode that ends is told and not resurrected
(that is what people run mini for: to see what a cluster does then); without its namenode the cluster stops.
"""

import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from dfs.processes import ServerProcess, stop_all
from dfs.protocol.errors import EXIT_OK, EXIT_UNREACHABLE, Conflict, DfsError, InvalidRequest, NotPermitted, Unavailable
from dfs.protocol.messages import REPLICATION_MAX
from dfs.protocol.settings import environment_name
from dfs.roles import check_environment, check_known, role_options

HOST = "127.0.0.1"
NAMENODE_PORT = 9870
DATANODE_PORT = 9864
DATANODES = 3
REPLICATION = 3
DATANODES_MAX = 64
"""More servers than this on one machine are a mistyped number."""
START_TIMEOUT_S = 60.0
POLL_S = 0.1
"""How soon the end of a process, or a signal, is noticed."""
OLD_PORTS_TIMEOUT_S = 5.0
"""After a SIGKILL of mini its servers need a moment to leave their ports."""

SETTINGS: dict[str, Any] = {
    "dead_after_s": 30,
    "settle_s": 5,
    "read_grace_s": 120,
    "monitor_interval_s": 1,
    "report_interval_s": 600,
    "trash_age_s": 120,
    "drain_s": 2,
    "reserve_bytes": 256 << 20,
    "reserve_fraction": 0,
}
"""Where mini's servers differ from the defaults: repair happens, and space comes back, while one watches; and it runs
on a laptop whose disk is nearly full."""


@dataclass(frozen=True)
class Plan:
    """What to run. None: as it was recorded in the directory, else the default."""

    directory: str
    port: int | None = None
    datanodes: int | None = None
    replication: int | None = None
    datanode_port: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    """More settings of the servers, by name; each goes to the roles that have it."""


class Mini:
    """A cluster that runs. Use `running_mini`, which cleans up."""

    def __init__(self, plan: Plan) -> None:
        self.directory = os.path.abspath(plan.directory)
        recorded = _read_record(self._record_path)
        ports = [_port_of(datanode["url"]) for datanode in recorded.get("datanodes", [])]
        count = plan.datanodes if plan.datanodes is not None else len(ports) or DATANODES
        if not 1 <= count <= DATANODES_MAX:
            raise InvalidRequest(f"a cluster has 1 to {DATANODES_MAX} datanodes, not {count}")
        self.replication = plan.replication or min(recorded.get("replication", REPLICATION), count)
        if not 1 <= self.replication <= min(count, REPLICATION_MAX):
            raise InvalidRequest(
                f"{self.replication} replicas need at least as many datanodes: add --datanodes {self.replication}"
            )
        self._restart = bool(recorded)
        check_known(plan.settings)
        # What the user set in the environment is meant: it wins over mini's own choice, but not over an option.
        chosen = {name: value for name, value in SETTINGS.items() if environment_name(name) not in os.environ}
        self._settings = {**chosen, **plan.settings}
        self._namenode_port = _choose(plan.port, recorded.get("namenode", {}).get("url"), NAMENODE_PORT)
        self._datanode_ports = _datanode_ports(plan.datanode_port, ports, count, self._namenode_port)
        self._free_datanode_ports = "--port 0" if plan.datanode_port is None else "--datanode-port 0"
        self._known_ids = {datanode["id"] for datanode in recorded.get("datanodes", [])}
        self.namenode = self._namenode_process()
        self.datanodes: list[ServerProcess] = []

    @property
    def _record_path(self) -> str:
        return os.path.join(self.directory, "cluster.json")

    def _log_path(self, name: str) -> str:
        return os.path.join(self.directory, "logs", f"{name}.log")

    def _namenode_process(self) -> ServerProcess:
        arguments = ["namenode", "--dir", os.path.join(self.directory, "namenode")]
        arguments += ["--listen", f"{HOST}:{self._namenode_port}", "--replication", str(self.replication)]
        arguments += role_options("namenode", self._settings)
        return ServerProcess("namenode", arguments, log_path=self._log_path("namenode"))

    def _datanode_process(self, number: int, port: int) -> ServerProcess:
        name = f"datanode-{number}"
        arguments = ["datanode", "--dir", self.datanode_directory(number), "--listen", f"{HOST}:{port}"]
        arguments += ["--namenode", self.namenode.url, "--datanode-id", f"dn{number}"]
        arguments += role_options("datanode", self._settings)
        return ServerProcess(name, arguments, log_path=self._log_path(name))

    def _forget_wiped(self) -> None:
        """Tell the store of datanodes whose directories were wiped since the last start: they begin anew.

        The namenode would wait for what they had, and refuse their ids: a known id must prove its key, and the key
        went with the directory. Whoever wipes a directory of mini means it.
        """
        store = os.path.join(self.directory, "namenode")
        for number in range(1, len(self._datanode_ports) + 1):
            directory = self.datanode_directory(number)
            if f"dn{number}" in self._known_ids and not (os.path.isdir(directory) and os.listdir(directory)):
                command = [sys.executable, "-m", "dfs_namenode", "forget-datanode", store, f"dn{number}"]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise Conflict(f"the datanode dn{number} can't begin anew: {done.stderr.strip()}")

    def datanode_directory(self, number: int) -> str:
        """Where the datanode of this number, from 1 on, keeps its chunks."""
        return os.path.join(self.directory, f"datanode-{number}")

    def start(self) -> None:
        """Start everything; return when a put would succeed. Raises Conflict, Unavailable."""
        os.makedirs(os.path.join(self.directory, "logs"), exist_ok=True)
        deadline = time.monotonic() + START_TIMEOUT_S
        patience_s = OLD_PORTS_TIMEOUT_S if self._restart else 0.0
        _check_port(self._namenode_port, "--port 0", patience_s=patience_s)
        for port in self._datanode_ports:
            _check_port(port, self._free_datanode_ports, patience_s=patience_s)
        self._forget_wiped()
        self.namenode.start()
        self.namenode.wait_ready(deadline)
        for number, port in enumerate(self._datanode_ports, 1):
            datanode = self._datanode_process(number, port)
            self.datanodes.append(datanode)
            datanode.start()
        for datanode in self.datanodes:
            datanode.wait_ready(deadline)
        wait_until_writable(self.namenode.url, replication=self.replication, deadline=deadline)
        self._write_record()

    def _write_record(self) -> None:
        record = {
            "namenode": {"url": self.namenode.url, "pid": self.namenode.pid},
            "datanodes": [
                {
                    "id": f"dn{number}",
                    "url": datanode.url,
                    "pid": datanode.pid,
                    "dir": self.datanode_directory(number),
                }
                for number, datanode in enumerate(self.datanodes, 1)
            ],
            "replication": self.replication,
        }
        # Replaced whole: whoever waits for this file never reads half of it.
        temporary = f"{self._record_path}.new"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=2)
            file.write("\n")
        os.replace(temporary, self._record_path)

    def watch(self, stopping: Callable[[], bool], tell: Callable[[str], None]) -> int:
        """Wait until `stopping()` or the namenode ends; tell of each process that ends. The exit code."""
        alive = list(self.datanodes)
        while not stopping():
            if not self.namenode.running:
                tell(
                    f"the namenode {_how(self.namenode)}: stopping the rest. "
                    f"Its log is {self.namenode.log_path}; the data is kept, start again with the same command"
                )
                return EXIT_UNREACHABLE
            for datanode in [datanode for datanode in alive if not datanode.running]:
                alive.remove(datanode)
                left = f"{len(alive)} of {len(self.datanodes)} are left"
                tell(f"{datanode.name} ({datanode.url}, process {datanode.pid}) {_how(datanode)}: {left}")
            time.sleep(POLL_S)
        return EXIT_OK

    def stop(self) -> list[ServerProcess]:
        """Stop everything; returns the processes that had to be killed."""
        return stop_all([*self.datanodes, self.namenode])


@contextmanager
def locked(directory: str) -> Iterator[None]:
    """Hold the directory for one mini. Raises Conflict if another one has it, NotPermitted if it can't be made."""
    try:
        os.makedirs(directory, exist_ok=True)
        descriptor = os.open(os.path.join(directory, "mini.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    except PermissionError:
        raise NotPermitted(f"{directory}: permission denied; give a directory that you may write to") from None
    except (FileExistsError, NotADirectoryError):
        raise Conflict(f"{directory}: not a directory; give another DIR") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            raise Conflict(
                f"{directory} is in use by another dfs mini (process {holder}): stop that one, or give another DIR"
            ) from None
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def run(plan: Plan, *, tell: Callable[[str], None], warn: Callable[[str], None]) -> int:
    """`dfs mini`: start, print what one can do now, run until a signal comes. The exit code."""
    signals: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        signals.append(number)
        if len(signals) == 1 and starting:
            raise KeyboardInterrupt

    starting = True
    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        check_environment(os.environ)
        with locked(plan.directory):
            mini = Mini(plan)
            try:
                mini.start()
                starting = False
                for line in greeting(mini):
                    tell(line)
                return mini.watch(lambda: bool(signals), warn)
            except KeyboardInterrupt:
                return EXIT_OK
            finally:
                starting = False
                for process in mini.stop():
                    warn(f"the {process.name} did not stop in time and was killed; nothing acknowledged is lost")
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def greeting(mini: Mini) -> list[str]:
    """What a person wants to know when the cluster is up; the last line is for programs."""
    count = len(mini.datanodes)
    replicas = "1 replica" if mini.replication == 1 else f"{mini.replication} replicas"
    plural = "" if count == 1 else "s"
    lines = [
        f"A cluster of 1 namenode and {count} datanode{plural} is up; every file gets {replicas}.",
        "",
        f"  namenode    {mini.namenode.url}",
    ]
    lines += [f"  {datanode.name:<10}  {datanode.url}" for datanode in mini.datanodes]
    lines += [f"  data        {mini.directory}", "", "Try it in another terminal (Ctrl-C here stops the cluster):", ""]
    lines += [f"  {command}" for command in _commands_to_try(mini.namenode.url)]
    lines += ["", f"ready {mini.namenode.url}"]
    return lines


def _commands_to_try(url: str) -> list[str]:
    # Who started it as .venv/bin/dfs can paste nothing else either.
    started_as = sys.argv[0] if os.path.basename(sys.argv[0]) == "dfs" else "dfs"
    program = "dfs" if shutil.which("dfs") else started_as
    prefix = "" if url == f"http://{HOST}:{NAMENODE_PORT}" else f"--namenode {url} "
    return [f"{program} {prefix}{command}" for command in ("put /etc/hosts /hosts", "ls -l /", "cat /hosts")]


def wait_until_writable(url: str, *, replication: int, deadline: float) -> None:
    """Return when the namenode grants chains of `replication` datanodes. Raises Unavailable at `deadline`."""
    from dfs.protocol.messages import Allocate
    from dfs.protocol.operations import ALLOCATE
    from dfs.protocol.transport import Transport

    # A grant stores nothing, so asking for one is the exact question and leaves nothing behind.
    question = Allocate(count=1, length=1, replication=replication)
    transport = Transport()
    why = "too few datanodes"
    try:
        while True:
            try:
                granted = transport.call(url, ALLOCATE, question).grants[0]
                if len(granted.chain) >= replication:
                    return
            except DfsError as error:
                why = error.message
            if time.monotonic() >= deadline:
                raise Unavailable(f"the cluster is up but takes no files: {why}")
            time.sleep(0.05)
    finally:
        transport.close()


def _how(process: ServerProcess) -> str:
    """How it ended, in words."""
    code = process.exit_code
    assert code is not None
    if code < 0:
        with suppress(ValueError):
            return f"was killed ({signal.Signals(-code).name})"
        return f"was killed by signal {-code}"
    return f"ended with exit code {code}"


def _read_record(path: str) -> dict[str, Any]:
    """What the last run of this directory was, {} if there was none. Raises Conflict if it can't be understood."""
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
    except FileNotFoundError:
        return {}
    except (ValueError, OSError) as error:
        raise Conflict(f"{path} can't be read ({error}): remove it, the data does not depend on it") from None
    assert isinstance(record, dict)
    return record


def _port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


def _choose(given: int | None, recorded_url: str | None, default: int) -> int:
    if given is not None:
        return given
    return _port_of(recorded_url) if recorded_url else default


def _datanode_ports(first: int | None, recorded: list[int], count: int, namenode_port: int) -> list[int]:
    """A port for each datanode: as recorded, else upwards from the first one, past the namenode's. 0: any."""
    if first == 0:
        return [0] * count
    if first is not None:
        return _upwards(first, count, {namenode_port})
    kept = recorded[:count]
    # Whoever asked for any free port of the namenode runs several clusters: fixed ones of datanodes would collide.
    if namenode_port == 0:
        return [0] * count
    return kept + _upwards(max([DATANODE_PORT - 1, *kept]) + 1, count - len(kept), {namenode_port})


def _upwards(first: int, count: int, taken: set[int]) -> list[int]:
    ports = [port for port in range(first, first + count + len(taken)) if port not in taken][:count]
    if ports and ports[-1] > 65535:
        raise InvalidRequest(f"there are no {count} ports from {first} on; the highest is 65535")
    return ports


def _check_port(port: int, way_out: str, *, patience_s: float) -> None:
    """Raise Conflict, which names the option `way_out`, if the port is taken for `patience_s`. Port 0 never is."""
    deadline = time.monotonic() + patience_s
    while True:
        with socket.socket() as probe:
            # As the server binds: a port whose last connections still linger is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except PermissionError:
                raise NotPermitted(f"port {port} needs root: give one above 1023, or {way_out} for any") from None
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                if time.monotonic() >= deadline:
                    raise Conflict(
                        f"port {port} is in use by another program: stop it, or add {way_out} for any free ports"
                    ) from None
            else:
                return
        time.sleep(POLL_S)
