"""How fast a chain of datanodes takes chunks, beside what the disk takes: no namenode's work is in the figures.

    .venv/bin/python bench/chunk_put.py [--copies 3] [--gib 1] [--parallel 2] [--dir DIR]

Real datanode processes on this machine, chunks of 64 MiB from memory, each synced on every member of its chain before
it counts. CPU is that of all processes. `dd` writes as much with bs=1M conv=fsync, before and after.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from dfs.protocol.digests import block_table, root_digest
from dfs.protocol.transport import Transport
from fixtures.datanode_process import DatanodeProcess, wait_until
from fixtures.fake_namenode import FakeNamenode

CHUNK = 64 << 20
PIECE = 1 << 20


def dd(directory: Path, gib: float) -> float:
    """GiB/s of dd with one fsync at the end."""
    path = directory / "dd"
    started = time.perf_counter()
    subprocess.run(
        ["dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={int(gib * 1024)}", "conv=fsync"],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    seconds = time.perf_counter() - started
    path.unlink()
    return gib / seconds


def cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


class PeakMemory:
    """The highest resident size of each process, sampled."""

    def __init__(self, processes: list[psutil.Process]) -> None:
        self.peak = 0
        self._processes = processes
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            self.peak = max(self.peak, *(process.memory_info().rss for process in self._processes))

    def stop(self) -> int:
        self._stop.set()
        self._thread.join()
        return self.peak


def measure(directory: Path, copies: int, gib: float, parallel: int) -> None:
    data = os.urandom(CHUNK)
    table = block_table(data)
    root = root_digest(CHUNK, table)
    transport = Transport()
    with ExitStack() as stack:
        namenode = stack.enter_context(FakeNamenode(heartbeat_interval_s=1.0))
        nodes = [
            stack.enter_context(DatanodeProcess(directory / f"dn{number}", namenode.url, f"dn{number}"))
            for number in range(copies)
        ]
        for node in nodes:
            node.wait_ready()
        chain = [node.id for node in nodes]
        wait_until(lambda: len({beat.datanode for beat in namenode.heartbeats}) == copies)

        def put(_: int) -> None:
            chunk = namenode.new_chunk()
            stored = transport.put_chunk(
                nodes[0].url,
                chunk=chunk,
                capability=namenode.capability("w", chunk, chain),
                pieces=[memoryview(data)[start : start + PIECE] for start in range(0, CHUNK, PIECE)],
                length=CHUNK,
                table=table,
                root=root,
            )
            assert len(stored.receipts) == copies, stored.failed

        processes = [psutil.Process(node.process.pid) for node in nodes]
        memory = PeakMemory(processes)
        everybody = [*processes, psutil.Process()]
        with ThreadPoolExecutor(parallel) as threads:
            for round_number in range(3):
                before, started = cpu_seconds(everybody), time.perf_counter()
                list(threads.map(put, range(int(gib * (1 << 30)) // CHUNK)))
                seconds = time.perf_counter() - started
                cpu = cpu_seconds(everybody) - before
                print(f"round {round_number}: {gib / seconds:.2f} GiB/s, {cpu / gib:.2f} CPU s/GiB")
        print(f"a datanode's peak resident memory: {memory.stop() / (1 << 20):.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--gib", type=float, default=1.0)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--dir", type=Path, default=None)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="chunk-put-", dir=options.dir or Path.cwd()))
    try:
        print(f"dd bs=1M conv=fsync: {dd(directory, options.gib):.2f} GiB/s")
        measure(directory, options.copies, options.gib, options.parallel)
        print(f"dd bs=1M conv=fsync: {dd(directory, options.gib):.2f} GiB/s")
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
