"""orphans: one page of what datanodes have and no file does, with why it is still kept.

Its own module because it is about chunks without a place in the namespace, which no other inspection sees. For those
who bring a lost history back it also answers leave to read: what an orphan holds is known to nobody but its writer.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec

from dfs.protocol.capability import sign_capability
from dfs.protocol.ids import id_time_ms
from dfs.protocol.messages import ListOrphans, OrphanChunk, OrphanReplica, OrphansPage, WhyKept
from dfs_namenode.garbage import may_bury
from dfs_namenode.history import history_of, may_adopt
from dfs_namenode.layout import Granting
from dfs_namenode.liveness import ClusterView
from dfs_namenode.store import meta, orphans
from dfs_namenode.store.orphans import Found
from dfs_namenode.store.sqlite import SqliteStore


@dataclass(frozen=True)
class OrphanRules:
    """The settings that decide about orphans."""

    orphan_age_ms: int
    commit_window_ms: int


async def list_orphans(
    request: ListOrphans,
    *,
    store: SqliteStore,
    granting: Granting,
    now_ms: int,
    rules: OrphanRules,
    held_back: bool,
    pending: Collection[str],
) -> OrphansPage:
    """One page.

    held_back  a safe mode is on
    pending    datanodes whose report is still awaited
    """
    page = await asyncio.to_thread(_page, request, store, granting, now_ms, rules, held_back)
    cluster = granting.cluster
    away = {name for name in cluster.datanodes if cluster.state(name) != "live"}
    return msgspec.structs.replace(page, unreported=sorted(away | set(pending)))


def _page(
    request: ListOrphans, store: SqliteStore, granting: Granting, now_ms: int, rules: OrphanRules, held_back: bool
) -> OrphansPage:
    with store.read() as snapshot:
        found = orphans.page(snapshot, after=request.after, newest_first=request.newest_first, limit=request.limit + 1)
        latched = meta.latch(snapshot) is not None
        history = history_of(snapshot)
    more = len(found) > request.limit
    found = found[: request.limit]
    return OrphansPage(
        orphans=[
            _shown(
                one,
                granting,
                why=why_kept(one, now_ms=now_ms, rules=rules, latched=latched, held_back=held_back),
                adoptable=not one.known
                and may_adopt(one.chunk, history, now_ms=now_ms, window_ms=rules.commit_window_ms),
                read=request.read,
            )
            for one in found
        ],
        next=found[-1].chunk if more else None,
        time_ms=now_ms,
        orphan_age_ms=rules.orphan_age_ms,
        history_ms=history.began_ms,
        lineage=history.lineage,
        history_seq=history.seq_before,
    )


def why_kept(found: Found, *, now_ms: int, rules: OrphanRules, latched: bool, held_back: bool) -> WhyKept:
    """Why an orphan is still there. Pure."""
    if latched:
        return "history"
    if not found.known and not may_bury(found.chunk, now_ms=now_ms, orphan_age_ms=rules.orphan_age_ms, latched=False):
        return "young"
    return "safe_mode" if held_back else "deletion"


def _shown(found: Found, granting: Granting, *, why: WhyKept, adoptable: bool, read: bool) -> OrphanChunk:
    replicas = _readable_first(found, granting.cluster)
    capability = ""
    if read and found.agreed is not None:
        capability = sign_capability(
            granting.keys.chain([replica.datanode for replica in replicas if replica.live]),
            operation="r",
            chunk=found.chunk,
            start=0,
            end=found.agreed[0],
            expires_ms=granting.expires_ms,
            principal=granting.principal,
        )
    return OrphanChunk(
        chunk=found.chunk,
        granted_ms=id_time_ms(found.chunk),
        why=why,
        replicas=replicas,
        agreed=found.agreed is not None,
        adoptable=adoptable,
        capability=capability,
    )


def _readable_first(found: Found, cluster: ClusterView) -> list[OrphanReplica]:
    replicas: Sequence[OrphanReplica] = [
        OrphanReplica(
            datanode=cluster.by_num[orphan.datanode],
            url=cluster.client_url(cluster.by_num[orphan.datanode]),
            volume=orphan.volume,
            length=orphan.length,
            digest=orphan.digest,
            seen_ms=orphan.seen_ms,
            state="bad" if orphan.bad else "good",
            live=cluster.serves(cluster.by_num[orphan.datanode], orphan.volume),
        )
        for orphan in found.replicas
        if orphan.datanode in cluster.by_num
    ]
    return sorted(replicas, key=lambda replica: (not replica.live, replica.state == "bad"))
