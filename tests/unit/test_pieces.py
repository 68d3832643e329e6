"""Files put together from pieces: whole ones, beginnings, appends, and nothing that is not there."""

from dfs.pieces import Piece, Version, components, versions


def piece(
    position: int, length: int, *, size: int = -1, upload: str = "u1", path: str = "/f", at: int = 1, chunk: str = ""
) -> Piece:
    return Piece(path, upload, at, position, size, chunk or f"{upload}-{position}", 0, length, "d" * 32)


def only(pieces: list[Piece]) -> Version:
    (version,) = versions(pieces)
    return version


def test_pieces_in_any_order_make_a_whole_file() -> None:
    version = only([piece(20, 5, size=25), piece(0, 10), piece(10, 10)])
    assert [one.position for one in version.pieces] == [0, 10, 20]
    assert (version.is_complete, version.size, version.missing) == (True, 25, "")


def test_a_gap_ends_the_file_and_is_told() -> None:
    version = only([piece(0, 10, size=40), piece(20, 10, size=40), piece(30, 10, size=40)])
    assert (version.is_complete, version.end) == (False, 10)
    assert [one.position for one in version.leftover] == [20, 30]
    assert version.missing == "bytes 10 to 20 are missing, of 40 bytes"


def test_an_end_that_is_missing_is_told() -> None:
    assert only([piece(0, 10, size=40)]).missing == "all behind byte 10 is missing, of 40 bytes"
    assert only([piece(0, 10)]).missing == "all behind byte 10 is missing, its length is not known"


def test_without_its_beginning_a_file_is_nothing() -> None:
    version = only([piece(10, 10, size=20)])
    assert version.pieces == ()
    assert version.missing == "its beginning is missing, of 20 bytes"


def test_bytes_that_were_sent_twice_are_taken_once() -> None:
    version = only([piece(0, 10), piece(0, 10, chunk="again"), piece(10, 5, size=15)])
    assert version.is_complete
    assert len(version.pieces) == 2
    assert version.leftover == ()


def test_two_versions_of_a_path_are_two_files_the_newest_first() -> None:
    found = versions([piece(0, 10, size=10, upload="u1", at=1), piece(0, 7, size=7, upload="u2", at=2)])
    assert [version.size for version in found] == [7, 10]
    assert all(version.is_complete for version in found)


def test_what_was_appended_goes_behind_the_version_before_it() -> None:
    found = versions(
        [
            piece(0, 10, size=10, upload="u1", at=1),
            piece(10, 5, size=15, upload="u2", at=2),
            piece(15, 5, size=20, upload="u3", at=3),
        ]
    )
    (version,) = found
    assert (version.is_complete, version.size, len(version.pieces)) == (True, 20, 3)


def test_an_append_that_rewrote_the_last_piece_replaces_it() -> None:
    found = versions(
        [
            piece(0, 10, size=14, upload="u1", at=1),
            piece(10, 4, size=14, upload="u1", at=1),
            piece(10, 9, size=19, upload="u2", at=2),
        ]
    )
    (version,) = found
    assert [(one.position, one.length) for one in version.pieces] == [(0, 10), (10, 9)]
    assert version.is_complete


def test_an_append_to_something_that_is_not_there_stays_alone() -> None:
    found = versions([piece(0, 10, size=10, upload="u1", at=1), piece(12, 5, size=17, upload="u2", at=2)])
    assert [version.is_complete for version in found] == [False, True]
    assert found[0].pieces == ()


def test_files_that_share_chunks_belong_together() -> None:
    members: list[tuple[int, list[str]]] = [(0, ["a"]), (1, ["b", "c"]), (2, ["c", "d"]), (3, []), (4, ["d"])]
    assert sorted(sorted(group) for group in components(members)) == [[0], [1, 2, 4], [3]]
    assert components([]) == []
