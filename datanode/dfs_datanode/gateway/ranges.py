"""Which bytes a Range header asks for: parse, normalise, plan. Pure: no request, no file, no clock.

Its own module because every door that serves ranges must read them alike. It decides what is sent and in which order;
it does not look at preconditions (`dfs.protocol.http_conditions` comes first) and sends nothing. HEAD never gets here:
Range counts for GET only.
Source: RFC 9110, section 14. Where it leaves a choice: a header that is malformed, of another unit, or greedy (more
ranges than RANGES_MAX, or together more bytes than the file has) is ignored, which means the whole file.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

RANGES_MAX = 64
"""Ranges in one request. Parts cost a read and a head each; real clients (DuckDB, PDF viewers) stay far below."""

_NUMBER_DIGITS_MAX = 18
_BEYOND_ANY_FILE = 10**_NUMBER_DIGITS_MAX
_UNIT = re.compile(r"bytes=(.*)", re.IGNORECASE | re.DOTALL)
# [0-9], because \d and int() also accept the digits of other scripts.
_SPEC = re.compile(r"[ \t]*(?:([0-9]+)-([0-9]*)|-([0-9]+))[ \t]*")


@dataclass(frozen=True)
class Spec:
    """One range as asked, before the file's size is known: `first` and `last`, or the length of a suffix."""

    first: int | None
    last: int | None
    suffix: int | None = None


@dataclass(frozen=True)
class ByteRange:
    """The bytes [start, end) of a file; never empty."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start

    def content_range(self, size: int) -> str:
        """The value of Content-Range for this part of a file of `size` bytes."""
        return f"bytes {self.start}-{self.end - 1}/{size}"


@dataclass(frozen=True)
class Whole:
    """200: there is no range, or it is ignored."""


@dataclass(frozen=True)
class Single:
    """206 with one Content-Range."""

    range: ByteRange


@dataclass(frozen=True)
class Several:
    """206 multipart/byteranges, the parts in the order asked."""

    ranges: tuple[ByteRange, ...]


@dataclass(frozen=True)
class Unsatisfiable:
    """416: nothing of what was asked for exists."""


Plan = Whole | Single | Several | Unsatisfiable


def _number(digits: str) -> int:
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= _NUMBER_DIGITS_MAX else _BEYOND_ANY_FILE


def parse(header: str) -> list[Spec] | None:
    """The ranges of a header in the order asked, or None if the header is to be ignored."""
    unit = _UNIT.fullmatch(header.strip(" \t"))
    # Counted before anything is taken apart: an absurd header costs one scan.
    if unit is None or unit.group(1).count(",") >= RANGES_MAX:
        return None
    specs = []
    for text in unit.group(1).split(","):
        if not text.strip(" \t"):
            continue  # RFC 9110, 5.6.1: empty elements of a list are skipped
        match = _SPEC.fullmatch(text)
        if match is None:
            return None
        first, last, suffix = match.groups()
        if suffix is not None:
            specs.append(Spec(None, None, _number(suffix)))
            continue
        spec = Spec(_number(first), _number(last) if last else None)
        if spec.last is not None and spec.first is not None and spec.last < spec.first:
            return None
        specs.append(spec)
    return specs or None


def normalise(spec: Spec, size: int) -> ByteRange | None:
    """The bytes that `spec` means in a file of `size` bytes, clamped to it; None if there are none."""
    if spec.suffix is not None:
        start, end = max(size - spec.suffix, 0), size
    else:
        assert spec.first is not None
        start = spec.first
        end = size if spec.last is None else min(spec.last + 1, size)
    return ByteRange(start, end) if start < end else None


def plan(header: str | None, size: int) -> Plan:
    """What to send of a file of `size` bytes to a GET with this Range header."""
    specs = None if header is None else parse(header)
    if specs is None:
        return Whole()
    if size == 0 and any(spec.suffix for spec in specs):
        # Satisfiable by the letter, but no Content-Range can name an empty range.
        return Whole()
    ranges = [found for spec in specs if (found := normalise(spec, size)) is not None]
    if not ranges:
        return Unsatisfiable()
    if len(ranges) == 1:
        return Single(ranges[0])
    if sum(found.length for found in ranges) > size:
        return Whole()  # overlapping: a small request must not cause an answer of many times the file
    return Several(tuple(ranges))


def window_of(header: str | None) -> tuple[int, int | None]:
    """Where a file will probably be read, before its size is known: offset, and length or None for all the rest.

    A guess that saves work: any part of the file can still be read.
    """
    specs = None if header is None else parse(header)
    if specs is None or len(specs) > 1:
        return 0, None
    spec = specs[0]
    if spec.first is None:
        return 0, 1  # a suffix: where it begins shows when the size is known
    return spec.first, None if spec.last is None else spec.last - spec.first + 1


@dataclass(frozen=True)
class Multipart:
    """The body of a multipart/byteranges answer as a list of literal bytes and ranges of the file."""

    boundary: str
    pieces: tuple[bytes | ByteRange, ...]

    @property
    def length(self) -> int:
        """Content-Length of the body."""
        return sum(len(piece) if isinstance(piece, bytes) else piece.length for piece in self.pieces)

    @property
    def content_type(self) -> str:
        return f"multipart/byteranges; boundary={self.boundary}"


def multipart(ranges: Sequence[ByteRange], size: int, content_type: str, boundary: str) -> Multipart:
    """Lay the parts out in the order given.

    content_type   of the file; each part carries it
    boundary       must not occur in the file: a fresh random one is as good as sure
    """

    def pieces() -> Iterator[bytes | ByteRange]:
        for number, part in enumerate(ranges):
            before = "\r\n" if number else ""
            head = (
                f"{before}--{boundary}\r\n"
                f"Content-Type: {content_type}\r\n"
                f"Content-Range: {part.content_range(size)}\r\n\r\n"
            )
            yield head.encode("ascii")
            yield part
        yield f"\r\n--{boundary}--\r\n".encode("ascii")

    return Multipart(boundary, tuple(pieces()))
