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
        """Take a late volume into service; sync what waits for it; purge what was kept long enough."""
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
        except OSError as error:
            volume.judge(error)
            logger.warning("%s can't be kept up: %s", volume.directory, error)
        return UPKEEP_S

    def _flush(self, syncing: SyncLater) -> None:
        try:
            syncing.flush(self.volume.directory)
        except OSError as error:
            self.volume.judge(error, syncing=True)
            raise

    def stop(self) -> None:
        """End the loops, and write down how far the scrub came. A disk that hangs is waited for only a little."""
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
