"""What the two ends of `/webhdfs/v1/PATH` share: targets, parameters, the identity of a caller, and plain answers.

Separate from both so that a parameter means the same at the namenode and behind its redirect. Hadoop's clients spell
names and operations in any case, send unknown parameters, and append their own to a Location: names are compared in
lower case, the last value wins, and what nobody asks for is ignored.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote

import msgspec

from dfs.protocol import errors as e
from dfs.protocol.http_files import caller_of, path_of, send_leaving_body
from dfs.protocol.messages import Entry
from dfs.protocol.server import Caller, Receive, Scope, Send

PREFIX = "/webhdfs/v1"
USER = "user.name"
DATA = "data"
"""Says that a request brings or fetches bytes, where the namenode itself passes them on."""
NO_REDIRECT = "noredirect"
CONTENT = "content"
"""In the Location of a read: the version that the namenode found, so that every seek of a stream reads that one."""
APPEND_TO = "inode"
"""In the Location of an append: the file that the namenode found."""
REPEAT = "repeat"
"""In the Location of an append: what tells a repetition of a request from one more append."""
BLOCK_SIZE_ATTRIBUTE = "hdfs.blocksize"
"""The block size that a writer asked for. Means nothing to dfs; clients want it back."""
OCTET_STREAM = b"application/octet-stream"
_FIELDS_MAX = 256
_TEXT_MAX = 1 << 20
_USER = re.compile(r"[!-.0-9;-~]{1,255}")
"""Of ASCII, as a principal travels in a header."""
_PERMISSION = re.compile(r"[0-7]{1,4}")
_POSITION_MAX = 1 << 61
"""Behind the end of every file."""


def is_webhdfs(raw_path: bytes) -> bool:
    """Whether a request target belongs to this door."""
    prefix = PREFIX.encode()
    return raw_path == prefix or raw_path.startswith(prefix + b"/")


def path_in(raw_path: bytes) -> str:
    """The canonical path that the target `/webhdfs/v1/…`, without its query, names. Raises InvalidName."""
    return path_of(raw_path, PREFIX)


def target_of(path: str) -> str:
    """The request target of a path, percent-encoded."""
    return PREFIX + quote(path, safe="/~")


def bad_parameter(name: str, why: str) -> e.InvalidRequest:
    """The error of a parameter with a value that it can't have, in Hadoop's words."""
    return e.InvalidRequest(f'Invalid value for webhdfs parameter "{name}": {why}')


class Parameters:
    """The query of a request. Raises InvalidRequest: malformed, or too much of it.

    An empty value is as good as none, as Hadoop has it.
    """

    def __init__(self, query: bytes) -> None:
        try:
            pairs = parse_qsl(
                query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_FIELDS_MAX
            )  # fmt: skip
        except UnicodeDecodeError:
            raise e.InvalidRequest("the query is not valid UTF-8; percent-encode its UTF-8 bytes") from None
        except ValueError:
            raise e.InvalidRequest(f"the query has more than {_FIELDS_MAX} fields") from None
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            if value:
                self._values.setdefault(name.lower(), []).append(value)

    def text(self, name: str, default: str = "") -> str:
        return self._values.get(name, [default])[-1]

    def all(self, name: str) -> list[str]:
        """Every value, of a parameter that may be repeated."""
        return self._values.get(name, [])

    def required(self, name: str) -> str:
        value = self.text(name)
        if not value:
            raise bad_parameter(name, "it is missing")
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        value = self.text(name, str(default)).lower()
        if value not in ("true", "false"):
            raise bad_parameter(name, f'Failed to parse "{value}" to Boolean.')
        return value == "true"

    def number(self, name: str, *, low: int = 0, high: int = (1 << 63) - 1) -> int | None:
        """A whole number, or None if there is none."""
        value = self.text(name)
        if not value or value == "null":
            return None
        digits = value.removeprefix("-")
        # Digits only: int() would also take "+5", "1_000" and other scripts' digits.
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
            raise bad_parameter(name, f'Failed to parse "{value}" as a radix-10 long integer.')
        number = int(value)
        if not low <= number <= high:
            raise bad_parameter(name, f"{name} = {number} is not from {low} to {high}")
        return number

    def position(self, name: str) -> int | None:
        """A number of bytes, which may be far more than there are: Java's clients say Long.MAX_VALUE for "all"."""
        number = self.number(name)
        return None if number is None else min(number, _POSITION_MAX)

    def permission(self, name: str = "permission") -> int | None:
        """Octal digits, or None if there are none."""
        value = self.text(name)
        if not value or value == "null":
            return None
        if not _PERMISSION.fullmatch(value) or int(value, 8) > 0o1777:
            raise bad_parameter(name, f'"{value}" is not an octal number from 0 to 1777')
        return int(value, 8)


def caller_in(parameters: Parameters, headers: Mapping[str, str]) -> Caller:
    """Who asks: `user.name`, which is a label and proves nothing, as everywhere in dfs. Raises InvalidRequest."""
    user = parameters.text(USER)
    if not user:
        return caller_of(headers)
    if not _USER.fullmatch(user):
        raise bad_parameter(USER, f"{user!r} is not the name of a user")
    return Caller(user)


def overwrites(parameters: Parameters) -> bool:
    """Whether a CREATE replaces what is there. Raises InvalidRequest."""
    flags = {flag.strip().upper() for flag in parameters.text("createflag").split(",")}
    if "APPEND" in flags:
        raise bad_parameter("createflag", "a file is appended to with op=APPEND")
    return parameters.flag("overwrite") or "OVERWRITE" in flags


def block_size(entry: Entry, default: int) -> int:
    """What the writer of a file asked for, or else the default: programs divide files into work by it."""
    asked = entry.attributes.get(BLOCK_SIZE_ATTRIBUTE, "")
    return int(asked) if asked.isascii() and asked.isdigit() and asked != "0" else default


def carried_on(query: bytes, *without: str, **extra: object) -> str:
    """A query for a Location: all that the client sent but for some parameters, then `extra`. Never empty."""
    names = {*without, *extra}
    kept = [
        field for field in query.decode("ascii").split("&") if field and field.partition("=")[0].lower() not in names
    ]
    return "&".join([*kept, *(f"{name}={quote(str(value), safe='')}" for name, value in extra.items())])


async def send_json(send: Send, status: int, value: Any, *, unread: Receive | None = None) -> None:
    """Send a whole JSON answer. `unread` as in `send_text`."""
    await send_body(send, status, msgspec.json.encode(value), b"application/json", unread=unread)


async def send_nothing(
    send: Send, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = (), *, unread: Receive | None = None
) -> None:
    """Send an answer without a result; never 204, which Hadoop's clients take for an error."""
    await send_body(send, status, b"", OCTET_STREAM, headers, unread=unread)


async def send_body(
    send: Send,
    status: int,
    body: bytes,
    content_type: bytes,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    *,
    unread: Receive | None = None,
) -> None:
    """Send a short answer. `unread` as in `send_text`."""
    start = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-cache"),
        (b"x-content-type-options", b"nosniff"),
        *headers,
    ]
    await send_leaving_body(send, status, start, body, unread)


def query_of(scope: Scope) -> Parameters:
    """The parameters of a request. Raises InvalidRequest."""
    return Parameters(scope["query_string"])
