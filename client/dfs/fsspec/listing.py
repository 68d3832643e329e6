"""Trees as fsspec's `find` wants them: all at once, each level of directories listed in parallel.

Separate because the client's `walk` is for callers who take their time and want one directory after another.
"""

from collections.abc import Callable, Iterable

from dfs.protocol.errors import FileNotFound, NotADirectory
from dfs.protocol.messages import Entry
from dfs.workers import Workers

DIRECTORIES_MAX = 8
"""Listed at once."""


def entries_below(
    list_directory: Callable[[str], Iterable[Entry]], top: str, *, levels: int | None, workers: Workers
) -> list[Entry]:
    """Files and directories below the directory `top`, at most `levels` deep; one that vanishes is passed over.

    Raises  what a listing raises otherwise: a list that lacks what could not be asked for would be a wrong answer
    """

    def listed(path: str) -> list[Entry]:
        try:
            return [entry for entry in list_directory(path) if entry.path != path]
        except (FileNotFound, NotADirectory):
            if path == top:
                raise
            return []

    found: list[Entry] = []
    level = [top]
    depth = 0
    while level and (levels is None or depth < levels):
        depth += 1
        below: list[str] = []
        # One directory needs no thread.
        answers = map(listed, level) if len(level) == 1 else workers.map(listed, level, ahead=DIRECTORIES_MAX)
        for entries in answers:
            found += entries
            below += [entry.path for entry in entries if entry.is_directory]
        level = below
    return found
