"""drop_draft: throw a draft away. One that is gone is no error: dropping is what one does when in doubt."""

from dfs.protocol.messages import DropDraft, Empty
from dfs_namenode.drafting import own_draft
from dfs_namenode.idempotency import once, request_digest
from dfs_namenode.store import drafts
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.transaction import Transaction
from dfs_namenode.write_rules import WriteRules


async def drop_draft(request: DropDraft, *, principal: str, store: SqliteStore, rules: WriteRules) -> Empty:
    """Remove the draft; its space comes back after the grace. Raises NotPermitted: it is somebody else's."""
    digest = request_digest("drop_draft", request, principal)

    def do(tx: Transaction) -> Empty:
        if own_draft(tx, request.draft, principal) is not None:
            drafts.end(tx, bytes.fromhex(request.draft))
        return Empty()

    return await store.write(
        lambda tx: once(tx, request.op_id, digest, Empty, retention_ms=rules.op_retention_ms, do=lambda: do(tx))
    )
