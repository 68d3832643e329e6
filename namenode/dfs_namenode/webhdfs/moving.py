"""The operations of WebHDFS that move bytes: here it is only decided which datanode does it, and how it is reached.

A client is sent there by a redirect. Where its network has no way to the datanodes (NAT, Docker) the namenode passes
the request on instead: the Location leads back to itself, with `data=true`. What a Location says holds for the life of
a stream: a read is tied to the version that was found, an append to the file.
"""

import random
import zlib
from collections.abc import Sequence
from urllib.parse import urlsplit

from dfs.protocol import errors as e
from dfs.protocol.ids import new_id
from dfs.protocol.messages import Open, Opened, Target
from dfs.protocol.operations import OPEN
from dfs.protocol.webhdfs import APPEND_TO, CONTENT, DATA, NO_REDIRECT, REPEAT, carried_on, overwrites, target_of
from dfs.protocol.webhdfs_errors import FILE_EXISTS, IO, RemoteException
from dfs_namenode.webhdfs.asking import Answer, Ask, PassOn, Redirect, Table


async def create(ask: Ask) -> Answer:
    if ask.path == "/":
        raise RemoteException(FILE_EXISTS, "/ already exists as a directory")
    if _is_second_step(ask):
        return _pass_on(ask, _candidates(ask))
    # Refused here if that is certain already, so that no body is sent in vain; the datanode's commit decides.
    try:
        entry = await ask.stat()
    except e.FileNotFound:
        pass
    else:
        if entry.is_directory:
            raise RemoteException(FILE_EXISTS, f"{ask.path} already exists as a directory")
        if not overwrites(ask.parameters):
            raise RemoteException(FILE_EXISTS, f"{ask.path} for client {ask.caller.principal} already exists")
    return _send_on(ask, _any(ask))


async def append(ask: Ask) -> Answer:
    if _is_second_step(ask):
        # Always to the same one as long as all are there: it remembers what it has appended.
        live = sorted(_candidates(ask), key=lambda target: target.datanode)
        first = zlib.crc32(ask.parameters.text(REPEAT).encode()) % len(live)
        return _pass_on(ask, live[first:] + live[:first])
    entry = await ask.stat()
    if entry.is_directory:
        raise e.IsADirectory(f"{ask.path}: is a directory", path=ask.path)
    return _send_on(ask, _any(ask), **{APPEND_TO: entry.inode, REPEAT: new_id(ask.house.doors.now_ms())})


async def open_file(ask: Ask) -> Answer:
    offset = ask.parameters.position("offset") or 0
    if _is_second_step(ask):
        return _pass_on(ask, _candidates(ask), may_repeat=True)
    opened: Opened = await ask.call(OPEN, Open(path=ask.path, offset=offset, length=1))
    size = opened.layout.size
    if offset > size:
        raise RemoteException(IO, f"Offset={offset} out of the range [0, {size}); OPEN, path={ask.path}")
    return _send_on(ask, _holder(ask, opened), **{CONTENT: opened.layout.content})


async def get_file_checksum(ask: Ask) -> Answer:
    if _is_second_step(ask):
        return _pass_on(ask, _candidates(ask))
    opened: Opened = await ask.call(OPEN, Open(path=ask.path, offset=0, length=1))
    return _send_on(ask, _holder(ask, opened), **{CONTENT: opened.layout.content})


async def truncate(ask: Ask) -> Answer:
    """Needs the digests of what is left, so a datanode does it; clients expect the answer here."""
    ask.parameters.required("newlength")
    return _pass_on(ask, _candidates(ask))


def _is_second_step(ask: Ask) -> bool:
    return ask.house.passes_on and ask.parameters.flag(DATA)


def _candidates(ask: Ask) -> list[Target]:
    """The datanodes that answer, in any order; not those that the client could not reach. Raises NotEnoughDatanodes."""
    live = list(ask.house.doors.live())
    excluded = set(ask.parameters.text("excludedatanodes").split(","))
    found = [target for target in live if not _names(target) & excluded] or live
    if not found:
        raise e.NotEnoughDatanodes("no datanode is alive now; try again in a moment")
    return random.sample(found, len(found))


def _names(target: Target) -> set[str]:
    """How a client may call a datanode."""
    return {target.datanode, urlsplit(target.url).netloc}


def _any(ask: Ask) -> Target:
    return _candidates(ask)[0]


def _holder(ask: Ask, opened: Opened) -> Target:
    """A datanode that has the first of the bytes; any live one if there are none, or none can be reached."""
    candidates = _candidates(ask)
    reachable = {target.datanode for target in candidates}
    for extent in opened.layout.extents:
        for replica in opened.layout.chunks[extent.chunk].replicas:
            if replica.datanode in reachable:
                return replica
    return candidates[0]


def _send_on(ask: Ask, target: Target, **extra: object) -> Redirect:
    """To the datanode, or back here."""
    base = target.url.rstrip("/")
    if ask.house.passes_on:
        if not ask.host or not ask.host.isascii():
            raise e.InvalidRequest("the request has no Host, so that no way back to here can be told")
        base, extra = f"http://{ask.host}", {**extra, DATA: "true"}
    query = carried_on(ask.query, NO_REDIRECT, DATA, **extra)
    return Redirect(f"{base}{target_of(ask.path)}?{query}")


def _pass_on(ask: Ask, targets: Sequence[Target], *, may_repeat: bool = False) -> PassOn:
    bases = [ask.house.peer_url(target.datanode) or target.url for target in targets]
    return PassOn(bases, f"{target_of(ask.path)}?{carried_on(ask.query, NO_REDIRECT, DATA)}", may_repeat)


MOVING: Table = {
    ("PUT", "CREATE"): create,
    ("POST", "APPEND"): append,
    ("GET", "OPEN"): open_file,
    ("GET", "GETFILECHECKSUM"): get_file_checksum,
    ("POST", "TRUNCATE"): truncate,
}
