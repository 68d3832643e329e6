"""Ranges of many files in one call: asked for in batches, fetched by runs of their chunks, in parallel.

Separate because the order of the request, of the chunks and of the answer differ: ranges are collected by chunk, so
that thousands of small files cost as many requests as they have packs, and then put back in the caller's order.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import NamedTuple, TypeVar

from dfs.fetcher import Fetcher
from dfs.layout import Content, PlacedExtent, place
from dfs.namenodes import Namenodes
from dfs.protocol.chunk_format import block_range
from dfs.protocol.clock import Clock
from dfs.protocol.digests import BLOCK_SIZE
from dfs.protocol.errors import BY_CODE, BadAnswer, DfsError, InvalidRequest
from dfs.protocol.messages import Entry, Open, OpenMany
from dfs.protocol.operations import OPEN, OPEN_MANY, RANGES_BYTES_MAX, RANGES_MAX
from dfs.reader import PART_SIZE, Part, Reader
from dfs.runs import GAP_MAX, Run, runs
from dfs.workers import Workers

T = TypeVar("T")

BATCH_FILES = 250
"""Opened in one call, while the ranges of those before them are read."""
BATCHES_AHEAD = 2
RUN_BYTES = 1 << 20
"""Fetched at once: so much that a request costs little, so little that several threads have some."""

Range = tuple[str, int, int | None]
"""Path, start, end (not included; None: the end of the file)."""


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most `size` items."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


class Found(NamedTuple):
    """One file of an answer of open_many: its entry with its extents, or an error."""

    path: str
    entry: Entry | None = None
    extents: tuple[PlacedExtent, ...] = ()
    complete: bool = True
    """False: it has more extents than these; it is to be opened alone."""
    error: DfsError | None = None


def open_many(namenodes: Namenodes, paths: Sequence[str]) -> list[Found]:
    """Open at most OPEN_MANY_MAX files in one call; an answer for each, in order."""
    answer = namenodes.call(OPEN_MANY, OpenMany(paths=list(paths), joined=True))
    if len(answer.files) != len(paths):
        raise BadAnswer("the namenode did not answer for each path")
    found: list[Found] = []
    for path, file in zip(paths, answer.files, strict=True):
        if file.entry is None:
            kind = BY_CODE.get(file.code, BadAnswer)
            found.append(Found(path, error=kind(file.message or f"{path}: can't be opened", path=path)))
        else:
            extents = tuple(place(file.content, file.extents, answer.chunks, answer.grants))
            found.append(Found(path, file.entry, extents, file.complete))
    return found


_making_buffers = threading.Lock()
"""Two threads may have parts of one range."""


class _Wanted:
    """A range of a file, being filled; `start` and `end` are clamped to the file."""

    __slots__ = ("_buffer", "data", "end", "start")

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self.data = b""
        """All of it, once all that it consists of has been taken."""
        self._buffer: bytearray | None = None

    def take(self, data: memoryview, position: int) -> None:
        """Take what `data`, which begins at `position` of the file, has of this range."""
        low, high = max(self.start, position), min(self.end, position + len(data))
        if low == self.start and high == self.end:
            self.data = bytes(data[low - position : high - position])
        elif low < high:
            with _making_buffers:
                if self._buffer is None:
                    self._buffer = bytearray(self.end - self.start)
            self._buffer[low - self.start : high - self.start] = data[low - position : high - position]

    def finish(self) -> bytes:
        """The bytes."""
        return self.data if self._buffer is None else bytes(self._buffer)


Group = list[tuple[Part, list[_Wanted]]]
"""Parts of one extent that are fetched together, each with those who want some of it."""


class ManyReader:
    """Reads ranges of many files."""

    def __init__(
        self, namenodes: Namenodes, fetcher: Fetcher, workers: Workers, clock: Clock, *, parallel: int
    ) -> None:
        self._namenodes = namenodes
        self._fetcher = fetcher
        self._workers = workers
        self._clock = clock
        self._parallel = parallel

    def read(self, ranges: Sequence[Range]) -> list[bytes]:
        """The bytes of each range, in order; shorter where a file ends before.

        Raises  the error of the first range that can't be read
        """
        by_path: dict[str, list[int]] = {}
        for index, (path, start, end) in enumerate(ranges):
            if start < 0 or (end is not None and end < start):
                raise InvalidRequest(f"{path}: {start} to {end} is not a range of bytes")
            by_path.setdefault(path, []).append(index)
        answers: list[bytes] = [b""] * len(ranges)
        wanted: dict[int, _Wanted] = {}

        def opened(paths: list[str]) -> list[Found]:
            return open_many(self._namenodes, paths)

        with closing(self._workers.map(opened, batches(by_path, BATCH_FILES), ahead=BATCHES_AHEAD)) as batch:
            jobs = self._jobs(batch, by_path, ranges, wanted, answers)
            for _ in self._workers.map(lambda job: job(), jobs, ahead=self._parallel):
                pass
        for index, want in wanted.items():
            answers[index] = want.finish()
        return answers

    def _jobs(
        self,
        opened: Iterable[list[Found]],
        by_path: dict[str, list[int]],
        ranges: Sequence[Range],
        wanted: dict[int, _Wanted],
        answers: list[bytes],
    ) -> Iterator[Callable[[], None]]:
        """What the threads have to do. A range of a file with too many extents for one answer is read here."""
        for found in opened:
            users: dict[PlacedExtent, list[_Wanted]] = {}
            for file in found:
                if file.error is not None:
                    raise file.error
                assert file.entry is not None, "an answer without an error has an entry"
                reader = None if file.complete else self._reader(file.path)
                for index in by_path[file.path]:
                    _, start, end = ranges[index]
                    if reader is not None:
                        answers[index] = reader.read(start, reader.size if end is None else end)
                        continue
                    size = file.entry.size
                    want = wanted[index] = _Wanted(min(start, size), size if end is None else min(end, size))
                    for extent in file.extents:
                        if extent.position < want.end and want.start < extent.end:
                            users.setdefault(extent, []).append(want)
            yield from self._fetches(users)

    def _reader(self, path: str) -> Reader:
        opened = self._namenodes.call(OPEN, Open(path=path))
        content = Content(opened.layout, self._namenodes, self._clock)
        return Reader(content, self._fetcher, self._workers, parallel=self._parallel)

    def _fetches(self, users: dict[PlacedExtent, list[_Wanted]]) -> Iterator[Callable[[], None]]:
        for run in runs((extent for extent in users if not extent.by_blocks), run_max=RUN_BYTES):
            yield partial(self._read_run, run, users)
        for extent, wants in users.items():
            if extent.by_blocks:
                wants.sort(key=lambda want: want.start)
                for group in grouped(parts_with_users(extent, wants)):
                    yield partial(self._read_parts, extent, group)

    def _read_run(self, run: Run, users: dict[PlacedExtent, list[_Wanted]]) -> None:
        for extent, data in zip(run.extents, self._fetcher.read_run(run), strict=True):
            for want in users[extent]:
                want.take(data, extent.position)

    def _read_parts(self, extent: PlacedExtent, group: Group) -> None:
        if len(group) == 1:
            part, wants = group[0]
            view = memoryview(bytearray(part.length))
            self._fetcher.read(extent, part.start, part.end, view)
            for want in wants:
                want.take(view, part.position)
            return
        ranges = [block_range(extent.offset + part.start, part.length, extent.chunk_length) for part, _ in group]
        for (start, _), view, (_, wants) in zip(ranges, self._fetcher.read_ranges(extent, ranges), group, strict=True):
            for want in wants:
                want.take(view, extent.position + start - extent.offset)


def parts_with_users(extent: PlacedExtent, wants: Sequence[_Wanted]) -> Iterator[tuple[Part, list[_Wanted]]]:
    """The parts of an extent that hold what is wanted of it, each with those who want some of it. Pure.

    wants   in the order of their starts
    """
    following = 0
    inside: list[_Wanted] = []
    for part in merged_parts(extent, [(want.start, want.end) for want in wants]):
        end = part.position + part.length
        while following < len(wants) and wants[following].start < end:
            inside.append(wants[following])
            following += 1
        inside = [want for want in inside if want.end > part.position]
        yield part, inside


def grouped(parts: Iterable[tuple[Part, list[_Wanted]]]) -> Iterator[Group]:
    """Parts of one extent that one request fetches: many short ones, or a long one alone. Pure."""
    group: Group = []
    size = 0
    for part, wants in parts:
        more = part.length + 2 * BLOCK_SIZE
        if group and (len(group) == RANGES_MAX // 2 or size + more > RANGES_BYTES_MAX):
            yield group
            group, size = [], 0
        group.append((part, wants))
        size += more
    if group:
        yield group


def merged_parts(extent: PlacedExtent, wanted: Iterable[tuple[int, int]]) -> list[Part]:
    """The parts of an extent that cover ranges of the file: near ones in one, none longer than PART_SIZE. Pure."""
    inside = sorted(
        (max(start - extent.position, 0), min(end - extent.position, extent.length)) for start, end in wanted
    )
    merged: list[tuple[int, int]] = []
    for start, end in inside:
        if merged and start <= merged[-1][1] + GAP_MAX:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return [
        Part(extent, here, min(here + PART_SIZE, end)) for start, end in merged for here in range(start, end, PART_SIZE)
    ]
