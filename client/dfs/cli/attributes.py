"""`dfs touch`, `dfs chmod`, `dfs chown`, `dfs setrep`: what describes a file, not its content."""

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from dfs.cli.session import Session, each_path, remote_command
from dfs.protocol.messages import REPLICATION_MAX

if TYPE_CHECKING:
    from dfs.client import Client
    from dfs.protocol.messages import Entry

_CLAUSE = re.compile(r"([ugoa]*)([-+=])([rwxX]*)")
_WHO = {"u": 0o700, "g": 0o070, "o": 0o007, "a": 0o777}
_WHAT = {"r": 0o444, "w": 0o222, "x": 0o111}


@remote_command("touch")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
@click.option("-c", "no_create", is_flag=True, help="Make no files.")
def touch_command(session: Session, paths: tuple[str, ...], no_create: bool) -> None:
    """Make empty files, or set the time of existing ones."""

    def touch(path: str) -> None:
        if not no_create or session.fs.exists(path):
            session.fs.touch(path)

    each_path(session, paths, touch)


@remote_command("chmod")
@click.argument("mode", metavar="MODE")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
@click.option("-R", "recursive", is_flag=True, help="Directories with all that is below.")
def chmod_command(session: Session, mode: str, paths: tuple[str, ...], recursive: bool) -> None:
    """Set permission bits.

    MODE is octal (640) or symbolic (u+x,go-w).
    """
    # Judge the text before anything is changed.
    new_mode(mode, 0, directory=False)

    def change(fs: "Client", entry: "Entry") -> None:
        fs.set_attributes(entry.path, mode=new_mode(mode, entry.mode, directory=entry.is_directory))

    _each_entry(session, paths, recursive, change)


def new_mode(text: str, mode: int, *, directory: bool) -> int:
    """The mode that `text`, octal or symbolic, makes of `mode`. Raises click.UsageError."""
    if re.fullmatch("[0-7]{1,4}", text):
        return int(text, 8)
    for clause in text.split(","):
        parsed = _CLAUSE.fullmatch(clause)
        if parsed is None:
            raise click.UsageError(f"{text!r} is not a mode; write it like 640 or u+x,go-w")
        who, sign, what = parsed.groups()
        reach = 0
        for letter in who or "a":
            reach |= _WHO[letter]
        bits = 0
        for letter in what:
            # X: x for directories and for what somebody may execute already.
            bits |= _WHAT["x"] if letter == "X" and (directory or mode & 0o111) else _WHAT.get(letter, 0)
        bits &= reach
        mode = {"+": mode | bits, "-": mode & ~bits, "=": mode & ~reach | bits}[sign]
    return mode


@remote_command("chown")
@click.argument("owner", metavar="OWNER[:GROUP]")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
@click.option("-R", "recursive", is_flag=True, help="Directories with all that is below.")
def chown_command(session: Session, owner: str, paths: tuple[str, ...], recursive: bool) -> None:
    """Set owner and group.

    OWNER, OWNER:GROUP or :GROUP.
    """
    user, _, group = owner.partition(":")
    if not user and not group:
        raise click.UsageError(f"{owner!r} names nobody; write ann, ann:staff or :staff")

    def change(fs: "Client", entry: "Entry") -> None:
        fs.set_attributes(entry.path, owner=user or None, group=group or None)

    _each_entry(session, paths, recursive, change)


@remote_command("setrep")
@click.argument("replication", metavar="N", type=click.IntRange(1, REPLICATION_MAX))
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
def setrep_command(session: Session, replication: int, paths: tuple[str, ...]) -> None:
    """Set how many replicas files have.

    Of a directory: of all files below it. Copies are made, or given up, in the background: see stat --chunks.
    """

    def change(fs: "Client", entry: "Entry") -> None:
        if not entry.is_directory:
            fs.set_replication(entry.path, replication)

    _each_entry(session, paths, True, change)


def _each_entry(
    session: Session, texts: tuple[str, ...], recursive: bool, change: Callable[["Client", "Entry"], None]
) -> None:
    def one(path: str) -> None:
        fs = session.fs
        for entry in tree(fs, fs.stat(path)) if recursive else [fs.stat(path)]:
            change(fs, entry)

    each_path(session, texts, one)


def tree(fs: "Client", top: "Entry") -> "Iterator[Entry]":
    """`top` and everything below it, parents before children."""
    waiting = [top]
    while waiting:
        entry = waiting.pop()
        yield entry
        if entry.is_directory:
            waiting += fs.ls(entry.path)
