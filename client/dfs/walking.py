"""A directory and all that is below it, one listing after another.

Separate because copies, downloads and users walk alike: parents first, nothing held but the way back.
"""

from collections.abc import Callable, Iterable, Iterator

from dfs.protocol.errors import FileNotFound, NotADirectory
from dfs.protocol.messages import Entry


def walk(list_directory: Callable[[str], Iterable[Entry]], top: str) -> Iterator[tuple[str, list[Entry], list[Entry]]]:
    """Every directory from `top` down: its path, its directories, its files.

    A directory that is taken out of its list is not entered; one that vanishes meanwhile is passed over.
    Raises  FileNotFound, NotADirectory: `top` itself
    """
    waiting = [top]
    while waiting:
        here = waiting.pop()
        directories: list[Entry] = []
        files: list[Entry] = []
        try:
            for entry in list_directory(here):
                (directories if entry.is_directory else files).append(entry)
        except (FileNotFound, NotADirectory):
            if here == top:
                raise
            continue
        yield here, directories, files
        waiting += [entry.path for entry in reversed(directories)]


def entries_or_nothing(list_directory: Callable[[str], Iterable[Entry]], path: str) -> Iterator[Entry]:
    """What a directory has; nothing for what is missing, or a file."""
    try:
        yield from (entry for entry in list_directory(path) if entry.path != path)
    except (FileNotFound, NotADirectory):
        return
