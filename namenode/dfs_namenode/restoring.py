"""Restores a store that is lost: from a file, or from what the datanodes have of its backups. While no namenode runs.

    find -> newest snapshot that is whole -> changes behind it, without a gap -> settle -> a new history -> its name

Separate from the duty that makes backups, because it runs in another process, on another day, and has nothing but
what it finds. It writes into an empty directory only, and the database gets its name at the end: a restore that was
interrupted is no store. What it made is latched (see `history`): nothing unknown is deleted until an operator has
resolved it, since what is newer than the backup looks like garbage to it, and a rebuild brings that back.

The secret is not in any backup. The store gets a new one, and each datanode that it knows may register once more by
the join secret alone (`rekey`). So whatever was granted or acknowledged under the old secret counts no more.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import BinaryIO

from dfs.protocol.clock import Clock
from dfs.protocol.errors import Conflict, CorruptReplica, ReplicasUnavailable, Unavailable
from dfs.protocol.metadata_log import BackupHeader, BackupReader
from dfs.protocol.metadata_parts import FoundBackup, FoundBackups, MetadataSource
from dfs.protocol.transport import Transport
from dfs_namenode import keys
from dfs_namenode.store import restore
from dfs_namenode.store.guard import LOCK_NAME, DirectoryLock, refuse_network_filesystem
from dfs_namenode.store.restore import RestoredStore
from dfs_namenode.store.sqlite import DATABASE_NAME

_DATABASE_TMP = "restoring.db"
_BACKUP_TMP = "restoring.backup"

Tell = Callable[[str], None]


@dataclass
class Restored:
    """What a restore came to."""

    cluster: str
    seq: int
    """Up to which change the namespace is what it was; 0: no backup was found."""
    made_ms: int
    """When the last backup that went into it was made."""
    files: int = 0
    directories: int = 0
    changes: int = 0
    """Of those in it, the ones that came after the snapshot."""
    datanodes: list[str] = field(default_factory=list)
    """Those that it knows, and waits for."""


def restore_from_file(directory: str, path: str, *, clock: Clock) -> Restored:
    """Make a store of a snapshot in a file.

    Raises   Conflict: the directory is not empty, or the file is not a snapshot; CorruptReplica: it is damaged
    """
    with _prepared(directory) as place:
        with open(path, "rb") as file:
            header = _unpack(file, place.database)
        if header.kind != "snapshot":
            raise Conflict(f"{path} holds changes; a restore from a file needs a snapshot")
        store = RestoredStore(place.database, now_ms=max(clock.wall_ms(), header.made_ms))
        try:
            restored = Restored(header.cluster, header.to_seq, header.made_ms)
            _complete(store, restored, seq_seen=0)
        finally:
            store.close()
        place.publish(header.cluster)
    return restored


def restore_from_datanodes(
    directory: str, urls: Sequence[str], *, join_secret: str, clock: Clock, tell: Tell
) -> Restored:
    """Make a store of the newest backups that datanodes have; an empty one of the same cluster if they have none.

    tell     told what is being found and done
    Raises   Conflict: the directory is not empty, or the datanodes belong to none or several clusters;
             NotPermitted: the join secret is wrong; Unavailable: no datanode answers
    """
    with _prepared(directory) as place:
        source = MetadataSource(Transport(principal="restore"), urls, join_secret=join_secret)
        found = source.find(tell)
        cluster = _cluster_of(found, urls)
        now_ms = clock.wall_ms()
        header = _newest_snapshot(source, found, place, cluster, tell)
        store = RestoredStore(place.database, now_ms=max(now_ms, header.made_ms if header else 0))
        try:
            if header is None:
                tell("no backup of the store was found: it begins empty")
                with store.transaction() as tx:
                    restore.begin_empty(tx, cluster)
                restored = Restored(cluster, 0, 0)
            else:
                restored = Restored(cluster, header.to_seq, header.made_ms)
                _apply_all(source, found, place, store, header, restored, tell)
            _complete(store, restored, seq_seen=found.seq_seen)
        finally:
            store.close()
        place.publish(cluster)
    return restored


# --- the directory ----------------------------------------------------------------------------------------------


class _Place:
    """The directory in which the store is made."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.database = os.path.join(directory, _DATABASE_TMP)
        self.backup = os.path.join(directory, _BACKUP_TMP)
        self._lock: DirectoryLock | None = None

    def __enter__(self) -> "_Place":
        self._lock = DirectoryLock(self.directory)
        self._clear()
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()
        if self._lock is not None:
            self._lock.release()

    def _clear(self) -> None:
        for path in (self.backup, self.database):
            if os.path.exists(path):
                os.unlink(path)

    def publish(self, cluster: str) -> None:
        """Make the database durable, give it its name, and the cluster a new secret."""
        with open(self.database, "rb+") as file:
            os.fsync(file.fileno())
        keys.prepare_secret(self.directory, cluster)
        os.rename(self.database, os.path.join(self.directory, DATABASE_NAME))
        keys.publish_secret(self.directory, cluster)


def _prepared(directory: str) -> _Place:
    os.makedirs(directory, mode=0o700, exist_ok=True)
    # A restore that failed or was killed may be repeated in its directory.
    if set(os.listdir(directory)) - {LOCK_NAME, _DATABASE_TMP, _BACKUP_TMP, keys.NEW_FILE}:
        raise Conflict(f"{directory} is not empty; a restore needs a directory of its own, and replaces nothing")
    refuse_network_filesystem(directory)
    return _Place(directory)


# --- what to restore --------------------------------------------------------------------------------------------


def _cluster_of(found: FoundBackups, urls: Sequence[str]) -> str:
    if len(found.failed) == len(urls):
        raise Unavailable(f"no datanode answers: {'; '.join(map(str, found.failed.values()))}")
    if len(found.clusters) != 1:
        listed = ", ".join(sorted(found.clusters)) or "none"
        raise Conflict(f"the datanodes must belong to one cluster; they belong to: {listed}")
    return next(iter(found.clusters))


def _newest_snapshot(
    source: MetadataSource, found: FoundBackups, place: _Place, cluster: str, tell: Tell
) -> BackupHeader | None:
    """Unpack the newest snapshot that is whole; None: there is none."""
    candidates = [one for one in found.backups if one.key.what == "snapshot" and one.key.cluster == cluster]
    for one in sorted(candidates, key=lambda one: (one.key.to_seq, one.key.made_ms), reverse=True):
        try:
            with _fetched(source, one, place) as file:
                header = _unpack(file, place.database)
                _check_header(header, one)
                RestoredStore(place.database, now_ms=0).close()
        except (CorruptReplica, ReplicasUnavailable) as error:
            when = _time(one.key.made_ms)
            tell(f"the snapshot up to change {one.key.to_seq}, of {when}, can't be used: {error.message}")
            continue
        tell(f"the snapshot up to change {header.to_seq}, of {_time(header.made_ms)}")
        return header
    return None


def _apply_all(
    source: MetadataSource,
    found: FoundBackups,
    place: _Place,
    store: RestoredStore,
    snapshot: BackupHeader,
    restored: Restored,
    tell: Tell,
) -> None:
    """Apply changes behind the snapshot for as long as the next ones can be found."""
    unused = [one for one in found.backups if one.key.what == "changes" and one.key.cluster == snapshot.cluster]
    while True:
        unused = [one for one in unused if one.key.to_seq > restored.seq]
        following = [one for one in unused if one.key.from_seq <= restored.seq]
        if not following:
            break
        chosen = max(following, key=lambda one: (one.key.to_seq, one.key.made_ms))
        unused.remove(chosen)
        try:
            changes = _apply(source, chosen, place, store, snapshot.lineage)
        except (CorruptReplica, ReplicasUnavailable) as error:
            tell(f"the changes {chosen.key.from_seq + 1} to {chosen.key.to_seq} can't be used: {error.message}")
            continue
        if changes is not None:
            restored.seq, restored.made_ms = chosen.key.to_seq, chosen.key.made_ms
            restored.changes += changes
    if restored.changes:
        behind = "1 change" if restored.changes == 1 else f"{restored.changes} changes"
        tell(f"{behind} behind it, up to {restored.seq}, of {_time(restored.made_ms)}")
    if unused:
        tell(
            f"later changes, up to {max(one.key.to_seq for one in unused)}, can't be joined to these: some are missing"
        )


def _apply(
    source: MetadataSource, backup: FoundBackup, place: _Place, store: RestoredStore, lineage: str
) -> int | None:
    """Apply one backup of changes, all of it or nothing. None: it is of another history."""
    with _fetched(source, backup, place) as file:
        reader = BackupReader(file)
        _check_header(reader.header, backup)
        if reader.header.lineage != lineage:
            return None
        with store.transaction() as tx:
            restore.clear_places(tx, reader.records())
            file.seek(0)
            return restore.apply_changes(tx, BackupReader(file).records(), to_seq=reader.header.to_seq)


def _fetched(source: MetadataSource, backup: FoundBackup, place: _Place) -> BinaryIO:
    """A backup as a file, at its beginning."""
    file = open(place.backup, "wb+")  # noqa: SIM115
    try:
        source.write(backup, file)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _check_header(header: BackupHeader, backup: FoundBackup) -> None:
    said = backup.key
    if (header.kind, header.cluster, header.from_seq, header.to_seq) != (
        said.what, said.cluster, said.from_seq, said.to_seq,
    ):  # fmt: skip
        raise CorruptReplica("it is another backup than its chunks say")


def _unpack(file: BinaryIO, target: str) -> BackupHeader:
    """Write the database of a snapshot. Raises CorruptReplica."""
    reader = BackupReader(file)
    with open(target, "wb") as database:
        if reader.header.kind == "snapshot":
            for piece in reader.frames():
                database.write(piece)
    return reader.header


def _complete(store: RestoredStore, restored: Restored, *, seq_seen: int) -> None:
    """Set right what hangs on the namespace, begin the new history, and count what there is."""
    when = f"the backup of {_time(restored.made_ms)}, up to change {restored.seq}" if restored.seq else "nothing"
    with store.transaction() as tx:
        restore.settle(tx)
        restore.begin_history(tx, seq_seen=seq_seen, why=f"the store was restored from {when}")
    counted = restore.count(store.tx)
    restored.files, restored.directories, restored.datanodes = counted


def _time(made_ms: int) -> str:
    return datetime.fromtimestamp(made_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
