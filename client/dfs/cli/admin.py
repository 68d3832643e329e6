"""`dfs admin`: what operators do to a cluster."""

import sys

import click

from dfs.cli.session import Session, remote_command
from dfs.cli.show import print_json
from dfs.protocol.errors import EXIT_USAGE


@click.group("admin", invoke_without_command=True)
@click.pass_context
def admin_command(context: click.Context) -> None:
    """Operate the cluster."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(EXIT_USAGE)


@remote_command("gc")
@click.option("--now", is_flag=True, help="Run it now; without it, say what waits.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def gc_command(session: Session, now: bool, as_json: bool) -> None:
    """Show what waits for deletion, or collect it now.

    Removed and replaced content is kept for a grace, for those who still read it; collecting now keeps that grace.
    """
    if not now:
        waiting = session.fs.status().waiting_for_deletion
        if as_json:
            print_json({"waiting_for_deletion": waiting})
        else:
            sys.stdout.write(f"chunks that wait for deletion: {waiting} (--now collects them)\n")
        return
    collected = session.fs.collect_garbage()
    if as_json:
        print_json({"contents_swept": collected.contents_swept, "chunks_condemned": collected.chunks_condemned})
    else:
        sys.stdout.write(
            f"removed contents swept: {collected.contents_swept}, chunks condemned: {collected.chunks_condemned}; "
            "the datanodes delete those next\n"
        )


admin_command.add_command(gc_command)
