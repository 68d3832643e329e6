"""`dfs du` and `dfs df`: how much is stored, and how much still fits."""

import sys

import click

from dfs.cli.session import HELP_IS_LONG, Session, each_path, human_option, remote_command
from dfs.cli.show import print_json, size_text, table


@remote_command("du", **HELP_IS_LONG)
@click.argument("paths", metavar="[PATH…]", nargs=-1)
@human_option
@click.option("-s", "summary", is_flag=True, help="Only the sum for each PATH, not what is in it.")
@click.option("--bytes", "exact", is_flag=True, help="Exact sizes in bytes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each line.")
def du_command(session: Session, paths: tuple[str, ...], summary: bool, exact: bool, as_json: bool) -> None:
    """Show how much files and directories hold.

    The bytes, the same times the replicas, the number of files, the path. Without a PATH the root.
    """
    rows: list[list[str]] = []

    def measure(path: str) -> None:
        usage = session.fs.usage(path)
        if as_json:
            print_json(
                {
                    "path": path,
                    "files": usage.files,
                    "directories": usage.directories,
                    "bytes": usage.bytes,
                    "replicated_bytes": usage.replicated_bytes,
                }
            )
            return
        files = "1 file" if usage.files == 1 else f"{usage.files} files"
        rows.append([size_text(usage.bytes, exact), size_text(usage.replicated_bytes, exact), files, path])

    def one(path: str) -> None:
        if not summary and session.fs.stat(path).is_directory:
            for entry in session.fs.ls(path):
                measure(entry.path)
        measure(path)

    try:
        each_path(session, paths or ("/",), one)
    finally:
        for line in table(rows, right=[0, 1, 2]):
            sys.stdout.write(line + "\n")


@remote_command("df", **HELP_IS_LONG)
@human_option
@click.option("--bytes", "exact", is_flag=True, help="Exact sizes in bytes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def df_command(session: Session, exact: bool, as_json: bool) -> None:
    """Show the space of the cluster.

    Of the disks of the datanodes that are not dead. What still fits is what is free, divided by the replicas.
    """
    status = session.fs.status()
    alive = [datanode for datanode in status.datanodes if datanode.state != "dead"]
    capacity = sum(datanode.capacity_bytes for datanode in alive)
    used = sum(datanode.used_bytes for datanode in alive)
    free = sum(datanode.free_bytes for datanode in alive)
    record = {
        "capacity": capacity,
        "used": used,
        "free": free,
        "bytes": status.bytes,
        "replication": status.replication,
        "fits": free // status.replication,
    }
    if as_json:
        print_json(record)
        return
    rows = [["capacity", "used", "free", "files hold", f"still fits ({status.replication} replicas)"]]
    rows.append([size_text(int(record[key]), exact) for key in ("capacity", "used", "free", "bytes", "fits")])
    for line in table(rows, right=range(5)):
        sys.stdout.write(line + "\n")
