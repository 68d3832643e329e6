"""`dfs version`."""

import platform
import sys

import click

from dfs import __version__
from dfs.cli.show import print_json
from dfs.protocol import PROTOCOL_VERSION


@click.command("version")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def version_command(as_json: bool) -> None:
    """Show the version."""
    if as_json:
        print_json({"version": __version__, "protocol": PROTOCOL_VERSION, "python": platform.python_version()})
    else:
        sys.stdout.write(f"dfs {__version__} (protocol {PROTOCOL_VERSION}, Python {platform.python_version()})\n")
