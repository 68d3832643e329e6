"""What this datanode knows from its namenodes: who it is, what time it is there, and where its peers are.

Held in memory for the threads that serve and the ones that report; the part that must survive is handed to the
identity file. Addresses of other datanodes come from here and from nowhere else, so that no client can make this one
connect to a place of its choice.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from dfs.protocol.clock import Clock, PeerClock
from dfs.protocol.errors import Conflict, Unavailable
from dfs.protocol.messages import HeartbeatAnswer, Registered
from dfs_datanode.identity import Identity

logger = logging.getLogger("dfs.datanode.membership")

MEMBER_WAIT_S = 1.0


@dataclass(frozen=True)
class Standing:
    """A datanode that is registered: all that is needed to check a capability and sign a receipt."""

    datanode: str
    cluster: str
    lineage: str
    key: bytes
    incarnation: int


class Membership:
    """Thread-safe. `save` writes an identity to the disk."""

    def __init__(self, identity: Identity, boot: str, clock: Clock, save: Callable[[Identity], None]) -> None:
        self.boot = boot
        self.clock = PeerClock(clock)
        """The namenode's time."""
        self.ask: Callable[[], None] = _ask_nobody
        """Makes the heartbeats come now; set once they exist."""
        self._lock = threading.Condition()
        self._identity = identity
        self._save = save
        self._kept = (identity.cluster, identity.key)
        """What the disk has of the identity that can't be done without."""
        self._standing: Standing | None = None
        self._members: dict[str, str] = {}
        self._members_version = -1
        self._epoch = 0

    @property
    def identity(self) -> Identity:
        return self._identity

    @property
    def members_version(self) -> int:
        return self._members_version

    def standing(self) -> Standing:
        """Raises Unavailable until the datanode is registered."""
        standing = self._standing
        if standing is None:
            raise Unavailable("this datanode has not registered with its namenode yet")
        return standing

    @property
    def is_registered(self) -> bool:
        return self._standing is not None

    def registered(self, answer: Registered) -> None:
        """Take over what a namenode said at registration, and write it down.

        Raises  Conflict: it belongs to another cluster than this datanode
        """
        with self._lock:
            if self._identity.cluster not in (None, answer.cluster):
                raise Conflict(
                    f"this datanode belongs to the cluster {self._identity.cluster}, the namenode to {answer.cluster}; "
                    "give it the right --namenode, or an empty directory"
                )
            if answer.lineage != self._identity.lineage:
                # Epochs are numbers of one history: the leaders of this one begin anew, maybe from an old copy (F63).
                self._epoch = 0
            identity = msgspec.structs.replace(
                self._identity,
                cluster=answer.cluster,
                lineage=answer.lineage,
                key=answer.key,
                seq_seen=max(self._identity.seq_seen, answer.seq),
            )
            if identity != self._identity:
                self._write_down(identity)
            self._identity = identity
            self.clock.follow(answer.time_ms)
            self._standing = Standing(
                identity.datanode, answer.cluster, answer.lineage, bytes.fromhex(answer.key), answer.incarnation
            )
            self._members_version = -1

    def heard(self, answer: HeartbeatAnswer) -> bool:
        """Take over what the answer to a heartbeat tells; whether its commands may be followed.

        Commands of a leader that has been replaced are not.
        """
        with self._lock:
            self.clock.follow(answer.time_ms)
            if answer.members is not None:
                self._members = {member.datanode: member.peer_url for member in answer.members}
                self._members_version = answer.members_version
                self._lock.notify_all()
            if answer.seq > self._identity.seq_seen:
                self._identity = msgspec.structs.replace(self._identity, seq_seen=answer.seq)
            if answer.epoch < self._epoch:
                return False
            self._epoch = answer.epoch
            return True

    def _write_down(self, identity: Identity) -> None:
        """Save an identity. Raises OSError only if the datanode could not be the same one after a restart.

        A disk that is full or read-only takes no new one, and its chunks are served all the same.
        """
        try:
            self._save(identity)
        except OSError as error:
            if (identity.cluster, identity.key) != self._kept:
                raise
            logger.warning("the identity can't be written (%s); it stays as it is on the disk", error)
        else:
            self._kept = (identity.cluster, identity.key)

    def peer_url(self, datanode: str, *, wait_s: float = MEMBER_WAIT_S) -> str | None:
        """Where a datanode of this cluster is reached, or None if no namenode tells.

        One that has just joined may be in a chain before the next heartbeat has brought its address: then the
        heartbeat is asked to come now, and this waits a moment for it.
        """
        url = self._members.get(datanode)
        if url is not None:
            return url
        self.ask()
        with self._lock:
            self._lock.wait_for(lambda: datanode in self._members, wait_s)
            return self._members.get(datanode)


def _ask_nobody() -> None:
    """What `Membership.ask` does before there are heartbeats."""
