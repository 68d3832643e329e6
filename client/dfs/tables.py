"""The verified digest tables of chunks that are being read: a small cache, bounded in bytes.

A table is 8 bytes for each 16 KiB of a chunk and is needed once for each chunk; without it every random read would
fetch it again. Only tables that have been checked against the namenode's root get in here.
"""

import threading
from collections import OrderedDict

BYTES_MAX = 16 << 20
"""Of all tables: those of 512 chunks of 64 MiB."""


class Tables:
    """By chunk id and root; the one that was unused longest goes first. Usable from several threads."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._tables: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, chunk: str, root: str) -> bytes | None:
        with self._lock:
            table = self._tables.get((chunk, root))
            if table is not None:
                self._tables.move_to_end((chunk, root))
            return table

    def put(self, chunk: str, root: str, table: bytes) -> None:
        with self._lock:
            if (chunk, root) in self._tables:
                return
            self._tables[chunk, root] = table
            self._bytes += len(table)
            while self._bytes > self._bytes_max and len(self._tables) > 1:
                _, dropped = self._tables.popitem(last=False)
                self._bytes -= len(dropped)
