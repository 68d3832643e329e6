"""`dfs get`: files and directories from the cluster to here."""

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from dfs.cli.cat import copy_to
from dfs.cli.failures import tell
from dfs.cli.move import is_directory
from dfs.cli.progress import progress, progress_options
from dfs.cli.session import Failures, Session, parallel_option, remote_command
from dfs.cli.transfer import selection_of, selection_options, tell_failures
from dfs.protocol.errors import FileNotFound, IsADirectory, NotADirectory

if TYPE_CHECKING:
    from dfs.selection import Selection

STDOUT = "-"


@remote_command("get")
@click.argument("remotes", metavar="REMOTE…", nargs=-1, required=True)
@click.argument("local", metavar="LOCAL")
@click.option("-r", "-R", "recursive", is_flag=True, help="Directories and all that is below.")
@click.option("-f", "force", is_flag=True, help="Replace existing files.")
@click.option("-p", "preserve", is_flag=True, help="Keep time and mode.")
@click.option("--resume", is_flag=True, help="Keep what has come if it is interrupted, and go on with it.")
@parallel_option
@selection_options
@progress_options
def get_command(
    session: Session,
    remotes: tuple[str, ...],
    local: str,
    recursive: bool,
    force: bool,
    preserve: bool,
    resume: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    quiet: bool,
    no_progress: bool,
) -> None:
    """Fetch files or directories.

    Into LOCAL if that is a directory. LOCAL may be - for stdout. A file has a temporary name until it is complete and
    checked; one that exists is refused without -f. With --resume, what an interrupted get has left is compared with
    the digests of the file as it is now, and only what differs is fetched. PATTERN is compared with names, or with
    the path below REMOTE if it has a slash.
    """
    if not local:
        raise click.UsageError("LOCAL is empty; . is the directory here")
    if resume and (recursive or local == STDOUT):
        raise click.UsageError("--resume is for single files into a local file; for directories there is dfs sync")
    wanted = _Wanted(
        force, recursive, preserve, quiet or no_progress, resume, selection_of(include, exclude, tree=recursive)
    )
    failures = Failures()
    sources: list[str] = []
    for path in session.paths(remotes):
        with failures.item(counts=False):
            sources += session.expand(path)
    into = os.path.isdir(local)
    if local != STDOUT and not into:
        if len(sources) > 1:
            raise NotADirectory(f"{local}: not a directory; several sources need one, make it with mkdir")
        if local.endswith(os.sep) and not recursive:
            raise FileNotFound(f"{local}: no such local directory; make it with mkdir -p")
        parent = os.path.dirname(local.rstrip(os.sep)) or os.curdir
        if not os.path.isdir(parent):
            raise FileNotFound(f"{parent}: no such local directory; make it with mkdir -p")
    try:
        for path in sources:
            with failures.item():
                if local == STDOUT:
                    with session.fs.open(path, "rb") as file:
                        copy_to(sys.stdout.buffer, file)
                else:
                    _get(session, path, local, wanted, failures)
    except KeyboardInterrupt:
        if resume:
            tell("interrupted; the same command goes on where it was, as long as it has --resume")
        raise
    failures.finish()


@dataclass(frozen=True)
class _Wanted:
    """How everything of one command is to be fetched."""

    overwrite: bool
    recursive: bool
    preserve: bool
    quiet: bool
    resume: bool
    selection: "Selection | None"


def _get(session: Session, path: str, local: str, wanted: _Wanted, failures: Failures) -> None:
    if not wanted.recursive and is_directory(session, path):
        raise IsADirectory(f"{path}: is a directory; -r fetches it with all that is below")
    name = path.rstrip("/").rpartition("/")[2] or "/"
    total = None
    if sys.stderr.isatty() and not wanted.quiet and wanted.selection is None:
        total = session.fs.usage(path).bytes
    with progress(name, total, quiet=wanted.quiet) as added:
        report = session.fs.get(
            path,
            local,
            overwrite=wanted.overwrite,
            recursive=wanted.recursive,
            preserve=wanted.preserve,
            resume=wanted.resume,
            selection=wanted.selection,
            progress=None if added is None else lambda size, _files: added(size),
        )
    tell_failures(report, failures)
