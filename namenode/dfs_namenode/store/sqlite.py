"""The SQLite store: opening it, reading from it, writing to it, closing it.

    store = SqliteStore.open(directory, clock=clock)
    answer = await store.write(work)          # on the event loop; work(tx) runs in the writer's thread
    answer = store.write_blocking(work)       # from a thread
    with store.read() as snapshot: ...        # short reads on the loop, long ones in a thread

Separate from the writer, which knows how changes are grouped, and from the queries, which know what they mean. WAL, so
that readers never wait; synchronous=FULL, since with NORMAL a power cut takes acknowledged commits along;
mmap_size=0, since an I/O error in mapped memory kills the process without a word.
"""

import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import apsw

from dfs.protocol.clock import Clock
from dfs.protocol.directories import MARKS, refuse_other_roles
from dfs.protocol.errors import Conflict, InvalidRequest, Unavailable
from dfs_namenode.store.guard import DirectoryLock, refuse_network_filesystem
from dfs_namenode.store.schema import STEPS
from dfs_namenode.store.transaction import Snapshot, Transaction
from dfs_namenode.store.writer import FATAL_ERRORS, Fatal, Writer, WriterLimits

T = TypeVar("T")
log = logging.getLogger(__name__)

DATABASE_NAME = MARKS["namenode"]
APPLICATION_ID = 0x64667331
"""Marks the file as ours ("dfs1"), so that another program's database is never taken for a store."""
_READERS_KEPT = 8
"""Idle reader connections that are kept; each has a cache of its own."""
_WRITER_CACHE_KIB = 16 * 1024
_READER_CACHE_KIB = 4 * 1024
EXIT_STORE_FAILED = 70
"""The exit code after an I/O error or corruption of the store."""


def end_process(reason: str) -> None:
    """What happens by default after an error of the store that can't be survived: no clean-up, no last write."""
    log.critical("%s; the namenode ends, so that nothing is acknowledged that may not be there", reason)
    logging.shutdown()
    os._exit(EXIT_STORE_FAILED)


class SqliteStore:
    """An open store. `write` and `read` may be used from any thread."""

    def __init__(self, disk_path: str, vfs: str, lock: DirectoryLock, writer: Writer, fatal: Fatal) -> None:
        self._disk_path = disk_path
        self._vfs = vfs
        self._lock = lock
        self._writer = writer
        self._fatal = fatal
        self._idle: list[apsw.Connection] = []
        self._gate = threading.Lock()
        self._closed = False

    @classmethod
    def open(
        cls,
        directory: str,
        *,
        clock: Clock,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        limits: WriterLimits | None = None,
        fatal: Fatal = end_process,
        vfs: str = "",
    ) -> "SqliteStore":
        """Open the store in `directory`, which is made if it is missing, and bring its schema up to date.

        fatal    called with the reason after an error that the process must not survive
        vfs      SQLite's door to the operating system by its registered name; "" is the ordinary one
        Raises   Conflict (another namenode uses it, or a newer version made it), InvalidRequest (network file
                 system, or not a store)
        """
        os.makedirs(directory, mode=0o700, exist_ok=True)
        refuse_network_filesystem(directory)
        refuse_other_roles(directory, "namenode")
        lock = DirectoryLock(directory)
        disk_path = os.path.join(directory, DATABASE_NAME)
        try:
            connection = _connect_writer(disk_path, vfs)
            try:
                migrate(connection, STEPS)
            except BaseException:
                connection.close()
                raise
            _sync_directory(directory)
            writer = Writer(
                connection, clock=clock, random_bytes=random_bytes, limits=limits or WriterLimits(), fatal=fatal
            )
        except apsw.NotADBError:
            lock.release()
            raise InvalidRequest(f"{disk_path} is not a dfs store; use another directory") from None
        except BaseException:
            lock.release()
            raise
        return cls(disk_path, vfs, lock, writer, fatal)

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` as one operation and return what it returned, once it is durable.

        If it raises, its changes are undone and the error is raised here. Raises also Unavailable (nothing
        happened), NoSpace (nothing was kept), OutcomeUnknown.
        """
        return await self._writer.submit(work)

    def write_blocking(self, work: Callable[[Transaction], T]) -> T:
        """`write` for callers in a thread."""
        return self._writer.submit_blocking(work)

    @contextmanager
    def read(self) -> Iterator[Snapshot]:
        """One consistent state of the store, as of the first statement. Keep it short: the log grows meanwhile."""
        connection = self._reader()
        try:
            connection.execute("BEGIN")
            yield Snapshot(connection)
            connection.execute("COMMIT")
        except BaseException as error:
            if isinstance(error, FATAL_ERRORS):
                connection.close()
                raise self._failed(error) from error
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._give_back(connection)
            raise
        self._give_back(connection)

    def statistics(self) -> tuple[int, int]:
        """Changes that wait, and pages in the write-ahead log."""
        return self._writer.statistics()

    def close(self) -> None:
        """Finish the changes that wait, and let another process have the directory. Repeatable."""
        with self._gate:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        self._writer.close()
        self._lock.release()

    def _reader(self) -> apsw.Connection:
        with self._gate:
            if self._closed:
                raise Unavailable("the namenode is stopping; repeat in a moment")
            if self._idle:
                return self._idle.pop()
        try:
            connection = apsw.Connection(self._disk_path, flags=apsw.SQLITE_OPEN_READWRITE, vfs=self._vfs or None)
            try:
                _configure(connection, _READER_CACHE_KIB)
                connection.execute("PRAGMA query_only = 1")
                # Checkpoints are the writer's alone, also at the end.
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            except BaseException:
                connection.close()
                raise
        except apsw.CantOpenError as error:
            # Out of descriptors, perhaps: no reason to end, unlike what a connection reports that is open.
            raise Unavailable("the namenode can't open its store for one more reader; repeat in a moment") from error
        except FATAL_ERRORS as error:
            raise self._failed(error) from error
        return connection

    def _failed(self, error: BaseException) -> Unavailable:
        """End the process, or, where that is not what `fatal` does, say so to the caller."""
        self._fatal(f"the store can't be read: {error}")
        return Unavailable("the namenode's store failed; it is being restarted")

    def _give_back(self, connection: apsw.Connection) -> None:
        with self._gate:
            if not self._closed and len(self._idle) < _READERS_KEPT:
                self._idle.append(connection)
                return
        connection.close()


def _configure(connection: apsw.Connection, cache_kib: int) -> None:
    connection.set_busy_timeout(5000)
    connection.execute(f"PRAGMA cache_size = -{cache_kib}")
    connection.execute("PRAGMA mmap_size = 0")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA trusted_schema = 0")
    # Else a statement may be planned anew whenever other values are bound to it: six times the cost of a look-up.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)


def _connect_writer(disk_path: str, vfs: str) -> apsw.Connection:
    connection = apsw.Connection(disk_path, vfs=vfs or None)
    try:
        _configure(connection, _WRITER_CACHE_KIB)
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != ("wal",):
            raise InvalidRequest(f"the store {disk_path} can't use a write-ahead log here; use a local disk")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def migrate(connection: apsw.Connection, steps: tuple[str, ...]) -> None:
    """Bring the database from its schema version to `len(steps)`, each step in one transaction.

    Raises   Conflict: a newer version of dfs made it; InvalidRequest: another program did
    """
    version = _schema_version(connection)
    if version > len(steps):
        raise Conflict(
            f"the store has schema version {version}, and this dfs knows up to {len(steps)}; install a newer dfs",
            found=version,
            known=len(steps),
        )
    for number in range(version, len(steps)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(steps[number])
            connection.execute(
                "INSERT INTO meta (key, value) VALUES ('schema_version', ?)"
                " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (number + 1,),
            )
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        log.info("the store was brought to schema version %d", number + 1)


def _schema_version(connection: apsw.Connection) -> int:
    mark: Any = connection.execute("PRAGMA application_id").fetchone()
    tables: Any = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables[0] == 0:
        return 0
    if mark[0] != APPLICATION_ID:
        raise InvalidRequest("the database is another program's, not a dfs store; use another directory")
    found: Any = connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    return int(found[0])


def _sync_directory(directory: str) -> None:
    """Make the names of new files durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
