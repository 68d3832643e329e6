"""A directory tree of the cluster onto the local disk: whole packs at a time, cut into files.

Separate because the listing, the packs and the local files have three different orders: pages of entries are opened
together, their extents are collected into runs of their chunks, and each run is written out by one thread.
"""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dfs.fetcher import Fetcher
from dfs.layout import Content, PlacedExtent
from dfs.many import Found, batches, open_many
from dfs.namenodes import Namenodes
from dfs.protocol.clock import Clock
from dfs.protocol.errors import DfsError, FileExists
from dfs.protocol.messages import OPEN_MANY_MAX, Entry, Locate, Open
from dfs.protocol.operations import LOCATE, OPEN
from dfs.reader import Reader, pwrite_all
from dfs.runs import Run, runs
from dfs.tree import Progress, Tally, TreeReport, discard, publish_local, spoils_only_itself, temporary_name
from dfs.workers import Workers

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
    ) -> Entry:
        """Get one file. Until it is complete and checked, it has a temporary name; after an error, it is gone."""
        if not overwrite and os.path.lexists(target):
            raise FileExists(f"{target} exists already; -f (overwrite=True) replaces it", path=target)
        entry, reader = self.reader(path)
        with_temporary(
            target,
            lambda descriptor: reader.download(descriptor, target, added),
            entry=entry if preserve else None,
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
            if entry is not None:
                os.fchmod(descriptor, entry.mode)
                os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(descriptor)
        publish_local(temporary, target, overwrite=overwrite)
    except BaseException:
        discard(temporary)
        raise


class TreeGet:
    """One transfer of one tree. Not for several threads."""

    def __init__(
        self, downloads: Downloads, walk: Walk, *, overwrite: bool, preserve: bool, progress: Progress | None
    ) -> None:
        self._downloads = downloads
        self._walk = walk
        self._overwrite = overwrite
        self._preserve = preserve
        self._tally = Tally(progress)

    def get(self, root: Entry, target: str) -> TreeReport:
        """Write the directory `root` as the local directory `target`, into what is there already."""
        made: list[tuple[Entry, str]] = []
        prefix = root.path.rstrip("/")
        self._make(root, target, made)
        for batch in batches(self._files(root, prefix, target, made), OPEN_MANY_MAX):
            self._get_batch(batch)
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
            for part in batches(batch.items(), OPEN_MANY_MAX):
                self._get_batch(part)
            waiting = again
        return self._tally.report

    def _files(self, root: Entry, prefix: str, target: str, made: list[tuple[Entry, str]]) -> Iterator[tuple[str, str]]:
        """Paths of files and where they go; directories are made on the way."""
        for _, directories, files in self._walk(root.path):
            for entry in directories:
                self._make(entry, target + entry.path[len(prefix) :], made)
            for entry in files:
                disk_path = target + entry.path[len(prefix) :]
                if not self._overwrite and os.path.lexists(disk_path):
                    told = f"{disk_path} exists already; -f (overwrite=True) replaces it"
                    self._tally.failed(entry.path, FileExists(told, path=disk_path))
                else:
                    yield entry.path, disk_path

    def _make(self, entry: Entry, disk_path: str, made: list[tuple[Entry, str]]) -> None:
        try:
            os.makedirs(disk_path, exist_ok=True)
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

    def _get_batch(self, batch: list[tuple[str, str]]) -> None:
        targets = dict(batch)
        small: dict[PlacedExtent, list[Found]] = {}
        for found in open_many(self._downloads.namenodes, list(targets)):
            if found.error is not None or found.entry is None:
                self._tally.failed(found.path, found.error or DfsError("it can't be opened"))
            elif found.complete and not found.extents:
                self._guarded(found.path, self._write, found, targets[found.path], memoryview(b""))
            elif found.complete and len(found.extents) == 1 and not found.extents[0].by_blocks:
                small.setdefault(found.extents[0], []).append(found)
            else:
                self._guarded(found.path, self._get_alone, found.path, targets[found.path])

        def write_run(run: Run) -> None:
            try:
                views = self._downloads.fetcher.read_run(run)
            except DfsError as error:
                for extent in run.extents:
                    if len(run.extents) > 1:
                        # One of them can't be read; the others may be.
                        write_run(Run(extent.offset, extent.offset + extent.length, (extent,)))
                    else:
                        for found in small[extent]:
                            self._note(found.path, error)
                return
            for extent, data in zip(run.extents, views, strict=True):
                for found in small[extent]:
                    self._guarded(found.path, self._write, found, targets[found.path], data)

        for _ in self._downloads.workers.map(write_run, runs(small), ahead=self._downloads.parallel):
            pass

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
        with_temporary(
            target,
            lambda descriptor: pwrite_all(descriptor, data, 0, target),
            entry=found.entry if self._preserve else None,
            overwrite=self._overwrite,
        )
        self._tally.files(1, len(data))

    def _get_alone(self, path: str, target: str) -> None:
        entry = self._downloads.download(
            path, target, overwrite=self._overwrite, preserve=self._preserve, added=self._tally.moved
        )
        self._tally.files(1, entry.size, moved=True)
