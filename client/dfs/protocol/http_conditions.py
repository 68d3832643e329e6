"""HTTP preconditions: what If-Match and its relatives decide. Pure: headers and a file's validators in, a verdict out.

Here, and not in a server, because the datanodes' gateway and the namenode's own doors must judge alike. Ranges are
another matter: `if_range_holds` only says whether a Range header counts.
Source: RFC 9110, sections 8.8 and 13.
"""

import calendar
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_LIST_GAP = re.compile(r"[ \t]*(?:,[ \t]*)*")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = "(?P<month>" + "|".join(_MONTHS) + ")"
_LONG_DAY = "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_CLOCK = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DATE_FORMS = (
    re.compile(rf"(?:{'|'.join(_DAYS)}), (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_CLOCK} GMT"),
    re.compile(rf"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_CLOCK} GMT"),
    re.compile(rf"(?:{'|'.join(_DAYS)}) {_MONTH} (?P<day>[ 0-9][0-9]) {_CLOCK} (?P<year>[0-9]{{4}})"),
)  # fmt: skip
_YEAR_SECONDS = 31_556_952


class Verdict(Enum):
    """What the preconditions say about a request."""

    PROCEED = 200
    NOT_MODIFIED = 304
    FAILED = 412


@dataclass(frozen=True)
class Validators:
    """What is known of the file that is there now."""

    etag: str
    """Quoted and strong; "" where there is none (a directory)."""
    modified_s: int
    """Whole seconds since the epoch, as Last-Modified shows them."""


@dataclass(frozen=True)
class Tag:
    opaque: str
    """With its quotes."""
    weak: bool


def parse_tags(header: str) -> list[Tag] | None:
    """The entity tags of a list, or None if it is malformed. `*` is not a list: see `_matches`."""
    tags, position = [], _gap_end(header, 0)
    while position < len(header):
        match = _TAG.match(header, position)
        if match is None:
            return None
        tags.append(Tag(match.group(2), match.group(1) is not None))
        position = _gap_end(header, match.end())
        if position < len(header) and "," not in header[match.end() : position]:
            return None
    return tags


def _gap_end(header: str, position: int) -> int:
    match = _LIST_GAP.match(header, position)
    assert match is not None  # the pattern matches nothing, too
    return match.end()


def _matches(header: str, current: Validators | None, *, weak_counts: bool) -> bool:
    """Whether the list in `header` names the file that is there. `*` names any file; a malformed list names none."""
    if current is None:
        return False
    if header.strip(" \t") == "*":
        return True
    tags = parse_tags(header) or []
    return any(tag.opaque == current.etag and (weak_counts or not tag.weak) for tag in tags)


def parse_date(text: str, now_s: float | None = None) -> int | None:
    """Seconds since the epoch of an HTTP date in any of its three forms, or None.

    now_s   decides the century of a year with two digits; by default this moment
    """
    match = next((match for form in _DATE_FORMS if (match := form.fullmatch(text.strip(" \t")))), None)
    if match is None:
        return None
    part = match.groupdict()
    year, month, day = int(part["year"]), _MONTHS.index(part["month"]) + 1, int(part["day"])
    hour, minute, second = int(part["hour"]), int(part["minute"]), int(part["second"])
    if year < 1 or hour > 23 or minute > 59 or second > 60:
        return None
    if len(part["year"]) == 2:
        year += 2000
        # RFC 9110, 5.6.7: what seems to lie more than 50 years ahead lies in the past century.
        if (year - 1970) * _YEAR_SECONDS > (time.time() if now_s is None else now_s) + 50 * _YEAR_SECONDS:
            year -= 100
    if not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    return calendar.timegm((year, month, day, hour, minute, second))


def format_date(seconds: int) -> str | None:
    """The HTTP date of a moment, or None if its year doesn't have four digits."""
    try:
        moment = time.gmtime(seconds)
    except (OverflowError, OSError, ValueError):
        return None
    if not 1000 <= moment.tm_year <= 9999:
        return None
    return (
        f"{_DAYS[moment.tm_wday]}, {moment.tm_mday:02} {_MONTHS[moment.tm_mon - 1]} {moment.tm_year:04} "
        f"{moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02} GMT"
    )


def evaluate(method: str, headers: Mapping[str, str], current: Validators | None) -> Verdict:
    """Judge the preconditions of a request in the order that RFC 9110, 13.2.2 gives.

    headers   by lower-case name
    current   None: nothing is there
    """
    reads = method in ("GET", "HEAD")
    if (header := headers.get("if-match")) is not None:
        if not _matches(header, current, weak_counts=False):
            return Verdict.FAILED
    elif (header := headers.get("if-unmodified-since")) is not None:
        limit_s = parse_date(header)
        if limit_s is not None and current is not None and current.modified_s > limit_s:
            return Verdict.FAILED
    if (header := headers.get("if-none-match")) is not None:
        if _matches(header, current, weak_counts=True):
            return Verdict.NOT_MODIFIED if reads else Verdict.FAILED
    elif reads and (header := headers.get("if-modified-since")) is not None:
        limit_s = parse_date(header)
        if limit_s is not None and current is not None and current.modified_s <= limit_s:
            return Verdict.NOT_MODIFIED
    return Verdict.PROCEED


def has_preconditions(headers: Mapping[str, str]) -> bool:
    """Whether a change depends on what is there now."""
    return any(name in headers for name in ("if-match", "if-none-match", "if-unmodified-since"))


def if_range_holds(header: str | None, current: Validators) -> bool:
    """Whether a Range header counts. Otherwise the whole file is the answer.

    Only a strong entity tag can hold. A date never does: a file's time is what its writer set it to, so two versions
    may show the same one, and a client would join halves of both.
    """
    if header is None:
        return True
    tags = parse_tags(header)
    return tags is not None and len(tags) == 1 and not tags[0].weak and tags[0].opaque == current.etag
