"""What may be done to the tree of names, decided from facts. Pure: no store, no clock, no I/O.

`store.namespace` looks up where a path leads (a Place); the functions here say what an action on it means, or raise
what the caller should hear. `actions` then does it. Separate because these rules are what users see of a file system,
and a table of cases tests them without a database.

Every error names the path at fault first, as `ls` would. A missing parent is reported before anything about the last
component, since nothing can be said about that.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from dfs.protocol.errors import (
    Conflict,
    DirectoryNotEmpty,
    FileExists,
    FileNotFound,
    InvalidRequest,
    IsADirectory,
    NotADirectory,
    PreconditionFailed,
)
from dfs.protocol.messages import AppendFile, Concat, Copy, Entry, MakeDirectory, PutFile, Remove, Rename, Truncate
from dfs.protocol.names import join_path
from dfs_namenode.store.schema import KIND_DIRECTORY, KIND_FILE, ROOT_INODE

ATTRIBUTES_MAX = 64
"""Attributes of one file after merging; the messages bound what one call can bring."""
DIRECTORY_MODE = 0o755
FILE_MODE = 0o644


class FileContent(NamedTuple):
    """What a file is made of."""

    id: int
    size: int
    digest: bytes
    replication: int


class Inode(NamedTuple):
    """A file or directory, with the facts of its content."""

    parent_id: int
    name: str
    id: int
    kind: int
    mode: int
    owner: str
    group: str
    mtime_ns: int
    version: int
    content_id: int | None
    attributes: str | None
    """JSON; of the content for a file."""
    size: int | None
    digest: bytes | None
    replication: int | None

    @property
    def is_directory(self) -> bool:
        return self.kind == KIND_DIRECTORY

    @property
    def content(self) -> FileContent:
        """Of a file; a directory has none."""
        assert self.content_id is not None, "a directory has no content"
        assert self.size is not None
        assert self.digest is not None
        assert self.replication is not None
        return FileContent(self.content_id, self.size, self.digest, self.replication)

    @property
    def etag(self) -> str:
        """Quoted and strong; "" for a directory."""
        return "" if self.digest is None else etag_of(self.version, self.digest)


class Place(NamedTuple):
    """Where a path leads."""

    parts: tuple[str, ...]
    ancestors: tuple[int, ...]
    """Inode ids of the existing directories on the way, the root first; empty for the root itself."""
    missing: tuple[str, ...]
    """Names of the parents that don't exist, topmost first."""
    obstacle: tuple[str, ...] | None
    """The path of a parent that is a file."""
    inode: Inode | None
    """What is there."""

    @property
    def path(self) -> str:
        return join_path(self.parts)


def etag_of(version: int, digest: bytes) -> str:
    """The entity tag of a version: its number, and half of the digest, which no other version of it has."""
    return f'"{version}-{digest[:8].hex()}"'


def not_found(path: str, **detail: object) -> FileNotFound:
    return FileNotFound(f"{path}: no such file or directory", path=path, **detail)


def require_parents(place: Place, *, make: bool) -> None:
    """Raise unless the last component could be created: NotADirectory, or FileNotFound without `make`."""
    if place.obstacle is not None:
        raise NotADirectory(f"{join_path(place.obstacle)}: not a directory", path=place.path)
    if place.missing and not make:
        parent = join_path(place.parts[: len(place.ancestors)])
        raise FileNotFound(
            f"{parent}: no such directory; make it first, or ask for missing parents to be made", path=place.path
        )


def require_inode(place: Place) -> Inode:
    """What is there. Raises NotADirectory, FileNotFound."""
    if place.obstacle is not None:
        raise NotADirectory(f"{join_path(place.obstacle)}: not a directory", path=place.path)
    if place.inode is None:
        raise not_found(place.path)
    return place.inode


def require_file(place: Place) -> Inode:
    """The file that is there. Raises also IsADirectory."""
    inode = require_inode(place)
    if inode.is_directory:
        raise IsADirectory(f"{place.path}: is a directory", path=place.path)
    return inode


def require_version(place: Place, version: int | None) -> None:
    """Raise PreconditionFailed unless the file there has that version; None asks for nothing."""
    if version is None:
        return
    if place.inode is None:
        raise PreconditionFailed(
            f"{place.path}: version {version} was expected, but it does not exist", path=place.path
        )
    if place.inode.version != version:
        raise PreconditionFailed(
            f"{place.path}: version {version} was expected, but version {place.inode.version} is there",
            path=place.path,
            version=place.inode.version,
        )


def decide_put(place: Place, action: PutFile) -> Literal["create", "replace"]:
    """Whether a put makes a file or replaces one."""
    require_parents(place, make=action.parents)
    if action.when == "absent" and place.inode is not None:
        raise FileExists(f"{place.path}: already exists", path=place.path)
    if place.inode is not None and place.inode.is_directory:
        raise IsADirectory(f"{place.path}: is a directory", path=place.path)
    if action.when == "version":
        require_version(place, action.if_version)
    return "create" if place.inode is None else "replace"


def decide_append(place: Place, action: AppendFile) -> Literal["create", "append"]:
    """Whether an append makes a file or adds to one."""
    if action.drop_tail and action.if_version is None:
        raise InvalidRequest(f"{place.path}: drop_tail needs if_version", path=place.path)
    require_parents(place, make=action.create and action.parents)
    if place.inode is not None and place.inode.is_directory:
        raise IsADirectory(f"{place.path}: is a directory", path=place.path)
    require_version(place, action.if_version)
    if action.if_inode is not None and (place.inode is None or place.inode.id != action.if_inode):
        raise FileNotFound(f"{place.path}: the file that was to be appended to is gone", path=place.path)
    if place.inode is not None:
        return "append"
    if not action.create:
        raise not_found(place.path)
    return "create"


def decide_mkdir(place: Place, action: MakeDirectory) -> Literal["nothing", "create"]:
    """Whether there is anything to make. A file in the place is in the way, whatever was asked."""
    require_parents(place, make=action.parents)
    if place.inode is None:
        return "create"
    if action.exist_ok and place.inode.is_directory:
        return "nothing"
    raise FileExists(f"{place.path}: already exists", path=place.path)


def decide_remove(place: Place, action: Remove, *, has_children: bool) -> Literal["nothing", "delete", "detach"]:
    """How to remove: nothing is there, one row goes, or a tree is cut off.

    has_children   of a directory in the place
    """
    if not place.parts:
        raise Conflict("/: the root can't be removed", path="/")
    inode = place.inode
    if inode is None:
        if action.missing_ok:
            return "nothing"
        require_inode(place)
        raise AssertionError("nothing is there")
    if action.kind == "file" and inode.is_directory:
        raise IsADirectory(f"{place.path}: is a directory", path=place.path)
    if action.kind == "directory" and not inode.is_directory:
        raise NotADirectory(f"{place.path}: not a directory", path=place.path)
    require_version(place, action.if_version)
    if not has_children:
        return "delete"
    if not action.recursive:
        raise DirectoryNotEmpty(
            f"{place.path}: directory not empty; remove it recursively to remove what is in it", path=place.path
        )
    return "detach"


def decide_rename(
    source: Place, target: Place, action: Rename, *, target_has_children: bool
) -> Literal["nothing", "move", "replace"]:
    """Whether a rename changes nothing, moves to a free place, or replaces what is there (S8, F28)."""
    if not source.parts:
        raise Conflict("/: the root can't be moved", path="/")
    moved = require_inode(source)
    if moved.id in target.ancestors:
        raise Conflict(
            f"{source.path}: can't be moved into its own subdirectory {target.path}",
            path=source.path,
            target=target.path,
        )
    require_parents(target, make=action.parents)
    if target.inode is None:
        return "move"
    if target.inode.id == moved.id:
        return "nothing"
    _check_replaceable(moved, source, target, overwrite=action.overwrite)
    if target_has_children:
        raise DirectoryNotEmpty(f"{target.path}: directory not empty", path=target.path)
    return "replace"


def _check_replaceable(moved: Inode, source: Place, target: Place, *, overwrite: bool) -> None:
    there = target.inode
    assert there is not None
    if there.id == ROOT_INODE:
        raise Conflict("/: the root can't be replaced", path="/")
    if there.id in source.ancestors:
        raise DirectoryNotEmpty(f"{target.path}: directory not empty, {source.path} is in it", path=target.path)
    if not overwrite:
        raise FileExists(f"{target.path}: already exists", path=target.path)
    if moved.is_directory and not there.is_directory:
        raise NotADirectory(f"{target.path}: not a directory", path=target.path)
    if there.is_directory and not moved.is_directory:
        raise IsADirectory(f"{target.path}: is a directory", path=target.path)


def decide_copy(source: Place, target: Place, action: Copy) -> Literal["create", "replace"]:
    """Whether a copy makes a file or replaces one."""
    copied = require_file(source)
    require_version(source, action.if_version)
    require_parents(target, make=action.parents)
    if target.inode is None:
        return "create"
    if target.inode.is_directory:
        raise IsADirectory(f"{target.path}: is a directory", path=target.path)
    if target.inode.id == copied.id:
        raise Conflict(f"{source.path}: can't be copied onto itself", path=source.path)
    if not action.overwrite:
        raise FileExists(f"{target.path}: already exists", path=target.path)
    return "replace"


def decide_concat(place: Place, sources: Sequence[Place], action: Concat) -> tuple[Inode, list[Inode]]:
    """The file that grows, and those that are joined to it."""
    target = require_file(place)
    require_version(place, action.if_version)
    joined = [require_file(source) for source in sources]
    if len({target.id, *(inode.id for inode in joined)}) <= len(joined):
        raise Conflict(f"{place.path}: a file can't be joined to itself, nor twice", path=place.path)
    return target, joined


def decide_truncate(place: Place, action: Truncate) -> Literal["cut", "nothing"]:
    """Whether a file becomes shorter."""
    old = require_file(place)
    require_version(place, action.if_version)
    if action.size > old.content.size:
        raise InvalidRequest(f"{place.path}: has {old.content.size} bytes, and is only made shorter", path=place.path)
    return "nothing" if action.size == old.content.size else "cut"


def merge_attributes(path: str, old: dict[str, str], new: dict[str, str] | None, drop: list[str]) -> dict[str, str]:
    """The attributes after a change: those of `drop` go, then `new` ones come."""
    merged = {name: value for name, value in old.items() if name not in drop}
    merged.update(new or {})
    if len(merged) > ATTRIBUTES_MAX:
        raise InvalidRequest(
            f"{path}: would have {len(merged)} attributes; at most {ATTRIBUTES_MAX} are kept", path=path
        )
    return merged


def entry_of(path: str, inode: Inode, attributes: dict[str, str]) -> Entry:
    """An inode as listings and `stat` show it."""
    return Entry(
        path=path,
        name=inode.name,
        kind="directory" if inode.kind != KIND_FILE else "file",
        size=inode.size or 0,
        mtime_ns=inode.mtime_ns,
        mode=inode.mode,
        owner=inode.owner,
        group=inode.group,
        replication=inode.replication or 0,
        version=inode.version,
        etag=inode.etag,
        inode=inode.id,
        attributes=attributes,
    )
