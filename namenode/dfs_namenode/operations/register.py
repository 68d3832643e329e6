"""register: a datanode begins a life. It gets its key, and an incarnation that makes its earlier lives void.

Who is let in is decided here and nowhere else. A new id shows the join secret. A known id proves its key, since
whoever takes over an id takes over its replicas' good name. Two processes with one id (a copied disk) are told apart
by their boots and addresses while the first one is live (F48).
"""

import logging
from dataclasses import dataclass

from dfs.protocol.capability import register_proof, same
from dfs.protocol.clock import Clock
from dfs.protocol.errors import Conflict, NotPermitted
from dfs.protocol.messages import Register, Registered
from dfs_namenode.commands import Outbox, ReportTurns
from dfs_namenode.history import latch_if_behind
from dfs_namenode.keys import NodeKeys
from dfs_namenode.liveness import Datanode, Liveness
from dfs_namenode.settings import NamenodeSettings
from dfs_namenode.store import datanodes, meta, replicas
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.transaction import Transaction
from dfs_namenode.verifications import Verifications

log = logging.getLogger(__name__)

CLONE_SILENCE_S = 10.0
"""A datanode that was silent for so long may have moved to another address; before, it is taken for a second one."""


@dataclass(frozen=True)
class Admission:
    """What is known when a datanode asks to be let in.

    silence_s   since the last heartbeat of the life that is known; None: not heard since the namenode started
    may_rekey   the store was restored under a new secret, and the datanode has not proved yet that it has its new key
    """

    cluster: str
    join_secret: str
    key: bytes
    known: Datanode | None
    has_replicas: bool
    silence_s: float | None
    may_rekey: bool = False


def judge(request: Register, admission: Admission) -> None:
    """Let it in, or raise Conflict or NotPermitted with what to do."""
    if request.cluster is not None and request.cluster != admission.cluster:
        raise Conflict(
            f"the datanode {request.datanode} belongs to the cluster {request.cluster}, this is {admission.cluster}; "
            "give it the right --namenode, or an empty --dir",
            cluster=admission.cluster,
        )
    may_join = same(request.join_secret, admission.join_secret) if admission.join_secret else True
    known = admission.known
    if known is None:
        if not may_join:
            raise NotPermitted("the join secret is wrong; set the same --join-secret on namenode and datanode")
        return
    lacks_key = admission.may_rekey or _never_got_its_key(request, known, admission.has_replicas)
    if not (has_key(request, admission.key) or (may_join and lacks_key)):
        raise NotPermitted(
            f"a datanode {request.datanode} is known and this one can't prove that it is the same; "
            "start it on its own --dir, or give it another id"
        )
    lives_elsewhere = known.boot != request.boot and known.peer_url != request.peer_url
    if lives_elsewhere and admission.silence_s is not None and admission.silence_s < CLONE_SILENCE_S:
        raise Conflict(
            f"a datanode {request.datanode} is live at {known.peer_url}; two must not share an id: "
            "if its disk was copied, remove the copy",
            live_at=known.peer_url,
        )


def has_key(request: Register, key: bytes) -> bool:
    """Whether the datanode proves that it has the key that this cluster's secret gives it."""
    return same(request.proof, register_proof(key, request.datanode, request.boot))


def _never_got_its_key(request: Register, known: Datanode, has_replicas: bool) -> bool:
    """Whether the answer to the first registration may have been lost on its way: nothing depends on the id yet."""
    return known.boot == request.boot or (known.incarnation == 1 and not has_replicas)


async def register(
    request: Register,
    *,
    store: SqliteStore,
    liveness: Liveness,
    outbox: Outbox,
    reports: ReportTurns,
    verifications: Verifications,
    keys: NodeKeys,
    cluster_id: str,
    settings: NamenodeSettings,
    clock: Clock,
) -> Registered:
    """Begin the life, or recognise a repetition. Repeatable."""
    life = liveness.life(request.datanode)
    silence_s = None if life is None else life[2]

    def begin(tx: Transaction) -> tuple[Datanode, bool, str]:
        known = datanodes.find(tx, request.datanode)
        has_replicas = known is not None and bool(replicas.at_datanode(tx, known.num, after="", up_to="", limit=1))
        may_rekey = known is not None and datanodes.may_rekey(tx, request.datanode)
        judge(
            request,
            Admission(
                cluster=cluster_id,
                join_secret=settings.join_secret,
                key=keys.of(request.datanode),
                known=known,
                has_replicas=has_replicas,
                silence_s=silence_s,
                may_rekey=may_rekey,
            ),
        )
        if may_rekey and has_key(request, keys.of(request.datanode)):
            datanodes.rekeyed(tx, request.datanode)
        elif may_rekey:
            log.warning(
                "%s registers by the join secret alone and gets a new key, since the store was restored; "
                "its next life must prove that it has it",
                request.datanode,
            )
        if request.cluster is not None:
            latch_if_behind(tx, datanode=request.datanode, seq_seen=request.seq_seen)
        identity = meta.identity(tx)
        assert identity is not None, "a store that is served has an identity"
        lineage = identity.lineage
        if known is not None and known.boot == request.boot and known.peer_url == request.peer_url:
            return known, False, lineage
        return datanodes.begin_life(tx, _described(request)), True, lineage

    node, is_new_life, lineage = await store.write(begin)
    if is_new_life or life is None:
        outbox.begin_life(node.id)
        verifications.forget_all()
        liveness.registered(node)
        reports.want(node.id)
    with store.read() as snapshot:
        seq = meta.last_seq(snapshot)
    return Registered(
        cluster=cluster_id,
        lineage=lineage,
        key=keys.of(node.id).hex(),
        incarnation=node.incarnation,
        time_ms=clock.wall_ms(),
        seq=seq,
        heartbeat_interval_s=settings.heartbeat_interval_s,
        report_interval_s=settings.report_interval_s,
    )


def _described(request: Register) -> Datanode:
    return Datanode(
        id=request.datanode,
        peer_url=request.peer_url,
        client_url=request.client_url,
        rack=request.rack,
        version=request.version,
        boot=request.boot,
        volumes=tuple(request.volumes),
    )
