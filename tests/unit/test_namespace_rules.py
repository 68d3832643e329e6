"""Decisions about names, from facts alone: no store."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfs.protocol.errors import DfsError, FileNotFound, InvalidRequest, NotADirectory, PreconditionFailed
from dfs.protocol.messages import AppendFile, Copy, MakeDirectory, PutFile, Remove, Rename
from dfs_namenode.namespace import (
    ATTRIBUTES_MAX,
    Inode,
    Place,
    decide_append,
    decide_copy,
    decide_mkdir,
    decide_put,
    decide_remove,
    decide_rename,
    entry_of,
    etag_of,
    merge_attributes,
)

DIGEST = bytes(range(16))


def file(inode_id: int = 7, version: int = 3) -> Inode:
    return Inode(1, "f", inode_id, 0, 0o644, "me", "us", 5, version, 9, None, 100, DIGEST, 2)


def directory(inode_id: int = 8) -> Inode:
    return Inode(1, "d", inode_id, 1, 0o755, "me", "", 5, 3, None, None, None, None, None)


def place(
    path: str,
    inode: Inode | None = None,
    *,
    ancestors: tuple[int, ...] = (1,),
    missing: tuple[str, ...] = (),
    obstacle: tuple[str, ...] | None = None,
) -> Place:
    return Place(tuple(part for part in path.split("/") if part), ancestors, missing, obstacle, inode)


FREE = place("/x")
MISSING_PARENT = place("/a/b/x", missing=("a", "b"))
BELOW_A_FILE = place("/f/x", obstacle=("f",))


def code(call: Callable[[], str]) -> str:
    """What a decision came to: its verdict, or the code of its error, whose message begins with a path."""
    try:
        return call()
    except DfsError as error:
        return error.code if error.message.startswith("/") else f"{error.code}, but the message names no path"


@pytest.mark.parametrize(
    ("where", "options", "expected"),
    [
        (FREE, {}, "create"),
        (FREE, {"when": "absent"}, "create"),
        (FREE, {"when": "version", "if_version": 3}, "precondition_failed"),
        (place("/f", file()), {}, "replace"),
        (place("/f", file()), {"when": "absent"}, "exists"),
        (place("/f", file()), {"when": "version", "if_version": 3}, "replace"),
        (place("/f", file()), {"when": "version", "if_version": 2}, "precondition_failed"),
        (place("/d", directory()), {}, "is_a_directory"),
        (place("/d", directory()), {"when": "absent"}, "exists"),
        (place("/", directory(1), ancestors=()), {}, "is_a_directory"),
        (MISSING_PARENT, {}, "not_found"),
        (MISSING_PARENT, {"parents": True}, "create"),
        (BELOW_A_FILE, {"parents": True}, "not_a_directory"),
    ],
)
def test_a_put_creates_replaces_or_is_refused(where: Place, options: dict[str, object], expected: str) -> None:
    action = PutFile(path=where.path, **options)  # type: ignore[arg-type]
    assert code(lambda: decide_put(where, action)) == expected


@pytest.mark.parametrize(
    ("where", "options", "expected"),
    [
        (FREE, {}, "not_found"),
        (FREE, {"create": True}, "create"),
        (MISSING_PARENT, {"create": True}, "not_found"),
        (MISSING_PARENT, {"parents": True}, "not_found"),
        (MISSING_PARENT, {"create": True, "parents": True}, "create"),
        (place("/f", file()), {}, "append"),
        (place("/f", file()), {"if_version": 3}, "append"),
        (place("/f", file()), {"if_version": 4}, "precondition_failed"),
        (place("/f", file()), {"drop_tail": True}, "invalid_request"),
        (place("/f", file()), {"if_inode": file().id}, "append"),
        (place("/f", file()), {"if_inode": file().id + 1}, "not_found"),
        (FREE, {"if_inode": 7, "create": True}, "not_found"),
        (place("/d", directory()), {"create": True}, "is_a_directory"),
        (BELOW_A_FILE, {"create": True, "parents": True}, "not_a_directory"),
    ],
)
def test_an_append_needs_a_file_or_leave_to_make_one(where: Place, options: dict[str, object], expected: str) -> None:
    action = AppendFile(path=where.path, extents=[], **options)  # type: ignore[arg-type]
    assert code(lambda: decide_append(where, action)) == expected


@pytest.mark.parametrize(
    ("where", "options", "expected"),
    [
        (FREE, {}, "create"),
        (place("/d", directory()), {}, "exists"),
        (place("/d", directory()), {"exist_ok": True}, "nothing"),
        (place("/f", file()), {"exist_ok": True}, "exists"),
        (place("/", directory(1), ancestors=()), {"exist_ok": True}, "nothing"),
        (MISSING_PARENT, {"exist_ok": True}, "not_found"),
        (MISSING_PARENT, {"parents": True}, "create"),
        (BELOW_A_FILE, {"parents": True}, "not_a_directory"),
    ],
)
def test_a_directory_is_made_where_nothing_is(where: Place, options: dict[str, object], expected: str) -> None:
    action = MakeDirectory(path=where.path, **options)  # type: ignore[arg-type]
    assert code(lambda: decide_mkdir(where, action)) == expected


@pytest.mark.parametrize(
    ("where", "options", "children", "expected"),
    [
        (FREE, {}, False, "not_found"),
        (FREE, {"missing_ok": True}, False, "nothing"),
        (MISSING_PARENT, {"missing_ok": True}, False, "nothing"),
        (BELOW_A_FILE, {"missing_ok": True}, False, "nothing"),
        (BELOW_A_FILE, {}, False, "not_a_directory"),
        (place("/f", file()), {}, False, "delete"),
        (place("/f", file()), {"if_version": 3}, False, "delete"),
        (place("/f", file()), {"if_version": 2}, False, "precondition_failed"),
        (place("/f", file()), {"kind": "directory"}, False, "not_a_directory"),
        (place("/d", directory()), {"kind": "file", "recursive": True}, True, "is_a_directory"),
        (place("/d", directory()), {}, False, "delete"),
        (place("/d", directory()), {}, True, "directory_not_empty"),
        (place("/d", directory()), {"recursive": True}, True, "detach"),
        (place("/", directory(1), ancestors=()), {"recursive": True}, True, "conflict"),
    ],
)
def test_a_remove_takes_one_row_or_cuts_a_tree_off(
    where: Place, options: dict[str, object], children: bool, expected: str
) -> None:
    action = Remove(path=where.path, **options)  # type: ignore[arg-type]
    assert code(lambda: decide_remove(where, action, has_children=children)) == expected


F, G = place("/f", file(7)), place("/g", file(9))
D, E = place("/d", directory(8)), place("/e", directory(10))


@pytest.mark.parametrize(
    ("source", "target", "overwrite", "children", "expected"),
    [
        (F, FREE, False, False, "move"),
        (D, FREE, False, False, "move"),
        (F, MISSING_PARENT, False, False, "not_found"),
        (F, F, False, False, "nothing"),
        (D, D, False, True, "nothing"),
        (F, G, False, False, "exists"),
        (F, G, True, False, "replace"),
        (D, E, True, False, "replace"),
        (D, E, True, True, "directory_not_empty"),
        (D, E, False, True, "exists"),
        (D, F, True, False, "not_a_directory"),
        (F, D, True, False, "is_a_directory"),
        (D, place("/d/x", ancestors=(1, 8)), True, False, "conflict"),
        (D, place("/d/y/x", ancestors=(1, 8), missing=("y",)), True, False, "conflict"),
        (place("/d/x", file(7), ancestors=(1, 8)), D, True, True, "directory_not_empty"),
        (place("/", directory(1), ancestors=()), FREE, True, False, "conflict"),
        (F, place("/", directory(1), ancestors=()), True, True, "conflict"),
        (FREE, G, True, False, "not_found"),
        (F, BELOW_A_FILE, True, False, "not_a_directory"),
    ],
)
def test_a_rename_follows_posix_except_that_it_replaces_only_if_asked(
    source: Place, target: Place, overwrite: bool, children: bool, expected: str
) -> None:
    action = Rename(source=source.path, target=target.path, overwrite=overwrite)
    assert code(lambda: decide_rename(source, target, action, target_has_children=children)) == expected


@pytest.mark.parametrize(
    ("source", "target", "options", "expected"),
    [
        (F, FREE, {}, "create"),
        (F, G, {}, "exists"),
        (F, G, {"overwrite": True}, "replace"),
        (F, G, {"overwrite": True, "if_version": 4}, "precondition_failed"),
        (F, F, {"overwrite": True}, "conflict"),
        (D, FREE, {}, "is_a_directory"),
        (F, D, {"overwrite": True}, "is_a_directory"),
        (FREE, G, {}, "not_found"),
        (F, MISSING_PARENT, {"parents": True}, "create"),
    ],
)
def test_a_copy_is_of_one_file_to_another(
    source: Place, target: Place, options: dict[str, object], expected: str
) -> None:
    action = Copy(source=source.path, target=target.path, **options)  # type: ignore[arg-type]
    assert code(lambda: decide_copy(source, target, action)) == expected


def test_the_message_names_the_component_at_fault() -> None:
    with pytest.raises(NotADirectory, match=r"^/f: not a directory$"):
        decide_put(BELOW_A_FILE, PutFile(path="/f/x"))
    with pytest.raises(FileNotFound, match=r"^/a: no such directory"):
        decide_put(MISSING_PARENT, PutFile(path="/a/b/x"))
    with pytest.raises(PreconditionFailed, match="version 4 was expected, but version 3 is there") as refused:
        decide_put(F, PutFile(path="/f", when="version", if_version=4))
    assert refused.value.detail == {"path": "/f", "version": 3}


TEXTS = st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=6)


@given(old=TEXTS, new=TEXTS, drop=st.lists(st.text(max_size=3), max_size=4))
def test_merged_attributes_are_the_new_ones_over_the_old_ones_that_stay(
    old: dict[str, str], new: dict[str, str], drop: list[str]
) -> None:
    merged = merge_attributes("/f", old, new, drop)
    for name in {*old, *new, *drop}:
        kept = None if name in drop else old.get(name)
        assert merged.get(name) == new.get(name, kept)
    assert json.loads(json.dumps(merged)) == merged


def test_a_file_has_at_most_so_many_attributes() -> None:
    full = {str(number): "" for number in range(ATTRIBUTES_MAX)}
    assert merge_attributes("/f", full, {"0": "x"}, []) == {**full, "0": "x"}
    with pytest.raises(InvalidRequest):
        merge_attributes("/f", full, {"more": ""}, [])


def test_an_entry_shows_the_facts_of_its_content() -> None:
    entry = entry_of("/f", file(), {"k": "v"})
    assert (entry.size, entry.replication, entry.kind, entry.attributes) == (100, 2, "file", {"k": "v"})
    assert entry.etag == etag_of(3, DIGEST) == '"3-0001020304050607"'
    shown = entry_of("/d", directory(), {})
    assert (shown.size, shown.replication, shown.kind, shown.etag) == (0, 0, "directory", "")
