"""backup_now: an operator wants the whole store backed up, now, and to know when that is done."""

from collections.abc import Awaitable, Callable

from dfs.protocol.messages import BackupAnswer, BackupMade, BackupNow

WAIT_S = 10.0
"""How long one call waits: well below the time-out of whoever makes it."""


async def backup_now(
    request: BackupNow, *, make: Callable[[int, float], Awaitable[BackupMade | None]], now_ms: int
) -> BackupAnswer:
    """Have it made, and wait a while for it. Repeatable with the `since_ms` of the answer.

    make     makes a backup of a state not older than a time, or returns the one there is; None: it takes longer
    Raises   NotEnoughDatanodes, NoSpace, Unavailable: it can't be stored now
    """
    since_ms = request.since_ms or now_ms
    return BackupAnswer(since_ms=since_ms, made=await make(since_ms, WAIT_S))
