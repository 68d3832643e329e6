"""What a store must be able to do to be measured, and dfs as one of them.

The workloads know nothing else, so that every peer is measured by the same clients with the same work. Each client
process makes its own `Store` from a `Target`. The stores of peers are in the checkout's `bench/`, and are named by
module, as this one is.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec

from dfs.bench.samples import OURS

if TYPE_CHECKING:
    import io

    from dfs.client import Client

BIG, SMALL, RANGE, META, MANY = "big", "small", "range", "meta", "many"
"""What a store can do: whole big files, whole small ones, byte ranges, the namespace, and what only dfs has."""
PIECE = 1 << 20
"""Bytes that are taken at once from a big file."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A store to be measured, as client processes are told of it."""

    subject: str = OURS
    case: str = ""
    """What distinguishes it from others of the subject: "R = 3"."""
    factory: str = "dfs.bench.stores:DfsStore"
    """Module and class; called with the options."""
    options: dict[str, Any] = {}
    features: tuple[str, ...] = (BIG, SMALL, RANGE, META, MANY)
    root: str
    """A directory of it that is for the benchmark alone."""

    def store(self) -> "Store":
        """A client of it."""
        module, _, name = self.factory.partition(":")
        factory: Callable[..., Store] = getattr(importlib.import_module(module), name)
        return factory(**self.options)

    def make_directory(self, path: str) -> None:
        """Preparation."""
        store = self.store()
        store.mkdir(path)
        store.close()


class Store(Protocol):
    """One client. Paths are absolute. What a method promises is durable, or visible, when it returns."""

    def put_file(self, local: str, path: str) -> None: ...
    def get_file(self, path: str, local: str) -> None: ...
    def drain(self, path: str, take: Callable[[memoryview], None]) -> None:
        """Read a big file from beginning to end, in order, and keep nothing."""

    def put(self, path: str, data: bytes) -> None: ...
    def get(self, path: str) -> bytes: ...
    def open_range(self, path: str) -> "Callable[[int, int], bytes]":
        """Open a file; what is returned reads the bytes [start, end)."""

    def mkdir(self, path: str) -> None: ...
    def create(self, path: str) -> None:
        """Make an empty file."""

    def size(self, path: str) -> int:
        """Ask for the attributes of a file, every time."""

    def list(self, path: str) -> int:
        """Fetch all entries of a directory with their attributes; how many there are."""

    def rename(self, source: str, target: str) -> None: ...
    def remove(self, path: str) -> None: ...
    def remove_tree(self, path: str) -> None: ...
    def close(self) -> None: ...


class DfsStore:
    """dfs through its Python API. Every byte that is read is verified by the client, as always."""

    def __init__(self, url: str, replication: int | None = None) -> None:
        from dfs.connecting import connect

        self.fs: Client = connect(url, replication=replication)

    def put_file(self, local: str, path: str) -> None:
        self.fs.put(local, path, overwrite=True)

    def get_file(self, path: str, local: str) -> None:
        self.fs.get(path, local, overwrite=True)

    def drain(self, path: str, take: Callable[[memoryview], None]) -> None:
        buffer = memoryview(bytearray(PIECE))
        with self.fs.open(path, "rb") as file:
            while count := file.readinto(buffer):
                take(buffer[:count])

    def put(self, path: str, data: bytes) -> None:
        self.fs.write_bytes(path, data, overwrite=False)

    def get(self, path: str) -> bytes:
        return self.fs.read_bytes(path)

    def open_range(self, path: str) -> "Callable[[int, int], bytes]":
        # Below its buffer, which would fetch 64 KiB for each 4 KiB that are wanted.
        file = self.fs.open(path, "rb")
        raw = cast("io.RawIOBase", file.raw)

        def read(start: int, end: int) -> bytes:
            assert not file.closed
            raw.seek(start)
            found = b""
            while len(found) < end - start and (more := raw.read(end - start - len(found))):
                found += more
            return found

        return read

    def mkdir(self, path: str) -> None:
        self.fs.mkdir(path, parents=True, exist_ok=True)

    def create(self, path: str) -> None:
        self.fs.write_bytes(path, b"", overwrite=False)

    def size(self, path: str) -> int:
        return self.fs.stat(path).size

    def list(self, path: str) -> int:
        return sum(1 for _ in self.fs.ls(path))

    def rename(self, source: str, target: str) -> None:
        self.fs.rename(source, target)

    def remove(self, path: str) -> None:
        self.fs.remove(path)

    def remove_tree(self, path: str) -> None:
        self.fs.remove(path, recursive=True, missing_ok=True)

    def read_many(self, ranges: Sequence[tuple[str, int, int]]) -> Sequence[bytes]:
        """Ranges in one call."""
        return self.fs.read_many(ranges)

    def create_many(self, paths: Sequence[str]) -> None:
        """Make empty files in one commit."""
        from dfs.protocol.messages import PutFile

        self.fs.commit([PutFile(path=path, when="absent") for path in paths])

    def put_many(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Store files in one transaction."""
        with self.fs.transaction() as transaction:
            for path, data in files:
                transaction.write_bytes(path, data)

    def close(self) -> None:
        self.fs.close()
