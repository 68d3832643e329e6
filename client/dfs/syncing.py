"""A local directory and one of the cluster, made alike in either direction: `plan` says what, this does it.

Separate from put and get because it looks at both sides first. It goes through the same doors: files of a push travel
in packs and commits (`TreePut`), those of a pull whole packs at a time (`TreeGet`). What was done stays done, so that
a sync which was interrupted is continued by the same call.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dfs.get_tree import Downloads, TreeGet
from dfs.many import batches
from dfs.protocol.digests import TreeHasher
from dfs.protocol.errors import Conflict, FileNotFound, InvalidRequest, NotADirectory, RequestError
from dfs.protocol.messages import OPEN_MANY_MAX, MakeDirectory, Remove, SetAttributes
from dfs.put_tree import LocalFile, PutOptions, TreePut, judge_local, shown
from dfs.selection import EVERYTHING, Selection
from dfs.storing import Storing, time_kept
from dfs.sync_plan import Listing, Rules, Step, Thing, plan
from dfs.tree import Failure, Progress, TreeReport

if TYPE_CHECKING:
    from dfs.client import Client
    from dfs.protocol.messages import Action

_PIECE = 1 << 20
UNREADABLE = (OSError, FileNotFound, NotADirectory)
"""Of one directory: the rest of the tree goes on."""


@dataclass(frozen=True)
class SyncOptions:
    """How two trees are made alike.

    delete     remove what the source does not have, and replace a directory by a file or the other way round
    dry_run    change nothing, only tell
    by_digest  compare the bytes of files of one size, instead of their times
    parents    make missing parents of the target
    """

    delete: bool = False
    dry_run: bool = False
    by_digest: bool = False
    parents: bool = False
    selection: Selection = EVERYTHING
    replication: int | None = None
    chunk_size: int | None = None


@dataclass
class SyncReport:
    """What a sync did, or would do. `failures` empty: the target is like the source."""

    files: int = 0
    bytes: int = 0
    directories: int = 0
    deleted: int = 0
    times: int = 0
    failures: list[Failure] = field(default_factory=list)


Told = Callable[[Step], None]
"""Called with each step before it is done."""


class Syncing:
    """Makes directories alike. What `Client.syncing` returns."""

    def __init__(self, fs: "Client", storing: Callable[[], Storing], downloads: Callable[[], Downloads]) -> None:
        self._fs = fs
        self._storing = storing
        self._downloads = downloads

    def push(
        self, local: str, path: str, options: SyncOptions, *, told: Told, progress: Progress | None = None
    ) -> SyncReport:
        """Make the directory `path` of the cluster like the local directory `local`.

        Raises  what concerns all of it: FileNotFound, NotADirectory: `local` or `path`; no answer, no space
        """
        if not os.path.isdir(local):
            os.stat(local)
            raise NotADirectory(f"{local}: not a directory; sync is for directories, put stores a file")
        there = self._remote_top(path, options, target=True)
        run = _Run(local, options, told)
        steps = run.steps(_local_source(local, path), _remote(self._fs, path, there), self._same(local, path, options))
        if options.dry_run:
            run.only_tell(steps)
            return run.report
        if not there:
            self._fs.mkdir(path, parents=options.parents, exist_ok=True)
        put = TreePut(
            self._storing(),
            PutOptions(overwrite=True, preserve=True, replication=options.replication, chunk_size=options.chunk_size),
            progress,
        )
        remote = _Remote(self._fs, path, run.report)

        def files() -> Iterator[LocalFile]:
            for step in steps:
                if step.action != "copy":
                    remote.do(step)
                    continue
                disk_path = _join(local, step.path)
                try:
                    found = os.stat(disk_path, follow_symlinks=False)
                except OSError as error:
                    # It has vanished since it was listed.
                    run.failed(disk_path, error)
                else:
                    yield LocalFile(disk_path, _join(path, step.path), found)

        run.transferred(put.put_files(files()))
        remote.finish()
        return run.report

    def pull(
        self, path: str, local: str, options: SyncOptions, *, told: Told, progress: Progress | None = None
    ) -> SyncReport:
        """Make the local directory `local` like the directory `path` of the cluster. Raises as `push` does."""
        self._remote_top(path, options, target=False)
        there = os.path.lexists(local)
        if there and not os.path.isdir(local):
            raise NotADirectory(f"{local}: not a directory")
        if not there and not options.parents and not os.path.isdir(os.path.dirname(os.path.abspath(local))):
            raise FileNotFound(f"{local}: its parent is no directory yet; --parents makes what is missing")
        run = _Run(path, options, told)
        steps = run.steps(_remote(self._fs, path, True), _local_target(local, there), self._same(local, path, options))
        if options.dry_run:
            run.only_tell(steps)
            return run.report
        os.makedirs(local, exist_ok=True)
        get = TreeGet(self._downloads(), self._fs.walk, overwrite=True, preserve=True, progress=progress)
        here = _Local(local, run.report)

        def files() -> Iterator[tuple[str, str]]:
            for step in steps:
                if step.action != "copy":
                    here.do(step)
                    continue
                disk_path = _join(local, step.path)
                try:
                    os.makedirs(os.path.dirname(disk_path), exist_ok=True)
                except OSError as error:
                    run.failed(disk_path, error)
                else:
                    yield _join(path, step.path), disk_path

        report = TreeReport()
        for batch in batches(files(), OPEN_MANY_MAX):
            report = get.get_files(batch)
        run.transferred(report)
        here.finish()
        return run.report

    def _remote_top(self, path: str, options: SyncOptions, *, target: bool) -> bool:
        """Whether the remote directory is there. Raises NotADirectory, and FileNotFound where it has to be there."""
        found = self._fs.stat_many([path])[0]
        if found is not None and not found.is_directory:
            raise NotADirectory(f"{path}: not a directory; sync is for directories")
        if found is None and not target:
            raise FileNotFound(f"{path}: no such directory", path=path)
        parent = path.rstrip("/").rpartition("/")[0] or "/"
        if found is None and not options.parents and not self._fs.exists(parent):
            raise FileNotFound(f"{path}: its parent is no directory yet; --parents makes what is missing", path=path)
        return found is not None

    def _same(self, local: str, path: str, options: SyncOptions) -> Callable[[str], bool] | None:
        if not options.by_digest:
            return None

        def same(relative: str) -> bool:
            try:
                return self._fs.checksum(_join(path, relative)).endswith(f":{local_digest(_join(local, relative))}")
            except (OSError, FileNotFound):
                # One of them is gone or can't be read: the copy will say so.
                return False

        return same


def local_digest(disk_path: str) -> str:
    """The digest of a local file as the cluster computes it, without the algorithm's name."""
    hasher = TreeHasher()
    with open(disk_path, "rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            hasher.update(piece)
    return hasher.root().hex()


def _join(top: str, relative: str) -> str:
    return f"{top.rstrip('/')}/{relative}" if relative else top


# --- listings ---------------------------------------------------------------------------------------------------


def _remote(fs: "Client", top: str, there: bool) -> Callable[[str], Listing]:
    def listing(relative: str) -> Listing:
        if not there and not relative:
            return {}
        return {
            entry.name: Thing("directory" if entry.is_directory else "file", entry.size, entry.mtime_ns)
            for entry in fs.ls(_join(top, relative))
        }

    return listing


def _local_source(top: str, path: str) -> Callable[[str], Listing]:
    """What can be stored of a local tree; the rest with the reason why not."""

    def listing(relative: str) -> Listing:
        found: dict[str, Thing] = {}
        into = _join(path, relative)
        with os.scandir(_join(top, relative)) as entries:
            for entry in entries:
                try:
                    judge_local(entry, into)
                    found[entry.name] = _thing(entry)
                except (OSError, InvalidRequest) as error:
                    found[entry.name] = Thing("other", error=error)
        return found

    return listing


def _local_target(top: str, there: bool) -> Callable[[str], Listing]:
    def listing(relative: str) -> Listing:
        if not there and not relative:
            return {}
        with os.scandir(_join(top, relative)) as entries:
            return {entry.name: _thing(entry) for entry in entries}

    return listing


def _thing(entry: os.DirEntry[str]) -> Thing:
    found = entry.stat(follow_symlinks=False)
    if entry.is_dir(follow_symlinks=False):
        return Thing("directory", 0, time_kept(found))
    if entry.is_file(follow_symlinks=False):
        return Thing("file", found.st_size, time_kept(found))
    return Thing("other")


# --- doing it ---------------------------------------------------------------------------------------------------


class _Run:
    """One sync: what was told, and what came of it.

    source  the top of the tree that the other becomes like
    """

    def __init__(self, source: str, options: SyncOptions, told: Told) -> None:
        self.report = SyncReport()
        self._source = source
        self._options = options
        self._told = told

    def steps(
        self, source: Callable[[str], Listing], target: Callable[[str], Listing], same: Callable[[str], bool] | None
    ) -> Iterator[Step]:
        """The plan, each step told and those that can't be done noted."""
        rules = Rules(self._options.delete, self._options.selection, same, UNREADABLE)
        for step in plan(source, target, rules):
            if step.action == "refuse":
                assert step.error is not None
                self.failed(_join(self._source, step.path), step.error)
            elif step.action == "clash":
                assert step.source is not None
                kind = step.source.kind
                path = _join(self._source, step.path)
                more = (
                    "what is there has in it what the patterns leave out"
                    if self._options.delete
                    else "--delete replaces what is there"
                )
                told = f"{shown(path)}: a {kind} here, and no {kind} in the target; {more}"
                self.failed(path, Conflict(told))
            else:
                if step.action != "prune":
                    self._told(step)
                yield step

    def failed(self, path: str, error: Exception) -> None:
        self.report.failures.append(Failure(shown(path), error))

    def only_tell(self, steps: Iterable[Step]) -> None:
        """Count what would be done."""
        for step in steps:
            if step.action == "copy":
                assert step.source is not None
                self.report.files += 1
                self.report.bytes += step.source.size
            elif step.action == "make":
                self.report.directories += 1
            elif step.action == "time":
                self.report.times += 1
            elif step.action == "delete":
                self.report.deleted += 1

    def transferred(self, report: TreeReport) -> None:
        self.report.files += report.files
        self.report.bytes += report.bytes
        self.report.failures += report.failures


class _Remote:
    """Changes of the cluster's tree that move no bytes, in commits of many."""

    def __init__(self, fs: "Client", top: str, report: SyncReport) -> None:
        self._fs = fs
        self._top = top
        self._report = report
        self._soon: list[Action] = []
        self._last: list[Action] = []
        self._prunes: list[str] = []

    def do(self, step: Step) -> None:
        path = _join(self._top, step.path)
        if step.action == "make":
            self._report.directories += 1
            self._soon.append(MakeDirectory(path=path, parents=True, exist_ok=True))
        elif step.action == "time":
            assert step.source is not None
            self._report.times += 1
            self._soon.append(SetAttributes(path=path, mtime_ns=step.source.mtime_ns))
        elif step.action == "prune":
            self._prunes.append(path)
        else:
            self._report.deleted += 1
            removal = Remove(path=path, recursive=True, missing_ok=True)
            if step.now:
                self._commit([removal])
            else:
                self._last.append(removal)
        if len(self._soon) >= OPEN_MANY_MAX:
            self._flush()

    def _flush(self) -> None:
        actions, self._soon = self._soon, []
        self._commit(actions)

    def finish(self) -> None:
        """What comes last: deleting, when everything else is there."""
        self._flush()
        for batch in batches(self._last, OPEN_MANY_MAX):
            self._commit(batch)
        for path in self._prunes:
            try:
                self._fs.remove(path, kind="directory", missing_ok=True)
            except RequestError:
                # What the rules leave out is still in it.
                continue
            self._report.deleted += 1

    def _commit(self, actions: "Sequence[Action]") -> None:
        """All in one commit; if that is refused, each by itself."""
        if not actions:
            return
        try:
            self._fs.commit(actions)
        except RequestError as error:
            if len(actions) == 1:
                self._report.failures.append(Failure(getattr(actions[0], "path", self._top), error))
                return
            for action in actions:
                self._commit([action])


class _Local:
    """Changes of the local tree that move no bytes."""

    def __init__(self, top: str, report: SyncReport) -> None:
        self._top = top
        self._report = report
        self._last: list[Step] = []

    def do(self, step: Step) -> None:
        if step.action in ("delete", "prune") and not step.now:
            self._last.append(step)
            return
        try:
            self._do(step, _join(self._top, step.path))
        except OSError as error:
            self._report.failures.append(Failure(_join(self._top, step.path), error))

    def _do(self, step: Step, disk_path: str) -> None:
        if step.action == "make":
            os.makedirs(disk_path, exist_ok=True)
            self._report.directories += 1
        elif step.action == "time":
            assert step.source is not None
            os.utime(disk_path, ns=(step.source.mtime_ns, step.source.mtime_ns))
            self._report.times += 1
        elif step.action == "prune":
            if not os.listdir(disk_path):
                os.rmdir(disk_path)
                self._report.deleted += 1
        else:
            assert step.target is not None
            if step.target.kind == "directory":
                shutil.rmtree(disk_path)
            else:
                os.unlink(disk_path)
            self._report.deleted += 1

    def finish(self) -> None:
        """What comes last: deleting, when everything else is there."""
        for step in self._last:
            try:
                self._do(step, _join(self._top, step.path))
            except OSError as error:
                self._report.failures.append(Failure(_join(self._top, step.path), error))
