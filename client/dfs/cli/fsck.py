"""`dfs fsck`: which files are well, which are being mended, and which need somebody.

Separate from `status`, which counts what is known to need work: this walks the namespace and names the files.
"""

import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import click
import msgspec

from dfs.cli.progress import Ticker, clock_text, progress_options
from dfs.cli.session import Session, remote_command
from dfs.cli.show import count, print_json, size_text, wrapped
from dfs.protocol.errors import EXIT_INTEGRITY, EXIT_OK, EXIT_SOME_FAILED, EXIT_UNREACHABLE
from dfs.protocol.messages import ChunkHealth, FileHealth, FsckPage, HealthState

MEANING: dict[HealthState, str] = {
    "missing": "no good replica is left",
    "corrupt": "has a bad replica, which is being replaced",
    "unavailable": "its datanodes are away",
    "under_replicated": "has fewer replicas than wanted",
    "healthy": "healthy",
}
"""The worst first. What a person is told of a file."""
EXIT_CODES: dict[HealthState, int] = {
    "missing": EXIT_INTEGRITY,
    "corrupt": EXIT_INTEGRITY,
    "unavailable": EXIT_UNREACHABLE,
    "under_replicated": EXIT_SOME_FAILED,
}
_KEPT_IN_MEMORY = 8 << 20
"""Bytes of lines that wait until the summary can be written before them."""


@remote_command("fsck")
@click.argument("path", metavar="[PATH]", default="/")
@click.option("--files", "all_files", is_flag=True, help="List every file, not only those that are not healthy.")
@click.option("--chunks", "show_chunks", is_flag=True, help="List the chunks of the files that are listed.")
@click.option("--locations", is_flag=True, help="Show where each replica of these chunks is.")
@click.option("--repair", is_flag=True, help="Have what is wrong verified and repaired before other work.")
@click.option("--orphans", is_flag=True, help="Instead list what datanodes have and no file does, and why it is kept.")
@progress_options
@click.option("--bytes", "exact", is_flag=True, help="Exact sizes in bytes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def fsck_command(
    session: Session,
    path: str,
    all_files: bool,
    show_chunks: bool,
    locations: bool,
    repair: bool,
    orphans: bool,
    quiet: bool,
    no_progress: bool,
    exact: bool,
    as_json: bool,
) -> None:
    """Check that every file has all its replicas.

    Exit code 0: healthy; 1: some files have too few replicas, which are being made; 5: some can't be read until
    datanodes are back; 6: some have bad replicas, or nothing good left. Healthy means what the datanodes last found:
    they verify everything they have in turn.
    """
    if orphans:
        from dfs.cli.orphans import show_orphans

        show_orphans(session.fs.admin.orphans(), exact=exact, as_json=as_json)
        return
    found = Findings()
    path = session.path(path)
    with tempfile.SpooledTemporaryFile(max_size=_KEPT_IN_MEMORY, mode="w+", encoding="utf-8") as lines:
        records: list[dict[str, Any]] = []
        pages = session.fs.admin.fsck(path, all_files=all_files, repair=repair)
        for file in whole_files(_watched(session, path, pages, found, quiet=quiet or no_progress)):
            found.add(file)
            if as_json:
                records.append(msgspec.to_builtins(file))
            else:
                lines.writelines(file_lines(file, chunks=show_chunks or locations, locations=locations, exact=exact))
        if as_json:
            print_json({"path": path, **found.record(), "files_listed": records})
        else:
            sys.stdout.write("\n".join(wrapped(found.sentences(exact=exact))) + "\n")
            lines.seek(0)
            shutil.copyfileobj(lines, sys.stdout)
    if found.exit_code != EXIT_OK:
        sys.stdout.flush()
        raise click.exceptions.Exit(found.exit_code)


def _watched(
    session: Session, path: str, pages: Iterable[FsckPage], found: "Findings", *, quiet: bool
) -> Iterator[FsckPage]:
    """The pages, counted, with a line that says how far the walk is."""
    total = session.fs.status().files if path == "/" and sys.stderr.isatty() and not quiet else 0
    began = time.monotonic()
    with Ticker(quiet=quiet) as ticker:
        for page in pages:
            found.count(page)
            ticker.show(how_far(found.files, total, time.monotonic() - began))
            yield page


def how_far(files: int, total: int, seconds: float) -> str:
    """How far a walk is, and when it will end if that is known. Pure."""
    if not 0 < files < total:
        return f"{_files(files)} checked"
    return f"{files} of {_files(total)} checked, {clock_text(seconds * (total - files) / files)} left"


def whole_files(pages: Iterable[FsckPage]) -> Iterator[FileHealth]:
    """The files of all pages; the parts of a long one are put together."""
    waiting: FileHealth | None = None
    for page in pages:
        for file in page.files:
            if waiting is not None and waiting.path == file.path:
                waiting = _joined(waiting, file)
            else:
                if waiting is not None:
                    yield waiting
                waiting = file
    if waiting is not None:
        yield waiting


def _joined(first: FileHealth, second: FileHealth) -> FileHealth:
    known = {chunk.id for chunk in first.chunks}
    order = list(MEANING)
    return FileHealth(
        path=first.path,
        size=first.size,
        state=min(first.state, second.state, key=order.index),
        chunks=[*first.chunks, *(chunk for chunk in second.chunks if chunk.id not in known)],
        complete=second.complete,
    )


class Findings:
    """What an inspection came to."""

    def __init__(self) -> None:
        self.files = 0
        self.directories = 0
        self.bytes = 0
        self.repairs = 0
        self.unwell: Counter[HealthState] = Counter()
        self._chunks: dict[str, HealthState] = {}

    def count(self, page: FsckPage) -> None:
        self.files += page.files_seen
        self.directories += page.directories_seen
        self.bytes += page.bytes_seen
        self.repairs += page.repairs

    def add(self, file: FileHealth) -> None:
        if file.state != "healthy":
            self.unwell[file.state] += 1
        for chunk in file.chunks:
            if chunk.state != "healthy":
                self._chunks[chunk.id] = chunk.state

    @property
    def exit_code(self) -> int:
        return next((EXIT_CODES[state] for state in EXIT_CODES if self.unwell[state]), EXIT_OK)

    def sentences(self, *, exact: bool = False) -> list[str]:
        """The worst first, one on each line."""
        size = size_text(self.bytes, exact)
        if not self.unwell:
            if not self.files:
                return ["Healthy: there are no files here"]
            return [f"Healthy: every chunk of {_files(self.files)} ({size}) has its replicas"]
        chunks = Counter(self._chunks.values())
        told = [
            f"{_WORDS[state]}: {_files(self.unwell[state])} of {self.files} ({_chunks(chunks[state])}): {_TOLD[state]}"
            for state in EXIT_CODES
            if self.unwell[state]
        ]
        if self.repairs:
            told.append(f"Repair: {_chunks(len(self._chunks))} will be looked at first")
        return told

    def record(self) -> dict[str, Any]:
        """For programs: stable keys."""
        chunks = Counter(self._chunks.values())
        return {
            "healthy": not self.unwell,
            "summary": self.sentences()[0],
            "files": self.files,
            "directories": self.directories,
            "bytes": self.bytes,
            "unhealthy_files": {state: self.unwell[state] for state in EXIT_CODES},
            "unhealthy_chunks": {state: chunks[state] for state in EXIT_CODES},
            "repairs": self.repairs,
        }


_WORDS: dict[HealthState, str] = {
    "missing": "Lost",
    "corrupt": "Corrupt",
    "unavailable": "Unreadable now",
    "under_replicated": "Degraded",
}
_TOLD: dict[HealthState, str] = {
    "missing": "no good replica of a part is known; restore them from elsewhere",
    "corrupt": "a replica is bad and is being replaced from a good one",
    "unavailable": "every good replica of a part is on a datanode or disk that is away; see `dfs status`",
    "under_replicated": "fewer replicas than wanted; copies are made when datanodes allow, see `dfs status`",
}


def _files(number: int) -> str:
    return count(number, "file")


def _chunks(number: int) -> str:
    return count(number, "chunk")


def file_lines(file: FileHealth, *, chunks: bool, locations: bool, exact: bool) -> Iterator[str]:
    """A file as `fsck` lists it."""
    yield f"{file.path}  {size_text(file.size, exact)}  {MEANING[file.state]}\n"
    for chunk in file.chunks if chunks else ():
        good = sum(replica.state == "good" and replica.live for replica in chunk.replicas)
        yield (
            f"  chunk {chunk.id}  {size_text(chunk.length, exact)}  {good} of {chunk.replication} replicas"
            f"  {chunk.state.replace('_', '-')}\n"
        )
        if locations:
            yield from _replica_lines(chunk)


def _replica_lines(chunk: ChunkHealth) -> Iterator[str]:
    if not chunk.replicas:
        yield "    no replica is known\n"
    for replica in chunk.replicas:
        away = "" if replica.live else ", away"
        yield f"    {replica.datanode}  {replica.url}  volume {replica.volume}  {replica.state}{away}\n"
