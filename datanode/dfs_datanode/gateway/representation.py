"""How a file looks over HTTP: its type, and the headers that describe it. Pure: an entry in, headers out.

Separate from the transfer because these headers must be the same for GET and HEAD, for 200, 206 and 304, from every
datanode. What users stored is shown as data and never runs as a page of the store: a type that a browser would
execute is sent as a download, no type is guessed from content, and the sandbox covers the rest.
"""

import mimetypes
import re
from collections.abc import Mapping
from urllib.parse import quote

from dfs.protocol.http_conditions import format_date
from dfs.protocol.messages import Entry

CONTENT_TYPE_ATTRIBUTE = "content-type"
UNKNOWN_TYPE = "application/octet-stream"
_COMPRESSED = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "compress": "application/x-compress",
    "br": UNKNOWN_TYPE,
}
# Python's own table only: those of the machine would make the same file look different from two datanodes.
_GUESS = mimetypes.MimeTypes(filenames=())
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_CONTENT_TYPE = re.compile(rf'{_WORD}/{_WORD}(?:[ \t]*;[ \t]*{_WORD}=(?:{_WORD}|"[ !#-\[\]-~]*"))*')
_CONTENT_TYPE_LENGTH_MAX = 255
_ACTIVE = frozenset(
    {"text/html", "text/xml", "text/xsl", "text/javascript", "text/css", "message/rfc822", "multipart/related",
     "multipart/x-mixed-replace", "application/x-shockwave-flash"}
)  # fmt: skip
_ACTIVE_ENDINGS = ("xml", "javascript", "ecmascript", "html")
_FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")

Header = tuple[bytes, bytes]


def stored_type(header: str | None) -> str | None:
    """What to remember of an upload's Content-Type: None if it says nothing about the file."""
    if header is None or not _is_content_type(header) or header.lower().startswith(_FORM_TYPES):
        # `curl --data-binary @file -X PUT` announces a form; it isn't one.
        return None
    return header


def _is_content_type(text: str) -> bool:
    return len(text) <= _CONTENT_TYPE_LENGTH_MAX and _CONTENT_TYPE.fullmatch(text) is not None


def content_type(entry: Entry) -> str:
    """The stored type if there is a valid one, else what the name suggests."""
    stored = entry.attributes.get(CONTENT_TYPE_ATTRIBUTE)
    if stored is not None and _is_content_type(stored):
        return stored
    guessed, encoding = _GUESS.guess_type(entry.name, strict=False)
    if encoding is not None:
        # The file is the compressed one: never a Content-Encoding, which clients would undo.
        return _COMPRESSED.get(encoding, UNKNOWN_TYPE)
    return guessed or UNKNOWN_TYPE


def runs_in_a_browser(kind: str) -> bool:
    """Whether a browser might execute a document of this Content-Type."""
    essence = kind.partition(";")[0].strip().lower()
    return essence in _ACTIVE or essence.endswith(_ACTIVE_ENDINGS)


def disposition(name: str) -> str:
    """A Content-Disposition that makes a browser save the file under its name."""
    plain = re.sub(r"[^ !#-\[\]-~]|%", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def modified_s(entry: Entry, now_s: int) -> int:
    """Whole seconds of the modification time; never later than now, as RFC 9110, 8.8.2.1 wants it."""
    return min(entry.mtime_ns // 1_000_000_000, now_s)


def describe(entry: Entry, now_s: int) -> list[Header]:
    """The headers that identify the version: those of 200, 206, 304 and 412 alike."""
    headers = [
        ("etag", entry.etag),
        ("accept-ranges", "bytes"),
        # Kept copies are asked about before they are used: a change is seen at once.
        ("cache-control", "no-cache"),
    ]
    modified = format_date(modified_s(entry, now_s))
    if modified is not None:
        headers.append(("last-modified", modified))
    return encode(dict(headers))


def protect(entry: Entry, kind: str) -> list[Header]:
    """The headers that keep a user's document from acting as a page of the store."""
    headers = {"x-content-type-options": "nosniff", "content-security-policy": "sandbox"}
    if runs_in_a_browser(kind):
        headers["content-disposition"] = disposition(entry.name)
    return encode(headers)


def encode(headers: Mapping[str, str]) -> list[Header]:
    """Headers as ASGI has them."""
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]
