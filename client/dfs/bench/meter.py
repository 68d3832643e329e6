"""What a piece of work costs: CPU of all processes that took part, peak memory, what the disk moved.

Separate from the workloads, which say what to do, and from `procfs`, which says what is now: here two moments become
a difference. The servers of a cluster on this machine are found by the ports on which they listen, so that a cluster
that was running before is measured as well as one that the benchmark started.
"""

import os
import select
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from dfs.bench import procfs
from dfs.bench.samples import OURS, Cost
from dfs.protocol.errors import Unavailable

CLIENT = "client"
OUR_SERVERS = ("namenode", "datanode")
_PEAK_INTERVAL_S = 0.005
_HERE = ("127.0.0.1", "localhost", "::1")


@dataclass
class Measured:
    """Filled when the `with` block of `Meter.measure` ends."""

    cost: Cost = field(default_factory=Cost)


class Meter:
    """Measures this process, its children, and the servers.

    servers    pid to role of what is not a client
    disk_path  a path on the disk of the cluster; None: it is elsewhere
    """

    def __init__(self, servers: Mapping[int, str], *, disk_path: str | None = None) -> None:
        self.servers = dict(servers)
        self._disk_path = disk_path
        self._command_peak = 0
        self._ran_commands = False

    @contextmanager
    def measure(self, subject: str = OURS) -> Iterator[Measured]:
        """Around the work. Processes that are started in it count if they have been waited for at its end.

        subject  who works: servers of dfs count only if it is dfs, those of peers only if it is not
        """
        measured = Measured()
        self._command_peak = 0
        self._ran_commands = False
        ours = subject == OURS
        # All are roots, so that nobody takes a server's time for a client's; who doesn't count is left out below.
        roots = {os.getpid(): CLIENT, **self.servers}
        before = procfs.all_processes()
        procfs.reset_peak_memory(procfs.role_of_each(before, roots))
        disk_before = procfs.disk_counters(self._disk_path) if self._disk_path else None
        machine_before = procfs.machine_cpu_s()
        yield measured
        machine = procfs.machine_cpu_s() - machine_before
        disk = procfs.disk_counters(self._disk_path).since(disk_before) if disk_before and self._disk_path else None  # type: ignore[union-attr]
        after = procfs.all_processes()
        roles = {
            pid: role
            for pid, role in procfs.role_of_each(after, roots).items()
            if role == CLIENT or (role in OUR_SERVERS) == ours
        }
        measured.cost = Cost(
            cpu_s=cpu_by_role(before, after, roles, procfs.role_of_each(before, roots)),
            machine_cpu_s=machine,
            peak_bytes=self._peaks(roles, before, after),
            disk_read_bytes=disk.read_bytes if disk else None,
            disk_written_bytes=disk.written_bytes if disk else None,
            disk_flushes=disk.flushes if disk else None,
        )

    def _peaks(
        self,
        roles: Mapping[int, str],
        before: Mapping[int, procfs.ProcessTimes],
        after: Mapping[int, procfs.ProcessTimes],
    ) -> dict[str, int]:
        """The highest resident size of each role, among the processes that did something."""
        peaks: dict[str, int] = {CLIENT: self._command_peak} if self._command_peak else {}
        for pid, role in roles.items():
            # This process only looks on; where it ran commands, those were the clients, and are gone.
            onlooker = pid == os.getpid() or (role == CLIENT and self._ran_commands)
            if not onlooker and (pid not in before or after[pid].cpu_s > before[pid].cpu_s):
                peaks[role] = max(peaks.get(role, 0), procfs.peak_memory_bytes(pid))
        return peaks

    def run(self, arguments: Sequence[str], *, environ: Mapping[str, str] | None = None) -> float:
        """Run a command to its end; its seconds. Raises Unavailable, with its last words, if it fails."""
        return self.run_together([arguments], environ=environ)

    def run_together(self, commands: Iterable[Sequence[str]], *, environ: Mapping[str, str] | None = None) -> float:
        """Run commands at the same time; the seconds until the last has ended. Raises Unavailable."""
        self._ran_commands = True
        began = time.perf_counter()
        running = [
            subprocess.Popen(
                list(arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=dict(environ) if environ is not None else None,
            )
            for arguments in commands
        ]
        try:
            for process in running:
                self._await(process)
        finally:
            for process in running:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        seconds = time.perf_counter() - began
        for process in running:
            assert process.stderr is not None
            with process.stderr as stream:
                said = stream.read().decode(errors="replace").strip()
            if process.returncode:
                raise Unavailable(f"{process.args!r} failed with exit code {process.returncode}: {said}")
        return seconds

    def _await(self, process: "subprocess.Popen[bytes]") -> None:
        """Wait for its end, and look at its memory meanwhile: after its end the kernel tells only an upper bound."""
        descriptor = os.pidfd_open(process.pid)
        try:
            while not select.select([descriptor], [], [], _PEAK_INTERVAL_S)[0]:
                self._command_peak = max(self._command_peak, procfs.peak_memory_bytes(process.pid))
        finally:
            os.close(descriptor)
        process.wait()


def cpu_by_role(
    before: Mapping[int, procfs.ProcessTimes],
    after: Mapping[int, procfs.ProcessTimes],
    roles: Mapping[int, str],
    roles_before: Mapping[int, str],
) -> dict[str, float]:
    """The CPU seconds between two moments, of each role. Pure.

    The time of a child that ended is in its parent's, which waited for it: what it had used before is taken off.
    """
    used: dict[str, float] = {}
    for pid, role in roles.items():
        used[role] = used.get(role, 0.0) + after[pid].cpu_s
    for pid, role in roles_before.items():
        if role in used:
            used[role] -= before[pid].cpu_s
    return {role: max(0.0, round(seconds, 4)) for role, seconds in used.items()}


def servers_here(urls_by_role: Mapping[str, Sequence[str]]) -> dict[int, str]:
    """The pids of those servers that run on this machine, with their roles."""
    roles: dict[int, str] = {}
    for role, urls in urls_by_role.items():
        for url in urls:
            parts = urlsplit(url)
            if parts.hostname in _HERE and parts.port is not None:
                roles[parts.port] = role
    return {pid: roles[port] for port, pid in procfs.pids_listening_on(roles).items()}
