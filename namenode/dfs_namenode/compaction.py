"""Which chunks are rewritten because most of them is dead, and how. Pure: facts in, at most one instruction out.

Separate because it is the policy; finding the candidates is `store.compaction`'s, and making the new chunk live is
`operations.composed`'s. The strategy:

    what counts   the distinct bytes that extents refer to: several extents on the same bytes count once. A chunk that
                  a draft introduced counts whole, for as long as the draft lives
    candidate     less than half of the chunk is live
    together      candidates that want the same number of replicas, the emptiest first, until the new chunk is full or
                  one transaction could not take more rows over
    worth it      SAVING_MIN bytes come back, or CHUNKS_MIN chunks become one: packs that hold a few small files each
                  win no space alone, and their rows and files do
    where         the datanode that has most of the bytes composes, so that little travels; it needs room, and so do
                  as many others as the chunk wants replicas: what is compacted must not need repair at once

A chunk with more rows than one transaction takes over goes in several steps, each of which leaves both chunks right.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from dfs.protocol.digests import BLOCK_SIZE
from dfs.protocol.errors import NotEnoughDatanodes
from dfs_namenode.liveness import ClusterView
from dfs_namenode.placement import Candidate as Room
from dfs_namenode.placement import choose_targets
from dfs_namenode.repair import Replica

SAVING_MIN = 1 << 20
"""Bytes below which copying costs more than it gives: what one row of a chunk and its files cost is far less."""
CHUNKS_MIN = 8
"""Chunks that are merged into one whatever the bytes: seven rows, and seven files on each datanode, are gone."""
ROWS_MAX = 4096
"""Extents that one transaction takes over. Bounds how long it holds the writer, as ITEMS_MAX bounds commits."""
SOURCES_MAX = 256
"""Chunks that one is made of. Bounds the command, and how long it takes to open and ask for each of them."""
ALIGNED_FROM = 1 << 20
"""Extents longer than this are read block by block if they begin one (see `dfs.layout`), and go on beginning one."""


class Piece(NamedTuple):
    """Bytes of a chunk that extents refer to, all with the same offset, length and digest."""

    offset: int
    length: int
    digest: bytes
    rows: int
    """How many extents."""

    @property
    def end(self) -> int:
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Sparse:
    """A chunk of which less than half is live."""

    chunk: str
    length: int
    digest: str
    replication: int
    pieces: tuple[Piece, ...]
    """By offset."""
    replicas: tuple[Replica, ...] = ()

    @property
    def live_bytes(self) -> int:
        return live_bytes(self.pieces)


class Move(NamedTuple):
    """Bytes that lie together in the old chunk, and do so in the new one."""

    offset: int
    length: int
    at: int
    """Offset in the new chunk."""
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """What of one chunk goes into the new one."""

    chunk: str
    length: int
    digest: str
    sources: tuple[str, ...]
    """Datanodes with a readable replica, best first."""
    moves: tuple[Move, ...]


@dataclass(frozen=True, slots=True)
class Composition:
    """Make one new chunk."""

    parts: tuple[Part, ...]
    length: int
    replication: int
    chain: tuple[str, ...]
    """Datanode ids in pipeline order; the first one composes."""


def live_bytes(pieces: Iterable[Piece]) -> int:
    """How many distinct bytes the pieces, given by offset, are."""
    total = end = 0
    for piece in pieces:
        total += max(0, piece.end - max(end, piece.offset))
        end = max(end, piece.end)
    return total


def is_sparse(length: int, live: int) -> bool:
    """Whether so little of a chunk is live that it is rewritten."""
    return live > 0 and live * 2 < length


def find_runs(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Pieces, given by offset, in groups that no cut between two groups goes through."""
    groups: list[list[Piece]] = []
    end = -1
    for piece in pieces:
        if piece.offset < end:
            groups[-1].append(piece)
        else:
            groups.append([piece])
        end = max(end, piece.end)
    return groups


def plan(
    candidates: Collection[Sparse],
    *,
    cluster: ClusterView,
    reserved: Mapping[str, int],
    busy: Collection[str],
    chunk_size: int,
    rng: Random,
) -> Composition | None:
    """The next new chunk to make; None: nothing that is worth it can be made now.

    candidates  those that nobody works on
    reserved    bytes granted lately by datanode
    busy        datanodes that compose now
    chunk_size  of a new chunk; only one candidate that has more live bytes makes a larger one
    """
    readable = [one for one in candidates if _sources(one, cluster)]
    for replication in sorted({one.replication for one in readable}):
        group = [one for one in readable if one.replication == replication]
        group.sort(key=lambda one: (one.live_bytes / one.length, one.chunk))
        taken = _fill(group, chunk_size)
        if not _worth_it(taken):
            # What saves most may have been in the way of nothing but a few that save little.
            group.sort(key=lambda one: (one.live_bytes - one.length, one.chunk))
            taken = _fill(group, chunk_size)
            if not _worth_it(taken):
                continue
        length = _end(taken)
        chain = _choose_chain(taken, length, replication, cluster, reserved, busy, rng)
        if chain:
            parts = tuple(
                Part(one.chunk, one.length, one.digest, tuple(_sources(one, cluster)), moves) for one, moves in taken
            )
            return Composition(parts, length, replication, chain)
    return None


def _sources(one: Sparse, cluster: ClusterView) -> list[str]:
    return cluster.rank(r.datanode for r in one.replicas if r.good and cluster.serves(r.datanode, r.volume))


Taken = list[tuple[Sparse, tuple[Move, ...]]]


def _fill(group: Sequence[Sparse], chunk_size: int) -> Taken:
    """As much of these chunks, in their order, as one new chunk takes."""
    taken: Taken = []
    rows = end = 0
    for one in group:
        if len(taken) == SOURCES_MAX:
            break
        if taken and end + one.live_bytes > chunk_size:
            continue
        moves, after, more_rows = _lay_out(one.pieces, end, ROWS_MAX - rows)
        whole = sum(len(move.pieces) for move in moves) == len(one.pieces)
        # A chunk of which something stays wins nothing yet: only one that is too much for any transaction is divided.
        if moves and (whole or not taken):
            taken.append((one, moves))
            rows += more_rows
            end = after
    return taken


def _lay_out(pieces: Sequence[Piece], end: int, rows_max: int) -> tuple[tuple[Move, ...], int, int]:
    """Places for these pieces behind `end`, for as many as the rows allow; the new end, and the rows."""
    moves: list[Move] = []
    rows = 0
    for group in find_runs(pieces):
        more = sum(piece.rows for piece in group)
        if rows + more > rows_max:
            break
        rows += more
        offset, length = group[0].offset, max(piece.end for piece in group) - group[0].offset
        large = any(piece.length > ALIGNED_FROM for piece in group)
        last = moves[-1] if moves else None
        if last is not None and last.offset + last.length == offset and not large:
            moves[-1] = last._replace(length=last.length + length, pieces=(*last.pieces, *group))
        else:
            if large and offset % BLOCK_SIZE == 0:
                end = -(-end // BLOCK_SIZE) * BLOCK_SIZE
            moves.append(Move(offset, length, end, tuple(group)))
        end = moves[-1].at + moves[-1].length
    return tuple(moves), end, rows


def _end(taken: Taken) -> int:
    last = taken[-1][1][-1]
    return last.at + last.length


def _worth_it(taken: Taken) -> bool:
    if not taken:
        return False
    if len(taken) >= CHUNKS_MIN:
        return True
    # Of a chunk that goes in several steps the saving is that of all of them.
    return sum(one.length - one.live_bytes for one, _ in taken) >= SAVING_MIN


def _choose_chain(
    taken: Taken,
    length: int,
    replication: int,
    cluster: ClusterView,
    reserved: Mapping[str, int],
    busy: Collection[str],
    rng: Random,
) -> tuple[str, ...]:
    """The datanodes of the new chunk, the one that composes first; none: there is no room, or nobody is free."""
    wanted = cluster.copies_wanted(replication)
    held: dict[str, int] = {}
    for one, moves in taken:
        for name in _sources(one, cluster):
            held[name] = held.get(name, 0) + sum(move.length for move in moves)

    def rank(room: Room) -> tuple[int, int, str]:
        return -held.get(room.id, 0), room.streams, room.id

    candidates = [room for room in cluster.candidates(reserved=reserved) if not room.suspect]
    for head in sorted((room for room in candidates if room.id not in busy), key=rank):
        try:
            chain = choose_targets(candidates, copies=wanted, bytes_needed=length, writer_id=head.id, rng=rng)
        except NotEnoughDatanodes:
            return ()
        if chain[0].id == head.id:
            return tuple(room.id for room in chain)
    return ()
