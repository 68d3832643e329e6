"""Where the bytes of a chunk come from, in pieces, as often as they are wanted.

A chunk that has to be sent again is read again: from memory, or straight from the local file. So a source is
restartable, and a put of a big file needs one small buffer for each chunk under way.
"""

import os
from collections.abc import Iterator
from typing import Protocol

from dfs.protocol.digests import Buffer
from dfs.protocol.errors import Conflict

PIECE_SIZE = 1 << 20
"""Bytes read, hashed and sent at a time: enough to make calls cheap, few enough to stay in the processor's cache."""


class Source(Protocol):
    """The bytes of one chunk, and the encoded hints that travel with them, whenever they are sent."""

    @property
    def length(self) -> int: ...

    @property
    def hints(self) -> bytes: ...

    def pieces(self) -> Iterator[Buffer]:
        """All of them, from the start, `length` bytes together. A piece is valid until the next one is asked for."""
        ...


class MemorySource:
    """Bytes that are held in memory."""

    def __init__(self, data: Buffer, hints: bytes = b"") -> None:
        self._data = memoryview(data)
        self.hints = hints

    @property
    def length(self) -> int:
        return len(self._data)

    def pieces(self) -> Iterator[Buffer]:
        for start in range(0, len(self._data), PIECE_SIZE):
            yield self._data[start : start + PIECE_SIZE]


class FileSource:
    """A range of an open local file. Its descriptor is the caller's, and is read with pread only."""

    def __init__(self, descriptor: int, offset: int, length: int, name: str, hints: bytes = b"") -> None:
        self._descriptor = descriptor
        self.offset = offset
        self._length = length
        self._name = name
        self.hints = hints

    @property
    def length(self) -> int:
        return self._length

    def pieces(self) -> Iterator[Buffer]:
        """Raises Conflict: the file has become shorter than it was when the put began."""
        buffer = memoryview(bytearray(min(PIECE_SIZE, self._length)))
        done = 0
        while done < self._length:
            view = buffer[: min(len(buffer), self._length - done)]
            count = os.preadv(self._descriptor, [view], self.offset + done)
            if count == 0:
                raise Conflict(f"{self._name} became shorter while it was read; nothing was stored, put it again")
            done += count
            yield view[:count]
