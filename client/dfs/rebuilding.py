"""Bringing back what a namenode has lost, from what its datanodes have: `dfs admin rebuild --from-datanodes`.

The last resort, for a store that went back in time: it does not know the files that were made since, but their chunks
are still there, kept as orphans. Two things say what they were. Backups of the change log, which lie among them, say
exactly which files there were and where: those come back to their own paths. Of what is newer than those, each chunk
says itself where its writer meant its bytes to go: that comes to /lost+found, since nobody knows whether the writer
ever committed it. Everything is read and verified before it becomes a file, nothing that exists is touched, and what
has become a file is no orphan any more: so a run that was interrupted is simply begun again.

    look       every orphan's hints; backups are put together
    changes    backups, oldest first, say what there was: imported at its own path, or skipped, or to /lost+found
    hints      the other orphans, newest first: packs at once, pieces of bigger files when all of them are known
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import BinaryIO, NamedTuple

import msgspec

from dfs.adopting import (
    BACKUPS,
    COPIES,
    DAMAGED,
    HEADLESS,
    LOST_FOUND,
    POSTPONED,
    UNNAMED,
    Adopting,
    Rebuilt,
    Wanted,
)
from dfs.layout import PlacedExtent
from dfs.lost_changes import LostChanges
from dfs.namenodes import Namenodes
from dfs.orphans import AWAY, Orphans
from dfs.pieces import Piece, Version, components, versions
from dfs.protocol.digests import tree_digest
from dfs.protocol.errors import CorruptReplica, DfsError, FileExists, NotADirectory, ReplicasUnavailable
from dfs.protocol.hints import FileHint, FilesHint, Hints, MetadataHint
from dfs.protocol.messages import (
    OPEN_MANY_MAX,
    Commit,
    Entry,
    Extent,
    ListOrphans,
    MakeDirectory,
    OrphanChunk,
    PutFile,
    StatMany,
)
from dfs.protocol.metadata_log import BackupReader, LoggedEntry
from dfs.protocol.operations import COMMIT, STAT_MANY
from dfs.runs import runs

REPORTS_WAIT_S = 20.0
"""How long datanodes that have not reported yet are waited for."""
ASK_EVERY_S = 0.5
PACKS_AHEAD = 3
"""Chunks that are read at once: of a pack all bytes are held while its files' digests are computed."""


class HowFar(NamedTuple):
    """How far a rebuild is."""

    looked_at: int
    """Chunks."""
    verified: int
    """Bytes."""
    to_verify: int
    """Bytes in all, as far as they are known."""
    seconds: float
    """Since its beginning."""
    waiting_for: tuple[str, ...] = ()
    """Datanodes whose reports are waited for: nothing was looked at yet."""


class _Progress:
    """Counts, from any thread, and tells."""

    def __init__(self, tell: Callable[[HowFar], None], monotonic: Callable[[], float]) -> None:
        self._tell = tell
        self._monotonic = monotonic
        self._began_s = monotonic()
        self._lock = threading.Lock()
        self._now = HowFar(0, 0, 0, 0.0)

    def waiting(self, datanodes: Iterable[str]) -> None:
        """Nothing is done yet: these have not reported."""
        self._tell(HowFar(0, 0, 0, self._monotonic() - self._began_s, tuple(datanodes)))

    def looked_at(self, to_read: int) -> None:
        """One more orphan was looked at, and so many bytes of it will have to be read."""
        self._add(looked_at=1, to_verify=to_read)

    def read(self, count: int) -> None:
        """So many bytes were read and verified."""
        self._add(verified=count)

    def _add(self, *, looked_at: int = 0, verified: int = 0, to_verify: int = 0) -> None:
        with self._lock:
            now = self._now
            self._now = HowFar(
                now.looked_at + looked_at,
                now.verified + verified,
                max(now.to_verify + to_verify, now.verified + verified),
                self._monotonic() - self._began_s,
            )
            self._tell(self._now)


class _Looked(NamedTuple):
    """What a chunk's hints made of it."""

    chunk: str
    pieces: list[Piece]
    left: str = ""
    """Why nothing was made of it; with pieces, of what its hints do not name."""


class Rebuild:
    """One run. `tell` is called as it goes on, from several threads, one at a time."""

    def __init__(
        self,
        namenodes: Namenodes,
        orphans: Orphans,
        *,
        dry_run: bool,
        tell: Callable[[HowFar], None],
        monotonic: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._namenodes = namenodes
        self._orphans = orphans
        self._monotonic = monotonic
        self._wait = wait
        self._how_far = _Progress(tell, monotonic)
        self._first = orphans.page(ListOrphans(limit=1))
        made = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._first.time_ms / 1000))
        self._result = Rebuilt(f"{LOST_FOUND}/{made}", dry_run)
        self._adopting = Adopting(namenodes, self._result)

    def run(self) -> Rebuilt:
        """Bring back everything that can be. Raises what a call raises if the namenode can't be reached."""
        self._wait_for_reports()
        backups = self._look()
        with ExitStack() as stack:
            self._import_changes(self._fetched(backups, stack))
        self._import_hinted()
        self._result.left = +self._result.left
        return self._result

    def _wait_for_reports(self) -> None:
        """Wait a while for datanodes that are about to report: the rest of a file may be on one of them."""
        deadline_s = self._monotonic() + REPORTS_WAIT_S
        while True:
            self._result.unreported = self._orphans.page(ListOrphans(limit=1)).unreported
            if not self._result.unreported or self._monotonic() >= deadline_s:
                return
            self._how_far.waiting(self._result.unreported)
            self._wait(ASK_EVERY_S)

    def _look(self) -> list[tuple[MetadataHint, list[OrphanChunk]]]:
        """Look at every orphan once. Returns the backups of changes that are whole, oldest first."""
        parts: dict[MetadataHint, dict[int, OrphanChunk]] = {}
        for orphan, hints in self._orphans.hinted(self._orphans.everything()):
            self._how_far.looked_at(orphan.replicas[0].length if isinstance(hints, FilesHint) else 0)
            if not isinstance(hints, MetadataHint) or hints.to_seq <= self._first.history_seq:
                continue
            if hints.what == "snapshot":
                self._result.newer_backup = max(self._result.newer_backup, hints.to_seq)
            else:
                parts.setdefault(msgspec.structs.replace(hints, part=0), {})[hints.part] = orphan
        whole = [
            (hint, [found[number] for number in range(hint.parts)])
            for hint, found in parts.items()
            if len(found) == hint.parts
        ]
        return sorted(whole, key=lambda backup: (backup[0].to_seq, backup[0].from_seq))

    # --- what the change log says -------------------------------------------------------------------------------

    def _fetched(self, backups: Iterable[tuple[MetadataHint, list[OrphanChunk]]], stack: ExitStack) -> list[BinaryIO]:
        """Each backup as a local file. One that is not right, or not of a history that was lost, is left out."""
        files: list[BinaryIO] = []
        for _, chunks in backups:
            file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the caller's stack closes it
            try:
                for orphan in chunks:
                    fresh = self._orphans.one(orphan.chunk)
                    if fresh is None:
                        raise ReplicasUnavailable(f"the chunk {orphan.chunk} can't be read now")
                    for window in self._orphans.windows(self._orphans.placed(fresh)):
                        file.write(window)
                if self._reader(file).header.lineage == self._first.lineage:
                    continue
                for _ in self._reader(file).frames():
                    pass
            except DfsError as error:
                self._result.lost[f"a backup of the change log can't be read ({error.message})"] += 1
                continue
            files.append(file)
        return files

    @staticmethod
    def _reader(file: BinaryIO) -> BackupReader:
        file.seek(0)
        return BackupReader(file)

    def _import_changes(self, files: Sequence[BinaryIO]) -> None:
        changes = LostChanges()
        for file in files:
            changes.take_in(self._reader(file).records())
        for number, file in enumerate(files):
            self._import_entries(list(changes.entries(number, self._reader(file).records())))

    def _import_entries(self, entries: list[LoggedEntry]) -> None:
        """Bring back what one backup says is there."""
        wanted = []
        for start in range(0, len(entries), OPEN_MANY_MAX):
            part = entries[start : start + OPEN_MANY_MAX]
            found = self._namenodes.call(STAT_MANY, StatMany(paths=[entry.path for entry in part])).entries
            for entry, there in zip(part, found, strict=True):
                if entry.kind == "directory":
                    if there is None:
                        self._make_directory(entry)
                elif there is not None and is_same(entry, there):
                    self._result.unchanged += 1
                else:
                    wanted.append(self._file_of(entry, taken=there is not None))
        orphans = self._orphans_of(wanted)
        needed = [(n, {e.chunk for e in file.extents if e.chunk in orphans}) for n, file in enumerate(wanted)]
        for group in components(needed):
            self._import_verified([wanted[number] for number in group], orphans)

    def _file_of(self, entry: LoggedEntry, *, taken: bool) -> Wanted:
        path = f"{self._result.lost_found}{entry.path}" if taken else entry.path
        put = PutFile(
            path=path,
            when="absent",
            parents=True,
            mode=entry.inode.mode,
            owner=entry.inode.owner,
            group=entry.inode.group,
            mtime_ns=entry.inode.mtime_ns,
            replication=entry.replication or None,
            attributes=entry.attributes or None,
        )
        extents = [Extent(e.chunk, e.offset, e.length, e.digest) for e in entry.extents]
        return Wanted(path, put, extents, own_path=not taken)

    def _orphans_of(self, files: Iterable[Wanted]) -> set[str]:
        """Which of the chunks of these files are orphans that can be used."""
        chunks = sorted({extent.chunk for file in files for extent in file.extents})
        return {
            chunk for chunk, found in zip(chunks, self._orphans.map(self._orphans.one, chunks), strict=True) if found
        }

    def _import_verified(self, files: list[Wanted], orphans: set[str]) -> None:
        """Read what these files need of orphans, and make those whose bytes are right."""
        bad: dict[str, str] = {}
        for chunk in sorted({extent.chunk for file in files for extent in file.extents} & orphans):
            extents = {extent for file in files for extent in file.extents if extent.chunk == chunk}
            fresh = self._orphans.one(chunk)
            if fresh is None:
                bad[chunk] = AWAY
                continue
            try:
                self._verify(fresh, extents)
            except DfsError as error:
                bad[chunk] = DAMAGED if isinstance(error, CorruptReplica) else error.message
        good = []
        for file in files:
            reasons = [bad[extent.chunk] for extent in file.extents if extent.chunk in bad]
            if reasons:
                self._adopting.give_up(file, reasons[0])
            else:
                good.append(file)
        self._adopting.make(good, orphans - bad.keys())

    def _verify(self, orphan: OrphanChunk, extents: Iterable[Extent]) -> None:
        """Read these extents and check each. Raises DfsError."""
        placed = [self._orphans.placed(orphan, extent) for extent in extents]
        for extent in placed:
            if extent.by_blocks:
                for window in self._orphans.windows(extent):
                    self._how_far.read(len(window))
        for run in runs(extent for extent in placed if not extent.by_blocks):
            self._orphans.read_run(run)
            self._how_far.read(run.length)

    def _make_directory(self, entry: LoggedEntry) -> None:
        if not self._result.dry_run:
            made = MakeDirectory(path=entry.path, parents=True, exist_ok=True, mode=entry.inode.mode)
            try:
                self._namenodes.perform(COMMIT, Commit(op_id="", actions=[made]))
            except (NotADirectory, FileExists):
                # A file is in its place, or above: what was in the directory goes to /lost+found.
                return
        self._result.directories += 1

    # --- what chunks say of themselves --------------------------------------------------------------------------

    def _import_hinted(self) -> None:
        """Bring back what no change log told of."""
        waiting: list[Piece] = []
        hinted = self._orphans.hinted(self._orphans.everything())
        for looked in self._orphans.map(self._pieces_of, hinted, ahead=PACKS_AHEAD):
            if looked.left:
                self._result.left[looked.left] += 1
            if looked.pieces and all(piece.is_whole for piece in looked.pieces):
                self._adopting.make([self._file_from(one) for one in versions(looked.pieces)], {looked.chunk})
            else:
                waiting += looked.pieces
        self._import_pieces(waiting)

    def _pieces_of(self, hinted: tuple[OrphanChunk, Hints | str]) -> _Looked:
        """The pieces that a chunk has, all of it read and verified; or why it is left."""
        orphan, hints = hinted
        if orphan.chunk in self._adopting.used:
            return _Looked(orphan.chunk, [])
        if not isinstance(hints, FilesHint):
            return _Looked(orphan.chunk, [], BACKUPS if isinstance(hints, MetadataHint) else hints)
        try:
            whole = self._orphans.placed(orphan)
            named = [hint for hint in hints.files if hint.length and hint.offset + hint.length <= whole.length]
            digests = self._digests(whole, named)
        except DfsError as error:
            return _Looked(orphan.chunk, [], AWAY if isinstance(error, ReplicasUnavailable) else DAMAGED)
        pieces = [
            Piece(
                hint.path,
                hint.upload,
                hints.written_ms,
                hint.position,
                hint.size,
                orphan.chunk,
                hint.offset,
                hint.length,
                digest,
            )
            for hint, digest in zip(named, digests, strict=True)
        ]
        return _Looked(orphan.chunk, pieces, "" if hints.complete else UNNAMED)

    def _digests(self, whole: PlacedExtent, named: Sequence[FileHint]) -> list[str]:
        """The digests of parts of a chunk, of bytes that were verified against the chunk's."""
        fills = [hint.length == whole.length for hint in named]
        data = memoryview(bytearray(0 if all(fills) else whole.length))
        filled = 0
        for window in self._orphans.windows(whole):
            if data:
                data[filled : filled + len(window)] = window
            filled += len(window)
            self._how_far.read(len(window))
        return [
            whole.digest if fill else tree_digest(data[hint.offset : hint.offset + hint.length])
            for hint, fill in zip(named, fills, strict=True)
        ]

    def _import_pieces(self, pieces: Sequence[Piece]) -> None:
        """Put files together that lie in several chunks."""
        found = versions(pieces)
        in_files = {piece.chunk for version in found for piece in version.pieces}
        for version in found:
            if not version.is_complete:
                self._adopting.say_missing(f"{version.path}: {version.missing}")
        headless = {piece.chunk for version in found for piece in version.leftover} - in_files
        self._result.left[HEADLESS] += len(headless)
        self._result.left[COPIES] += len({piece.chunk for piece in pieces} - in_files - headless)
        made = [version for version in found if version.pieces and (version.is_complete or not self._result.unreported)]
        postponed = {piece.chunk for version in found if version not in made for piece in version.pieces}
        self._result.left[POSTPONED] += len(postponed - {piece.chunk for version in made for piece in version.pieces})
        files = [self._file_from(version) for version in made]
        for group in components((n, {e.chunk for e in file.extents}) for n, file in enumerate(files)):
            members = [files[number] for number in group]
            self._adopting.make(members, {extent.chunk for file in members for extent in file.extents})

    def _file_from(self, version: Version) -> Wanted:
        suffix = "" if version.is_complete else ".partial"
        path = self._adopting.lost_path(version.path + suffix, version.pieces[0].chunk)
        return Wanted(
            path,
            PutFile(path=path, when="absent", parents=True),
            [Extent(piece.chunk, piece.offset, piece.length, piece.digest) for piece in version.pieces],
            incomplete=not version.is_complete,
            missing=version.missing,
        )


def is_same(entry: LoggedEntry, there: Entry) -> bool:
    """Whether a path has what the changes say: its size, and the half of its digest that the entity tag shows. Pure."""
    return (
        there.kind == "file" and there.size == entry.size and there.etag.strip('"').split("-")[-1] == entry.digest[:16]
    )
