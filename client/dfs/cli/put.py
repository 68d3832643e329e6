"""`dfs put` and `dfs append`: bytes from here, or from the web, into the cluster."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import unquote, urlsplit

import click

from dfs.cli.failures import tell
from dfs.cli.move import is_directory, must_be_directory, within
from dfs.cli.progress import Added, progress, progress_options
from dfs.cli.session import Failures, Session, parallel_option, remote_command
from dfs.cli.transfer import SIZE, local_tree_size, selection_of, selection_options, tell_failures
from dfs.protocol.errors import FileNotFound, Unavailable

if TYPE_CHECKING:
    from dfs.selection import Selection

STDIN = "-"
_PIECE = 1 << 20
"""Bytes of a stream that are handed on at a time."""
_CONNECT_S = 10.0
_SILENCE_S = 60.0
"""How long a web server may take to connect, and then between two pieces."""
_FOREIGN_STATUS = {404: FileNotFound, 410: FileNotFound}


@dataclass(frozen=True)
class _Wanted:
    """How everything of one command is to be stored."""

    overwrite: bool
    recursive: bool
    quiet: bool
    preserve: bool
    resume: bool
    storing: dict[str, Any]
    """parents, replication, chunk_size: as the Python API takes them."""
    selection: "Selection | None"


@remote_command("put")
@click.argument("locals_", metavar="LOCAL…", nargs=-1, required=True)
@click.argument("remote", metavar="REMOTE")
@click.option("-r", "-R", "recursive", is_flag=True, help="Directories and all that is below.")
@click.option("-f", "force", is_flag=True, help="Replace existing files.")
@click.option("-p", "preserve", is_flag=True, help="Keep the source's time and mode.")
@click.option("--resume", is_flag=True, help="Note what is stored, and go on where an interrupted put was.")
@parallel_option
@click.option("--parents", is_flag=True, help="Make missing parents of REMOTE.")
@click.option("--replication", type=click.IntRange(1), metavar="N", help="Replicas; the cluster's default otherwise.")
@click.option(
    "--chunk-size", type=SIZE, metavar="SIZE", help="Of big files, like 64MiB; the cluster's default otherwise."
)
@selection_options
@progress_options
def put_command(
    session: Session,
    locals_: tuple[str, ...],
    remote: str,
    recursive: bool,
    force: bool,
    preserve: bool,
    resume: bool,
    parents: bool,
    replication: int | None,
    chunk_size: int | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    quiet: bool,
    no_progress: bool,
) -> None:
    """Store local files, directories or an https:// URL.

    Into REMOTE if that is a directory. LOCAL may be - for stdin. A file is invisible until it is complete; one that
    exists is refused without -f. With -r, what can't be stored is named, and the rest is stored. With --resume, a put
    of the same files that was interrupted sends only what is missing, if they have not changed. PATTERN is compared
    with names, or with the path below LOCAL if it has a slash.
    """
    storing: dict[str, Any] = {"parents": parents, "replication": replication, "chunk_size": chunk_size}
    selection = selection_of(include, exclude, tree=recursive)
    wanted = _Wanted(force, recursive, quiet or no_progress, preserve, resume, storing, selection)
    if "" in locals_:
        raise click.UsageError("a LOCAL is empty; name a file, or - for stdin")
    target = session.path(remote)
    slashed = target.endswith("/")
    to_be_made = slashed and parents and not session.fs.exists(target)
    if (len(locals_) > 1 or slashed) and not to_be_made:
        must_be_directory(session, target)
    _check_resumable(locals_, wanted)
    failures = Failures()
    try:
        for local in locals_:
            with failures.item():
                _put(session, local, target, wanted, failures)
    except KeyboardInterrupt:
        if resume:
            tell("interrupted; the same command goes on where it was, as long as it has --resume")
        raise
    failures.finish()


def _check_resumable(locals_: tuple[str, ...], wanted: _Wanted) -> None:
    """Raise UsageError if something is to be resumed that can't be."""
    if not wanted.resume:
        return
    for local in locals_:
        if wanted.recursive or local == STDIN or _is_url(local):
            raise click.UsageError("--resume is for local files, without -r: only they can be read again where it was")


def _stdin() -> BinaryIO:
    if sys.stdin is None:
        raise click.UsageError("stdin is closed: there is nothing to store")
    return sys.stdin.buffer


def _is_url(local: str) -> bool:
    return local.startswith(("https://", "http://"))


def _name_of(local: str) -> str:
    """What a source is called within a directory."""
    if local == STDIN:
        raise click.UsageError("stdin has no name: give the path of the file, not of a directory")
    if _is_url(local):
        name = unquote(urlsplit(local).path.rstrip("/").rpartition("/")[2])
        if not name:
            raise click.UsageError(f"{local} does not end with a name: give the path of the file, not of a directory")
        return name
    return os.path.basename(os.path.abspath(local))


def _put(session: Session, local: str, target: str, wanted: _Wanted, failures: Failures) -> None:
    """Store one source as `target`, or in it if that is a directory or ends with a slash."""
    if local == STDIN:
        _store(session, _stdin(), None, local, target, wanted)
    elif _is_url(local):
        with _web(local) as (pieces, total):
            _store(session, pieces, total, local, target, wanted)
    else:
        if target.endswith("/") and not session.fs.exists(target):
            target = within(target, _name_of(local))
        with progress(_name_of(local), _local_size(local, wanted), quiet=wanted.quiet) as added:
            report = session.fs.put(
                local,
                target,
                overwrite=wanted.overwrite,
                recursive=wanted.recursive,
                preserve=wanted.preserve,
                resume=wanted.resume,
                notice=tell,
                selection=wanted.selection,
                progress=None if added is None else lambda size, _files: added(size),
                **wanted.storing,
            )
        tell_failures(report, failures)


def _local_size(local: str, wanted: _Wanted) -> int | None:
    """Bytes to come, where somebody will see them. Raises OSError where there is nothing."""
    if not os.path.isdir(local):
        return os.stat(local).st_size
    # With patterns it would be the size of more than is sent.
    shown = sys.stderr.isatty() and not wanted.quiet and wanted.selection is None
    return local_tree_size(local) if shown else None


def _store(session: Session, source: Any, total: int | None, local: str, target: str, wanted: _Wanted) -> None:
    """Store a stream as the file `target`, or in it if that is a directory."""
    path = target
    if target.endswith("/") or is_directory(session, target):
        path = within(target, _name_of(local))
    with (
        progress(path.rpartition("/")[2], total, quiet=wanted.quiet) as added,
        session.fs.open(path, "wb" if wanted.overwrite else "xb", **wanted.storing) as file,
    ):
        _pour(source, file.write, added)


def _pour(source: BinaryIO, write: Callable[[bytes], Any], added: Added | None) -> None:
    while piece := source.read(_PIECE):
        write(piece)
        if added is not None:
            added(len(piece))


class _Pieces:
    """What `requests` yields, with the one method of a file that is needed."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, _size: int) -> bytes:
        return next((piece for piece in self._pieces if piece), b"")


@contextmanager
def _web(url: str) -> "Iterator[tuple[Any, int | None]]":
    """The body behind a URL as a stream, and its length if the server tells. Raises FileNotFound, Unavailable."""
    import requests

    try:
        with requests.get(url, stream=True, timeout=(_CONNECT_S, _SILENCE_S)) as response:
            if response.status_code >= 400:
                kind = _FOREIGN_STATUS.get(response.status_code, Unavailable)
                raise kind(f"{url}: the server answers {response.status_code} {response.reason}")
            length = response.headers.get("content-length", "")
            plain = "content-encoding" not in response.headers
            total = int(length) if plain and length.isascii() and length.isdigit() else None
            yield _Pieces(response.iter_content(_PIECE)), total
    except requests.RequestException as error:
        raise Unavailable(f"can't fetch {url}: {_reason(error)}; nothing was stored") from error


def _reason(error: Exception) -> str:
    """What went wrong with a foreign server, in few words: the chain of causes ends with the system's own."""
    cause: BaseException = error
    while (below := cause.__cause__ or cause.__context__) is not None:
        cause = below
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    return str(cause) or type(error).__name__


@remote_command("append")
@click.argument("local", metavar="LOCAL")
@click.argument("path", metavar="PATH")
@click.option("--create", is_flag=True, help="Make the file if it does not exist.")
@progress_options
def append_command(session: Session, local: str, path: str, create: bool, quiet: bool, no_progress: bool) -> None:
    """Add a local file or stdin to the end of a file.

    All of it becomes visible at once. LOCAL may be - for stdin.
    """
    if not local:
        raise click.UsageError("LOCAL is empty; name a file, or - for stdin")
    target = session.path(path)
    with ExitStack() as opened:
        source: BinaryIO = _stdin() if local == STDIN else opened.enter_context(open(local, "rb"))
        total = None if local == STDIN else os.fstat(source.fileno()).st_size
        label = "stdin" if local == STDIN else _name_of(local)
        added = opened.enter_context(progress(label, total, quiet=quiet or no_progress))
        session.fs.append(target, _Counted(source, added) if added else source, create=create)  # type: ignore[arg-type]


class _Counted:
    """A stream whose bytes the progress bar counts."""

    def __init__(self, source: BinaryIO, added: Added) -> None:
        self._source = source
        self._added = added

    def read(self, size: int = -1) -> bytes:
        piece = self._source.read(size)
        self._added(len(piece))
        return piece
