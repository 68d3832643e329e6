"""What the kernel knows of processes and disks: CPU time, peak memory, who listens on a port, bytes that a disk moved.

Separate because it alone reads /proc and /sys, where what is looked at may be gone the next moment: whatever vanishes
or may not be read counts as absent. Linux only; elsewhere the answers are empty and the figures say so.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_SECTOR_BYTES = 512
_LISTENING = "0A"
_DROP_CACHES = "/proc/sys/vm/drop_caches"
_RESET_PEAK = "5"
"""What is written to clear_refs to begin a new peak of the resident size."""


@dataclass(frozen=True)
class ProcessTimes:
    """One process at one moment."""

    pid: int
    parent: int
    cpu_s: float
    """Its own time and that of its children that have ended and been waited for, in user and kernel mode."""


def all_processes() -> dict[int, ProcessTimes]:
    """Every process that can be seen now."""
    found = (process_times(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return {one.pid: one for one in found if one is not None}


def process_times(pid: int) -> ProcessTimes | None:
    """One process, None if it is gone."""
    text = _read(f"/proc/{pid}/stat")
    if not text:
        return None
    # The name is in parentheses and may hold anything; what follows it is numbers.
    fields = text.rpartition(")")[2].split()
    return ProcessTimes(pid, int(fields[1]), sum(map(int, fields[11:15])) / _TICKS_PER_S)


def role_of_each(processes: Mapping[int, ProcessTimes], roots: Mapping[int, str]) -> dict[int, str]:
    """The role of every process that is one of `roots` or descends from one: that of the nearest. Pure."""
    roles: dict[int, str] = {}
    for pid in processes:
        here, seen = pid, set[int]()
        while here in processes and here not in roots and here not in seen:
            seen.add(here)
            here = processes[here].parent
        if here in roots and here in processes:
            roles[pid] = roots[here]
    return roles


def machine_cpu_s() -> float:
    """Time that the machine's processors were busy since it started, by whomever."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, _read("/proc/stat").split("\n")[0].split()[1:])
    return (user + nice + system + irq + softirq) / _TICKS_PER_S


def reset_peak_memory(pids: Iterable[int]) -> None:
    """Begin new peaks of the resident size; a process that is not ours keeps its old one."""
    for pid in pids:
        with suppress(OSError), open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as file:
            file.write(_RESET_PEAK)


def peak_memory_bytes(pid: int) -> int:
    """The highest resident size of a process since its last reset; 0 if it is gone."""
    return _memory(pid, "VmHWM:")


def memory_bytes(pid: int) -> int:
    """The resident size of a process; 0 if it is gone."""
    return _memory(pid, "VmRSS:")


def _memory(pid: int, field: str) -> int:
    for line in _read(f"/proc/{pid}/status").split("\n"):
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


def pids_listening_on(ports: Iterable[int]) -> dict[int, int]:
    """The processes of this machine that listen on these TCP ports: port to pid, of those that can be seen."""
    wanted = set(ports)
    sockets = {inode: port for port, inode in _listening_sockets() if port in wanted}
    found: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and len(found) < len(wanted):
            for inode in _sockets_of(int(name)):
                if inode in sockets:
                    # Of a server and its children the first one is it.
                    found.setdefault(sockets[inode], int(name))
    return found


def _listening_sockets() -> Iterator[tuple[int, str]]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in _read(table).split("\n")[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTENING:
                yield int(fields[1].rpartition(":")[2], 16), fields[9]


def _sockets_of(pid: int) -> Iterator[str]:
    directory = f"/proc/{pid}/fd"
    names: list[str] = []
    with suppress(OSError):
        names = os.listdir(directory)
    for name in names:
        with suppress(OSError):
            target = os.readlink(f"{directory}/{name}")
            if target.startswith("socket:["):
                yield target[8:-1]


@dataclass(frozen=True)
class DiskCounters:
    """What a disk has done since the machine started, for whomever."""

    read_bytes: int
    written_bytes: int
    flushes: int
    """Times that it was told to make its cache durable."""

    def since(self, before: "DiskCounters") -> "DiskCounters":
        return DiskCounters(
            self.read_bytes - before.read_bytes,
            self.written_bytes - before.written_bytes,
            self.flushes - before.flushes,
        )


def disk_counters(path: str) -> DiskCounters | None:
    """Of the disk on which `path` is; None where that is no disk (tmpfs, a network)."""
    device = os.stat(path).st_dev
    fields = _read(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").split()
    if len(fields) < 7:
        return None
    flushes = int(fields[15]) if len(fields) > 15 else 0
    return DiskCounters(int(fields[2]) * _SECTOR_BYTES, int(fields[6]) * _SECTOR_BYTES, flushes)


def evict(paths: Iterable[str]) -> None:
    """Drop these files, and all files below those that are directories, from the page cache."""
    for path in paths:
        for file in _files_at(path):
            with suppress(OSError):
                descriptor = os.open(file, os.O_RDONLY)
                try:
                    # Only clean pages can be dropped.
                    os.fsync(descriptor)
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(descriptor)


def _files_at(path: str) -> Iterator[str]:
    if os.path.isfile(path):
        yield path
    for directory, _, names in os.walk(path):
        yield from (os.path.join(directory, name) for name in names)


def can_drop_caches() -> bool:
    """Whether this process may drop the machine's page cache."""
    return os.access(_DROP_CACHES, os.W_OK)


def drop_caches() -> None:
    """Drop the page cache of the whole machine. Raises OSError if this process may not."""
    os.sync()
    with open(_DROP_CACHES, "w", encoding="ascii") as file:
        file.write("1")


def bytes_on_disk(directory: str) -> int:
    """What the files below a directory occupy."""
    return sum(os.stat(file).st_blocks * _SECTOR_BYTES for file in _files_at(directory))


@cache
def processor_name() -> str:
    """What the processor calls itself."""
    for line in _read("/proc/cpuinfo").split("\n"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


def total_memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def file_system_of(path: str) -> str:
    """Type and device of the file system on which `path` is: "ext4 on /dev/vda"."""
    best, answer = "", "unknown"
    real = os.path.realpath(path)
    for line in _read("/proc/self/mounts").split("\n"):
        fields = line.split()
        if len(fields) > 2 and len(fields[1]) >= len(best) and f"{real}/".startswith(fields[1].rstrip("/") + "/"):
            best, answer = fields[1], f"{fields[2]} on {fields[0]}"
    return answer


def _read(path: str) -> str:
    """A file of the kernel's; "" if it is gone or not for us."""
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
    return ""
