"""The operations of WebHDFS that look: at names, sums, places and the cluster."""

from collections.abc import AsyncIterator

import msgspec

from dfs.protocol import errors as e
from dfs.protocol.messages import (
    EXTENTS_WINDOW_MAX,
    Empty,
    FilePlaces,
    ListDirectory,
    Listing,
    Open,
    Stat,
    Status,
    Usage,
)
from dfs.protocol.operations import LIST, PLACES, STATUS, USAGE
from dfs.protocol.webhdfs import bad_parameter
from dfs_namenode.webhdfs import shapes
from dfs_namenode.webhdfs.asking import Answer, Ask, Json, Nothing, Stream, Table
from dfs_namenode.webhdfs.attributes import chosen_xattrs, xattrs_of

PAGE = 1000
"""Entries of a page of a listing; longer ones are sent page by page."""
_ACTIONS = frozenset(f"{r}{w}{x}" for r in "r-" for w in "w-" for x in "x-")


async def get_file_status(ask: Ask) -> Answer:
    return Json({"FileStatus": shapes.file_status(await ask.stat(), await ask.facts())})


async def list_status(ask: Ask) -> Answer:
    first = await _page(ask, "")
    if first.next is None:
        return Json({"FileStatuses": {"FileStatus": await _statuses(ask, first)}})
    return Stream(_listing(ask, first))


async def _page(ask: Ask, after: str) -> Listing:
    page: Listing = await ask.call(LIST, ListDirectory(path=ask.path, after=after, limit=PAGE))
    return page


async def _statuses(ask: Ask, page: Listing) -> list[shapes.Shape]:
    # A file lists itself under its own path, the entries of a directory under longer ones.
    of_directory = not (len(page.entries) == 1 and page.entries[0].path == ask.path)
    return shapes.file_statuses(page.entries, await ask.facts(), of_directory=of_directory)


async def _listing(ask: Ask, page: Listing) -> AsyncIterator[bytes]:
    """The text of a listing of many pages."""
    begin = b'{"FileStatuses":{"FileStatus":['
    while True:
        yield begin + msgspec.json.encode(await _statuses(ask, page))[1:-1]
        if page.next is None:
            break
        page = await _page(ask, page.next)
        begin = b"," if page.entries else b""
    yield b"]}}"


async def list_status_batch(ask: Ask) -> Answer:
    page = await _page(ask, ask.parameters.text("startafter"))
    return Json(shapes.directory_listing(await _statuses(ask, page), more=page.next is not None))


async def get_content_summary(ask: Ask) -> Answer:
    return Json({"ContentSummary": shapes.content_summary(await _usage(ask))})


async def get_quota_usage(ask: Ask) -> Answer:
    return Json({"QuotaUsage": shapes.quota_usage(await _usage(ask))})


async def _usage(ask: Ask) -> Usage:
    usage: Usage = await ask.call(USAGE, Stat(path=ask.path))
    return usage


async def get_status(ask: Ask) -> Answer:
    status: Status = await ask.call(STATUS, Empty())
    return Json({"FsStatus": shapes.fs_status(status)})


async def get_server_defaults(ask: Ask) -> Answer:
    return Json({"FsServerDefaults": shapes.server_defaults(await ask.facts())})


async def get_home_directory(ask: Ask) -> Answer:
    return Json({"Path": f"/user/{ask.caller.principal}"})


async def get_trash_root(ask: Ask) -> Answer:
    return Json({"Path": f"/user/{ask.caller.principal}/.Trash"})


async def check_access(ask: Ask) -> Answer:
    """Nobody is refused anything that is there: dfs does not know its callers."""
    action = ask.parameters.required("fsaction").lower()
    if action not in _ACTIONS:
        raise bad_parameter("fsaction", f"{action!r} is not of the form rwx")
    await ask.stat()
    return Nothing()


async def get_block_locations_3(ask: Ask) -> Answer:
    offset, end = _window(ask)
    places = await _places(ask, offset, end)
    return Json({"BlockLocations": {"BlockLocation": shapes.block_locations(places, offset, end)}})


async def get_block_locations(ask: Ask) -> Answer:
    offset, end = _window(ask)
    places = await _places(ask, offset, end)
    return Json({"LocatedBlocks": shapes.located_blocks(places, offset, end, (await ask.facts()).cluster)})


def _window(ask: Ask) -> tuple[int, int]:
    offset = ask.parameters.position("offset") or 0
    return offset, shapes.window_end(offset, ask.parameters.position("length"))


async def _places(ask: Ask, offset: int, end: int) -> FilePlaces:
    """All of the window, however many pages that takes."""
    whole: FilePlaces = await ask.call(PLACES, Open(path=ask.path, offset=offset, length=end - offset))
    next_offset = whole.next_offset
    while next_offset is not None:
        page: FilePlaces = await ask.call(PLACES, Open(path=ask.path, offset=next_offset, length=end - next_offset))
        if page.entry.version != whole.entry.version:
            raise e.Unavailable(f"{ask.path}: was changed while it was looked at; try again")
        known = {chunk.id for chunk in whole.chunks}
        whole = msgspec.structs.replace(
            whole,
            extents=[*whole.extents, *page.extents],
            chunks=[*whole.chunks, *(chunk for chunk in page.chunks if chunk.id not in known)],
            next_offset=page.next_offset,
        )
        assert len(page.extents) <= EXTENTS_WINDOW_MAX
        next_offset = page.next_offset
    return whole


async def get_xattrs(ask: Ask) -> Answer:
    names, encoding = ask.parameters.all("xattr.name"), ask.parameters.text("encoding", "TEXT")
    return Json({"XAttrs": chosen_xattrs(await ask.stat(), names, encoding)})


async def list_xattrs(ask: Ask) -> Answer:
    names = sorted(xattrs_of(await ask.stat()))
    return Json({"XAttrNames": msgspec.json.encode(names).decode()})


async def get_storage_policy(ask: Ask) -> Answer:
    await ask.stat()
    return Json({"BlockStoragePolicy": shapes.hot_policy()})


async def get_all_storage_policies(_: Ask) -> Answer:
    return Json({"BlockStoragePolicies": {"BlockStoragePolicy": [shapes.hot_policy()]}})


async def get_delegation_token(_: Ask) -> Answer:
    """There is none, and none is needed."""
    return Json({"Token": None})


LOOKING: Table = {
    ("GET", "GETFILESTATUS"): get_file_status,
    ("GET", "LISTSTATUS"): list_status,
    ("GET", "LISTSTATUS_BATCH"): list_status_batch,
    ("GET", "GETCONTENTSUMMARY"): get_content_summary,
    ("GET", "GETQUOTAUSAGE"): get_quota_usage,
    ("GET", "GETSTATUS"): get_status,
    ("GET", "GETSERVERDEFAULTS"): get_server_defaults,
    ("GET", "GETHOMEDIRECTORY"): get_home_directory,
    ("GET", "GETTRASHROOT"): get_trash_root,
    ("GET", "CHECKACCESS"): check_access,
    ("GET", "GETFILEBLOCKLOCATIONS"): get_block_locations_3,
    ("GET", "GET_BLOCK_LOCATIONS"): get_block_locations,
    ("GET", "GETXATTRS"): get_xattrs,
    ("GET", "LISTXATTRS"): list_xattrs,
    ("GET", "GETSTORAGEPOLICY"): get_storage_policy,
    ("GET", "GETALLSTORAGEPOLICY"): get_all_storage_policies,
    ("GET", "GETDELEGATIONTOKEN"): get_delegation_token,
}
