"""`dfs checksum`."""

import sys

import click

from dfs.cli.session import Session, each_path, remote_command
from dfs.cli.show import print_json


@remote_command("checksum")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each file.")
def checksum_command(session: Session, paths: tuple[str, ...], as_json: bool) -> None:
    """Show the digest of files.

    Of the content alone: equal content, put the same way, has the same digest.
    """

    def show(path: str) -> None:
        digest = session.fs.checksum(path)
        if as_json:
            print_json({"path": path, "checksum": digest})
        else:
            sys.stdout.write(f"{digest}  {path}\n")

    each_path(session, paths, show)
