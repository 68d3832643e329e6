"""How a chunk enters the store: which receipts count, and whether they are enough. Pure.

Separate because it is where durability is decided: a commit is acknowledged for exactly those replicas that pass here.
`read_chunks` checks signatures and needs no transaction; `count_receipts` asks what is true at the commit itself.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dfs.protocol.capability import Receipt, read_receipt
from dfs.protocol.errors import Conflict, InvalidRequest, ReceiptRefused
from dfs.protocol.ids import id_time_ms
from dfs.protocol.messages import NewChunk
from dfs_namenode.liveness import ClusterView
from dfs_namenode.op_ids import FUTURE_MS


class ReadChunk(NamedTuple):
    """A chunk with receipts that are genuine and agree with it."""

    id: bytes
    length: int
    digest: bytes
    receipts: tuple[Receipt, ...]


class Introduced(NamedTuple):
    """A chunk with the receipts that count now: one for each datanode."""

    chunk: ReadChunk
    counted: tuple[Receipt, ...]
    refused: tuple[str, ...]
    """Why the others do not count."""


def read_chunks(chunks: Sequence[NewChunk], *, secret: bytes, principal: str) -> list[ReadChunk]:
    """Check the receipts of all chunks of a request.

    Raises   ReceiptRefused: forged, of another chunk or principal, or in contradiction to what the request says;
             InvalidRequest: a chunk is named twice
    """
    found: dict[str, ReadChunk] = {}
    for chunk in chunks:
        if chunk.id in found:
            raise InvalidRequest(f"the chunk {chunk.id} is named twice", chunk=chunk.id)
        read = ReadChunk(bytes.fromhex(chunk.id), chunk.length, bytes.fromhex(chunk.digest), ())
        receipts = tuple(read_receipt(token, secret) for token in chunk.receipts)
        for receipt in receipts:
            if receipt.chunk != read.id:
                raise ReceiptRefused(f"a receipt of the chunk {chunk.id} is for another chunk", chunk=chunk.id)
            if receipt.principal != principal:
                raise ReceiptRefused(f"the chunk {chunk.id} was stored by somebody else", chunk=chunk.id)
            if (receipt.length, receipt.digest) != (read.length, read.digest):
                raise ReceiptRefused(
                    f"the datanode {receipt.datanode} stored other bytes as the chunk {chunk.id} than the request "
                    "says; send the chunk again",
                    chunk=chunk.id,
                    datanode=receipt.datanode,
                )
        found[chunk.id] = read._replace(receipts=receipts)
    return list(found.values())


def check_age(chunk: ReadChunk, *, now_ms: int, window_ms: int) -> None:
    """Raise ReceiptRefused if the chunk's id is too old to be committed, or of a time to come (F93)."""
    age_ms = now_ms - id_time_ms(chunk.id.hex())
    if age_ms >= window_ms or age_ms < -FUTURE_MS:
        raise ReceiptRefused(
            f"the chunk {chunk.id.hex()} was granted too long ago to be committed; send it again", chunk=chunk.id.hex()
        )


def refuse_used(chunk: ReadChunk) -> ReceiptRefused:
    """The error for an id that has a row, of whatever state (F92)."""
    return ReceiptRefused(
        f"the chunk {chunk.id.hex()} was committed before; send its bytes again as a new chunk", chunk=chunk.id.hex()
    )


def count_receipts(chunk: ReadChunk, cluster: ClusterView) -> Introduced:
    """Sort out the receipts whose datanode, in that life, and volume are in service now (F98)."""
    counted: dict[str, Receipt] = {}
    refused = []
    for receipt in chunk.receipts:
        if cluster.in_service(receipt.datanode, receipt.incarnation, receipt.volume.hex()):
            counted[receipt.datanode] = receipt
        else:
            refused.append(receipt.datanode)
    return Introduced(chunk, tuple(counted.values()), tuple(refused))


def require_enough(introduced: Introduced, *, needed: int) -> None:
    """Raise ReceiptRefused unless so many receipts count."""
    found = len(introduced.counted)
    if found >= needed:
        return
    chunk = introduced.chunk.id.hex()
    gone = f"; not in service any more: {', '.join(introduced.refused)}" if introduced.refused else ""
    raise ReceiptRefused(
        f"the chunk {chunk} has {found} replicas that count, and needs {needed}{gone}; send it again",
        chunk=chunk,
        counted=[receipt.datanode for receipt in introduced.counted],
        refused=list(introduced.refused),
        needed=needed,
    )


def _in_service(cluster: ClusterView, datanode: str, volume: str) -> bool:
    known = cluster.datanodes.get(datanode)
    return known is not None and cluster.in_service(datanode, known.incarnation, volume)


def require_replicas(chunk: bytes, replicas: Iterable[tuple[str, str]], cluster: ClusterView, *, needed: int) -> None:
    """Raise ReceiptRefused unless so many replicas of a staged chunk are in service at its publication.

    replicas   datanode and volume of those that are known to be good
    """
    found = [name for name, volume in replicas if _in_service(cluster, name, volume)]
    if len(found) < needed:
        raise ReceiptRefused(
            f"the staged chunk {chunk.hex()} has {len(found)} replicas in service, and needs {needed}; send it again",
            chunk=chunk.hex(),
            counted=found,
            needed=needed,
        )


def require_readable(chunk: bytes, replicas: Iterable[tuple[str, str]], cluster: ClusterView) -> None:
    """Raise Conflict unless some replica of a chunk without receipts can be read now.

    replicas   datanode and volume of those that are reported
    """
    if not any(cluster.serves(datanode, volume) for datanode, volume in replicas):
        raise Conflict(
            f"no datanode that has the chunk {chunk.hex()} can be read from now; wait until one is back",
            chunk=chunk.hex(),
        )


def require_used(introduced: Iterable[bytes], used: set[bytes]) -> None:
    """Raise InvalidRequest if a chunk is introduced that no extent of the request refers to."""
    for chunk in introduced:
        if chunk not in used:
            raise InvalidRequest(f"the chunk {chunk.hex()} is introduced but not used by any extent", chunk=chunk.hex())
