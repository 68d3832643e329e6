"""What is known of a volume's disk: from errors in writing, and from probes that did real I/O or never came back.

Pure: it is told what happened and what time it is, and does no I/O; so asking it never waits for a disk that hangs.

    well     a write or a probe failed, or a probe has not come back in time    → out of service
    out      enough probes in a row worked                                      → well

How many are enough doubles each time, so that a disk that fails now and then does not come and go for ever. The time
that a probe takes counts in short steps between two looks at it: a process that was stopped for a minute finds a probe
that is a minute old, and must not blame the disk.
"""

import logging
import threading

logger = logging.getLogger("dfs.datanode.volumes")

FULL_PAUSE_S = 30.0
"""A disk that refused a write for space is left alone this long, whatever it says about free space: quotas, races."""
GOOD_PROBES = 3
"""In a row, after which a volume that failed for the first time is back."""
GOOD_PROBES_MAX = 1024
"""The most that is asked of one that has failed many times: about an hour of probes."""
STEP_MAX_S = 5.0
"""The most that counts of the time between two looks at a probe that is under way."""


class Health:
    """The health of one disk. Thread-safe.

    probe_timeout_s  a probe that takes longer means that the disk hangs
    name             of the volume, for the log
    """

    def __init__(self, probe_timeout_s: float, name: str = "") -> None:
        self.read_only = False
        self.probe_s = 0.0
        """What the last probe took."""
        self.falls = 0
        """Times that the volume went out of service."""
        self._name = name
        self._timeout_s = probe_timeout_s
        self._lock = threading.Lock()
        self._failure = ""
        self._good_in_a_row = 0
        self._full_until_s = 0.0
        self._probing = False
        self._began_s = 0.0
        self._looked_s = 0.0
        self._waited_s = 0.0

    def failed(self, why: str) -> None:
        """The disk did not do what it was asked."""
        with self._lock:
            self._fall(why)

    def _fall(self, why: str) -> None:
        self._good_in_a_row = 0
        if not self._failure:
            self.falls += 1
            logger.error("the volume in %s is out of service: %s", self._name, why)
        self._failure = why

    def full(self, now_s: float) -> None:
        """A write was refused for space."""
        self._full_until_s = now_s + FULL_PAUSE_S

    def is_full(self, now_s: float) -> bool:
        """Whether that was a moment ago."""
        return now_s < self._full_until_s

    def probe_began(self, now_s: float) -> None:
        """A probe is on its way to the disk."""
        with self._lock:
            self._probing, self._began_s, self._looked_s, self._waited_s = True, now_s, now_s, 0.0

    def probe_ended(self, now_s: float, *, why: str = "", conclusive: bool = True) -> None:
        """It came back.

        why         it failed; "" if all was well
        conclusive  False: nothing was learned, for want of descriptors or since there is no disk to ask
        """
        with self._lock:
            self._look(now_s)
            self._probing = False
            self.probe_s = now_s - self._began_s
            if why:
                self._fall(why)
            elif conclusive and self._waited_s < self._timeout_s:
                self._good_in_a_row += 1
                if self._failure and self._good_in_a_row >= self.good_probes_wanted:
                    logger.warning("the volume in %s is well: %d good probes", self._name, self._good_in_a_row)
                    self._failure = ""

    @property
    def good_probes_wanted(self) -> int:
        """How many probes in a row must work before the volume is trusted again."""
        return int(min(GOOD_PROBES * 2 ** min(max(0, self.falls - 1), 20), GOOD_PROBES_MAX))

    def _look(self, now_s: float) -> None:
        if self._probing:
            self._waited_s += min(max(0.0, now_s - self._looked_s), STEP_MAX_S)
            self._looked_s = now_s
            if self._waited_s >= self._timeout_s:
                self._fall(f"the disk hangs: a probe has not come back for {self._waited_s:.0f} s")

    def hangs(self, now_s: float) -> bool:
        """Whether a probe is overdue now: nobody should touch the disk who can't wait."""
        with self._lock:
            self._look(now_s)
            return self._probing and self._waited_s >= self._timeout_s

    def why_failed(self, now_s: float) -> str:
        """Why the volume is out of service; "" while it is not."""
        with self._lock:
            self._look(now_s)
            return self._failure
