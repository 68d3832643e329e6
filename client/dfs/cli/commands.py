"""Which subcommands there are, and the group that loads them by name.

One table, so that `dfs --help` imports none of them and a command imports only itself. The summaries are repeated
from the commands; a test compares them.
"""

import importlib
from dataclasses import dataclass

import click

from dfs.cli.examples import epilog
from dfs.cli.session import Session, cluster_options
from dfs.protocol.errors import EXIT_USAGE


@dataclass(frozen=True)
class CommandRow:
    module: str
    """Under dfs.cli; its attribute of the command's name (with `_command` behind it) is the click command."""
    section: str
    summary: str


_FILES, _CLUSTER, _SERVERS, _REST = "Files", "Cluster", "Servers", "This program"

COMMANDS: dict[str, CommandRow] = {
    "put": CommandRow("put", _FILES, "Store local files, directories or an https:// URL."),
    "get": CommandRow("get", _FILES, "Fetch files or directories."),
    "sync": CommandRow("sync", _FILES, "Make a directory like another one; one of them is remote."),
    "ls": CommandRow("ls", _FILES, "List directories."),
    "tree": CommandRow("find", _FILES, "Show directories as a tree."),
    "find": CommandRow("find", _FILES, "Find files and directories by name, kind, size or time."),
    "cat": CommandRow("cat", _FILES, "Write files to stdout."),
    "head": CommandRow("cat", _FILES, "Write the first bytes or lines of a file to stdout."),
    "tail": CommandRow("cat", _FILES, "Write the last bytes or lines of a file to stdout."),
    "mkdir": CommandRow("tree", _FILES, "Make directories."),
    "rm": CommandRow("tree", _FILES, "Remove files, and with -r directories."),
    "rmdir": CommandRow("tree", _FILES, "Remove empty directories."),
    "mv": CommandRow("move", _FILES, "Move or rename."),
    "cp": CommandRow("move", _FILES, "Copy within the cluster; no data moves."),
    "touch": CommandRow("attributes", _FILES, "Make empty files, or set the time of existing ones."),
    "append": CommandRow("put", _FILES, "Add a local file or stdin to the end of a file."),
    "concat": CommandRow("cutting", _FILES, "Move the contents of files behind the end of DEST."),
    "truncate": CommandRow("cutting", _FILES, "Cut files to a size; what is behind it is gone."),
    "stat": CommandRow("stat", _FILES, "Show all about files and directories."),
    "du": CommandRow("usage", _FILES, "Show how much files and directories hold."),
    "df": CommandRow("usage", _FILES, "Show the space of the cluster."),
    "checksum": CommandRow("checksum", _FILES, "Show the digest of files."),
    "setrep": CommandRow("attributes", _FILES, "Set how many replicas files have."),
    "chmod": CommandRow("attributes", _FILES, "Set permission bits."),
    "chown": CommandRow("attributes", _FILES, "Set owner and group."),
    "test": CommandRow("stat", _FILES, "Say by the exit code whether a path exists, or is a file or directory."),
    "url": CommandRow("stat", _FILES, "Show the HTTP address of a path."),
    "status": CommandRow("status", _CLUSTER, "Show how the cluster is."),
    "fsck": CommandRow("fsck", _CLUSTER, "Check that every file has all its replicas."),
    "doctor": CommandRow("doctor", _CLUSTER, "Find what is wrong, and say what to do about it."),
    "admin": CommandRow("admin", _CLUSTER, "Operate the cluster."),
    "bench": CommandRow("bench", _CLUSTER, "Measure the speed of the cluster, and what it costs."),
    "mini": CommandRow("mini", _SERVERS, "Run a whole cluster on this machine."),
    "namenode": CommandRow("roles", _SERVERS, "Run a namenode."),
    "datanode": CommandRow("roles", _SERVERS, "Run a datanode."),
    "completion": CommandRow("completion", _REST, "Write a script that completes commands and paths."),
    "version": CommandRow("version", _REST, "Show the version."),
}


class LazyGroup(click.Group):
    """A group whose commands come from `COMMANDS` and are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        row = COMMANDS.get(cmd_name)
        if row is None:
            return None
        command = getattr(importlib.import_module(f"dfs.cli.{row.module}"), f"{cmd_name}_command")
        assert isinstance(command, click.Command)
        if "Examples:" not in (command.epilog or ""):
            command.epilog = "\n\n".join(part for part in (epilog(cmd_name), command.epilog) if part)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise click.UsageError(f"there is no command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for section in dict.fromkeys(row.section for row in COMMANDS.values()):
            rows = [(name, row.summary) for name, row in COMMANDS.items() if row.section == section]
            with formatter.section(section):
                formatter.write_dl(rows, col_max=12)


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog=(
        "Remote paths are absolute (/a/b) or dfs://host:port/a/b; * ? [ab] {a,b} ** are expanded by dfs: quote them. "
        "Every command has --help."
    ),
)
@cluster_options
@click.pass_context
def root(context: click.Context, /) -> None:
    """dfs stores files on many machines: checked to the byte, replicated, visible all at once or not at all."""
    context.ensure_object(Session)
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(EXIT_USAGE)
