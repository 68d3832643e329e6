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
    from dfs.profiles import Profile
    from dfs.protocol.clock import Clock

DEFAULT_URL = "http://127.0.0.1:9870"
DEFAULT_PORT = 9870
PARALLEL = 4
"""Chunks or parts of one file under way at once: enough to keep a few datanodes busy."""
NEARLY = 0.85
"""As alike as a name and what somebody typed for it: DFS_NAMENODE_URL, DFS_NAMNODE; less so than DFS_DATANODE_ID."""


def connect(
    url: str | None = None,
    *,
    parallel: int | None = None,
    chunk_size: int | None = None,
    replication: int | None = None,
    profile: str | None = None,
    principal: str = "anonymous",
    clock: "Clock | None" = None,
    rng: random.Random | None = None,
) -> "Client":
    """A client of the cluster at `url`: one namenode, or several with commas between them.

    url          None: that of `profile`, else DFS_NAMENODE, else that of ~/.config/dfs/config.toml, else
                 http://127.0.0.1:9870
    parallel     chunks or parts of one file that travel at once; None: the profile's, else 4
    chunk_size   bytes of the chunks of new files; None: the profile's, else the cluster's default
    replication  replicas of new files; None: the profile's, else the cluster's default
    profile      of ~/.config/dfs/config.toml (see `dfs.profiles`); None: DFS_PROFILE, else the file's own choice, which
                 is not for those who name a URL

    No call is made yet: a namenode that does not answer shows at the first use.
    """
    from dfs.client import Client
    from dfs.namenodes import Namenodes
    from dfs.protocol.clock import SystemClock
    from dfs.protocol.transport import Transport

    if parallel is not None and parallel < 1:
        raise InvalidRequest(f"parallel={parallel}: at least one at a time")
    urls, wanted = _found(url, profile, os.environ)
    transport = Transport(principal=principal)
    clock = SystemClock() if clock is None else clock
    rng = random.Random() if rng is None else rng
    namenodes = Namenodes(urls, transport, clock=clock, rng=rng)
    return Client(
        namenodes,
        transport,
        clock=clock,
        rng=rng,
        parallel=parallel or wanted.parallel or PARALLEL,
        chunk_size=chunk_size or wanted.chunk_size_bytes,
        replication=replication or wanted.replication,
    )


def namenode_urls(
    given: str | None = None, environ: Mapping[str, str] | None = None, *, profile: str | None = None
) -> list[str]:
    """The URLs to use: those given, else the named profile's, else DFS_NAMENODE, else the file's, else the default.

    Raises  InvalidRequest: something that is not a URL, an unreadable profile, a variable that is nearly DFS_NAMENODE
    """
    return _found(given, profile, os.environ if environ is None else environ)[0]


def _found(given: str | None, profile: str | None, environ: Mapping[str, str]) -> "tuple[list[str], Profile]":
    """The namenodes' URLs, and the profile that goes with them."""
    from dfs.profiles import Profile, profile_of

    wanted = Profile() if given is not None and profile is None else None
    if given is None and profile is None:
        given = environ.get(environment_name("namenode")) or None
        if given is None:
            _refuse_misspelt(environ)
        elif not environ.get(environment_name("profile")):
            # What the file says without being asked belongs to its own cluster.
            wanted = Profile()
    if wanted is None:
        wanted = profile_of(profile, environ)
    text = given or wanted.namenode or DEFAULT_URL
    urls = [parse_url(part) for part in text.split(",") if part.strip()]
    if not urls:
        raise InvalidRequest("no namenode is named; it looks like http://host:9870")
    return list(dict.fromkeys(urls)), wanted


def parse_url(text: str) -> str:
    """The base URL that `text` means: http://, https:// or dfs://, or just host:port. Raises InvalidRequest."""
    text = text.strip()
    full = text if "://" in text else f"http://{text}"
    try:
        url = urlsplit(full)
        port = url.port
    except ValueError:
        url, port = urlsplit(""), None
    spaced = any(character <= " " for character in full)
    if url.scheme not in ("http", "https", "dfs") or not url.hostname or url.query or url.username or spaced:
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
