"""The tree of errors: permanent codes, and what foreign code can catch."""

import errno
import pickle

import pytest

from dfs.protocol import errors as e
from dfs.protocol.operations import error_from_bytes, error_to_bytes


@pytest.mark.parametrize("kind", list(e.BY_CODE.values()), ids=lambda kind: kind.code)
def test_every_error_survives_the_wire_and_pickling(kind: type[e.DfsError]) -> None:
    error = kind("/a: a sentence", path="/a", index=3)
    for copy in (error_from_bytes(kind.status, error_to_bytes(error)), pickle.loads(pickle.dumps(error))):
        assert type(copy) is kind
        assert (str(copy), copy.detail) == ("/a: a sentence", {"path": "/a", "index": 3})
    assert kind.__doc__
    assert f"{kind.__name__} " in (e.__doc__ or "") or kind.__name__ in (e.__doc__ or "").split()


@pytest.mark.parametrize(
    ("kind", "builtin", "number"),
    [
        (e.FileNotFound, FileNotFoundError, errno.ENOENT),
        (e.FileExists, FileExistsError, errno.EEXIST),
        (e.IsADirectory, IsADirectoryError, errno.EISDIR),
        (e.NotADirectory, NotADirectoryError, errno.ENOTDIR),
        (e.NotPermitted, PermissionError, errno.EACCES),
        (e.DirectoryNotEmpty, OSError, errno.ENOTEMPTY),
        (e.NoSpace, OSError, errno.ENOSPC),
    ],
)
def test_errors_are_the_built_in_ones_where_one_fits(kind: type[e.DfsError], builtin: type, number: int) -> None:
    with pytest.raises(builtin) as caught:
        raise kind("no")
    assert caught.value.errno == number


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[]", b'{"error": 3}', b"\xff"])
def test_an_answer_of_something_else_is_a_bad_answer(body: bytes) -> None:
    assert isinstance(error_from_bytes(502, body), e.BadAnswer)


def test_a_code_of_a_newer_version_is_a_bad_answer_that_keeps_its_words() -> None:
    error = e.from_wire("quota_exceeded", "no more", {"limit": 3})
    assert isinstance(error, e.BadAnswer)
    assert (error.message, error.detail["limit"]) == ("no more", 3)
