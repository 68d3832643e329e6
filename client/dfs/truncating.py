"""Making a file shorter: which extent is cut, and the digests of what is left of it.

Separate because the namenode, which has no bytes, can't compute them: the client that asks does, from the chunk's table
of block digests and the bytes of one block. What is left is at most two extents, one of whole blocks, so that ranges of
it can still be read alone, and the rest of the last block.
"""

from collections.abc import Callable

from dfs.fetcher import Fetcher
from dfs.get_tree import Downloads
from dfs.layout import PlacedExtent
from dfs.protocol.digests import BLOCK_SIZE, TreeHasher, root_digest, tree_digest
from dfs.protocol.errors import InvalidRequest, PreconditionFailed
from dfs.protocol.messages import Extent, Outcome, Truncate
from dfs.reader import PART_SIZE

TRIES_MAX = 5
"""Attempts against others who change the file meanwhile."""


def truncate(
    downloads: Downloads,
    act: Callable[[Truncate], list[Outcome]],
    path: str,
    size: int,
    *,
    if_version: int | None,
) -> Outcome:
    """Options and errors as for Client.truncate."""
    if size < 0:
        raise InvalidRequest(f"{path}: {size} is not a size")
    for last in (False,) * (TRIES_MAX - 1) + (True,):
        entry, reader = downloads.reader(path, offset=min(size, 1 << 62), length=1)
        if if_version is not None and entry.version != if_version:
            raise PreconditionFailed(
                f"{path}: version {if_version} was expected, but version {entry.version} is there", path=path
            )
        tail: list[Extent] = []
        if size < entry.size:
            extent = reader.content.at(size)
            tail = cut(downloads.fetcher, extent, size - extent.position)
        try:
            return act(Truncate(path=path, size=size, tail=tail, if_version=entry.version))[0]
        except PreconditionFailed:
            if last:
                raise
    raise AssertionError("the last attempt returns or raises")


def cut(fetcher: Fetcher, extent: PlacedExtent, keep: int) -> list[Extent]:
    """The first `keep` bytes of an extent as extents of their own; none for no bytes."""
    if keep == 0:
        return []
    if not extent.by_blocks:
        view = memoryview(bytearray(extent.length))
        fetcher.read(extent, 0, extent.length, view)
        return [Extent(extent.chunk, extent.offset, keep, tree_digest(view[:keep]))]
    parts = []
    whole = keep - keep % BLOCK_SIZE
    if whole:
        parts.append(Extent(extent.chunk, extent.offset, whole, _digest_of_blocks(fetcher, extent, whole)))
    if keep > whole:
        end = min(whole + BLOCK_SIZE, extent.length)
        view = memoryview(bytearray(end - whole))
        fetcher.read(extent, whole, end, view)
        digest = tree_digest(view[: keep - whole])
        parts.append(Extent(extent.chunk, extent.offset + whole, keep - whole, digest))
    return parts


def _digest_of_blocks(fetcher: Fetcher, extent: PlacedExtent, length: int) -> str:
    """The digest of the first `length` bytes, which are whole blocks."""
    if extent.offset == 0 and extent.length == extent.chunk_length:
        table = bytes(fetcher.table(extent))
        return root_digest(
            length, table[: len(table) // -(-extent.length // BLOCK_SIZE) * (length // BLOCK_SIZE)]
        ).hex()
    hasher = TreeHasher()
    for start in range(0, length, PART_SIZE):
        end = min(start + PART_SIZE, length)
        view = memoryview(bytearray(end - start))
        fetcher.read(extent, start, end, view)
        hasher.update(view)
    return root_digest(length, bytes(hasher.table())).hex()
