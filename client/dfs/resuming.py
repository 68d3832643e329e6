"""A big local file into the cluster, in as many lives of the client as it takes.

Each chunk is noted in a journal as soon as it is durable, and each that is staged. A later life sends what is missing.
What it may believe of the journal is decided here: receipts that a commit would soon find too old are worth nothing
unless their chunk is in the draft, and the draft must still be there with all of them.
"""

import os
from collections.abc import Callable

from dfs.hinting import FileHints
from dfs.journal import FORM, Journal, Upload, open_journal, state_directory
from dfs.protocol.errors import ChunkExists, Conflict, ReceiptRefused
from dfs.protocol.ids import id_time_ms
from dfs.protocol.messages import Extent, PutFile, Stage
from dfs.protocol.operations import STAGE
from dfs.publisher import Sent
from dfs.sources import FileSource, Source
from dfs.staging import Staging
from dfs.storing import Storing
from dfs.writer import ChunkLine, send_file

RECEIPTS_USABLE_SHARE = 0.75
"""Of the time within which a chunk must be committed: the rest of the upload takes its time as well."""

Added = Callable[[int], None]
Notice = Callable[[str], None]
"""Takes a sentence for the person who waits."""


def send_resumably(
    storing: Storing,
    descriptor: int,
    disk_path: str,
    make: Callable[[list[Extent]], PutFile],
    *,
    replication: int | None,
    chunk_size: int | None,
    added: Added,
    notice: Notice,
) -> int:
    """Store an open local file as the action of `make` says, and go on where an earlier life was interrupted.

    notice  told what became of the earlier life, if there was one
    Returns the size, bytes
    Raises  what put_file raises; Conflict: another process is at it, or the file changed meanwhile
    """
    wanted = _describe(storing, descriptor, disk_path, make([]).path, replication, chunk_size)
    journal = open_journal(wanted, state_directory(os.environ))
    try:
        life = _Life(storing, journal, descriptor, disk_path)
        if journal.before is not None:
            life.drop(journal.before.draft)
            changed = "has changed" if not journal.before.same_source(wanted) else "is to be stored in another way"
            notice(f"{disk_path} {changed} since its upload was interrupted: it is sent anew")
        elif journal.went_on:
            life.forget_what_is_lost()
            share = life.known_bytes / wanted.size if wanted.size else 1.0
            notice(f"the upload of {disk_path} goes on: {share:.0%} of its {wanted.size} bytes are stored already")
        try:
            life.send(make, added)
        except (ReceiptRefused, ChunkExists):
            if not life.had_known:
                raise
            # What the journal remembers no longer counts; the bytes do.
            life.drop(journal.upload.draft)
            journal.begin_anew(wanted)
            notice(f"what was stored of {disk_path} has been lost since: it is sent anew")
            _Life(storing, journal, descriptor, disk_path).send(make, added)
        journal.remove()
    finally:
        journal.close()
    return wanted.size


def _describe(
    storing: Storing, descriptor: int, disk_path: str, path: str, replication: int | None, chunk_size: int | None
) -> Upload:
    found = os.fstat(descriptor)
    return Upload(
        form=FORM,
        cluster=storing.namenodes.facts().cluster,
        path=path,
        source=os.path.realpath(disk_path),
        device=found.st_dev,
        inode=found.st_ino,
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        chunk_size=storing.chunk_size(chunk_size),
        replication=storing.replication(replication),
        draft=storing.namenodes.new_id(),
    )


class _Life:
    """One attempt at the whole upload."""

    def __init__(self, storing: Storing, journal: Journal, descriptor: int, disk_path: str) -> None:
        self._storing = storing
        self._journal = journal
        self._descriptor = descriptor
        self._disk_path = disk_path
        self.had_known = bool(journal.chunks)

    @property
    def known_bytes(self) -> int:
        return sum(chunk.length for chunk in self._journal.chunks.values())

    def drop(self, draft: str) -> None:
        """Let go of a draft that is of no use any more."""
        self._storing.staging(None).drop(draft)

    def forget_what_is_lost(self) -> None:
        """Forget chunks that no commit would accept."""
        journal = self._journal
        if journal.staged:
            # An empty call tells how much is there; if the draft is gone, it makes one, without anything.
            request = Stage(op_id="", draft=journal.upload.draft)
            if self._storing.namenodes.perform(STAGE, request).extents < len(journal.staged):
                journal.forget(list(journal.staged))
        now_ms = self._storing.namenodes.now_ms()
        usable_ms = RECEIPTS_USABLE_SHARE * self._storing.namenodes.facts().chunk_commit_window_s * 1000
        journal.forget(
            [
                place
                for place, chunk in journal.chunks.items()
                if place not in journal.staged and now_ms - id_time_ms(chunk.id) > usable_ms
            ]
        )

    def send(self, make: Callable[[list[Extent]], PutFile], added: Added) -> None:
        """Send what is missing, and publish all of it."""
        upload, journal = self._journal.upload, self._journal
        storing = self._storing
        size, chunk_size = upload.size, upload.chunk_size
        grants = storing.grants(max(1, min(chunk_size, size)), upload.replication, -(-size // chunk_size))
        staging = Staging(
            storing.publisher,
            storing.namenodes,
            replication=upload.replication,
            draft=upload.draft,
            staged=journal.add_staged,
        )
        # All lives of this upload make one version, also for those who one day put it together from its chunks.
        hints = FileHints(upload.path, upload.draft, size=size)
        known = dict(journal.chunks)
        for place, chunk in known.items():
            offset = place * chunk_size
            enclosed = hints.of_chunk(offset, chunk.length)
            source = FileSource(self._descriptor, offset, chunk.length, self._disk_path, enclosed)
            staging.add(place, Sent(chunk, source, grants), in_draft=place in journal.staged)
            added(chunk.length)

        def place_of(source: Source | None) -> int:
            assert isinstance(source, FileSource), "everything here comes from the file"
            return source.offset // chunk_size

        line = ChunkLine(
            storing.sender,
            storing.workers,
            grants,
            parallel=storing.parallel,
            added=added,
            stored=lambda source, chunk: journal.add_stored(place_of(source), chunk),
            taken=lambda sent: staging.add(place_of(sent.source), sent),
        )
        send_file(self._descriptor, size, self._disk_path, line, chunk_size=chunk_size, hints=hints, skip=known.keys())
        self._check_unchanged()
        staging.publish(make([]))

    def _check_unchanged(self) -> None:
        """Raise Conflict if the file is not the one that the first life saw: two versions must not be mixed."""
        found = os.fstat(self._descriptor)
        if (found.st_size, found.st_mtime_ns) != (self._journal.upload.size, self._journal.upload.mtime_ns):
            raise Conflict(f"{self._disk_path} changed while it was read; nothing was stored, put it again")
