"""What several backups of a change log say together: the last word on each place counts."""

from collections.abc import Sequence

from dfs.lost_changes import LostChanges
from dfs.protocol.metadata_log import LoggedContent, LoggedInode, LoggedPlace, Record

FILE, DIRECTORY = 0, 1


def inode(number: int, kind: int = FILE) -> LoggedInode:
    content = number if kind == FILE else None
    return LoggedInode(number, kind, 0o644, "me", "", 0, number, content, None)


def file(number: int, parent: int, path: str) -> list[Record]:
    return [
        LoggedContent(number, 0, bytes(16), 3, None, []),
        LoggedPlace(parent, path.rsplit("/", 1)[1], path, inode(number)),
    ]


def directory(number: int, parent: int, path: str) -> list[Record]:
    return [LoggedPlace(parent, path.rsplit("/", 1)[1], path, inode(number, DIRECTORY))]


def nothing(parent: int, name: str) -> list[Record]:
    return [LoggedPlace(parent, name, None, None)]


def told(*backups: Sequence[list[Record]]) -> list[str]:
    """The files' paths that are true at the end."""
    flat = [[record for group in backup for record in group] for backup in backups]
    changes = LostChanges()
    for records in flat:
        changes.take_in(records)
    entries = [entry for number, records in enumerate(flat) for entry in changes.entries(number, records)]
    return [entry.path for entry in entries if entry.kind == "file"]


def test_a_file_that_was_removed_or_renamed_later_is_not_brought_back_to_where_it_was() -> None:
    assert told([file(10, 1, "/a"), file(11, 1, "/b")], [nothing(1, "a")]) == ["/b"]
    assert told([file(10, 1, "/a")], [nothing(1, "a"), file(10, 1, "/c")]) == ["/c"]


def test_a_file_that_was_replaced_later_is_told_once() -> None:
    assert told([file(10, 1, "/a")], [file(12, 1, "/a")]) == ["/a"]


def test_files_move_with_their_directory() -> None:
    made = [directory(20, 1, "/d"), directory(21, 20, "/d/e"), file(10, 21, "/d/e/f")]
    assert told(made) == ["/d/e/f"]
    assert told(made, [nothing(1, "d"), directory(20, 1, "/moved")]) == ["/moved/e/f"]


def test_files_go_with_their_directory() -> None:
    made = [directory(20, 1, "/d"), file(10, 20, "/d/f")]
    assert told(made, [nothing(1, "d")]) == []
    assert told([file(10, 20, "/d/f")], [nothing(1, "d")]) == [], "also if it was there before all of it"
    assert told(made, [nothing(1, "d"), directory(30, 1, "/d"), file(11, 30, "/d/g")]) == ["/d/g"]


def test_files_in_a_directory_from_before_move_with_it() -> None:
    made = [file(10, 20, "/x/old/f")]
    assert told(made) == ["/x/old/f"]
    assert told(made, [nothing(7, "old"), directory(20, 7, "/x/new")]) == ["/x/new/f"]


def test_a_backup_that_is_missing_in_between_makes_no_circle_of_directories() -> None:
    first = [directory(20, 1, "/a"), directory(21, 20, "/a/b"), file(10, 21, "/a/b/f")]
    # The one that can't be read said that /a/b went to /b; so a later one could move /a into it.
    last = [nothing(1, "a"), directory(20, 21, "/b/a")]
    assert told(first, last) == ["/a/b/f"]
