"""A directory tree of the cluster onto the local disk: whole packs at a time, cut into files.

Separate because the listing, the packs and the local files have three different orders: pages of entries are opened
together, their extents are collected into runs of their chunks, and each run is written out by one thread.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from dfs.fetcher import Fetcher
from dfs.layout import Content, PlacedExtent
from dfs.many import Found, batches, open_many
from dfs.namenodes import Namenodes
from dfs.protocol.clock import Clock
from dfs.protocol.errors import DfsError, FileExists
from dfs.protocol.messages import Entry, Locate, Open
from dfs.protocol.operations import LOCATE, OPEN
from dfs.reader import Reader, pwrite_all
from dfs.runs import Run, alone, runs
from dfs.selection import EVERYTHING, Selection
from dfs.tree import Progress, Tally, TreeReport, discard, publish_local, spoils_only_itself, temporary_name
from dfs.unnamed import UnnamedFiles
from dfs.workers import Workers

BATCH_FILES = 500
"""Opened in one call, while those before them are fetched and those behind them are listed."""
BATCHES_AHEAD = 2
RUN_BYTES = 1 << 20
"""Fetched at once, and written by one thread: some hundred small files, so that all threads have some."""

Batch = list[tuple[str, str]]
"""Paths, each with its local file; none twice."""
Walk = Callable[[str], Iterator[tuple[str, list[Entry], list[Entry]]]]
"""A client's `walk`: path, directories, files."""


class Downloads:
    """Writes contents into local files."""

    def __init__(
        self, namenodes: Namenodes, fetcher: Fetcher, workers: Workers, clock: Clock, *, parallel: int
    ) -> None:
        self.namenodes = namenodes
        self.fetcher = fetcher
        self.workers = workers
        self.parallel = parallel
        self._clock = clock

    def reader(self, path: str, **window: Any) -> tuple[Entry, Reader]:
        """Open a path for reading. `window` as in Open."""
        opened = self.namenodes.call(OPEN, Open(path=path, **window))
        content = Content(opened.layout, self.namenodes, self._clock)
        return opened.entry, Reader(content, self.fetcher, self.workers, parallel=self.parallel)

    def download_content(self, content: int, target: str, *, overwrite: bool) -> None:
        """Get a content that no path has. Temporary name and errors as for `download`."""
        if not overwrite and os.path.lexists(target):
            raise FileExists(f"{target} exists already; -f (overwrite=True) replaces it", path=target)
        layout = self.namenodes.call(LOCATE, Locate(content=content))
        reader = Reader(
            Content(layout, self.namenodes, self._clock), self.fetcher, self.workers, parallel=self.parallel
        )  # fmt: skip
        with_temporary(
            target, lambda descriptor: reader.download(descriptor, target), entry=None, overwrite=overwrite
        )  # fmt: skip

    def download(
        self,
        path: str,
        target: str,
        *,
        overwrite: bool,
        preserve: bool,
        added: Callable[[int], None] | None = None,
        resume: bool = False,
    ) -> Entry:
        """Get one file. Until it is complete and checked, it has a temporary name; after an error, it is gone.

        resume  after an error it stays, for a later call with `resume`: that one keeps what has the right digests
        """
        if not overwrite and os.path.lexists(target):
            raise FileExists(f"{target} exists already; -f (overwrite=True) replaces it", path=target)
        entry, reader = self.reader(path)
        kept_of = entry if preserve else None
        if resume:
            from dfs.partial import with_partial

            with_partial(
                target,
                lambda descriptor: reader.download(descriptor, target, added, keep=True),
                entry=kept_of,
                overwrite=overwrite,
            )
        else:
            with_temporary(
                target,
                lambda descriptor: reader.download(descriptor, target, added),
                entry=kept_of,
                overwrite=overwrite,
            )
        return entry


def with_temporary(target: str, fill: Callable[[int], None], *, entry: Entry | None, overwrite: bool) -> None:
    """Make the local file `target` of what `fill` writes into an open descriptor; all of it or nothing.

    entry  whose mode and time it gets, or None
    """
    temporary = temporary_name(target)
    try:
        _fill_and_publish(temporary, target, fill, entry=entry, overwrite=overwrite)
    except OSError as error:
        if error.filename == temporary:
            # Nobody has heard of that name.
            error.filename, error.filename2 = target, None
        raise


def _fill_and_publish(
    temporary: str, target: str, fill: Callable[[int], None], *, entry: Entry | None, overwrite: bool
) -> None:
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            fill(descriptor)
            keep_facts(descriptor, entry)
        finally:
            os.close(descriptor)
        publish_local(temporary, target, overwrite=overwrite)
    except BaseException:
        discard(temporary)
        raise


def keep_facts(descriptor: int, entry: Entry | None) -> None:
    """Give a local file the mode and the time of an entry, if there is one."""
    if entry is not None:
        os.fchmod(descriptor, entry.mode)
        os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))


class TreeGet:
    """One transfer of one tree. Not for several threads."""

    def __init__(
        self,
        downloads: Downloads,
        walk: Walk,
        *,
        overwrite: bool,
        preserve: bool,
        progress: Progress | None,
        selection: Selection = EVERYTHING,
    ) -> None:
        self._downloads = downloads
        self._walk = walk
        self._overwrite = overwrite
        self._preserve = preserve
        self._selection = selection
        self._tally = Tally(progress)
        self._unnamed = UnnamedFiles()
        self._new: set[str] = set()
        """Local directories that were made here and whose files are still to come: none of them exists."""

    def get(self, root: Entry, target: str) -> TreeReport:
        """Write the directory `root` as the local directory `target`, into what is there already."""
        made: list[tuple[Entry, str]] = []
        prefix = root.path.rstrip("/")
        self._make(root, target, made)
        self._get_all(batches(self._files(root, prefix, target, made), BATCH_FILES))
        if self._preserve:
            for entry, disk_path in reversed(made):
                os.chmod(disk_path, entry.mode)
                os.utime(disk_path, ns=(entry.mtime_ns, entry.mtime_ns))
        return self._tally.report

    def get_files(self, pairs: Sequence[tuple[str, str]]) -> TreeReport:
        """Write single files: each path to its local file. Directories must be there. A path may come several times."""
        waiting = list(pairs)
        while waiting:
            batch: dict[str, str] = {}
            again: list[tuple[str, str]] = []
            for path, disk_path in waiting:
                if path in batch:
                    again.append((path, disk_path))
                else:
                    batch[path] = disk_path
            self._get_all(batches(batch.items(), BATCH_FILES))
            waiting = again
        return self._tally.report

    def _files(self, root: Entry, prefix: str, target: str, made: list[tuple[Entry, str]]) -> Iterator[tuple[str, str]]:
        """Paths of files and where they go; directories are made on the way."""
        below_top = len(prefix) + 1
        for here, directories, files in self._walk(root.path):
            # What is taken out of the list is not entered.
            directories[:] = [entry for entry in directories if self._selection.enters(entry.path[below_top:])]
            files = [entry for entry in files if self._selection.takes(entry.path[below_top:])]
            if files and not self._selection.makes_empty:
                try:
                    os.makedirs(target + here[len(prefix) :], exist_ok=True)
                except OSError as error:
                    self._tally.failed(here, error)
                    continue
            for entry in directories if self._selection.makes_empty else ():
                self._make(entry, target + entry.path[len(prefix) :], made)
            directory = target + here.rstrip("/")[len(prefix) :]
            may_exist = not self._overwrite and directory not in self._new
            self._new.discard(directory)
            for entry in files:
                disk_path = target + entry.path[len(prefix) :]
                if may_exist and os.path.lexists(disk_path):
                    told = f"{disk_path} exists already; -f (overwrite=True) replaces it"
                    self._tally.failed(entry.path, FileExists(told, path=disk_path))
                else:
                    yield entry.path, disk_path

    def _make(self, entry: Entry, disk_path: str, made: list[tuple[Entry, str]]) -> None:
        try:
            if not os.path.isdir(disk_path):
                os.makedirs(disk_path, exist_ok=True)
                self._new.add(disk_path)
        except OSError as caught:
            error = caught
            if isinstance(caught, FileExistsError):
                # It is there, but a file.
                error = NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), disk_path)
            if entry.path == "/" or not made:
                raise error from None
            self._tally.failed(entry.path, error)
            return
        made.append((entry, disk_path))
        self._tally.directory()

    def _get_all(self, listed: Iterator[Batch]) -> None:
        """Open, fetch and write all files: each step while the one before it goes on with the next ones.

        Only this thread gives work to the others: it takes the listing's batches, the answers for those that are being
        opened, and what is to be fetched of them, and is ahead of each by a little.
        """
        workers = self._downloads.workers

        def opened(batch: Batch) -> tuple[Batch, list[Found]]:
            return batch, open_many(self._downloads.namenodes, [path for path, _ in batch])

        with closing(workers.map(opened, listed, ahead=BATCHES_AHEAD)) as answers:
            for _ in workers.map(lambda job: job(), self._jobs(answers), ahead=self._downloads.parallel):
                pass

    def _jobs(self, answers: Iterable[tuple[Batch, list[Found]]]) -> Iterator[Callable[[], None]]:
        """What the threads have to do for files that were opened. Those with several parts are got here, between."""
        for batch, files in answers:
            targets = dict(batch)
            small: dict[PlacedExtent, list[Found]] = {}
            empty: list[Found] = []
            alone: list[Found] = []
            for found in files:
                if found.error is not None or found.entry is None:
                    self._tally.failed(found.path, found.error or DfsError("it can't be opened"))
                elif found.complete and not found.extents:
                    empty.append(found)
                elif found.complete and len(found.extents) == 1 and not found.extents[0].by_blocks:
                    small.setdefault(found.extents[0], []).append(found)
                else:
                    alone.append(found)
            if empty:
                yield partial(self._write_all, [(found, memoryview(b"")) for found in empty], targets)
            for run in runs(small, run_max=RUN_BYTES):
                yield partial(self._get_run, run, small, targets)
            for found in alone:
                self._guarded(found.path, self._get_alone, found.path, targets[found.path])

    def _get_run(self, run: Run, small: dict[PlacedExtent, list[Found]], targets: dict[str, str]) -> None:
        try:
            views = self._downloads.fetcher.read_run(run)
        except DfsError as error:
            for extent in run.extents:
                if len(run.extents) > 1:
                    # One of them can't be read; the others may be.
                    self._get_run(alone(extent), small, targets)
                else:
                    for found in small[extent]:
                        self._note(found.path, error)
            return
        self._write_all(
            [(found, data) for extent, data in zip(run.extents, views, strict=True) for found in small[extent]], targets
        )

    def _write_all(self, files: list[tuple[Found, memoryview]], targets: dict[str, str]) -> None:
        """Write files, each of its bytes, and count those that were written."""
        count = size = 0
        try:
            for found, data in files:
                try:
                    self._write(found, targets[found.path], data)
                except (DfsError, OSError) as error:
                    self._note(found.path, error)
                else:
                    count += 1
                    size += len(data)
        finally:
            self._tally.files(count, size)

    def _guarded(self, path: str, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except (DfsError, OSError) as error:
            self._note(path, error)

    def _note(self, path: str, error: Exception) -> None:
        if not spoils_only_itself(error):
            raise error
        self._tally.failed(path, error)

    def _write(self, found: Found, target: str, data: memoryview) -> None:
        entry = found.entry if self._preserve else None
        if not self._unnamed.write(target, data, entry=entry, overwrite=self._overwrite):
            with_temporary(
                target,
                lambda descriptor: pwrite_all(descriptor, data, 0, target),
                entry=entry,
                overwrite=self._overwrite,
            )

    def _get_alone(self, path: str, target: str) -> None:
        entry = self._downloads.download(
            path, target, overwrite=self._overwrite, preserve=self._preserve, added=self._tally.moved
        )
        self._tally.files(1, entry.size, moved=True)
