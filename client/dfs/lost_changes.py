"""What the change log of a history that was lost says about files, several backups of it taken together. Pure.

Separate from `rebuilding`, which finds the backups: each of them says what was true at its own end, so a later one
overrules an earlier one, also where it only says that something was removed, or that a directory has another name now.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from dfs.protocol.metadata_log import LoggedEntry, LoggedPlace, Record, entries
from dfs.protocol.names import split_path

ROOT_INODE = 1
"""The inode of `/` in every store."""
_Place = tuple[int, str]


class LostChanges:
    """The places that the changes name, and in which of the backups each was named last.

    Holds a few words for each place, not what is in it. Take the backups in, oldest first, then ask for their entries.
    """

    def __init__(self) -> None:
        self._places: dict[_Place, tuple[int, int]] = {}
        """Place -> number of the backup that spoke last of it, and the inode in it (0: none)."""
        self._directories: dict[int, LoggedPlace] = {}
        """Where each directory was named last."""
        self._backups = 0

    def take_in(self, records: Iterable[Record]) -> None:
        """Note the places of the next later backup."""
        for record in records:
            if isinstance(record, LoggedPlace):
                place = (record.parent_id, record.name)
                self._places[place] = (self._backups, 0 if record.inode is None else record.inode.id)
                if record.inode is not None and record.inode.kind == 1 and record.path is not None:
                    self._directories[record.inode.id] = record
        self._backups += 1

    def entries(self, number: int, records: Iterable[Record]) -> Iterator[LoggedEntry]:
        """What of the backup `number` is still true at the end of all, each at the path that it had then."""
        places: list[LoggedPlace] = []

        def watched() -> Iterator[Record]:
            for record in records:
                if isinstance(record, LoggedPlace) and record.inode is not None and record.path is not None:
                    places.append(record)
                yield record

        for entry in entries(watched()):
            place = places.pop()
            if self._places[place.parent_id, place.name] != (number, entry.inode.id):
                continue
            path = self._path_of(place, entry.path)
            if path is not None:
                yield entry if path == entry.path else replace(entry, path=path)

    def _path_of(self, place: LoggedPlace, told: str) -> str | None:
        """Where a place is at the end of all; None: in a directory that was removed. `told` by its own backup."""
        names = [place.name]
        inode = place.parent_id
        above = split_path(told)[:-1]
        passed: set[int] = set()
        while inode != ROOT_INODE:
            if inode in passed:
                # A backup between these could not be read: what they say together never was so.
                return told
            passed.add(inode)
            known = self._directories.get(inode)
            if known is None:
                # Nothing is said of that directory: it is where it was, unless somebody above it went.
                return "/" + "/".join((*above, *reversed(names))) if self._is_there(above) else None
            if self._places[known.parent_id, known.name][1] != inode:
                return None
            names.append(known.name)
            inode = known.parent_id
            above = split_path(known.path or "/")[:-1]
        return "/" + "/".join(reversed(names))

    def _is_there(self, names: Sequence[str]) -> bool:
        """Whether no directory on the way was removed, as far as the places on it are named."""
        inode = ROOT_INODE
        for name in names:
            found = self._places.get((inode, name))
            if found is None:
                return True
            if found[1] == 0:
                return False
            inode = found[1]
        return True
