"""Group commit: one thread, one connection, one fsync for as many operations as are waiting.

Strategy. The thread takes what waits in a bounded queue, begins one transaction, runs each operation so that it can be
undone alone (see `transaction`), and commits. While it waits for the disk the next group gathers by itself; nothing is
ever held back to make a group bigger. All answers of a group, errors too, are given after its COMMIT: an error may tell
what an earlier operation of the same group did, and that must not be known before it is durable.

After an exception there are four cases:

    of the operation  (a DfsError, a bug, a constraint)   its savepoint is rolled back, if it has changed anything, and
                                                           the group goes on
    of an operation that had nothing more to refuse        a bug, and there is no savepoint: the group is rolled back.
                                                           The operation hears of its bug, the others: Unavailable
    the disk is full, or memory is out                     the whole group is rolled back, nothing more of it runs.
                                                           SQLite may have rolled back by itself, and then every later
                                                           statement would commit alone: that is why the group ends.
                                                           Before COMMIT nothing can have been kept: NoSpace. In COMMIT
                                                           it can't be told: OutcomeUnknown
    an I/O error, a corrupt file, anything unexpected      OutcomeUnknown, and `fatal` ends the process: what the
                                                           kernel reported once it will not report again

The same connection checkpoints, since the WAL's locks are simplest when one connection writes everything.
"""

import asyncio
import concurrent.futures
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import apsw

from dfs.protocol.clock import Clock
from dfs.protocol.errors import DfsError, NoSpace, OutcomeUnknown, Unavailable
from dfs_namenode.store.transaction import SAVEPOINT, Counters, Memory, Transaction

T = TypeVar("T")
Fatal = Callable[[str], None]
log = logging.getLogger(__name__)

FATAL_ERRORS = (apsw.IOError, apsw.CorruptError, apsw.NotADBError, apsw.CantOpenError)
"""After these nothing that the connection says can be trusted."""
_CHECKPOINT_WAIT_MS = 20
"""How long a checkpoint waits for readers; the next one gets what this one could not."""
_BUSY_WAIT_MS = 5000
"""How long a group waits for somebody who opened the database by hand."""


@dataclass(frozen=True)
class WriterLimits:
    """What bounds the queue, the groups, and the write-ahead log."""

    queue_max: int = 4096
    """Operations that wait; more are refused."""
    group_max: int = 256
    """Operations in one transaction."""
    group_s: float = 0.05
    """After so long no further operation joins the group: it bounds how long the first one waits."""
    wal_pages: int = 2048
    """Pages of 4 KiB in the log beyond which they are moved to the database after the group."""
    idle_s: float = 2.0
    """Without work for so long the log is emptied."""


class _SpoiledError(Exception):
    """An operation failed that can only be undone with its whole group."""


class _Job:
    """An operation that waits, and where its answer goes."""

    __slots__ = ("error", "loop", "reply", "result", "work")

    def __init__(
        self,
        work: Callable[[Transaction], Any],
        reply: "concurrent.futures.Future[Any] | asyncio.Future[Any]",
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.work = work
        self.reply = reply
        self.loop = loop
        self.result: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        """Hand the answer over; on the event loop if the caller waits there."""
        if self.reply.done():  # The caller went away; what was done stays done.
            return
        if self.error is None:
            self.reply.set_result(self.result)
        else:
            self.reply.set_exception(self.error)


def _settle_all(jobs: list[_Job]) -> None:
    for job in jobs:
        job.settle()


class Writer:
    """Owns the one connection that writes, and the thread that uses it."""

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        limits: WriterLimits,
        fatal: Fatal,
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._random_bytes = random_bytes
        self._limits = limits
        self._fatal = fatal
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = ""
        """Why nothing more is accepted; empty while it is."""
        self._gate = threading.Lock()
        self._wal_pages = 0
        self._log_has_bytes = False
        self._counters = self._load_counters()
        self._memory = Memory()
        self._seen_version = -1
        """SQLite's mark of what other connections have committed: for whoever opened the database by hand."""
        connection.set_busy_timeout(_BUSY_WAIT_MS)
        connection.set_wal_hook(self._wal_grew)
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    async def submit(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a group and return what it returned, after the group's COMMIT. For the event loop."""
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[T] = loop.create_future()
        self._enqueue(_Job(work, reply, loop))
        return await reply

    def submit_blocking(self, work: Callable[[Transaction], T]) -> T:
        """The same for a thread."""
        reply: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._enqueue(_Job(work, reply, None))
        return reply.result()

    def close(self) -> None:
        """Finish what waits, empty the log, close the connection. Repeatable; no call may follow."""
        with self._gate:
            first = not self._closed
            self._closed = self._closed or "the namenode is stopping; repeat in a moment"
        if first:
            self._queue.put(None)
        self._thread.join()

    def statistics(self) -> tuple[int, int]:
        """Operations that wait, and pages in the log."""
        return self._queue.qsize(), self._wal_pages

    def _enqueue(self, job: _Job) -> None:
        # The gate keeps a job from slipping in behind the mark that ends the queue.
        with self._gate:
            if self._closed:
                raise Unavailable(self._closed)
            if self._queue.qsize() >= self._limits.queue_max:
                raise Unavailable("the namenode has too many changes waiting; repeat in a moment", retry_after_s=1)
            self._queue.put(job)

    def _load_counters(self) -> Counters:
        row = self._connection.execute("SELECT seq, inode, content FROM counters").fetchone()
        assert row is not None
        return Counters(*row)

    # --- the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._serve()
            self._checkpoint("TRUNCATE")
            self._connection.close()
        except BaseException as error:
            log.critical("the store's writer failed: %s", error, exc_info=error)
            self._refuse_everything()
            self._fatal(f"the store's writer failed: {error}")

    def _serve(self) -> None:
        while True:
            try:
                job = self._queue.get(timeout=self._limits.idle_s)
            except queue.Empty:
                if self._log_has_bytes:
                    self._checkpoint("TRUNCATE")
                continue
            if job is None:
                return
            ended = self._commit_group(job)
            if self._wal_pages >= self._limits.wal_pages:
                self._checkpoint("PASSIVE")
            if ended:
                return

    def _refuse_everything(self) -> None:
        """Nothing more is accepted, and whoever waits learns that it can't be told what became of it."""
        with self._gate:
            self._closed = "the namenode's store failed; it is being restarted"
        left: list[_Job] = []
        while True:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                job.error = Unavailable("the namenode's store failed before this began; repeat in a moment")
                left.append(job)
        self._deliver(left)

    def _commit_group(self, first: _Job) -> bool:
        """Run `first` and what waits behind it in one transaction. True if the queue's end was reached."""
        jobs = [first]
        before = replace(self._counters)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            self._fail(
                jobs, Unavailable("somebody else holds the store's write lock; repeat in a moment", retry_after_s=1)
            )
            return False
        except BaseException:
            self._fail(jobs, Unavailable("the namenode's store failed before this began; repeat in a moment"))
            raise
        ended = False
        step = "work"
        try:
            self._forget_if_others_wrote()
            ended = self._run_jobs(jobs)
            if self._counters != before:
                self._connection.execute(
                    "UPDATE counters SET seq = ?, inode = ?, content = ?",
                    (self._counters.seq, self._counters.inode, self._counters.content),
                )
            step = "commit"
            self._connection.execute("COMMIT")
        except (
            apsw.FullError, apsw.NoMemError, MemoryError, apsw.BusyError, apsw.InterruptError, _SpoiledError
        ) as error:  # fmt: skip
            self._give_up(jobs, before, error, certain=step == "work")
            return ended
        except BaseException:
            self._fail(
                jobs, OutcomeUnknown("the namenode's store failed in this change; repeat it to learn what it did")
            )
            raise
        self._deliver(jobs)
        return ended

    def _run_jobs(self, jobs: list[_Job]) -> bool:
        """Run the first job and those that come while there is room. `jobs` grows. True at the queue's end."""
        no_more_s = self._clock.monotonic_s() + self._limits.group_s
        self._run_one(jobs[0])
        while len(jobs) < self._limits.group_max and self._clock.monotonic_s() < no_more_s:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                return False
            if job is None:
                return True
            jobs.append(job)
            self._run_one(job)
        return False

    def _run_one(self, job: _Job) -> None:
        connection, counters = self._connection, self._counters
        seq, inode, content = counters.seq, counters.inode, counters.content
        tx = Transaction(
            connection,
            counters,
            now_ms=self._clock.wall_ms(),
            random_bytes=self._random_bytes,
            memory=self._memory,
            undo="nothing",
        )
        try:
            job.result = job.work(tx)
        except (apsw.FullError, apsw.NoMemError, MemoryError, apsw.InterruptError, *FATAL_ERRORS):
            raise
        except Exception as error:
            if not connection.in_transaction:
                # SQLite rolled everything back on its own account: the group is lost, whatever the error is called.
                raise apsw.InterruptError(f"the transaction is gone after: {error}") from error
            if tx.undo == "savepoint":
                connection.execute(f"ROLLBACK TO {SAVEPOINT}")
                self._memory.forget()
            counters.seq, counters.inode, counters.content = seq, inode, content
            job.error = error
            if not isinstance(error, DfsError):
                log.error("an operation on the store failed: %r", error, exc_info=error)
            if tx.undo == "group":
                raise _SpoiledError(f"an operation failed that had nothing more to refuse: {error}") from error
        if tx.undo == "savepoint":
            connection.execute(f"RELEASE {SAVEPOINT}")

    def _forget_if_others_wrote(self) -> None:
        (version,) = self._connection.execute("PRAGMA data_version").fetchone() or (-1,)
        if version != self._seen_version:
            self._seen_version = version
            self._memory.forget()

    def _give_up(self, jobs: list[_Job], before: Counters, error: BaseException, *, certain: bool) -> None:
        """Roll the group back and tell all of it.

        certain   COMMIT was not reached, so nothing of it can have been kept
        """
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._counters = before
        self._memory.forget()
        log.error("a group of %d changes was rolled back: %s", len(jobs), error)
        if not certain:
            self._fail(
                jobs, OutcomeUnknown("the store's disk failed in the commit; repeat the change to learn what it did")
            )
        elif isinstance(error, apsw.FullError):
            self._fail(jobs, NoSpace("the namenode's disk is full; nothing was changed. Free space, then repeat"))
        elif isinstance(error, _SpoiledError):
            spoiler = jobs.pop()
            self._fail(jobs, Unavailable("another change failed with this one; nothing was changed. Repeat it"))
            self._deliver([spoiler])
        else:
            self._fail(jobs, Unavailable("the namenode could not do this now; nothing was changed. Repeat in a moment"))

    def _fail(self, jobs: list[_Job], error: DfsError) -> None:
        for job in jobs:
            job.error = error
        self._deliver(jobs)

    def _deliver(self, jobs: list[_Job]) -> None:
        """Settle the replies: one wake-up for each event loop, whatever the number of jobs."""
        by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
        for job in jobs:
            if job.loop is None:
                job.settle()
            else:
                by_loop.setdefault(job.loop, []).append(job)
        for loop, theirs in by_loop.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle_all, theirs)

    # --- the log ------------------------------------------------------------------------------------------------

    def _wal_grew(self, connection: apsw.Connection, name: str, pages: int) -> int:
        del connection, name
        self._wal_pages = pages
        self._log_has_bytes = True
        return apsw.SQLITE_OK

    def _checkpoint(self, mode: Literal["PASSIVE", "TRUNCATE"]) -> None:
        """Move pages from the log to the database. What readers still need stays for the next time."""
        code = {"PASSIVE": apsw.SQLITE_CHECKPOINT_PASSIVE, "TRUNCATE": apsw.SQLITE_CHECKPOINT_TRUNCATE}[mode]
        self._connection.set_busy_timeout(_CHECKPOINT_WAIT_MS)
        try:
            in_log, moved = self._connection.wal_checkpoint(mode=code)
        except apsw.BusyError:
            return
        except apsw.FullError as error:
            # The log still has everything; readers and commits go on until the disk has space again.
            log.error("the store's log can't be emptied: %s", error)
            return
        finally:
            self._connection.set_busy_timeout(_BUSY_WAIT_MS)
        if moved >= in_log:
            # The next group begins the log anew; its file keeps its length until it is truncated.
            self._wal_pages = 0
            self._log_has_bytes = mode != "TRUNCATE"
