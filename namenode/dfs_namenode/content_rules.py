"""Which extents may become a file's content, and what the content's digest is. Pure.

Separate because these rules keep a client from reading another's bytes through an extent of its own making: a chunk
enters a file only in the request that introduces it (or through the draft that did); afterwards bytes are shared by
`copy` alone, which names a file and not a chunk.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import xxhash

from dfs.protocol.digests import EMPTY_DIGEST
from dfs.protocol.errors import InvalidRequest, PreconditionFailed
from dfs.protocol.messages import Extent

EXTENTS_MAX = 1 << 18
"""Extents of one file: 16 TiB in chunks of 64 MiB. Bounds how long a copy of it holds the writer."""

_EMPTY = bytes.fromhex(EMPTY_DIGEST)
_LENGTH = struct.Struct("<Q")


class ChunkFacts(NamedTuple):
    """What an extent is checked against."""

    length: int
    digest: str


def check_extents(extents: Iterable[Extent], chunks: Mapping[str, ChunkFacts]) -> None:
    """Raise InvalidRequest unless each extent lies within one of these chunks.

    chunks   those that the request, or its draft, introduces
    """
    for extent in extents:
        facts = chunks.get(extent.chunk)
        if facts is None:
            raise InvalidRequest(
                f"the chunk {extent.chunk} is not introduced by this request; bytes are shared by copying a file",
                chunk=extent.chunk,
            )
        if extent.offset + extent.length > facts.length:
            raise InvalidRequest(f"an extent reaches beyond the end of the chunk {extent.chunk}", chunk=extent.chunk)
        if extent.length == facts.length and extent.digest != facts.digest:
            raise InvalidRequest(
                f"an extent is the whole chunk {extent.chunk}, but has another digest", chunk=extent.chunk
            )


def check_cut(parts: Sequence[Extent], chunk: str, offset: int, keep: int) -> None:
    """Check what is said to be left of an extent of `chunk` that begins at `offset`: its first `keep` bytes.

    Raises  PreconditionFailed: the bytes are in another chunk by now; InvalidRequest: the parts are not these bytes
    """
    if any(part.chunk != chunk for part in parts):
        raise PreconditionFailed("the bytes were moved to another chunk meanwhile; open the file again")
    for part in parts:
        if part.offset != offset:
            raise InvalidRequest("the parts of an extent that is cut must follow each other from its start")
        offset, keep = offset + part.length, keep - part.length
    if keep:
        raise InvalidRequest("the parts of an extent that is cut must be all that is left of it")


def content_digest(pieces: Iterable[tuple[int, bytes]]) -> bytes:
    """The digest of a content, from the (length, digest) of its extents in order.

    No extents: that of no bytes. One: its own, so that equal small files have equal digests. More: xxh3_128 over the
    list of u64 length (little-endian) and digest.
    """
    listed = list(pieces)
    if not listed:
        return _EMPTY
    if len(listed) == 1:
        return listed[0][1]
    state = xxhash.xxh3_128()
    for length, digest in listed:
        state.update(_LENGTH.pack(length) + digest)
    return state.digest()
