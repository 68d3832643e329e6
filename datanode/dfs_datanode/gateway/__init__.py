"""The gateway: files over plain HTTP, for clients that are not ours.

`/files/PATH` on every datanode. Separate from the datanode proper, which keeps chunks and knows no paths: the gateway
is a client like any other that happens to run in the same process. `routes` is all that `app` needs of it.

    door            method → handler, errors → statuses
    download        GET, HEAD; `ranges` and `representation` decide, `listing` shows directories
    upload          PUT; `budget` bounds the memory of all of them together
    webhdfs         the data half of WebHDFS; `crc32c` is the checksum that Hadoop compares
    files           the client library, put together for one principal; `addresses` are those between datanodes
"""

import random
from collections.abc import Callable, Sequence

from dfs.protocol.clock import Clock
from dfs_datanode.gateway.addresses import PeerUrl
from dfs_datanode.gateway.budget import give_big_buffers_back
from dfs_datanode.gateway.door import FilesRoute, Gateway
from dfs_datanode.gateway.files import FilesOf
from dfs_datanode.gateway.webhdfs import WebhdfsRoute

__all__ = ["FilesOf", "FilesRoute", "Gateway", "WebhdfsRoute", "make_gateway"]


def make_gateway(
    namenodes: Sequence[str],
    *,
    datanode: str,
    peer_url: PeerUrl,
    ticket_key: Callable[[], bytes],
    now_ms: Callable[[], int],
    clock: Clock,
    rng: random.Random,
) -> Gateway:
    """The gateway of a datanode; serve `FilesRoute(gateway)`, and `close` it at the end.

    datanode    its id: the head of the chains of what comes in here
    peer_url    how it reaches the others, from their ids
    ticket_key  its key; raises Unavailable while it has not registered
    now_ms      the namenode's time as it follows it
    """
    give_big_buffers_back()
    files_of = FilesOf(namenodes, datanode=datanode, peer_url=peer_url, clock=clock, rng=rng)
    return Gateway(files_of, ticket_key=ticket_key, now_ms=now_ms)
