"""Identifiers: 128 bits, the first 48 of them a time in milliseconds, the rest random.

One form serves chunks, operations and drafts. Time-ordered, so that database pages fill from one side; random, so
that nobody has to be asked for the next one. The time inside an id decides only when something is *worth doing*
(is this orphan old?), never whether it is safe: clocks jump.
Source of the layout: RFC 9562, UUID version 7 (without its version bits).
"""

import os
import re
from collections.abc import Callable

ID_BYTES = 16
_RANDOM_BYTES = 10
_PATTERN = re.compile(r"[0-9a-f]{32}")


def new_id(now_ms: int, random_bytes: Callable[[int], bytes] = os.urandom) -> str:
    """Mint an identifier: 32 lower-case hex digits.

    now_ms        milliseconds since the epoch, as the namenode counts them; 0 <= now_ms < 2**48
    random_bytes  source of randomness; capabilities rely on ids that can't be guessed
    """
    return now_ms.to_bytes(6, "big").hex() + random_bytes(_RANDOM_BYTES).hex()


def id_time_ms(identifier: str) -> int:
    """The milliseconds since the epoch at which the id says that it was minted."""
    return int(identifier[:12], 16)


def is_id(text: str) -> bool:
    """Whether `text` is exactly 32 lower-case hex digits. Nothing else may become part of a disk path."""
    return _PATTERN.fullmatch(text) is not None
