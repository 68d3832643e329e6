"""The addresses that the gateway uses: those between datanodes, where the namenode names those for clients.

Separate because it is the one thing in which the gateway is not a client like any other: behind NAT, or in compose, a
client's address of a datanode leads nowhere from another datanode. The peers' addresses are those that this datanode
has from its namenode.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

import msgspec

from dfs.protocol.messages import Grants, Layout, Opened, Target
from dfs.protocol.operations import Operation
from dfs.protocol.transport import Transport

Q = TypeVar("Q")
A = TypeVar("A")
PeerUrl = Callable[[str], str | None]
"""The address at which datanodes reach one of them, from its id; None if it is not known."""


def inside(answer: A, peer_url: PeerUrl) -> A:
    """An answer of the namenode with the addresses that hold between datanodes; one that is not known stays."""

    def target(given: Target) -> Target:
        return Target(given.datanode, peer_url(given.datanode) or given.url)

    def layout(given: Layout) -> Layout:
        chunks = {
            chunk: msgspec.structs.replace(source, replicas=[target(one) for one in source.replicas])
            for chunk, source in given.chunks.items()
        }
        return msgspec.structs.replace(given, chunks=chunks)

    changed: object = answer
    if isinstance(answer, Grants):
        grants = [msgspec.structs.replace(one, chain=[target(hop) for hop in one.chain]) for one in answer.grants]
        changed = msgspec.structs.replace(answer, grants=grants)
    elif isinstance(answer, Opened):
        changed = msgspec.structs.replace(answer, layout=layout(answer.layout))
    elif isinstance(answer, Layout):
        changed = layout(answer)
    return cast("A", changed)


@dataclass(frozen=True)
class InsideCaller:
    """Calls namenodes, and takes their answers as a datanode must."""

    transport: Transport
    peer_url: PeerUrl

    def call(self, base_url: str, operation: Operation[Q, A], request: Q, *, timeout_s: float | None = None) -> A:
        return inside(self.transport.call(base_url, operation, request, timeout_s=timeout_s), self.peer_url)
