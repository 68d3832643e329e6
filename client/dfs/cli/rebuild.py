"""`dfs admin rebuild`: the last resort, when the namenode's store has lost what its datanodes still have.

Separate from `admin`, whose commands are decisions: this one works for as long as there are bytes to verify.
"""

import sys
from typing import TYPE_CHECKING, Any

import click

from dfs.cli.progress import Ticker, clock_text, progress_options
from dfs.cli.session import Session, remote_command
from dfs.cli.show import count, listed, print_json, size_text, wrapped
from dfs.protocol.errors import EXIT_SOME_FAILED

if TYPE_CHECKING:
    from dfs.adopting import Rebuilt
    from dfs.rebuilding import HowFar


@remote_command("rebuild")
@click.option(
    "--from-datanodes", is_flag=True, required=True, help="From the chunks that datanodes have and no file does."
)
@click.option("--dry-run", is_flag=True, help="Read and verify everything, and only say what would come back.")
@progress_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def rebuild_command(
    session: Session, from_datanodes: bool, dry_run: bool, quiet: bool, no_progress: bool, as_json: bool
) -> None:
    """Bring back files that the namenode does not know and its datanodes still have.

    For a namenode that was restored from a backup, or lost its store. What backups of its change log tell comes back to
    its own path; what only the chunks themselves tell comes to /lost+found/TIME/PATH, and with the suffix .partial if
    only its beginning is there. Nothing that exists is changed, and nothing comes back that was not read and verified.
    Can be repeated, and interrupted: what has come back is not brought back again.

    Exit code 0: everything came back whole; 1: something did not, and is named.
    """
    assert from_datanodes, "there is no other way yet, and the option says which one is meant"
    with Ticker(quiet=quiet or no_progress) as ticker:
        found = session.fs.admin.rebuild(dry_run=dry_run, tell=lambda how_far: ticker.show(how_far_text(how_far)))
    if as_json:
        print_json(record_of(found))
    else:
        sys.stdout.write("".join(f"{line}\n" for line in wrapped(lines_of(found))))
    if not found.is_whole:
        sys.stdout.flush()
        raise click.exceptions.Exit(EXIT_SOME_FAILED)


def how_far_text(now: "HowFar") -> str:
    """How far a rebuild is, in one line. Pure."""
    if now.waiting_for:
        return f"waiting for the reports of {listed(now.waiting_for)}"
    if not now.verified:
        return f"{_chunks(now.looked_at)} looked at"
    text = f"{size_text(now.verified, False)} of {size_text(now.to_verify, False)} read and verified"
    if now.verified >= now.to_verify:
        return text
    return f"{text}, {clock_text(now.seconds * (now.to_verify - now.verified) / now.verified)} left"


def summary_of(found: "Rebuilt") -> str:
    """The one sentence that says what came of it. Pure."""
    if not (found.to_paths or found.to_lost_found or found.incomplete or found.lost):
        already = (
            f"; {_files(found.unchanged)} {'was' if found.unchanged == 1 else 'were'} there already"
            if found.unchanged
            else ""
        )
        left = "; what is left is listed here" if any(found.left.values()) else ""
        return f"Nothing to bring back: no chunk without a file could be made one{already}{left}"
    places = [
        (found.to_paths, "to its path" if found.to_paths == 1 else "to their paths"),
        (found.to_lost_found, f"to {found.lost_found}"),
        (found.incomplete, f"incomplete (*.partial) to {found.lost_found}"),
    ]
    (first, where), *others = [place for place in places if place[0]] or [(0, "")]
    would = "would be" if found.dry_run else "was" if first == 1 else "were"
    parts = [f"{_files(first)} {would} brought back {where}".rstrip()]
    parts += [f"{number} {elsewhere}" for number, elsewhere in others]
    if found.lost:
        parts.append(f"{found.lost.total()} could not be")
    return f"{', '.join(parts)} ({size_text(found.bytes, False)})"


def lines_of(found: "Rebuilt") -> list[str]:
    """What a person is told. Pure."""
    from dfs.adopting import POSTPONED

    lines = [summary_of(found)]
    lines += [f"  {sentence}" for sentence in found.missing]
    lines += [f"  left: {_chunks(count)}, {reason}" for reason, count in found.left.most_common() if count]
    if found.unreported:
        lines.append(
            f"{listed(found.unreported)} did not report, and may have more: when "
            f"{'it is' if len(found.unreported) == 1 else 'they are'} back or forgotten, say this again"
            + ("; incomplete files wait for that" if found.left[POSTPONED] else "")
        )
    if found.newer_backup:
        lines.append(
            f"A whole backup of the namenode's store, up to change {found.newer_backup}, lies on the datanodes: "
            "`dfs admin restore` into an empty directory brings back exactly what was there"
        )
    if not found.dry_run and (found.to_paths or found.to_lost_found or found.incomplete):
        lines.append("When nothing is missing any more: `dfs admin resolve-history --yes` lets go of the rest")
    return lines


def record_of(found: "Rebuilt") -> dict[str, Any]:
    """For programs: stable keys."""
    return {
        "summary": summary_of(found),
        "dry_run": found.dry_run,
        "whole": found.is_whole,
        "lost_found": found.lost_found,
        "to_paths": found.to_paths,
        "to_lost_found": found.to_lost_found,
        "incomplete": found.incomplete,
        "unchanged": found.unchanged,
        "directories": found.directories,
        "bytes": found.bytes,
        "unreported": found.unreported,
        "newer_backup": found.newer_backup,
        "missing": found.missing,
        "lost": dict(found.lost),
        "left": {reason: count for reason, count in found.left.items() if count},
    }


def _files(number: int) -> str:
    return count(number, "file")


def _chunks(number: int) -> str:
    return count(number, "chunk")
