"""Files put together from pieces that only say where they belong. Pure.

Separate from `rebuilding`, which finds and verifies the pieces: here is decided what of them makes a file. Nothing is
invented: a file is what lies without a gap behind its beginning, and it is whole only if it reaches the end that its
writer told.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Piece(NamedTuple):
    """Bytes of a chunk that were read and verified, and where they belong as their writer knew it."""

    path: str
    upload: str
    written_ms: int
    position: int
    """Of the first of these bytes in the file."""
    size: int
    """Of the whole file; -1: not known when the piece was written."""
    chunk: str
    offset: int
    length: int
    digest: str

    @property
    def end(self) -> int:
        return self.position + self.length

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its file."""
        return self.position == 0 and self.length == self.size


@dataclass(frozen=True)
class Version:
    """One version of a file, as far as there are pieces of it from its beginning on."""

    path: str
    written_ms: int
    pieces: tuple[Piece, ...]
    """One behind the other, from the beginning; none: the beginning is missing."""
    size: int
    """-1: nobody knows."""
    leftover: tuple[Piece, ...] = ()
    """Pieces behind a gap."""

    @property
    def end(self) -> int:
        return self.pieces[-1].end if self.pieces else 0

    @property
    def is_complete(self) -> bool:
        return self.end == self.size

    @property
    def missing(self) -> str:
        """What is missing, in words."""
        if self.is_complete:
            return ""
        size = "its length is not known" if self.size < 0 else f"of {self.size} bytes"
        if not self.pieces:
            return f"its beginning is missing, {size}"
        if self.leftover:
            return f"bytes {self.end} to {self.leftover[0].position} are missing, {size}"
        return f"all behind byte {self.end} is missing, {size}"


def versions(pieces: Iterable[Piece]) -> list[Version]:
    """The versions of files that pieces make, newest first.

    The pieces of one upload are one version. One that begins where another of the same path ends, or has a piece that
    ends, was appended to it: the two are the version that the append made.
    """
    uploads: dict[tuple[str, str], list[Piece]] = {}
    for piece in pieces:
        uploads.setdefault((piece.path, piece.upload), []).append(piece)
    ordered = sorted(uploads.values(), key=lambda group: (group[0].path, group[0].written_ms, group[0].upload))
    found: list[Version] = []
    for group in ordered:
        group.sort(key=lambda piece: (piece.position, -piece.length, piece.chunk))
        base = found[-1] if found and found[-1].path == group[0].path else None
        before = _prefix(base, group[0].position) if base is not None and group[0].position else None
        if before is not None:
            found.pop()
        found.append(_version(group, before or ()))
    return sorted(found, key=lambda version: -version.written_ms)


def _prefix(base: Version, position: int) -> tuple[Piece, ...] | None:
    """The pieces of a version up to a position, if one of them ends there."""
    before = tuple(piece for piece in base.pieces if piece.end <= position)
    return before if before and before[-1].end == position else None


def _version(group: Sequence[Piece], before: tuple[Piece, ...]) -> Version:
    chain = list(before)
    end = chain[-1].end if chain else 0
    leftover = []
    for piece in group:
        if piece.position == end:
            chain.append(piece)
            end = piece.end
        elif piece.position > end:
            leftover.append(piece)
        # What lies before the end was sent twice: the first one will do.
    size = max(piece.size for piece in group)
    return Version(group[0].path, group[0].written_ms, tuple(chain), size, tuple(leftover))


def components(members: Iterable[tuple[int, Iterable[str]]]) -> list[list[int]]:
    """Files that must become visible together, since they share chunks that are adopted: numbers of files.

    members   a file's number, and the chunks that must be adopted for it
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    first_of: dict[int, str] = {}
    alone = []
    for number, chunks in members:
        listed = list(chunks)
        if not listed:
            alone.append([number])
            continue
        for chunk in listed:
            parent.setdefault(chunk, chunk)
            parent[root(chunk)] = root(listed[0])
        first_of[number] = listed[0]
    groups: dict[str, list[int]] = {}
    for number, chunk in first_of.items():
        groups.setdefault(root(chunk), []).append(number)
    return [*groups.values(), *alone]
