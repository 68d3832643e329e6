"""Which pieces are worth fetching in one request. Pure.

Thousands of small files lie side by side in a pack, and a reader that wants many of them should ask for the pack, not
for each. A run is what one request brings: a stretch of one chunk that holds several wanted extents and few unwanted
bytes; or, under a grant that allows only the extents themselves, several stretches of wanted bytes alone.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dfs.layout import PlacedExtent
from dfs.protocol.operations import RANGES_BYTES_MAX, RANGES_MAX

GAP_MAX = 64 * 1024
"""Unwanted bytes between two wanted extents that are fetched rather than asking twice: about a request's cost."""
RUN_MAX = 4 << 20
"""Bytes of one run. A single larger extent is a run of its own."""


@dataclass(frozen=True)
class Run:
    """Extents of one chunk, in the order of their offsets, that one request fetches."""

    extents: tuple[PlacedExtent, ...]
    stretches: tuple[tuple[int, int], ...]
    """Start and end of each, as offsets in the chunk; they hold the extents, and do not touch each other."""

    @property
    def start(self) -> int:
        return self.stretches[0][0]

    @property
    def length(self) -> int:
        """Bytes that are fetched."""
        return sum(end - start for start, end in self.stretches)

    def cut(self, buffer: memoryview) -> Iterator[tuple[PlacedExtent, memoryview]]:
        """Each extent with its bytes, out of those of all stretches, one behind the other."""
        stretches = iter(self.stretches)
        start, end = next(stretches)
        place = 0
        for extent in self.extents:
            while extent.offset >= end:
                place += end - start
                start, end = next(stretches)
            here = place + extent.offset - start
            yield extent, buffer[here : here + extent.length]


def alone(extent: PlacedExtent) -> Run:
    """The run of one extent."""
    return Run((extent,), ((extent.offset, extent.offset + extent.length),))


def runs(extents: Iterable[PlacedExtent], *, gap_max: int = GAP_MAX, run_max: int = RUN_MAX) -> list[Run]:
    """Group extents into runs, each inside one grant. Equal extents (copies of a file) are fetched once."""
    ordered = sorted(extents, key=lambda extent: (extent.chunk, extent.capability, extent.offset, extent.length))
    found: list[Run] = []
    group: list[PlacedExtent] = []
    stretches: list[tuple[int, int]] = []
    size = 0
    stretches_size = min(run_max, RANGES_BYTES_MAX)
    for extent in ordered:
        end = extent.offset + extent.length
        last = group[-1] if group else None
        if last is not None and (last.chunk, last.capability) == (extent.chunk, extent.capability):
            more = max(end - stretches[-1][1], 0)
            gap = extent.offset - stretches[-1][1]
            if gap <= (0 if extent.joined else gap_max):
                if size + more <= run_max:
                    stretches[-1] = (stretches[-1][0], stretches[-1][1] + more)
                    size += more
                    group.append(extent)
                    continue
            elif extent.joined and len(stretches) < RANGES_MAX and size + extent.length <= stretches_size:
                stretches.append((extent.offset, end))
                size += extent.length
                group.append(extent)
                continue
        if group:
            found.append(Run(tuple(group), tuple(stretches)))
        group, stretches, size = [extent], [(extent.offset, end)], extent.length
    if group:
        found.append(Run(tuple(group), tuple(stretches)))
    return found
