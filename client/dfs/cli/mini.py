"""`dfs mini`: the command line of `dfs.mini`."""

import sys

import click

from dfs.mini import DATANODE_PORT, DATANODES, NAMENODE_PORT, Plan, run


@click.command("mini")
@click.argument("directory", metavar="[DIR]", default="./dfs-data")
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="P", help=f"Port of the namenode; 0: any. Default {NAMENODE_PORT}."
)
@click.option("--datanodes", type=int, metavar="N", help=f"How many datanodes. Default {DATANODES}.")
@click.option(
    "--replication", type=int, metavar="R", help="Replicas of each file. Default 3, at most one per datanode."
)
@click.option(
    "--datanode-port",
    type=click.IntRange(0, 65535),
    metavar="P0",
    help=f"Port of the first datanode, then upwards; 0: any. Default {DATANODE_PORT}.",
)
def mini_command(
    directory: str, port: int | None, datanodes: int | None, replication: int | None, datanode_port: int | None
) -> None:
    """Run a whole cluster on this machine.

    One namenode and three datanodes, each its own process, with everything under DIR (default ./dfs-data). Started
    again on the same DIR it goes on where it was: same ports, same ids, all data. Ctrl-C stops it.
    """
    plan = Plan(directory, port, datanodes, replication, datanode_port)
    sys.exit(run(plan, tell=lambda line: print(line, flush=True), warn=_warn))


def _warn(sentence: str) -> None:
    print(f"dfs: {sentence}", file=sys.stderr, flush=True)
