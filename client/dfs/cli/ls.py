"""`dfs ls`."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from dfs.cli.session import HELP_IS_LONG, Failures, Session, human_option, remote_command
from dfs.cli.show import (
    Screen,
    columns,
    display_width,
    entry_record,
    mode_text,
    print_json,
    size_text,
    table,
    time_text,
)

if TYPE_CHECKING:
    from dfs.client import Client
    from dfs.protocol.messages import Entry


@dataclass(frozen=True)
class Look:
    """How a listing is to look."""

    long: bool
    single: bool
    exact: bool
    by_time: bool
    by_size: bool
    backwards: bool
    as_json: bool
    screen: Screen

    @property
    def streams(self) -> bool:
        """Whether lines can be written as entries come, so that a directory of any size costs no memory."""
        in_order = not (self.by_time or self.by_size or self.backwards)
        return in_order and (self.as_json or (not self.long and (self.single or not self.screen.terminal)))

    def ordered(self, entries: "Iterable[Entry]") -> "Iterable[Entry]":
        """In the order asked for; equal ones stay in the order of their names."""
        if self.streams:
            return entries
        listed = list(entries)
        if self.by_size:
            listed.sort(key=lambda entry: -entry.size)
        elif self.by_time:
            listed.sort(key=lambda entry: -entry.mtime_ns)
        return reversed(listed) if self.backwards else listed

    def show(self, entries: "Iterable[Entry]", *, whole_path: bool = False) -> None:
        """Write the entries to stdout."""
        ordered = self.ordered(entries)
        if self.as_json:
            for entry in ordered:
                print_json(entry_record(entry))
        elif self.long:
            self._show_long(list(ordered), whole_path)
        elif self.single or not self.screen.terminal:
            for entry in ordered:
                sys.stdout.write(self.screen.name(entry, entry.path if whole_path else None) + "\n")
        else:
            self._show_columns(list(ordered), whole_path)

    def _show_long(self, entries: "list[Entry]", whole_path: bool) -> None:
        rows = [
            [
                mode_text(entry),
                "-" if entry.is_directory else str(entry.replication),
                entry.owner or "-",
                entry.group or "-",
                "-" if entry.is_directory else size_text(entry.size, self.exact),
                time_text(entry.mtime_ns),
                "",
            ]
            for entry in entries
        ]
        for line, entry in zip(table(rows, right=[1, 4]), entries, strict=True):
            name = self.screen.name(entry, entry.path if whole_path else None)
            sys.stdout.write(f"{line}  {name}\n")

    def _show_columns(self, entries: "list[Entry]", whole_path: bool) -> None:
        names = [entry.path if whole_path else entry.name or "/" for entry in entries]
        line_count, widths = columns([display_width(name) for name in names], self.screen.width)
        for line in range(line_count):
            cells = []
            for place, index in enumerate(range(line, len(names), line_count)):
                last = index + line_count >= len(names)
                pad = 0 if last else widths[place] - display_width(names[index]) + 2
                cells.append(self.screen.name(entries[index], names[index], pad))
            sys.stdout.write("".join(cells) + "\n")


@remote_command("ls", **HELP_IS_LONG)
@click.argument("paths", metavar="[PATH…]", nargs=-1)
@click.option("-l", "long", is_flag=True, help="Mode, replicas, owner, group, size, time and name.")
@click.option("-1", "single", is_flag=True, help="One name on a line, as always when stdout is no terminal.")
@human_option
@click.option("-R", "recursive", is_flag=True, help="Directories below as well.")
@click.option("-t", "by_time", is_flag=True, help="Newest first.")
@click.option("-S", "by_size", is_flag=True, help="Largest first.")
@click.option("-r", "backwards", is_flag=True, help="The other way round.")
@click.option("-d", "themselves", is_flag=True, help="Directories themselves, not what is in them.")
@click.option("--bytes", "exact", is_flag=True, help="Exact sizes in bytes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each entry, on a line of its own.")
def ls_command(
    session: Session,
    paths: tuple[str, ...],
    long: bool,
    single: bool,
    recursive: bool,
    by_time: bool,
    by_size: bool,
    backwards: bool,
    themselves: bool,
    exact: bool,
    as_json: bool,
) -> None:
    """List directories.

    Without a PATH the root. Sizes are binary units; directories have none (see du).
    """
    look = Look(long, single, exact, by_time, by_size, backwards, as_json, Screen.of_stdout())
    failures = Failures()
    files: list[Entry] = []
    directories: list[Entry] = []
    for path in session.paths(paths or ("/",)):
        matches: list[str] = []
        with failures.item(counts=False):
            matches = session.expand(path)
        for match in matches:
            with failures.item(counts=False):
                entry = session.fs.stat(match)
                (directories if entry.is_directory and not themselves else files).append(entry)
    look.show(files, whole_path=True)
    failures.succeeded(len(files))
    headed = len(directories) + len(files) > 1 or recursive
    for number, entry in enumerate(directories):
        with failures.item():
            if number or files:
                _separate(as_json)
            _show_directory(session.fs, entry, look, headed=headed, recursive=recursive)
    failures.finish()


def _separate(as_json: bool) -> None:
    if not as_json:
        sys.stdout.write("\n")


def _show_directory(fs: "Client", directory: "Entry", look: Look, *, headed: bool, recursive: bool) -> None:
    """One directory, and with `recursive` those below it, without recursing: trees may be deep."""
    waiting = [directory]
    first = True
    while waiting:
        current = waiting.pop()
        if not first:
            _separate(look.as_json)
        first = False
        if headed and not look.as_json:
            sys.stdout.write(f"{current.path}:\n")
        below: list[Entry] = []
        look.show(_remembering(fs.ls(current.path), below) if recursive else fs.ls(current.path))
        waiting += reversed(list(look.ordered(below)))


def _remembering(entries: "Iterable[Entry]", directories: "list[Entry]") -> "Iterator[Entry]":
    for entry in entries:
        if entry.is_directory:
            directories.append(entry)
        yield entry
