"""Who this datanode is, kept beside its chunks so that it is the same one after a restart.

Each data directory has a copy of `identity.json` (written as a whole, mode 0600, because it holds the key), so that
losing a disk never loses the identity; and a lock, so that two processes never share a directory. The identity
remembers which volume each directory held: a directory that comes back empty is a disk that is not mounted, and must
not be taken for a new one.

The highest sequence number that was seen changes with every commit, and must not be old after a power cut: it has a
file of its own, `seq_seen`, which each volume's upkeep writes on its own disk. So no heartbeat waits for a disk, and
nothing that is written often can spoil the key.
"""

import errno
import fcntl
import logging
import os
import secrets
import zlib

import msgspec

from dfs.protocol.directories import refuse_other_roles
from dfs.protocol.errors import Conflict, InvalidRequest
from dfs.protocol.messages import Id, NodeId
from dfs_datanode.disk import Disk, read_file, replace_file

logger = logging.getLogger("dfs.datanode.identity")

_FORMAT = 1
_FILE = "identity.json"
_LOCK = "lock"
_SEQ_SEEN = "seq_seen"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `identity.json`."""

    format: int = _FORMAT
    datanode: NodeId
    cluster: Id | None = None
    lineage: Id | None = None
    key: str = ""
    """Hex, from the namenode. Signs receipts, checks capabilities."""
    seq_seen: int = 0
    """The highest sequence number that any namenode ever showed, so that one from an old backup is recognised. In the
    file it is that of the last registration, and counts only where no disk has a later one (`note_seq_seen`)."""
    volumes: dict[str, Id] = {}
    """Directory -> volume id."""


_decoder = msgspec.json.Decoder(Identity)


def lock_directory(disk: Disk, directory: str) -> int:
    """Hold the directory for this process, until the descriptor is closed. Raises Conflict, InvalidRequest."""
    refuse_other_roles(directory, "datanode")
    try:
        os.makedirs(directory, exist_ok=True)
        fd = disk.open(os.path.join(directory, _LOCK), os.O_RDWR | os.O_CREAT)
    except OSError as error:
        if error.errno == errno.EROFS:
            fd = disk.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        else:
            why = (error.strerror or str(error)).lower()
            raise InvalidRequest(f"can't use the data directory {directory}: {why}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        disk.close(fd)
        raise Conflict(f"another process uses the data directory {directory}") from None
    return fd


def load_identity(disk: Disk, directories: tuple[str, ...], wanted_id: str) -> Identity:
    """The identity that these directories hold, or a new one.

    wanted_id  a configured id, or "" for the one that is there or a minted one
    Raises     Conflict: the directories belong to different datanodes, or to another one than configured
    """
    found: list[Identity] = []
    for directory in directories:
        path = os.path.join(directory, _FILE)
        try:
            identity = _decoder.decode(read_file(disk, path))
        except FileNotFoundError:
            continue
        except msgspec.DecodeError as error:
            raise Conflict(f"{path} is damaged ({error}); restore it from a copy in another data directory") from None
        if identity.format != _FORMAT:
            raise Conflict(f"{path} was written by a newer version (format {identity.format}); update this datanode")
        found.append(identity)
    if not found:
        return Identity(datanode=wanted_id or f"dn-{secrets.token_hex(6)}")
    newest = max(found, key=lambda one: (one.cluster is not None, one.seq_seen))
    if len({one.datanode for one in found}) > 1 or len({one.cluster for one in found if one.cluster}) > 1:
        raise Conflict("the data directories belong to different datanodes or clusters; start one process for each")
    if wanted_id not in ("", newest.datanode):
        raise Conflict(f"the data directories belong to the datanode {newest.datanode}, not to {wanted_id}")
    noted = [seq for directory in directories if (seq := _seq_noted(disk, directory)) is not None]
    return msgspec.structs.replace(newest, seq_seen=max(noted)) if noted else newest


def note_seq_seen(disk: Disk, directory: str, seq: int) -> None:
    """Keep the highest sequence number that was seen, durably, on one disk. Raises OSError."""
    replace_file(disk, os.path.join(directory, _SEQ_SEEN), _noted(seq))


def _noted(seq: int) -> bytes:
    # With a checksum: a number that a flipped bit made larger would latch the namenode.
    number = b"%d" % seq
    return b"%s %08x\n" % (number, zlib.crc32(number))


def _seq_noted(disk: Disk, directory: str) -> int | None:
    """What a disk has of it; None: nothing that can be used."""
    path = os.path.join(directory, _SEQ_SEEN)
    try:
        content = read_file(disk, path)
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.warning("%s can't be read (%s), and counts for nothing", path, error)
        return None
    number = content.partition(b" ")[0]
    if not number.isdigit() or content != _noted(int(number)):
        logger.warning("%s is damaged, and counts for nothing", path)
        return None
    return int(number)


def save_identity(disk: Disk, directories: list[str], identity: Identity) -> None:
    """Write every copy. Raises OSError only if not one could be written."""
    content = msgspec.json.format(msgspec.json.encode(identity), indent=2) + b"\n"
    failure: OSError | None = None
    written = 0
    for directory in directories:
        try:
            replace_file(disk, os.path.join(directory, _FILE), content)
            written += 1
        except OSError as error:
            failure = error
    if not written and failure is not None:
        raise failure
