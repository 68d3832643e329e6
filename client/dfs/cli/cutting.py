"""`dfs concat` and `dfs truncate`: files joined and cut, without moving data."""

import click

from dfs.cli.session import Failures, Session, each_path, remote_command
from dfs.cli.transfer import SIZE
from dfs.protocol.errors import FileNotFound


@remote_command("concat")
@click.argument("path", metavar="DEST")
@click.argument("sources", metavar="SOURCE…", nargs=-1, required=True)
@click.option("--create", is_flag=True, help="Make DEST if it does not exist.")
def concat_command(session: Session, path: str, sources: tuple[str, ...], create: bool) -> None:
    """Move the contents of files behind the end of DEST.

    In their order, all of it at one instant; the sources are gone then. No data moves. A pattern gives its matches in
    the order of their names.
    """
    target = session.path(path)
    texts = session.paths(sources)
    failures = Failures()
    found: list[str] = []
    for text in texts:
        with failures.item(counts=False):
            found += session.expand(text)
    # All of it or nothing: what is missing must not be left out of the middle.
    failures.finish()
    if create and not session.fs.exists(target):
        session.fs.write_bytes(target, b"", overwrite=False)
    try:
        session.fs.concat(target, found)
    except FileNotFound as error:
        if create or session.fs.exists(target):
            raise
        raise FileNotFound(f"{target}: no such file; --create makes it") from error


@remote_command("truncate")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
@click.option("-s", "--size", "size", type=SIZE, metavar="SIZE", required=True, help="Bytes, or like 64MiB.")
def truncate_command(session: Session, paths: tuple[str, ...], size: int) -> None:
    """Cut files to a size; what is behind it is gone.

    A file can't become longer. No data moves, and who reads the file sees the version that he opened.
    """

    def cut(path: str) -> None:
        session.fs.truncate(path, size)

    each_path(session, paths, cut)
