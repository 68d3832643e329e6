"""The tie to one namenode: register, then a heartbeat every few seconds, and follow what its answers say.

One of these runs for each namenode URL, each in a loop of its own, so that a namenode that hangs delays nobody else.
Commands come with the answers: a datanode calls its namenode, never the other way round.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from dfs.protocol.capability import register_proof
from dfs.protocol.errors import Conflict, DfsError, NotPermitted, StaleIncarnation
from dfs.protocol.messages import Command, Durability, Empty, Heartbeat, Register, Registered
from dfs.protocol.operations import CLUSTER, HEARTBEAT, REGISTER
from dfs.protocol.transport import Transport
from dfs_datanode.chunk_store import ChunkStore
from dfs_datanode.membership import Membership
from dfs_datanode.outbox import Outbox

logger = logging.getLogger("dfs.datanode.heartbeat")

RETRY_S = 1.0
"""Between attempts to register."""
TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Introduction:
    """How a datanode presents itself."""

    peer_url: str
    client_url: str
    rack: str
    join_secret: str
    durability: Durability = "sync"


class NamenodeLink:
    """Speaks with the namenode at `url`. Used by one thread.

    perform      takes the commands of an answer; must return at once
    streams      how many chunks are being received or sent now
    pulling      chunks whose pull waits its turn or makes progress
    refused      called with the reason when the namenode will never take this datanode: it ends the process
    """

    def __init__(
        self,
        url: str,
        *,
        transport: Transport,
        membership: Membership,
        store: ChunkStore,
        outbox: Outbox,
        introduction: Introduction,
        perform: Callable[[list[Command]], None],
        streams: Callable[[], int],
        pulling: Callable[[], list[str]] = list,
        refused: Callable[[DfsError], None],
    ) -> None:
        self.url = url
        self.seq = 0
        """The namenode's sequence number, as of its last answer."""
        self.report_interval_s = 3600.0
        self.registrations = 0
        self._transport = transport
        self._membership = membership
        self._store = store
        self._outbox = outbox
        self._introduction = introduction
        self._perform = perform
        self._streams = streams
        self._pulling = pulling
        self._refused = refused
        self._registered: Registered | None = None
        self._silence: type[DfsError] | None = None

    def turn(self) -> float:
        """Register, or send one heartbeat; the seconds until the next."""
        if self._registered is None:
            return self._register()
        return self._beat(self._registered)

    def _register(self) -> float:
        membership = self._membership
        identity = membership.identity
        proof = register_proof(bytes.fromhex(identity.key), identity.datanode, membership.boot) if identity.key else ""
        try:
            answer = self._transport.call(
                self.url,
                REGISTER,
                Register(
                    datanode=identity.datanode,
                    boot=membership.boot,
                    cluster=identity.cluster,
                    lineage=identity.lineage,
                    seq_seen=identity.seq_seen,
                    peer_url=self._introduction.peer_url,
                    client_url=self._introduction.client_url,
                    rack=self._introduction.rack,
                    version=version("dfs"),
                    join_secret=self._introduction.join_secret,
                    proof=proof,
                    volumes=self._store.states(),
                    durability=self._introduction.durability,
                ),
                timeout_s=TIMEOUT_S,
            )
            membership.registered(answer)
        except (Conflict, NotPermitted) as error:
            return self._judge_refusal(error)
        except DfsError as error:
            self._unheard(error)
            return RETRY_S
        for volume in self._store.volumes:
            volume.join_cluster(answer.cluster)
        self._registered = answer
        self.registrations += 1
        self._silence = None
        self.seq = answer.seq
        self.report_interval_s = answer.report_interval_s
        logger.info("registered with %s as %s, incarnation %d", self.url, identity.datanode, answer.incarnation)
        return 0.0

    def _judge_refusal(self, error: DfsError) -> float:
        """Go on where the refusal may pass: another process with our id may just be dying."""
        ours = self._membership.identity.cluster
        if isinstance(error, Conflict) and ours is not None and self._cluster_there() in (ours, None):
            self._unheard(error)
            return RETRY_S
        if self._membership.is_registered:
            self._unheard(error)
            return RETRY_S
        self._refused(type(error)(f"the namenode at {self.url} refuses this datanode: {error}"))
        return RETRY_S

    def _cluster_there(self) -> str | None:
        try:
            return self._transport.call(self.url, CLUSTER, Empty(), timeout_s=TIMEOUT_S).cluster
        except DfsError as error:
            self._unheard(error)
            return None

    def _beat(self, registered: Registered) -> float:
        membership = self._membership
        batch = self._outbox.batch(self.url)
        message = Heartbeat(
            datanode=membership.identity.datanode,
            incarnation=registered.incarnation,
            boot=membership.boot,
            lineage=membership.identity.lineage or registered.lineage,
            seq_seen=membership.identity.seq_seen,
            volumes=self._store.states(),
            durability=self._introduction.durability,
            active_streams=self._streams(),
            members_version=membership.members_version,
            stored=batch.stored,
            deleted=batch.deleted,
            checked=batch.checked,
            failed=batch.failed,
            suspects=batch.suspects,
            composed=batch.composed,
            beat=batch.number,
            pulling=self._pulling(),
        )
        try:
            answer = self._transport.call(self.url, HEARTBEAT, message, timeout_s=TIMEOUT_S)
        except StaleIncarnation:
            logger.warning("the namenode at %s does not know this life of the datanode: registering again", self.url)
            self._registered = None
            return 0.0
        except DfsError as error:
            self._unheard(error)
            return registered.heartbeat_interval_s
        self._silence = None
        self._outbox.delivered(batch, self.url)
        self.seq = answer.seq
        if answer.lineage != membership.identity.lineage:
            # The namenode's history was replaced: our standing must say so before anything is signed again.
            self._registered = None
            return 0.0
        if membership.heard(answer):
            self._perform(answer.commands)
        return registered.heartbeat_interval_s

    def _unheard(self, error: DfsError) -> None:
        """Log a silence once, not every three seconds; and again if it becomes another one: a refusal, say."""
        log = logger.debug if self._silence is type(error) else logger.warning
        log("the namenode at %s does not take this datanode's word: %s; going on trying", self.url, error)
        self._silence = type(error)

    @property
    def boot(self) -> str:
        """The number of this life, which every call of ours carries."""
        return self._membership.boot

    @property
    def incarnation(self) -> int | None:
        """Of this life, or None while it is not registered there."""
        return None if self._registered is None else self._registered.incarnation
