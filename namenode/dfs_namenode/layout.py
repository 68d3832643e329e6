"""What a reader gets to know: which bytes of which chunks, where they are, and leave to read them.

Separate because open, open_many and locate answer with the same parts. A capability covers a run of bytes, so that a
reader of many small files that lie side by side in one pack needs one, and never more than the bytes of its files.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dfs.protocol.capability import RUNS_MAX, sign_capability
from dfs.protocol.messages import ChunkSource, Layout, LayoutExtent, ReadGrant
from dfs_namenode.keys import NodeKeys
from dfs_namenode.liveness import ClusterView
from dfs_namenode.store import chunks, contents
from dfs_namenode.store.contents import ExtentRow
from dfs_namenode.store.transaction import Snapshot

EXTENTS_IN_ANSWER_MAX = 256
"""Extents of one answer; the reader goes on with locate. Bounds how long one answer keeps the event loop."""


class Run(NamedTuple):
    """The bytes [start, end) of a chunk."""

    chunk: bytes
    start: int
    end: int


@dataclass(frozen=True)
class Granting:
    """What it takes to give a principal leave to read: who is there, the keys, until when."""

    principal: str
    cluster: ClusterView
    keys: NodeKeys
    expires_ms: int


def find_runs(extents: Sequence[ExtentRow]) -> tuple[list[Run], list[int]]:
    """Merge extents that touch or overlap into runs. Pure.

    Returns   the runs, and for each extent the index of the run that it lies in
    """
    runs: list[Run] = []
    index_of = [0] * len(extents)
    for number in sorted(range(len(extents)), key=lambda n: (extents[n].chunk, extents[n].offset)):
        extent = extents[number]
        end = extent.offset + extent.length
        if runs and runs[-1].chunk == extent.chunk and extent.offset <= runs[-1].end:
            runs[-1] = runs[-1]._replace(end=max(end, runs[-1].end))
        else:
            runs.append(Run(extent.chunk, extent.offset, end))
        index_of[number] = len(runs) - 1
    return runs, index_of


def join_runs(runs: Sequence[Run], index_of: Sequence[int]) -> tuple[list[list[Run]], list[int]]:
    """Collect the runs of each chunk into lists that one capability covers. Pure.

    runs      as `find_runs` orders them
    Returns   the lists, and for each extent the index of the list that its run is in
    """
    joined: list[list[Run]] = []
    place_of = []
    for run in runs:
        if joined and joined[-1][0].chunk == run.chunk and len(joined[-1]) < RUNS_MAX:
            joined[-1].append(run)
        else:
            joined.append([run])
        place_of.append(len(joined) - 1)
    return joined, [place_of[index] for index in index_of]


def chunk_sources(snapshot: Snapshot, chunk_ids: Iterable[bytes], cluster: ClusterView) -> dict[str, ChunkSource]:
    """Each chunk with the replicas that can be read now, best first.

    Bad ones only where nothing else is left: of a replica with one rotten block the others are still good, and several
    such replicas may have every block between them (F42). The reader checks each block anyway.
    """
    sources: dict[str, ChunkSource] = {}
    for chunk in dict.fromkeys(chunk_ids):
        facts = chunks.facts(snapshot, chunk)
        assert facts is not None, "an extent's chunk has a row for as long as the extent exists"
        serving = _serving(chunks.good_replicas(snapshot, chunk), cluster)
        if not serving:
            # Readers verify every block: bad replicas that are bad in different places still make a whole (F42).
            serving = _serving(chunks.bad_replicas(snapshot, chunk), cluster)
        sources[chunk.hex()] = ChunkSource(length=facts[0], digest=facts[1].hex(), replicas=cluster.readers(serving))
    return sources


def _serving(places: Iterable[tuple[str, str]], cluster: ClusterView) -> list[str]:
    return [datanode for datanode, volume in places if cluster.serves(datanode, volume)]


def sign_runs(joined: Iterable[Sequence[Run]], sources: dict[str, ChunkSource], granting: Granting) -> list[ReadGrant]:
    """A capability for each list of runs of one chunk, good at every replica that is listed."""
    grants = []
    chains: dict[str, dict[str, bytes]] = {}
    for runs in joined:
        chunk = runs[0].chunk.hex()
        chain = chains.get(chunk)
        if chain is None:
            chain = chains[chunk] = granting.keys.chain([target.datanode for target in sources[chunk].replicas])
        capability = sign_capability(
            chain,
            operation="r",
            chunk=chunk,
            start=runs[0].start,
            end=runs[-1].end,
            expires_ms=granting.expires_ms,
            principal=granting.principal,
            runs=[number for run in runs for number in (run.start, run.end)] if len(runs) > 1 else (),
        )
        grants.append(ReadGrant(chunk, runs[0].start, runs[-1].end, capability, len(runs) > 1))
    return grants


def placed(extents: Sequence[ExtentRow], index_of: Sequence[int]) -> list[LayoutExtent]:
    """Extents as an answer shows them."""
    return [
        LayoutExtent(row.position, row.chunk.hex(), row.offset, row.length, row.digest.hex(), grant)
        for row, grant in zip(extents, index_of, strict=True)
    ]


def layout_of(
    snapshot: Snapshot, content_id: int, size: int, *, offset: int, length: int | None, granting: Granting
) -> Layout:
    """The layout of a window of a content; what does not fit into one answer begins at `next_offset`."""
    end = size if length is None else min(size, offset + length)
    rows = contents.window(snapshot, content_id, start=offset, end=end, limit=EXTENTS_IN_ANSWER_MAX + 1)
    next_offset = rows[EXTENTS_IN_ANSWER_MAX].position if len(rows) > EXTENTS_IN_ANSWER_MAX else None
    rows = rows[:EXTENTS_IN_ANSWER_MAX]
    runs, index_of = find_runs(rows)
    sources = chunk_sources(snapshot, [row.chunk for row in rows], granting.cluster)
    return Layout(
        content=content_id,
        size=size,
        extents=placed(rows, index_of),
        chunks=sources,
        grants=sign_runs([[run] for run in runs], sources, granting),
        next_offset=next_offset,
        expires_ms=granting.expires_ms,
    )
