"""The URLs of /files: which path one names, who may change it, what a DELETE removes, and upload tickets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfs.protocol.capability import check_ticket, derive_key, sign_capability, sign_ticket
from dfs.protocol.errors import Conflict, FileNotFound, InvalidName, InvalidRequest, NotPermitted, PreconditionFailed
from dfs.protocol.http_files import (
    caller_of,
    files_target,
    headers_of,
    is_files,
    is_true,
    path_of,
    refuse_foreign_page,
    removal,
)
from dfs.protocol.messages import Entry, Remove
from dfs.protocol.names import check_name

KEY = derive_key(b"secret", "dn1")


def entry(**changes: object) -> Entry:
    facts: dict[str, object] = {
        "path": "/a", "name": "a", "kind": "file", "size": 3, "mtime_ns": 0, "mode": 0o644, "owner": "", "group": "",
        "replication": 3, "version": 7, "etag": '"7-abc"', "inode": 5,
    }  # fmt: skip
    return Entry(**(facts | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/files", "/"),
        (b"/files/", "/"),
        (b"/files/a/b", "/a/b"),
        (b"/files/a/", "/a"),
        (b"/files/100%25", "/100%"),
        (b"/files/100%2525", "/100%25"),
        (b"/files/a%20b+c", "/a b+c"),
        (b"/files/%3F%23%26", "/?#&"),
        (b"/files/gr%c3%BC%C3%9F", "/grüß"),
        ("/files/grüß".encode(), "/grüß"),
        (b"/files/a%2Fb", "/a/b"),
    ],
)
def test_a_target_names_the_path_that_it_encodes(target: bytes, path: str) -> None:
    assert is_files(target)
    assert path_of(target) == path


@pytest.mark.parametrize(
    "target",
    [
        b"/files/%", b"/files/%2", b"/files/%zz", b"/files/a%+1", b"/files/%ff", b"/files/%ED%A0%80", b"/files/%00",
        b"/files/a%0Ab", b"/files/../x", b"/files/%2E%2E/x", b"/files//a", b"/files/a//b", b"/files/.", b"/files/%2F",
        b"/files/" + b"a" * 256, b"/files/a%C2%85", b"/files" + b"/a" * 129,
    ],
)  # fmt: skip
def test_a_target_that_names_no_path_is_refused(target: bytes) -> None:
    with pytest.raises(InvalidName):
        path_of(target)


@pytest.mark.parametrize("target", [b"/", b"/filesystem", b"/file", b"/v1/files", b"", b"//files"])
def test_other_targets_are_not_of_this_door(target: bytes) -> None:
    assert not is_files(target)


def valid(name: str) -> bool:
    try:
        check_name(name)
    except InvalidName:
        return False
    return True


@given(st.lists(st.text(min_size=1, max_size=20).filter(valid), max_size=5))
def test_a_path_survives_the_way_into_a_url_and_back(names: list[str]) -> None:
    path = "/" + "/".join(names)
    target = files_target(path)
    assert target.isascii()
    assert not set(target) & set('?#"<> \\')
    assert path_of(target.encode()) == path


@given(st.binary(max_size=40))
def test_any_target_names_a_path_or_is_refused(rest: bytes) -> None:
    try:
        path = path_of(b"/files/" + rest)
    except InvalidName:
        return
    assert path_of(files_target(path).encode()) == path


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "same-origin", "origin": "http://here:9864", "host": "here:9864"},
        {"origin": "http://HERE:9864", "host": "here:9864"},
    ],
)
def test_programs_and_our_own_pages_may_change_files(headers: dict[str, str]) -> None:
    refuse_foreign_page(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "anything"},
        {"origin": "http://evil", "host": "here:9864"},
        {"origin": "http://here:9865", "host": "here:9864"},
        {"origin": "null", "host": "here:9864"},
        {"origin": "", "host": ""},
        {"origin": "http://[", "host": "here"},
        {"origin": "http://here:9864"},
    ],
)
def test_a_foreign_web_page_may_not_change_files(headers: dict[str, str]) -> None:
    with pytest.raises(NotPermitted):
        refuse_foreign_page(headers)


def test_repeated_headers_are_joined_but_not_those_that_come_once() -> None:
    raw = [
        (b"if-match", b'"a"'), (b"If-Match", b'"b"'), (b"range", b"bytes=0-1"), (b"range", b"bytes=2-3"),
        (b"origin", b"http://a"), (b"origin", b"http://b"),
    ]  # fmt: skip
    assert headers_of({"headers": raw}) == {"if-match": '"a", "b"', "range": "", "origin": ""}


def test_a_caller_is_anonymous_unless_it_says_who_it_is() -> None:
    assert caller_of({}).principal == "anonymous"
    assert caller_of({"dfs-principal": "ann"}).principal == "ann"
    with pytest.raises(InvalidRequest):
        caller_of({"dfs-principal": "a" * 256})


def test_a_delete_without_preconditions_removes_what_is_there() -> None:
    assert removal("/a", {}, None, recursive=True) == Remove(path="/a", recursive=True)


def test_a_delete_with_a_precondition_is_bound_to_the_version_that_was_judged() -> None:
    assert removal("/a", {"if-match": '"7-abc"'}, entry(), recursive=False) == Remove(path="/a", if_version=7)
    with pytest.raises(PreconditionFailed):
        removal("/a", {"if-match": '"x"'}, entry(), recursive=False)
    with pytest.raises(PreconditionFailed):
        removal("/a", {"if-match": "*"}, None, recursive=False)
    with pytest.raises(FileNotFound):
        removal("/a", {"if-none-match": "*"}, None, recursive=False)


def test_the_root_is_never_removed() -> None:
    with pytest.raises(Conflict):
        removal("/", {}, None, recursive=True)


@pytest.mark.parametrize(
    ("values", "meaning"), [(None, False), (["true"], True), ([""], True), (["1", "False"], False)]
)
def test_a_parameter_says_yes_or_no(values: list[str] | None, meaning: bool) -> None:
    assert is_true(values) is meaning


def test_a_parameter_that_says_neither_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        is_true(["maybe"])


def ticket(**changes: object) -> str:
    facts: dict[str, object] = {"path": "/a", "length": 5, "expires_ms": 1000, "principal": "ann"}
    return sign_ticket(KEY, **(facts | changes))  # type: ignore[arg-type]


def test_a_ticket_says_what_the_namenode_was_told() -> None:
    found = check_ticket(ticket(), KEY, path="/a", now_ms=999)
    assert (found.path, found.length, found.principal) == ("/a", 5, "ann")
    assert check_ticket(ticket(length=None), KEY, path="/a", now_ms=0).length is None


def test_a_ticket_is_good_for_one_datanode_one_path_and_a_while() -> None:
    for token, key, path, now_ms in (
        (ticket(), KEY, "/a", 1000),
        (ticket(), KEY, "/b", 0),
        (ticket(), derive_key(b"secret", "dn2"), "/a", 0),
        (ticket() + "A", KEY, "/a", 0),
        ("x" + ticket(), KEY, "/a", 0),
        ("", KEY, "/a", 0),
        ("é.ü", KEY, "/a", 0),
    ):
        with pytest.raises(NotPermitted):
            check_ticket(token, key, path=path, now_ms=now_ms)


def test_a_capability_is_never_taken_for_a_ticket() -> None:
    capability = sign_capability(
        {"dn1": KEY}, operation="w", chunk="0" * 32, start=0, end=1, expires_ms=1 << 40, principal="ann"
    )
    with pytest.raises(NotPermitted):
        check_ticket(capability, KEY, path="/a", now_ms=0)


@given(st.text(max_size=60))
def test_no_text_at_all_makes_a_ticket(token: str) -> None:
    with pytest.raises(NotPermitted):
        check_ticket(token, KEY, path="/a", now_ms=0)
