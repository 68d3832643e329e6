"""Scrubs one volume: reads what the planner says, and tells what it finds.

The thin part: `scrub` decides. Every byte comes from the disk and leaves nothing in memory. How far it came is kept on
the volume, written now and then: after a crash a few chunks are read twice, which hurts nobody. Nothing is repaired
or removed here; the namenode hears of what is bad, and has it replaced first.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable

import msgspec

from dfs.protocol.clock import Clock
from dfs.protocol.errors import CorruptReplica, ReplicaNotFound
from dfs_datanode import scrub
from dfs_datanode.chunk_file import ChunkReader
from dfs_datanode.disk import Disk, is_short_of_means, read_file, replace_file
from dfs_datanode.findings import Findings
from dfs_datanode.uncached import UncachedDisk
from dfs_datanode.volumes import Volume

logger = logging.getLogger("dfs.datanode.scrub")

SAVE_EVERY_S = 60.0
REST_MAX_S = 30.0
"""Between two looks at what is due: a volume may come back, a suspect may turn up."""
RETRY_S = 10.0
"""After a part could not be listed, or no file could be opened."""
PIECE_MAX_S = 5.0
"""The most that is rested after one piece, however slow the pace: it may change meanwhile."""
_decoder = msgspec.json.Decoder(scrub.Progress)


class Scrubber:
    """The scrub of one volume. `turn` is used by one thread, the rest by any.

    busy  whether clients or peers use the disks now
    """

    def __init__(
        self,
        volume: Volume,
        disk: Disk,
        findings: Findings,
        clock: Clock,
        *,
        pace: scrub.Pace,
        busy: Callable[[], bool],
    ) -> None:
        self.chunks_read = 0
        self.bytes_read = 0
        self._volume = volume
        self._disk = disk
        self._uncached = UncachedDisk(disk)
        self._findings = findings
        self._clock = clock
        self._pace = pace
        self._busy = busy
        self._progress: scrub.Progress | None = None
        self._waiting: deque[str] = deque()
        """Chunks of the part in progress that are still to be read, in order."""
        self._saved: tuple[float, scrub.Progress | None] = (0.0, None)
        self._wanted = threading.Event()
        self._stopping = threading.Event()

    # --- what others see and ask for

    def age_s(self) -> float:
        """Of the oldest byte of the volume that was not verified since; 0 before anything is known."""
        progress = self._progress
        return 0.0 if progress is None else scrub.age_s(progress, self._clock.wall_ms())

    def left(self) -> float:
        """The share of the volume that is due and not read yet."""
        progress = self._progress
        return 0.0 if progress is None else scrub.left(progress, self._clock.wall_ms(), self._pace.period_s)

    def want(self) -> None:
        """Read the whole volume once more, beginning now. The caller wakes the loop."""
        self._wanted.set()

    def stop(self) -> None:
        """Cut a rest between two pieces short: the turn ends, its chunk counts as not read."""
        self._stopping.set()

    # --- the work

    def turn(self) -> float:
        """Read one chunk, a suspect before others; the seconds to rest."""
        if not self._volume.holds_chunks:
            return REST_MAX_S
        self._progress = self._known()
        if self._wanted.is_set():
            self._wanted.clear()
            self._waiting.clear()
            self._progress = scrub.wanted(self._progress, self._clock.wall_ms())
        try:
            return self._one_step()
        except OSError as error:
            if not is_short_of_means(error):
                self._volume.read_errors += 1
            logger.warning("the scrub of %s can't go on now: %s", self._volume.directory, error)
            return RETRY_S

    def _one_step(self) -> float:
        for chunk in self._findings.suspects():
            if self._volume.has(chunk):
                self._findings.looked_at(chunk)
                self._verify(chunk, suspect=True)
                return 0.0
        progress = self._known()
        now_ms = self._clock.wall_ms()
        part = scrub.next_part(progress, now_ms, self._pace.period_s)
        if part is None:
            self.keep(every_s=SAVE_EVERY_S)
            return min(REST_MAX_S, scrub.rest_s(progress, now_ms, self._pace.period_s))
        if progress.part != part:
            self._waiting = deque(self._listed(part, ""))
            self._progress = scrub.began(progress, part, now_ms)
        elif not self._waiting:
            # After a restart, or at the end: what was written meanwhile is read in the next round, if it comes first.
            self._waiting = deque(self._listed(part, progress.after))
        self._read_next()
        self.keep(every_s=SAVE_EVERY_S)
        return 0.0

    def _read_next(self) -> None:
        progress = self._known()
        if not self._waiting:
            self._progress = scrub.ended(progress)
            return
        chunk = self._waiting[0]
        if self._verify(chunk):
            self._waiting.popleft()
            self._progress = scrub.read(progress, chunk)

    def _listed(self, part: int, after: str) -> list[str]:
        return sorted(chunk for chunk in self._volume.chunks_in(part) if chunk > after)

    def _verify(self, chunk: str, *, suspect: bool = False) -> bool:
        """Read a chunk whole and tell what was found; False: it was not read to its end. Raises OSError."""
        path = self._volume.path_of(chunk)
        reader: ChunkReader | None = None
        try:
            reader = ChunkReader(self._uncached, path, chunk)
            for piece in reader.pieces():
                self.bytes_read += len(piece)
                if self._stopping.wait(self._rest_after(len(piece))):
                    return False
        except ReplicaNotFound:
            self._findings.replaced(chunk)  # deleted since it was listed
            return True
        except CorruptReplica as error:
            self._found_bad(reader, path, chunk, error.message)
        except OSError as error:
            if is_short_of_means(error):
                raise
            self._volume.read_errors += 1
            self._found_bad(reader, path, chunk, f"it can't be read ({error})")
        else:
            if suspect or self._findings.why_bad(chunk):
                self._findings.intact(chunk)
        self.chunks_read += 1
        return True

    def _found_bad(self, reader: ChunkReader | None, path: str, chunk: str, why: str) -> None:
        """Tell of it, unless its replacement came while it was read: that one is not to be taken for bad."""
        if reader is None or reader.is_at(path):
            self._findings.bad(chunk, f"found by the scrub: {why}")

    def _rest_after(self, count: int) -> float:
        rate = scrub.bytes_per_s(
            self._known(), self._clock.wall_ms(), self._pace, used_bytes=self._volume.used_bytes, busy=self._busy()
        )
        return min(PIECE_MAX_S, count / max(1.0, rate))

    # --- what survives

    @property
    def _path(self) -> str:
        # In a directory that exists on the volume only, so that nothing is ever written below its mount point.
        return os.path.join(self._volume.directory, "health", "scrub.json")

    def _known(self) -> scrub.Progress:
        """The progress; read from the volume when it is first needed."""
        if self._progress is not None:
            return self._progress
        try:
            found = _decoder.decode(read_file(self._disk, self._path))
            if scrub.is_sound(found):
                return found
            logger.warning("%s can't be right; the scrub begins anew", self._path)
        except FileNotFoundError:
            pass
        except (OSError, msgspec.DecodeError) as error:
            logger.warning("%s can't be read (%s); the scrub begins anew", self._path, error)
        return scrub.beginning(self._volume.made_ms())

    def keep(self, *, every_s: float = 0.0) -> None:
        """Write the progress down, if the last time is so long ago. What can't be written is read again some day."""
        saved_s, saved = self._saved
        now_s = self._clock.monotonic_s()
        if self._progress is None or self._progress is saved or (saved is not None and now_s - saved_s < every_s):
            return
        if not self._volume.holds_chunks:
            return
        progress = self._progress
        try:
            replace_file(self._disk, self._path, msgspec.json.encode(progress), 0o644)
        except OSError as error:
            logger.info("the progress of the scrub can't be written to %s: %s", self._path, error)
        self._saved = (now_s, progress)
