"""`dfs mv` and `dfs cp`: what they share is where a source ends up."""

from collections.abc import Callable

import click

from dfs.cli.session import Failures, Session, remote_command
from dfs.protocol.errors import FileExists, FileNotFound, IsADirectory, NotADirectory

_REPLACING = {False: "-f replaces a file", True: "-f replaces only files, not directories"}


@remote_command("mv")
@click.argument("sources", metavar="SOURCE…", nargs=-1, required=True)
@click.argument("target", metavar="TARGET")
@click.option("-f", "force", is_flag=True, help="Replace an existing file.")
def mv_command(session: Session, sources: tuple[str, ...], target: str, force: bool) -> None:
    """Move or rename.

    Into TARGET if that is a directory. Atomic, also for directories of any size.
    """

    def move(source: str, to: str) -> None:
        try:
            session.fs.rename(source, to, overwrite=force)
        except FileExists as error:
            raise FileExists(f"{to}: already exists; {_REPLACING[force]}") from error

    _each(session, sources, target, move)


@remote_command("cp")
@click.argument("sources", metavar="SOURCE…", nargs=-1, required=True)
@click.argument("target", metavar="TARGET")
@click.option("-r", "-R", "recursive", is_flag=True, help="Directories and all that is below.")
@click.option("-f", "force", is_flag=True, help="Replace an existing file.")
def cp_command(session: Session, sources: tuple[str, ...], target: str, recursive: bool, force: bool) -> None:
    """Copy within the cluster; no data moves.

    Into TARGET if that is a directory. The copies share the stored bytes.
    """

    def copy(source: str, to: str) -> None:
        try:
            session.fs.copy(source, to, overwrite=force, recursive=recursive)
        except FileExists as error:
            raise FileExists(f"{to}: already exists; {_REPLACING[force]}") from error
        except IsADirectory as error:
            if recursive or not is_directory(session, source):
                raise
            raise IsADirectory(f"{source}: is a directory; -r copies it with all that is below") from error

    _each(session, sources, target, copy)


def _each(session: Session, texts: tuple[str, ...], target_text: str, work: Callable[[str, str], None]) -> None:
    """Do `work` with each source and the path that it gets: TARGET, or its name within the directory TARGET."""
    target = session.path(target_text)
    paths = session.paths(texts)
    into = is_directory(session, target)
    if target.endswith("/") and not into:
        must_be_directory(session, target)
    failures = Failures()
    sources: list[str] = []
    for path in paths:
        with failures.item(counts=False):
            sources += session.expand(path)
    if len(sources) > 1 and not into:
        must_be_directory(session, target)
    for source in sources:
        with failures.item():
            work(source, within(target, source) if into else target)
    failures.finish()


def is_directory(session: Session, path: str) -> bool:
    """Whether a directory is there now."""
    try:
        return session.fs.stat(path).is_directory
    except (FileNotFound, NotADirectory):
        return False


def must_be_directory(session: Session, path: str) -> None:
    """Raise unless `path` is a directory, which a slash at its end or several sources ask for."""
    if not session.fs.exists(path):
        raise FileNotFound(f"{path}: no such directory; make it with mkdir")
    if not session.fs.stat(path).is_directory:
        raise NotADirectory(f"{path}: not a directory, and it has to be one here")


def within(directory: str, source: str) -> str:
    """The path of a source's name within a directory."""
    return f"{directory.rstrip('/')}/{source.rstrip('/').rpartition('/')[2]}"
