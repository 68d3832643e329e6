"""A volume: one directory on one disk, with its chunks, its state, and its space.

    VOLUME.json              whose it is
    chunks/<2 hex>/<id>.chunk
    tmp/<id>                 being written, or not yet known to be durable
    trash/<id>               deleted, kept for a while; its mtime tells since when
    quarantine/              found bad, kept for a while; see `quarantine`
    health/                  the probe's file, and how far the scrub has come

The two hex digits are the last ones of the id, which are random (the first ones are a time). All 256 directories are
made at once when the volume is, and no directory is ever made later: so what is written after the disk was unmounted
fails, instead of filling the disk below. Volumes fail alone: each judges its own errors and tells its state.

`check` looks at the disk, and waits for it; `state` tells what is known without touching it, because a heartbeat must
not hang with a disk.
"""

import errno
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from dfs.protocol.chunk_format import Header, file_size
from dfs.protocol.clock import Clock
from dfs.protocol.directories import MARKS
from dfs.protocol.errors import Conflict, DfsError, NoSpace, Unavailable
from dfs.protocol.ids import is_id
from dfs.protocol.messages import Durability, Id, VolumeState
from dfs_datanode.buffers import BufferPool
from dfs_datanode.chunk_file import ChunkWriter, Place
from dfs_datanode.disk import Disk, is_short_of_means, read_file, replace_file
from dfs_datanode.durability import SyncEach, SyncLater, SyncTogether, syncing_for
from dfs_datanode.health import Health
from dfs_datanode.quarantine import Quarantine

logger = logging.getLogger("dfs.datanode.volumes")

State = Literal["in_service", "full", "read_only", "failed"]
_FORMAT = 1
_FILE = MARKS["datanode"]
_SUFFIX = ".chunk"
_PREFIXES = [f"{number:02x}" for number in range(256)]
_SYNCS_NAMES_WITH_FILE = {"ext4", "xfs"}
"""Where one fsync of a file also makes its new name durable: their journals keep the order. Elsewhere the directory
is synced too."""


class VolumeIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `VOLUME.json`."""

    format: int = _FORMAT
    id: Id
    datanode: str
    cluster: Id | None = None


_decoder = msgspec.json.Decoder(VolumeIdentity)


def file_system_of(path: str, mountinfo: str) -> str:
    """The type of the file system that `path` is on, after the text of /proc/self/mountinfo; "" if it can't be told."""
    best, kind = "", ""
    real = os.path.realpath(path)
    for line in mountinfo.splitlines():
        front, separator, back = line.partition(" - ")
        fields = front.split()
        if not separator or len(fields) < 5:
            continue
        mount_point = fields[4].replace("\\040", " ")
        inside = real == mount_point or real.startswith(mount_point.rstrip("/") + "/")
        if inside and len(mount_point) >= len(best):
            best, kind = mount_point, back.split()[0]
    return kind


class Space:
    """The bytes of a volume: what the disk said when it was last looked at, and what happened since. Thread-safe.

    reserve_bytes, reserve_fraction   what is left free for others; the greater counts
    """

    def __init__(self, reserve_bytes: int, reserve_fraction: float) -> None:
        self.capacity = 0
        self.used = 0
        """Of chunks."""
        self._reserve = (reserve_bytes, reserve_fraction)
        self._lock = threading.Lock()
        self._available = 0
        self._promised = 0
        """Bytes of chunks that are being written, which the disk may not show as used yet."""

    def seen(self, capacity: int, available: int) -> None:
        """What the disk has now."""
        with self._lock:
            self.capacity, self._available = capacity, available

    @property
    def free(self) -> int:
        """What new chunks may use."""
        reserve = max(self._reserve[0], int(self.capacity * self._reserve[1]))
        return max(0, self._available - reserve - self._promised)

    def promise(self, size: int) -> None:
        with self._lock:
            self._promised += size

    def settle(self, size: int, *, stored: bool) -> None:
        with self._lock:
            self._promised -= size
            if stored:
                self.used += size
                self._available -= size

    def count_used(self, size: int) -> None:
        with self._lock:
            self.used += size

    def measured(self, used: int) -> None:
        with self._lock:
            self.used = used


def _nothing_scrubbed() -> tuple[float, float]:
    """What `Volume.scrubbed` tells before there is a scrubber."""
    return 0.0, 0.0


class Volume:
    """One data directory. Thread-safe."""

    def __init__(
        self,
        disk: Disk,
        directory: str,
        identity: VolumeIdentity,
        pool: BufferPool,
        *,
        space: Space,
        health: Health,
        syncing: SyncEach | SyncTogether | SyncLater,
        file_system: str,
        clock: Clock,
        missing: bool = False,
    ) -> None:
        self.directory = directory
        self.id = identity.id
        self.read_errors = 0
        self.health = health
        self.syncing = syncing
        self.quarantine = Quarantine(disk, directory)
        self.scrubbed: Callable[[], tuple[float, float]] = _nothing_scrubbed
        """The age of the oldest unverified byte, and the share that is due to be read; set once there is a scrubber."""
        self.direct = False
        """Whether the file system takes O_DIRECT."""
        self._space = space
        self._disk = disk
        self._identity = identity
        self._pool = pool
        self._syncs_names = file_system in _SYNCS_NAMES_WITH_FILE
        self._clock = clock
        self._missing = missing
        self._unsettled = missing
        """Whether chunks in doubt may be here that nobody has looked at in this life: none is served before that."""
        self._device = None if missing else disk.stat(directory).st_dev
        if not missing:
            self.direct = self._takes_direct()
            self.check()

    def _takes_direct(self) -> bool:
        path = os.path.join(self.directory, "tmp", ".direct")
        try:
            fd = self._disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
        except OSError:
            return False
        self._disk.close(fd)
        self._disk.unlink(path)
        return True

    # --- state

    def check(self) -> VolumeState:
        """Look at the disk, and tell the state as a heartbeat carries it. Waits for the disk."""
        self._missing = not self._is_itself()
        if not self._missing:
            try:
                space = self._disk.space(self.directory)
            except OSError as error:
                self.judge(error)
            else:
                self._space.seen(space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize)
                if space.f_flag & os.ST_RDONLY:
                    self.health.read_only = True
        return self.state()

    def state(self) -> VolumeState:
        """The state as of the last look at the disk, and of all that has happened since. Never waits."""
        state, free = self._service()
        scrub_age_s, scrub_left = self.scrubbed()
        return VolumeState(
            id=self.id,
            state=state,
            capacity_bytes=0 if self._missing else self._space.capacity,
            free_bytes=free,
            used_bytes=max(0, self._space.used),
            read_errors=self.read_errors,
            scrub_age_s=scrub_age_s,
            scrub_left=scrub_left,
        )

    def _is_itself(self) -> bool:
        """Whether the directory still shows this volume, and not the mount point below it or another disk."""
        try:
            device = self._disk.stat(self.directory).st_dev
            found = _decoder.decode(read_file(self._disk, os.path.join(self.directory, _FILE)))
        except OSError as error:
            return not self._missing if is_short_of_means(error) else False
        except msgspec.DecodeError:
            return False
        if self._device is None:
            self._device = device
        return found.id == self.id and device == self._device

    @property
    def why_failed(self) -> str:
        """Why the volume is out of service, for people; "" while it is not."""
        if self._missing:
            return "the disk is not mounted"
        if self._unsettled:
            return "the chunks in doubt are not settled yet"
        return self.health.why_failed(self._clock.monotonic_s())

    @property
    def is_missing(self) -> bool:
        """Whether the directory did not show this volume when it was last looked at."""
        return self._missing

    def judge(self, error: OSError, *, syncing: bool = False) -> DfsError:
        """What a disk error while writing means: the state changes, and the error to raise is returned.

        syncing  a failed fsync: the kernel reports it once, so nothing on the volume can be trusted to be durable
        """
        why = (error.strerror or str(error)).lower()
        if is_short_of_means(error) and not syncing:
            return Unavailable(f"this datanode can't open another file now ({why}); try again, or another one")
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and not syncing:
            self.health.full(self._clock.monotonic_s())
            return NoSpace(f"the disk of this datanode is full ({why})", volume=self.id)
        if error.errno == errno.EROFS:
            self.health.read_only = True
            return NoSpace(f"the disk of this datanode is read-only ({why})", volume=self.id)
        if error.errno == errno.ENOENT:
            # Directories are never removed: the disk has gone from under its mount point.
            self._missing = not self._is_itself()
        if error.errno in (errno.EIO, errno.ENODEV, errno.ENXIO) or syncing:
            self.health.failed(f"{'fsync' if syncing else 'write'}: {why}")
        return NoSpace(f"the disk of this datanode failed ({why})", volume=self.id)

    def _service(self) -> tuple[State, int]:
        """What the volume is good for now, and the bytes that may still be written."""
        now_s = self._clock.monotonic_s()
        free = self._space.free
        if self._missing or self._unsettled or self.health.why_failed(now_s):
            return "failed", 0
        if self.health.read_only:
            return "read_only", 0
        if free == 0 or self.health.is_full(now_s):
            return "full", 0
        return "in_service", free

    def takes(self, length: int, hints: int = 0) -> int:
        """Free bytes if a chunk of `length` with `hints` may be written here, else 0. Never waits for a disk."""
        # Not `state()`: how far the scrub is would be found out for every chunk that is written.
        state, free = self._service()
        return free if state == "in_service" and free >= file_size(length, hints) else 0

    @property
    def holds_chunks(self) -> bool:
        """Whether chunks can be read and listed now. A volume that failed in writing may still be read.

        One that hangs can't: whoever touched it would hang with it, and be missed by the other volumes.
        """
        return not (self._missing or self._unsettled) and self.answers

    @property
    def answers(self) -> bool:
        """Whether the disk does not hang."""
        return not self.health.hangs(self._clock.monotonic_s())

    @property
    def awaits_settling(self) -> bool:
        """Whether the disk is there and its chunks in doubt are still to be decided about."""
        return self._unsettled and not self._missing

    def settled(self, used_bytes: int) -> None:
        """Every chunk in doubt was decided about; those that are here have `used_bytes`. Into service."""
        _complete_volume(self._disk, self.directory)
        self.direct = self._takes_direct()
        self._space.measured(used_bytes)
        self._unsettled = False

    def unsettled(self) -> None:
        """The decision failed: out of service until it is made."""
        self._unsettled = True

    # --- chunks

    def path_of(self, chunk: str) -> str:
        """Where the file of a chunk is, if it is on this volume."""
        return os.path.join(self.directory, "chunks", chunk[-2:], chunk + _SUFFIX)

    def tmp_path_of(self, chunk: str) -> str:
        return os.path.join(self.directory, "tmp", chunk)

    def trash_path_of(self, chunk: str) -> str:
        return os.path.join(self.directory, "trash", chunk)

    def has(self, chunk: str) -> bool:
        """Whether a file of that chunk is here, right or not."""
        return self._exists(self.path_of(chunk))

    def knows(self, chunk: str) -> bool:
        """Whether that id was used here: stored, being written, deleted or found bad a while ago."""
        paths = (
            self.path_of(chunk),
            self.tmp_path_of(chunk),
            self.trash_path_of(chunk),
            self.quarantine.path_of(chunk),
        )
        return any(self._exists(path) for path in paths)

    def _exists(self, path: str) -> bool:
        try:
            self._disk.stat(path)
        except FileNotFoundError:
            return False
        except OSError:
            self.read_errors += 1
            return False
        return True

    def begin(self, header: Header, hints: int = 0) -> ChunkWriter:
        """A writer for a new chunk that will have so many bytes of hints. Raises ChunkExists, NoSpace."""
        place = Place(
            self.tmp_path_of(header.chunk),
            self.path_of(header.chunk),
            sync_directory=not self._syncs_names,
            direct=self.direct,
            syncing=self.syncing,
        )
        return ChunkWriter(self._disk, place, self._pool, header, self.judge, hints)

    def promise(self, size: int) -> None:
        """Set space aside for a chunk that is being written."""
        self._space.promise(size)

    def settle(self, size: int, *, stored: bool) -> None:
        """The chunk for which `size` was promised is `stored`, or thrown away."""
        self._space.settle(size, stored=stored)

    @property
    def used_bytes(self) -> int:
        """Of chunks that are known to be here."""
        return max(0, self._space.used)

    def chunks(self) -> Iterator[str]:
        """The ids of all chunk files. Raises OSError if a directory can't be read: then the list is not complete."""
        for part in range(len(_PREFIXES)):
            yield from self.chunks_in(part)

    def chunks_in(self, part: int) -> Iterator[str]:
        """The ids of the chunk files in one of the 256 directories. Raises OSError."""
        for name in self._disk.names(os.path.join(self.directory, "chunks", _PREFIXES[part])):
            chunk = name.removesuffix(_SUFFIX)
            if is_id(chunk) and name.endswith(_SUFFIX):
                yield chunk

    def made_ms(self) -> int:
        """When the volume was made, about: all that is on it was written later. Raises OSError."""
        return int(self._disk.stat(os.path.join(self.directory, _FILE)).st_mtime * 1000)

    def move_to_trash(self, chunk: str, now_ms: int) -> None:
        """Take a chunk out of service; its file stays in the trash for a while. Raises OSError."""
        path = self.path_of(chunk)
        size = self._disk.stat(path).st_size
        self._disk.set_mtime(path, now_ms)
        self._disk.rename(path, self.trash_path_of(chunk))
        self._space.count_used(-size)

    def move_to_quarantine(self, chunk: str, why: str, now_ms: int) -> None:
        """Take a bad replica out of service, and keep it with the reason. Raises OSError: it is where it was."""
        path = self.path_of(chunk)
        size = self._disk.stat(path).st_size
        self.quarantine.take(path, chunk, why, now_ms)
        self._space.count_used(-size)

    def unfinished(self) -> list[str]:
        """Names in `tmp/`."""
        return self._disk.names(os.path.join(self.directory, "tmp"))

    def join_cluster(self, cluster: str) -> None:
        """Write down which cluster the volume belongs to from now on."""
        if self._identity.cluster == cluster or not self.holds_chunks:
            return
        self._identity = msgspec.structs.replace(self._identity, cluster=cluster)
        content = msgspec.json.format(msgspec.json.encode(self._identity), indent=2) + b"\n"
        replace_file(self._disk, os.path.join(self.directory, _FILE), content, 0o644)


def open_volume(
    disk: Disk,
    directory: str,
    pool: BufferPool,
    *,
    datanode: str,
    cluster: str | None,
    known_id: str | None,
    reserve_bytes: int,
    reserve_fraction: float,
    clock: Clock,
    durability: Durability = "sync",
    probe_timeout_s: float = 10.0,
) -> Volume:
    """The volume in `directory`; a new one if the directory was never used.

    known_id   the volume that the datanode remembers there; if it is not there, the disk is not mounted
    Raises     Conflict: it belongs to another datanode or cluster, or to a newer version
    """
    missing = False
    try:
        identity = _decoder.decode(read_file(disk, os.path.join(directory, _FILE)))
    except FileNotFoundError:
        missing = known_id is not None
        identity = VolumeIdentity(id=known_id or secrets.token_hex(16), datanode=datanode, cluster=cluster)
        if not missing:
            _make_volume(disk, directory, identity)
    except msgspec.DecodeError as error:
        raise Conflict(f"{directory}/{_FILE} is damaged: {error}") from None
    if identity.format != _FORMAT:
        raise Conflict(f"{directory} was written by a newer version (format {identity.format}); update this datanode")
    if identity.datanode != datanode:
        raise Conflict(f"{directory} belongs to the datanode {identity.datanode}, not to {datanode}")
    if None not in (cluster, identity.cluster) and identity.cluster != cluster:
        raise Conflict(f"{directory} belongs to the cluster {identity.cluster}, not to {cluster}")
    if not missing:
        _complete_volume(disk, directory)
    if missing:
        logger.error("%s does not show the volume %s: is the disk mounted?", directory, known_id)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        file_system = file_system_of(directory, file.read())
    return Volume(
        disk,
        directory,
        identity,
        pool,
        space=Space(reserve_bytes, reserve_fraction),
        health=Health(probe_timeout_s, directory),
        syncing=syncing_for(durability, disk),
        file_system=file_system,
        clock=clock,
        missing=missing,
    )


def _make_volume(disk: Disk, directory: str, identity: VolumeIdentity) -> None:
    """Make the directories, then the identity: a volume without its identity is made again from the start."""
    for name in ("chunks", "tmp", "trash", "quarantine", "health"):
        _ensure_directory(disk, os.path.join(directory, name))
    for prefix in _PREFIXES:
        _ensure_directory(disk, os.path.join(directory, "chunks", prefix))
    disk.sync_directory(os.path.join(directory, "chunks"))
    content = msgspec.json.format(msgspec.json.encode(identity), indent=2) + b"\n"
    replace_file(disk, os.path.join(directory, _FILE), content, 0o644)


def _complete_volume(disk: Disk, directory: str) -> None:
    """Make the directories that a volume of an earlier version lacks."""
    for name in ("quarantine", "health"):
        try:
            _ensure_directory(disk, os.path.join(directory, name))
        except OSError as error:
            # A full or read-only disk is still read; it keeps no bad replicas, and scrubs from the beginning.
            logger.warning("can't make %s in %s: %s", name, directory, error)


def _ensure_directory(disk: Disk, path: str) -> None:
    try:
        disk.make_directory(path)
    except FileExistsError:
        return
