"""fsspec's names and metadata on top of the client: which cluster, what is there, and how it is described.

Separate from `filesystem`, which changes things and moves bytes. Two habits of fsspec's base class are not kept: an
error never means "not there" (a cluster that can't be reached is no answer), and no listing is cached, so that each
answer is the cluster's of that moment.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from fsspec.spec import AbstractFileSystem
from fsspec.utils import stringify_path, tokenize

from dfs.client import Client, connect
from dfs.connecting import PARALLEL, parse_url
from dfs.fsspec.listing import DIRECTORIES_MAX, entries_below
from dfs.protocol.errors import InvalidName
from dfs.protocol.http_files import files_target
from dfs.protocol.messages import Entry
from dfs.workers import Workers

IGNORED_OPTIONS = {"use_listings_cache", "listings_expiry_time", "max_paths", "asynchronous", "loop"}
"""What fsspec's users pass to any file system. There is no listings cache to configure, and nothing runs in a loop."""
_SLASHES = re.compile("/{2,}")
_MAGIC = re.compile(r"[*?\[]")

Described = dict[str, Any]
"""What `info` says of one path."""


class DfsNamespace(AbstractFileSystem):
    """The part of DfsFileSystem that looks. Usable from several threads and after a fork, like the client."""

    protocol = "dfs"
    root_marker = "/"
    blocksize = 4 << 20
    """What callers that copy in a loop read at a time, bytes."""

    def __init__(
        self,
        namenode: str | None = None,
        *,
        parallel: int = PARALLEL,
        chunk_size: int | None = None,
        replication: int | None = None,
        principal: str = "anonymous",
        auto_mkdir: bool = True,
        **options: Any,
    ) -> None:
        """A file system of one cluster. No call is made yet. Options as for dfs.connect, and:

        namenode    as `url` there; dfs://host:port/path names it too
        auto_mkdir  make missing parent directories of what is written, moved or copied
        """
        unknown = sorted(options.keys() - IGNORED_OPTIONS)
        if unknown:
            raise TypeError(f"dfs has no storage option {unknown[0]!r}; there are namenode, parallel, chunk_size, …")
        super().__init__(use_listings_cache=False)
        self._how: dict[str, Any] = {
            "parallel": parallel,
            "chunk_size": chunk_size,
            "replication": replication,
            "principal": principal,
        }
        self._namenode = namenode
        self._client: Client | None = None
        self._workers = Workers(DIRECTORIES_MAX)
        self.auto_mkdir = auto_mkdir

    @property
    def client(self) -> Client:
        """The client underneath: for what fsspec has no words for."""
        if self._client is None:
            self._client = connect(self._namenode, **self._how)
        return self._client

    # --- names ------------------------------------------------------------------------------------------------

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(item) for item in path]
        text = str(stringify_path(path)).removeprefix("dfs::")
        if text.startswith("dfs://"):
            text = "/" + text.removeprefix("dfs://").partition("/")[2]
        return _SLASHES.sub("/", "/" + text).rstrip("/") or "/"

    @classmethod
    def _parent(cls, path: Any) -> str:
        return str(cls._strip_protocol(path)).rpartition("/")[0] or "/"

    def unstrip_protocol(self, name: str) -> str:
        """The URL of a path: with the namenodes, where such a URL can name them."""
        return f"dfs://{place_of(self.client.url)}{self._strip_protocol(name)}"

    @staticmethod
    def _get_kwargs_from_urls(path: Any) -> dict[str, Any]:
        text = str(stringify_path(path))
        place = text.removeprefix("dfs://").partition("/")[0] if text.startswith("dfs://") else ""
        return {"namenode": place} if place else {}

    @property
    def fsid(self) -> str:
        """The cluster's identity."""
        return f"dfs-{self.client.cluster().cluster}"

    def sign(self, path: str, expiration: int = 100, **kwargs: Any) -> str:
        """The HTTP address of a path. It does not expire: whoever reaches the cluster may read what is there."""
        return self.client.url.split(",")[0] + files_target(self._strip_protocol(path))

    def invalidate_cache(self, path: str | None = None) -> None:
        """Nothing: there is no cache."""

    # --- one path ---------------------------------------------------------------------------------------------

    def described(self, entry: Entry) -> Described:
        """An entry as `info` and `ls` show it."""
        return {
            "name": entry.path,
            "size": entry.size,
            "type": entry.kind,
            "mtime": entry.mtime,
            "mode": entry.mode,
            "owner": entry.owner,
            "group": entry.group,
            "replication": entry.replication,
            "version": entry.version,
            "etag": entry.etag,
        }

    def _found(self, path: Any) -> Entry | None:
        """The entry of a path; None where there is nothing, and where there can't be anything."""
        try:
            return self.client.stat_many([self._strip_protocol(path)])[0]
        except InvalidName:
            return None

    def info(self, path: str, **kwargs: Any) -> Described:
        """What is known of a file or directory. Raises FileNotFoundError."""
        return self.described(self.client.stat(self._strip_protocol(path)))

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Whether something has that path. An error is raised, and does not mean no."""
        return self._found(path) is not None

    def lexists(self, path: str, **kwargs: Any) -> bool:
        """As `exists`: there are no links."""
        return self.exists(path)

    def isfile(self, path: str) -> bool:
        """Whether a file is there. An error is raised, and does not mean no."""
        found = self._found(path)
        return found is not None and not found.is_directory

    def isdir(self, path: str) -> bool:
        """Whether a directory is there. An error is raised, and does not mean no."""
        found = self._found(path)
        return found is not None and found.is_directory

    def sizes(self, paths: list[str]) -> list[int]:
        """The sizes of many files, in few calls."""
        found = self.client.stat_many([self._strip_protocol(path) for path in paths])
        return [self.size(path) if entry is None else entry.size for path, entry in zip(paths, found, strict=True)]

    def modified(self, path: str) -> datetime:
        """When the present content was committed, or the time that was set since."""
        return datetime.fromtimestamp(self.info(path)["mtime"], UTC)

    def created(self, path: str) -> datetime:
        """As `modified`: a content is made once and never changed, and no older time is kept."""
        return self.modified(path)

    def ukey(self, path: str) -> str:
        """Another text whenever the content is another: for caches."""
        found = self.info(path)
        return str(tokenize(found["name"], found["type"], found["etag"], found["version"]))

    def checksum(self, path: str) -> int:
        """Another number whenever the content is another. `client.checksum` gives the digest of the bytes."""
        return int(self.ukey(path), 16)

    # --- directories ------------------------------------------------------------------------------------------

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """What is in a directory, in UTF-8 byte order; a file lists itself. Raises FileNotFoundError."""
        entries = self.client.ls(self._strip_protocol(path))
        return [self.described(entry) if detail else entry.path for entry in entries]

    def walk(
        self,
        path: str,
        maxdepth: int | None = None,
        topdown: bool = True,
        on_error: str | Callable[[OSError], None] = "omit",
        **kwargs: Any,
    ) -> Iterator[Any]:
        """As os.walk. What vanishes meanwhile is left out; other errors are raised."""
        handler = _omit_missing if on_error == "omit" else on_error
        yield from super().walk(path, maxdepth, topdown, handler, **kwargs)

    def find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **kwargs: Any
    ) -> Any:
        """All files below a path, with `withdirs` also the directories and the path itself; a file finds itself.

        Nothing is below what is missing. Returns sorted names, or with `detail` a dictionary of what `info` says.
        """
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        found = self._entries(self._strip_protocol(path), maxdepth)
        chosen = {entry.path: entry for entry in found if withdirs or not entry.is_directory}
        names = sorted(chosen)
        return {name: self.described(chosen[name]) for name in names} if detail else names

    def _entries(self, path: str, levels: int | None) -> list[Entry]:
        """The entry of a path, and all below it."""
        root = self._found(path)
        if root is None:
            return []
        if not root.is_directory:
            return [root]
        return [root, *entries_below(self.client.ls, path, levels=levels, workers=self._workers)]

    def du(
        self, path: str, total: bool = True, maxdepth: int | None = None, withdirs: bool = False, **kwargs: Any
    ) -> Any:
        """Bytes of the files at and below a path: their sum, or with total=False of each."""
        if total and maxdepth is None:
            return self.client.usage(self._strip_protocol(path)).bytes
        found = self.find(path, maxdepth=maxdepth, withdirs=withdirs, detail=True)
        sizes = {name: described["size"] for name, described in found.items()}
        return sum(sizes.values()) if total else sizes

    def _is_pattern(self, path: Any) -> bool:
        """Whether a path stands for others. A file whose own name has such characters stands for itself."""
        return isinstance(path, str) and _MAGIC.search(path) is not None and not self.exists(path)


def place_of(namenodes: str) -> str:
    """How a URL dfs://… names these namenodes, which are as `connect` takes them; "" if it can't: it means http."""
    urls = [urlsplit(parse_url(url)) for url in namenodes.split(",") if url.strip()]
    return ",".join(url.netloc for url in urls) if all(url.scheme == "http" for url in urls) else ""


def _omit_missing(error: OSError) -> None:
    """What `walk` does about an error: nothing, if the directory is gone."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
