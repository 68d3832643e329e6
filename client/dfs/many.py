"""Ranges of many files in one call: asked for in batches, fetched by runs of their chunks, in parallel.

Separate because the order of the request, of the chunks and of the answer differ: ranges are collected by chunk, so
that thousands of small files cost as many requests as they have packs, and then put back in the caller's order.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from dfs.fetcher import Fetcher
from dfs.layout import Content, PlacedExtent, place
from dfs.namenodes import Namenodes
from dfs.protocol.clock import Clock
from dfs.protocol.errors import BY_CODE, BadAnswer, DfsError, InvalidRequest
from dfs.protocol.messages import OPEN_MANY_MAX, Entry, Open, OpenMany
from dfs.protocol.operations import OPEN, OPEN_MANY
from dfs.reader import PART_SIZE, Part, Reader
from dfs.runs import GAP_MAX, Run, runs
from dfs.workers import Workers

T = TypeVar("T")

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


@dataclass(frozen=True)
class Found:
    """One file of an answer of open_many: its entry with its extents, or an error."""

    path: str
    entry: Entry | None = None
    extents: tuple[PlacedExtent, ...] = ()
    complete: bool = True
    """False: it has more extents than these; it is to be opened alone."""
    error: DfsError | None = None


def open_many(namenodes: Namenodes, paths: Sequence[str]) -> list[Found]:
    """Open at most OPEN_MANY_MAX files in one call; an answer for each, in order."""
    answer = namenodes.call(OPEN_MANY, OpenMany(paths=list(paths)))
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


@dataclass
class _Wanted:
    """A range of a file, being filled; `start` and `end` are clamped to the file."""

    start: int
    end: int
    buffer: bytearray = field(init=False)

    def __post_init__(self) -> None:
        self.buffer = bytearray(self.end - self.start)

    def take(self, data: memoryview, position: int) -> None:
        """Copy what `data`, which begins at `position` of the file, has of this range."""
        low, high = max(self.start, position), min(self.end, position + len(data))
        if low < high:
            self.buffer[low - self.start : high - self.start] = data[low - position : high - position]


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
        for paths in batches(by_path, OPEN_MANY_MAX):
            found = open_many(self._namenodes, paths)
            self._read_batch(found, by_path, ranges, answers)
        return answers

    def _read_batch(
        self, found: list[Found], by_path: dict[str, list[int]], ranges: Sequence[Range], answers: list[bytes]
    ) -> None:
        wanted: dict[int, _Wanted] = {}
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
                want = _Wanted(min(start, size), size if end is None else min(end, size))
                wanted[index] = want
                for extent in file.extents:
                    if extent.position < want.end and want.start < extent.end:
                        users.setdefault(extent, []).append(want)
        for _ in self._workers.map(lambda job: job(), self._jobs(users), ahead=self._parallel):
            pass
        for index, want in wanted.items():
            answers[index] = bytes(want.buffer)

    def _reader(self, path: str) -> Reader:
        opened = self._namenodes.call(OPEN, Open(path=path))
        content = Content(opened.layout, self._namenodes, self._clock)
        return Reader(content, self._fetcher, self._workers, parallel=self._parallel)

    def _jobs(self, users: dict[PlacedExtent, list[_Wanted]]) -> Iterator[Callable[[], None]]:
        for run in runs(extent for extent in users if not extent.by_blocks):
            yield lambda run=run: self._read_run(run, users)  # type: ignore[misc]
        for extent, wants in users.items():
            if extent.by_blocks:
                for part in merged_parts(extent, [(want.start, want.end) for want in wants]):
                    yield lambda part=part, wants=wants: self._read_part(part, wants)  # type: ignore[misc]

    def _read_run(self, run: Run, users: dict[PlacedExtent, list[_Wanted]]) -> None:
        for extent, data in zip(run.extents, self._fetcher.read_run(run), strict=True):
            for want in users[extent]:
                want.take(data, extent.position)

    def _read_part(self, part: Part, wants: list[_Wanted]) -> None:
        view = memoryview(bytearray(part.length))
        self._fetcher.read(part.extent, part.start, part.end, view)
        for want in wants:
            want.take(view, part.position)


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
