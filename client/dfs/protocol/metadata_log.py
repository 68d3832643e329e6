"""The bytes of a backup of the namenode's store: a whole copy of it, or what changed since one.

Here, because two roles write and read them: the namenode ships backups and restores them, and a rebuild reads the
changes for files that are newer than anything else that is left. Separate from how a backup is found (its chunks carry
a `MetadataHint`) and from what a restore makes of it. Pure but for the file that is read or written.

    offset   size   what
    0        8      magic "DFSMETA1"
    8        4      u32 H, length of the header
    12       H      header: MessagePack map, see `BackupHeader`
    12+H     8      xxh3_64 of everything before
    then, again and again, a frame:
             4      u32 C, length of the compressed bytes, > 0
             4      u32 P, length of the plain bytes, <= FRAME_MAX
             8      xxh3_64 of the compressed bytes
             C      a zlib stream
    and at the end:
             4      u32 0
             4      u32 number of frames
             16     xxh3_128 of everything before

Integers are little-endian, digests in xxHash's canonical (big-endian) form. The plain bytes of a *snapshot* are an
SQLite database. Each frame of *changes* is a MessagePack array of records; a record is an array whose first element
names its kind:

    d  LoggedDatanode   every datanode that ever registered, at the beginning
    k  LoggedChunk      a chunk, before the first content that has bytes in it
    c  LoggedContent    a content with its first extents
    x  LoggedExtents    more of its extents
    p  LoggedPlace      a place of the namespace and what is in it now; behind the content of the file in it
    g  LoggedChange     a row of the change log

Changes from S to T say what is true at T of everything that any change in (S, T] named. So they can be applied to the
state of any moment from S to T, more than once too.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, BinaryIO, Literal

import msgspec
import xxhash
from msgspec import Meta, Struct

from dfs.protocol.digests import Buffer
from dfs.protocol.errors import CorruptReplica
from dfs.protocol.messages.base import CHUNK_SIZE_MAX, Id, Length, TimeMs, Version

FORMAT_VERSION = 1
FRAME_BYTES = 1 << 20
"""Plain bytes after which a frame is closed."""
FRAME_MAX = 16 << 20
"""Plain bytes that a frame may have at most: a damaged length can't fill the memory of whoever reads it."""
EXTENTS_IN_RECORD = 2000
_HEADER_MAX = 64 << 10
_COMPRESSION = 1
"""zlib's fastest: half of a store are random ids and digests, on which more effort is lost."""

_MAGIC = b"DFSMETA1"
_U32 = struct.Struct("<I")
_SIZES = struct.Struct("<II")

Kind = Literal["snapshot", "changes"]
Bytes16 = Annotated[bytes, Meta(min_length=16, max_length=16)]


class BackupHeader(Struct, frozen=True, kw_only=True):
    """What a backup is of."""

    version: int = FORMAT_VERSION
    kind: Kind
    cluster: Id
    lineage: Id
    """Parts of different histories are never put together."""
    from_seq: Version
    """0 for a snapshot."""
    to_seq: Version
    made_ms: TimeMs
    """The namenode's time."""
    schema_version: int
    """Of the store that it was made of."""


# --- records of changes -----------------------------------------------------------------------------------------


class LoggedDatanode(Struct, frozen=True, array_like=True, tag="d"):
    """A row of `datanode`."""

    num: int
    id: str
    peer_url: str
    client_url: str
    rack: str
    version: str
    boot: bytes
    incarnation: int
    state: str
    registered_ms: int
    volumes: bytes
    admin_state: str
    admin_until_ms: int


class LoggedChunk(Struct, frozen=True, array_like=True, tag="k"):
    """A chunk, and where it was."""

    id: Bytes16
    length: Annotated[int, Meta(ge=1, le=CHUNK_SIZE_MAX)]
    digest: Bytes16
    replication: int
    replicas: list[tuple[int, bytes, int]]
    """`LoggedDatanode.num`, volume, state."""


Extents = list[tuple[Length, Bytes16, Length, Length, Bytes16]]
"""Position in the file, chunk, offset in the chunk, length, digest."""


class LoggedContent(Struct, frozen=True, array_like=True, tag="c"):
    """What a file is made of."""

    id: int
    size: Length
    digest: Bytes16
    replication: int
    attributes: str | None
    """JSON."""
    extents: Extents


class LoggedExtents(Struct, frozen=True, array_like=True, tag="x"):
    """More extents of a content that came before."""

    content_id: int
    extents: Extents


class LoggedInode(Struct, frozen=True, array_like=True):
    """What is in a place."""

    id: int
    kind: int
    """0: a file, 1: a directory."""
    mode: int
    owner: str
    group: str
    mtime_ns: int
    version: int
    content_id: int | None
    attributes: str | None
    """JSON, of a directory; a file's are its content's."""


class LoggedPlace(Struct, frozen=True, array_like=True, tag="p"):
    """A name in a directory."""

    parent_id: int
    name: str
    path: str | None
    """From the root; None: no path leads there."""
    inode: LoggedInode | None
    """None: nothing is there."""


class LoggedChange(Struct, frozen=True, array_like=True, tag="g"):
    """A row of `change`."""

    seq: int
    n: int
    op: str
    inode_id: int
    parent_id: int | None
    name: str | None
    old_parent_id: int | None
    old_name: str | None
    content_id: int | None
    old_content_id: int | None
    before: bytes | None
    at_ms: int | None
    principal: str | None


Record = LoggedDatanode | LoggedChunk | LoggedContent | LoggedExtents | LoggedPlace | LoggedChange

_records = msgspec.msgpack.Decoder(list[Record])
_header = msgspec.msgpack.Decoder(BackupHeader)
_encoder = msgspec.msgpack.Encoder()


# --- writing ----------------------------------------------------------------------------------------------------


class BackupWriter:
    """Writes a backup into a file, in frames. `finish` completes it; a file without its end is no backup."""

    def __init__(self, file: BinaryIO, header: BackupHeader) -> None:
        self._file = file
        self._digest = xxhash.xxh3_128()
        self._frames = 0
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self.size = 0
        """Bytes written so far."""
        raw = _encoder.encode(header)
        front = _MAGIC + _U32.pack(len(raw)) + raw
        self._put(front + xxhash.xxh3_64_digest(front))

    def add_bytes(self, plain: Buffer) -> None:
        """Write a frame of a snapshot: at most FRAME_MAX bytes."""
        if len(plain) > FRAME_MAX:
            raise ValueError("a frame that is too long")
        if len(plain):
            self._frame(plain)

    def add_record(self, record: Record) -> None:
        """Write a record of changes."""
        raw = _encoder.encode(record)
        if self._waiting and self._waiting_size + len(raw) > FRAME_BYTES:
            self._flush()
        self._waiting.append(raw)
        self._waiting_size += len(raw)

    def finish(self) -> int:
        """Write the end; the size of the whole backup, bytes."""
        self._flush()
        self._put(_SIZES.pack(0, self._frames))
        end = self._digest.digest()
        self._file.write(end)
        self.size += len(end)
        return self.size

    def _flush(self) -> None:
        if self._waiting:
            # Each record is encoded already: an array of them is its head and then they.
            self._frame(b"\xdd" + struct.pack(">I", len(self._waiting)) + b"".join(self._waiting))
            self._waiting, self._waiting_size = [], 0

    def _frame(self, plain: Buffer) -> None:
        packed = zlib.compress(plain, _COMPRESSION)
        self._put(_SIZES.pack(len(packed), len(plain)) + xxhash.xxh3_64_digest(packed))
        self._put(packed)
        self._frames += 1

    def _put(self, raw: bytes) -> None:
        self._digest.update(raw)
        self._file.write(raw)
        self.size += len(raw)


# --- reading ----------------------------------------------------------------------------------------------------


class BackupReader:
    """Reads a backup from a file, and checks all of it on the way. `frames` must be read to its end to be sure."""

    def __init__(self, file: BinaryIO) -> None:
        """Raises CorruptReplica: it does not begin as a backup does, or is of a later version."""
        self._file = file
        self._digest = xxhash.xxh3_128()
        front = self._take(len(_MAGIC) + _U32.size)
        if not front.startswith(_MAGIC):
            raise CorruptReplica("not a backup of a namenode's store: it has no magic")
        (length,) = _U32.unpack_from(front, len(_MAGIC))
        if length > _HEADER_MAX:
            raise CorruptReplica("the header of the backup is damaged")
        raw = self._take(length)
        if self._take(8) != xxhash.xxh3_64_digest(front + raw):
            raise CorruptReplica("the header of the backup is damaged")
        try:
            self.header = _header.decode(raw)
        except msgspec.DecodeError as error:
            raise CorruptReplica(f"the header of the backup is not one: {error}") from None
        if self.header.version != FORMAT_VERSION:
            raise CorruptReplica(
                f"a backup of format {self.header.version}; this dfs reads {FORMAT_VERSION}: install a newer one"
            )

    def frames(self) -> Iterator[bytes]:
        """The plain bytes of each frame, in order. Raises CorruptReplica."""
        count = 0
        while True:
            packed_size, plain_size = _SIZES.unpack(self._take(_SIZES.size))
            if packed_size == 0:
                expected = self._digest.digest()
                if self._file.read(16) != expected or plain_size != count:
                    raise CorruptReplica("the end of the backup does not fit the rest of it")
                return
            if plain_size > FRAME_MAX or packed_size > FRAME_MAX + (FRAME_MAX >> 8) + 64:
                raise CorruptReplica(f"the frame {count} of the backup is damaged")
            digest = self._take(8)
            packed = self._take(packed_size)
            if xxhash.xxh3_64_digest(packed) != digest:
                raise CorruptReplica(f"the frame {count} of the backup is damaged")
            yield _inflate(packed, plain_size, count)
            count += 1

    def records(self) -> Iterator[Record]:
        """The records of changes, in order. Raises CorruptReplica."""
        for plain in self.frames():
            try:
                yield from _records.decode(plain)
            except msgspec.DecodeError as error:
                raise CorruptReplica(f"a record of the backup is none: {error}") from None

    def _take(self, size: int) -> bytes:
        raw = self._file.read(size)
        if len(raw) != size:
            raise CorruptReplica("the backup ends too early")
        self._digest.update(raw)
        return raw


def _inflate(packed: bytes, plain_size: int, number: int) -> bytes:
    inflating = zlib.decompressobj()
    try:
        plain = inflating.decompress(packed, plain_size + 1)
    except zlib.error as error:
        raise CorruptReplica(f"the frame {number} of the backup can't be read: {error}") from None
    if len(plain) != plain_size or not inflating.eof:
        raise CorruptReplica(f"the frame {number} of the backup has another length than it says")
    return plain


# --- what a rebuild wants to know -------------------------------------------------------------------------------


@dataclass(frozen=True)
class EntryExtent:
    """A piece of a file, with the facts of the chunk that it is in."""

    position: int
    chunk: str
    offset: int
    length: int
    digest: str
    chunk_length: int
    chunk_digest: str
    chunk_replication: int


@dataclass(frozen=True)
class LoggedEntry:
    """A file or directory at its path, as it was at the end of the changes."""

    path: str
    kind: Literal["file", "directory"]
    inode: LoggedInode
    size: int = 0
    digest: str = ""
    replication: int = 0
    attributes: dict[str, str] = field(default_factory=dict)
    extents: tuple[EntryExtent, ...] = ()


def entries(records: Iterable[Record]) -> Iterator[LoggedEntry]:
    """What the changes put somewhere and left there: each with its path at the end of them, once. Pure.

    Holds the facts of all chunks, and of one content. What was removed, or is below a directory that was, is not here.
    Raises   CorruptReplica: a file's content, or its chunk, does not come before it
    """
    chunks: dict[bytes, LoggedChunk] = {}
    content: LoggedContent | None = None
    extents: Extents = []
    for record in records:
        if isinstance(record, LoggedChunk):
            chunks[record.id] = record
        elif isinstance(record, LoggedContent):
            content, extents = record, list(record.extents)
        elif isinstance(record, LoggedExtents):
            if content is None or record.content_id != content.id:
                raise CorruptReplica("the changes have extents without their content")
            extents += record.extents
        elif isinstance(record, LoggedPlace) and record.inode is not None and record.path is not None:
            yield _entry(record.path, record.inode, content, extents, chunks)


def _entry(
    path: str,
    inode: LoggedInode,
    content: LoggedContent | None,
    extents: Extents,
    chunks: dict[bytes, LoggedChunk],
) -> LoggedEntry:
    if inode.kind == 1:
        return LoggedEntry(path, "directory", inode, attributes=_attributes(inode.attributes))
    if content is None or content.id != inode.content_id:
        raise CorruptReplica(f"the changes have the file {path} without its content")
    try:
        placed = tuple(_extent(extent, chunks[extent[1]]) for extent in extents)
    except KeyError as missing:
        raise CorruptReplica(f"the changes have the file {path} without its chunk {missing}") from None
    return LoggedEntry(
        path,
        "file",
        inode,
        size=content.size,
        digest=content.digest.hex(),
        replication=content.replication,
        attributes=_attributes(content.attributes),
        extents=placed,
    )


def _extent(extent: tuple[int, bytes, int, int, bytes], chunk: LoggedChunk) -> EntryExtent:
    position, _, offset, length, digest = extent
    return EntryExtent(
        position=position,
        chunk=chunk.id.hex(),
        offset=offset,
        length=length,
        digest=digest.hex(),
        chunk_length=chunk.length,
        chunk_digest=chunk.digest.hex(),
        chunk_replication=chunk.replication,
    )


def _attributes(text: str | None) -> dict[str, str]:
    try:
        return {} if text is None else msgspec.json.decode(text, type=dict[str, str])
    except msgspec.DecodeError:
        raise CorruptReplica("the changes have attributes that are none") from None
