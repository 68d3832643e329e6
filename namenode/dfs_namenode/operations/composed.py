"""composed: a datanode has made the new chunk that it was told to make, or could not.

Its own module because it is where compaction takes effect, in one transaction: the new chunk is introduced as a
commit's is, with receipts that count now; the extents that are still what the plan saw refer to it from then on; what
they leave is kept for readers that hold places in it. Until that transaction the new chunk is an orphan, and after it
nothing can undo it, so that a crash at any moment leaves one of the two.
"""

import logging
from collections.abc import Awaitable, Callable

from dfs.protocol.errors import DfsError, InvalidRequest, ReceiptRefused
from dfs.protocol.messages import ComposedChunk, NewChunk
from dfs_namenode.compositions import Compositions, Order
from dfs_namenode.introducer import Introducer
from dfs_namenode.introduction import ReadChunk, read_chunks
from dfs_namenode.keys import NodeKeys
from dfs_namenode.liveness import ClusterView
from dfs_namenode.store import compaction, oplog
from dfs_namenode.store.oplog import Change
from dfs_namenode.store.transaction import Transaction

log = logging.getLogger(__name__)
PRINCIPAL = "compaction"
"""In whose name composed chunks are stored: their receipts are good for nothing else."""
NO_INODE = 0
"""In the change log: a content moved, whatever names it has."""

Write = Callable[[Callable[[Transaction], tuple[int, int] | None]], Awaitable[tuple[int, int] | None]]


async def composed(
    answer: ComposedChunk,
    *,
    datanode: str,
    orders: Compositions,
    write: Write,
    cluster: Callable[[], ClusterView],
    keys: NodeKeys,
    window_ms: int,
    keep_ms: int,
) -> None:
    """Take a datanode's answer. Repeatable: an order is taken once, and an answer without one changes nothing.

    write    fenced: only the leader compacts
    keep_ms  how long what extents have left is kept at least
    """
    order = orders.take(answer.chunk, datanode)
    if order is None:
        log.info("%s tells of the chunk %s, which nobody waits for", datanode, answer.chunk)
        return
    try:
        read = _read(answer, order, keys)
        done = await write(lambda tx: swap(tx, order, read, cluster(), window_ms=window_ms, keep_ms=keep_ms))
    except (ReceiptRefused, InvalidRequest) as error:
        log.warning("the chunk %s that %s composed is not taken: %s", answer.chunk, datanode, error)
        orders.did_not(order)
        return
    except DfsError:
        orders.did_not(order)
        raise
    finally:
        orders.settled(order)
    if done is None:
        log.info("all that %s composed as %s was removed meanwhile", datanode, answer.chunk)
        return
    orders.succeeded(emptied=done[0], saved=done[1])


def _read(answer: ComposedChunk, order: Order, keys: NodeKeys) -> ReadChunk:
    """The new chunk with its receipts. Raises ReceiptRefused, InvalidRequest."""
    if answer.why:
        raise InvalidRequest(answer.why)
    if answer.length != order.length or not answer.digest:
        raise InvalidRequest(f"it has {answer.length} bytes, and should have {order.length}")
    new = NewChunk(answer.chunk, answer.length, answer.digest, list(answer.receipts))
    return read_chunks([new], secret=keys.secret, principal=PRINCIPAL)[0]


def swap(
    tx: Transaction, order: Order, new: ReadChunk, cluster: ClusterView, *, window_ms: int, keep_ms: int
) -> tuple[int, int] | None:
    """Let extents refer to the new chunk: how many old ones nothing refers to now, and the bytes that saves.

    None: no extent is left that could, and the new chunk stays an orphan. Raises ReceiptRefused: as a commit would.
    """
    moved = compaction.move_extents(tx, order.moves, new.id)
    if not moved.contents:
        return None
    introducer = Introducer(tx, cluster)
    introducer.introduce([new], window_ms=window_ms)
    introducer.refer([(new.id, moved.size)], replication=moved.replication)
    introducer.finish()
    emptied = compaction.leave(tx, moved.old, keep_until_ms=tx.now_ms + keep_ms)
    changes = [Change("compact", NO_INODE, content_id=content) for content in sorted(moved.contents)]
    oplog.log_changes(tx, PRINCIPAL, changes)
    return len(emptied), sum(emptied) - new.length
