"""The digest of a whole file's content, whatever chunks it lies in.

Separate because it is the only place where the digest trees of extents are joined: the tables of chunks that lie at a
block's border of the file are used as they are, without reading the data; only the other extents are read.

The digest is the same tree that chunks use (16 KiB blocks, xxh3_64 each, xxh3_128 over length and table), over the
bytes of the file and nothing else: two files have the same one if and only if they have the same bytes, and
`dfs.protocol.digests.TreeHasher` computes it for a local file.
"""

from dfs.fetcher import Fetcher
from dfs.layout import Content, PlacedExtent
from dfs.protocol.digests import BLOCK_SIZE, TreeHasher, root_digest
from dfs.reader import PART_SIZE

ALGORITHM = "xxh3-tree"


def checksum(content: Content, fetcher: Fetcher) -> str:
    """The algorithm and 32 hex digits, with a colon between them."""
    table = bytearray()
    hasher = TreeHasher()
    for extent in content.extents(0, content.size):
        if extent.position == 0 and extent.length == content.size:
            return f"{ALGORITHM}:{extent.digest}"
        if hasher.length % BLOCK_SIZE == 0:
            table += hasher.table()
            hasher = TreeHasher()
        if not hasher.length and _joins(extent, content.size):
            table += fetcher.table(extent)
        else:
            _read(extent, fetcher, hasher)
    table += hasher.table()
    return f"{ALGORITHM}:{root_digest(content.size, bytes(table)).hex()}"


def _joins(extent: PlacedExtent, size: int) -> bool:
    """Whether the blocks of the extent's chunk are those of the file."""
    whole = extent.by_blocks and extent.offset == 0 and extent.length == extent.chunk_length
    return whole and (extent.length % BLOCK_SIZE == 0 or extent.end == size)


def _read(extent: PlacedExtent, fetcher: Fetcher, hasher: TreeHasher) -> None:
    step = PART_SIZE if extent.by_blocks else extent.length
    for start in range(0, extent.length, step):
        end = min(start + step, extent.length)
        view = memoryview(bytearray(end - start))
        fetcher.read(extent, start, end, view)
        hasher.update(view)
