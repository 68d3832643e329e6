"""Which pieces are worth fetching in one request. Pure.

Thousands of small files lie side by side in a pack, and a reader that wants many of them should ask for the pack, not
for each. A run is a stretch of one chunk, within one grant, that holds several wanted extents and few unwanted bytes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from dfs.layout import PlacedExtent

GAP_MAX = 64 * 1024
"""Unwanted bytes between two wanted extents that are fetched rather than asking twice: about a request's cost."""
RUN_MAX = 4 << 20
"""Bytes of one run. A single larger extent is a run of its own."""


@dataclass(frozen=True)
class Run:
    """Extents of one chunk that one request fetches; `start` and `end` are offsets in the chunk."""

    start: int
    end: int
    extents: tuple[PlacedExtent, ...]


def runs(extents: Iterable[PlacedExtent], *, gap_max: int = GAP_MAX, run_max: int = RUN_MAX) -> list[Run]:
    """Group extents into runs, each inside one grant. Equal extents (copies of a file) are fetched once."""
    ordered = sorted(extents, key=lambda extent: (extent.chunk, extent.capability, extent.offset, extent.length))
    found: list[Run] = []
    group: list[PlacedExtent] = []
    start = end = 0
    for extent in ordered:
        last = group[-1] if group else None
        extent_end = extent.offset + extent.length
        joins = (
            last is not None
            and (last.chunk, last.capability) == (extent.chunk, extent.capability)
            and extent.offset <= end + gap_max
            and max(end, extent_end) - start <= run_max
        )
        if joins:
            end = max(end, extent_end)
        else:
            if group:
                found.append(Run(start, end, tuple(group)))
            group, start, end = [], extent.offset, extent_end
        group.append(extent)
    if group:
        found.append(Run(start, end, tuple(group)))
    return found
