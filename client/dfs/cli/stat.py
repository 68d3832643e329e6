"""`dfs stat`, `dfs test`, `dfs url`: what there is to know about one path."""

import sys
from typing import TYPE_CHECKING, Any

import click

from dfs.cli.session import Session, each_path, remote_command
from dfs.cli.show import entry_record, human_size, mode_text, print_json, size_text, table
from dfs.protocol.errors import EXIT_OK, EXIT_SOME_FAILED, FileNotFound, NotADirectory

if TYPE_CHECKING:
    from dfs.protocol.messages import ChunkPlaces, Entry, FileExtent, FilePlaces

_SHORT = 12
"""Digits of an id or digest where the whole one stands elsewhere."""


@remote_command("stat")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
@click.option("--chunks", is_flag=True, help="Extents, chunks, digests, and where each replica is.")
@click.option("--bytes", "exact", is_flag=True, help="Exact sizes in bytes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each path.")
def stat_command(session: Session, paths: tuple[str, ...], chunks: bool, exact: bool, as_json: bool) -> None:
    """Show all about files and directories."""

    def show(path: str) -> None:
        places = session.fs.places(path) if chunks else None
        entry = places.entry if places is not None else session.fs.stat(path)
        if as_json:
            print_json(entry_record(entry) | (_places_record(places) if places is not None else {}))
            return
        sys.stdout.write("\n".join(_entry_lines(entry, exact)) + "\n")
        if places is not None:
            sys.stdout.write("\n".join(_places_lines(places, exact)) + "\n")

    each_path(session, paths, show)


def _entry_lines(entry: "Entry", exact: bool) -> list[str]:
    from datetime import UTC, datetime

    size = f"{entry.size} bytes" if exact or entry.size < 1024 else f"{human_size(entry.size)} ({entry.size} bytes)"
    moment = datetime.fromtimestamp(entry.mtime_ns // 1_000_000_000, UTC).astimezone()
    rows = [["path", entry.path], ["kind", entry.kind]]
    if not entry.is_directory:
        rows += [["size", size], ["replicas", str(entry.replication)]]
    rows += [
        ["mode", f"{mode_text(entry)} ({entry.mode:04o})"],
        ["owner", f"{entry.owner or '-'}:{entry.group or '-'}"],
        ["changed", moment.isoformat(sep=" ")],
        ["version", str(entry.version)],
    ]
    if entry.etag:
        rows.append(["etag", entry.etag])
    rows += [[f"+ {key}", value] for key, value in sorted(entry.attributes.items())]
    return table(rows)


def _places_record(places: "FilePlaces") -> dict[str, Any]:
    return {
        "extents": [
            {
                "position": extent.position,
                "chunk": extent.chunk,
                "offset": extent.offset,
                "length": extent.length,
                "digest": extent.digest,
            }
            for extent in places.extents
        ],
        "chunks": [
            {
                "id": chunk.id,
                "length": chunk.length,
                "digest": chunk.digest,
                "replication": chunk.replication,
                "replicas": [
                    {
                        "datanode": replica.datanode,
                        "url": replica.url,
                        "volume": replica.volume,
                        "state": replica.state,
                        "live": replica.live,
                    }
                    for replica in chunk.replicas
                ],
            }
            for chunk in places.chunks
        ],
    }


def _places_lines(places: "FilePlaces", exact: bool) -> list[str]:
    if not places.extents:
        return ["", "no chunks: the file is empty"]
    lines = ["", *_extent_lines(places.extents, exact)]
    for chunk in places.chunks:
        lines += ["", *_chunk_lines(chunk, exact)]
    return lines


def _extent_lines(extents: "list[FileExtent]", exact: bool) -> list[str]:
    rows = [["position", "length", "chunk", "from", "digest"]]
    rows += [
        [
            str(extent.position),
            size_text(extent.length, exact),
            f"…{extent.chunk[-_SHORT:]}",
            str(extent.offset),
            f"{extent.digest[:_SHORT]}…",
        ]
        for extent in extents
    ]
    return table(rows, right=[0, 1, 3])


def _chunk_lines(chunk: "ChunkPlaces", exact: bool) -> list[str]:
    good = sum(replica.live and replica.state == "good" for replica in chunk.replicas)
    lines = [
        f"chunk {chunk.id}",
        f"  {size_text(chunk.length, exact)}, {good} of {chunk.replication} replicas good",
        f"  digest {chunk.digest}",
    ]
    rows = [
        ["", replica.datanode, replica.url, replica.state if replica.live else f"{replica.state}, datanode is silent"]
        for replica in chunk.replicas
    ]
    return lines + table(rows)


@remote_command("test")
@click.argument("path", metavar="PATH")
@click.option("-e", "question", flag_value="exists", default="exists", help="It exists (the default).")
@click.option("-f", "question", flag_value="file", help="It is a file.")
@click.option("-d", "question", flag_value="directory", help="It is a directory.")
@click.option("-s", "question", flag_value="size", help="It is a file that is not empty.")
def test_command(session: Session, path: str, question: str) -> None:
    """Say by the exit code whether a path exists, or is a file or directory.

    0: yes. 1: no. Anything else: it could not be told.
    """
    target = session.path(path)
    try:
        entry = session.fs.stat(target)
    except (FileNotFound, NotADirectory):
        sys.exit(EXIT_SOME_FAILED)
    answers = {
        "exists": True,
        "file": not entry.is_directory,
        "directory": entry.is_directory,
        "size": not entry.is_directory and entry.size > 0,
    }
    sys.exit(EXIT_OK if answers[question] else EXIT_SOME_FAILED)


@remote_command("url")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
def url_command(session: Session, paths: tuple[str, ...]) -> None:
    """Show the HTTP address of a path.

    For programs that are not ours: curl -L, a browser. It need not exist yet: PUT makes it.
    """
    from dfs.protocol.http_files import files_target

    targets = session.paths(paths)
    namenode = session.fs.url.split(",")[0]
    for path in targets:
        sys.stdout.write(f"{namenode}{files_target(path)}\n")
