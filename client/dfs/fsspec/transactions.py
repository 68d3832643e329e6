"""`with fs.transaction:` as one commit: what is written, moved and removed in it becomes visible at one instant.

Separate from `dfs.transaction`, which is used through an object of its own, because fsspec's transaction is a state of
the file system: while it lasts, the file system's methods hand their changes over to it. Reading goes on as before, and
shows what was there before the transaction.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fsspec.transaction import Transaction as FsspecTransaction

from dfs.protocol.errors import InvalidRequest

if TYPE_CHECKING:
    from dfs.fsspec.files import DfsWriter
    from dfs.fsspec.filesystem import DfsFileSystem
    from dfs.transaction import Transaction


class DfsTransaction(FsspecTransaction):
    """What `fs.transaction` is. One at a time for each file system; its files may be written in several threads."""

    def __init__(self, fs: "DfsFileSystem", **kwargs: Any) -> None:
        super().__init__(fs, **kwargs)
        self._client = fs.client
        self._lock = threading.RLock()
        self._changes: Transaction | None = None
        self._open: list[DfsWriter] = []
        self._written: set[str] = set()

    @contextmanager
    def changes(self, *written: str) -> Iterator["Transaction"]:
        """The client's transaction, for one caller at a time. `written`: paths that there will be something at."""
        with self._lock:
            if self._changes is None:
                self._changes = self._client.transaction()
            yield self._changes
            self._written.update(written)

    def will_write(self, path: str) -> bool:
        """Whether `path`, or something that it is the parent of, was written in this transaction."""
        inside = path.rstrip("/") + "/"
        with self._lock:
            return any(written == path or written.startswith(inside) for written in self._written)

    def opened(self, file: "DfsWriter") -> None:
        """A file is being written; it must be closed before the end."""
        with self._lock:
            self._open.append(file)

    def start(self) -> None:
        super().start()
        with self._lock:
            self._changes, self._open, self._written = None, [], set()

    def complete(self, commit: bool = True) -> None:
        """Make everything visible at once, or drop it. Raises what prevents that; then nothing is visible.

        Raises  InvalidRequest: a file is still open
        """
        try:
            with self._lock:
                self._finish(commit=commit)
        finally:
            # The file system is out of the transaction, whatever became of it: fsspec's own part sees to that.
            super().complete(commit=commit)

    def _finish(self, *, commit: bool) -> None:
        unfinished = [file for file in self._open if not file.closed]
        changes, self._changes, self._open = self._changes, None, []
        for file in unfinished:
            file.abort()
        if changes is None:
            return
        if not commit or unfinished:
            changes.abort()
        if commit and unfinished:
            raise InvalidRequest(f"{unfinished[0].path} is still open; close it before the transaction ends")
        if commit:
            changes.commit()
