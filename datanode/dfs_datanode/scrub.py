"""When each part of a volume is read again and how fast: the scrubber's decisions. Pure: no clock, no disk.

The strategy. A volume has 256 parts, the directories of its chunks, and each remembers when it was last read to its
end. The one that was verified longest ago comes first; so the age of the oldest unverified byte is known at any
time, a restart loses nothing, and parts that were read at one moment spread out by themselves. A part is due after
half of the period, and the pace is such that all of them are done with a fifth of the period to spare. While others
use the disk it keeps to a quarter of that, until not more time is left than the rest takes at full pace.

    part in progress (`part`, `after`)  → goes on, also after a restart
    asked for (`wanted_ms`)             → parts that were verified before are due at once, at full pace
    otherwise                           → the oldest part, once it is due
"""

from dataclasses import dataclass

import msgspec

PARTS = 256
"""The directories `chunks/00` to `chunks/ff`."""
DUE_SHARE = 0.5
"""Of the period, after which a part may be read again."""
PACE_SHARE = 0.3
"""Of the period, in which a volume whose parts are all due would be read: what is left absorbs rests and restarts."""
LATE_SHARE = 0.9
"""Of the period, after which nothing is spared any more to keep the promise; sooner, if reading it all takes long."""
BUSY_SHARE = 0.25
"""Of its pace, that a scrub keeps while others use the disk."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the scrub of a volume has come. Kept beside the chunks, so bounded in its decoder."""

    verified_ms: tuple[int, ...]
    """For each part: everything in it was right at that time, or written since."""
    part: int = -1
    """The part in progress; -1: none."""
    began_ms: int = 0
    """When that part was begun."""
    after: str = ""
    """The last chunk of it that was read."""
    wanted_ms: int = 0
    """Parts that were verified before are due: somebody asked for a scrub."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What an operator allows.

    period_s            every byte is read again within
    least, most         bytes per second; the most also when a scrub is late or was asked for
    """

    period_s: float
    least: int
    most: int


def beginning(now_ms: int) -> Progress:
    """Of a volume whose bytes were all verified at that time, or are written later: writing verifies them."""
    return Progress(verified_ms=(now_ms,) * PARTS)


def is_sound(progress: Progress) -> bool:
    """Whether a progress that was read from a disk can be one."""
    return len(progress.verified_ms) == PARTS and -1 <= progress.part < PARTS


def oldest_ms(progress: Progress, now_ms: int) -> int:
    """Everything on the volume was verified, or written, at that time or later."""
    # A clock that was set back leaves times that are still to come: they would never be the oldest.
    return min(min(progress.verified_ms), now_ms)


def age_s(progress: Progress, now_ms: int) -> float:
    """Of the oldest unverified byte."""
    return (now_ms - oldest_ms(progress, now_ms)) / 1000


def _due_ms(progress: Progress, part: int, now_ms: int, period_s: float) -> float:
    verified_ms = min(progress.verified_ms[part], now_ms)
    return 0 if verified_ms < progress.wanted_ms else verified_ms + period_s * 1000 * DUE_SHARE


def next_part(progress: Progress, now_ms: int, period_s: float) -> int | None:
    """The part to read now; None: none is due."""
    if progress.part >= 0:
        return progress.part
    oldest = min(range(PARTS), key=lambda part: (min(progress.verified_ms[part], now_ms), part))
    return oldest if _due_ms(progress, oldest, now_ms, period_s) <= now_ms else None


def rest_s(progress: Progress, now_ms: int, period_s: float) -> float:
    """Seconds until a part is due."""
    first_ms = min(_due_ms(progress, part, now_ms, period_s) for part in range(PARTS))
    return max(0.0, (first_ms - now_ms) / 1000)


def left(progress: Progress, now_ms: int, period_s: float) -> float:
    """The share of the volume that is due and not read yet, from 0 to 1."""
    return sum(_due_ms(progress, part, now_ms, period_s) <= now_ms for part in range(PARTS)) / PARTS


def began(progress: Progress, part: int, now_ms: int) -> Progress:
    """The part is being read from its first chunk on."""
    return msgspec.structs.replace(progress, part=part, began_ms=now_ms, after="")


def read(progress: Progress, chunk: str) -> Progress:
    """The chunk was looked at, whatever was found."""
    return msgspec.structs.replace(progress, after=chunk)


def ended(progress: Progress) -> Progress:
    """The part in progress was read to its end; what it tells is as old as its beginning."""
    verified = list(progress.verified_ms)
    verified[progress.part] = progress.began_ms
    return msgspec.structs.replace(progress, verified_ms=tuple(verified), part=-1, after="")


def wanted(progress: Progress, now_ms: int) -> Progress:
    """Everything is to be read once more, from now on."""
    return msgspec.structs.replace(progress, part=-1, after="", wanted_ms=now_ms)


def bytes_per_s(progress: Progress, now_ms: int, pace: Pace, *, used_bytes: int, busy: bool) -> float:
    """How fast to read now.

    used_bytes  of chunks on the volume
    busy        others use the disk now
    """
    whole_s = used_bytes / max(1, pace.most)
    late_s = min(pace.period_s * LATE_SHARE, pace.period_s - 1.1 * whole_s)
    if oldest_ms(progress, now_ms) < progress.wanted_ms or age_s(progress, now_ms) >= late_s:
        return float(pace.most)
    needed = used_bytes / max(1.0, pace.period_s * PACE_SHARE)
    rate = min(max(needed, pace.least), pace.most)
    return rate * BUSY_SHARE if busy else rate
