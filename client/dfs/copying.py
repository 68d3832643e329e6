"""Copies of directories: the source is listed, and its files are copied in groups, by reference.

Separate because it is the one change of the namespace that takes more than one commit: a tree of any size can't be
copied in one transaction without holding up everybody else.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dfs.many import batches
from dfs.protocol.errors import Conflict
from dfs.protocol.messages import Action, Copy, MakeDirectory

if TYPE_CHECKING:
    from dfs.client import Client

GROUP = 1000
"""Actions in one commit."""


def copy_tree(client: "Client", source: str, target: str, *, overwrite: bool, parents: bool) -> int:
    """Copy what is in the directory `source` into the directory `target`. The number of files.

    Raises  Conflict: `target` lies in `source`; FileExists: a file is there and `overwrite` is not given
    """
    inside = source.rstrip("/") + "/"
    if target == source or target.startswith(inside):
        raise Conflict(f"{source} can't be copied into itself", path=target)
    files = 0
    for group in batches(_actions(client, source, target, overwrite=overwrite, parents=parents), GROUP):
        client.commit(group)
        files += sum(isinstance(action, Copy) for action in group)
    return files


def _actions(client: "Client", source: str, target: str, *, overwrite: bool, parents: bool) -> Iterator[Action]:
    cut = len(source.rstrip("/"))
    yield MakeDirectory(path=target, parents=parents, exist_ok=True)
    for _, directories, files in client.walk(source):
        for entry in directories:
            yield MakeDirectory(path=target.rstrip("/") + entry.path[cut:], exist_ok=True, mode=entry.mode)
        for entry in files:
            yield Copy(source=entry.path, target=target.rstrip("/") + entry.path[cut:], overwrite=overwrite)
