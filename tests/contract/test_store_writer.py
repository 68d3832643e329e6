"""The store's engine: groups, sequence numbers, what a failure leaves, and who may open what.

Written against `open_store`, a function that opens the store of one directory, so that another engine can be put
through the same tests.
"""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import apsw
import pytest

from dfs.protocol.clock import SystemClock
from dfs.protocol.errors import Conflict, FileExists, InvalidRequest, NoSpace, OutcomeUnknown, Unavailable
from dfs_namenode.store import meta
from dfs_namenode.store.schema import SCHEMA_VERSION, STEPS
from dfs_namenode.store.sqlite import DATABASE_NAME, SqliteStore, migrate
from dfs_namenode.store.transaction import Transaction
from dfs_namenode.store.writer import WriterLimits

OpenStore = Callable[..., SqliteStore]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[OpenStore]:
    opened: list[SqliteStore] = []

    def open_it(**options: Any) -> SqliteStore:
        store = SqliteStore.open(str(tmp_path / "store"), clock=SystemClock(), **options)
        opened.append(store)
        return store

    yield open_it
    for store in opened:
        store.close()


def keep(key: str, value: Any = 1) -> Callable[[Transaction], int]:
    """An operation that stores a fact and returns its sequence number."""

    def work(tx: Transaction) -> int:
        meta.put(tx, key, value)
        return tx.seq

    return work


def fact(store: SqliteStore, key: str) -> Any:
    with store.read() as snapshot:
        return meta.get(snapshot, key)


class Held:
    """An operation that begins, and waits in the middle until it is let go."""

    def __init__(self, inner: Callable[[Transaction], Any]) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self._inner = inner

    def __call__(self, tx: Transaction) -> Any:
        self.begun.set()
        assert self.go_on.wait(10)
        return self._inner(tx)


def in_thread(store: SqliteStore, work: Callable[[Transaction], Any]) -> tuple[threading.Thread, list[Any]]:
    """Run a write in a thread of its own; its result or error comes to the list."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(store.write_blocking(work))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def wait_for_waiting(store: SqliteStore, count: int) -> None:
    deadline = time.monotonic() + 10
    while store.statistics()[0] < count:
        assert time.monotonic() < deadline, "the operations never came to the queue"
        time.sleep(0.001)


# --- sequence numbers -------------------------------------------------------------------------------------------


def test_every_operation_has_one_sequence_number_in_commit_order(open_store: OpenStore) -> None:
    store = open_store()
    seen: list[int] = []

    async def many() -> None:
        async def one(number: int) -> None:
            def work(tx: Transaction) -> tuple[int, int]:
                return tx.seq, tx.seq

            first, second = await store.write(work)
            assert first == second
            seen.append(first)

        await asyncio.gather(*[one(number) for number in range(300)])

    asyncio.run(many())
    assert sorted(seen) == list(range(1, 301))
    assert seen == sorted(seen)


def test_an_operation_that_fails_gives_its_numbers_back_and_leaves_nothing(open_store: OpenStore) -> None:
    store = open_store()
    assert store.write_blocking(keep("a")) == 1

    def fails(tx: Transaction) -> None:
        keep("b")(tx)
        tx.new_inode_id()
        raise FileExists("in the way")

    with pytest.raises(FileExists):
        store.write_blocking(fails)
    assert fact(store, "b") is None
    assert store.write_blocking(keep("c")) == 2


def test_numbers_go_on_after_a_restart(open_store: OpenStore) -> None:
    store = open_store()
    store.write_blocking(lambda tx: (tx.seq, tx.new_inode_id(), tx.new_content_id()))
    ids = store.write_blocking(lambda tx: (tx.seq, tx.new_inode_id(), tx.new_content_id()))
    store.close()
    store = open_store()
    assert store.write_blocking(lambda tx: (tx.seq, tx.new_inode_id(), tx.new_content_id())) == tuple(
        number + 1 for number in ids
    )


def test_a_raised_sequence_number_is_never_undercut(open_store: OpenStore) -> None:
    store = open_store()
    store.write_blocking(lambda tx: tx.raise_seq(5000))
    assert store.write_blocking(lambda tx: tx.seq) == 5001
    store.write_blocking(lambda tx: tx.raise_seq(10))
    assert store.write_blocking(lambda tx: tx.seq) == 5002


# --- groups -----------------------------------------------------------------------------------------------------


def test_no_answer_of_a_group_comes_before_its_commit(open_store: OpenStore) -> None:
    store = open_store(limits=WriterLimits(group_s=60))
    opener, last = Held(keep("opener")), Held(keep("last"))

    def refuse(tx: Transaction) -> None:
        raise FileExists("in the way")

    threads = [in_thread(store, opener)]
    assert opener.begun.wait(10)
    for number, work in enumerate((keep("middle"), refuse, last)):
        threads.append(in_thread(store, work))
        wait_for_waiting(store, number + 1)
    opener.go_on.set()
    assert last.begun.wait(10)
    time.sleep(0.05)
    # All four ran, none but the last is unfinished; yet nobody knows anything, errors included.
    assert [outcome for _, outcome in threads] == [[], [], [], []]
    assert fact(store, "opener") is None
    last.go_on.set()
    for thread, _ in threads:
        thread.join()
    assert [type(outcome[0]) for _, outcome in threads] == [int, int, FileExists, int]
    assert fact(store, "middle") == 1


def test_a_failing_operation_does_not_disturb_the_others_of_its_group(open_store: OpenStore) -> None:
    store = open_store()

    async def many() -> list[Any]:
        def broken(tx: Transaction) -> None:
            keep("broken")(tx)
            raise ZeroDivisionError

        works = [broken if number % 3 == 0 else keep(f"k{number}") for number in range(60)]
        return await asyncio.gather(*[store.write(work) for work in works], return_exceptions=True)

    results = asyncio.run(many())
    assert fact(store, "broken") is None
    for number, result in enumerate(results):
        if number % 3 == 0:
            assert isinstance(result, ZeroDivisionError)
        else:
            assert fact(store, f"k{number}") == 1


def test_a_bug_behind_the_last_check_undoes_its_group_and_nothing_else(open_store: OpenStore) -> None:
    store = open_store(limits=WriterLimits(group_s=60))
    assert store.write_blocking(keep("before")) == 1

    def spoils(tx: Transaction) -> None:
        tx.nothing_more_to_refuse()
        keep("spoiled")(tx)
        raise ZeroDivisionError

    held = Held(keep("first"))
    threads = [in_thread(store, held)]
    assert held.begun.wait(10)
    for number, work in enumerate((spoils, keep("next"))):
        threads.append(in_thread(store, work))
        wait_for_waiting(store, number + 1)
    held.go_on.set()
    for thread, _ in threads:
        thread.join()
    # What waited behind it runs in a group of its own; who was with it hears that nothing happened, and may repeat.
    assert [type(outcome[0]) for _, outcome in threads] == [Unavailable, ZeroDivisionError, int]
    assert [fact(store, key) for key in ("before", "first", "spoiled", "next")] == [1, None, None, 1]
    assert store.write_blocking(keep("first")) == 3


def test_a_refusal_before_any_change_disturbs_nobody(open_store: OpenStore) -> None:
    store = open_store()

    async def together() -> list[Any]:
        def refuses(tx: Transaction) -> None:
            raise FileExists("in the way")

        return await asyncio.gather(store.write(keep("a")), store.write(refuses), store.write(keep("b")),
                                    return_exceptions=True)  # fmt: skip

    results = asyncio.run(together())
    assert [type(result) for result in results] == [int, FileExists, int]
    assert (fact(store, "a"), fact(store, "b")) == (1, 1)


def test_a_full_queue_refuses_and_says_when_to_come_back(open_store: OpenStore) -> None:
    store = open_store(limits=WriterLimits(queue_max=2))
    held = Held(keep("held"))
    threads = [in_thread(store, held)]
    assert held.begun.wait(10)
    threads += [in_thread(store, keep("one")), in_thread(store, keep("two"))]
    wait_for_waiting(store, 2)
    with pytest.raises(Unavailable) as refused:
        store.write_blocking(keep("three"))
    assert refused.value.detail["retry_after_s"] > 0
    held.go_on.set()
    for thread, outcome in threads:
        thread.join()
        assert isinstance(outcome[0], int)
    assert fact(store, "three") is None


def test_a_caller_that_goes_away_does_not_undo_what_it_asked_for(open_store: OpenStore) -> None:
    store = open_store()
    held = Held(keep("held"))

    async def impatient() -> None:
        task = asyncio.ensure_future(store.write(held))
        await asyncio.to_thread(held.begun.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        held.go_on.set()
        assert await store.write(keep("next")) == 2

    asyncio.run(impatient())
    assert fact(store, "held") == 1


def test_closing_finishes_what_waits_and_refuses_what_comes_later(open_store: OpenStore) -> None:
    store = open_store()
    held = Held(keep("held"))
    first, _ = in_thread(store, held)
    assert held.begun.wait(10)
    second, outcome = in_thread(store, keep("waiting"))
    wait_for_waiting(store, 1)
    closing = threading.Thread(target=store.close)
    closing.start()
    held.go_on.set()
    for thread in (first, second, closing):
        thread.join()
    assert outcome == [2]
    with pytest.raises(Unavailable):
        store.write_blocking(keep("late"))
    with pytest.raises(Unavailable), store.read():
        pass
    assert fact(open_store(), "waiting") == 1


# --- reading ----------------------------------------------------------------------------------------------------


def test_a_snapshot_does_not_change_while_it_is_read(open_store: OpenStore) -> None:
    store = open_store()
    store.write_blocking(keep("a", "old"))
    with store.read() as snapshot:
        assert meta.get(snapshot, "a") == "old"
        store.write_blocking(keep("a", "new"))
        assert meta.get(snapshot, "a") == "old"
    assert fact(store, "a") == "new"


def test_a_reader_cannot_write(open_store: OpenStore) -> None:
    store = open_store()
    with pytest.raises(apsw.ReadOnlyError), store.read() as snapshot:
        snapshot.row("INSERT INTO meta VALUES ('x', 1)")


# --- the log ----------------------------------------------------------------------------------------------------


def test_the_log_stays_small_under_load_and_is_emptied_when_idle(open_store: OpenStore, tmp_path: Path) -> None:
    store = open_store(limits=WriterLimits(wal_pages=50, idle_s=0.05))
    for number in range(300):
        store.write_blocking(keep(f"key{number}", "x" * 2000))
    log_file = tmp_path / "store" / f"{DATABASE_NAME}-wal"
    assert log_file.stat().st_size < 150 * 4200
    deadline = time.monotonic() + 10
    while log_file.stat().st_size and time.monotonic() < deadline:
        time.sleep(0.01)
    assert log_file.stat().st_size == 0


def test_a_reader_that_takes_its_time_does_not_stop_writers(open_store: OpenStore) -> None:
    store = open_store(limits=WriterLimits(wal_pages=10, idle_s=0.05))
    with store.read() as snapshot:
        assert meta.get(snapshot, "schema_version") == SCHEMA_VERSION
        for number in range(50):
            store.write_blocking(keep(f"key{number}", "x" * 2000))
        time.sleep(0.2)
        assert meta.get(snapshot, "key0") is None
    assert fact(store, "key49") is not None


# --- faults -----------------------------------------------------------------------------------------------------


def _limit_size(store: SqliteStore, spare_pages: int) -> None:
    """Let the database grow by so many pages only."""

    def work(tx: Transaction) -> None:
        pages = tx.value("PRAGMA page_count")
        tx.value(f"PRAGMA max_page_count = {pages + spare_pages}")

    store.write_blocking(work)


def test_a_database_that_fills_up_in_the_middle_of_a_group_loses_nothing_acknowledged_and_keeps_nothing_refused(
    open_store: OpenStore,
) -> None:
    # F73, F94
    store = open_store(limits=WriterLimits(group_s=60))
    for number in range(20):
        store.write_blocking(keep(f"before{number}"))
    _limit_size(store, 20)
    held = Held(keep("group0"))
    threads = [in_thread(store, held)]
    assert held.begun.wait(10)
    ran = []

    def watched(name: str, size: int) -> Callable[[Transaction], int]:
        def work(tx: Transaction) -> int:
            ran.append(name)
            return keep(name, "x" * size)(tx)

        return work

    works = [watched("group1", 10), watched("group2", 200_000), watched("group3", 10)]
    for number, work in enumerate(works):
        threads.append(in_thread(store, work))
        wait_for_waiting(store, number + 1)
    held.go_on.set()
    for thread, _ in threads:
        thread.join()
    # The group ended where the disk was full: group3 ran in a group of its own, and was kept.
    assert [type(outcome[0]) for _, outcome in threads] == [NoSpace, NoSpace, NoSpace, int]
    assert ran == ["group1", "group2", "group3"]
    assert [fact(store, f"group{number}") for number in range(4)] == [None, None, None, "x" * 10]
    assert all(fact(store, f"before{number}") == 1 for number in range(20))
    # It goes on: what fits is kept, and after a restart everything that was acknowledged is still there.
    seq = store.write_blocking(keep("after"))
    store.close()
    store = open_store()
    assert fact(store, "after") == 1
    assert [fact(store, f"group{number}") for number in range(3)] == [None, None, None]
    assert store.write_blocking(keep("next")) == seq + 1


class FaultyFile(apsw.VFSFile):
    """A file whose writes to the log, or syncs of it, can be made to fail."""

    faults: ClassVar[dict[str, type[apsw.Error]]] = {}

    def __init__(self, filename: Any, flags: Any) -> None:
        super().__init__("", filename, flags)
        name = filename.filename() if isinstance(filename, apsw.URIFilename) else filename
        self._is_log = name.endswith("-wal")

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._fail("write")
        super().xWrite(data, offset)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        if "read" in self.faults and offset > 0:
            raise self.faults["read"]("injected")
        return super().xRead(amount, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._fail("sync")
        super().xSync(flags)

    def _fail(self, what: str) -> None:
        if self._is_log and what in self.faults:
            raise self.faults[what]("injected")


class FaultyDisk(apsw.VFS):
    def __init__(self) -> None:
        super().__init__("faulty", "")

    def xOpen(self, name: Any, flags: Any) -> apsw.VFSFile:  # noqa: N802
        return FaultyFile(name, flags)


@pytest.fixture
def faults() -> Iterator[dict[str, type[apsw.Error]]]:
    disk = FaultyDisk()
    FaultyFile.faults = {}
    yield FaultyFile.faults
    FaultyFile.faults = {}
    disk.unregister()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_disk_that_fills_up_during_a_commit_leaves_the_outcome_open_and_the_store_usable(
    open_store: OpenStore, faults: dict[str, type[apsw.Error]]
) -> None:
    reasons: list[str] = []
    store = open_store(vfs="faulty", fatal=reasons.append)
    store.write_blocking(keep("before"))
    faults["write"] = apsw.FullError
    with pytest.raises(OutcomeUnknown):
        store.write_blocking(keep("during"))
    faults.clear()
    assert store.write_blocking(keep("after")) == 2
    assert [fact(store, key) for key in ("before", "during", "after")] == [1, None, 1]
    assert reasons == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("fault", ["write", "sync"])
def test_an_io_error_in_a_commit_ends_the_process(
    open_store: OpenStore, faults: dict[str, type[apsw.Error]], fault: str
) -> None:
    # F72
    reasons: list[str] = []
    store = open_store(vfs="faulty", fatal=reasons.append)
    store.write_blocking(keep("before"))
    faults[fault] = apsw.IOError
    with pytest.raises(OutcomeUnknown):
        store.write_blocking(keep("during"))
    deadline = time.monotonic() + 10
    while not reasons and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(reasons) == 1
    with pytest.raises(Unavailable):
        store.write_blocking(keep("after"))
    faults.clear()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_page_that_can_not_be_read_ends_the_process(
    open_store: OpenStore, faults: dict[str, type[apsw.Error]]
) -> None:
    # F71
    reasons: list[str] = []
    store = open_store(vfs="faulty", fatal=reasons.append)
    store.write_blocking(keep("a", "x" * 100_000))
    faults["read"] = apsw.IOError
    with pytest.raises(Unavailable):
        fact(store, "a")
    assert len(reasons) == 1
    faults.clear()


def test_an_error_of_the_disk_before_an_operation_began_is_answered(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault: list[apsw.Error] = []

    def watch(connection: apsw.Connection) -> None:
        def trace(_: apsw.Cursor, statement: str, __: Any) -> bool:
            if statement == "BEGIN IMMEDIATE" and fault:
                raise fault[0]
            return True

        connection.exec_trace = trace

    monkeypatch.setattr(apsw, "connection_hooks", [*apsw.connection_hooks, watch])
    reasons: list[str] = []
    store = open_store(fatal=reasons.append)
    assert store.write_blocking(keep("before")) == 1
    fault.append(apsw.IOError("injected"))
    thread, outcome = in_thread(store, keep("during"))
    thread.join(10)
    assert [type(answer) for answer in outcome] == [Unavailable]
    store.close()
    assert len(reasons) == 1


def test_an_error_of_the_disk_inside_an_operation_ends_the_process_and_runs_nothing_more(
    open_store: OpenStore,
) -> None:
    reasons: list[str] = []
    store = open_store(fatal=reasons.append)

    def broken(tx: Transaction) -> None:
        keep("during")(tx)
        raise apsw.CorruptError("injected")

    held = Held(broken)
    first, outcome = in_thread(store, held)
    assert held.begun.wait(10)
    second, later = in_thread(store, keep("later"))
    wait_for_waiting(store, 1)
    held.go_on.set()
    first.join()
    second.join()
    assert isinstance(outcome[0], OutcomeUnknown)
    assert isinstance(later[0], Unavailable)
    store.close()
    assert len(reasons) == 1
    store = open_store()
    assert (fact(store, "during"), fact(store, "later")) == (None, None)


# --- opening ----------------------------------------------------------------------------------------------------


def test_a_second_namenode_on_the_same_directory_is_refused(open_store: OpenStore) -> None:
    # F74
    store = open_store()
    with pytest.raises(Conflict, match=f"another namenode \\(process {os.getpid()}\\)"):
        open_store()
    store.close()
    open_store()


def test_the_lock_ends_with_its_process(open_store: OpenStore, tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from dfs.protocol.clock import SystemClock\n"
        "from dfs_namenode.store.sqlite import SqliteStore\n"
        "store = SqliteStore.open(sys.argv[1], clock=SystemClock())\n"
        "print('open', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "store")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(Conflict, match=str(process.pid)):
            open_store()
        process.kill()
    open_store()


def test_a_newer_schema_is_refused_and_left_alone(open_store: OpenStore, tmp_path: Path) -> None:
    # F88
    store = open_store()
    store.write_blocking(keep("schema_version", SCHEMA_VERSION + 1))
    store.close()
    with pytest.raises(Conflict, match="install a newer dfs"):
        open_store()
    connection = apsw.Connection(str(tmp_path / "store" / DATABASE_NAME))
    assert connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone() == (SCHEMA_VERSION + 1,)
    connection.close()


def test_another_programs_database_is_refused(open_store: OpenStore, tmp_path: Path) -> None:
    os.mkdir(tmp_path / "store")
    connection = apsw.Connection(str(tmp_path / "store" / DATABASE_NAME))
    connection.execute("CREATE TABLE meta (key, value)")
    connection.close()
    with pytest.raises(InvalidRequest, match="another program's"):
        open_store()


def test_a_file_that_is_no_database_is_refused(open_store: OpenStore, tmp_path: Path) -> None:
    os.mkdir(tmp_path / "store")
    (tmp_path / "store" / DATABASE_NAME).write_bytes(b"hello, I am no database\n" * 1000)
    with pytest.raises(InvalidRequest, match="not a dfs store"):
        open_store()


def test_a_step_of_the_schema_happens_whole_or_not_at_all(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "test.db"))
    migrate(connection, STEPS)
    broken = (*STEPS, "CREATE TABLE added (x); INSERT INTO missing VALUES (1);")
    with pytest.raises(apsw.SQLError):
        migrate(connection, broken)
    tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'added'"
    assert connection.execute(tables).fetchone() == (0,)
    migrate(connection, (*STEPS, "CREATE TABLE added (x);"))
    assert connection.execute(tables).fetchone() == (1,)
    version = "SELECT value FROM meta WHERE key = 'schema_version'"
    assert connection.execute(version).fetchone() == (len(STEPS) + 1,)
    connection.close()


def test_every_commit_is_synced(open_store: OpenStore) -> None:
    store = open_store()
    settings = store.write_blocking(
        lambda tx: [tx.value(f"PRAGMA {name}") for name in ("journal_mode", "synchronous", "mmap_size")]
    )
    assert settings == ["wal", 2, 0]
