"""The namespace, and the cluster's facts: what a client can do without touching a byte of a file.

Separate from the client because nothing here speaks to a datanode: each method is one call of the namenode, or a
walk of such calls. Reading and writing are on top of it, in `client`.
"""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal

from dfs.connecting import parse_url
from dfs.namenodes import Namenodes
from dfs.protocol.clock import Clock
from dfs.protocol.errors import FileExists, FileNotFound, InvalidRequest
from dfs.protocol.messages import (
    OPEN_MANY_MAX,
    Action,
    ClusterFacts,
    Collected,
    CollectGarbage,
    Commit,
    Concat,
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

PAGE_SIZE = 1000
"""Entries of one page of a listing."""
_SCHEME = "dfs://"


class Namespace:
    """The names of one cluster, and what is known of it. Usable from several threads, and after a fork."""

    def __init__(self, namenodes: Namenodes, clock: Clock) -> None:
        self._namenodes = namenodes
        self._clock = clock

    @property
    def url(self) -> str:
        """The namenodes' URLs, with commas between them: `connect` takes it."""
        return ",".join(self._namenodes.urls)

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

    # --- looking --------------------------------------------------------------------------------------------------

    def stat(self, path: str) -> Entry:
        """The entry of a file or directory."""
        return self._namenodes.call(STAT, Stat(path=self._path(path)))

    def stat_many(self, paths: Sequence[str]) -> list[Entry | None]:
        """The entries of many paths, in their order, in few calls; None where there is nothing."""
        wanted = [self._path(path) for path in paths]
        found: list[Entry | None] = []
        for start in range(0, len(wanted), OPEN_MANY_MAX):
            request = StatMany(paths=wanted[start : start + OPEN_MANY_MAX])
            found += self._namenodes.call(STAT_MANY, request).entries
        return found

    def exists(self, path: str) -> bool:
        """Whether something has that path."""
        return self.stat_many([path])[0] is not None

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

    def concat(self, path: str, sources: Sequence[str], *, if_version: int | None = None) -> Outcome:
        """Move the contents of other files behind the end of a file, in their order; they are gone then.

        No data moves, and all of it happens at one instant.
        """
        action = Concat(path=self._path(path), sources=[self._path(one) for one in sources], if_version=if_version)
        return self._act(action)[0]

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

    # --- facts ----------------------------------------------------------------------------------------------------

    def usage(self, path: str) -> Usage:
        """Files, directories and bytes at and below a path."""
        return self._namenodes.call(USAGE, Stat(path=self._path(path)))

    def places(self, path: str) -> FilePlaces:
        """A file's extents and chunks, and where every replica is."""
        from dfs.operating import places

        return places(self._namenodes, self._path(path))

    def status(self) -> Status:
        """Counts, health, and the datanodes."""
        return self._namenodes.call(STATUS, Empty())

    def collect_garbage(self) -> Collected:
        """Have the namenode sweep and collect now instead of at its next turn. Graces are kept."""
        return self._namenodes.call(COLLECT_GARBAGE, CollectGarbage())

    def cluster(self) -> ClusterFacts:
        """Who the cluster is, and its defaults."""
        return self._namenodes.refresh()
