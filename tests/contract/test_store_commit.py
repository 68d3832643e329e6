"""commit, stage and drop_draft against a real store: what they change, what they refuse, and what a refusal leaves."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dfs.protocol.errors import (
    Conflict,
    DfsError,
    DirectoryNotEmpty,
    FileExists,
    FileNotFound,
    InvalidRequest,
    IsADirectory,
    NotADirectory,
    NotPermitted,
    OperationExpired,
    OperationMismatch,
    PreconditionFailed,
    ReceiptRefused,
    TooLarge,
)
from dfs.protocol.ids import new_id
from dfs.protocol.messages import (
    AppendFile,
    Commit,
    Copy,
    Extent,
    MakeDirectory,
    NewChunk,
    PutFile,
    Remove,
    Rename,
    SetAttributes,
    StagedExtent,
)
from dfs_namenode.op_ids import FUTURE_MS
from dfs_namenode.operations import stage as stage_module
from dfs_namenode.store import drafts, garbage, oplog
from dfs_namenode.store.schema import CHUNK_DELETED
from dfs_namenode.store.sqlite import SqliteStore
from fixtures.namenode_store import START_MS, Bench, FakeClock, piece, whole


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    clock = FakeClock()
    store = SqliteStore.open(str(tmp_path / "store"), clock=clock)
    bench = Bench(store, clock)
    yield bench
    bench.check_references()
    bench.close()
    store.close()


def put(path: str, chunk: NewChunk, **options: Any) -> PutFile:
    return PutFile(path=path, extents=[whole(chunk)], **options)


def collect(bench: Bench, *, acknowledge: bool = True) -> None:
    """Sweep, condemn and bury everything that is garbage, as the monitors do after the grace."""
    far = bench.clock.wall_ms() + 1
    write = bench.store.write_blocking
    write(lambda tx: garbage.take_apart_detached(tx, rows=10_000))
    write(lambda tx: garbage.sweep_retired(tx, before_ms=far, rows=10_000))
    for chunk in write(lambda tx: garbage.condemn(tx, limit=1000)):
        if acknowledge:
            write(lambda tx, chunk=chunk: tx.run("DELETE FROM replica WHERE chunk_id = ?", (bytes.fromhex(chunk),)))
            assert write(lambda tx, chunk=chunk: garbage.bury_if_gone(tx, chunk))


# --- atomicity --------------------------------------------------------------------------------------------------


def test_many_actions_become_visible_at_one_instant_under_one_number(bench: Bench) -> None:
    # S15
    chunk = bench.chunk(b"abcdef")
    actions = [PutFile(path=f"/d/{n}", extents=[piece(chunk, b"abcdef", n, 1)], parents=True) for n in range(6)]
    done = bench.commit(*actions, chunks=[chunk])
    assert bench.ls("/d") == ["0", "1", "2", "3", "4", "5"]
    assert {bench.stat(f"/d/{n}").version for n in range(6)} == {done.seq}
    assert [outcome.version for outcome in done.outcomes] == [done.seq] * 6
    assert bench.rows("SELECT DISTINCT seq FROM change") == [(done.seq,)]


def test_one_action_that_fails_undoes_those_before_it(bench: Bench) -> None:
    bench.put("/old", b"old")
    chunk = bench.chunk(b"new")
    before = bench.rows("SELECT * FROM inode"), bench.rows("SELECT * FROM chunk"), bench.rows("SELECT * FROM change")
    with pytest.raises(FileNotFound) as refused:
        bench.commit(
            put("/old", chunk),
            MakeDirectory(path="/dir"),
            Rename(source="/old", target="/dir/moved"),
            Remove(path="/missing"),
            chunks=[chunk],
        )
    assert refused.value.message == "/missing: no such file or directory"
    assert refused.value.detail == {"path": "/missing", "action": 3}
    after = bench.rows("SELECT * FROM inode"), bench.rows("SELECT * FROM chunk"), bench.rows("SELECT * FROM change")
    assert before == after
    # Nothing came of it, so the same chunk can still be committed.
    bench.commit(put("/new", chunk), chunks=[chunk])


def test_an_action_sees_what_those_before_it_did(bench: Bench) -> None:
    chunk = bench.chunk(b"x")
    bench.commit(
        MakeDirectory(path="/a"),
        put("/a/f", chunk),
        Rename(source="/a", target="/b"),
        Copy(source="/b/f", target="/b/g"),
        Remove(path="/b/f"),
        MakeDirectory(path="/a"),
        chunks=[chunk],
    )
    assert (bench.ls("/"), bench.ls("/a"), bench.ls("/b")) == (["a", "b"], [], ["g"])
    assert bench.open("/b/g").layout.extents[0].chunk == chunk.id


# --- put --------------------------------------------------------------------------------------------------------


def test_a_replaced_file_keeps_its_mode_and_retires_its_content(bench: Bench) -> None:
    bench.put("/f", b"old", mode=0o600, attributes={"type": "text"})
    old = bench.open("/f")
    bench.put("/f", b"new!")
    new = bench.open("/f")
    assert (new.entry.size, new.entry.mode, new.entry.attributes) == (4, 0o600, {})
    assert new.entry.inode == old.entry.inode
    assert new.entry.version > old.entry.version
    assert bench.rows("SELECT content_id, at_ms FROM retired") == [(old.layout.content, START_MS)]
    assert bench.locate(old.layout.content).extents == old.layout.extents


def test_preconditions_make_compare_and_swap(bench: Bench) -> None:
    # S7, F25
    first = bench.put("/f", b"one", when="absent").seq
    with pytest.raises(FileExists):
        bench.put("/f", b"two", when="absent")
    with pytest.raises(PreconditionFailed) as refused:
        bench.put("/f", b"two", when="version", if_version=first + 1)
    assert refused.value.detail["version"] == first
    second = bench.put("/f", b"two", when="version", if_version=first).seq
    with pytest.raises(PreconditionFailed):
        bench.put("/f", b"three", when="version", if_version=first)
    with pytest.raises(PreconditionFailed):
        bench.put("/g", b"three", when="version", if_version=first)
    assert bench.stat("/f").version == second


@pytest.mark.parametrize(
    ("path", "options", "error", "message"),
    [
        ("/", {}, IsADirectory, "/: is a directory"),
        ("/dir", {}, IsADirectory, "/dir: is a directory"),
        ("/dir", {"when": "absent"}, FileExists, "/dir: already exists"),
        ("/file/x", {"parents": True}, NotADirectory, "/file: not a directory"),
        ("/file/x/y", {}, NotADirectory, "/file: not a directory"),
        ("/no/x", {}, FileNotFound, "/no: no such directory"),
        ("/dir/no/x", {}, FileNotFound, "/dir/no: no such directory"),
    ],
)
def test_a_put_that_can_not_be_says_where_the_trouble_is(
    bench: Bench, path: str, options: dict[str, Any], error: type[DfsError], message: str
) -> None:
    bench.commit(MakeDirectory(path="/dir"), PutFile(path="/file"))
    with pytest.raises(error) as refused:
        bench.put(path, b"x", **options)
    assert refused.value.message.startswith(message)
    assert refused.value.detail["path"] == path
    assert refused.value.detail["action"] == 0


def test_an_etag_has_the_version_and_half_of_the_digest(bench: Bench) -> None:
    chunk = bench.chunk(b"data")
    done = bench.commit(put("/f", chunk), chunks=[chunk])
    assert bench.stat("/f").etag == f'"{done.seq}-{chunk.digest[:16]}"' == done.outcomes[0].etag


# --- append -----------------------------------------------------------------------------------------------------


def test_an_append_adds_behind_the_end_and_makes_a_new_version(bench: Bench) -> None:
    bench.put("/f", b"one")
    before = bench.open("/f")
    chunk = bench.chunk(b"two!")
    done = bench.commit(AppendFile(path="/f", extents=[whole(chunk)]), chunks=[chunk])
    after = bench.open("/f")
    assert [(e.position, e.length) for e in after.layout.extents] == [(0, 3), (3, 4)]
    assert (after.entry.size, after.entry.version) == (7, done.seq)
    assert after.entry.etag != before.entry.etag
    # Who has the old version open reads its bytes at their places.
    assert bench.locate(before.layout.content, length=before.layout.size).extents == before.layout.extents


def test_an_append_can_replace_the_last_extent_without_disturbing_readers(bench: Bench) -> None:
    first = bench.put("/f", b"one").seq
    before = bench.open("/f")
    longer = bench.chunk(b"one and two")
    with pytest.raises(InvalidRequest, match="drop_tail needs if_version"):
        bench.commit(AppendFile(path="/f", extents=[whole(longer)], drop_tail=True), chunks=[longer])
    append = AppendFile(path="/f", extents=[whole(longer)], drop_tail=True, if_version=first)
    bench.commit(append, chunks=[longer])
    after = bench.open("/f")
    assert [(e.position, e.length, e.chunk) for e in after.layout.extents] == [(0, 11, longer.id)]
    assert bench.locate(before.layout.content).extents == before.layout.extents
    shorter = bench.chunk(b"one")
    with pytest.raises(InvalidRequest, match="must begin with"):
        bench.commit(
            AppendFile(path="/f", extents=[whole(shorter)], drop_tail=True, if_version=after.entry.version),
            chunks=[shorter],
        )


def test_an_append_to_nothing_makes_the_file_only_if_asked(bench: Bench) -> None:
    chunk = bench.chunk(b"x")
    with pytest.raises(FileNotFound):
        bench.commit(AppendFile(path="/f", extents=[whole(chunk)]), chunks=[chunk])
    bench.commit(
        AppendFile(path="/d/f", extents=[whole(chunk)], create=True, parents=True, replication=2), chunks=[chunk]
    )
    assert (bench.stat("/d/f").size, bench.stat("/d/f").replication) == (1, 2)
    done = bench.commit(AppendFile(path="/d/f", extents=[]))
    assert not done.outcomes[0].changed
    assert bench.stat("/d/f").version < done.seq


def test_an_append_below_a_removed_directory_finds_nothing(bench: Bench) -> None:
    # F99
    bench.put("/d/e/f", b"x", parents=True)
    bench.commit(Remove(path="/d", recursive=True))
    chunk = bench.chunk(b"y")
    with pytest.raises(FileNotFound):
        bench.commit(AppendFile(path="/d/e/f", extents=[whole(chunk)]), chunks=[chunk])


# --- mkdir, remove ----------------------------------------------------------------------------------------------


def test_directories_are_made_once(bench: Bench) -> None:
    bench.commit(MakeDirectory(path="/a/b/c", parents=True, mode=0o700))
    assert (bench.stat("/a/b/c").mode, bench.stat("/a/b").mode) == (0o700, 0o755)
    with pytest.raises(FileExists):
        bench.commit(MakeDirectory(path="/a/b"))
    assert not bench.commit(MakeDirectory(path="/a/b", exist_ok=True)).outcomes[0].changed
    assert not bench.commit(MakeDirectory(path="/", exist_ok=True)).outcomes[0].changed
    bench.put("/f", b"")
    with pytest.raises(FileExists):
        bench.commit(MakeDirectory(path="/f", exist_ok=True))
    with pytest.raises(FileNotFound, match="/x: no such directory"):
        bench.commit(MakeDirectory(path="/x/y"))


def test_a_tree_is_removed_in_one_step_whatever_its_size(bench: Bench) -> None:
    # S10, F31
    chunk = bench.chunk(b"x" * 200)
    puts = [
        PutFile(path=f"/t/{n % 7}/{n}", extents=[Extent(chunk.id, n, 1, "0" * 32)], parents=True) for n in range(200)
    ]
    bench.commit(*puts, chunks=[chunk])
    with pytest.raises(DirectoryNotEmpty):
        bench.commit(Remove(path="/t"))
    rows_before = bench.value("SELECT count(*) FROM inode")
    done = bench.commit(Remove(path="/t", recursive=True))
    assert bench.value("SELECT count(*) FROM inode") == rows_before
    assert bench.ls("/") == []
    for path in ("/t", "/t/3", "/t/3/3"):
        with pytest.raises(FileNotFound):
            bench.stat(path)
    assert bench.rows("SELECT seq FROM detached") == [(done.seq,)]
    # A new directory of that name has nothing to do with the old one.
    bench.commit(MakeDirectory(path="/t"))
    assert bench.ls("/t") == []
    bench.clock.advance(3600)
    for _ in range(10):
        collect(bench)
    assert bench.value("SELECT count(*) FROM inode") == 2
    assert bench.value("SELECT count(*) FROM extent") == 0
    assert bench.rows("SELECT state FROM chunk") == [(CHUNK_DELETED,)]


def test_remove_looks_at_what_is_there(bench: Bench) -> None:
    version = bench.put("/f", b"x").seq
    bench.commit(MakeDirectory(path="/d"))
    with pytest.raises(IsADirectory):
        bench.commit(Remove(path="/d", kind="file"))
    with pytest.raises(NotADirectory):
        bench.commit(Remove(path="/f", kind="directory"))
    with pytest.raises(PreconditionFailed):
        bench.commit(Remove(path="/f", if_version=version + 1))
    with pytest.raises(Conflict):
        bench.commit(Remove(path="/", recursive=True))
    with pytest.raises(FileNotFound):
        bench.commit(Remove(path="/no"))
    missing = bench.commit(Remove(path="/no", missing_ok=True), Remove(path="/f/x", missing_ok=True))
    assert [outcome.changed for outcome in missing.outcomes] == [False, False]
    bench.commit(Remove(path="/d"), Remove(path="/f", if_version=version))
    assert bench.ls("/") == []


# --- rename -----------------------------------------------------------------------------------------------------


def test_a_rename_keeps_version_content_and_identity(bench: Bench) -> None:
    bench.put("/a/f", b"x", parents=True)
    before = bench.open("/a/f")
    bench.commit(Rename(source="/a", target="/b/c", parents=True))
    after = bench.open("/b/c/f")
    assert (after.entry.version, after.entry.etag, after.entry.inode) == (
        before.entry.version,
        before.entry.etag,
        before.entry.inode,
    )
    assert after.layout.content == before.layout.content
    assert bench.value("SELECT count(*) FROM retired") == 0


@pytest.mark.parametrize(
    ("source", "target", "overwrite", "error"),
    [
        ("/f", "/g", False, FileExists),
        ("/f", "/empty", True, IsADirectory),
        ("/empty", "/f", True, NotADirectory),
        ("/empty", "/full", True, DirectoryNotEmpty),
        ("/empty", "/full", False, FileExists),
        ("/full", "/full/sub", False, Conflict),
        ("/full", "/full/sub/deep/er", False, Conflict),
        ("/full/sub", "/full", True, DirectoryNotEmpty),
        ("/", "/x", True, Conflict),
        ("/f", "/", True, Conflict),
        ("/no", "/x", True, FileNotFound),
        ("/f/x", "/x", True, NotADirectory),
        ("/f", "/no/x", True, FileNotFound),
        ("/f", "/g/x", True, NotADirectory),
    ],
)
def test_a_rename_that_can_not_be_changes_nothing(
    bench: Bench, source: str, target: str, overwrite: bool, error: type[DfsError]
) -> None:
    # S8, F28
    bench.commit(
        PutFile(path="/f"),
        PutFile(path="/g"),
        MakeDirectory(path="/empty"),
        MakeDirectory(path="/full/sub", parents=True),
    )
    before = bench.rows("SELECT * FROM inode")
    with pytest.raises(error) as refused:
        bench.commit(Rename(source=source, target=target, overwrite=overwrite, parents=False))
    assert refused.value.detail["action"] == 0
    assert "path" in refused.value.detail
    assert bench.rows("SELECT * FROM inode") == before


def test_a_rename_replaces_a_file_or_an_empty_directory_if_asked(bench: Bench) -> None:
    bench.put("/f", b"moved")
    bench.put("/g", b"replaced")
    old = bench.open("/g").layout.content
    bench.commit(MakeDirectory(path="/empty"), MakeDirectory(path="/full/sub", parents=True))
    bench.commit(
        Rename(source="/f", target="/g", overwrite=True), Rename(source="/full", target="/empty", overwrite=True)
    )
    assert (bench.ls("/"), bench.ls("/empty")) == (["empty", "g"], ["sub"])
    assert bench.stat("/g").size == 5
    assert bench.rows("SELECT content_id FROM retired") == [(old,)]
    assert not bench.commit(Rename(source="/g", target="/g")).outcomes[0].changed


def test_a_create_below_a_moved_directory_goes_by_the_path_of_its_moment(bench: Bench) -> None:
    # F26, F27
    bench.commit(MakeDirectory(path="/a"))
    bench.commit(Rename(source="/a", target="/b"), PutFile(path="/b/f"))
    assert bench.ls("/b") == ["f"]
    with pytest.raises(FileNotFound):
        bench.commit(PutFile(path="/a/f"))


@pytest.mark.parametrize(
    "gone", [Rename(source="/a", target="/b"), Remove(path="/a", recursive=True), Rename(source="/a/d", target="/b")]
)
def test_a_directory_that_went_in_the_same_commit_is_not_found_any_more(bench: Bench, gone: Rename | Remove) -> None:
    bench.commit(MakeDirectory(path="/a/d", parents=True))
    with pytest.raises(FileNotFound) as refused:
        bench.commit(PutFile(path="/a/d/f"), gone, PutFile(path="/a/d/g"))
    assert refused.value.detail["action"] == 2
    assert bench.ls("/a/d") == []


# --- copy, set --------------------------------------------------------------------------------------------------


def test_a_copy_shares_the_bytes_and_nothing_else(bench: Bench) -> None:
    chunk = bench.chunk(b"data")
    bench.commit(put("/f", chunk, mode=0o640, attributes={"k": "v"}), chunks=[chunk])
    bench.commit(Copy(source="/f", target="/g"))
    copied = bench.open("/g")
    assert copied.layout.extents[0].chunk == chunk.id
    assert (copied.entry.mode, copied.entry.attributes) == (0o640, {"k": "v"})
    assert bench.value("SELECT referenced_bytes FROM chunk") == 8
    bench.commit(Remove(path="/f"))
    bench.clock.advance(3600)
    collect(bench)
    assert bench.value("SELECT referenced_bytes FROM chunk") == 4
    assert bench.open("/g").layout.chunks[chunk.id].replicas != []


def test_a_copy_checks_source_and_target(bench: Bench) -> None:
    version = bench.put("/f", b"x").seq
    bench.put("/g", b"y")
    bench.commit(MakeDirectory(path="/d"))
    for action, error in (
        (Copy(source="/d", target="/x"), IsADirectory),
        (Copy(source="/no", target="/x"), FileNotFound),
        (Copy(source="/f", target="/d"), IsADirectory),
        (Copy(source="/f", target="/g"), FileExists),
        (Copy(source="/f", target="/f", overwrite=True), Conflict),
        (Copy(source="/f", target="/g", overwrite=True, if_version=version + 5), PreconditionFailed),
        (Copy(source="/f", target="/no/x"), FileNotFound),
    ):
        with pytest.raises(error):
            bench.commit(action)
    bench.commit(Copy(source="/f", target="/g", overwrite=True, if_version=version))
    assert bench.stat("/g").size == 1


def test_attributes_are_merged_and_leave_the_version(bench: Bench) -> None:
    version = bench.put("/f", b"x", attributes={"a": "1", "b": "2"}).seq
    change = SetAttributes(
        path="/f", mode=0o444, owner="me", group="us", mtime_ns=5, attributes={"c": "3"}, drop_attributes=["a"]
    )
    assert bench.commit(change).outcomes[0].changed
    entry = bench.stat("/f")
    assert (entry.mode, entry.owner, entry.group, entry.mtime_ns) == (0o444, "me", "us", 5)
    assert (entry.attributes, entry.version) == ({"b": "2", "c": "3"}, version)
    assert not bench.commit(change).outcomes[0].changed
    bench.commit(MakeDirectory(path="/d"), SetAttributes(path="/d", attributes={"x": "y"}))
    assert bench.stat("/d").attributes == {"x": "y"}
    with pytest.raises(IsADirectory):
        bench.commit(SetAttributes(path="/d", replication=2))
    with pytest.raises(InvalidRequest, match="at most 64"):
        bench.commit(SetAttributes(path="/f", attributes={f"k{n}": "" for n in range(64)}))


def test_a_chunk_wants_what_the_most_demanding_of_its_files_wants(bench: Bench) -> None:
    chunk = bench.chunk(b"abcd", nodes=["dn1", "dn2"])
    bench.commit(
        *[PutFile(path=f"/{n}", extents=[piece(chunk, b"abcd", n, 1)], replication=2) for n in range(4)], chunks=[chunk]
    )
    wanted = "SELECT replication FROM chunk"
    assert (bench.value(wanted), bench.value("SELECT count(*) FROM work")) == (2, 0)
    bench.commit(SetAttributes(path="/1", replication=3))
    assert (bench.value(wanted), bench.value("SELECT count(*) FROM work")) == (3, 1)
    bench.commit(SetAttributes(path="/1", replication=1))
    assert bench.value(wanted) == 2
    bench.commit(*[SetAttributes(path=f"/{n}", replication=1) for n in (0, 2, 3)])
    assert bench.value(wanted) == 1


# --- operation ids ----------------------------------------------------------------------------------------------


def test_a_repetition_answers_the_same_and_does_nothing_twice(bench: Bench) -> None:
    # S6, I6, F21, F22
    chunk = bench.chunk(b"x")
    request = Commit(op_id=bench.new_id(), actions=[put("/f", chunk), MakeDirectory(path="/d")], chunks=[chunk])
    first = bench.commit_request(request)
    bench.commit(Remove(path="/d"), Remove(path="/f"))
    assert bench.commit_request(request) == first
    assert bench.ls("/") == []
    bench.clock.advance(3599)
    assert bench.commit_request(request) == first


def test_an_answer_about_thousands_of_files_is_repeated_to_the_letter(bench: Bench) -> None:
    request = Commit(op_id=bench.new_id(), actions=[PutFile(path=f"/f{n}") for n in range(3000)])
    first = bench.commit_request(request)
    assert bench.commit_request(request) == first
    assert len(first.outcomes) == 3000
    assert bench.value("SELECT length(result) FROM op_result") < 3000 * 15


def test_an_operation_that_failed_may_be_repeated(bench: Bench) -> None:
    op_id = bench.new_id()
    with pytest.raises(FileNotFound):
        bench.commit(PutFile(path="/d/f"), op_id=op_id)
    bench.commit(MakeDirectory(path="/d"))
    bench.commit(PutFile(path="/d/f"), op_id=op_id)
    assert bench.ls("/d") == ["f"]


def test_one_id_is_for_one_request_of_one_principal(bench: Bench) -> None:
    # F23
    op_id = bench.new_id()
    bench.commit(PutFile(path="/f"), op_id=op_id)
    with pytest.raises(OperationMismatch):
        bench.commit(PutFile(path="/g"), op_id=op_id)
    with pytest.raises(OperationMismatch):
        bench.commit(PutFile(path="/f"), op_id=op_id, principal="somebody")
    with pytest.raises(OperationMismatch):
        bench.stage(bench.new_id(), op_id=op_id)
    assert bench.ls("/") == ["f"]


def test_an_id_that_is_too_old_is_refused_without_a_row(bench: Bench) -> None:
    # F24
    early, done = bench.new_id(), bench.new_id()
    bench.commit(PutFile(path="/f"), op_id=done)
    bench.clock.advance(3600)
    with pytest.raises(OperationExpired):
        bench.commit(PutFile(path="/g"), op_id=early)
    # A row that is still there is still the answer; once it is forgotten, the id is too old.
    bench.commit(PutFile(path="/f"), op_id=done)
    before_ms = bench.clock.wall_ms() - bench.rules.op_retention_ms + 1
    assert bench.store.write_blocking(lambda tx: oplog.forget_results(tx, before_ms=before_ms, limit=100)) == 1
    with pytest.raises(OperationExpired):
        bench.commit(PutFile(path="/f"), op_id=done)


def test_an_id_of_a_time_to_come_is_refused(bench: Bench) -> None:
    bench.commit(PutFile(path="/f"), op_id=new_id(bench.clock.wall_ms() + FUTURE_MS))
    with pytest.raises(InvalidRequest) as refused:
        bench.commit(PutFile(path="/g"), op_id=new_id(bench.clock.wall_ms() + FUTURE_MS + 1))
    assert refused.value.detail["time_ms"] == bench.clock.wall_ms()


# --- receipts ---------------------------------------------------------------------------------------------------


def test_a_committed_chunk_has_the_replicas_of_its_receipts(bench: Bench) -> None:
    # F7
    chunk = bench.chunk(b"x")
    bench.commit(put("/f", chunk), chunks=[chunk])
    found = bench.rows(
        "SELECT d.id, hex(r.volume) FROM replica AS r JOIN datanode AS d ON d.num = r.datanode ORDER BY 1"
    )
    assert found == [(name, node.volumes[0].id.upper()) for name, node in sorted(bench.nodes.items())]
    assert bench.value("SELECT count(*) FROM work") == 0


def test_too_few_receipts_are_refused_and_just_enough_make_work(bench: Bench) -> None:
    one = bench.chunk(b"x", nodes=["dn1"])
    with pytest.raises(ReceiptRefused) as refused:
        bench.commit(put("/f", one), chunks=[one])
    assert (refused.value.detail["counted"], refused.value.detail["needed"]) == (["dn1"], 2)
    two = bench.chunk(b"x", nodes=["dn1", "dn2"])
    bench.commit(put("/f", two), chunks=[two])
    assert bench.rows("SELECT lower(hex(chunk_id)) FROM work") == [(two.id,)]
    single = bench.chunk(b"y", nodes=["dn3"])
    bench.commit(put("/g", single, replication=1), chunks=[single])
    assert bench.value("SELECT count(*) FROM work") == 1


def test_the_same_datanode_counts_once(bench: Bench) -> None:
    chunk = bench.chunk(b"x", nodes=["dn1", "dn1", "dn1"])
    with pytest.raises(ReceiptRefused):
        bench.commit(put("/f", chunk), chunks=[chunk])


@pytest.mark.parametrize(
    "change",
    [
        {"state": "dead"},
        {"state": "stale"},
        {"incarnation": 7},
        {"volumes": ()},
    ],
)
def test_receipts_of_datanodes_and_volumes_that_are_gone_do_not_count(bench: Bench, change: dict[str, Any]) -> None:
    # F98
    chunk = bench.chunk(b"x")
    bench.change("dn1", **change)
    bench.commit(put("/f", chunk), chunks=[chunk])
    assert bench.value("SELECT count(*) FROM replica") == 2
    assert bench.value("SELECT count(*) FROM work") == 1
    other = bench.chunk(b"y", nodes=["dn2", "dn3"])
    bench.change("dn2", **change)
    with pytest.raises(ReceiptRefused) as refused:
        bench.commit(put("/g", other), chunks=[other])
    assert refused.value.detail["refused"] == ["dn2"]


def test_a_cluster_of_one_commits_with_one_receipt(tmp_path: Path) -> None:
    clock = FakeClock()
    store = SqliteStore.open(str(tmp_path / "store"), clock=clock)
    bench = Bench(store, clock, datanode_count=1)
    chunk = bench.chunk(b"x")
    bench.commit(put("/f", chunk), chunks=[chunk])
    assert bench.stat("/f").replication == 3
    bench.close()
    store.close()


def test_receipts_can_not_be_replayed_after_the_file_was_removed_and_its_chunk_collected(bench: Bench) -> None:
    # F92
    chunk = bench.chunk(b"x")
    bench.commit(put("/f", chunk), chunks=[chunk])
    with pytest.raises(ReceiptRefused):
        bench.commit(put("/again", chunk), chunks=[chunk])
    bench.commit(Remove(path="/f"))
    with pytest.raises(ReceiptRefused):
        bench.commit(put("/again", chunk), chunks=[chunk])
    bench.clock.advance(3600)
    collect(bench)
    assert bench.rows("SELECT state FROM chunk") == [(CHUNK_DELETED,)]
    with pytest.raises(ReceiptRefused):
        bench.commit(put("/again", chunk), chunks=[chunk])
    # When the tombstone is forgotten, the id is too old.
    bench.clock.advance(24 * 3600)
    before_ms = bench.clock.wall_ms() - 2 * bench.rules.chunk_commit_window_ms
    assert bench.store.write_blocking(lambda tx: garbage.forget_tombstones(tx, before_ms=before_ms, limit=10)) == 1
    with pytest.raises(ReceiptRefused, match="too long ago"):
        bench.commit(put("/again", chunk), chunks=[chunk])
    assert bench.ls("/") == []


def test_receipts_can_not_be_used_by_another_principal(bench: Bench) -> None:
    # F92
    chunk = bench.chunk(b"x", principal="alice")
    with pytest.raises(ReceiptRefused, match="somebody else"):
        bench.commit(put("/f", chunk), chunks=[chunk], principal="mallory")
    with pytest.raises(ReceiptRefused, match="somebody else"):
        bench.stage(bench.new_id(), chunks=[chunk], extents=[StagedExtent(0, 0, whole(chunk))], principal="mallory")
    bench.commit(put("/f", chunk), chunks=[chunk], principal="alice")


def test_receipts_can_not_be_replayed_through_a_draft(bench: Bench) -> None:
    # F92
    chunk = bench.chunk(b"x")
    staged = [StagedExtent(0, 0, whole(chunk))]
    first = bench.new_id()
    bench.stage(first, chunks=[chunk], extents=staged)
    # The same draft may stage it again: the upload was resumed.
    bench.stage(first, chunks=[chunk], extents=staged)
    with pytest.raises(ReceiptRefused):
        bench.stage(bench.new_id(), chunks=[chunk], extents=staged)
    with pytest.raises(ReceiptRefused):
        bench.commit(put("/f", chunk), chunks=[chunk])
    bench.drop_draft(first)
    with pytest.raises(ReceiptRefused):
        bench.stage(first, chunks=[chunk], extents=staged)
    bench.clock.advance(3600)
    collect(bench)
    assert bench.rows("SELECT state FROM chunk") == [(CHUNK_DELETED,)]
    with pytest.raises(ReceiptRefused):
        bench.stage(bench.new_id(), chunks=[chunk], extents=staged)


def test_a_forged_or_altered_receipt_is_refused(bench: Bench) -> None:
    chunk = bench.chunk(b"x")
    other = bench.chunk(b"y")
    longer = bench.chunk(b"xx", chunk=chunk.id)
    tampered = chunk.receipts[0][:-4] + ("AAAA" if chunk.receipts[0][-4:] != "AAAA" else "BBBB")
    for receipts in ([tampered, chunk.receipts[1]], ["nonsense"], other.receipts, longer.receipts):
        forged = NewChunk(chunk.id, chunk.length, chunk.digest, receipts)
        with pytest.raises(ReceiptRefused):
            bench.commit(put("/f", forged), chunks=[forged])
    assert bench.value("SELECT count(*) FROM chunk") == 0


def test_a_chunk_that_waited_too_long_is_refused(bench: Bench) -> None:
    # F93
    chunk = bench.chunk(b"x")
    bench.clock.advance(12 * 3600 - 1)
    bench.commit(put("/f", chunk), chunks=[chunk])
    late = bench.chunk(b"y")
    bench.clock.advance(12 * 3600)
    with pytest.raises(ReceiptRefused, match="too long ago"):
        bench.commit(put("/g", late), chunks=[late])
    future = bench.chunk(b"z", chunk=new_id(bench.clock.wall_ms() + 24 * 3600 * 1000))
    with pytest.raises(ReceiptRefused):
        bench.commit(put("/g", future), chunks=[future])


# --- extents ----------------------------------------------------------------------------------------------------


def test_extents_stay_within_the_chunks_of_their_own_request(bench: Bench) -> None:
    known, fresh = bench.chunk(b"abc"), bench.chunk(b"def")
    bench.commit(put("/f", known), chunks=[known])
    for extents, why in (
        ([whole(known)], "not introduced by this request"),
        ([Extent(fresh.id, 1, 3, fresh.digest)], "beyond the end"),
        ([Extent(fresh.id, 0, 3, known.digest)], "another digest"),
        ([], "not used by any extent"),
    ):
        with pytest.raises(InvalidRequest, match=why):
            bench.commit(PutFile(path="/g", extents=extents), chunks=[fresh])
    with pytest.raises(InvalidRequest, match="named twice"):
        bench.commit(put("/g", fresh), chunks=[fresh, fresh])
    bench.commit(put("/g", fresh), chunks=[fresh])


# --- drafts -----------------------------------------------------------------------------------------------------


def test_a_draft_is_invisible_until_one_commit_publishes_it(bench: Bench) -> None:
    # S4
    draft = bench.new_id()
    chunks = [bench.chunk(bytes([n]) * 10) for n in range(4)]
    places = [(0, 700), (0, 3), (1, 0), (0, 90)]
    for chunk, (file, index) in zip(chunks, places, strict=True):
        bench.stage(draft, chunks=[chunk], extents=[StagedExtent(file, index, whole(chunk))])
    staged = bench.stage(draft, actions=[MakeDirectory(path="/up"), PutFile(path="/up/big", staged=0)])
    assert (staged.extents, staged.actions) == (4, 2)
    assert bench.ls("/") == []
    for content in range(1, 10):
        with pytest.raises(DfsError):
            bench.locate(content)
    done = bench.commit(PutFile(path="/up/small", staged=1), draft=draft)
    assert [outcome.path for outcome in done.outcomes] == ["/up", "/up/big", "/up/small"]
    layout = bench.open("/up/big").layout
    assert [(e.position, e.chunk) for e in layout.extents] == [
        (0, chunks[1].id),
        (10, chunks[3].id),
        (20, chunks[0].id),
    ]
    assert layout.size == 30
    for table in ("draft", "draft_file", "draft_chunk", "draft_action"):
        assert bench.value(f"SELECT count(*) FROM {table}") == 0
    with pytest.raises(Conflict):
        bench.commit(draft=draft)


def test_a_place_that_is_staged_again_is_replaced(bench: Bench) -> None:
    draft = bench.new_id()
    first, second = bench.chunk(b"first"), bench.chunk(b"second")
    bench.stage(draft, chunks=[first], extents=[StagedExtent(0, 0, whole(first))])
    staged = bench.stage(draft, chunks=[second], extents=[StagedExtent(0, 0, whole(second))])
    assert staged.extents == 1
    bench.check_references()
    bench.commit(PutFile(path="/f", staged=0), draft=draft)
    assert [e.chunk for e in bench.open("/f").layout.extents] == [second.id]
    collect(bench)
    assert bench.value("SELECT count(*) FROM chunk WHERE state = 2") == 1


def test_a_pack_may_be_filled_over_several_calls_of_its_draft_only(bench: Bench) -> None:
    draft, other = bench.new_id(), bench.new_id()
    data = b"abcdef"
    pack = bench.chunk(data)
    bench.stage(draft, chunks=[pack], extents=[StagedExtent(0, 0, piece(pack, data, 0, 2))])
    bench.stage(draft, extents=[StagedExtent(1, 0, piece(pack, data, 2, 2))])
    inline = AppendFile(path="/c", extents=[piece(pack, data, 4, 2)], create=True)
    bench.stage(draft, actions=[PutFile(path="/a", staged=0), inline])
    with pytest.raises(InvalidRequest):
        bench.stage(other, extents=[StagedExtent(0, 0, piece(pack, data, 2, 2))])
    with pytest.raises(InvalidRequest):
        bench.commit(PutFile(path="/x", extents=[piece(pack, data, 2, 2)]))
    bench.commit(PutFile(path="/b", staged=1), PutFile(path="/d", extents=[whole(pack)]), draft=draft)
    assert [bench.stat(path).size for path in ("/a", "/b", "/c", "/d")] == [2, 2, 2, 6]
    assert bench.value("SELECT referenced_bytes FROM chunk") == 12


def test_a_chunk_of_a_living_draft_is_never_garbage(bench: Bench) -> None:
    draft = bench.new_id()
    chunk, other = bench.chunk(b"x"), bench.chunk(b"y")
    bench.stage(draft, chunks=[chunk], extents=[StagedExtent(0, 0, whole(chunk))])
    bench.stage(draft, chunks=[other], extents=[StagedExtent(0, 0, whole(other))])
    bench.clock.advance(10 * 24 * 3600)
    collect(bench)
    assert bench.rows("SELECT state FROM chunk") == [(0,), (0,)]
    bench.drop_draft(draft)
    bench.drop_draft(draft)
    collect(bench)
    assert bench.rows("SELECT state FROM chunk") == [(CHUNK_DELETED,)] * 2


def test_a_draft_belongs_to_its_principal(bench: Bench) -> None:
    draft = bench.new_id()
    bench.stage(draft, actions=[PutFile(path="/f")], principal="alice")
    for call in (
        lambda: bench.stage(draft, principal="mallory"),
        lambda: bench.commit(draft=draft, principal="mallory"),
        lambda: bench.drop_draft(draft, principal="mallory"),
    ):
        with pytest.raises(NotPermitted):
            call()
    bench.commit(draft=draft, principal="alice")
    assert bench.ls("/") == ["f"]


def test_a_commit_of_a_draft_that_fails_leaves_the_draft(bench: Bench) -> None:
    draft = bench.new_id()
    chunk = bench.chunk(b"x")
    bench.stage(draft, chunks=[chunk], extents=[StagedExtent(0, 0, whole(chunk))])
    for action in (
        PutFile(path="/no/f", staged=0),
        PutFile(path="/f", staged=1),
        PutFile(path="/f", staged=0, extents=[whole(chunk)]),
    ):
        with pytest.raises(DfsError):
            bench.commit(action, draft=draft)
    with pytest.raises(InvalidRequest):
        bench.commit(PutFile(path="/a", staged=0), PutFile(path="/b", staged=0), draft=draft)
    with pytest.raises(InvalidRequest):
        bench.commit(PutFile(path="/a", staged=0))
    bench.commit(PutFile(path="/f", staged=0), draft=draft)
    assert bench.stat("/f").size == 1


def test_staging_is_idempotent_and_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    draft, op_id = bench.new_id(), bench.new_id()
    action = MakeDirectory(path="/d")
    assert bench.stage(draft, actions=[action], op_id=op_id) == bench.stage(draft, actions=[action], op_id=op_id)
    monkeypatch.setattr(stage_module, "STAGED_ACTIONS_MAX", 2)
    bench.stage(draft, actions=[PutFile(path="/e")])
    with pytest.raises(TooLarge):
        bench.stage(draft, actions=[PutFile(path="/f")])
    bench.commit(draft=draft)
    assert bench.ls("/") == ["d", "e"]


def test_a_draft_that_nobody_touches_can_be_found(bench: Bench) -> None:
    idle, busy = bench.new_id(), bench.new_id()
    bench.stage(idle)
    bench.stage(busy)
    bench.clock.advance(100)
    bench.stage(busy)
    with bench.store.read() as snapshot:
        assert drafts.idle_since(snapshot, bench.clock.wall_ms() - 50, 10) == [bytes.fromhex(idle)]


def test_what_a_draft_leaves_unused_is_swept(bench: Bench) -> None:
    draft = bench.new_id()
    used, unused = bench.chunk(b"used"), bench.chunk(b"unused")
    bench.stage(
        draft,
        chunks=[used, unused],
        extents=[StagedExtent(0, 0, whole(used)), StagedExtent(1, 0, whole(unused))],
    )
    bench.commit(PutFile(path="/f", staged=0), draft=draft)
    bench.clock.advance(3600)
    collect(bench)
    assert bench.rows("SELECT lower(hex(id)) FROM chunk WHERE state = 0") == [(used.id,)]


def test_a_single_copy_can_be_staged_when_that_is_what_was_asked_for(bench: Bench) -> None:
    draft = bench.new_id()
    chunk = bench.chunk(b"x", nodes=["dn1"])
    extents = [StagedExtent(0, 0, whole(chunk))]
    with pytest.raises(ReceiptRefused):
        bench.stage(draft, chunks=[chunk], extents=extents)
    bench.stage(draft, chunks=[chunk], extents=extents, replication=1)
    # Visible as a file that wants more copies it would be less safe than it says.
    with pytest.raises(ReceiptRefused, match="has 1 replicas in service, and needs 2"):
        bench.commit(PutFile(path="/f", staged=0, replication=3), draft=draft)
    bench.commit(PutFile(path="/f", staged=0, replication=1), draft=draft)
    assert bench.rows("SELECT replication FROM chunk") == [(1,)]


def test_a_draft_whose_replicas_are_gone_is_not_published(bench: Bench) -> None:
    # I1, F98
    draft = bench.new_id()
    chunk = bench.chunk(b"x")
    bench.stage(draft, chunks=[chunk], extents=[StagedExtent(0, 0, whole(chunk))])
    bench.change("dn1", state="dead")
    bench.change("dn2", state="dead")
    with pytest.raises(ReceiptRefused):
        bench.commit(PutFile(path="/f", staged=0), draft=draft)
    again = bench.chunk(b"x", nodes=["dn1", "dn3"])
    bench.change("dn1", state="live")
    bench.stage(draft, chunks=[again], extents=[StagedExtent(0, 0, whole(again))])
    bench.commit(PutFile(path="/f", staged=0), draft=draft)
    assert bench.open("/f").layout.extents[0].chunk == again.id


def test_a_pack_of_a_draft_whose_replicas_are_gone_is_not_published(bench: Bench) -> None:
    # I1, F98
    draft = bench.new_id()
    pack = bench.chunk(b"x")
    bench.stage(draft, chunks=[pack], actions=[PutFile(path="/f", extents=[whole(pack)])])
    bench.change("dn1", state="dead")
    bench.change("dn2", state="dead")
    with pytest.raises(ReceiptRefused, match="has 1 replicas in service, and needs 2"):
        bench.commit(draft=draft)
    bench.change("dn2", state="live")
    bench.commit(draft=draft)
    bench.check_references()


# --- the change log ---------------------------------------------------------------------------------------------


def test_the_log_tells_what_is_needed_to_undo(bench: Bench) -> None:
    first = bench.put("/f", b"one").seq
    bench.put("/f", b"two")
    bench.commit(Rename(source="/f", target="/g"), Remove(path="/g"), principal="alice")
    log = bench.rows("SELECT n, op, name, old_name, content_id, old_content_id, principal FROM change ORDER BY seq, n")
    assert log == [
        (0, "put", "f", None, 1, None, "anonymous"),
        (0, "put", "f", "f", 2, 1, "anonymous"),
        (0, "rename", "g", "f", 2, 2, "alice"),
        (1, "delete", None, "g", None, 2, None),
    ]
    bench.clock.advance(1000)
    bench.put("/h", b"x")
    before_ms = bench.clock.wall_ms() - 500_000
    assert bench.store.write_blocking(lambda tx: oplog.forget_changes(tx, before_ms=before_ms, limit=1)) == 1
    assert bench.value("SELECT min(seq) FROM change") == first + 1
    assert bench.store.write_blocking(lambda tx: oplog.forget_changes(tx, before_ms=before_ms, limit=100)) == 3
    assert bench.value("SELECT count(*) FROM change") == 1


def test_forgetting_changes_goes_in_steps_of_rows_and_never_splits_an_operation(bench: Bench) -> None:
    for number in range(3):
        bench.commit(*(MakeDirectory(path=f"/d{number}-{n}") for n in range(3000)))
    bench.clock.advance(1000)
    before_ms = bench.clock.wall_ms() - 500_000
    assert bench.store.write_blocking(lambda tx: oplog.forget_changes(tx, before_ms=before_ms, limit=3500)) == 6000
    assert bench.rows("SELECT DISTINCT seq FROM change") == [(bench.value("SELECT max(seq) FROM change"),)]
    assert bench.store.write_blocking(lambda tx: oplog.forget_changes(tx, before_ms=before_ms, limit=3500)) == 3000
