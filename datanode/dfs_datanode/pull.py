"""A chunk for a repair, put together block by block from whoever has each block right.

Separate from the commands, which decide that a chunk is pulled and what becomes of it. The rule for each piece:

    a source gives it right     → taken
    a source is unreachable     → not asked again, for any piece
    a source gives it wrong     → the next one is asked
    an answer is cut off        → that source met a bad block, or ended: it is asked for small pieces only, whose
                                  answers tell which
    no source gave it right     → the piece is divided, down to single blocks: sources that are damaged in different
                                  places still make one good replica

Nothing is taken that does not have its place in the table, and no table that does not have the namenode's root.

Hints have no digest that the namenode knows: they are taken from the first source whose footer is right. If nobody
gives them, the replica is made without: they are never a reason to have one replica less.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Protocol

from dfs.protocol.digests import BLOCK_SIZE, first_bad_block, root_digest, table_size
from dfs.protocol.errors import CorruptReplica, DfsError, OutcomeUnknown
from dfs.protocol.hints import hints_are_whole
from dfs.protocol.messages import Replicate, Target
from dfs.protocol.transport import Transport
from dfs_datanode.chunk_file import ChunkReader

logger = logging.getLogger("dfs.datanode.pull")

PULL_BYTES = 4 << 20
"""Asked of a source at once: a multiple of the block."""

SMALL_BYTES = 1 << 20
"""What a datanode verifies before it answers: up to this size a bad block is an error and not a cut."""

assert PULL_BYTES % SMALL_BYTES == 0 == SMALL_BYTES % BLOCK_SIZE


class Source(Protocol):
    """One place that may have the chunk."""

    name: str

    def read_table(self, table: memoryview, offset: int, piece: memoryview) -> None:
        """Fill `table`, and `piece` with the bytes from `offset` on. Raises DfsError."""

    def read(self, offset: int, piece: memoryview) -> None:
        """Fill `piece` with the bytes from `offset` on. Raises CorruptReplica, or another DfsError: out of reach."""

    def read_hints(self) -> bytes:
        """The hints that are there; b"" if none are. Raises DfsError."""


class PeerSource:
    """A replica at another datanode."""

    def __init__(self, target: Target, command: Replicate, transport: Transport) -> None:
        self.name = target.datanode
        self._url = target.url
        self._command = command
        self._transport = transport

    def read_table(self, table: memoryview, offset: int, piece: memoryview) -> None:
        self._get(offset, len(piece), "table", [table, piece])

    def read(self, offset: int, piece: memoryview) -> None:
        self._get(offset, len(piece), "blocks", [piece])

    def read_hints(self) -> bytes:
        command = self._command
        return self._transport.get_hints(self._url, chunk=command.chunk, capability=command.capability)

    def _get(self, offset: int, length: int, mode: Literal["table", "blocks"], into: list[memoryview]) -> None:
        self._transport.get_chunk(
            self._url,
            chunk=self._command.chunk,
            capability=self._command.capability,
            offset=offset,
            length=length,
            mode=mode,
            into=into,
        )


class LocalSource:
    """The bad replica that is to be replaced: most of its blocks are right."""

    name = "the replica here"

    def __init__(self, reader: ChunkReader) -> None:
        self._reader = reader

    def read_table(self, table: memoryview, offset: int, piece: memoryview) -> None:
        if len(table) != len(self._reader.table):
            raise CorruptReplica("the replica here is of another length")
        table[:] = self._reader.table
        self.read(offset, piece)

    def read(self, offset: int, piece: memoryview) -> None:
        try:
            piece[:] = self._reader.read_blocks(offset, offset + len(piece))
        except OSError as error:
            raise CorruptReplica(f"the replica here can't be read there ({error})") from error

    def read_hints(self) -> bytes:
        try:
            return self._reader.read_hints()
        except OSError as error:
            raise CorruptReplica(f"the hints of the replica here can't be read ({error})") from error


class Pull:
    """One pull. Used by one thread.

    sources  best first
    suspect  told of each datanode that can't be reached
    pause    called with the number of bytes after each piece: it waits as long as the limit on repairs wants
    """

    def __init__(
        self,
        command: Replicate,
        sources: Sequence[Source],
        *,
        suspect: Callable[[str], None],
        pause: Callable[[int], None],
    ) -> None:
        self.table = b""
        self._length = command.length
        self._digest = command.digest
        self._sources = sources
        self._suspect = suspect
        self._pause = pause
        self._unreachable: set[str] = set()
        self._cut_off: set[str] = set()
        """Sources whose answers ended early."""

    def hints(self) -> bytes:
        """The hints of the first source that has any; b"" if nobody gives some. To be asked before the data."""
        for source in self._sources:
            try:
                hints = source.read_hints()
            except DfsError as error:
                # It may still have the data; that it does not answer is found out, and told, when it is asked for them.
                logger.info("%s gives no hints: %s", source.name, error)
                continue
            if hints and hints_are_whole(hints):
                return hints
        return b""

    def pieces(self) -> Iterable[memoryview]:
        """The verified data in order. Each piece is overwritten by the next. Raises DfsError."""
        buffer = memoryview(bytearray(min(PULL_BYTES, self._length)))
        for offset in range(0, self._length, PULL_BYTES):
            piece = buffer[: min(PULL_BYTES, self._length - offset)]
            self._fetch(offset, piece)
            yield piece
            self._pause(len(piece))

    def _fetch(self, offset: int, piece: memoryview) -> None:
        last: DfsError = CorruptReplica("no source of the chunk is left")
        is_small = len(piece) <= SMALL_BYTES
        for source in self._sources:
            if source.name in self._unreachable or (source.name in self._cut_off and not is_small):
                continue
            try:
                self._fetch_from(source, offset, piece)
            except CorruptReplica as error:
                last = error
            except DfsError as error:
                last = error
                if isinstance(error, OutcomeUnknown) and not is_small:
                    self._cut_off.add(source.name)
                    continue
                self._unreachable.add(source.name)
                self._suspect(source.name)
            else:
                return
        if len(piece) <= BLOCK_SIZE or len(self._unreachable) == len(self._sources):
            raise last
        step = -(-len(piece) // BLOCK_SIZE) // 2 * BLOCK_SIZE if is_small else SMALL_BYTES
        for start in range(0, len(piece), step):
            self._fetch(offset + start, piece[start : start + step])

    def _fetch_from(self, source: Source, offset: int, piece: memoryview) -> None:
        """Fill `piece` with right bytes, and learn the table with the first. Raises DfsError."""
        if self.table:
            source.read(offset, piece)
        else:
            table = bytearray(table_size(self._length))
            source.read_table(memoryview(table), offset, piece)
            if root_digest(self._length, table).hex() != self._digest:
                raise CorruptReplica(f"the table at {source.name} is not the one that the namenode recorded")
            self.table = bytes(table)
        bad = first_bad_block(piece, self.table, offset // BLOCK_SIZE)
        if bad is not None:
            raise CorruptReplica(f"block {bad} at {source.name} is damaged")
