"""`dfs admin backup` and `dfs admin restore`: a copy of the namenode's store, and a store of that copy.

Beside `admin`, because restoring is done while no namenode runs, on the machine on which it shall.
"""

import importlib
import os
import shlex
import sys
from dataclasses import asdict
from typing import Any

import click

from dfs.cli.session import Session, remote_command
from dfs.cli.show import count, human_duration, human_size, print_json, table
from dfs.protocol.clock import SystemClock
from dfs.protocol.errors import FileExists

_RESTORE_NEXT = (
    ("dfs namenode --dir {directory} …", "at the old address, with the old options"),
    ("dfs status", "until all datanodes are back"),
    ("dfs admin rebuild --from-datanodes", "brings back what is newer"),
    ("dfs admin resolve-history --yes", "when nothing is missing any more"),
)
"""The steps after a restore, and why."""


@remote_command("backup")
@click.option("--output", metavar="FILE", help="Write the backup to this local file, too.")
@click.option("-f", "force", is_flag=True, help="Replace FILE if it exists.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def backup_command(session: Session, output: str | None, force: bool, as_json: bool) -> None:
    """Back the namenode's store up now, and wait until it is stored in the cluster.

    The cluster does so by itself, too; `dfs status` shows how old the last backup is.
    """
    if output is not None and not force and os.path.lexists(output):
        raise FileExists(f"{output} exists already; -f replaces it", path=output)
    made = session.fs.admin.backup(output, overwrite=force)
    record = {"seq": made.seq, "bytes": made.bytes, "seconds": round(made.seconds, 3), "made_ms": made.made_ms}
    if as_json:
        print_json(record | ({"output": output} if output is not None else {}))
        return
    where = f" and in {output}" if output is not None else ""
    sys.stdout.write(
        f"backed up to change {made.seq}: {human_size(made.bytes)} in {human_duration(max(1.0, made.seconds))}, "
        f"kept in the cluster{where}\n"
    )


@click.command("restore")
@click.option(
    "--dir", "directory", metavar="NEWDIR", required=True, help="Where the store is made: an empty directory."
)
@click.option("--from-file", "file", metavar="FILE", help="A backup that `dfs admin backup --output` wrote.")
@click.option("--from-datanodes", "urls", metavar="URL[,URL…]", help="Datanodes whose newest backups are used.")
@click.option("--join-secret", metavar="TEXT", default="", envvar="DFS_JOIN_SECRET", help="That of the cluster.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def restore_command(directory: str, file: str | None, urls: str | None, join_secret: str, as_json: bool) -> None:
    """Make a namenode's store of its backups, when the old one is lost.

    Name as many datanodes as can be reached. Nothing is changed but the new directory.
    """
    if (file is None) == (urls is None):
        raise click.UsageError("one of --from-file and --from-datanodes says what to restore")
    # By name: the namenode's package is not there where only clients are.
    restoring: Any = importlib.import_module("dfs_namenode.restoring")

    def tell(line: str) -> None:
        if not as_json:
            sys.stdout.write(f"{line}\n")

    if file is not None:
        restored = restoring.restore_from_file(directory, file, clock=SystemClock())
    else:
        listed = [url.strip() for url in (urls or "").split(",") if url.strip()]
        restored = restoring.restore_from_datanodes(
            directory, listed, join_secret=join_secret, clock=SystemClock(), tell=tell
        )
    if as_json:
        print_json(asdict(restored))
        return
    nodes = ", ".join(restored.datanodes) or "none yet"
    tell(
        f"restored into {directory}: cluster {restored.cluster}, up to change {restored.seq}, "
        f"{count(restored.files, 'file')} and {count(restored.directories, 'directory')}, datanodes: {nodes}"
    )
    tell("What to do now:")
    for line in table([[command.format(directory=shlex.quote(directory)), why] for command, why in _RESTORE_NEXT]):
        tell(f"  {line}")
