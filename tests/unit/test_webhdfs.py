"""WebHDFS without a cluster: parameters, errors, shapes, attributes, access control lists, and the checksum."""

import msgspec
import pytest

from dfs.protocol import errors as e
from dfs.protocol import webhdfs_errors as java
from dfs.protocol.messages import Entry
from dfs.protocol.webhdfs import (
    Parameters,
    block_size,
    caller_in,
    carried_on,
    is_webhdfs,
    overwrites,
    path_in,
    target_of,
)
from dfs.protocol.webhdfs_errors import RemoteException, remote_exception
from dfs_datanode.gateway.crc32c import FileChecksum, crc32c, crcs
from dfs_datanode.gateway.webhdfs import Turn
from dfs_namenode.webhdfs import acls, attributes
from dfs_namenode.webhdfs.acls import AclEntry, acl_of, parse_spec
from dfs_namenode.webhdfs.shapes import permission_text


def entry(mode: int = 0o644, kind: str = "file", **kept: str) -> Entry:
    return msgspec.convert(
        {
            "path": "/d/f", "name": "f", "kind": kind, "size": 5, "mtime_ns": 0, "mode": mode, "owner": "", "group": "",
            "replication": 3, "version": 1, "etag": "", "inode": 9,
            "attributes": {name.replace("_", "."): value for name, value in kept.items()},
        },
        Entry,
    )  # fmt: skip


# --- parameters ---------------------------------------------------------------------------------------------------


def test_names_are_compared_in_lower_case_and_the_last_value_wins() -> None:
    found = Parameters(b"OP=open&Offset=1&user.name=a&offset=2&empty=&x=a+b%C3%BC")
    assert (found.text("op"), found.number("offset"), found.text("x")) == ("open", 2, "a bü")
    assert found.text("empty", "default") == "default"
    assert found.all("offset") == ["1", "2"]


@pytest.mark.parametrize(("text", "wanted"), [("true", True), ("True", True), ("FALSE", False), ("", False)])
def test_booleans_are_spelled_in_any_case(text: str, wanted: bool) -> None:
    assert Parameters(f"recursive={text}".encode()).flag("recursive") is wanted


@pytest.mark.parametrize("query", [b"n=1_0", b"n=%2B1", b"n=x", b"n=-1", b"n=101", b"n=%D9%A1"])
def test_a_number_is_digits_within_its_bounds(query: bytes) -> None:
    with pytest.raises(e.InvalidRequest, match='webhdfs parameter "n"'):
        Parameters(query).number("n", high=100)


def test_a_position_far_behind_every_file_is_no_error() -> None:
    parameters = Parameters(b"length=9223372036854775807&offset=5")
    assert (parameters.position("length"), parameters.position("offset"), parameters.position("no")) == (
        1 << 61,
        5,
        None,
    )
    with pytest.raises(e.InvalidRequest):
        Parameters(b"length=-1").position("length")


def test_permissions_are_octal() -> None:
    assert Parameters(b"permission=1755").permission() == 0o1755
    assert Parameters(b"").permission() is None
    for text in (b"8", b"2000", b"rwx", b"-1"):
        with pytest.raises(e.InvalidRequest):
            Parameters(b"permission=" + text).permission()


def test_a_query_must_be_utf_8_and_bounded() -> None:
    for query in (b"a=%ff", b"&".join([b"a=1"] * 300)):
        with pytest.raises(e.InvalidRequest):
            Parameters(query)


def test_the_caller_is_a_label_that_is_bounded() -> None:
    assert caller_in(Parameters(b"user.name=ann"), {}).principal == "ann"
    assert caller_in(Parameters(b""), {"dfs-principal": "bob"}).principal == "bob"
    for name in (b"a/b", b"a%20b", b"a:b", b"a" * 256, b"%00", b"%C3%BC", b"%7F"):
        with pytest.raises(e.InvalidRequest):
            caller_in(Parameters(b"user.name=" + name), {})


def test_a_location_keeps_the_query_and_never_has_none() -> None:
    kept = carried_on(b"op=OPEN&NoRedirect=true&x=%2f&data=true", "noredirect", "data", content=7, odd="&/")
    assert kept == "op=OPEN&x=%2f&content=7&odd=%26%2F"
    assert carried_on(b"op=OPEN&content=1", content=7) == "op=OPEN&content=7"


def test_targets_are_decoded_once_and_strictly() -> None:
    assert is_webhdfs(b"/webhdfs/v1")
    assert not is_webhdfs(b"/webhdfs/v10/a")
    assert path_in(b"/webhdfs/v1") == "/"
    assert path_in(b"/webhdfs/v1/a%2525%20b/") == "/a%25 b"
    assert path_in(target_of("/100%/ü ?#+").encode()) == "/100%/ü ?#+"
    for target in (b"/webhdfs/v1/%zz", b"/webhdfs/v1/%ff", b"/webhdfs/v1/a/../b"):
        with pytest.raises(e.InvalidName):
            path_in(target)


def test_a_create_replaces_only_if_it_says_so() -> None:
    assert not overwrites(Parameters(b""))
    assert overwrites(Parameters(b"overwrite=True"))
    assert overwrites(Parameters(b"createflag=CREATE,overwrite"))
    with pytest.raises(e.InvalidRequest):
        overwrites(Parameters(b"createflag=APPEND"))


def test_a_block_size_that_makes_no_sense_counts_as_none() -> None:
    assert block_size(entry(hdfs_blocksize="1024"), 7) == 1024
    for text in ("0", "x", "-1", "\u0661"):
        assert block_size(entry(hdfs_blocksize=text), 7) == 7


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind", "status", "message"),
    [
        (e.FileNotFound("x"), java.FILE_NOT_FOUND, 404, "File does not exist: /p"),
        (e.FileNotFound("x", path="/q"), java.FILE_NOT_FOUND, 404, "File does not exist: /q"),
        (e.IsADirectory("x"), java.FILE_NOT_FOUND, 404, "Path is not a file: /p"),
        (e.FileExists("x"), java.FILE_EXISTS, 403, "/p already exists"),
        (e.NotADirectory("/a: not a directory"), java.PARENT_NOT_DIRECTORY, 403, "/a (is not a directory)"),
        (e.DirectoryNotEmpty("x"), java.NOT_EMPTY, 403, "`/p is non empty': Directory is not empty"),
        (e.NotPermitted("no"), java.ACCESS_CONTROL, 403, "Permission denied: no"),
        (e.InvalidName("bad"), java.INVALID_PATH, 400, "Invalid path: bad"),
        (e.InvalidRequest("bad"), java.ILLEGAL_ARGUMENT, 400, "bad"),
        (e.Conflict("c"), java.IO, 403, "c"),
        (e.VersionGone("c"), java.IO, 403, "c"),
        (e.NoSpace("full"), java.IO, 403, "full"),
        (e.DataLost("gone"), java.BLOCK_MISSING, 403, "gone"),
        (e.NotEnoughDatanodes("few"), java.RETRIABLE, 403, "few"),
        (e.OutcomeUnknown("?"), java.RETRIABLE, 403, "?"),
        (e.DfsError("?"), java.RUNTIME, 500, "?"),
    ],
)
def test_every_error_is_one_that_hadoop_knows(error: e.DfsError, kind: str, status: int, message: str) -> None:
    told = remote_exception(error, "/p")
    assert (told.java_class, told.status, told.message) == (kind, status, message)
    assert kind.endswith(f".{told.name}")


# --- shapes and attributes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "text"), [(0o644, "644"), (0o1777, "1777"), (0o7, "7"), (0, "0"), (0o4755, "755")])
def test_a_mode_is_octal_text(mode: int, text: str) -> None:
    assert permission_text(mode) == text


@pytest.mark.parametrize(
    ("text", "value"), [("0x00FF", b"\0\xff"), ("0saGk=", b"hi"), ('"hi"', b"hi"), ("hi", b"hi"), ("", b"")]
)
def test_values_are_hex_base64_or_text(text: str, value: bytes) -> None:
    assert attributes.decode_value(text) == value
    for encoding in ("hex", "BASE64"):
        assert attributes.decode_value(attributes.encode_value(value, encoding)) == value


def test_names_and_values_of_attributes_are_bounded() -> None:
    for name in ("plain", "other.a", "user.", "user." + "a" * 200):
        with pytest.raises(e.InvalidRequest):
            attributes.settable_xattr_key(name)
    with pytest.raises(RemoteException, match="permission"):
        attributes.settable_xattr_key("system.a")
    with pytest.raises(e.InvalidRequest):
        attributes.stored_value("a" * 40_000)


def test_flags_say_whether_an_attribute_may_be_there() -> None:
    have = {"k": "v"}
    attributes.check_flags("CREATE,REPLACE", "n", have, "k")
    attributes.check_flags("replace", "n", have, "k")
    attributes.check_flags("CREATE", "n", have, "other")
    for flags, key in (("CREATE", "k"), ("REPLACE", "other")):
        with pytest.raises(RemoteException):
            attributes.check_flags(flags, "n", have, key)
    with pytest.raises(e.InvalidRequest):
        attributes.check_flags("SOMETIMES", "n", have, "k")


# --- access control lists -----------------------------------------------------------------------------------------


def shown(acl: acls.Acl) -> list[str]:
    return [str(one) for one in acl.shown()]


def test_a_mode_alone_is_a_list_of_three() -> None:
    acl = acl_of(entry(0o750))
    assert [str(one) for one in acl.entries] == ["user::rwx", "group::r-x", "other::---"]
    assert (acl.mode(0o1000), acl.stored(), shown(acl)) == (0o1750, "", [])


def test_a_named_entry_makes_a_mask_that_the_mode_shows() -> None:
    acl = acls.merged(acl_of(entry(0o640)), parse_spec("user:ann:rw-", with_bits=True), is_directory=False)
    assert shown(acl) == ["user:ann:rw-", "group::r--"]
    assert acl.mode(0o640) == 0o660
    kept = acl_of(entry(acl.mode(0o640), hdfs_acl=acl.stored()))
    assert kept == acl
    less = acls.without(kept, parse_spec("user:ann:", with_bits=False), is_directory=False)
    assert (less.stored(), less.mode(0o660)) == ("", 0o640)


def test_a_given_mask_is_kept() -> None:
    acl = acls.merged(acl_of(entry(0o640)), parse_spec("user:ann:rwx,mask::r--", with_bits=True), is_directory=False)
    assert acl.mode(0o640) == 0o640


def test_a_mask_stays_while_only_the_other_scope_changes() -> None:
    given = parse_spec("user:ann:rwx,mask::r--", with_bits=True)
    acl = acls.merged(acl_of(entry(0o750, "directory")), given, is_directory=True)
    more = acls.merged(acl, parse_spec("default:user:bob:rwx", with_bits=True), is_directory=True)
    assert more.mode(0) == 0o740
    less = acls.without(more, parse_spec("default:user:bob:,user:nobody:", with_bits=False), is_directory=True)
    assert less.mode(0) == 0o740
    assert acls.merged(more, parse_spec("user:eve:-w-", with_bits=True), is_directory=True).mode(0) == 0o770


def test_a_mask_that_is_needed_can_not_be_removed() -> None:
    acl = acls.merged(acl_of(entry(0o640)), parse_spec("user:ann:rw-", with_bits=True), is_directory=False)
    with pytest.raises(RemoteException, match="mask is required"):
        acls.without(acl, parse_spec("mask::", with_bits=False), is_directory=False)
    assert acls.without(acl, parse_spec("user:ann:,mask::", with_bits=False), is_directory=False).stored() == ""


def test_a_default_list_is_completed_and_only_for_directories() -> None:
    spec = parse_spec("default:user:ann:rwx", with_bits=True)
    acl = acls.merged(acl_of(entry(0o750, "directory")), spec, is_directory=True)
    assert shown(acl) == [
        "default:user::rwx", "default:user:ann:rwx", "default:group::r-x", "default:mask::rwx", "default:other::---",
    ]  # fmt: skip
    assert acl_of(entry(0o750, "directory", hdfs_acl=acl.stored())) == acl
    assert acls.without_default(acl).stored() == ""
    with pytest.raises(RemoteException, match="only directories"):
        acls.merged(acl_of(entry()), spec, is_directory=False)


def test_a_new_list_needs_its_three_entries() -> None:
    with pytest.raises(RemoteException, match="required"):
        acls.replaced(acl_of(entry()), parse_spec("user:ann:rwx", with_bits=True), is_directory=False)
    spec = parse_spec("user::rw-,group::r--,other::---,group:staff:rwx", with_bits=True)
    acl = acls.replaced(acl_of(entry()), spec, is_directory=False)
    assert acl.mode(0) == 0o670
    assert acls.bare(acl).mode(0) == 0o640


@pytest.mark.parametrize("text", ["", "user", "user:a:rwz", "other:name:rwx", "nobody::rwx", "user:ann"])
def test_what_is_not_a_list_is_refused(text: str) -> None:
    with pytest.raises(e.InvalidRequest):
        parse_spec(text, with_bits=True)


def test_an_entry_comes_once() -> None:
    with pytest.raises(RemoteException):
        parse_spec("user:a:rwx,user:a:r--", with_bits=True)
    assert parse_spec("default:group:a:r-x", with_bits=True) == [AclEntry(True, "group", "a", 5)]


# --- the checksum -------------------------------------------------------------------------------------------------


def test_crc_32c_is_the_castagnoli_one() -> None:
    # The check value of the catalogue, and RFC 3720, B.4: 32 bytes of zeros.
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA


def test_runs_side_by_side_are_the_same_as_one_by_one() -> None:
    data = bytes(n * 7 % 251 for n in range(512 * 5 + 100))
    wanted = [crc32c(data[start : start + 512]) for start in range(0, len(data), 512)]
    assert crcs(data) == b"".join(one.to_bytes(4, "big") for one in wanted)
    assert crcs(b"") == b""


def test_an_empty_file_has_the_checksum_that_hdfs_gives_it() -> None:
    told = FileChecksum(1 << 20).result()
    assert str(told["bytes"]).endswith("70bc8f4b72a86921468bf8e8441dce51")
    assert told["length"] == 28


def test_a_checksum_does_not_depend_on_the_pieces() -> None:
    data = bytes(range(256)) * 40
    whole, parts = FileChecksum(4096), FileChecksum(4096)
    whole.update(data)
    for start in range(0, len(data), 1024):
        parts.update(data[start : start + 1024])
    assert whole.result() == parts.result()
    assert whole.result()["algorithm"] == "MD5-of-8MD5-of-512CRC32C"


# --- appends ------------------------------------------------------------------------------------------------------


def test_only_an_append_that_nobody_heard_of_can_be_repeated() -> None:
    turn = Turn()
    assert not turn.is_repetition(b"a")
    turn.done(b"a", heard=False)
    assert turn.is_repetition(b"a")
    assert not turn.is_repetition(b"b")
    turn.done(b"a", heard=True)
    assert not turn.is_repetition(b"a")
