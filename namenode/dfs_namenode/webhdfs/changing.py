"""The operations of WebHDFS that change names: without bytes, at the namenode alone."""

from dfs.protocol import errors as e
from dfs.protocol.messages import Concat, MakeDirectory, Remove, Rename
from dfs.protocol.names import canonical_path
from dfs.protocol.webhdfs import bad_parameter
from dfs.protocol.webhdfs_errors import FILE_EXISTS, IO, RemoteException
from dfs_namenode.webhdfs.asking import Answer, Ask, Nothing, Table, yes

_OPTIONS = frozenset({"NONE", "OVERWRITE", "TO_TRASH"})
"""TO_TRASH says why, and changes nothing."""


async def make_directories(ask: Ask) -> Answer:
    mode = ask.parameters.permission()
    await ask.act(MakeDirectory(path=ask.path, parents=True, exist_ok=True, mode=mode))
    return yes(True)


async def delete(ask: Ask) -> Answer:
    recursive = ask.parameters.flag("recursive")
    if ask.path == "/":
        return yes(False)
    outcome = await ask.act(Remove(path=ask.path, recursive=recursive, missing_ok=True))
    return yes(outcome.changed)


async def rename(ask: Ask) -> Answer:
    target = canonical_path(ask.parameters.required("destination"))
    options = {option.strip().upper() for option in ask.parameters.text("renameoptions").split(",")} - {""}
    if options:
        return await _rename_or_raise(ask, target, options)
    return yes(await _rename(ask, target))


async def _rename(ask: Ask, target: str) -> bool:
    """As `mv` does it: into a directory that is there; what can't be done is False, and no error."""
    if ask.path == "/":
        return False
    try:
        entry = await ask.stat(target)
    except e.FileNotFound:
        pass
    else:
        if entry.is_directory:
            target = f"{target.rstrip('/')}/{ask.path.rpartition('/')[2]}"
    try:
        await ask.act(Rename(source=ask.path, target=target))
    except (e.FileNotFound, e.FileExists, e.IsADirectory, e.DirectoryNotEmpty, e.Conflict):
        return False
    return True


async def _rename_or_raise(ask: Ask, target: str, options: set[str]) -> Answer:
    if not options <= _OPTIONS:
        raise bad_parameter(
            "renameoptions", f"{','.join(sorted(options))}: only NONE, OVERWRITE and TO_TRASH are known"
        )
    if target == ask.path:
        raise RemoteException(FILE_EXISTS, f"The source {ask.path} and destination {target} are the same")
    try:
        await ask.act(Rename(source=ask.path, target=target, overwrite="OVERWRITE" in options))
    except e.FileExists:
        raise RemoteException(FILE_EXISTS, f"rename destination {target} already exists") from None
    except e.DirectoryNotEmpty:
        raise RemoteException(IO, f"rename destination directory is not empty: {target}") from None
    except (e.IsADirectory, e.NotADirectory) as error:
        if not error.message.startswith(f"{target}: "):
            raise
        words = f"Source {ask.path} and destination {target} must both be files, or both be directories"
        raise RemoteException(IO, words) from None
    return Nothing()


async def concat(ask: Ask) -> Answer:
    sources = [canonical_path(source) for source in ask.parameters.required("sources").split(",") if source]
    await ask.act(Concat(path=ask.path, sources=sources))
    return Nothing()


CHANGING: Table = {
    ("PUT", "MKDIRS"): make_directories,
    ("PUT", "RENAME"): rename,
    ("DELETE", "DELETE"): delete,
    ("POST", "CONCAT"): concat,
}
