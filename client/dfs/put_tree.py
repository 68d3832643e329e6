"""A local directory tree into the cluster: small files in packs, big ones by chunks, commits while the rest is read.

Separate because it joins walking, packing and committing into one pipeline: while a pack is stored and committed, the
next one is filled. What can't be stored (links, devices, names that are not UTF-8) is named in the report.
"""

import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from dfs.many import batches
from dfs.packer import Pack, Packer
from dfs.protocol.errors import (
    DfsError,
    FileExists,
    InvalidName,
    InvalidRequest,
    RequestError,
)
from dfs.protocol.messages import (
    OPEN_MANY_MAX,
    Action,
    Extent,
    MakeDirectory,
    PutFile,
    SetAttributes,
    StatMany,
)
from dfs.protocol.names import check_name
from dfs.protocol.operations import STAT_MANY
from dfs.publisher import Batch, Sent
from dfs.put_file import send_at_once
from dfs.selection import EVERYTHING, Selection
from dfs.sources import FileSource
from dfs.storing import Storing, put_action, time_kept
from dfs.tree import Progress, Tally, TreeReport, spoils_only_itself
from dfs.workers import settle
from dfs.writer import read_small, regular_size, whole_chunks

if TYPE_CHECKING:
    from concurrent.futures import Future

STORING_MAX = 4
"""Packs and single-chunk files under way at once, beside the one that is being filled."""
DROPS_MAX = 50
"""Files that one commit may lose to changes of others before all of it is given up."""
EMPTY_FILES_MAX = 2000
"""Empty files in one commit: they have no bytes, so that no pack takes them along."""


@dataclass(frozen=True)
class PutOptions:
    """How the files of a tree are stored."""

    overwrite: bool = False
    parents: bool = False
    preserve: bool = False
    replication: int | None = None
    chunk_size: int | None = None
    selection: Selection = EVERYTHING


@dataclass(frozen=True)
class LocalFile:
    """A local file and the path that it gets."""

    disk_path: str
    path: str
    found: os.stat_result


class TreePut:
    """One transfer of one tree. Not for several threads."""

    def __init__(self, storing: Storing, options: PutOptions, progress: Progress | None) -> None:
        self._storing = storing
        self._options = options
        self._tally = Tally(progress)
        self._chunk_size = storing.chunk_size(options.chunk_size)
        self._replication = storing.replication(options.replication)
        self._small = min(storing.pack_limit(), self._chunk_size)
        self._packer: Packer[LocalFile] = Packer(self._chunk_size)
        self._empty: list[LocalFile] = []
        self._made: list[MakeDirectory] = []
        self._kept: list[SetAttributes] = []
        self._running: deque[Future[None]] = deque()
        self._fresh = False

    def put(self, disk_path: str, path: str) -> TreeReport:
        """Store the directory `disk_path` as the directory `path`, into what is there already.

        Raises  what concerns all of it: a parent that is missing, a cluster that can't be reached or is full
        """
        root = MakeDirectory(path=path, parents=self._options.parents, exist_ok=True)
        self._fresh = self._storing.publisher.publish(Batch([root]))[0].changed
        self._tally.directory()
        self._keep_directory(os.stat(disk_path), path)
        return self.put_files(self._walk(disk_path, path))

    def put_files(self, files: Iterable[LocalFile]) -> TreeReport:
        """Store single files, in the order in which they come; missing directories are made. Raises as `put` does."""
        try:
            for local in files:
                self._put_one(local)
            for pack in self._packer.finish():
                self._run(self._store_pack, pack)
            self._commit_empty()
            self._make_directories()
            while self._running:
                self._running.popleft().result()
        except BaseException:
            settle(self._running)
            raise
        self._keep_directories()
        return self._tally.report

    # --- what is there ----------------------------------------------------------------------------------------

    def _walk(self, disk_path: str, path: str) -> Iterator[LocalFile]:
        """The regular files below, in the order of names; directories are noted on the way."""
        waiting = [(disk_path, path)]
        selection, below_top = self._options.selection, len(path.rstrip("/")) + 1
        while waiting:
            directory, into = waiting.pop()
            try:
                with os.scandir(directory) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
            except OSError as error:
                self._tally.failed(directory, error)
                continue
            below: list[tuple[str, str]] = []
            for entry in entries:
                relative = f"{into.rstrip('/')}/{entry.name}"[below_top:]
                directory_here = entry.is_dir(follow_symlinks=False)
                if not (selection.enters(relative) if directory_here else selection.takes(relative)):
                    continue
                try:
                    local = judge_local(entry, into)
                except (OSError, InvalidRequest) as error:
                    self._tally.failed(shown(entry.path), error)
                    continue
                if stat.S_ISDIR(local.found.st_mode):
                    if selection.makes_empty:
                        self._note_directory(local)
                    below.append((local.disk_path, local.path))
                else:
                    yield local
            waiting += reversed(below)

    def _note_directory(self, local: LocalFile) -> None:
        self._made.append(MakeDirectory(path=local.path, parents=True, exist_ok=True))
        self._tally.directory()
        self._keep_directory(local.found, local.path)
        if len(self._made) >= OPEN_MANY_MAX:
            self._make_directories()

    def _keep_directory(self, found: os.stat_result, path: str) -> None:
        if self._options.preserve:
            self._kept.append(SetAttributes(path=path, mode=found.st_mode & 0o7777, mtime_ns=time_kept(found)))

    # --- files ------------------------------------------------------------------------------------------------

    def _put_one(self, local: LocalFile) -> None:
        if local.found.st_size == 0:
            self._empty.append(local)
            if len(self._empty) >= EMPTY_FILES_MAX:
                self._commit_empty()
        elif local.found.st_size <= self._small:
            self._pack(local)
        elif local.found.st_size <= self._chunk_size:
            self._run(self._store_alone, local, 0)
        else:
            self._store_alone(local, self._storing.parallel)

    def _pack(self, local: LocalFile) -> None:
        try:
            with open(local.disk_path, "rb", buffering=0) as file:
                now = LocalFile(local.disk_path, local.path, os.fstat(file.fileno()))
                if not 0 < now.found.st_size <= self._small:
                    # It grew, or another file has its name by now: never the first bytes of that one.
                    self._put_one(now)
                    return
                data = read_small(file.fileno(), now.found.st_size, local.disk_path)
        except (OSError, RequestError) as error:
            self._tally.failed(local.disk_path, error)
            return
        full = self._packer.add(now, data, self._replication)
        if full is not None:
            self._run(self._store_pack, full)

    def _run(self, work: Any, *arguments: Any) -> None:
        """Have something done in the pool; waits while too much is under way, and raises what ended the tree."""
        while len(self._running) >= STORING_MAX:
            self._running.popleft().result()
        self._running.append(self._storing.workers.submit(work, *arguments))

    def _store_pack(self, pack: Pack[LocalFile]) -> None:
        """Send a pack and make its files visible. Runs in the pool."""
        sent = self._storing.store_pack(pack, lambda local: local.path)
        self._commit([(local, [member.extent(sent.chunk.id)]) for local, member in pack.members], [sent])

    def _store_alone(self, local: LocalFile, parallel: int) -> None:
        """Send a file in chunks of its own and make it visible; with `parallel` = 0 one chunk, in this thread."""
        try:
            with open(local.disk_path, "rb", buffering=0) as file:
                if parallel:
                    self._store_big(file.fileno(), local)
                else:
                    sent = self._send_here(file.fileno(), local)
                    self._commit([(local, whole_chunks(sent))], sent)
        except (OSError, DfsError) as error:
            if not spoils_only_itself(error):
                raise
            self._tally.failed(local.disk_path, error)

    def _store_big(self, descriptor: int, local: LocalFile) -> None:
        """Send a file of many chunks as `put` does, whatever time it takes, unless it is there already."""
        if not self._fresh and not self._options.overwrite and not self._without_existing([(local, [])]):
            return
        size = send_at_once(
            self._storing,
            descriptor,
            local.disk_path,
            partial(self._action, local),
            replication=self._replication,
            chunk_size=self._chunk_size,
            added=self._tally.moved,
        )
        self._tally.files(1, size, moved=True)

    def _send_here(self, descriptor: int, local: LocalFile) -> list[Sent]:
        """Send all of the file, as large as it is now. Tasks never wait for other tasks: this thread sends it alone."""
        size = regular_size(descriptor)
        if size == 0:
            return []
        chunks = -(-size // self._chunk_size)
        grants = self._storing.grants(min(size, self._chunk_size), self._replication, chunks)
        hints = self._storing.hints_for(local.path, size=size)
        sent = []
        for offset in range(0, size, self._chunk_size):
            length = min(self._chunk_size, size - offset)
            source = FileSource(descriptor, offset, length, local.disk_path, hints.of_chunk(offset, length))
            sent.append(Sent(self._storing.sender.send(source, grants), source, grants))
        return sent

    def _commit_empty(self) -> None:
        files, self._empty = self._empty, []
        if files:
            self._commit([(local, []) for local in files], [])

    # --- commits ----------------------------------------------------------------------------------------------

    def _action(self, local: LocalFile, extents: list[Extent]) -> PutFile:
        kept: dict[str, int] = {}
        if self._options.preserve:
            kept = {"mode": local.found.st_mode & 0o7777, "mtime_ns": time_kept(local.found)}
        return put_action(
            local.path,
            overwrite=self._options.overwrite,
            parents=True,
            replication=self._options.replication,
            mode=kept.get("mode"),
            mtime_ns=kept.get("mtime_ns"),
        )(extents)

    def _commit(self, files: list[tuple[LocalFile, list[Extent]]], sent: list[Sent]) -> None:
        """Make files visible together; one that can't become so is named and left out, and the others are."""
        if not self._fresh and not self._options.overwrite:
            files = self._without_existing(files)
        for _ in range(DROPS_MAX):
            if not files:
                return
            try:
                self._storing.publisher.publish(Batch([self._action(*file) for file in files], sent))
            except RequestError as error:
                files = self._without_culprits(files, error)
            else:
                size = sum(extent.length for _, extents in files for extent in extents)
                self._tally.files(len(files), size)
                return
        for local, _ in files:
            self._tally.failed(local.disk_path, RequestError("others keep changing its directory; put it again"))

    def _without_existing(self, files: list[tuple[LocalFile, list[Extent]]]) -> list[tuple[LocalFile, list[Extent]]]:
        kept = []
        for batch in batches(files, OPEN_MANY_MAX):
            answer = self._storing.namenodes.call(STAT_MANY, StatMany(paths=[local.path for local, _ in batch]))
            for (local, extents), entry in zip(batch, answer.entries, strict=True):
                if entry is None:
                    kept.append((local, extents))
                else:
                    told = f"{local.path} exists already; -f (overwrite=True) replaces it"
                    self._tally.failed(local.disk_path, FileExists(told, path=local.path))
        return kept

    def _without_culprits(
        self, files: list[tuple[LocalFile, list[Extent]]], error: RequestError
    ) -> list[tuple[LocalFile, list[Extent]]]:
        """What is left when those that can't be committed have been named."""
        if isinstance(error, FileExists) and not self._options.overwrite:
            left = self._without_existing(files)
            if len(left) < len(files):
                return left
        culprit = error.detail.get("action")
        if not isinstance(culprit, int) or not 0 <= culprit < len(files):
            # Nobody says whose fault it was: none of them can be stored.
            for local, _ in files:
                self._tally.failed(local.disk_path, error)
            return []
        self._tally.failed(files[culprit][0].disk_path, error)
        return files[:culprit] + files[culprit + 1 :]

    def _make_directories(self) -> None:
        actions, self._made = self._made, []
        self._each_or_all([*actions])

    def _keep_directories(self) -> None:
        """Modes and times of directories, when nothing in them changes any more."""
        for batch in batches(reversed(self._kept), OPEN_MANY_MAX):
            self._each_or_all([*batch])

    def _each_or_all(self, actions: list[Action]) -> None:
        """All in one commit; if that is refused, each by itself, so that only what can't be done is left out."""
        if not actions:
            return
        with suppress(RequestError):
            self._storing.publisher.publish(Batch(actions))
            return
        for action in actions:
            try:
                self._storing.publisher.publish(Batch([action]))
            except RequestError as error:
                self._tally.failed(getattr(action, "path", ""), error)


def judge_local(entry: os.DirEntry[str], into: str) -> LocalFile:
    """What is to be done with an entry of a local directory. Raises InvalidRequest: it can't be stored."""
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        raise InvalidName("the name is not valid UTF-8; rename it") from None
    check_name(entry.name)
    found = entry.stat(follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        raise InvalidRequest("symbolic links are not stored; name one on the command line to store what it means")
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise InvalidRequest("only files and directories are stored, not devices, sockets or pipes")
    return LocalFile(entry.path, f"{into.rstrip('/')}/{entry.name}", found)


def shown(disk_path: str) -> str:
    """A local path for a message, also where it is not UTF-8."""
    return os.fsencode(disk_path).decode(errors="backslashreplace")
