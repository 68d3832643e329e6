"""The extents of an opened content, each with all that is needed to read it, and their renewal.

Separate from reading because a content is followed, not a path: what was opened is read to its end whatever becomes
of its name, and capabilities are renewed by the content's id. Only one window of extents is kept, so that a file of
any length costs little memory.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from msgspec import Struct

from dfs.namenodes import Namenodes
from dfs.protocol.clock import Clock
from dfs.protocol.digests import BLOCK_SIZE
from dfs.protocol.errors import BadAnswer
from dfs.protocol.messages import ChunkSource, Layout, LayoutExtent, Locate, ReadGrant, Target
from dfs.protocol.operations import LOCATE

RENEW_AFTER_S = 600.0
"""Age at which a window is asked for anew: well before capabilities end, and often enough that a content whose path
is gone is still kept for its reader."""
SMALL_EXTENT = 1 << 20
"""Extents up to this size are read whole and checked by their own digest: no table is needed."""


class PlacedExtent(Struct, frozen=True):
    """An extent at its place in a file, with its replicas and the leave to read them."""

    content: int
    position: int
    """Offset in the file, bytes."""
    chunk: str
    offset: int
    """In the chunk, bytes."""
    length: int
    digest: str
    chunk_length: int
    chunk_digest: str
    replicas: tuple[Target, ...]
    capability: str
    grant_start: int
    grant_end: int
    joined: bool = False
    """The capability is for this extent and others, not for what lies between them."""

    @property
    def end(self) -> int:
        """Offset in the file behind the extent."""
        return self.position + self.length

    @property
    def by_blocks(self) -> bool:
        """Whether any part of it can be read and checked alone, with the chunk's table.

        Only if it consists of whole blocks of its chunk; else the blocks at its ends would show a neighbour's bytes.
        """
        end = self.offset + self.length
        whole = self.offset % BLOCK_SIZE == 0 and (end % BLOCK_SIZE == 0 or end == self.chunk_length)
        return whole and self.length > SMALL_EXTENT


def place(
    content: int, extents: Iterable[LayoutExtent], chunks: Mapping[str, ChunkSource], grants: Sequence[ReadGrant]
) -> Iterator[PlacedExtent]:
    """Join an answer's extents with its chunks and grants. Raises BadAnswer: they don't belong together."""
    for extent in extents:
        source = chunks.get(extent.chunk)
        if source is None or not 0 <= extent.grant < len(grants):
            raise BadAnswer("the namenode's answer has an extent without its chunk or grant")
        grant = grants[extent.grant]
        if extent.length <= 0 or extent.offset < 0 or extent.offset + extent.length > source.length:
            raise BadAnswer("the namenode's answer has an extent that lies outside of its chunk")
        yield PlacedExtent(
            content=content,
            position=extent.position,
            chunk=extent.chunk,
            offset=extent.offset,
            length=extent.length,
            digest=extent.digest,
            chunk_length=source.length,
            chunk_digest=source.digest,
            replicas=tuple(source.replicas),
            capability=grant.capability,
            grant_start=grant.start,
            grant_end=grant.end,
            joined=grant.joined,
        )


def renew(namenodes: Namenodes, extent: PlacedExtent) -> PlacedExtent:
    """The same extent with fresh replicas and a fresh capability. It may lie in another chunk by now.

    Raises  VersionGone: the content is no longer kept
    """
    layout = namenodes.call(LOCATE, Locate(content=extent.content, offset=extent.position, length=extent.length))
    for found in place(layout.content, layout.extents, layout.chunks, layout.grants):
        if found.position == extent.position and found.length == extent.length and found.digest == extent.digest:
            return found
    raise BadAnswer("the namenode describes a content differently than before")


@dataclass(frozen=True)
class _Window:
    """Extents that follow each other without a gap."""

    extents: tuple[PlacedExtent, ...]
    positions: tuple[int, ...]
    loaded_s: float

    @property
    def end(self) -> int:
        return self.extents[-1].end if self.extents else 0


class Content:
    """A content that was opened. Usable from several threads."""

    def __init__(self, layout: Layout, namenodes: Namenodes, clock: Clock) -> None:
        self.id = layout.content
        self.size = layout.size
        self._namenodes = namenodes
        self._clock = clock
        self._window = self._place(layout)

    def _place(self, layout: Layout) -> _Window:
        extents = tuple(place(layout.content, layout.extents, layout.chunks, layout.grants))
        for before, after in pairwise(extents):
            if before.end != after.position:
                raise BadAnswer("the namenode's answer has a gap between two extents")
        return _Window(extents, tuple(extent.position for extent in extents), self._clock.monotonic_s())

    def at(self, position: int) -> PlacedExtent:
        """The extent that holds the byte at `position`, which is below `size`.

        Raises  VersionGone: the content is no longer kept
        """
        window = self._window
        fresh = self._clock.monotonic_s() - window.loaded_s < RENEW_AFTER_S
        if not (fresh and window.extents and window.positions[0] <= position < window.end):
            window = self._place(self._namenodes.call(LOCATE, Locate(content=self.id, offset=position)))
            if not (window.extents and window.positions[0] <= position < window.end):
                raise BadAnswer("the namenode's answer does not hold the bytes that were asked for")
            self._window = window
        return window.extents[bisect_right(window.positions, position) - 1]

    def extents(self, start: int, end: int) -> Iterator[PlacedExtent]:
        """The extents that hold the bytes [start, end) of the file, in order."""
        position, end = start, min(end, self.size)
        while position < end:
            extent = self.at(position)
            yield extent
            position = extent.end
