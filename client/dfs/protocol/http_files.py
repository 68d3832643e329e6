"""What the two ends of `/files/PATH` share: the namenode that redirects and the datanode that serves.

Separate from both so that a URL means the same path at either end: paths come from the raw request target, decoded
once and strictly (a framework's decoded path maps different bad names to the same one). Also here, because both must
judge alike: which changes a foreign web page asked for, and what a DELETE removes. Errors of these doors are one
sentence of plain text, for the people who use curl.
"""

import random
import re
from collections.abc import Mapping
from urllib.parse import parse_qs, quote, urlsplit

from dfs.protocol import errors as e
from dfs.protocol.http_conditions import Validators, Verdict, evaluate, has_preconditions
from dfs.protocol.messages import Entry, Remove
from dfs.protocol.names import canonical_path
from dfs.protocol.operations import HEADER_PRINCIPAL
from dfs.protocol.server import RETRY_AFTER_S, Caller, Headers, Receive, Scope, Send, throw_away

FILES = "/files"
TICKET_PARAMETER = "ticket"
RECURSIVE_PARAMETER = "recursive"
HEADER_ERROR = "dfs-error"
"""Carries the permanent code of the error beside the sentence in the body."""
_PRINCIPAL_BYTES_MAX = 255
_QUERY_FIELDS_MAX = 32
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
_SINGLETONS = frozenset({"range", "if-range", "host", "origin"})
"""Headers that may come once: joined with a comma, two of them would mean something that nobody said."""


def is_files(raw_path: bytes) -> bool:
    """Whether a request target belongs to this door."""
    return raw_path == FILES.encode() or raw_path.startswith(FILES.encode() + b"/")


def path_of(raw_path: bytes, prefix: str = FILES) -> str:
    """The canonical path that the target `/files/…`, without its query, names. Raises InvalidName.

    prefix  of another door's targets
    """
    rest = raw_path.removeprefix(prefix.encode()) or b"/"
    try:
        decoded = _ESCAPE.sub(_unescape, rest).decode()
    except UnicodeDecodeError:
        raise e.InvalidName("the path in the URL is not valid UTF-8; percent-encode its UTF-8 bytes") from None
    return canonical_path(decoded)


def _unescape(match: re.Match[bytes]) -> bytes:
    digits = match.group(1)
    if digits is None:
        raise e.InvalidName("the path in the URL has a % without two hex digits; a % in a name is written %25")
    return bytes((int(digits, 16),))


def files_target(path: str) -> str:
    """The request target of a path: `/files` and the path, percent-encoded."""
    return FILES + quote(path, safe="/~")


def headers_of(scope: Scope) -> dict[str, str]:
    """The request's headers by lower-case name. Repeated ones are joined as RFC 9110, 5.3 says.

    A repeated header of which there may be only one counts as malformed: its value becomes "", which nothing accepts.
    """
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name not in found:
            found[name] = value
        else:
            found[name] = "" if name in _SINGLETONS else f"{found[name]}, {value}"
    return found


def has_body(headers: Mapping[str, str]) -> bool:
    """Whether a request announces a body that is not empty."""
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def query_of(scope: Scope) -> dict[str, list[str]]:
    """The fields of the query. Raises InvalidRequest: too many."""
    query = scope["query_string"].decode("latin-1")
    try:
        return parse_qs(query, keep_blank_values=True, max_num_fields=_QUERY_FIELDS_MAX)
    except ValueError:
        raise e.InvalidRequest(f"the query has more than {_QUERY_FIELDS_MAX} fields") from None


def caller_of(headers: Mapping[str, str]) -> Caller:
    """Who asks. Raises InvalidRequest."""
    principal = headers.get(HEADER_PRINCIPAL) or "anonymous"
    if len(principal) > _PRINCIPAL_BYTES_MAX:
        raise e.InvalidRequest(f"the principal is longer than {_PRINCIPAL_BYTES_MAX} bytes")
    return Caller(principal)


def refuse_foreign_page(headers: Mapping[str, str]) -> None:
    """Raise NotPermitted if a web page of another site made this request.

    Only browsers send these headers, and a page can't forge them; programs send neither and are let through.
    `same-site` is foreign, too: another port of this machine is the same site.
    """
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise e.NotPermitted("a web page of another site may not change files")
    origin = headers.get("origin")
    if origin is None:
        return
    try:
        netloc = urlsplit(origin).netloc
    except ValueError:
        netloc = ""
    if not netloc or netloc.lower() != headers.get("host", "").lower():
        raise e.NotPermitted("a web page of another site may not change files")


def validators(entry: Entry) -> Validators:
    """What preconditions are compared with."""
    return Validators(entry.etag, entry.mtime_ns // 1_000_000_000)


def removal(path: str, headers: Mapping[str, str], entry: Entry | None, *, recursive: bool) -> Remove:
    """The action that a DELETE means.

    entry    what is there; needed only if there are preconditions
    Raises   FileNotFound, PreconditionFailed
    """
    if path == "/":
        raise e.Conflict("the root directory can't be removed")
    if not has_preconditions(headers):
        return Remove(path=path, recursive=recursive)
    if evaluate("DELETE", headers, None if entry is None else validators(entry)) is not Verdict.PROCEED:
        raise e.PreconditionFailed(f"{path}: it is not the version that the precondition names; nothing was removed")
    if entry is None:
        raise e.FileNotFound(f"{path}: no such file or directory")
    # What was judged is what is removed: a change in between makes the commit fail.
    return Remove(path=path, recursive=recursive, if_version=None if entry.is_directory else entry.version)


def is_true(values: list[str] | None) -> bool:
    """Whether a query parameter says yes. Raises InvalidRequest."""
    if not values:
        return False
    value = values[-1].lower()
    if value in ("", "1", "true", "yes"):
        return True
    if value in ("0", "false", "no"):
        return False
    raise e.InvalidRequest(f"{value!r} is neither true nor false")


async def send_text(
    send: Send, status: int, text: str, headers: Headers = (), *, unread: Receive | None = None
) -> None:
    """Send a short plain text.

    unread  given when the request's body was not read: the connection closes after the answer, and what is still
            coming is thrown away for a moment, so that a reset does not destroy the answer on its way
    """
    body = text.encode(errors="replace")
    start = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"x-content-type-options", b"nosniff"),
        (b"content-length", b"%d" % len(body)),
        *headers,
    ]
    await send_leaving_body(send, status, start, body, unread)


async def send_leaving_body(
    send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes, unread: Receive | None
) -> None:
    """Send an answer. What of the request's body was left unread is thrown away, and the connection closes."""
    if unread is not None:
        headers = [*headers, (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": unread is not None})
    if unread is not None:
        await throw_away(unread)
        await send({"type": "http.response.body", "body": b""})


async def send_failure(send: Send, error: e.DfsError, headers: Headers = (), *, unread: Receive | None = None) -> None:
    """Send an error as its status and its sentence."""
    start = [(HEADER_ERROR.encode(), error.code.encode()), *headers]
    if error.status == 503:
        start.append((b"retry-after", b"%d" % random.randint(*RETRY_AFTER_S)))
    await send_text(send, error.status, f"{error.message}\n", start, unread=unread)
