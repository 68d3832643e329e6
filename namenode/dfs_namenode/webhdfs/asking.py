"""A WebHDFS request as the operations see it, and the kinds of answers that they give.

Separate so that the operations know neither Starlette nor sockets: each takes an `Ask` and returns an answer, or
raises a DfsError or a RemoteException; the door sends what comes out.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dfs.protocol.ids import new_id
from dfs.protocol.messages import Action, ClusterFacts, Commit, Committed, Empty, Entry, Outcome, Stat
from dfs.protocol.operations import CLUSTER, COMMIT, STAT, Operation
from dfs.protocol.server import Caller
from dfs.protocol.webhdfs import Parameters
from dfs_namenode.doors import Doors


@dataclass(frozen=True)
class House:
    """What all requests share.

    doors       the operations, the live datanodes, the time
    peer_url    how this namenode reaches a datanode, from its id
    passes_on   whether bytes go through the namenode, instead of clients being sent to datanodes
    describing  held by whoever reads attributes and then writes them
    """

    doors: Doors
    peer_url: Callable[[str], str]
    passes_on: bool
    describing: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True)
class Ask:
    """One request, decoded.

    query  as it came, for a Location
    host   and port under which the client knows the namenode
    """

    house: House
    path: str
    parameters: Parameters
    caller: Caller
    query: bytes
    host: str

    async def call(self, operation: Operation[Any, Any], request: Any) -> Any:
        """Run an operation for the caller."""
        return await self.house.doors.call(operation, request, self.caller)

    async def facts(self) -> ClusterFacts:
        facts: ClusterFacts = await self.call(CLUSTER, Empty())
        return facts

    async def stat(self, path: str | None = None) -> Entry:
        """What is at the request's path, or at another one."""
        entry: Entry = await self.call(STAT, Stat(path=self.path if path is None else path))
        return entry

    async def act(self, action: Action) -> Outcome:
        """Do one action."""
        request = Commit(op_id=new_id(self.house.doors.now_ms()), actions=[action])
        done: Committed = await self.call(COMMIT, request)
        return done.outcomes[0]


@dataclass(frozen=True)
class Json:
    """200, and a JSON document."""

    value: Mapping[str, Any]


@dataclass(frozen=True)
class Nothing:
    """200, and no body."""


@dataclass(frozen=True)
class Redirect:
    """307; or the Location as JSON for clients that do not want to be redirected."""

    location: str


@dataclass(frozen=True)
class Stream:
    """200, and a JSON document that is too long to be held: its pieces."""

    pieces: AsyncIterator[bytes]


@dataclass(frozen=True)
class PassOn:
    """What a datanode answers to the same request: `target` of the first of `base_urls` that can be reached.

    may_repeat  it has no effect, so that the next one may be asked if the first does not answer soon
    """

    base_urls: Sequence[str]
    target: str
    may_repeat: bool = False


Answer = Json | Nothing | Redirect | Stream | PassOn
Work = Callable[[Ask], Awaitable[Answer]]
Table = Mapping[tuple[str, str], Work]
"""Operations by method and name."""


def yes(value: bool) -> Json:
    """The answer of an operation that may do nothing."""
    return Json({"boolean": value})
