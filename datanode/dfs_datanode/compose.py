"""A new chunk, made of ranges of others whose digests are known, and stored as one that a client sends.

Separate from the commands, which decide that it is made, and from `pull`, which copies one chunk as it is: here no
digest of the whole is known beforehand. What makes it right is that every extent is compared with its own digest, and
that twice: while its bytes go by, and after they were stored, as they come back from the disk. So a bit that flips in
this machine's memory in between is found before any file has its bytes there.

    a replica gives a range       → taken, and compared
    it is out of reach or damaged → the next one is asked, for all that follows too
    an extent is not right        → nothing is composed; repair and the scrubbers find out whose fault it is
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from dfs.protocol.capability import check_capability
from dfs.protocol.chunk_format import encode_wire_footer
from dfs.protocol.digests import BLOCK_SIZE, Buffer, TreeHasher
from dfs.protocol.errors import CorruptReplica, DfsError
from dfs.protocol.hints import FileHint, FilesHint, decode_hints, encode_hints
from dfs.protocol.messages import Compose, ComposedChunk, ComposeExtent, ComposeRun, ComposeSource, StoredChunk, Target
from dfs.protocol.transport import Transport
from dfs_datanode.chunk_file import ChunkReader
from dfs_datanode.chunk_store import ChunkStore
from dfs_datanode.findings import Findings
from dfs_datanode.membership import Membership, Standing
from dfs_datanode.pipeline import Order, Source

logger = logging.getLogger("dfs.datanode.compose")

WINDOW_BYTES = 4 << 20
"""Read of a source at once."""
GAP_MAX = 64 << 10
"""Dead bytes that are read with the live ones around them: another request would cost more."""


class Origin(Protocol):
    """A replica of a source."""

    name: str

    def read(self, offset: int, into: memoryview) -> None:
        """Fill `into` with the bytes from `offset` on. Raises DfsError."""

    def hints(self) -> bytes:
        """The hints of the chunk. Raises DfsError."""


class LocalOrigin:
    """A replica here, whose blocks are verified as they are read."""

    name = "the replica here"

    def __init__(self, reader: ChunkReader) -> None:
        self._reader = reader

    def read(self, offset: int, into: memoryview) -> None:
        start = offset // BLOCK_SIZE * BLOCK_SIZE
        end = min(-(-(offset + len(into)) // BLOCK_SIZE) * BLOCK_SIZE, self._reader.length)
        try:
            blocks = self._reader.read_blocks(start, end)
        except OSError as error:
            raise CorruptReplica(f"the replica here can't be read ({error})") from error
        into[:] = memoryview(blocks)[offset - start : offset - start + len(into)]

    def hints(self) -> bytes:
        try:
            return self._reader.read_hints()
        except OSError as error:
            raise CorruptReplica(f"the replica here can't be read ({error})") from error


class PeerOrigin:
    """A replica at another datanode, which verifies what it sends."""

    def __init__(self, target: Target, source: ComposeSource, transport: Transport) -> None:
        self.name = target.datanode
        self._url = target.url
        self._source = source
        self._transport = transport

    def read(self, offset: int, into: memoryview) -> None:
        self._transport.get_chunk(
            self._url,
            chunk=self._source.chunk,
            capability=self._source.capability,
            offset=offset,
            length=len(into),
            mode="exact",
            into=[into],
        )

    def hints(self) -> bytes:
        return self._transport.get_hints(self._url, chunk=self._source.chunk, capability=self._source.capability)


class _Check:
    """Compares the extents of a run with their digests while its bytes go by, in order."""

    def __init__(self, run: ComposeRun, chunk: str) -> None:
        self._chunk = chunk
        self._waiting = list(reversed(run.extents))
        self._open: list[tuple[ComposeExtent, TreeHasher]] = []

    def update(self, offset: int, piece: memoryview) -> None:
        """Take the bytes from `offset` on. Raises CorruptReplica."""
        end = offset + len(piece)
        while self._waiting and self._waiting[-1].offset < end:
            self._open.append((self._waiting.pop(), TreeHasher()))
        still = []
        for extent, hasher in self._open:
            extent_end = extent.offset + extent.length
            hasher.update(piece[max(0, extent.offset - offset) : extent_end - offset])
            if extent_end > end:
                still.append((extent, hasher))
            elif hasher.root().hex() != extent.digest:
                raise CorruptReplica(
                    f"the {extent.length} bytes at {extent.offset} of the chunk {self._chunk} do not have their digest"
                )
        self._open = still


def checked_parts(
    read: Callable[[int, memoryview], None], runs: Iterable[ComposeRun], chunk: str
) -> Iterator[tuple[ComposeRun, int, memoryview]]:
    """The bytes of the runs in order: run, offset in the chunk, bytes, which are overwritten by what follows.

    An extent is known to be right when the last part of its run has come. Raises CorruptReplica, and what `read` does
    """
    checks: dict[int, _Check] = {}
    for start, end, parts in _windows(runs):
        window = memoryview(bytearray(end - start))
        read(start, window)
        for run, first, last in parts:
            if first == run.offset:
                checks = {run.offset: _Check(run, chunk)}
            part = window[first - start : last - start]
            checks[run.offset].update(first, part)
            yield run, first, part


def _windows(runs: Iterable[ComposeRun]) -> Iterator[tuple[int, int, list[tuple[ComposeRun, int, int]]]]:
    """What to read at once: start, end, and the parts of runs in it, each with its start and end."""
    parts: list[tuple[ComposeRun, int, int]] = []
    for run in runs:
        run_end = run.offset + run.length
        for first in range(run.offset, run_end, WINDOW_BYTES):
            last = min(first + WINDOW_BYTES, run_end)
            if parts and (first - parts[-1][2] > GAP_MAX or last - parts[0][1] > WINDOW_BYTES):
                yield parts[0][1], parts[-1][2], parts
                parts = []
            parts.append((run, first, last))
    if parts:
        yield parts[0][1], parts[-1][2], parts


class Origins:
    """All replicas of one source, as one that answers as long as any of them does."""

    def __init__(self, origins: Sequence[Origin], suspect: Callable[[str], None]) -> None:
        self._origins = list(origins)
        self._suspect = suspect

    def read(self, offset: int, into: memoryview) -> None:
        """Fill `into` from the best replica that can. Raises DfsError: none is left."""
        self._ask(lambda origin: origin.read(offset, into))

    def hints(self) -> FilesHint | None:
        """What the chunk says of its files; None: nothing that can be used."""
        found: list[bytes] = []
        try:
            self._ask(lambda origin: found.append(origin.hints()))
        except DfsError as error:
            logger.info("the hints of a source can't be read: %s", error)
            return None
        hints = decode_hints(found[-1])
        return hints if isinstance(hints, FilesHint) else None

    def _ask(self, do: Callable[[Origin], None]) -> None:
        last: DfsError = CorruptReplica("no replica of a source is left")
        while self._origins:
            try:
                do(self._origins[0])
                return
            except DfsError as error:
                failed = self._origins.pop(0)
                last = error
                logger.warning("a source at %s fails: %s", failed.name, error)
                if isinstance(failed, PeerOrigin) and not isinstance(error, CorruptReplica):
                    self._suspect(failed.name)
        raise last


class ComposedBody:
    """The body of the new chunk's PUT: the data, then the wire footer."""

    def __init__(
        self, command: Compose, origins: Sequence[Origins], *, hints: bytes, pause: Callable[[int], None]
    ) -> None:
        self._command = command
        self._origins = origins
        self._hints = hints
        self._pause = pause
        self._pieces = self._body()
        self._left = memoryview(b"")

    def readinto(self, view: memoryview) -> int:
        """Fill `view`, or what the rest of the body fills of it. Raises DfsError."""
        done = 0
        while done < len(view):
            if not self._left:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._left = memoryview(piece)
                continue
            count = min(len(self._left), len(view) - done)
            view[done : done + count] = self._left[:count]
            self._left = self._left[count:]
            done += count
        return done

    def _body(self) -> Iterator[Buffer]:
        hasher = TreeHasher()
        for piece in self._data():
            hasher.update(piece)
            yield piece
        yield encode_wire_footer(hasher.length, hasher.table(), hasher.root(), self._hints)

    def _data(self) -> Iterator[Buffer]:
        position = 0
        for source, origins in zip(self._command.sources, self._origins, strict=True):
            for run, first, part in checked_parts(origins.read, source.runs, source.chunk):
                at = run.at + first - run.offset
                if at < position:
                    raise CorruptReplica("the command has two runs in one place")
                if at > position:
                    yield bytes(at - position)
                yield part
                position = at + len(part)
                self._pause(len(part))
        if position != self._command.length:
            raise CorruptReplica(f"the command's runs make {position} bytes, not {self._command.length}")


class Composer:
    """Composes. Used by one thread.

    put    stores a chunk along its chain, and blocks
    pause  waits as long as the limit on repairs wants after so many bytes
    """

    def __init__(
        self,
        *,
        store: ChunkStore,
        membership: Membership,
        findings: Findings,
        transport: Transport,
        suspect: Callable[[str], None],
        put: Callable[[Source, Order, Standing, str], StoredChunk],
        pause: Callable[[int], None],
    ) -> None:
        self._store = store
        self._membership = membership
        self._findings = findings
        self._transport = transport
        self._suspect = suspect
        self._put = put
        self._pause = pause

    def compose(self, command: Compose) -> ComposedChunk:
        """Make the chunk, store it, read it back. Raises DfsError."""
        standing = self._membership.standing()
        now_ms = self._membership.clock.wall_ms()
        capability = check_capability(
            command.capability,
            standing.key,
            datanode=standing.datanode,
            operation="w",
            chunk=command.chunk,
            now_ms=now_ms,
        )
        origins = [self._origins(source) for source in command.sources]
        hints = encode_hints(moved_hints(command.sources, [one.hints() for one in origins]))
        hop = capability.chain.index(standing.datanode)
        order = Order(command.chunk, command.length, capability.principal, capability.chain, hop, len(hints))
        body = ComposedBody(command, origins, hints=hints, pause=self._pause)
        stored = self._put(body, order, standing, command.capability)
        digest = self._read_back(command)
        return ComposedChunk(chunk=command.chunk, length=command.length, digest=digest, receipts=stored.receipts)

    def _origins(self, source: ComposeSource) -> Origins:
        here: list[Origin] = []
        if self._store.find(source.chunk) is not None:
            try:
                reader = self._store.open_uncached(source.chunk)
                if (reader.length, reader.root.hex()) == (source.length, source.digest):
                    here.append(LocalOrigin(reader))
            except (DfsError, OSError) as error:
                self._findings.suspect(source.chunk, str(error))
        own = self._membership.identity.datanode
        peers = [PeerOrigin(one, source, self._transport) for one in source.replicas if one.datanode != own]
        return Origins([*here, *peers], self._suspect)

    def _read_back(self, command: Compose) -> str:
        """The digest of the new chunk, once every extent was read from the disk and found right."""
        try:
            reader = self._store.open_uncached(command.chunk)
        except OSError as error:
            raise CorruptReplica(f"the new chunk can't be read ({error})") from error
        origin = LocalOrigin(reader)
        for source in command.sources:
            for _ in checked_parts(origin.read, [_as_stored(run) for run in source.runs], command.chunk):
                pass
        return reader.root.hex()


def _as_stored(run: ComposeRun) -> ComposeRun:
    """The run as it is in the new chunk."""
    shift = run.at - run.offset
    extents = [ComposeExtent(one.offset + shift, one.length, one.digest) for one in run.extents]
    return ComposeRun(run.at, run.length, run.at, extents)


def moved_hints(sources: Sequence[ComposeSource], hints: Sequence[FilesHint | None]) -> FilesHint:
    """What the new chunk says of its files: what the sources said of those that moved. Pure.

    Names are as old as the sources. The time is that of the youngest of them, never that of the composition: bytes that
    were merely moved must not look younger than those that replaced them.
    """
    files: list[FileHint] = []
    complete = True
    written_ms = max((said.written_ms for said in hints if said is not None), default=0)
    for source, said in zip(sources, hints, strict=True):
        complete = complete and said is not None and said.complete
        runs = iter(source.runs)
        run = next(runs, None)
        for file in sorted(said.files if said is not None else (), key=lambda one: one.offset):
            while run is not None and run.offset + run.length <= file.offset:
                run = next(runs, None)
            if run is None:
                break
            if run.offset <= file.offset and file.offset + file.length <= run.offset + run.length:
                at = run.at + file.offset - run.offset
                files.append(FileHint(file.path, at, file.length, file.position, file.size, file.upload))
    return FilesHint(written_ms=written_ms, files=files, complete=complete)
