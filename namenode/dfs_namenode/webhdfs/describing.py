"""The operations of WebHDFS that change what describes a file or directory."""

from collections.abc import Callable

from dfs.protocol import errors as e
from dfs.protocol.messages import REPLICATION_MAX, Entry, SetAttributes
from dfs.protocol.webhdfs import bad_parameter
from dfs.protocol.webhdfs_errors import IO, RemoteException
from dfs_namenode.namespace import DIRECTORY_MODE
from dfs_namenode.webhdfs import acls
from dfs_namenode.webhdfs.asking import Answer, Ask, Json, Nothing, Table, yes
from dfs_namenode.webhdfs.attributes import (
    ACCESS_TIME_ATTRIBUTE,
    ACL_ATTRIBUTE,
    check_flags,
    settable_xattr_key,
    stored_value,
)
from dfs_namenode.webhdfs.shapes import NO_GROUP, NO_OWNER, permission_text

_NS_IN_MS = 1_000_000
_TIME_MS_MAX = (1 << 62) // _NS_IN_MS
_UNCHANGED = -1
"""A time that stays."""


async def set_replication(ask: Ask) -> Answer:
    wanted = ask.parameters.number("replication", low=1, high=REPLICATION_MAX)
    if wanted is None:
        wanted = (await ask.facts()).replication
    try:
        await ask.act(SetAttributes(path=ask.path, replication=wanted))
    except (e.FileNotFound, e.IsADirectory):
        return yes(False)
    return yes(True)


async def set_owner(ask: Ask) -> Answer:
    owner, group = ask.parameters.text("owner"), ask.parameters.text("group")
    for name, value in (("owner", owner), ("group", group)):
        if len(value) > 255:
            raise bad_parameter(name, f"it has {len(value)} characters; at most 255 are kept")
    if not owner and not group:
        raise bad_parameter("owner", "Both owner and group are empty.")
    await ask.act(SetAttributes(path=ask.path, owner=owner or None, group=group or None))
    return Nothing()


async def set_permission(ask: Ask) -> Answer:
    mode = ask.parameters.permission()
    # Not between the two halves of a change to the list, which writes the mode that it has read.
    async with ask.house.describing:
        await ask.act(SetAttributes(path=ask.path, mode=DIRECTORY_MODE if mode is None else mode))
    return Nothing()


async def set_times(ask: Ask) -> Answer:
    modified = ask.parameters.number("modificationtime", low=_UNCHANGED, high=_TIME_MS_MAX)
    accessed = ask.parameters.number("accesstime", low=_UNCHANGED, high=_TIME_MS_MAX)
    keep_modified, keep_accessed = modified in (None, _UNCHANGED), accessed in (None, _UNCHANGED)
    await ask.act(
        SetAttributes(
            path=ask.path,
            mtime_ns=None if modified is None or keep_modified else modified * _NS_IN_MS,
            attributes=None if keep_accessed else {ACCESS_TIME_ATTRIBUTE: str(accessed)},
        )
    )
    return Nothing()


# --- extended attributes ------------------------------------------------------------------------------------------


async def set_xattr(ask: Ask) -> Answer:
    name = ask.parameters.required("xattr.name")
    key, value = settable_xattr_key(name), stored_value(ask.parameters.text("xattr.value"))
    flags = ask.parameters.text("flag", "CREATE,REPLACE")
    async with ask.house.describing:
        check_flags(flags, name, (await ask.stat()).attributes, key)
        await ask.act(SetAttributes(path=ask.path, attributes={key: value}))
    return Nothing()


async def remove_xattr(ask: Ask) -> Answer:
    key = settable_xattr_key(ask.parameters.required("xattr.name"))
    async with ask.house.describing:
        if key not in (await ask.stat()).attributes:
            raise RemoteException(IO, "No matching attributes found for remove operation")
        await ask.act(SetAttributes(path=ask.path, drop_attributes=[key]))
    return Nothing()


# --- access control lists -----------------------------------------------------------------------------------------


async def get_acl_status(ask: Ask) -> Answer:
    entry = await ask.stat()
    status = acls.acl_status(
        entry, entry.owner or NO_OWNER, entry.group or NO_GROUP, permission_text(entry.mode)
    )  # fmt: skip
    return Json({"AclStatus": status})


async def _change_acl(ask: Ask, change: Callable[[acls.Acl, Entry], acls.Acl]) -> Answer:
    async with ask.house.describing:
        entry = await ask.stat()
        acl = change(acls.acl_of(entry), entry)
        text = acl.stored()
        await ask.act(
            SetAttributes(
                path=ask.path,
                mode=acl.mode(entry.mode),
                attributes={ACL_ATTRIBUTE: text} if text else None,
                drop_attributes=[] if text else [ACL_ATTRIBUTE],
            )
        )
    return Nothing()


async def modify_acl_entries(ask: Ask) -> Answer:
    spec = acls.parse_spec(ask.parameters.required("aclspec"), with_bits=True)
    return await _change_acl(ask, lambda acl, entry: acls.merged(acl, spec, is_directory=entry.is_directory))


async def set_acl(ask: Ask) -> Answer:
    spec = acls.parse_spec(ask.parameters.required("aclspec"), with_bits=True)
    return await _change_acl(ask, lambda acl, entry: acls.replaced(acl, spec, is_directory=entry.is_directory))


async def remove_acl_entries(ask: Ask) -> Answer:
    spec = acls.parse_spec(ask.parameters.required("aclspec"), with_bits=False)
    return await _change_acl(ask, lambda acl, entry: acls.without(acl, spec, is_directory=entry.is_directory))


async def remove_default_acl(ask: Ask) -> Answer:
    return await _change_acl(ask, lambda acl, _: acls.without_default(acl))


async def remove_acl(ask: Ask) -> Answer:
    return await _change_acl(ask, lambda acl, _: acls.bare(acl))


DESCRIBING: Table = {
    ("PUT", "SETREPLICATION"): set_replication,
    ("PUT", "SETOWNER"): set_owner,
    ("PUT", "SETPERMISSION"): set_permission,
    ("PUT", "SETTIMES"): set_times,
    ("PUT", "SETXATTR"): set_xattr,
    ("PUT", "REMOVEXATTR"): remove_xattr,
    ("GET", "GETACLSTATUS"): get_acl_status,
    ("PUT", "MODIFYACLENTRIES"): modify_acl_entries,
    ("PUT", "SETACL"): set_acl,
    ("PUT", "REMOVEACLENTRIES"): remove_acl_entries,
    ("PUT", "REMOVEDEFAULTACL"): remove_default_acl,
    ("PUT", "REMOVEACL"): remove_acl,
}
