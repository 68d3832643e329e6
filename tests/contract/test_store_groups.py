"""Operations that share a transaction: nothing of it may be seen, but that they become durable together.

Random requests are done twice: one by one, in the plainest way (nothing remembered, nothing held back, a savepoint
around every change), and in groups, with all short ways. Answers, refusals and every row of the store must be the same.
"""

import asyncio
import itertools
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from dfs.protocol.errors import DfsError, InvalidName, NoSpace, OutcomeUnknown, Unavailable
from dfs.protocol.messages import (
    Action,
    AppendFile,
    Commit,
    Concat,
    Copy,
    Extent,
    MakeDirectory,
    PutFile,
    Remove,
    Rename,
    SetAttributes,
    Stage,
    StagedExtent,
    Truncate,
)
from dfs_namenode import actions as actions_module
from dfs_namenode.operations.commit import commit
from dfs_namenode.operations.stage import stage
from dfs_namenode.store import new_files, oplog
from dfs_namenode.store.new_files import NewFiles
from dfs_namenode.store.transaction import Transaction
from dfs_namenode.walk import Walk
from fixtures.namenode_store import ANYBODY, Bench, bench_in, piece

NAMES = ["a", "ü", "\uff5e", "A", "b", "a.", "aa", "é", "\U0001f600", "~", " "]
"""Their order is another one by UTF-16, by alphabet, and by bytes."""
Request = Commit | Stage
BUG = ("bug",)
REPEAT = [error.__name__ for error in (Unavailable, NoSpace, OutcomeUnknown)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_in(tmp_path / "store") as bench:
        yield bench


class Requests:
    """Makes requests that often can be done.

    tame   nearly always: then nothing is rolled back, and much is remembered for long
    """

    def __init__(self, bench: Bench, seed: int, *, tame: bool = False) -> None:
        self._bench = bench
        self._tame = tame
        self._random = random.Random(seed)
        self._drafts: list[str] = []
        self._done: list[Request] = []
        self._files: list[str] = []
        self._directories: list[str] = []

    def next(self) -> Request:
        self._look()
        pick = self._random.random()
        if pick < 0.05 and self._done:
            return self._random.choice(self._done[-10:])
        made = self._stage() if pick < 0.15 else self._commit()
        self._done.append(made)
        return made

    def _look(self) -> None:
        found = self._bench.rows(
            "WITH RECURSIVE t (path, id, kind) AS (SELECT '', 1, 1"
            " UNION ALL SELECT t.path || '/' || i.name, i.id, i.kind FROM t JOIN inode AS i ON i.parent_id = t.id)"
            " SELECT path, kind FROM t WHERE path != '' ORDER BY path"
        )
        self._files = [path for path, kind in found if not kind]
        self._directories = [path for path, kind in found if kind]

    def _commit(self) -> Commit:
        chunks, pieces = self._chunk()
        count = self._random.choice([1, 1, 1, 2, 3, 5, 12, 20])
        if count >= 12:
            # Most names in one directory, as an upload has them.
            top = self._path(2)
            actions = [
                self._action(pieces) if self._random.random() < 0.15 else self._put(f"{top}/{self._name()}", pieces)
                for _ in range(count)
            ]
        elif count == 1 and self._directories and self._random.random() < 0.4:
            actions = [self._move_tree()]
        else:
            actions = [self._action(pieces) for _ in range(count)]
        if pieces and self._random.random() < 0.9:
            # What is left of the chunk, so that it is used.
            actions.append(PutFile(path=f"/rest-{self._name()}", extents=pieces))
        draft = self._drafts.pop() if self._drafts and self._random.random() < 0.3 else None
        if draft and self._random.random() < 0.7:
            actions.append(PutFile(path=self._path(), staged=self._random.randrange(2), parents=True))
        return Commit(op_id=self._bench.new_id(), actions=actions, chunks=chunks, draft=draft)

    def _stage(self) -> Stage:
        if not self._drafts or self._random.random() < 0.5:
            self._drafts.append(self._bench.new_id())
        chunks, pieces = self._chunk()
        extents = [StagedExtent(self._random.randrange(2), self._random.randrange(4), one) for one in pieces]
        actions = [self._put(self._path(), []) for _ in range(self._random.randrange(3))]
        return Stage(
            op_id=self._bench.new_id(), draft=self._drafts[-1], extents=extents, chunks=chunks, actions=actions
        )

    def _chunk(self) -> tuple[list[Any], list[Extent]]:
        if self._random.random() < 0.5:
            return [], []
        data = self._random.randbytes(self._random.randrange(8, 40))
        nodes = None if self._random.random() < 0.9 else ["dn1"]
        chunk = self._bench.chunk(data, nodes=nodes)
        cuts = sorted({0, len(data), *(self._random.randrange(1, len(data)) for _ in range(4))})
        return [chunk], [piece(chunk, data, start, end - start) for start, end in itertools.pairwise(cuts)]

    def _action(self, pieces: list[Extent]) -> Action:
        pick = self._random.randrange(14)
        chance = self._random.random
        path, parents = self._path(), chance() < 0.8
        if self._tame and pick >= 5:
            return (
                Remove(path=path, missing_ok=True)
                if pick < 10
                else MakeDirectory(path=path.rpartition("/")[0] or "/a", parents=True, exist_ok=True)
            )
        if pick < 5:
            return self._put(path, pieces)
        if chance() < 0.9:
            is_directory = chance() < (0.5 if pick == 7 else 0.2)
            path = self._random.choice((self._directories if is_directory else self._files) or ["/a"])
        if pick == 5:
            return MakeDirectory(path=path, parents=parents, exist_ok=chance() < 0.9)
        if pick == 6:
            return Remove(path=path, recursive=chance() < 0.8, missing_ok=chance() < 0.9)
        if pick == 7:
            return Rename(source=path, target=self._path(), overwrite=chance() < 0.6, parents=parents)
        if pick == 8:
            return Copy(source=path, target=self._path(), overwrite=chance() < 0.8, parents=parents)
        if pick == 9:
            return AppendFile(path=path, extents=self._take(pieces), create=chance() < 0.8, parents=parents)
        if pick == 10:
            return AppendFile(
                path=path, extents=self._take(pieces), drop_tail=chance() < 0.5, if_version=self._version(path)
            )
        if pick == 11:
            return Concat(path=path, sources=self._random.sample(self._files or ["/a"], 1))
        if pick == 12:
            return Truncate(path=path, size=0, if_version=self._version(path))
        return SetAttributes(
            path=path, mode=0o640, replication=self._random.choice([None, 1, 2]), attributes={"k": self._name()}
        )

    def _move_tree(self) -> Action:
        path = self._random.choice(self._directories)
        if self._random.random() < 0.2:
            return Remove(path=path, recursive=True)
        target = "".join(f"/{name}" for name in self._random.choices(NAMES[:3], k=self._random.randrange(1, 4)))
        return Rename(source=path, target=target, parents=True, overwrite=True)

    def _put(self, path: str, pieces: list[Extent]) -> PutFile:
        when = "any" if self._tame else self._random.choice(["any"] * 12 + ["absent", "version"])
        return PutFile(
            path=path,
            extents=self._take(pieces),
            when=when,  # type: ignore[arg-type]
            if_version=self._version(path),
            parents=self._tame or self._random.random() < 0.95,
            mode=self._random.choice([None, 0o600]),
            replication=self._random.choice([None, 1, 3]),
            attributes=self._random.choice([None, {"colour": "red"}]),
        )

    def _take(self, pieces: list[Extent]) -> list[Extent]:
        count = self._random.randrange(3)
        taken, pieces[:] = pieces[:count], pieces[count:]
        return taken

    def _version(self, path: str) -> int:
        try:
            return self._bench.stat(path).version
        except DfsError:
            return 1

    def _name(self) -> str:
        return self._random.choice(NAMES[3:])

    def _path(self, depth: int = 3) -> str:
        if not self._tame and self._random.random() < 0.005:
            return self._random.choice(["a", "/", "//a", "/a/..", "/a/b\n", "/a/"])
        # Few names below each other, so that much meets; files are mostly called otherwise than directories.
        above = "".join(f"/{self._random.choice(NAMES[:3])}" for _ in range(self._random.randrange(depth)))
        return (
            f"{above}/{self._name() if self._tame or self._random.random() < 0.8 else self._random.choice(NAMES[:3])}"
        )


async def perform(bench: Bench, request: Request) -> Any:
    """What it answered, or how it was refused."""
    do: Any = commit if isinstance(request, Commit) else stage
    try:
        return await do(
            request,
            principal=ANYBODY,
            store=bench.store,
            cluster=bench.cluster,
            keys=bench.keys,
            rules=bench.rules,
        )
    except DfsError as error:
        return type(error).__name__, error.message, error.detail
    except ZeroDivisionError:
        return BUG


@contextmanager
def plainest_way() -> Iterator[None]:
    """Nothing is remembered or held back, and every change can be undone alone."""
    with pytest.MonkeyPatch.context() as patch:
        add_content, add_file, walk = NewFiles.add_content, NewFiles.add_file, Walk.__init__

        def content_at_once(self: NewFiles, *arguments: Any) -> None:
            add_content(self, *arguments)
            self.store()

        def file_at_once(self: NewFiles, *arguments: Any) -> None:
            add_file(self, *arguments)
            self.store()

        def forgetful(self: Walk, tx: Any, known: Any = None) -> None:
            tx.memory.forget()
            walk(self, tx, known)

        patch.setattr(NewFiles, "add_content", content_at_once)
        patch.setattr(NewFiles, "add_file", file_at_once)
        patch.setattr(Walk, "__init__", forgetful)
        patch.setattr(Walk, "expect", lambda self, paths: None)
        patch.setattr(Transaction, "nothing_more_to_refuse", lambda self: None)
        yield


def in_one_group(bench: Bench, requests: Sequence[Request]) -> list[Any]:
    """Do all in one transaction."""
    began, go_on = threading.Event(), threading.Event()

    def hold(tx: Transaction) -> None:
        began.set()
        assert go_on.wait(10)

    async def all_of_them() -> list[Any]:
        held = asyncio.ensure_future(bench.store.write(hold))
        await asyncio.to_thread(began.wait, 10)
        theirs = [asyncio.ensure_future(perform(bench, request)) for request in requests]
        # Some are refused before they would wait.
        while bench.store.statistics()[0] + sum(one.done() for one in theirs) < len(requests):
            await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(held, return_exceptions=True)
        return await asyncio.gather(*theirs)

    answers: list[Any] = bench.run(all_of_them())
    return answers


def rows_of_everything(bench: Bench) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, in the order of the key."""
    tables = [name for (name,) in bench.rows("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    return {table: sorted(bench.rows(f"SELECT * FROM {table}"), key=repr) for table in tables}


@pytest.mark.parametrize("seed", range(12))
def test_operations_in_groups_do_what_they_do_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    # S1, S6, S15
    monkeypatch.setattr(actions_module, "MANY", 2 if seed % 2 else actions_module.MANY)
    monkeypatch.setattr(new_files, "WAITING_MAX", 3 if seed % 3 else new_files.WAITING_MAX)
    with bench_in(tmp_path / "one") as one, bench_in(tmp_path / "many") as many:
        requests = Requests(one, seed, tame=seed % 4 < 2)
        sizes = random.Random(seed)
        done = 0
        for _ in range(12):
            group, answers = [], []
            for _ in range(sizes.randrange(1, 9)):
                group.append(requests.next())
                with plainest_way():
                    answers.append(one.run(perform(one, group[-1])))
            assert in_one_group(many, group) == answers
            assert rows_of_everything(many) == rows_of_everything(one)
            done += sum(not isinstance(answer, tuple) for answer in answers)
            one.clock.advance(1)
            many.clock.advance(1)
        assert done > 10, "too few requests could be done to show anything"


@pytest.mark.parametrize("failure", ["bug", "disk full", "disk full in the commit"])
@pytest.mark.parametrize("seed", range(5))
def test_who_shared_a_transaction_with_a_failure_was_told_the_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, failure: str
) -> None:
    # S1, S6: an answer is a fact, a refusal too; Unavailable and NoSpace: nothing happened; OutcomeUnknown: repeat it.
    picks = random.Random(seed)
    keep_result, broken, undone = oplog.keep_result, b"", 0

    def fails(tx: Transaction, op_id: bytes, **options: Any) -> None:
        keep_result(tx, op_id, **options)
        if op_id == broken and failure == "bug":
            raise ZeroDivisionError
        if op_id == broken and failure == "disk full":
            raise apsw.FullError("injected")

    def does_not_commit(connection: apsw.Connection) -> None:
        def trace(_: apsw.Cursor, statement: str, __: Any) -> bool:
            if statement == "COMMIT" and broken and threading.current_thread().name == "store-writer":
                raise apsw.FullError("injected")
            return True

        if failure == "disk full in the commit":
            connection.exec_trace = trace

    monkeypatch.setattr(oplog, "keep_result", fails)
    monkeypatch.setattr(apsw, "connection_hooks", [*apsw.connection_hooks, does_not_commit])
    with bench_in(tmp_path / "one") as one, bench_in(tmp_path / "many") as many:
        requests = Requests(one, seed)
        for _ in range(30):
            group = [requests.next() for _ in range(picks.randrange(1, 7))]
            sole = [request for request in group if isinstance(request, Commit) and len(request.actions) == 1]
            broken = bytes.fromhex(picks.choice(sole or group).op_id)
            happened, repeat = [], []
            for request, answer in zip(group, in_one_group(many, group), strict=True):
                (repeat if isinstance(answer, tuple) and answer[0] in REPEAT else happened).append((request, answer))
            undone += bool(repeat)
            broken = b""
            happened += [(request, many.run(perform(many, request))) for request, _ in repeat]
            with plainest_way():
                for request, answer in happened:
                    if answer != BUG:
                        assert one.run(perform(one, request)) == answer
            assert rows_of_everything(many) == rows_of_everything(one)
    assert undone, "no group was ever undone"


def test_a_path_is_absolute_whatever_is_remembered(bench: Bench) -> None:
    bench.commit(PutFile(path="/x"))
    for action in (PutFile(path="y"), Remove(path="x"), Rename(source="x", target="/z"), MakeDirectory(path="y")):
        with pytest.raises(InvalidName):
            bench.commit(action)
    assert bench.ls("/") == ["x"]
    assert [file.code for file in bench.open_many("/x", "x").files] == ["", InvalidName.code]
