"""Which namenode a client talks to: an argument, the environment, the profile, or the default. And `connect`.

Separate from the client so that the command line and programs find the same cluster in the same way.
"""

import os
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dfs.protocol.errors import InvalidRequest
from dfs.protocol.settings import environment_name

if TYPE_CHECKING:
    from dfs.client import Client
    from dfs.protocol.clock import Clock

DEFAULT_URL = "http://127.0.0.1:9870"
DEFAULT_PORT = 9870
PARALLEL = 4
"""Chunks or parts of one file under way at once: enough to keep a few datanodes busy."""
NEARLY = 0.85
"""As alike as a name and what somebody typed for it: DFS_NAMENODE_URL, DFS_NAMNODE; less so than DFS_DATANODE_ID."""
PROFILE = "~/.config/dfs/config.toml"
"""A TOML file; `namenode` in its table [client] is a URL or a list of them."""


def connect(
    url: str | None = None,
    *,
    parallel: int = PARALLEL,
    chunk_size: int | None = None,
    replication: int | None = None,
    principal: str = "anonymous",
    clock: "Clock | None" = None,
    rng: random.Random | None = None,
) -> "Client":
    """A client of the cluster at `url`: one namenode, or several with commas between them.

    url          None: DFS_NAMENODE, else the profile in ~/.config/dfs/config.toml, else http://127.0.0.1:9870
    parallel     chunks or parts of one file that travel at once
    chunk_size   bytes of the chunks of new files; None: the cluster's default
    replication  replicas of new files; None: the cluster's default

    No call is made yet: a namenode that does not answer shows at the first use.
    """
    from dfs.client import Client
    from dfs.namenodes import Namenodes
    from dfs.protocol.clock import SystemClock
    from dfs.protocol.transport import Transport

    if parallel < 1:
        raise InvalidRequest(f"parallel={parallel}: at least one at a time")
    transport = Transport(principal=principal)
    clock = SystemClock() if clock is None else clock
    rng = random.Random() if rng is None else rng
    namenodes = Namenodes(namenode_urls(url), transport, clock=clock, rng=rng)
    return Client(
        namenodes, transport, clock=clock, rng=rng, parallel=parallel, chunk_size=chunk_size, replication=replication
    )


def namenode_urls(given: str | None = None, environ: Mapping[str, str] | None = None) -> list[str]:
    """The URLs to use: those given, else DFS_NAMENODE, else the profile's, else the default.

    Raises  InvalidRequest: something that is not a URL, an unreadable profile, a variable that is nearly DFS_NAMENODE
    """
    environ = os.environ if environ is None else environ
    if given is None:
        given = environ.get(environment_name("namenode")) or None
    if given is None:
        _refuse_misspelt(environ)
        given = _profile(environ) or DEFAULT_URL
    urls = [parse_url(part) for part in given.split(",") if part.strip()]
    if not urls:
        raise InvalidRequest("no namenode is named; it looks like http://host:9870")
    return list(dict.fromkeys(urls))


def parse_url(text: str) -> str:
    """The base URL that `text` means: http://, https:// or dfs://, or just host:port. Raises InvalidRequest."""
    text = text.strip()
    full = text if "://" in text else f"http://{text}"
    try:
        url = urlsplit(full)
        port = url.port
    except ValueError:
        url, port = urlsplit(""), None
    if url.scheme not in ("http", "https", "dfs") or not url.hostname or url.query or url.username:
        raise InvalidRequest(f"{text!r} is not the URL of a namenode; it looks like http://host:9870")
    if url.scheme != "dfs" and url.path not in ("", "/"):
        raise InvalidRequest(f"{text!r} has a path; the URL of a namenode has none")
    scheme = "http" if url.scheme == "dfs" else url.scheme
    if port is None:
        port = 443 if scheme == "https" else DEFAULT_PORT
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return f"{scheme}://{host}:{port}"


def _refuse_misspelt(environ: Mapping[str, str]) -> None:
    """Refuse a variable that is nearly ours, where ours is not set: the wrong cluster would be worked on in silence.

    Servers refuse every unknown DFS_… variable; a client can't, as it does not know the settings of the servers whose
    environment it may be running in, and programs have variables of their own.
    """
    wanted = environment_name("namenode")
    for name in sorted(environ):
        if name.upper().startswith("DFS") and name != wanted:
            from difflib import SequenceMatcher

            if SequenceMatcher(None, name.upper(), wanted).ratio() >= NEARLY:
                raise InvalidRequest(f"the environment has {name}, which means nothing; is it {wanted} that you meant?")


def _profile(environ: Mapping[str, str]) -> str | None:
    home = environ.get("XDG_CONFIG_HOME")
    path = os.path.join(home, "dfs", "config.toml") if home else os.path.expanduser(PROFILE)
    if not os.path.exists(path):
        return None
    import tomllib

    try:
        with open(path, "rb") as file:
            client = tomllib.load(file).get("client", {})
        namenode = client.get("namenode")
        unknown = sorted(client.keys() - {"namenode"})
    except (OSError, tomllib.TOMLDecodeError, AttributeError) as error:
        raise InvalidRequest(f"can't read the profile {path}: {error}") from None
    if unknown:
        raise InvalidRequest(f"{path}: [client] has no setting {unknown[0]!r}; there is namenode")
    if namenode is None or isinstance(namenode, str):
        return namenode
    if isinstance(namenode, list) and all(isinstance(item, str) for item in namenode):
        return ",".join(namenode)
    raise InvalidRequest(f"{path}: namenode in [client] must be a URL or a list of URLs")
