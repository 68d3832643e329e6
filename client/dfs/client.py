"""The client: one object with a method for everything that can be done with a cluster.

It owns nothing but the parts that do the work (namenodes, sender, fetcher, threads) and the meaning of arguments;
what names and metadata need is in `namespace`, and here is what moves bytes, or makes many changes at once: each method
hands over to the module that knows how. Imports of what is not always needed happen where it is needed: a command that
lists a directory must not pay for trees and threads.
"""

import os
import random
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, overload

from dfs.connecting import connect
from dfs.experience import Experience
from dfs.namenodes import Namenodes
from dfs.namespace import Namespace
from dfs.protocol.clock import Clock
from dfs.protocol.digests import Buffer
from dfs.protocol.errors import InvalidRequest, IsADirectory, NotADirectory
from dfs.protocol.messages import Action, Copy, Outcome
from dfs.protocol.transport import Transport
from dfs.retries import RetryBudget
from dfs.workers import Workers

if TYPE_CHECKING:
    import io

    from dfs.file import BinaryWriter, TextWriter
    from dfs.get_tree import Downloads
    from dfs.operating import Operating
    from dfs.orphans import Orphans
    from dfs.selection import Selection
    from dfs.storing import Storing
    from dfs.syncing import Syncing
    from dfs.transaction import Transaction
    from dfs.tree import Progress, TreeReport

__all__ = ["Client", "connect"]

THREADS_MAX = 8
"""Of one client, whatever it is asked to do at once."""


class Client(Namespace):
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
        super().__init__(namenodes, clock)
        self._transport = transport
        self._rng = rng
        self._parallel = parallel
        self._chunk_size = chunk_size
        self._replication = replication
        self._experience = Experience(clock, hedged_reads=hedged_reads)
        self._retries = RetryBudget(clock)
        self._workers = Workers(max(THREADS_MAX, parallel))
        self._storing_part: Storing | None = None
        self._downloads_part: Downloads | None = None

    # --- the parts --------------------------------------------------------------------------------------------

    @property
    def _downloads(self) -> "Downloads":
        if self._downloads_part is None:
            from dfs.get_tree import Downloads

            fetcher = self._experience.fetcher(self._transport, self._namenodes, self._retries, self._rng)
            self._downloads_part = Downloads(
                self._namenodes, fetcher, self._workers, self._clock, parallel=self._parallel
            )
        return self._downloads_part

    @property
    def _storing(self) -> "Storing":
        if self._storing_part is None:
            from dfs.storing import Storing

            self._storing_part = Storing(
                self._namenodes,
                self._experience.sender(self._transport, self._retries, self._rng),
                self._downloads.fetcher,
                self._workers,
                self._experience.suspects,
                self._clock,
                parallel=self._parallel,
                chunk_size=self._chunk_size,
                replication=self._replication,
            )
        return self._storing_part

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

    def truncate(self, path: str, size: int, *, if_version: int | None = None) -> Outcome:
        """Make a file `size` bytes long; it can't become longer. No data moves.

        if_version  only this version, else PreconditionFailed
        """
        from dfs.truncating import truncate

        return truncate(self._downloads, self._act, self._path(path), size, if_version=if_version)

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
        resume: bool = False,
        notice: "Callable[[str], None] | None" = None,
        selection: "Selection | None" = None,
    ) -> "TreeReport":
        """Store a local file as `path`, or in `path` if that is a directory. Invisible until it is complete.

        overwrite  replace a file that is there; else FileExists
        parents    make missing parent directories
        recursive  store a directory with all that is below; what can't be stored is named in the report
        preserve   keep the source's mode and modification time
        progress   called with the bytes and files that were added since its last call
        resume     of one file: note what is stored, and go on where an earlier call with `resume` was interrupted, if
                   neither source nor target has changed
        notice     called with a sentence about what became of the earlier call
        selection  which files of a directory are meant; None: all
        Raises     Conflict: the local file became shorter meanwhile
        """
        name = os.fspath(local)
        from dfs.targets import check_target, inside

        target = inside(self._namenodes, self._path(path), os.path.basename(os.path.abspath(name)))
        if os.path.isdir(name):
            if resume:
                raise IsADirectory(f"{name} is a directory; only the upload of a single file is resumed", path=name)
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
                selection=selection,
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
            resume=resume,
            notice=notice,
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
        selection: "Selection | None" = None,
    ) -> "TreeReport":
        """Store what is in a local directory as what is in the directory `path`, which is made if it is missing.

        Small files travel in packs. Files appear as they are complete. What can't be stored is named in the report.
        """
        from dfs.put_tree import PutOptions, TreePut
        from dfs.selection import EVERYTHING

        options = PutOptions(
            overwrite=overwrite,
            parents=parents,
            preserve=preserve,
            replication=replication or self._replication,
            chunk_size=chunk_size,
            selection=selection or EVERYTHING,
        )
        return TreePut(self._storing, options, progress).put(os.fspath(local), self._path(path))

    def put_many(
        self, files: Iterable[tuple[str, str]], *, overwrite: bool = False, parents: bool = False, **options: Any
    ) -> None:
        """Store local files, each as the path beside it: small ones in packs, some hundred with each commit.

        Options as for Transaction.put. Raises the first error; what was committed before it stays.
        """
        from dfs.put_many import put_many

        limit = self._storing.pack_limit()
        pairs = ((local, self._path(path)) for local, path in files)
        put_many(self.transaction, pairs, small=limit, overwrite=overwrite, parents=parents, **options)

    def get(
        self,
        path: str,
        local: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        recursive: bool = False,
        preserve: bool = False,
        progress: "Progress | None" = None,
        resume: bool = False,
        selection: "Selection | None" = None,
    ) -> "TreeReport":
        """Write a file to `local`, or into `local` if that is a directory. It has a temporary name until it is whole.

        Options as for `put`. Raises NoSpace: the local disk is full; nothing is left there then.

        resume  of one file: what has come stays after an error, and is used again as far as it has the right digests
        """
        from dfs.tree import Tally

        source, target = self._path(path), os.fspath(local)
        if os.path.isdir(target):
            target = os.path.join(target, source.rpartition("/")[2]) if source != "/" else target
        if recursive:
            entry = self.stat(source)
            if entry.is_directory:
                if resume:
                    raise IsADirectory(f"{source} is a directory; only the download of a single file is resumed")
                return self.get_tree(
                    source, target, overwrite=overwrite, preserve=preserve, progress=progress, selection=selection
                )
        tally = Tally(progress)
        entry = self._downloads.download(
            source, target, overwrite=overwrite, preserve=preserve, added=tally.moved, resume=resume
        )
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
        selection: "Selection | None" = None,
    ) -> "TreeReport":
        """Write what is in the directory `path` into the local directory `local`, which is made if it is missing."""
        from dfs.get_tree import TreeGet
        from dfs.selection import EVERYTHING

        root = self.stat(path)
        if not root.is_directory:
            raise NotADirectory(f"{root.path} is a file", path=root.path)
        tree = TreeGet(
            self._downloads,
            self.walk,
            overwrite=overwrite,
            preserve=preserve,
            progress=progress,
            selection=selection or EVERYTHING,
        )
        return tree.get(root, os.fspath(local))

    @property
    def syncing(self) -> "Syncing":
        """What makes a local directory and one here alike."""
        from dfs.syncing import Syncing

        return Syncing(self, lambda: self._storing, lambda: self._downloads)

    def get_many(
        self, files: Iterable[tuple[str, str]], *, overwrite: bool = False, progress: "Progress | None" = None
    ) -> "TreeReport":
        """Write files to the local files beside them, whole packs at a time; what can't be is named in the report."""
        from dfs.get_tree import TreeGet

        tree = TreeGet(self._downloads, self.walk, overwrite=overwrite, preserve=False, progress=progress)
        return tree.get_files([(self._path(path), local) for path, local in files])

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

    def transaction(self) -> "Transaction":
        """For a `with` statement: what is done with it becomes visible at its end, at one instant, or not at all."""
        from dfs.transaction import Transaction

        return Transaction(self._storing, self._path)

    def checksum(self, path: str) -> str:
        """The digest of a file's bytes, `xxh3-tree:` and 32 hex digits, whatever chunks they lie in.

        Two files have the same one if and only if they have the same bytes; `dfs.checksum` says how it is computed.
        """
        from dfs.checksum import checksum

        _, reader = self._downloads.reader(self._path(path))
        return checksum(reader.content, self._downloads.fetcher)

    # --- operators --------------------------------------------------------------------------------------------

    @property
    def admin(self) -> "Operating":
        """What operators do: inspect, drain, balance, hold back, bring back."""
        from dfs.operating import Operating

        return Operating(self._namenodes, self._path, self._clock, self._orphans, lambda: self._downloads)

    def _orphans(self) -> "Orphans":
        from dfs.fetcher import Fetcher
        from dfs.orphans import Orphans

        # An orphan is in no content that could be asked for again: what failed is read as it was.
        fetcher: Fetcher = Fetcher(
            self._transport,
            self._namenodes,
            self._experience.suspects,
            rng=self._rng,
            renewed=lambda _, extent: extent,
        )
        return Orphans(self._namenodes, self._transport, fetcher, self._workers)

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
