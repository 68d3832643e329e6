"""How long servers with much in them take to start, after SIGKILL.

    PYTHONPATH=tests python -m fault.startup --files 1000000 --chunks 100000

A namenode whose store has many files (`dfs_namenode.store.generate`), killed while it is changed; a datanode with many
chunk files, written by the product's own writer. Ready means that it serves; a datanode's first full report is when a
namenode that knew nothing knows all. The chunks in doubt after an unclean stop are those whose temporary name is still
there: each is verified and synced before it is reported.
"""

import argparse
import contextlib
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dfs
from dfs.protocol.clock import SystemClock
from dfs.protocol.ids import new_id
from dfs.testing import Node
from dfs_namenode.store.generate import Generator
from dfs_namenode.store.sqlite import SqliteStore
from fixtures.datanode_process import DatanodeProcess
from fixtures.disks import make_store, store_chunk
from fixtures.fake_namenode import FakeNamenode
from fixtures.page import Section, table
from fixtures.reliability import look_at

CHUNK_BYTES = 2000
IN_DOUBT = 1000
PROGRESS_EVERY = 20_000
REPORT_TIMEOUT_S = 300.0
STARTS = 3
MIB = 1 << 20


def namenode_rows(directory: str, files: int) -> list[tuple[str, str]]:
    """Make the store, kill a namenode on it some times, and start it again."""
    home = os.path.join(directory, "namenode")
    store = SqliteStore.open(home, clock=SystemClock())
    try:
        Generator(store, files=files).run(lambda done: progress("files", done))
    finally:
        store.close()
    node = Node("namenode", "namenode", home, ["--listen", "127.0.0.1:0"], os.path.join(directory, "namenode.log"))
    node.restart()
    ready: list[float] = []
    answered: list[float] = []
    memory = 0
    try:
        for number in range(STARTS):
            with changes(node, f"start-{number}") as made:
                time.sleep(0.5)
                node.kill()
                began = time.monotonic()
                node.restart()
                ready.append(time.monotonic() - began)
                with dfs.connect(node.url) as fs:
                    assert fs.stat("/d00000/file-000000000.dat").size
                answered.append(time.monotonic() - began)
            with dfs.connect(node.url) as fs:
                there = {entry.path for entry in fs.ls("/")}
                assert made <= there, f"acknowledged directories are lost: {sorted(made - there)[:5]}"
                assert fs.status().files == files
            memory = max(memory, look_at(node.pid).rss_bytes)
    finally:
        node.kill()
    what = f"namenode with {files:,} files, killed while directories are made"
    return [
        (f"{what}: ready", spread(ready)),
        (f"{what}: first answer", spread(answered)),
        (f"{what}: memory then", f"{memory / MIB:.0f} MiB"),
    ]


@contextlib.contextmanager
def changes(node: Node, prefix: str) -> Iterator[set[str]]:
    """A client that makes directories while the `with` block runs; those that were acknowledged."""
    made: set[str] = set()
    stop = threading.Event()

    def change() -> None:
        with dfs.connect(node.url) as fs:
            for number in range(100_000):
                if stop.is_set():
                    return
                fs.mkdir(f"/{prefix}-{number}")
                made.add(f"/{prefix}-{number}")

    writer = threading.Thread(target=change, daemon=True)
    writer.start()
    try:
        yield made
    finally:
        stop.set()
        writer.join(60)
    assert not writer.is_alive()
    assert made, "nothing was changed before the kill"


def datanode_rows(directory: str, chunks: int) -> list[tuple[str, str]]:
    """Write the chunk files, and start a datanode on them: killed when idle, and with chunks in doubt."""
    home = Path(directory) / "datanode"
    ids = write_chunks(home, chunks)
    rows: list[tuple[str, str]] = []
    for what, in_doubt in (("killed when idle", 0), (f"killed with {min(IN_DOUBT, chunks):,} in doubt", IN_DOUBT)):
        for chunk in ids[:in_doubt]:
            # As between the publishing of a chunk and its sync.
            os.link(home / "chunks" / chunk[-2:] / f"{chunk}.chunk", home / "tmp" / chunk)
        ready, reported, memory = start_datanode(home, chunks)
        assert os.listdir(home / "tmp") == [], "the chunks in doubt are not settled"
        name = f"datanode with {chunks:,} chunks, {what}"
        rows += [
            (f"{name}: ready", f"{ready:.1f} s"),
            (f"{name}: first full report done", f"{reported:.1f} s"),
            (f"{name}: memory then", f"{memory / MIB:.0f} MiB"),
        ]
    return rows


def write_chunks(home: Path, count: int) -> list[str]:
    """Many small chunk files, by the datanode's own writer; their ids."""
    rng = random.Random(1)
    store = make_store(home)
    wall_ms = SystemClock().wall_ms()
    ids = []
    for number in range(count):
        chunk = new_id(wall_ms, rng.randbytes)
        store_chunk(store, chunk, rng.randbytes(CHUNK_BYTES))
        ids.append(chunk)
        progress("chunks", number + 1)
    return ids


def start_datanode(home: Path, chunks: int) -> tuple[float, float, int]:
    """Seconds until it is ready and until everything was reported, and its memory then. Killed afterwards."""
    with FakeNamenode() as namenode:
        began = time.monotonic()
        datanode = DatanodeProcess(home, namenode.url, "dn0")
        try:
            datanode.wait_ready(REPORT_TIMEOUT_S)
            ready = time.monotonic() - began
            while not (namenode.reports and not namenode.reports[-1].up_to):
                assert time.monotonic() - began < REPORT_TIMEOUT_S, "no full report"
                time.sleep(0.02)
            reported = time.monotonic() - began
            found = sum(len(page.replicas) for page in namenode.reports)
            assert found == chunks, f"{found} of {chunks} chunks were reported"
            memory = look_at(datanode.process.pid).rss_bytes
        finally:
            datanode.kill()
            assert datanode.process.stdout is not None
            datanode.process.stdout.close()
    return ready, reported, memory


def progress(what: str, done: int) -> None:
    if done % PROGRESS_EVERY == 0:
        print(f"  {done:,} {what} made", flush=True)


def spread(seconds: list[float]) -> str:
    return f"{min(seconds):.2f} to {max(seconds):.2f} s ({len(seconds)} times)"


def measure(files: int, chunks: int) -> Section:
    """The stage of `make faults`."""
    with tempfile.TemporaryDirectory(prefix="dfs-startup-") as directory:
        rows = namenode_rows(directory, files) + datanode_rows(directory, chunks)
    return Section("Start after a crash", table(("what", "figure"), rows))


def main() -> None:
    parser = argparse.ArgumentParser(description="How long servers with much in them take to start.")
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--chunks", type=int, default=100_000)
    options = parser.parse_args()
    print(measure(options.files, options.chunks).text)


if __name__ == "__main__":
    main()
