"""`dfs completion`: what a shell needs to complete commands, options, and remote paths.

The scripts are small: they pass the words to `dfs completion --words -- …` and show what comes back, one candidate on a
line. What could come next is decided here, the same for all shells. A path costs one call that lists one directory,
and whatever goes wrong says nothing: nobody wants an error in the middle of a command line.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import click

from dfs.cli.session import REMOTE, Session
from dfs.protocol.errors import DfsError

PATIENCE_S = 1.5
"""Who presses Tab does not wait longer for a cluster, whatever it does."""
CANDIDATES_MAX = 500
LOCAL_FILES = ":files"
"""Instead of candidates: the shell shall complete local files."""

_LOCAL_FIRST = {"put": -1, "append": 1}
"""Commands whose arguments are local, so many of them; -1: all but the last, which may be either."""
_EITHER = {"get", "sync"}
_REMOTE = {
    "append", "cat", "checksum", "chmod", "chown", "concat", "cp", "du", "find", "fsck", "get", "head", "ls", "mkdir",
    "mv", "rm", "rmdir", "setrep", "stat", "tail", "test", "touch", "tree", "truncate", "url",
}  # fmt: skip
_NOT_A_PATH = {"chmod": 1, "chown": 1, "setrep": 1}
"""So many arguments before the paths are something else."""

_BASH = r"""_dfs_complete() {
    local candidates candidate word begun=${COMP_WORDS[COMP_CWORD]} colons="" place=$COMP_CWORD
    COMPREPLY=()
    candidates=$(COMP_LINE="${COMP_LINE:0:COMP_POINT}" dfs completion --line 2>/dev/null)
    if [[ $candidates == ":files" ]]; then
        compopt -o default
        return
    fi
    # A colon is a word of its own to bash: what stands before those that were typed is not to be replaced.
    [[ $begun == ":" ]] && place=$((place + 1))
    while (( place > 1 )) && [[ ${COMP_WORDS[place - 1]} == ":" ]]; do
        colons+=":"
        place=$((place - 2))
    done
    while IFS= read -r candidate; do
        [[ $candidate ]] || continue
        [[ $candidate == */ ]] && compopt -o nospace
        for (( place = 0; place < ${#colons}; place++ )); do
            candidate=${candidate#*:}
        done
        case $begun in
            \"*) word=$(sed 's/[\"$`]/\\&/g' <<< "$candidate") ;;
            \'*) word=$(sed "s/'/'\\\\''/g" <<< "$candidate") ;;
            *) printf -v word %q "$candidate" ;;
        esac
        COMPREPLY+=("$word")
    done <<< "$candidates"
}
complete -o nosort -F _dfs_complete dfs 2>/dev/null || complete -F _dfs_complete dfs
"""

_ZSH = """\
#compdef dfs
_dfs_complete() {
    local -a candidates directories others
    candidates=("${(@f)$(dfs completion --words -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    if [[ "${candidates[1]}" == ":files" ]]; then
        _files
        return
    fi
    directories=(${(M)candidates:#*/})
    others=(${candidates:#*/})
    (( ${#directories} )) && compadd -U -S '' -- "${directories[@]}"
    (( ${#others} )) && compadd -U -- "${others[@]}"
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
compdef _dfs_complete dfs
"""

_FISH = """\
function __dfs_complete
    set -l words (commandline -opc) (commandline -ct | string unescape)
    set -l candidates (dfs completion --words -- $words[2..-1] 2>/dev/null)
    if test "$candidates" = ":files"
        __fish_complete_path (commandline -ct)
    else
        string join \\n -- $candidates
    end
end
complete -c dfs -f -a "(__dfs_complete)"
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


@click.command("completion", context_settings={"ignore_unknown_options": True})
@click.argument("shell", metavar="SHELL", required=False, type=click.UNPROCESSED)
@click.option("--words", "by_words", is_flag=True, hidden=True, help="Complete the last of the words that follow.")
@click.option("--line", "by_line", is_flag=True, hidden=True, help="Complete the end of COMP_LINE.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="")
@click.pass_context
def completion_command(
    context: click.Context, shell: str | None, words: tuple[str, ...], by_words: bool, by_line: bool
) -> None:
    """Write a script that completes commands and paths.

    SHELL is bash, zsh or fish. Remote paths are asked for from the cluster: that of --namenode or --profile on the
    line, else the one that the command itself would use.
    """
    if by_line:
        show(split_line(os.environ.get("COMP_LINE", "")), context.find_root())
    elif by_words:
        show([shell or "", *words], context.find_root())
    elif shell not in SCRIPTS or words:
        raise click.UsageError(f"SHELL is one of {', '.join(SCRIPTS)}", context)
    else:
        sys.stdout.write(SCRIPTS[shell])


def show(words: Sequence[str], root: click.Context) -> None:
    """Write the candidates for the last of the words behind `dfs`, one on a line."""
    try:
        found = list(candidates(words, root))[:CANDIDATES_MAX]
    except (DfsError, OSError, click.ClickException):
        # No cluster, no such directory, half a word: there is nothing to offer.
        return
    sys.stdout.writelines(f"{candidate}\n" for candidate in found)


def split_line(line: str) -> list[str]:
    """The words behind `dfs` as the shell would see them, the last one as far as it is typed."""
    import shlex

    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    try:
        words.extend(lexer)
    except ValueError:
        # A quote that is still open, or a backslash at the end: what stands behind it is the last word.
        return [*words, lexer.token][1:]
    if line[-1:].isspace() and not line.endswith("\\ "):
        words.append("")
    return words[1:]


def candidates(words: Sequence[str], root: click.Context) -> Iterable[str]:
    """What the last word could become. Raises whatever went wrong."""
    from dfs.cli.commands import COMMANDS
    from dfs.profiles import profile_names

    *before, word = words or [""]
    command, path, arguments, wants = _parse(before, root)
    if wants is not None:
        return _starting(profile_names(os.environ), word) if wants == "--profile" else []
    if isinstance(command, click.Group):
        names = COMMANDS if command is root.command else command.commands
        return _starting(_options(command), word) if word.startswith("-") else _starting(names, word)
    if word.startswith("-"):
        return _starting(_options(command), word)
    kind = _kind(path, arguments, word)
    if kind == "remote":
        session = _session(before, root)
        return in_time(lambda: remote_paths(session, word))
    return [LOCAL_FILES] if kind == "local" else []


def in_time(work: Callable[[], Iterable[str]]) -> list[str]:
    """What `work` finds before patience ends, or else nothing.

    In a thread, which is left behind: neither a name service that hangs nor a peer that sends one byte a second ends by
    a time-out of a socket.
    """
    found: list[str] = []

    def run() -> None:
        with suppress(DfsError, OSError, click.ClickException):
            found.extend(work())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return list(found)


def _starting(names: Iterable[str], word: str) -> list[str]:
    return [name for name in names if name.startswith(word)]


def _options(command: click.Command) -> list[str]:
    flags = [flag for option in command.params if isinstance(option, click.Option) and not option.hidden
             for flag in (*option.opts, *option.secondary_opts)]  # fmt: skip
    return sorted({*flags, "--help"})


def _parse(before: Sequence[str], root: click.Context) -> tuple[click.Command, str, int, str | None]:
    """The command that the words name, its name, how many arguments it has, and the option that wants a value."""
    command: click.Command = root.command
    name, arguments = "", 0
    wants: str | None = None
    for word in before:
        if wants is not None:
            wants = None
        elif word.startswith("-") and word != "-":
            option = _option(command, word)
            takes = option is not None and not option.is_flag and "=" not in word
            wants = word if takes else None
        elif isinstance(command, click.Group):
            found = command.get_command(root, word)
            if found is None:
                raise click.UsageError(word)
            command, name = found, f"{name} {word}".strip()
        else:
            arguments += 1
    return command, name, arguments, wants


def _option(command: click.Command, word: str) -> click.Option | None:
    for option in command.params:
        if isinstance(option, click.Option) and word in (*option.opts, *option.secondary_opts):
            return option
    return None


def _kind(name: str, arguments: int, word: str) -> str:
    """What the next argument of a command is: remote, local, or nothing that can be completed."""
    looks_remote = word.startswith(("/", REMOTE))
    if name == "put":
        return "remote" if arguments and looks_remote else "local"
    if name in _LOCAL_FIRST and arguments < _LOCAL_FIRST[name]:
        return "local"
    if name == "sync":
        return "remote" if word.startswith(REMOTE) else "local"
    if name in _EITHER and arguments and not looks_remote:
        return "local"
    if name in _REMOTE and arguments >= _NOT_A_PATH.get(name, 0):
        return "remote"
    return "local" if name in ("mini", "namenode", "datanode", "bench") else ""


def _session(before: Sequence[str], root: click.Context) -> Session:
    """The session that the options on the line ask for."""
    session = Session()
    known = root.ensure_object(Session)
    session.namenode, session.profile = known.namenode, known.profile
    for place, word in enumerate(before):
        flag, equals, value = word.partition("=")
        if flag in ("--namenode", "--profile"):
            value = value if equals else "".join(before[place + 1 : place + 2])
            setattr(session, flag.removeprefix("--"), value or None)
    return session


def remote_paths(session: Session, word: str) -> Iterable[str]:
    """The remote paths that begin with `word`, spelled as it is; directories end with a slash. One call."""
    if not word.startswith("/") and not word.startswith(REMOTE):
        # The whole of what one can begin with.
        return [f"{start}" for start in ("/",) if start.startswith(word)] or _starting([f"{REMOTE}/"], word)
    head, slash, begun = word.rpartition("/")
    if not slash or (head in (REMOTE, f"{REMOTE}/") and word.startswith(f"{REMOTE}//")):
        return []
    directory = session.path(f"{head}/")
    shown = f"{head}/"
    return [f"{shown}{name}" for name in _names(session, directory, begun)]


def _names(session: Session, directory: str, begun: str) -> list[str]:
    """The names in a directory that begin so."""
    from dfs.connecting import namenode_urls
    from dfs.protocol.messages import ListDirectory
    from dfs.protocol.names import canonical_path
    from dfs.protocol.operations import LIST
    from dfs.protocol.transport import Transport

    request = ListDirectory(path=canonical_path(directory), after=just_before(begun), limit=CANDIDATES_MAX)
    urls = namenode_urls(session.namenode, profile=session.profile)
    each_s = PATIENCE_S / len(urls)
    transport = Transport(connect_timeout_s=each_s)
    try:
        for url in urls:
            try:
                page = transport.call(url, LIST, request, timeout_s=each_s)
            except DfsError as error:
                failure = error
                continue
            return [
                f"{entry.name}/" if entry.is_directory else entry.name
                for entry in page.entries
                if entry.name.startswith(begun) and (begun or not entry.name.startswith("."))
            ]
    finally:
        transport.close()
    raise failure


def just_before(begun: str) -> str:
    """A name that sorts before all that begin with `begun` and behind nearly all others: where a listing may start."""
    if not begun or ord(begun[-1]) <= 0x20:
        return ""
    last = ord(begun[-1]) - 1
    # Surrogates are no characters.
    last = 0xD7FF if 0xD800 <= last <= 0xDFFF else last
    return f"{begun[:-1]}{chr(last)}\U0010ffff"
