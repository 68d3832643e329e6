"""`dfs cat`, `dfs head`, `dfs tail`: content to stdout."""

import io
import sys
from collections.abc import Callable
from typing import BinaryIO

import click

from dfs.cli.session import Session, each_path, remote_command
from dfs.cli.transfer import SIZE
from dfs.file import RawReader

PIECE = 4 << 20
"""Bytes read and written at a time; several pieces are fetched ahead by the reader."""
_BACKWARDS = 64 << 10
"""Bytes that `tail` looks at in one step towards the front."""
_LINES = 10


@remote_command("cat")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
def cat_command(session: Session, paths: tuple[str, ...]) -> None:
    """Write files to stdout."""
    _each_file(session, paths, lambda file, out: copy_to(out, file), headed=False)


_lines_option = click.option("-n", "lines", type=click.IntRange(0), metavar="N", help=f"N lines. Default {_LINES}.")
_bytes_option = click.option("-c", "count", type=SIZE, metavar="N", help="N bytes, or like 64KiB, instead of lines.")


@remote_command("head")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
@_lines_option
@_bytes_option
def head_command(session: Session, paths: tuple[str, ...], lines: int | None, count: int | None) -> None:
    """Write the first bytes or lines of a file to stdout."""
    _one_measure(lines, count)

    def show(file: BinaryIO, out: BinaryIO) -> None:
        if count is not None:
            _copy(file, out, count)
        else:
            for _ in range(_LINES if lines is None else lines):
                line = file.readline()
                if not line:
                    break
                out.write(line)

    _each_file(session, paths, show, headed=len(paths) > 1)


@remote_command("tail")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
@_lines_option
@_bytes_option
def tail_command(session: Session, paths: tuple[str, ...], lines: int | None, count: int | None) -> None:
    """Write the last bytes or lines of a file to stdout."""
    _one_measure(lines, count)

    def show(file: BinaryIO, out: BinaryIO) -> None:
        end = file.seek(0, io.SEEK_END)
        start = (
            max(0, end - count) if count is not None else start_of_last_lines(file, _LINES if lines is None else lines)
        )
        file.seek(start)
        # Up to what was the end when we looked.
        _copy(file, out, end - start)

    _each_file(session, paths, show, headed=len(paths) > 1)


def _one_measure(lines: int | None, count: int | None) -> None:
    if lines is not None and count is not None:
        raise click.UsageError("-n and -c exclude each other", click.get_current_context())


def _each_file(
    session: Session, texts: tuple[str, ...], show: Callable[[BinaryIO, BinaryIO], None], *, headed: bool
) -> None:
    out = sys.stdout.buffer
    separator = b""

    def one(path: str) -> None:
        nonlocal separator
        with session.fs.open(path, "rb") as file:
            if headed:
                out.write(separator + f"==> {path} <==\n".encode())
                separator = b"\n"
            show(file, out)
            out.flush()

    each_path(session, texts, one)


def copy_to(out: BinaryIO, file: BinaryIO) -> None:
    """Copy all that is left of an open file."""
    raw = getattr(file, "raw", None)
    if isinstance(raw, RawReader):
        raw.seek(file.tell())
        raw.copy_to(out.write)
        return
    while piece := file.read(PIECE):
        out.write(piece)


def _copy(file: BinaryIO, out: BinaryIO, count: int) -> None:
    while count > 0 and (piece := file.read(min(PIECE, count))):
        out.write(piece)
        count -= len(piece)


def start_of_last_lines(file: BinaryIO, lines: int) -> int:
    """Where the last `lines` lines of a seekable file begin. Reads from the end, only as far as it must."""
    position = end = file.seek(0, io.SEEK_END)
    if lines == 0:
        return end
    found = 0
    while position > 0:
        step = min(_BACKWARDS, position)
        position -= step
        file.seek(position)
        block = file.read(step)
        # The newline that ends the file ends a line, it does not begin another one.
        until = len(block) - 1 if position + step == end and block.endswith(b"\n") else len(block)
        while (until := block.rfind(b"\n", 0, until)) >= 0:
            found += 1
            if found == lines:
                return position + until + 1
    return 0
