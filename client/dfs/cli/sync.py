"""`dfs sync`: a local directory and one of the cluster made alike, in either direction.

Separate from put and get because its first question is another one: which side is remote. `sides` decides it by the
texts alone, never by what happens to exist, so that a command always means the same.
"""

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from dfs.cli.progress import progress, progress_options
from dfs.cli.session import REMOTE, Failures, Session, parallel_option, remote_command
from dfs.cli.show import human_size, print_json
from dfs.cli.transfer import SIZE, selection_of, selection_options, tell_failures

if TYPE_CHECKING:
    from dfs.sync_plan import Step
    from dfs.syncing import SyncReport

_DOES = {"copy": "copy", "make": "mkdir", "time": "time", "delete": "delete"}


@remote_command("sync")
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@click.option("--delete", is_flag=True, help="Remove what SOURCE does not have, and replace what is of another kind.")
@click.option("-n", "--dry-run", "dry_run", is_flag=True, help="Change nothing; show what would be done.")
@click.option("-c", "--checksum", "by_digest", is_flag=True, help="Compare bytes by their digests, not times.")
@click.option("--parents", is_flag=True, help="Make missing parents of TARGET.")
@click.option("--replication", type=click.IntRange(1), metavar="N", help="Replicas; the cluster's default otherwise.")
@click.option("--chunk-size", type=SIZE, metavar="SIZE", help="Of big files; the cluster's default otherwise.")
@parallel_option
@selection_options
@click.option("-v", "verbose", is_flag=True, help="Show each change.")
@click.option("--json", "as_json", is_flag=True, help="Each change as a JSON object, and last one that sums up.")
@progress_options
def sync_command(
    session: Session,
    source: str,
    target: str,
    delete: bool,
    dry_run: bool,
    by_digest: bool,
    parents: bool,
    replication: int | None,
    chunk_size: int | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    verbose: bool,
    as_json: bool,
    quiet: bool,
    no_progress: bool,
) -> None:
    """Make a directory like another one; one of them is remote.

    What is in SOURCE comes to be in TARGET: files that are missing, or differ in size or time. The remote side is
    written dfs:/path; where the other side is a relative path, /path will do. Nothing is removed without --delete, and
    what the patterns leave out is left alone on both sides. Time and mode go along. Interrupted, the same command
    goes on.
    """
    from dfs.selection import EVERYTHING
    from dfs.syncing import SyncOptions

    pushes = sides(source, target)
    path = session.path(target if pushes else source)
    local = source if pushes else target
    options = SyncOptions(
        delete=delete,
        dry_run=dry_run,
        by_digest=by_digest,
        parents=parents,
        selection=selection_of(include, exclude, tree=True) or EVERYTHING,
        replication=replication,
        chunk_size=chunk_size,
    )
    show = _Changes(as_json, shown=verbose or dry_run or as_json)
    bar: Any = nullcontext() if dry_run else progress("sync", None, quiet=quiet or no_progress or verbose)
    syncing = session.fs.syncing
    with bar as added:
        counted = None if added is None else lambda size, _files: added(size)
        if pushes:
            report = syncing.push(local, path, options, told=show.step, progress=counted)
        else:
            report = syncing.pull(path, local, options, told=show.step, progress=counted)
    show.end(report, dry_run=dry_run, quiet=quiet)
    failures = Failures()
    failures.succeeded(report.files + report.directories + report.deleted + report.times)
    tell_failures(report, failures)
    failures.finish()


def sides(source: str, target: str) -> bool:
    """Whether the target is the remote side. Raises UsageError unless exactly one of them is, by its text alone."""
    if not source or not target:
        raise click.UsageError("SOURCE and TARGET must not be empty; . is the directory here")
    marked = [text.startswith(REMOTE) for text in (source, target)]
    if marked == [True, True]:
        raise click.UsageError("both sides are remote: dfs cp copies within the cluster")
    if any(marked):
        return marked[1]
    absolute = [text.startswith("/") for text in (source, target)]
    if absolute[0] != absolute[1]:
        # Remote paths are absolute, so the relative one is local, and one side is remote.
        return absolute[1]
    example = f"{REMOTE}{target}" if absolute[1] else f"{REMOTE}/{target.removeprefix('./')}"
    raise click.UsageError(f"which side is remote? write it with dfs: before the path, like {example}")


class _Changes:
    """Shows the steps of a sync as they come, and how it ended."""

    def __init__(self, as_json: bool, *, shown: bool) -> None:
        self._as_json = as_json
        self._shown = shown

    def step(self, step: "Step") -> None:
        from dfs.put_tree import shown

        if not self._shown:
            return
        action, path = _DOES[step.action], shown(step.path)
        size = step.source.size if step.action == "copy" and step.source is not None else 0
        if self._as_json:
            record: dict[str, Any] = {"action": action, "path": path}
            if step.action == "copy":
                record |= {"size": size, "reason": "new" if step.target is None else "changed"}
            print_json(record)
            return
        more = f"  {human_size(size)}" if step.action == "copy" else ""
        sys.stdout.write(f"{action:<6}  {path}{more}\n")

    def end(self, report: "SyncReport", *, dry_run: bool, quiet: bool) -> None:
        if self._as_json:
            print_json(
                {
                    "action": "end",
                    "dry_run": dry_run,
                    "files": report.files,
                    "bytes": report.bytes,
                    "directories": report.directories,
                    "deleted": report.deleted,
                    "times": report.times,
                    "failed": len(report.failures),
                }
            )
        elif self._shown and not quiet:
            files = "1 file" if report.files == 1 else f"{report.files} files"
            would = "would be copied" if dry_run else "copied"
            sys.stdout.flush()
            deleted = "to be deleted" if dry_run else "deleted"
            sys.stderr.write(f"{files} ({human_size(report.bytes)}) {would}, {report.deleted} {deleted}\n")
