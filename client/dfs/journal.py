"""What an upload remembers on the disk of its client, so that it can go on after the client died.

    upload/…      one line of JSON each: first what is uploaded (Upload), then each chunk as it is stored (Stored),
                  and the places that were staged in the draft since (Staged)

Lines are only added, and one that a dying client left unfinished is ignored, with all that follows. A journal is for
one source, one target and one cluster (its name is their digest), and for one process at a time (it is locked). It
holds receipts, which are good for nothing but a commit by the same principal; only its owner may read it. Separate
from the upload, because what may be believed of an old journal is a question of its own.
"""

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import BinaryIO

import msgspec
from msgspec import Struct

from dfs.protocol.errors import Conflict
from dfs.protocol.messages import NewChunk

FORM = 1
"""Of the lines; a journal of another form is ignored."""
KEPT_S = 14 * 86_400.0
"""Journals that nobody touched for so long are removed: twice the time for which a namenode keeps an idle draft."""


class Upload(Struct, frozen=True, tag="upload"):
    """What is uploaded, and how it is cut. The same upload only if all of it is the same but the draft."""

    form: int
    cluster: str
    path: str
    source: str
    device: int
    inode: int
    size: int
    mtime_ns: int
    chunk_size: int
    replication: int
    draft: str
    """The id of the draft that it may come to need."""

    def same_source(self, other: "Upload") -> bool:
        """Whether the local file is the one that it was."""
        return (self.device, self.inode, self.size, self.mtime_ns) == (
            other.device,
            other.inode,
            other.size,
            other.mtime_ns,
        )


class Stored(Struct, frozen=True, tag="stored"):
    """A chunk with its receipts."""

    place: int
    chunk: NewChunk


class Staged(Struct, frozen=True, tag="staged"):
    """Places whose chunks are in the draft."""

    places: list[int]


_line = msgspec.json.Decoder(Upload | Stored | Staged)


class Journal:
    """An open journal. `stored` may be called from several threads."""

    def __init__(self, disk_path: str, file: BinaryIO, upload: Upload, before: Upload | None) -> None:
        self.upload = upload
        self.before = before
        """Of an older journal that was there and is of no use, or None."""
        self.chunks: dict[int, NewChunk] = {}
        self.staged: set[int] = set()
        self._disk_path = disk_path
        self._file = file
        self._lock = threading.Lock()

    @property
    def went_on(self) -> bool:
        """Whether an earlier life of this upload has stored anything."""
        return bool(self.chunks)

    def add_stored(self, place: int, chunk: NewChunk) -> None:
        """A chunk is durable. It is remembered from here on, even if this process is killed."""
        with self._lock:
            self.chunks[place] = chunk
            self._append(Stored(place, chunk))

    def add_staged(self, places: Iterable[int]) -> None:
        """These are in the draft."""
        with self._lock:
            new = list(places)
            self.staged.update(new)
            self._append(Staged(new))

    def forget(self, places: Iterable[int]) -> None:
        """What was remembered of these is of no use. Only for this process: what is stored instead will replace it."""
        for place in places:
            self.chunks.pop(place, None)
            self.staged.discard(place)

    def _append(self, line: Struct) -> None:
        self._file.write(msgspec.json.encode(line) + b"\n")

    def begin_anew(self, upload: Upload) -> None:
        """Forget everything, as if there had been no journal."""
        self._file.truncate(0)
        self.chunks, self.staged, self.upload = {}, set(), upload
        self._append(upload)

    def remove(self) -> None:
        """The upload is complete."""
        with suppress(FileNotFoundError):
            os.unlink(self._disk_path)

    def close(self) -> None:
        """Let other processes have it."""
        self._file.close()


def state_directory(environ: Mapping[str, str]) -> str:
    """Where journals are kept: in the XDG state directory."""
    home = environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(home, "dfs", "uploads")


def open_journal(upload: Upload, directory: str) -> Journal:
    """The journal of this upload: what an earlier life wrote, if it was about the same, or an empty one.

    Raises  Conflict: another process is at it; OSError: the directory can't be written to
    """
    os.makedirs(directory, mode=0o700, exist_ok=True)
    _remove_old(directory)
    key = hashlib.blake2b(
        "\0".join((upload.cluster, upload.path, upload.source)).encode(errors="surrogateescape"), digest_size=16
    ).hexdigest()
    disk_path = os.path.join(directory, f"{key}.jsonl")
    file = os.fdopen(os.open(disk_path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "r+b", buffering=0)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Conflict(
                f"{upload.source} is being put to {upload.path} by another process", path=upload.path
            ) from None
        return _take_over(disk_path, file, upload)
    except BaseException:
        file.close()
        raise


def _take_over(disk_path: str, file: BinaryIO, upload: Upload) -> Journal:
    lines = _read(file)
    first = lines[0] if lines else None
    before = first if isinstance(first, Upload) else None
    if before is None or msgspec.structs.replace(before, draft=upload.draft) != upload:
        journal = Journal(disk_path, file, upload, before)
        journal.begin_anew(upload)
        return journal
    journal = Journal(disk_path, file, before, None)
    for line in lines[1:]:
        if isinstance(line, Stored):
            journal.chunks[line.place] = line.chunk
            journal.staged.discard(line.place)
        elif isinstance(line, Staged):
            journal.staged.update(place for place in line.places if place in journal.chunks)
    return journal


def _read(file: BinaryIO) -> list[Upload | Stored | Staged]:
    """The lines up to the first one that is none; what comes after that is cut off, so that more can be added."""
    found: list[Upload | Stored | Staged] = []
    good = 0
    for line in file.read().splitlines(keepends=True):
        try:
            if not line.endswith(b"\n"):
                break
            found.append(_line.decode(line))
        except msgspec.DecodeError:
            break
        good += len(line)
    file.truncate(good)
    return found


def _remove_old(directory: str) -> None:
    for entry in os.scandir(directory):
        with suppress(FileNotFoundError):
            if entry.name.endswith(".jsonl") and time.time() - entry.stat().st_mtime > KEPT_S:
                os.unlink(entry.path)
