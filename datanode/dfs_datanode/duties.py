"""The background duties of one volume: its probes, its scrub, its upkeep; each in a loop of its own.

Together because they belong to one disk and end with it; apart from the other volumes', because a disk that hangs
takes with it every thread that touches it.
"""

import logging
from collections.abc import Callable

from dfs.protocol.clock import Clock
from dfs_datanode import scrub
from dfs_datanode.disk import Disk
from dfs_datanode.durability import SyncLater
from dfs_datanode.findings import Findings
from dfs_datanode.identity import note_seq_seen
from dfs_datanode.probe import Probe
from dfs_datanode.scrubbing import Scrubber
from dfs_datanode.settings import DatanodeSettings
from dfs_datanode.startup import settle
from dfs_datanode.supervise import Loop
from dfs_datanode.trash import purge_trash
from dfs_datanode.volumes import Volume

logger = logging.getLogger("dfs.datanode.volumes")

UPKEEP_S = 10.0


class VolumeDuties:
    """What is done for one volume all the time.

    namenode_clock  by which the ages in trash and quarantine are judged
    seq_seen        the highest sequence number that any namenode showed us
    busy            whether clients or peers use the disks now
    fatal           ends the process
    """

    def __init__(
        self,
        volume: Volume,
        disk: Disk,
        settings: DatanodeSettings,
        findings: Findings,
        *,
        clock: Clock,
        namenode_clock: Clock,
        seq_seen: Callable[[], int],
        busy: Callable[[], bool],
        fatal: Callable[[str], None],
    ) -> None:
        self.volume = volume
        self.scrubber = Scrubber(
            volume,
            disk,
            findings,
            clock,
            pace=scrub.Pace(settings.scrub_period_s, settings.scrub_bytes_per_s_min, settings.scrub_bytes_per_s_max),
            busy=busy,
        )
        volume.scrubbed = lambda: (self.scrubber.age_s(), self.scrubber.left())
        self._disk = disk
        self._settings = settings
        self._namenode_clock = namenode_clock
        self._seq_seen = seq_seen
        self._seq_noted = 0
        self._probe = Probe(volume, disk, clock, interval_s=settings.probe_interval_s)
        self._scrub_loop = self._loop("scrub", self.scrubber.turn, clock, fatal)
        self.loops = (
            self._loop("probe", self._probe.turn, clock, fatal),
            self._scrub_loop,
            self._loop("upkeep", self._keep_up, clock, fatal),
        )

    def _loop(self, name: str, turn: Callable[[], float], clock: Clock, fatal: Callable[[str], None]) -> Loop:
        return Loop(f"{name} {self.volume.directory}", turn, clock, fatal, volume=self.volume.id)

    def scrub_now(self) -> None:
        """Read everything once more, beginning now. Returns at once."""
        self.scrubber.want()
        self._scrub_loop.wake()

    def look_at_suspects(self) -> None:
        """Let the scrubber see soon what readers found."""
        self._scrub_loop.wake()

    def _keep_up(self) -> float:
        """Take a late volume into service; sync what waits for it; purge what was kept long enough; note the seq."""
        volume, settings = self.volume, self._settings
        now_ms = self._namenode_clock.wall_ms()
        if volume.awaits_settling:
            settle([volume], self._disk, now_ms=now_ms)
        try:
            if isinstance(volume.syncing, SyncLater):
                self._flush(volume.syncing)
            purge_trash(volume, self._disk, now_ms=now_ms, age_s=settings.trash_age_s)
            if volume.holds_chunks and volume.state().state != "read_only":
                room = 0 if volume.state().state == "full" else settings.quarantine_bytes
                volume.quarantine.purge(now_ms=now_ms, age_s=settings.quarantine_age_s, bytes_max=room)
                self._note_seq_seen()
        except OSError as error:
            volume.judge(error)
            logger.warning("%s can't be kept up: %s", volume.directory, error)
        return UPKEEP_S

    def _note_seq_seen(self) -> None:
        """Keep it on the disk: after a power cut it is what shows that a namenode's store is an old copy (F63)."""
        seq = self._seq_seen()
        if seq > self._seq_noted:
            note_seq_seen(self._disk, self.volume.directory, seq)
            self._seq_noted = seq

    def _flush(self, syncing: SyncLater) -> None:
        try:
            syncing.flush(self.volume.directory)
        except OSError as error:
            self.volume.judge(error, syncing=True)
            raise

    def stop(self) -> None:
        """End the loops, and write down how far the scrub came and what was seen. A disk that hangs is waited for only
        a little."""
        self.scrubber.stop()
        for loop in self.loops:
            loop.ask_to_stop()
        for loop in self.loops:
            loop.stop()
        self.scrubber.keep()
        if isinstance(self.volume.syncing, SyncLater) and self.volume.holds_chunks:
            try:
                self._flush(self.volume.syncing)
            except OSError as error:
                logger.warning("%s: the last chunks are not known to be durable: %s", self.volume.directory, error)
        try:
            if self.volume.holds_chunks:
                self._note_seq_seen()
        except OSError as error:
            logger.warning("%s: the last sequence number that was seen is not kept: %s", self.volume.directory, error)
