"""Extended attributes and other facts of HDFS, as attributes of ours. Pure.

dfs keeps up to 64 texts with each file and directory; what HDFS knows beside them is kept under names that begin with
`hdfs.`. Values of extended attributes are bytes there and texts here, so they are kept in base64.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping

from dfs.protocol.messages import Entry
from dfs.protocol.webhdfs import bad_parameter
from dfs.protocol.webhdfs_errors import IO, RemoteException

ACL_ATTRIBUTE = "hdfs.acl"
ACCESS_TIME_ATTRIBUTE = "hdfs.atime"
"""Milliseconds; only where a client has set it: reading a file changes nothing."""
_XATTR = "hdfs.xattr."
_NAMESPACES = ("user", "trusted", "system", "security", "raw")
_SETTABLE = ("user", "trusted")
_NAME = re.compile(r"([A-Za-z]+)\.(.+)", re.DOTALL)
NAME_LENGTH_MAX = 200
VALUE_BYTES_MAX = 32 << 10


def xattr_key(name: str) -> str:
    """Under which an extended attribute is kept. Raises InvalidRequest: a name that can't be."""
    found = _NAME.fullmatch(name)
    if found is None or found[1].lower() not in _NAMESPACES:
        raise bad_parameter(
            "xattr.name",
            f"{name!r}: An XAttr name must be prefixed with user/trusted/security/system/raw, followed by a '.'",
        )
    if len(name) > NAME_LENGTH_MAX:
        raise bad_parameter("xattr.name", f"it has {len(name)} characters; at most {NAME_LENGTH_MAX} are allowed")
    return f"{_XATTR}{found[1].lower()}.{found[2]}"


def settable_xattr_key(name: str) -> str:
    """The same, for one that is to be changed. Raises also RemoteException: HDFS's own."""
    key = xattr_key(name)
    if not key.removeprefix(_XATTR).startswith(tuple(f"{space}." for space in _SETTABLE)):
        raise RemoteException(IO, f"User doesn't have permission for xattr: {name}")
    return key


def decode_value(text: str) -> bytes:
    """The bytes of a value as clients write it: 0x… hex, 0s… base64, else text, with quotes or without."""
    try:
        if text[:2] in ("0x", "0X"):
            return bytes.fromhex(text[2:])
        if text[:2] in ("0s", "0S"):
            return base64.b64decode(text[2:], validate=True)
    except (ValueError, binascii.Error):
        raise bad_parameter("xattr.value", f"{text[:40]!r} is neither hex nor base64") from None
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    return text.encode()


def encode_value(value: bytes, encoding: str) -> str:
    """A value as a client wants it: text, hex, or base64. Raises InvalidRequest: another encoding."""
    match encoding.lower():
        case "text":
            return f'"{value.decode(errors="replace")}"'
        case "hex":
            return "0x" + value.hex()
        case "base64":
            return "0s" + base64.b64encode(value).decode()
    raise bad_parameter("encoding", f"{encoding!r} is none of TEXT, HEX and BASE64")


def stored_value(text: str) -> str:
    """What to keep for a value that a client wrote. Raises InvalidRequest."""
    value = decode_value(text)
    if len(value) > VALUE_BYTES_MAX:
        raise bad_parameter("xattr.value", f"it has {len(value)} bytes; at most {VALUE_BYTES_MAX} are kept")
    return base64.b64encode(value).decode()


def xattrs_of(entry: Entry) -> dict[str, bytes]:
    """The extended attributes by name."""
    return {
        key.removeprefix(_XATTR): base64.b64decode(value)
        for key, value in entry.attributes.items()
        if key.startswith(_XATTR)
    }


def check_flags(flags: str, name: str, attributes: Mapping[str, str], key: str) -> None:
    """Raise RemoteException unless an attribute may be set as `flags` (CREATE, REPLACE, or both) say."""
    wanted = {flag.strip().upper() for flag in flags.split(",") if flag.strip()}
    if not wanted or not wanted <= {"CREATE", "REPLACE"}:
        raise bad_parameter("flag", f"{flags!r} is neither CREATE nor REPLACE")
    if key in attributes and "REPLACE" not in wanted:
        raise RemoteException(IO, f"XAttr: {name} already exists. The REPLACE flag must be specified.")
    if key not in attributes and "CREATE" not in wanted:
        raise RemoteException(IO, f"XAttr: {name} does not exist. The CREATE flag must be specified.")


def chosen_xattrs(entry: Entry, names: Iterable[str], encoding: str) -> list[dict[str, str]]:
    """The attributes that were asked for, or all. Raises RemoteException: one is not there; InvalidRequest."""
    encode_value(b"", encoding)  # an encoding that is none is an error also where there is nothing to encode
    have = xattrs_of(entry)
    wanted = [xattr_key(name).removeprefix(_XATTR) for name in names] or sorted(have)
    if any(name not in have for name in wanted):
        raise RemoteException(IO, "At least one of the attributes provided was not found.")
    return [{"name": name, "value": encode_value(have[name], encoding)} for name in wanted]
