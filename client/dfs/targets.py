"""Where a file is about to go: judged before bytes travel for nothing.

Separate from the commit, which decides: what is found here may have changed by then. It only spares a user the upload
of a file that can't be stored anyway, and says early what is wrong.
"""

from collections.abc import Sequence

from dfs.namenodes import Namenodes
from dfs.protocol.errors import FileExists, FileNotFound, IsADirectory, NotADirectory
from dfs.protocol.messages import Entry, StatMany
from dfs.protocol.names import canonical_path
from dfs.protocol.operations import STAT_MANY


def stat_many(namenodes: Namenodes, paths: Sequence[str]) -> list[Entry | None]:
    """The entries in the order of the paths; None where there is nothing."""
    return namenodes.call(STAT_MANY, StatMany(paths=list(paths))).entries


def check_target(namenodes: Namenodes, path: str, *, overwrite: bool, parents: bool) -> None:
    """Raise what the commit of a file at `path` would raise as things are now."""
    parent = path.rpartition("/")[0] or "/"
    there, above = stat_many(namenodes, [path, parent])
    if there is not None and there.is_directory:
        raise IsADirectory(f"{path} is a directory", path=path)
    if there is not None and not overwrite:
        raise FileExists(f"{path} exists already; -f (overwrite=True) replaces it", path=path)
    if above is None and not parents:
        raise FileNotFound(f"{parent}: no such directory; --parents (parents=True) makes it", path=parent)
    if above is not None and not above.is_directory:
        raise NotADirectory(f"{parent} is a file", path=parent)


def inside(namenodes: Namenodes, path: str, name: str) -> str:
    """`path`, or `name` in it if it is a directory."""
    there = stat_many(namenodes, [path])[0]
    if there is None or not there.is_directory or not name:
        return path
    return canonical_path(f"{path.rstrip('/')}/{name}")
