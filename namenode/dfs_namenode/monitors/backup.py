"""Backs the store up into the cluster itself, again and again: what changed, and now and then everything.

What to make next is `backup_plan`'s to decide, how it is stored `shipping`'s. This is the part that performs it without
being in anybody's way: the copy is made in a thread, from a state of the past, into a file of its own; the writer sees
one small transaction at the end. A backup that can't be made or stored now is no failure of the duty: what went wrong
is told by `status`, and it is tried again.
"""

import asyncio
import logging
import os
import shutil
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import apsw

from dfs.protocol.clock import Clock
from dfs.protocol.errors import DataError, DfsError, PeerError, StateError, Unavailable
from dfs.protocol.messages import BackupMade, BackupStatus
from dfs.protocol.metadata_log import BackupHeader
from dfs_namenode.backup_plan import Facts, Wanted, covered, newest_snapshot, next_backup
from dfs_namenode.shipping import Shipper
from dfs_namenode.store import backups, export, meta
from dfs_namenode.store.sqlite import DATABASE_NAME, SqliteStore

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger(__name__)

RETRY_S = 15.0
"""After a backup that could not be stored; or the interval, if that is shorter."""
_DIRECTORY = "backup.tmp"
"""Beside the store: what is being made. Emptied before each one, since a kill leaves it behind."""


class _Ended(Exception):
    """The namenode ends while an export is under way."""


class BackupDuty:
    """Makes backups. One at a time, whether the loop or an operator asks for it.

    interval_s  seconds between two backups of changes; 0: none are made but for an operator
    """

    def __init__(
        self,
        store: SqliteStore,
        shipper: Shipper,
        clock: Clock,
        *,
        directory: str,
        interval_s: float,
        snapshot_interval_s: float,
    ) -> None:
        self._store = store
        self._shipper = shipper
        self._clock = clock
        self._disk_path = os.path.join(directory, DATABASE_NAME)
        self._scratch = os.path.join(directory, _DIRECTORY)
        self._interval_s = interval_s
        self._snapshot_interval_ms = int(snapshot_interval_s * 1000)
        self._lock = asyncio.Lock()
        self._due_s = 0.0
        self._failure = ""
        self._ending = threading.Event()
        self._copying: apsw.Connection | None = None
        self._making: asyncio.Task[BackupMade] | None = None
        self._made: BackupMade | None = None
        """The last one that an operator asked for."""

    async def turn(self) -> None:
        """Make a backup if it is time and there is something to back up."""
        if not self._interval_s or self._clock.monotonic_s() < self._due_s:
            return
        async with self._lock:
            facts = await self._in_thread(self._read_facts)
            wanted = next_backup(
                facts, now_ms=self._clock.wall_ms(), snapshot_interval_ms=self._snapshot_interval_ms
            )  # fmt: skip
            if wanted is None:
                self._failure = ""
                return
            try:
                await self._make(wanted)
            except (StateError, PeerError, DataError, OSError) as error:
                self._failure = error.message if isinstance(error, DfsError) else str(error)
                self._due_s = self._clock.monotonic_s() + min(self._interval_s, RETRY_S)
                log.warning("the store is not backed up: %s", self._failure)
            else:
                self._failure = ""
                self._due_s = self._clock.monotonic_s() + self._interval_s

    async def now(self, since_ms: int, wait_s: float) -> BackupMade | None:
        """A snapshot of a state that is not older than `since_ms`, made if there is none.

        wait_s   how long to wait for it; None is returned if it takes longer: it goes on, ask again
        Raises   what keeps it from being stored
        """
        end_s = self._clock.monotonic_s() + wait_s
        while self._made is None or self._made.made_ms < since_ms:
            if self._making is None:
                self._making = asyncio.create_task(self._make_snapshot(), name="backup-now")
            making = self._making
            done, _ = await asyncio.wait({making}, timeout=max(0.0, end_s - self._clock.monotonic_s()))
            if not done:
                return None
            if self._making is making:
                self._making = None
            self._made = making.result()
        return self._made

    async def _make_snapshot(self) -> BackupMade:
        began_s = self._clock.monotonic_s()
        async with self._lock:
            try:
                header, size, content_id = await self._make(Wanted("snapshot"))
            except OSError as error:
                if isinstance(error, DfsError):
                    raise
                raise Unavailable(f"the copy of the store can't be made: {error}") from error
            self._failure = ""
        return BackupMade(
            content=content_id,
            seq=header.to_seq,
            bytes=size,
            made_ms=header.made_ms,
            seconds=self._clock.monotonic_s() - began_s,
        )

    def status(self) -> BackupStatus | None:
        """How much would be lost with the store now; None: nobody backs it up. Reads the store."""
        with self._store.read() as snapshot:
            kept = backups.everything(snapshot)
            identity = meta.identity(snapshot)
            if identity is None or not (kept or self._interval_s):
                return None
            seq = covered(kept, identity.lineage)
            changed_ms = backups.changed_ms(snapshot, seq)
        now_ms = self._clock.wall_ms()
        newest_ms = max(
            (one.made_ms for one in kept if one.to_seq <= seq and one.lineage == identity.lineage), default=0
        )
        base = newest_snapshot(kept, identity.lineage)
        return BackupStatus(
            seq=seq,
            made_ms=newest_ms,
            age_s=max(0, now_ms - newest_ms) / 1000 if newest_ms else None,
            behind_s=0.0 if changed_ms is None else max(0, now_ms - changed_ms) / 1000,
            snapshot_age_s=None if base is None else max(0, now_ms - base.made_ms) / 1000,
            bytes=sum(one.size for one in kept),
            interval_s=self._interval_s,
            failure=self._failure[:1024],
        )

    async def _make(self, wanted: Wanted) -> tuple[BackupHeader, int, int]:
        """Export and store it: what it says of itself, its size, its content id."""
        self._ending.clear()
        try:
            path, header, size = await self._in_thread(self._export, wanted)
            content_id = await self._shipper.ship(path, header, size)
        finally:
            await self._in_thread(self._clear)
        log.info(
            "backed up: %s, changes %d to %d, %d bytes", header.kind, header.from_seq, header.to_seq, size
        )  # fmt: skip
        return header, size, content_id

    # --- in a thread --------------------------------------------------------------------------------------------

    async def _in_thread(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        try:
            return await asyncio.to_thread(work, *arguments, **named)
        except asyncio.CancelledError:
            # The thread is waited for when the process ends, so it must not go on for minutes.
            self._ending.set()
            copying = self._copying
            if copying is not None:
                copying.interrupt()
            raise

    def _read_facts(self) -> Facts:
        with self._store.read() as snapshot:
            return backups.facts(snapshot)

    def _export(self, wanted: Wanted) -> tuple[str, BackupHeader, int]:
        self._clear()
        os.mkdir(self._scratch, 0o700)
        path = os.path.join(self._scratch, "backup")
        made_ms = self._clock.wall_ms()
        with open(path, "wb") as file:
            if wanted.kind == "changes":
                with self._store.read() as snapshot:
                    header, size = export.write_changes(
                        snapshot, file, after=wanted.from_seq, made_ms=made_ms, stop=self._stop_if_ending
                    )
            else:
                copy = os.path.join(self._scratch, "copy")
                try:
                    export.copy_database(self._disk_path, copy, began=self._began_copying)
                finally:
                    self._copying = None
                header, size = export.write_snapshot(copy, file, made_ms=made_ms, stop=self._stop_if_ending)
                os.unlink(copy)
        return path, header, size

    def _began_copying(self, connection: apsw.Connection) -> None:
        self._stop_if_ending()
        self._copying = connection

    def _stop_if_ending(self) -> None:
        if self._ending.is_set():
            raise _Ended

    def _clear(self) -> None:
        try:
            shutil.rmtree(self._scratch)
        except FileNotFoundError:
            return
