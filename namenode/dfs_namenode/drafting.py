"""Whose a draft is, and which chunks it lends to its files. Shared by stage, drop_draft and commit.

A chunk that a draft introduced may be used by all later calls for that draft, since one pack can hold more files than
fit into one call. No other draft, and no commit without it, may use the chunk.
"""

from collections.abc import Iterable

from dfs.protocol.errors import Conflict, NotPermitted
from dfs.protocol.ids import id_time_ms
from dfs.protocol.messages import Action, AppendFile, PutFile
from dfs_namenode.introducer import Introducer
from dfs_namenode.store import drafts, meta
from dfs_namenode.store.drafts import Draft
from dfs_namenode.store.transaction import Transaction


def open_draft(tx: Transaction, draft_id: str, principal: str) -> Draft:
    """The draft, if it is this principal's. Raises Conflict: there is none; NotPermitted."""
    draft = own_draft(tx, draft_id, principal)
    if draft is None:
        raise Conflict(
            f"the draft {draft_id} does not exist; it was published, dropped, or idle for too long: begin a new one",
            draft=draft_id,
        )
    return draft


def own_draft(tx: Transaction, draft_id: str, principal: str) -> Draft | None:
    """The draft, or None if there is none.

    Raises   NotPermitted: it is somebody else's; Conflict: it was begun before the store was restored
    """
    draft = drafts.find(tx, bytes.fromhex(draft_id))
    if draft is None and 0 < id_time_ms(draft_id) <= meta.restored_ms(tx):
        # A restore dropped it: begun anew under its id it would become a file without what was staged before.
        raise Conflict(
            f"the draft {draft_id} was lost when the store was restored; begin a new one", draft=draft_id
        )  # fmt: skip
    if draft is not None and draft.principal != principal:
        raise NotPermitted(f"the draft {draft_id} is somebody else's", draft=draft_id)
    return draft


def chunks_named(actions: Iterable[Action]) -> set[str]:
    """The chunks that extents inside these actions name."""
    return {extent.chunk for action in actions if isinstance(action, PutFile | AppendFile) for extent in action.extents}


def allow_chunks(tx: Transaction, draft_id: bytes, named: Iterable[str], introducer: Introducer) -> None:
    """Let extents use those of the chunks that the draft introduced earlier."""
    for chunk in named:
        facts = drafts.chunk_facts(tx, draft_id, chunk)
        if facts is not None:
            introducer.facts[chunk] = facts
