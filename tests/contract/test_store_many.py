"""Short ways of the store: what it remembers between commits, and what a commit of many files does at once.

None may be seen: whatever is remembered or held back, a commit does what its actions do one by one, on a store that
remembers nothing.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfs.protocol.errors import DfsError, FileExists, FileNotFound, InvalidName, NotADirectory
from dfs.protocol.messages import Action, AppendFile, Copy, MakeDirectory, PutFile, Remove, Rename
from dfs_namenode import actions as actions_module
from dfs_namenode.store import new_files
from dfs_namenode.store.sqlite import DATABASE_NAME
from fixtures.namenode_store import Bench, bench_in, piece

NAMES = [f"f{number:02}" for number in range(actions_module.MANY + 4)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_in(tmp_path / "store") as bench:
        yield bench


def puts(directory: str, names: Sequence[str] = NAMES, **options: Any) -> list[Action]:
    return [PutFile(path=f"{directory}/{name}", **options) for name in names]


def tree(bench: Bench) -> list[tuple[Any, ...]]:
    """Every entry below the root by its path, with what describes it."""
    return bench.rows(
        "WITH RECURSIVE t (path, id, kind, mode, size) AS ("
        " SELECT '', 1, 1, 0, NULL UNION ALL"
        " SELECT t.path || '/' || i.name, i.id, i.kind, i.mode, c.size FROM t JOIN inode AS i ON i.parent_id = t.id"
        " LEFT JOIN content AS c ON c.id = i.content_id)"
        " SELECT path, kind, mode, size FROM t WHERE path != '' ORDER BY path"
    )


# --- directories that are remembered ----------------------------------------------------------------------------


def test_a_directory_that_was_undone_is_not_remembered(bench: Bench) -> None:
    with pytest.raises(FileNotFound):
        bench.commit(*puts("/d", ["a", "b"], parents=True), Remove(path="/missing"))
    with pytest.raises(FileNotFound):
        bench.commit(*puts("/d", ["c"]))
    bench.commit(*puts("/d", ["c"], parents=True))
    assert bench.ls("/d") == ["c"]


def test_a_directory_that_moved_is_found_only_where_it_is_now(bench: Bench) -> None:
    bench.commit(*puts("/a/b", ["1", "2"], parents=True))
    bench.commit(Rename(source="/a", target="/c"))
    with pytest.raises(FileNotFound):
        bench.commit(*puts("/a/b", ["3"]))
    bench.commit(*puts("/c/b", ["3"]))
    assert bench.ls("/c/b") == ["1", "2", "3"]


def test_nothing_gets_into_a_directory_that_was_removed(bench: Bench) -> None:
    for recursive in (True, False):
        bench.commit(*puts("/a/b", ["1"], parents=True))
        if not recursive:
            bench.commit(Remove(path="/a/b/1"))
        bench.commit(Remove(path="/a/b", recursive=recursive))
        with pytest.raises(FileNotFound):
            bench.commit(*puts("/a/b", ["2"]))
    bench.commit(Remove(path="/a"), PutFile(path="/a"))
    with pytest.raises(NotADirectory):
        bench.commit(*puts("/a", ["2"]))


def test_what_somebody_else_wrote_into_the_database_is_seen(bench: Bench, tmp_path: Path) -> None:
    bench.commit(*puts("/a", ["1"], parents=True))
    by_hand = apsw.Connection(str(tmp_path / "store" / DATABASE_NAME))
    by_hand.execute("UPDATE inode SET name = 'z' WHERE name = 'a'")
    by_hand.close()
    with pytest.raises(FileNotFound):
        bench.commit(*puts("/a", ["2"]))
    assert bench.ls("/z") == ["1"]


def test_a_remembered_directory_does_not_widen_what_a_path_may_be(bench: Bench) -> None:
    deep = "/d" * 128
    bench.commit(PutFile(path=f"{deep[:-2]}/x", parents=True), MakeDirectory(path=deep))
    for bad in (f"{deep}/x", f"{deep[:-2]}/..", f"{deep[:-2]}/a\nb", f"{deep[:-2]}/{'n' * 256}"):
        with pytest.raises(InvalidName):
            bench.commit(PutFile(path=bad))
    long = "/" + "/".join(["ü" * 127] * 16)
    bench.commit(MakeDirectory(path=long[:-1], parents=True), PutFile(path=f"{long[:-1]}/a"))
    with pytest.raises(InvalidName):
        bench.commit(PutFile(path=f"{long[:-1]}/{'ü' * 15}"))


# --- files that go in together ----------------------------------------------------------------------------------


def test_new_files_are_never_taken_for_absent(bench: Bench) -> None:
    with pytest.raises(FileExists) as refused:
        bench.commit(*puts("/d", parents=True), PutFile(path="/d/f00", when="absent"))
    assert refused.value.detail["action"] == len(NAMES)
    with pytest.raises(NotADirectory):
        bench.commit(*puts("/d", parents=True), PutFile(path="/d/f00/x", parents=True))
    assert bench.ls("/") == []


def test_what_was_there_among_new_names_is_replaced_or_in_the_way(bench: Bench) -> None:
    bench.commit(PutFile(path="/d/f07", mode=0o600, parents=True))
    with pytest.raises(FileExists) as refused:
        bench.commit(*puts("/d", when="absent"))
    assert refused.value.detail["action"] == 7
    done = bench.commit(*puts("/d"))
    assert bench.ls("/d") == NAMES
    assert bench.stat("/d/f07").mode == 0o600
    assert bench.value("SELECT count(*) FROM retired") == 1
    assert bench.stat("/d/f07").version == done.seq


def test_a_directory_made_among_new_names_is_seen(bench: Bench) -> None:
    bench.commit(MakeDirectory(path="/d"))
    with pytest.raises(DfsError) as refused:
        bench.commit(*puts("/d", NAMES[:-1]), PutFile(path=f"/d/{NAMES[5]}x/y", parents=True), *puts("/d", ["f05x"]))
    assert refused.value.detail["action"] == len(NAMES)


@pytest.mark.parametrize(
    "first", [Rename(source="/x", target="/d/f05"), Copy(source="/x", target="/d/f05"), MakeDirectory(path="/d/f05")]
)
def test_what_another_action_put_among_new_names_is_seen(bench: Bench, first: Action) -> None:
    bench.commit(MakeDirectory(path="/d"), PutFile(path="/x"))
    bench.commit(PutFile(path="/d/a"))
    with pytest.raises(DfsError) as refused:
        bench.commit(first, *puts("/d", when="absent"))
    assert type(refused.value) is FileExists
    assert refused.value.detail["action"] == 1 + 5


def test_a_commit_of_more_files_than_are_held_back_stores_all(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_files, "WAITING_MAX", 3)
    data = bytes(range(len(NAMES)))
    chunk = bench.chunk(data)
    bench.commit(
        *[
            PutFile(path=f"/d/{name}", extents=[piece(chunk, data, n, 1)], parents=True)
            for n, name in enumerate(reversed(NAMES))
        ],
        chunks=[chunk],
    )
    assert bench.ls("/d") == NAMES
    with pytest.raises(FileExists):
        bench.commit(*puts("/d", ["g" + name for name in NAMES]), PutFile(path="/d/gf01", when="absent"))


PATHS = st.lists(st.sampled_from(["a", "b", "ü"]), min_size=1, max_size=3).map(lambda names: "/" + "/".join(names))
PUT = st.builds(
    PutFile,
    path=PATHS,
    parents=st.booleans(),
    when=st.sampled_from(["always", "always", "absent"]),
    mode=st.sampled_from([None, 0o600]),
)
OTHER = st.one_of(
    st.builds(MakeDirectory, path=PATHS, parents=st.booleans(), exist_ok=st.booleans()),
    st.builds(Remove, path=PATHS, recursive=st.booleans(), missing_ok=st.just(True)),
    st.builds(Rename, source=PATHS, target=PATHS, overwrite=st.booleans(), parents=st.booleans()),
    st.builds(Copy, source=PATHS, target=PATHS, overwrite=st.booleans()),
    st.builds(AppendFile, path=PATHS, extents=st.just([]), create=st.just(True), parents=st.booleans()),
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=st.lists(st.one_of(PUT, PUT, PUT, OTHER), min_size=3, max_size=16))
def test_a_commit_of_many_actions_does_what_they_do_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, wanted: list[Action]
) -> None:
    # S15
    monkeypatch.setattr(actions_module, "MANY", 2)
    top = tmp_path_factory.mktemp("many")
    with bench_in(top / "one") as one, bench_in(top / "many") as many:
        for each in (one, many):
            # Two directories that are remembered.
            each.commit(MakeDirectory(path="/a"), MakeDirectory(path="/a/b"))
            each.commit(PutFile(path="/a/z"), PutFile(path="/a/b/z"))
        done: list[Action] = []
        for action in wanted:
            try:
                one.commit(action)
            except DfsError as error:
                # Together with those that succeeded it must fail in the same way, and undo them.
                before = tree(many)
                with pytest.raises(type(error)) as refused:
                    many.commit(*done, action)
                assert refused.value.detail["action"] == len(done)
                assert tree(many) == before
            else:
                done.append(action)
        if done:
            many.commit(*done)
        assert tree(many) == tree(one)


# --- what a small commit costs ----------------------------------------------------------------------------------


def test_a_small_commit_is_a_handful_of_statements(tmp_path: Path) -> None:
    seen: list[str] = []

    def watch(connection: apsw.Connection) -> None:
        def note(_: apsw.Cursor, statement: str, __: Any) -> bool:
            seen.append(statement.split(" ")[0])
            return True

        connection.exec_trace = note

    apsw.connection_hooks.append(watch)
    try:
        with bench_in(tmp_path / "store") as bench:
            bench.commit(*puts("/a/b/c", ["1"], parents=True))
            bench.commit(*puts("/a/b/c", ["2"]))
            for action, statements in (
                (PutFile(path="/a/b/c/3", when="absent"), ["SELECT"] * 2 + ["INSERT"] * 4),
                (Rename(source="/a/b/c/3", target="/a/b/c/4"), ["SELECT"] * 3 + ["UPDATE"] + ["INSERT"] * 2),
                (Remove(path="/a/b/c/4"), ["SELECT"] * 2 + ["DELETE"] + ["INSERT"] * 3),
            ):
                seen.clear()
                bench.commit(action)
                group = ["BEGIN", "PRAGMA", *statements, "UPDATE", "COMMIT"]
                assert seen == group, action
            seen.clear()
            with pytest.raises(FileExists):
                bench.commit(PutFile(path="/a/b/c/2", when="absent"))
            assert seen == ["BEGIN", "PRAGMA", "SELECT", "SELECT", "COMMIT"]
    finally:
        apsw.connection_hooks.remove(watch)
