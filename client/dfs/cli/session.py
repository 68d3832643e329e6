"""What every command that talks to a cluster shares: which namenode, the connection, remote paths, several items.

Separate from the commands because these rules must be the same everywhere: `--namenode` before and after the
subcommand, `dfs://` URLs, globs that match nothing, and what the exit code is when some of many items fail.
"""

import functools
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from dfs.cli.failures import SomeFailed, explain, show_traceback, tell
from dfs.globbing import has_magic
from dfs.protocol.errors import EXIT_SOME_FAILED, EXIT_UNREACHABLE, DfsError, FileNotFound

if TYPE_CHECKING:
    from dfs.client import Client

REMOTE = "dfs:"
"""Before a remote path where a local one could be meant; `dfs:/a` is `/a`."""
_SCHEME = "dfs://"


class Session:
    """One command's view of the cluster. Connects when it is first needed."""

    def __init__(self) -> None:
        self.namenode: str | None = None
        """As given by --namenode or a dfs:// URL; None: DFS_NAMENODE, then the default."""
        self.profile: str | None = None
        """As given by --profile."""
        self.parallel: int | None = None
        """Transfers at once, as given by -j."""
        self._from_url: str | None = None
        self._fs: Client | None = None

    @property
    def fs(self) -> "Client":
        if self._fs is None:
            from dfs.connecting import connect

            self._fs = connect(self.namenode, parallel=self.parallel, profile=self.profile)
            context = click.get_current_context(silent=True)
            if context is not None:
                context.find_root().call_on_close(self._fs.close)
        return self._fs

    def path(self, text: str) -> str:
        """The absolute path that `text` names: /a, dfs:/a, or that of a dfs:// URL, which also chooses the namenode."""
        if not text.startswith(_SCHEME):
            plain = text.removeprefix(REMOTE)
            if not plain.startswith("/"):
                raise click.UsageError(f"{text!r} is not a remote path; those begin with / or dfs://")
            return _one_slash(plain)
        place, slash, rest = text.removeprefix(_SCHEME).partition("/")
        if place:
            from dfs.connecting import parse_url

            url = parse_url(f"{_SCHEME}{place}")
            if self._from_url not in (None, url):
                raise click.UsageError("the paths name two clusters; one command works on one")
            self._from_url = self.namenode = url
        return _one_slash(slash + rest) or "/"

    def paths(self, texts: Iterable[str]) -> list[str]:
        """`path` of each, before the first connection is made."""
        return [self.path(text) for text in texts]

    def expand(self, path: str) -> list[str]:
        """The paths that a pattern matches, in order; `path` itself if it is no pattern. Raises FileNotFound.

        A pattern that matches nothing still names the file that is called exactly so, as in a shell: `/a/[1].txt`.
        """
        if not has_magic(path):
            return [path]
        matches = list(self.fs.glob(path))
        if not matches and self.fs.exists(path):
            return [path]
        if not matches:
            raise FileNotFound(f"{path}: nothing matches this pattern", path=path)
        return matches


def _one_slash(path: str) -> str:
    # "$DIR/$NAME" with DIR=/ has two; that they mean one is what every shell user expects.
    return re.sub("//+", "/", path)


def _take_namenode(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Session).namenode = value


def _take_profile(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Session).profile = value


def cluster_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--namenode and --profile: which cluster is meant."""
    function = click.option(
        "--profile",
        metavar="NAME",
        expose_value=False,
        callback=_take_profile,
        help="Of ~/.config/dfs/config.toml. Default: DFS_PROFILE, then the file's own.",
    )(function)
    return click.option(
        "--namenode",
        metavar="URL",
        expose_value=False,
        callback=_take_namenode,
        help="Namenode, several comma-separated. Default: DFS_NAMENODE, then the profile's.",
    )(function)


def _take_parallel(context: click.Context, _parameter: click.Parameter, value: int | None) -> None:
    if value is not None:
        context.ensure_object(Session).parallel = value


parallel_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "-j",
    type=click.IntRange(1, 64),
    metavar="N",
    expose_value=False,
    callback=_take_parallel,
    help="Chunks under way at once.",
)


def remote_command(name: str, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A click command that gets a `Session` first and understands --namenode. `settings`: of the command."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        @functools.wraps(function)
        def with_session(**arguments: Any) -> Any:
            return function(click.get_current_context().ensure_object(Session), **arguments)

        make: Callable[[Callable[..., Any]], click.Command] = click.command(name, **settings)
        return make(cluster_options(with_session))

    return decorate


HELP_IS_LONG: dict[str, Any] = {"context_settings": {"help_option_names": ["--help"]}}
"""For commands whose -h is a habit that means something else; see `human_option`."""


def human_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """-h as ls, du and df have it everywhere. Sizes are binary units without it, too."""
    return click.option("-h", expose_value=False, is_flag=True, help="Sizes in binary units, as always.")(function)


class Failures:
    """Tells what failed and remembers how badly, while the rest goes on."""

    def __init__(self) -> None:
        self._codes: list[int] = []
        self._succeeded = 0

    @contextmanager
    def item(self, *, counts: bool = True) -> Iterator[None]:
        """Around the work on one item: its error is told and the loop goes on, unless no other item could do better.

        counts  False: only preparation, whose success is nobody's success yet
        """
        try:
            yield
        except BrokenPipeError:
            raise
        except (DfsError, OSError) as error:
            sentence, exit_code = explain(error)
            if isinstance(error, DfsError) and exit_code == EXIT_UNREACHABLE:
                raise
            show_traceback(error)
            self.add(sentence, exit_code)
        else:
            self.succeeded(counts)

    def succeeded(self, count: int) -> None:
        """So many items went well."""
        self._succeeded += count

    def add(self, sentence: str, exit_code: int) -> None:
        """Something failed: say it now."""
        sys.stdout.flush()
        tell(sentence)
        self._codes.append(exit_code)

    def finish(self) -> None:
        """Raise SomeFailed if anything failed: with the code that all share if nothing went well, else with 1."""
        if not self._codes:
            return
        shared = not self._succeeded and len(set(self._codes)) == 1
        raise SomeFailed(self._codes[0] if shared else EXIT_SOME_FAILED)


def each_path(session: Session, texts: Iterable[str], work: Callable[[str], None], *, missing_ok: bool = False) -> None:
    """Expand the patterns and do `work` on every path; go on after failures, then raise SomeFailed.

    missing_ok  a pattern that matches nothing is no failure
    """
    failures = Failures()
    for path in session.paths(texts):
        expanded: list[str] = []
        with failures.item(counts=False):
            try:
                expanded = session.expand(path)
            except FileNotFound:
                if not missing_ok:
                    raise
        for match in expanded:
            with failures.item():
                work(match)
    failures.finish()
