"""DfsFileSystem: fsspec's changes and bytes on top of the client.

Every change goes through a transaction of the client: one of its own, or that of `with fs.transaction:`. What fsspec
does with one path after the other goes to the client's bulk calls, which read and write whole packs. It translates and
stores nothing, so that the atomicity of each call is the client's: a move is one rename, a copy moves no data.
"""

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.compression import compr
from fsspec.core import get_compression
from fsspec.spec import AbstractFileSystem
from fsspec.utils import isfilelike

from dfs.file import BinaryWriter, RawReader, TextWriter
from dfs.fsspec.files import CompressedWriter, DeferredWriter, DfsReader, DfsWriter, Through
from dfs.fsspec.looking import DfsNamespace
from dfs.fsspec.planning import Pairs, outermost, plan_copy, plan_get, plan_put
from dfs.fsspec.transactions import DfsTransaction
from dfs.many import batches
from dfs.protocol.errors import FileExists, FileNotFound, IsADirectory
from dfs.transaction import Transaction

TEXT_OPTIONS = ("encoding", "errors", "newline")
COPIES_MAX = 1000
"""Files and directories that one commit copies."""
COPY_TRIES_MAX = 5
"""Looks at what is still there, while files vanish that are to be copied."""


class DfsFileSystem(DfsNamespace):
    """A cluster as a file system of fsspec, protocol `dfs`."""

    transaction_type = DfsTransaction

    @contextmanager
    def _changes(self, *written: str) -> Iterator[Transaction]:
        """Where changes go. `written`: paths that there will be something at; known within `fs.transaction`."""
        if self._intrans:
            with self.transaction.changes(*written) as shared:
                yield shared
        else:
            with self.client.transaction() as own:
                yield own

    def _check_missing(self, path: str) -> None:
        """Within `fs.transaction`, raise at once what its end would raise: later nobody would expect it."""
        if self._intrans and not self.transaction.will_write(path):
            self.info(path)

    # --- names ------------------------------------------------------------------------------------------------

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Make a directory. Raises FileExistsError."""
        target = self._strip_protocol(path)
        if self._intrans and self.exists(target):
            raise FileExists(f"{target} exists already", path=target)
        with self._changes(target) as changes:
            changes.mkdir(target, parents=create_parents)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a directory and the missing ones above it. Raises FileExistsError, unless `exist_ok`."""
        target = self._strip_protocol(path)
        if self._intrans and not exist_ok and self.exists(target):
            raise FileExists(f"{target} exists already", path=target)
        with self._changes(target) as changes:
            changes.mkdir(target, parents=True, exist_ok=exist_ok)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        target = self._strip_protocol(path)
        self._check_missing(target)
        with self._changes() as changes:
            changes.remove(target, kind="directory")

    def rm_file(self, path: str) -> None:
        """Remove a file."""
        target = self._strip_protocol(path)
        self._check_missing(target)
        with self._changes() as changes:
            changes.remove(target, kind="file")

    def _rm(self, path: str) -> None:
        self.rm_file(path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove files, and with `recursive` directories of any size: all of them at one instant.

        path  one, a pattern, or a list of them; an empty directory needs no `recursive`
        """
        literal = isinstance(path, str | os.PathLike) and not self._is_pattern(path)
        if literal and (maxdepth is None or not recursive):
            doomed = [self._strip_protocol(path)]
            self._check_missing(doomed[0])
        elif maxdepth is not None and recursive:
            # Only what is above that depth: deepest first, so that each directory is empty when its turn comes.
            doomed, recursive = self.expand_path(path, recursive=True, maxdepth=maxdepth)[::-1], False
        else:
            doomed = self.expand_path(path, recursive=False)
            doomed = outermost(doomed) if recursive else doomed[::-1]
        with self._changes() as changes:
            for target in doomed:
                changes.remove(target, recursive=recursive)

    def mv(self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **kwargs: Any) -> None:
        """Give files or directories another path, atomically; into `path2` if that is a directory.

        path1  one, a pattern, or a list of them: all are moved at one instant. A file that is there is replaced.
        """
        if isinstance(path1, str | os.PathLike) and not self._is_pattern(path1):
            source, target = self._strip_protocol(path1), self._strip_protocol(path2)
            if source == target:
                return
            if str(path2).endswith("/") or self.isdir(target):
                target = f"{target.rstrip('/')}/{source.rpartition('/')[2]}"
            pairs = [(source, target)]
        else:
            planned = plan_copy(self, path1, path2, recursive=recursive, maxdepth=maxdepth, on_error="raise")
            moved = set(outermost([source for source, _ in planned]))
            pairs = [(source, target) for source, target in planned if source in moved and source != target]
        with self._changes(*(target for _, target in pairs)) as changes:
            for source, target in pairs:
                changes.rename(source, target, overwrite=True, parents=self.auto_mkdir)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copy a file; no data moves. Of a directory only the directory itself."""
        self._copy_pairs([(self._strip_protocol(path1), self._strip_protocol(path2))], missing_ok=False)

    def copy(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        on_error: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Copy within the cluster; no data moves. A file that is there is replaced.

        on_error  "ignore" leaves out what is missing (as `recursive` does by itself), "raise" raises it
        """
        pairs = plan_copy(self, path1, path2, recursive=recursive, maxdepth=maxdepth)
        missing_ok = (on_error or ("ignore" if recursive else "raise")) == "ignore"
        for group in batches(pairs, COPIES_MAX):
            self._copy_pairs(group, missing_ok=missing_ok)

    def _copy_pairs(self, pairs: Pairs, *, missing_ok: bool) -> None:
        """Copy these in one commit."""
        for last in (False,) * (COPY_TRIES_MAX - 1) + (True,):
            found = self.client.stat_many([source for source, _ in pairs])
            try:
                with self._changes(*(target for _, target in pairs)) as changes:
                    for (source, target), entry in zip(pairs, found, strict=True):
                        if entry is None and not missing_ok:
                            self._check_missing(source)
                        if entry is not None and entry.is_directory:
                            changes.mkdir(target, parents=self.auto_mkdir, exist_ok=True)
                        elif entry is not None or not missing_ok:
                            changes.copy(source, target, overwrite=True, parents=self.auto_mkdir)
                return
            except FileNotFound:
                if last or not missing_ok:
                    raise

    def touch(self, path: str, truncate: bool = True, **kwargs: Any) -> None:
        """Make an empty file; with truncate=False only if nothing is there, else set its modification time to now."""
        target = self._strip_protocol(path)
        if truncate or (self._intrans and not self.exists(target)):
            self.pipe_file(target, b"")
        else:
            self.client.touch(target, parents=self.auto_mkdir)

    # --- open files -------------------------------------------------------------------------------------------

    def open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        cache_options: dict[str, Any] | None = None,
        compression: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """A file object. What is written becomes visible at `close`, all at once; a `with` body that raises, or a file
        that is never closed, publishes nothing.

        mode            r, w, x, a; with b for bytes
        autocommit      False: visible only when `commit` of the file object is called
        replication, chunk_size  of this file
        """
        target = self._strip_protocol(path)
        text: dict[str, Any] = {name: kwargs.pop(name) for name in TEXT_OPTIONS if name in kwargs}
        binary = "b" in mode
        file = self._open(target, mode.replace("t", "").replace("b", "") + "b", **kwargs)
        if compression is not None and (name := get_compression(target, compression)) is not None:
            compressed = compr[name](file, mode="r" if isinstance(file, DfsReader) else "w")
            file = compressed if isinstance(file, DfsReader) else CompressedWriter(compressed, file)
        if binary:
            return file
        text = {"encoding": "utf-8"} | text
        if isinstance(file, BinaryWriter | CompressedWriter):
            return TextWriter(cast("BinaryWriter", file), **text)
        return io.TextIOWrapper(file, **text)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """A binary file object."""
        if mode == "rb":
            raw = self.client.open(path, "rb").detach()
            assert isinstance(raw, RawReader), "what the client's files read from"
            return DfsReader(self, raw)
        how = {name: kwargs[name] for name in ("replication", "chunk_size") if kwargs.get(name) is not None}
        if mode not in ("wb", "xb", "ab"):
            raise ValueError(f"{mode!r} is not a mode of dfs files; there are rb, wb, xb and ab")
        if self._intrans or not autocommit:
            return self._open_deferred(path, mode, how)
        start = 0
        if mode == "ab":
            found = self._found(path)
            if found is not None and found.is_directory:
                raise IsADirectory(f"{path} is a directory", path=path)
            start = 0 if found is None else found.size
        below = self.client.open(path, mode, parents=self.auto_mkdir, **how)
        return DfsWriter(self, path, mode, Through(below), position=start)

    def _open_deferred(self, path: str, mode: str, how: dict[str, Any]) -> DfsWriter:
        """A file that becomes visible later than when it is closed."""
        found = self._found(path)
        if found is not None and found.is_directory:
            raise IsADirectory(f"{path} is a directory", path=path)
        if found is not None and mode == "xb":
            raise FileExists(f"{path} exists already", path=path)
        how |= {"parents": self.auto_mkdir, "overwrite": mode != "xb", "append": mode == "ab"}
        if self._intrans:
            with self.transaction.changes(path) as shared:
                file = DfsWriter(self, path, mode, Through(shared.open(path, **how)))
                self.transaction.opened(file)
                return file
        own = self.client.transaction()
        return DeferredWriter(self, path, mode, Through(own.open(path, **how)), own)

    # --- bytes ------------------------------------------------------------------------------------------------

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """The bytes of a file, or [start, end) of them, as a slice means it."""
        target = self._strip_protocol(path)
        if (start or 0) >= 0 and (end is None or end >= 0):
            return self.client.read_bytes(target, start=start or 0, end=None if end is None else max(end, start or 0))
        with self._open(target) as file:
            # The size and the bytes of one version.
            first, last, _ = slice(start, end).indices(file.size)
            file.seek(first)
            return bytes(file.read(max(0, last - first)))

    def head(self, path: str, size: int = 1024) -> bytes:
        """The first bytes of a file."""
        return self.cat_file(path, 0, size)

    def tail(self, path: str, size: int = 1024) -> bytes:
        """The last bytes of a file."""
        return self.cat_file(path, -size) if size else b""

    def cat_ranges(
        self, paths: Any, starts: Any, ends: Any, max_gap: int | None = None, on_error: str = "return", **kwargs: Any
    ) -> list[Any]:
        """Ranges of many files, in order: fetched in parallel, near ones together.

        starts, ends  one for each path, or one number for all; as a slice means them
        on_error      "return": an exception stands where its range would; "raise": the first one is raised
        """
        if not isinstance(paths, Sequence) or isinstance(paths, str):
            raise TypeError("cat_ranges needs a list of paths")
        starts = starts if isinstance(starts, Sequence) else [starts] * len(paths)
        ends = ends if isinstance(ends, Sequence) else [ends] * len(paths)
        if not len(paths) == len(starts) == len(ends):
            raise ValueError(f"{len(paths)} paths, {len(starts)} starts and {len(ends)} ends do not go together")
        return self._read(list(zip(self._strip_protocol(list(paths)), starts, ends, strict=True)), on_error)

    def _read(self, ranges: list[tuple[str, int | None, int | None]], on_error: str) -> list[Any]:
        """Ranges as `cat_ranges` has them. All at once; each by itself only to tell which ones fail."""
        if all((start or 0) >= 0 and (end is None or end >= 0) for _, start, end in ranges):
            plain = [(path, start or 0, None if end is None else max(end, start or 0)) for path, start, end in ranges]
            try:
                return list(self.client.read_many(plain))
            except Exception:
                if on_error == "raise":
                    raise

        def read_one(wanted: tuple[str, int | None, int | None]) -> Any:
            try:
                return self.cat_file(*wanted)
            except Exception as error:
                if on_error == "raise":
                    raise
                return error

        return list(self._workers.map(read_one, ranges))

    def cat(self, path: Any, recursive: bool = False, on_error: str = "raise", **kwargs: Any) -> Any:
        """The bytes of a file; of many, a dictionary of them by path, read all at once.

        on_error  "raise", "omit" (left out) or "return" (the exception instead of bytes)
        """
        paths = self.expand_path(path, recursive=recursive)
        if len(paths) == 1 and not isinstance(path, list) and paths[0] == self._strip_protocol(path):
            return self.cat_file(paths[0], **kwargs)
        if recursive:
            found = self.client.stat_many(paths)
            paths = [name for name, entry in zip(paths, found, strict=True) if entry is None or not entry.is_directory]
        start, end = kwargs.get("start"), kwargs.get("end")
        contents = self._read([(name, start, end) for name in paths], "raise" if on_error == "raise" else "return")
        answer = dict(zip(paths, contents, strict=True))
        if on_error == "omit":
            answer = {name: data for name, data in answer.items() if not isinstance(data, Exception)}
        return answer

    def pipe_file(self, path: str, value: Any, mode: str = "overwrite", **kwargs: Any) -> None:
        """Make a file of these bytes. mode="create": only if nothing is there, else FileExistsError."""
        self.pipe({path: value}, mode=mode, **kwargs)

    def pipe(self, path: Any, value: Any = None, mode: str = "overwrite", **kwargs: Any) -> None:
        """Make files of bytes: one, or with a dictionary many, which become visible at one instant."""
        values = path if isinstance(path, Mapping) else {path: value}
        how = {name: kwargs[name] for name in ("replication",) if kwargs.get(name) is not None}
        files = {self._strip_protocol(name): data for name, data in values.items()}
        with self._changes(*files) as changes:
            for name, data in files.items():
                whole = memoryview(data).cast("B") if not isinstance(data, bytes) else data
                changes.write_bytes(name, whole, overwrite=mode != "create", parents=self.auto_mkdir, **how)

    # --- local files ------------------------------------------------------------------------------------------

    def get_file(
        self,
        rpath: str,
        lpath: Any = None,
        callback: Callback = DEFAULT_CALLBACK,
        outfile: Any = None,
        **kwargs: Any,
    ) -> None:
        """Write a file to a local one, which has a temporary name until it is whole, or into an open one."""
        open_file = lpath if isfilelike(lpath) else outfile
        if open_file is None:
            self._get_pairs([(self._strip_protocol(rpath), os.fspath(lpath))], callback=None, each=callback)
        else:
            AbstractFileSystem.get_file(self, rpath, lpath, callback=callback, outfile=open_file)

    def get(
        self,
        rpath: Any,
        lpath: Any,
        recursive: bool = False,
        callback: Callback = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Write files to the local disk, whole packs at a time. Raises the first error, after what works is done."""
        if isfilelike(lpath):
            self.get_file(rpath, lpath, callback=callback)
            return
        pairs = plan_get(self, rpath, lpath, recursive=recursive, maxdepth=maxdepth)
        opened = [(source, target) for source, target in pairs if isfilelike(target)]
        for source, target in opened:
            self.get_file(source, target)
        callback.set_size(len(pairs))
        callback.relative_update(len(opened))
        named = [(self._strip_protocol(source), target) for source, target in pairs if not isfilelike(target)]
        self._get_pairs([(source, os.fspath(target)) for source, target in named], callback=callback)

    def _get_pairs(self, pairs: Pairs, *, callback: Callback | None, each: Callback | None = None) -> None:
        """`callback` counts files, `each` bytes."""
        found = self.client.stat_many([source for source, _ in pairs])
        files: Pairs = []
        for (source, target), entry in zip(pairs, found, strict=True):
            directory = entry is not None and entry.is_directory
            os.makedirs(target if directory else os.path.dirname(target) or ".", exist_ok=True)
            if not directory:
                files.append((source, target))
            elif callback is not None:
                callback.relative_update(1)
        if each is not None:
            each.set_size(sum(entry.size for entry in found if entry is not None))

        def progress(size: int, count: int) -> None:
            if callback is not None and count:
                callback.relative_update(count)
            if each is not None and size:
                each.relative_update(size)

        report = self.client.get_many(files, overwrite=True, progress=progress)
        if report.failures:
            raise report.failures[0].error

    def put_file(
        self,
        lpath: Any,
        rpath: str,
        callback: Callback = DEFAULT_CALLBACK,
        mode: str = "overwrite",
        **kwargs: Any,
    ) -> None:
        """Store a local file. mode="create": only if nothing is there, else FileExistsError."""
        size = 0 if os.path.isdir(lpath) else os.path.getsize(lpath)
        callback.set_size(size)
        self._put_pairs([(os.fspath(lpath), self._strip_protocol(rpath))], mode, kwargs)
        callback.relative_update(size)

    def put(
        self,
        lpath: Any,
        rpath: Any,
        recursive: bool = False,
        callback: Callback = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        mode: str = "overwrite",
        **kwargs: Any,
    ) -> None:
        """Store local files: small ones in packs, some hundred with each commit. Raises the first error."""
        pairs = plan_put(self, lpath, rpath, recursive=recursive, maxdepth=maxdepth)
        callback.set_size(len(pairs))
        self._put_pairs([(os.fspath(source), target) for source, target in pairs], mode, kwargs)
        callback.relative_update(len(pairs))

    def _put_pairs(self, pairs: Pairs, mode: str, kwargs: dict[str, Any]) -> None:
        how = {name: kwargs[name] for name in ("replication", "chunk_size") if kwargs.get(name) is not None}
        how |= {"overwrite": mode != "create", "parents": self.auto_mkdir}
        directories = [target for source, target in pairs if os.path.isdir(source)]
        files = [(source, target) for source, target in pairs if not os.path.isdir(source)]
        with self._changes(*directories) as changes:
            for target in directories:
                changes.mkdir(target, parents=True, exist_ok=True)
        if self._intrans:
            with self.transaction.changes(*(target for _, target in files)) as changes:
                for source, target in files:
                    changes.put(source, target, **how)
        else:
            self.client.put_many(files, **how)
