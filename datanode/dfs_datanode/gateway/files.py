"""The cluster as the gateway uses it: the client library's parts, put together for one caller.

Separate from the HTTP side because this half blocks and is called in threads. It adds no authority: every call is made
for the principal that asked. What it decides is how much a transfer may hold in memory, and that this datanode is the
head of the chains of what it uploads, so that the first copy costs no network. What is learnt about datanodes is shared
by all callers; how often one may try again is each caller's own.
"""

import random
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence

from dfs.experience import Experience
from dfs.fetcher import Fetcher
from dfs.get_tree import Downloads
from dfs.hinting import FileHints
from dfs.layout import Content, PlacedExtent
from dfs.namenodes import Namenodes
from dfs.protocol.clock import Clock
from dfs.protocol.digests import Buffer
from dfs.protocol.errors import ChunkExists, ReceiptRefused, Unavailable
from dfs.protocol.messages import (
    CHUNK_SIZE_MIN,
    Commit,
    Entry,
    ListDirectory,
    Listing,
    Locate,
    Open,
    Outcome,
    PutFile,
    Remove,
    Stat,
)
from dfs.protocol.operations import COMMIT, LIST, LOCATE, OPEN, STAT
from dfs.protocol.transport import Transport
from dfs.publisher import Publisher
from dfs.retries import RetryBudget
from dfs.sender import Grants
from dfs.staging import Staging
from dfs.storing import PendingAppend, Storing
from dfs.truncating import truncate
from dfs.workers import Workers
from dfs.writer import ChunkLine, StreamWriter
from dfs_datanode.gateway.addresses import InsideCaller, PeerUrl

CHUNK_BYTES = 16 << 20
"""Chunks of uploads: an upload holds two of them in memory, one that fills and one that is being sent."""
UPLOAD_BYTES_MAX = 2 * CHUNK_BYTES
KEPT_BYTES_MAX = 32 << 20
"""Of extents that can only be checked whole, kept for the next pieces of all downloads together."""
LIST_PAGE = 1000
NAMENODE_PATIENCE_S = 10.0
"""How long a namenode that is restarted is waited for: shorter than the time-outs of HTTP clients."""
SENDERS = 8
PRINCIPALS_MAX = 64
"""Callers whose connections are kept; names come from outside, so their number must be bounded."""


class Shelf:
    """Counts the bytes that are kept for the next pieces of all downloads together. Usable from several threads."""

    def __init__(self, total: int) -> None:
        self._free = total
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Whether `size` bytes more may be kept; then they are counted until `give`."""
        with self._lock:
            if size > self._free:
                return False
            self._free -= size
            return True

    def give(self, size: int) -> None:
        with self._lock:
            self._free += size


class OpenContent:
    """One version of a file, readable to its end whatever becomes of its path. One read at a time."""

    def __init__(self, content: Content, fetcher: Fetcher, shelf: Shelf) -> None:
        self._shelf = shelf
        self._content = content
        self._fetcher = fetcher
        self._kept: tuple[int, memoryview] | None = None
        """The position of an extent, and all of its bytes."""
        self._give_back: weakref.finalize[[int], OpenContent] | None = None

    @property
    def size(self) -> int:
        """Bytes of this version."""
        return self._content.size

    def read(self, start: int, end: int) -> memoryview:
        """The bytes [start, end), verified. Raises as `Fetcher.read` does."""
        buffer = memoryview(bytearray(end - start))
        for extent in self._content.extents(start, end):
            first, last = max(start, extent.position), min(end, extent.end)
            self._fill(extent, first - extent.position, last - extent.position, buffer[first - start : last - start])
        return buffer

    def _fill(self, extent: PlacedExtent, start: int, end: int, into: memoryview) -> None:
        if extent.by_blocks or end - start == extent.length:
            self._fetcher.read(extent, start, end, into)
            return
        # Such an extent can only be checked as a whole: it is kept, so that the next piece does not fetch it again.
        # Slow clients may be many, so there is an end to what is kept for all of them; then it is fetched again.
        if self._kept is not None and self._kept[0] == extent.position:
            into[:] = self._kept[1][start:end]
            return
        self._let_go()
        whole = memoryview(bytearray(extent.length))
        self._fetcher.read(extent, 0, extent.length, whole)
        into[:] = whole[start:end]
        if end < extent.length and self._shelf.take(extent.length):
            self._kept = (extent.position, whole)
            self._give_back = weakref.finalize(self, self._shelf.give, extent.length)

    def _let_go(self) -> None:
        self._kept = None
        if self._give_back is not None:
            self._give_back()
            self._give_back = None


class OpenFile(OpenContent):
    """The version that is at a path now, and what describes it."""

    def __init__(self, entry: Entry, content: Content, fetcher: Fetcher, shelf: Shelf) -> None:
        super().__init__(content, fetcher, shelf)
        self.entry = entry


class Upload:
    """A file on its way in; invisible until `publish`. Not for several threads at once."""

    def __init__(self, writer: StreamWriter, staging: Staging) -> None:
        self._writer = writer
        self._staging = staging

    @property
    def length(self) -> int:
        """Bytes that came so far."""
        return self._writer.length

    def write(self, data: Buffer) -> None:
        """Take the next bytes; waits while the chunk before is still being sent."""
        self._writer.write(data)
        self._staging.tick()

    def publish(self, action: PutFile) -> Outcome:
        """Make it the file that `action` describes, whose extents are filled in here."""
        self._writer.finish()
        try:
            return self._staging.publish(action)
        except (ReceiptRefused, ChunkExists):
            raise Unavailable("a datanode was lost during the upload; nothing was stored, send it again") from None

    def abort(self) -> None:
        """Forget it. Waits for the chunk that is being sent."""
        self._writer.abort()
        self._staging.abort()


class Append:
    """Bytes on their way behind the end of a file; invisible until `publish`. Not for several threads at once."""

    def __init__(self, pending: PendingAppend) -> None:
        self._pending = pending

    @property
    def length(self) -> int:
        """Bytes that came so far."""
        return self._pending.length

    def write(self, data: Buffer) -> None:
        """Take the next bytes; waits while the chunk before is still being sent."""
        self._pending.write(data)

    def publish(self) -> Outcome:
        """Make them the end of the file."""
        try:
            return self._pending.commit()
        except (ReceiptRefused, ChunkExists):
            raise Unavailable("a datanode was lost during the append; nothing was stored, send it again") from None

    def abort(self) -> None:
        """Forget them. Waits for the chunk that is being sent."""
        self._pending.abort()


class Files:
    """Everything that one principal may do through the gateway. Usable from several threads; blocks."""

    def __init__(
        self,
        namenodes: Sequence[str],
        *,
        principal: str,
        datanode: str,
        peer_url: PeerUrl,
        experience: Experience,
        workers: Workers,
        shelf: Shelf,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._shelf = shelf
        self._transport = transport = Transport(principal=principal)
        caller = InsideCaller(transport, peer_url)
        self._namenodes = Namenodes(namenodes, caller, clock=clock, rng=rng, patience_s=NAMENODE_PATIENCE_S)
        retries = RetryBudget(clock)
        self._fetcher = experience.fetcher(transport, self._namenodes, retries, rng)
        self._sender = experience.sender(transport, retries, rng)
        self._publisher = Publisher(self._namenodes, self._sender)
        self._datanode = datanode
        self._suspects = experience.suspects
        self._workers = workers
        self._clock = clock

    def stat(self, path: str) -> Entry:
        """One entry. Raises FileNotFound, NotADirectory."""
        return self._namenodes.call(STAT, Stat(path=path))

    def open(self, path: str, offset: int = 0, length: int | None = None) -> OpenFile:
        """The version that is there now. Raises FileNotFound, NotADirectory, IsADirectory.

        offset, length   what will probably be read: the namenode need not describe the rest of a huge file
        """
        opened = self._namenodes.call(OPEN, Open(path=path, offset=offset, length=length))
        content = Content(opened.layout, self._namenodes, self._clock)
        return OpenFile(opened.entry, content, self._fetcher, self._shelf)

    def open_content(self, content: int, offset: int = 0, length: int | None = None) -> OpenContent:
        """A version that was found earlier, whatever became of its path. Raises VersionGone: it is no longer kept."""
        layout = self._namenodes.call(LOCATE, Locate(content=content, offset=offset, length=length))
        return OpenContent(Content(layout, self._namenodes, self._clock), self._fetcher, self._shelf)

    def chunk_size(self) -> int:
        """The cluster's, in bytes."""
        return self._namenodes.facts().chunk_size_bytes

    def list_page(self, path: str, after: str) -> Listing:
        """One page of a directory."""
        return self._namenodes.call(LIST, ListDirectory(path=path, after=after, limit=LIST_PAGE))

    def begin_upload(
        self, path: str, length: int | None, *, replication: int | None = None, block_size: int | None = None
    ) -> Upload:
        """Begin a file of `length` bytes, or of any length, that is to become `path`.

        replication, block_size  what the client asked for; None: as the cluster has it
        """
        facts = self._namenodes.refresh()
        replication = replication or facts.replication
        chunk_size = min(CHUNK_BYTES, facts.chunk_size_bytes, max(block_size or CHUNK_BYTES, CHUNK_SIZE_MIN))
        if length is not None:
            chunk_size = max(1, min(chunk_size, length))
        grants = Grants(
            self._namenodes,
            self._suspects,
            self._clock,
            length=chunk_size,
            replication=replication,
            expected=None if length is None else -(-length // chunk_size),
            writer=self._datanode,
        )
        staging = Staging(self._publisher, self._namenodes, replication=replication)
        line = ChunkLine(self._sender, self._workers, grants, parallel=1, taken=staging.add_next)
        hints = FileHints(path, self._namenodes.new_id(), size=-1 if length is None else length)
        return Upload(StreamWriter(line, chunk_size, hints), staging)

    def begin_append(self, path: str, inode: int) -> Append:
        """Begin an append to the file that has this number."""
        storing = Storing(
            self._namenodes,
            self._sender,
            self._fetcher,
            self._workers,
            self._suspects,
            self._clock,
            parallel=1,
            chunk_size=min(CHUNK_BYTES, self._namenodes.refresh().chunk_size_bytes),
            replication=None,
        )
        return Append(storing.append_stream(path, create=False, parents=False, replication=None, inode=inode))

    def truncate(self, path: str, size: int) -> Outcome:
        """Make a file shorter. Raises as `truncating.truncate` does."""
        downloads = Downloads(self._namenodes, self._fetcher, self._workers, self._clock, parallel=1)
        return truncate(
            downloads,
            lambda action: self._namenodes.perform(COMMIT, Commit(op_id="", actions=[action])).outcomes,
            path,
            size,
            if_version=None,
        )

    def remove(self, action: Remove) -> None:
        """Remove a path, once, whatever the connection does."""
        self._namenodes.perform(COMMIT, Commit(op_id="", actions=[action]))

    def close_idle(self) -> None:
        """Close the connections that are not in use. It stays usable."""
        self._transport.close()


class FilesOf:
    """The `Files` of each principal, made when it first asks; those that were unused longest go first."""

    def __init__(
        self, namenodes: Sequence[str], *, datanode: str, peer_url: PeerUrl, clock: Clock, rng: random.Random
    ) -> None:
        self._peer_url = peer_url
        self._namenode_urls = tuple(namenodes)
        self._datanode = datanode
        self._clock = clock
        self._rng = rng
        self._experience = Experience(clock)
        self._workers = Workers(SENDERS)
        self._shelf = Shelf(KEPT_BYTES_MAX)
        self._by_principal: OrderedDict[str, Files] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, principal: str) -> Files:
        with self._lock:
            files = self._by_principal.get(principal)
            if files is None:
                files = self._by_principal[principal] = Files(
                    self._namenode_urls,
                    principal=principal,
                    datanode=self._datanode,
                    peer_url=self._peer_url,
                    experience=self._experience,
                    workers=self._workers,
                    shelf=self._shelf,
                    clock=self._clock,
                    rng=self._rng,
                )
                while len(self._by_principal) > PRINCIPALS_MAX:
                    self._by_principal.popitem(last=False)[1].close_idle()
            self._by_principal.move_to_end(principal)
            return files
