"""The client: one object with a method for everything that can be done with a cluster.

It owns nothing but the parts that do the work (namenodes, sender, fetcher, threads) and the meaning of arguments;
each method is one call of the protocol, or hands over to the module that knows how. Imports of what is not always
needed happen where it is needed: a command that lists a directory must not pay for trees and threads.
"""

import os
import random
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, overload

from dfs.connecting import connect, parse_url
from dfs.namenodes import Namenodes
from dfs.protocol.clock import Clock
from dfs.protocol.digests import Buffer
from dfs.protocol.errors import FileExists, FileNotFound, InvalidRequest, IsADirectory, NotADirectory
from dfs.protocol.messages import (
    Action,
    ClusterFacts,
    Collected,
    CollectGarbage,
    Commit,
    Copy,
    Empty,
    Entry,
    FilePlaces,
    ListDirectory,
    MakeDirectory,
    Outcome,
    PutFile,
    Remove,
    Rename,
    SetAttributes,
    Stat,
    StatMany,
    Status,
    Usage,
)
from dfs.protocol.names import canonical_path
from dfs.protocol.operations import COLLECT_GARBAGE, COMMIT, LIST, STAT, STAT_MANY, STATUS, USAGE
from dfs.protocol.transport import Transport
from dfs.retries import RetryBudget
from dfs.suspects import Suspects
from dfs.workers import Workers

if TYPE_CHECKING:
    import io

    from dfs.file import BinaryWriter, TextWriter
    from dfs.get_tree import Downloads
    from dfs.operating import Operating
    from dfs.storing import Storing
    from dfs.transaction import Transaction
    from dfs.tree import Progress, TreeReport

__all__ = ["Client", "connect"]

THREADS_MAX = 8
"""Of one client, whatever it is asked to do at once."""
PAGE_SIZE = 1000
"""Entries of one page of a listing."""
_SCHEME = "dfs://"


class Client:
    """A cluster, as its users see it. Usable from several threads, and after a fork. `connect` makes one.

    Paths are absolute, or dfs://host:port/path for this client's own namenode. Every method raises FileNotFound,
    NotADirectory, InvalidName and what a call may raise: NotSent and OutcomeUnknown (no answer), Unavailable.
    """

    def __init__(
        self,
        namenodes: Namenodes,
        transport: Transport,
        *,
        clock: Clock,
        rng: random.Random,
        parallel: int,
        chunk_size: int | None = None,
        replication: int | None = None,
        hedged_reads: bool = True,
    ) -> None:
        assert parallel >= 1, "something must be under way"
        self._namenodes = namenodes
        self._transport = transport
        self._clock = clock
        self._rng = rng
        self._parallel = parallel
        self._chunk_size = chunk_size
        self._replication = replication
        self._hedged_reads = hedged_reads
        self._suspects = Suspects(clock)
        self._retries = RetryBudget(clock)
        self._workers = Workers(max(THREADS_MAX, parallel))
        self._storing_part: Storing | None = None
        self._downloads_part: Downloads | None = None

    # --- the parts --------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The namenodes' URLs, with commas between them: `connect` takes it."""
        return ",".join(self._namenodes.urls)

    @property
    def _downloads(self) -> "Downloads":
        if self._downloads_part is None:
            from dfs.fetcher import Fetcher
            from dfs.get_tree import Downloads
            from dfs.racing import Hedging

            hedging = Hedging() if self._hedged_reads else None
            fetcher: Fetcher = Fetcher(
                self._transport, self._namenodes, self._suspects, rng=self._rng, hedging=hedging, retries=self._retries
            )
            self._downloads_part = Downloads(
                self._namenodes, fetcher, self._workers, self._clock, parallel=self._parallel
            )
        return self._downloads_part

    @property
    def _storing(self) -> "Storing":
        if self._storing_part is None:
            from dfs.sender import Sender
            from dfs.storing import Storing

            sender: Sender = Sender(self._transport, self._suspects, rng=self._rng, retries=self._retries)
            self._storing_part = Storing(
                self._namenodes,
                sender,
                self._downloads.fetcher,
                self._workers,
                self._suspects,
                self._clock,
                parallel=self._parallel,
                chunk_size=self._chunk_size,
                replication=self._replication,
            )
        return self._storing_part

    def _path(self, path: str | os.PathLike[str]) -> str:
        """The canonical absolute path. Raises InvalidName; InvalidRequest: it is in another cluster."""
        return canonical_path(self._without_host(os.fspath(path)))

    def _without_host(self, text: str) -> str:
        if not text.startswith(_SCHEME):
            return text
        place, _, rest = text.removeprefix(_SCHEME).partition("/")
        if place and parse_url(_SCHEME + place) not in self._namenodes.urls:
            raise InvalidRequest(f"{text} is in another cluster; this client is connected to {self.url}")
        return "/" + rest

    def _act(self, *actions: Action) -> list[Outcome]:
        return self._namenodes.perform(COMMIT, Commit(op_id="", actions=list(actions))).outcomes

    # --- bytes ------------------------------------------------------------------------------------------------

    def read_bytes(self, path: str, *, start: int = 0, end: int | None = None) -> bytes:
        """The bytes [start, end) of a file, or all of it; shorter where the file ends before."""
        if start < 0 or (end is not None and end < start):
            raise InvalidRequest(f"{path}: {start} to {end} is not a range of bytes")
        length = None if end is None else end - start
        _, reader = self._downloads.reader(self._path(path), offset=start, length=length)
        return reader.read(start, reader.size if end is None else end)

    def read_many(self, ranges: Iterable[tuple[str, int, int | None]]) -> list[bytes]:
        """Ranges of many files at once, in the order asked: `(path, start, end)`, `end` None for the file's end.

        Fetched in parallel and collected by chunk; raises the error of the first range that can't be read.
        """
        from dfs.many import ManyReader

        many = ManyReader(self._namenodes, self._downloads.fetcher, self._workers, self._clock, parallel=self._parallel)
        return many.read([(self._path(path), start, end) for path, start, end in ranges])

    def write_bytes(
        self,
        path: str,
        data: Buffer,
        *,
        overwrite: bool = True,
        parents: bool = False,
        if_version: int | None = None,
        replication: int | None = None,
        chunk_size: int | None = None,
        attributes: dict[str, str] | None = None,
    ) -> Outcome:
        """Make `path` a file of these bytes.

        overwrite   False: only if nothing is there, else FileExists
        parents     make missing parent directories
        if_version  replace only this version, else PreconditionFailed
        """
        from dfs.file import write_all
        from dfs.storing import put_action

        replication = replication or self._replication
        make = put_action(
            self._path(path),
            overwrite=overwrite,
            parents=parents,
            if_version=if_version,
            replication=replication,
            attributes=attributes,
        )
        return write_all(
            self._storing.stream(make, replication=replication, chunk_size=chunk_size, size=len(data)), [data]
        )

    def append(
        self,
        path: str,
        data: Buffer | BinaryIO,
        *,
        create: bool = True,
        parents: bool = False,
        replication: int | None = None,
    ) -> Outcome:
        """Add bytes, or all that a binary file object gives, behind the end of a file, at one instant.

        create  False: FileNotFound if there is no file yet
        """
        from dfs.file import pieces_of, write_all

        replication = replication or self._replication
        pending = self._storing.append_stream(self._path(path), create=create, parents=parents, replication=replication)
        return write_all(pending, pieces_of(data))

    @overload
    def open(self, path: str, mode: Literal["r"] = "r", **options: Any) -> "io.TextIOWrapper": ...
    @overload
    def open(self, path: str, mode: Literal["rb"], **options: Any) -> "io.BufferedReader": ...
    @overload
    def open(self, path: str, mode: Literal["wb", "xb", "ab"], **options: Any) -> "BinaryWriter": ...
    @overload
    def open(self, path: str, mode: Literal["w", "x", "a"], **options: Any) -> "TextWriter": ...
    @overload
    def open(self, path: str, mode: str, **options: Any) -> Any: ...

    def open(
        self,
        path: str,
        mode: str = "r",
        *,
        parents: bool = False,
        replication: int | None = None,
        chunk_size: int | None = None,
        **text: Any,
    ) -> Any:
        """Open a file as Python's `open` does: "r", "w" (replaces), "x" (creates), "a" (appends); "b" for bytes.

        A reader reads the version that it opened to its end. What a writer writes becomes visible when it is closed,
        all at once; a `with` body that raises publishes nothing, nor does a file that is never closed. `text`: encoding
        (UTF-8 if not given), errors, newline, for text.
        """
        from dfs.opening import open_file

        return open_file(
            self._downloads,
            lambda: self._storing,
            self._path(path),
            mode,
            parents=parents,
            replication=replication or self._replication,
            chunk_size=chunk_size,
            text=text,
        )

    # --- local files ------------------------------------------------------------------------------------------

    def put(
        self,
        local: str | os.PathLike[str],
        path: str,
        *,
        overwrite: bool = False,
        parents: bool = False,
        recursive: bool = False,
        preserve: bool = False,
        replication: int | None = None,
        chunk_size: int | None = None,
        progress: "Progress | None" = None,
    ) -> "TreeReport":
        """Store a local file as `path`, or in `path` if that is a directory. Invisible until it is complete.

        overwrite  replace a file that is there; else FileExists
        parents    make missing parent directories
        recursive  store a directory with all that is below; what can't be stored is named in the report
        preserve   keep the source's mode and modification time
        progress   called with the bytes and files that were added since its last call
        Raises     Conflict: the local file became shorter meanwhile
        """
        name = os.fspath(local)
        from dfs.targets import check_target, inside

        target = inside(self._namenodes, self._path(path), os.path.basename(os.path.abspath(name)))
        if os.path.isdir(name):
            if not recursive:
                raise IsADirectory(f"{name} is a directory; -r (recursive=True) stores it", path=name)
            return self.put_tree(
                name,
                target,
                overwrite=overwrite,
                parents=parents,
                preserve=preserve,
                replication=replication,
                chunk_size=chunk_size,
                progress=progress,
            )
        from dfs.put_file import put_file

        check_target(self._namenodes, target, overwrite=overwrite, parents=parents)
        return put_file(
            self._storing,
            name,
            target,
            overwrite=overwrite,
            parents=parents,
            preserve=preserve,
            replication=replication or self._replication,
            chunk_size=chunk_size,
            progress=progress,
        )

    def put_tree(
        self,
        local: str | os.PathLike[str],
        path: str,
        *,
        overwrite: bool = False,
        parents: bool = False,
        preserve: bool = False,
        replication: int | None = None,
        chunk_size: int | None = None,
        progress: "Progress | None" = None,
    ) -> "TreeReport":
        """Store what is in a local directory as what is in the directory `path`, which is made if it is missing.

        Small files travel in packs. Files appear as they are complete. What can't be stored is named in the report.
        """
        from dfs.put_tree import PutOptions, TreePut

        options = PutOptions(
            overwrite=overwrite,
            parents=parents,
            preserve=preserve,
            replication=replication or self._replication,
            chunk_size=chunk_size,
        )
        return TreePut(self._storing, options, progress).put(os.fspath(local), self._path(path))

    def get(
        self,
        path: str,
        local: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        recursive: bool = False,
        preserve: bool = False,
        progress: "Progress | None" = None,
    ) -> "TreeReport":
        """Write a file to `local`, or into `local` if that is a directory. It has a temporary name until it is whole.

        Options as for `put`. Raises NoSpace: the local disk is full; nothing is left there then.
        """
        from dfs.tree import Tally

        source, target = self._path(path), os.fspath(local)
        if os.path.isdir(target):
            target = os.path.join(target, source.rpartition("/")[2]) if source != "/" else target
        if recursive:
            entry = self.stat(source)
            if entry.is_directory:
                return self.get_tree(source, target, overwrite=overwrite, preserve=preserve, progress=progress)
        tally = Tally(progress)
        entry = self._downloads.download(source, target, overwrite=overwrite, preserve=preserve, added=tally.moved)
        tally.files(1, entry.size, moved=True)
        return tally.report

    def get_tree(
        self,
        path: str,
        local: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        preserve: bool = False,
        progress: "Progress | None" = None,
    ) -> "TreeReport":
        """Write what is in the directory `path` into the local directory `local`, which is made if it is missing."""
        from dfs.get_tree import TreeGet

        root = self.stat(path)
        if not root.is_directory:
            raise NotADirectory(f"{root.path} is a file", path=root.path)
        tree = TreeGet(self._downloads, self.walk, overwrite=overwrite, preserve=preserve, progress=progress)
        return tree.get(root, os.fspath(local))

    # --- the namespace ----------------------------------------------------------------------------------------

    def stat(self, path: str) -> Entry:
        """The entry of a file or directory."""
        return self._namenodes.call(STAT, Stat(path=self._path(path)))

    def _stat_many(self, paths: Sequence[str]) -> list[Entry | None]:
        return self._namenodes.call(STAT_MANY, StatMany(paths=list(paths))).entries

    def exists(self, path: str) -> bool:
        """Whether something has that path."""
        return self._stat_many([self._path(path)])[0] is not None

    def ls(self, path: str) -> Iterator[Entry]:
        """The entries of a directory, in UTF-8 byte order, page by page; a file lists itself."""
        target = self._path(path)
        page = self._namenodes.call(LIST, ListDirectory(path=target, limit=PAGE_SIZE))
        # The first page is asked for at once, so that a path that is missing is an error here and not later.
        return self._pages(target, page.entries, page.next)

    def _pages(self, path: str, entries: list[Entry], after: str | None) -> Iterator[Entry]:
        yield from entries
        while after is not None:
            page = self._namenodes.call(LIST, ListDirectory(path=path, after=after, limit=PAGE_SIZE))
            yield from page.entries
            after = page.next

    def walk(self, path: str) -> Iterator[tuple[str, list[Entry], list[Entry]]]:
        """Every directory from `path` down, parents first: its path, its directories, its files.

        Directories that are taken out of the list are not entered; one that vanishes meanwhile is passed over.
        """
        from dfs.walking import walk

        return walk(self.ls, self._path(path))

    def glob(self, pattern: str) -> Iterator[str]:
        """The paths that match a pattern of `*`, `?`, `[ab]`, `{a,b}` and `**`, sorted within each directory."""
        from dfs.globbing import glob
        from dfs.walking import entries_or_nothing

        text = self._without_host(pattern)
        if not text.startswith("/"):
            raise InvalidRequest(f"{pattern!r} is not an absolute pattern; remote paths begin with /")
        return glob(text, list_directory=partial(entries_or_nothing, self.ls), exists=self.exists)

    def mkdir(self, path: str, *, parents: bool = False, exist_ok: bool = False, mode: int | None = None) -> Outcome:
        """Make a directory."""
        return self._act(MakeDirectory(path=self._path(path), parents=parents, exist_ok=exist_ok, mode=mode))[0]

    def remove(
        self,
        path: str,
        *,
        recursive: bool = False,
        missing_ok: bool = False,
        kind: Literal["any", "file", "directory"] = "any",
        if_version: int | None = None,
    ) -> Outcome:
        """Remove a file, or a directory: an empty one, or one of any size if `recursive`, at once.

        kind  "file": IsADirectory for a directory; "directory": NotADirectory for a file
        """
        action = Remove(
            path=self._path(path), recursive=recursive, missing_ok=missing_ok, kind=kind, if_version=if_version
        )
        return self._act(action)[0]

    def rename(self, source: str, target: str, *, overwrite: bool = False, parents: bool = False) -> Outcome:
        """Give a file or a directory another path. `overwrite` replaces a file, or an empty directory."""
        action = Rename(source=self._path(source), target=self._path(target), overwrite=overwrite, parents=parents)
        return self._act(action)[0]

    def copy(
        self, source: str, target: str, *, overwrite: bool = False, recursive: bool = False, parents: bool = False
    ) -> int:
        """Copy a file, or a directory if `recursive`; no bytes move. Returns the number of files.

        A directory is copied into what is there; its files appear in groups, not all at one instant.
        """
        from dfs.copying import copy_tree

        here, there = self._path(source), self._path(target)
        if recursive and self.stat(here).is_directory:
            return copy_tree(self, here, there, overwrite=overwrite, parents=parents)
        self._act(Copy(source=here, target=there, overwrite=overwrite, parents=parents))
        return 1

    def commit(self, actions: Sequence[Action]) -> list[Outcome]:
        """Perform actions of the protocol at one instant, all or none; `transaction` is the comfortable way."""
        from dfs.publisher import Batch

        return self._storing.publisher.publish(Batch(list(actions)))

    def touch(self, path: str, *, parents: bool = False) -> Outcome:
        """Make an empty file, or set the modification time of what is there to now."""
        target = self._path(path)
        now = SetAttributes(path=target, mtime_ns=self._namenodes.now_ms() * 1_000_000)
        try:
            return self._act(now)[0]
        except FileNotFound:
            try:
                return self._act(PutFile(path=target, when="absent", parents=parents))[0]
            except FileExists:
                return self._act(now)[0]

    def set_attributes(
        self,
        path: str,
        *,
        mode: int | None = None,
        owner: str | None = None,
        group: str | None = None,
        mtime_ns: int | None = None,
        attributes: dict[str, str] | None = None,
        drop_attributes: Sequence[str] = (),
    ) -> Outcome:
        """Change what describes a file or directory; None leaves as it is. `attributes` are merged."""
        action = SetAttributes(
            path=self._path(path),
            mode=mode,
            owner=owner,
            group=group,
            mtime_ns=mtime_ns,
            attributes=attributes,
            drop_attributes=list(drop_attributes),
        )
        return self._act(action)[0]

    def set_replication(self, path: str, replication: int) -> Outcome:
        """How many replicas a file is to have; they are made, or removed, in the background."""
        return self._act(SetAttributes(path=self._path(path), replication=replication))[0]

    def transaction(self) -> "Transaction":
        """For a `with` statement: what is done with it becomes visible at its end, at one instant, or not at all."""
        from dfs.transaction import Transaction

        return Transaction(self._storing, self._path)

    # --- facts ------------------------------------------------------------------------------------------------

    def checksum(self, path: str) -> str:
        """The digest of a file's bytes, `xxh3-tree:` and 32 hex digits, whatever chunks they lie in.

        Two files have the same one if and only if they have the same bytes; `dfs.checksum` says how it is computed.
        """
        from dfs.checksum import checksum

        _, reader = self._downloads.reader(self._path(path))
        return checksum(reader.content, self._downloads.fetcher)

    def usage(self, path: str) -> Usage:
        """Files, directories and bytes at and below a path."""
        return self._namenodes.call(USAGE, Stat(path=self._path(path)))

    def places(self, path: str) -> FilePlaces:
        """A file's extents and chunks, and where every replica is."""
        from dfs.operating import places

        return places(self._namenodes, self._path(path))

    @property
    def admin(self) -> "Operating":
        """What operators do: inspect, drain, balance, hold back."""
        from dfs.operating import Operating

        return Operating(self._namenodes, self._path, self._clock)

    def status(self) -> Status:
        """Counts, health, and the datanodes."""
        return self._namenodes.call(STATUS, Empty())

    def collect_garbage(self) -> Collected:
        """Have the namenode sweep and collect now instead of at its next turn. Graces are kept."""
        return self._namenodes.call(COLLECT_GARBAGE, CollectGarbage())

    def cluster(self) -> ClusterFacts:
        """Who the cluster is, and its defaults."""
        return self._namenodes.refresh()

    # --- the end ----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let threads and connections go. The client may still be used; it makes new ones then."""
        self._workers.close()
        self._transport.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"dfs.connect({self.url!r})"
