"""Makes a big store quickly, for trials of start-up, memory and speed.

    python -m dfs_namenode.store.generate DIR --files 1000000

The store is what a namenode would have after packs of small files were committed: directories of a thousand files,
packs of four thousand, three replicas on three datanodes that do not exist. It is a new store without an identity: the
namenode that is started on it gives it one. The rows go through the store's own query modules, so that the shape stays
right by itself; only the receipts, and the answers that commits would have kept, are left out.
"""

import argparse
import os
import random
import sys
import time
from collections.abc import Callable

from dfs.protocol.clock import SystemClock
from dfs.protocol.ids import new_id
from dfs.protocol.messages import VolumeState
from dfs_namenode.liveness import Datanode
from dfs_namenode.store import chunks, contents, datanodes, namespace, oplog
from dfs_namenode.store.chunks import NewReplica
from dfs_namenode.store.contents import ExtentRow
from dfs_namenode.store.namespace import FileRow
from dfs_namenode.store.oplog import Change
from dfs_namenode.store.schema import ROOT_INODE
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.transaction import Transaction

FILES_PER_DIRECTORY = 1000
FILES_PER_PACK = 4000
FILE_SIZE = 4096
_REPLICATION = 3


class Generator:
    """Fills a new store. The same seed makes the same names and digests."""

    def __init__(self, store: SqliteStore, *, files: int, seed: int = 1) -> None:
        self._store = store
        self._files = files
        self._random = random.Random(seed)
        self._replicas: list[NewReplica] = []
        self._directory = 0

    def run(self, progress: Callable[[int], None]) -> None:
        """Make all files, a pack in each transaction. `progress` is told how many there are."""
        self._store.write_blocking(self._begin)
        done = 0
        while done < self._files:
            count = min(FILES_PER_PACK, self._files - done)
            self._store.write_blocking(lambda tx, first=done, count=count: self._pack(tx, first, count))  # type: ignore[misc]
            done += count
            progress(done)

    def _begin(self, tx: Transaction) -> None:
        namespace.ensure_root(tx)
        for number in range(_REPLICATION):
            volume = VolumeState(
                id=self._id(tx), state="in_service", capacity_bytes=1 << 42, free_bytes=1 << 41, used_bytes=0
            )
            node = Datanode(
                id=f"generated-{number}",
                peer_url=f"http://127.0.0.1:{60_000 + number}",
                client_url=f"http://127.0.0.1:{60_000 + number}",
                version="generated",
                boot=self._id(tx),
                volumes=(volume,),
            )
            row = datanodes.begin_life(tx, node)
            self._replicas.append(NewReplica(row.num, bytes.fromhex(volume.id)))

    def _pack(self, tx: Transaction, first: int, count: int) -> None:
        chunk, bits = bytes.fromhex(self._id(tx)), self._random.randbytes
        chunks.introduce(
            tx, chunk, length=count * FILE_SIZE, digest=bits(16), replication=_REPLICATION, replicas=self._replicas
        )
        changes = []
        for number in range(first, first + count):
            if number % FILES_PER_DIRECTORY == 0:
                self._directory = tx.new_inode_id()
                name = f"d{number // FILES_PER_DIRECTORY:05}"
                namespace.insert_directory(
                    tx, self._directory, ROOT_INODE, name, mode=0o755, owner="anonymous", mtime_ns=tx.now_ms * 10**6
                )
                changes.append(Change("mkdir", self._directory, ROOT_INODE, name))
            changes.append(self._file(tx, number, chunk, (number - first) * FILE_SIZE))
        chunks.add_references(tx, {chunk: count * FILE_SIZE})
        oplog.log_changes(tx, "anonymous", changes)

    def _file(self, tx: Transaction, number: int, chunk: bytes, offset: int) -> Change:
        content_id, inode_id, digest = tx.new_content_id(), tx.new_inode_id(), self._random.randbytes(16)
        name = f"file-{number:09}.dat"
        contents.insert(tx, content_id, size=FILE_SIZE, digest=digest, replication=_REPLICATION, attributes=None)
        contents.insert_extents(tx, content_id, [ExtentRow(0, chunk, offset, FILE_SIZE, digest)])
        mtime_ns = tx.now_ms * 10**6
        row = FileRow(self._directory, name, inode_id, 0o644, "anonymous", "", mtime_ns, tx.seq, content_id)
        namespace.insert_files(tx, [row])
        return Change("put", inode_id, self._directory, name, content_id=content_id)

    def _id(self, tx: Transaction) -> str:
        return new_id(tx.now_ms, self._random.randbytes)


def main() -> int:
    """The command. Refuses a directory that has something in it."""
    parser = argparse.ArgumentParser(description="Make a store with many small files in packs, for trials.")
    parser.add_argument("directory")
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if os.path.isdir(options.directory) and os.listdir(options.directory):
        parser.error(f"{options.directory} is not empty; name a new directory")
    began_s = time.monotonic()

    def progress(done: int) -> None:
        if done % 100_000 < FILES_PER_PACK or done == options.files:
            seconds = time.monotonic() - began_s
            sys.stderr.write(f"{done} files, {seconds:.1f} s, {done / seconds:.0f} files/s\n")

    store = SqliteStore.open(options.directory, clock=SystemClock())
    try:
        Generator(store, files=options.files, seed=options.seed).run(progress)
    finally:
        store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
