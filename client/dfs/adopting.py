"""Making files of orphans: batches that one `adopt` takes, other names where a name is taken, what can't be made.

Separate from `rebuilding`, which knows what the files should be. Nothing here replaces anything; files that share
chunks become visible together, since a chunk is adopted only once.
"""

from collections import Counter
from dataclasses import dataclass, field

import msgspec

from dfs.namenodes import Namenodes
from dfs.orphans import DELETED, IN_FLIGHT
from dfs.protocol.digests import EMPTY_DIGEST
from dfs.protocol.errors import Conflict, FileExists, InvalidName, IsADirectory, NotADirectory
from dfs.protocol.messages import ITEMS_MAX, Adopt, AppendFile, Commit, Extent, PutFile, Rename
from dfs.protocol.names import split_path
from dfs.protocol.operations import ADOPT, COMMIT

LOST_FOUND = "/lost+found"
FILES_MAX = ITEMS_MAX // 2
"""Files, and about so many extents, of one step: with long paths they still fit into a message."""
NAMED_MAX = 100
"""Files that are named one by one when something is missing of them; the rest is counted."""
_NAMES_MAX = 20
"""Names that are tried for a file whose own is taken."""

# Why nothing was made of a chunk.
BACKUPS = "backups of the namenode's store"
COPIES = "copies of bytes that came back from another chunk"
DAMAGED = "no good replica is left"
HEADLESS = "pieces of files whose beginning is missing"
UNNAMED = "parts of packs that name only some of their files"
POSTPONED = "of incomplete files, the rest of which may be on datanodes that have not reported"
HARMLESS = (BACKUPS, COPIES, IN_FLIGHT, DELETED)
"""Reasons for which nobody misses anything."""


@dataclass
class Rebuilt:
    """What a rebuild came to, or would come to."""

    lost_found: str
    dry_run: bool
    to_paths: int = 0
    """Files at their own paths."""
    to_lost_found: int = 0
    """Whole files below `lost_found`."""
    incomplete: int = 0
    """Files below `lost_found` of which only the beginning is there; their names end with .partial."""
    directories: int = 0
    unchanged: int = 0
    """Files that were there already, with the same content."""
    bytes: int = 0
    unreported: list[str] = field(default_factory=list)
    """Datanodes that may have more: they are away, or have not reported yet. Until then no incomplete file is made."""
    newer_backup: int = 0
    """The last change in a whole backup of the store that lies on the datanodes and knows more; 0: there is none."""
    missing: list[str] = field(default_factory=list)
    """What is missing of files that are not whole, one sentence each; at most so many."""
    left: Counter[str] = field(default_factory=Counter)
    """Chunks that nothing was made of, by the reason."""
    lost: Counter[str] = field(default_factory=Counter)
    """Files that could not be brought back, by the reason."""

    @property
    def is_whole(self) -> bool:
        """Whether everything that somebody may miss came back whole."""
        return not (self.incomplete or self.lost or any(reason not in HARMLESS for reason in self.left))


@dataclass
class Wanted:
    """A file that is to be made."""

    path: str
    """Where it should come to be."""
    action: PutFile
    extents: list[Extent]
    own_path: bool = False
    incomplete: bool = False
    missing: str = ""
    """In words, if it is incomplete."""
    replaced: str = ""

    @property
    def size(self) -> int:
        return sum(extent.length for extent in self.extents)


class Adopting:
    """Makes files, and keeps count of what became of them."""

    def __init__(self, namenodes: Namenodes, result: Rebuilt) -> None:
        self._namenodes = namenodes
        self.result = result
        self.used: set[str] = set()
        """Orphans that have become part of a file, or would have."""

    def lost_path(self, told: str, chunk: str) -> str:
        """The place below /lost+found for a path that a hint tells; one that can't be a path goes by its chunk."""
        path = f"{self.result.lost_found}{told}"
        try:
            split_path(path)
        except InvalidName:
            return f"{self.result.lost_found}/chunks/{chunk}"
        return path

    def make(self, files: list[Wanted], orphans: set[str]) -> None:
        """Make files, those that share chunks in one step."""
        if not files:
            return
        if self.result.dry_run:
            for file in files:
                self._note_made(file, orphans)
            return
        rest = []
        for file in files:
            if len(file.extents) <= FILES_MAX:
                rest.append(file)
                continue
            try:
                self._make_long(file, orphans)
            except (Conflict, FileExists, NotADirectory, IsADirectory) as error:
                self.give_up(file, error.message)
        while rest:
            count = extents = 0
            for file in rest:
                extents += len(file.extents)
                if count and (count >= FILES_MAX or extents > FILES_MAX):
                    break
                count += 1
            self._adopt(rest[:count], orphans)
            rest = rest[count:]

    def _adopt(self, files: list[Wanted], orphans: set[str]) -> None:
        """Adopt the chunks of these files and make them, all at once; one that can't be made is left out."""
        waiting = list(files)
        tries: Counter[int] = Counter()
        while waiting:
            chunks = sorted({e.chunk for file in waiting for e in file.extents if e.chunk in orphans} - self.used)
            actions: list[PutFile | AppendFile] = [
                msgspec.structs.replace(file.action, path=file.path, extents=file.extents) for file in waiting
            ]
            try:
                self._namenodes.perform(ADOPT, Adopt(op_id="", chunks=chunks, actions=actions))
            except (FileExists, NotADirectory, IsADirectory, InvalidName) as error:
                number = error.detail.get("action")
                if not isinstance(number, int) or not 0 <= number < len(waiting):
                    raise
                tries[id(waiting[number])] += 1
                if tries[id(waiting[number])] > _NAMES_MAX:
                    self.give_up(waiting.pop(number), error.message)
                else:
                    self._rename(waiting[number], tries[id(waiting[number])])
                continue
            except Conflict as error:
                chunk = error.detail.get("chunk")
                refused = [file for file in waiting if any(extent.chunk == chunk for extent in file.extents)]
                if not refused:
                    raise
                for file in refused:
                    self.give_up(file, error.message)
                waiting = [file for file in waiting if file not in refused]
                continue
            for file in waiting:
                self._note_made(file, orphans)
            return

    def _make_long(self, file: Wanted, orphans: set[str]) -> None:
        """Make a file that is too long for one step under another name, so that no part of it is ever seen as it."""
        building = f"{self.result.lost_found}/building/{file.extents[0].chunk}"
        put = msgspec.structs.replace(file.action, path=building, extents=file.extents[:FILES_MAX])
        version = self._step(put, orphans)
        for start in range(FILES_MAX, len(file.extents), FILES_MAX):
            more = AppendFile(path=building, extents=file.extents[start : start + FILES_MAX], if_version=version)
            version = self._step(more, orphans)
        for count in range(1, _NAMES_MAX + 1):
            move = Rename(source=building, target=file.path, parents=True)
            try:
                self._namenodes.perform(COMMIT, Commit(op_id="", actions=[move]))
            except (FileExists, NotADirectory, IsADirectory):
                if count == _NAMES_MAX:
                    raise
                self._rename(file, count)
            else:
                self._note_made(file, orphans)
                return

    def _step(self, action: PutFile | AppendFile, orphans: set[str]) -> int:
        chunks = sorted({extent.chunk for extent in action.extents if extent.chunk in orphans} - self.used)
        made = self._namenodes.perform(ADOPT, Adopt(op_id="", chunks=chunks, actions=[action]))
        self.used |= set(chunks)
        return made.outcomes[0].version

    def _rename(self, file: Wanted, tries: int) -> None:
        """Another name for a file whose own is taken, or can't be had."""
        if file.own_path:
            file.own_path = False
            file.path = self.lost_path(file.path, file.extents[0].chunk if file.extents else EMPTY_DIGEST)
        elif tries <= 2:
            stem = file.path.removesuffix(".partial")
            file.path = f"{stem}.{tries}" + (".partial" if file.incomplete else "")
        else:
            chunk = file.extents[0].chunk if file.extents else EMPTY_DIGEST
            file.path = f"{self.result.lost_found}/chunks/{chunk}.{tries}"

    def _note_made(self, file: Wanted, orphans: set[str]) -> None:
        self.used |= {extent.chunk for extent in file.extents} & orphans
        self.result.bytes += file.size
        if file.own_path:
            self.result.to_paths += 1
        elif file.incomplete:
            self.result.incomplete += 1
        else:
            self.result.to_lost_found += 1

    def give_up(self, file: Wanted, why: str) -> None:
        self.result.lost[why] += 1
        self.say_missing(f"{file.path}: {why}")

    def say_missing(self, sentence: str) -> None:
        if len(self.result.missing) < NAMED_MAX:
            self.result.missing.append(sentence)
