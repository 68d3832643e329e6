"""Which paths and names dfs accepts. The one boundary where characters are judged; the store takes what passes.

Names are UTF-8 as given, without normalisation: two names that look alike may differ, as in any Unix file system.
"""

import re

from dfs.protocol.errors import InvalidName

NAME_BYTES_MAX = 255
PATH_BYTES_MAX = 4096
DEPTH_MAX = 128

_forbidden = re.compile("[\x00-\x1f\x7f-\x9f/]").search
"""Control characters and the slash."""


_plain = re.compile("(?:/[!-.0-~][ -.0-~]{0,254})+").fullmatch
"""A path in canonical spelling, of ASCII names; `.` and `..` have this form, too."""


def check_name(name: str) -> str:
    """Return `name` if a directory entry may be called that. Raises InvalidName, which says why not."""
    if name in ("", ".", ".."):
        raise InvalidName(f"{name!r} can't be the name of a file or directory")
    if _forbidden(name):
        raise InvalidName(f"the name {name!r} has a control character or a slash; rename it")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidName(f"the name {name!r} is not valid UTF-8; rename it") from None
    if size > NAME_BYTES_MAX:
        raise InvalidName(f"the name {name[:40]!r}… is {size} bytes long; at most {NAME_BYTES_MAX} are allowed")
    return name


def split_path(path: str) -> tuple[str, ...]:
    """The components of an absolute path; the root has none. One trailing slash is allowed, doubled ones are not.

    Raises InvalidName.
    """
    if not path.startswith("/"):
        raise InvalidName(f"{path!r} is not an absolute path; remote paths begin with /")
    if len(path) > PATH_BYTES_MAX or len(path.encode(errors="surrogatepass")) > PATH_BYTES_MAX:
        raise InvalidName(f"the path {path[:40]!r}… is longer than {PATH_BYTES_MAX} bytes")
    if path == "/":
        return ()
    parts = path.removeprefix("/").removesuffix("/").split("/")
    if len(parts) > DEPTH_MAX:
        raise InvalidName(f"the path {path[:40]!r}… has {len(parts)} levels; at most {DEPTH_MAX} are allowed")
    for part in parts:
        check_name(part)
    return tuple(parts)


def join_path(parts: tuple[str, ...]) -> str:
    """The canonical absolute path of these components."""
    return "/" + "/".join(parts)


def canonical_path(path: str) -> str:
    """The one spelling of `path`: absolute, no trailing slash. Raises InvalidName."""
    if len(path) <= PATH_BYTES_MAX and _plain(path) and "/." not in path and path.count("/") <= DEPTH_MAX:
        return path
    return join_path(split_path(path))
