"""`dfs mkdir`, `dfs rm`, `dfs rmdir`: making and removing entries of the tree."""

import click

from dfs.cli.session import Failures, Session, each_path, remote_command
from dfs.protocol.errors import DirectoryNotEmpty, FileNotFound, IsADirectory


@remote_command("mkdir")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
@click.option("-p", "parents", is_flag=True, help="Make missing parents too; an existing directory is no error.")
def mkdir_command(session: Session, paths: tuple[str, ...], parents: bool) -> None:
    """Make directories."""
    failures = Failures()
    for path in session.paths(paths):
        with failures.item():
            try:
                session.fs.mkdir(path, parents=parents, exist_ok=parents)
            except FileNotFound as error:
                raise FileNotFound(f"{path}: its parent is no directory yet; -p makes what is missing") from error
    failures.finish()


@remote_command("rm")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
@click.option(
    "-r", "-R", "recursive", is_flag=True, help="Directories and all that is below; at once, whatever the size."
)
@click.option("-f", "force", is_flag=True, help="What is missing is no error.")
def rm_command(session: Session, paths: tuple[str, ...], recursive: bool, force: bool) -> None:
    """Remove files, and with -r directories.

    They are gone at once; the space comes back after a while.
    """

    def remove(path: str) -> None:
        try:
            session.fs.remove(path, recursive=recursive, missing_ok=force, kind="any" if recursive else "file")
        except IsADirectory as error:
            raise IsADirectory(f"{path}: is a directory; -r removes it with all that is below") from error

    each_path(session, paths, remove, missing_ok=force)


@remote_command("rmdir")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
def rmdir_command(session: Session, paths: tuple[str, ...]) -> None:
    """Remove empty directories."""

    def remove(path: str) -> None:
        try:
            session.fs.remove(path, kind="directory")
        except DirectoryNotEmpty as error:
            raise DirectoryNotEmpty(f"{path}: directory not empty; rm -r removes all of it") from error

    each_path(session, paths, remove)
