"""Recovery hints: what a chunk says of itself to somebody who has nothing but chunks.

A chunk knows no paths; the namenode does. Hints are the exception for the worst day, when the namenode's store is gone
and with it what was written after its last backup: the writer encloses in each chunk where its bytes belong. The other
roles carry them as bytes that they can check and need not understand.

Separate from `chunk_format`, which knows where they lie, because what they say grows with what can be rebuilt. They
are hints: names as of the time of writing, of uploads that may never have been committed. Nothing but a rebuild may
act on them, and that only after it has verified the chunk.

The encoded form, at most HINTS_MAX bytes:

    u8 version · body · 8 xxh3_64 of everything before (big-endian, as everywhere)

The digest is at the end in every version, so that also a datanode that does not know a later version can tell whether
hints are whole. In version 1 the body is a zlib stream of the MessagePack form of `Hints`.
"""

import zlib
from typing import Annotated, Literal

import msgspec
import xxhash
from msgspec import Meta, Struct

from dfs.protocol.digests import Buffer
from dfs.protocol.messages.base import IdOrNothing, Length, Path, TimeMs, Version

HINTS_MAX = 64 * 1024
"""Bytes of encoded hints in one chunk: what 2000 small files in a pack need, and 0.1 % of a chunk of 64 MiB."""
_VERSION = 1
_DIGEST_SIZE = xxhash.xxh3_64().digest_size
_PLAIN_MAX = 4 << 20
"""Bytes of the body before compression: a damaged or hostile one can't fill the memory of whoever reads it."""
_COMPRESSION = 1
"""zlib's fastest: paths of one tree share so much that more effort gains little."""


class FileHint(Struct, frozen=True, array_like=True):
    """Where some bytes of the chunk belong, as their writer knew it."""

    path: Path
    offset: Length
    """In the chunk."""
    length: Length
    position: Length
    """Of the first of these bytes in the file."""
    size: Annotated[int, Meta(ge=-1, le=(1 << 62))]
    """Of the whole file; -1: not known yet when this chunk was written."""
    upload: IdOrNothing
    """The same in all pieces of one version that one writer wrote, and in no other's."""


class FilesHint(Struct, frozen=True, tag="files"):
    """Whose bytes a chunk holds."""

    written_ms: TimeMs
    """When the upload began, or when compaction made the chunk, in the namenode's time as its maker knew it."""
    files: list[FileHint]
    complete: bool
    """False: the chunk has files that did not fit into the hints; they are the last ones."""


class MetadataHint(Struct, frozen=True, tag="metadata"):
    """Which part of which backup of the namenode's store a chunk holds."""

    what: Literal["snapshot", "changes"]
    from_seq: Version
    to_seq: Version
    part: Annotated[int, Meta(ge=0)]
    parts: Annotated[int, Meta(ge=1)]
    size: Length
    """Of all parts together."""
    made_ms: TimeMs
    cluster: IdOrNothing


Hints = FilesHint | MetadataHint

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Hints] = msgspec.msgpack.Decoder(Hints)


def encode_hints(hints: Hints) -> bytes:
    """At most HINTS_MAX bytes. Files that do not fit are dropped from the end, and `complete` is False then."""
    encoded, times_allowed = _encoded(hints)
    count = len(hints.files) if isinstance(hints, FilesHint) else 0
    while times_allowed > 1:
        assert isinstance(hints, FilesHint), "what describes a backup always fits"
        assert count, "hints without files always fit"
        # Files need about the same room each; where they do not, the rest of the way goes in small steps.
        count = min(count - 1, int(count / times_allowed * 0.98))
        encoded, times_allowed = _encoded(FilesHint(hints.written_ms, hints.files[:count], complete=False))
    return encoded


def _encoded(hints: Hints) -> tuple[bytes, float]:
    """The encoded form, and how many times as large as allowed it is; of one that is far too large only the latter."""
    plain = _encoder.encode(hints)
    if len(plain) > _PLAIN_MAX:
        return b"", len(plain) / _PLAIN_MAX
    body = bytes((_VERSION,)) + zlib.compress(plain, _COMPRESSION)
    encoded = body + xxhash.xxh3_64_digest(body)
    return encoded, len(encoded) / HINTS_MAX


def hints_are_whole(raw: Buffer) -> bool:
    """Whether encoded hints of any version arrived as they were made. No hints at all are whole."""
    raw = memoryview(raw)
    if not raw:
        return True
    if not _DIGEST_SIZE < len(raw) <= HINTS_MAX:
        return False
    return xxhash.xxh3_64_digest(raw[:-_DIGEST_SIZE]) == bytes(raw[-_DIGEST_SIZE:])


def decode_hints(raw: Buffer) -> Hints | None:
    """What encoded hints say. None: there are none, or they are damaged, or of a later version."""
    raw = memoryview(raw)
    if not raw or not hints_are_whole(raw) or raw[0] != _VERSION:
        return None
    inflating = zlib.decompressobj()
    try:
        plain = inflating.decompress(raw[1:-_DIGEST_SIZE], _PLAIN_MAX)
        if not inflating.eof:
            return None
        return _decoder.decode(plain)
    except (zlib.error, msgspec.DecodeError):
        return None
