"""The user's configuration file: which clusters there are, and what one wants of each.

    profile = "work"                                # unless DFS_PROFILE or --profile names another one

    [client]                                        # without any profile
    namenode = "http://127.0.0.1:9870"

    [profiles.work]
    namenode = ["http://nn1:9870", "http://nn2:9870"]
    replication = 2
    chunk_size_bytes = 134217728
    parallel = 8

Separate from connecting so that it is read only when something is to come of it. Unknown names are refused: a
misspelt one would be a default in silence.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dfs.protocol.errors import InvalidRequest
from dfs.protocol.settings import environment_name

_PLACE = "~/.config/dfs/config.toml"


@dataclass(frozen=True)
class Profile:
    """What a program that connects may leave out. None: it is not said."""

    namenode: str | None = None
    """URLs with commas between them."""
    replication: int | None = None
    chunk_size_bytes: int | None = None
    parallel: int | None = None
    """Chunks or parts under way at once."""


SETTINGS = tuple(Profile.__dataclass_fields__)
_TOP = ("client", "profile", "profiles")


def config_path(environ: Mapping[str, str]) -> str:
    """Where the file is, if there is one."""
    home = environ.get("XDG_CONFIG_HOME")
    return os.path.join(home, "dfs", "config.toml") if home else os.path.expanduser(_PLACE)


def profile_of(name: str | None, environ: Mapping[str, str]) -> Profile:
    """The profile to use: the named one, else that of DFS_PROFILE, else the file's `profile`, else its [client].

    Raises  InvalidRequest: there is none of that name, or the file can't be understood
    """
    path = config_path(environ)
    document = _read(path)
    name = name or environ.get(environment_name("profile")) or _text(document.get("profile"), path, "profile")
    if name is None:
        return _parse(document.get("client", {}), path, "client")
    profiles = document.get("profiles", {})
    if name not in profiles:
        known = f"there are {', '.join(sorted(profiles))}" if profiles else "it has none"
        raise InvalidRequest(f"{path} has no profile {name!r}; {known}")
    return _parse(profiles[name], path, f"profiles.{name}")


def profile_names(environ: Mapping[str, str]) -> list[str]:
    """The profiles that there are. Raises InvalidRequest."""
    return sorted(_read(config_path(environ)).get("profiles", {}))


def _read(path: str) -> dict[str, Any]:
    if not os.path.exists(path):
        return {}
    import tomllib

    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"can't read the profile {path}: {error}") from None
    unknown = sorted(document.keys() - set(_TOP))
    if unknown:
        raise InvalidRequest(f"{path} has no setting {unknown[0]!r}; there are {', '.join(_TOP)}")
    if not isinstance(document.get("profiles", {}), dict):
        raise InvalidRequest(f"{path}: profiles must be tables, like [profiles.work]")
    return document


def _parse(table: Any, path: str, where: str) -> Profile:
    if not isinstance(table, dict):
        raise InvalidRequest(f"{path}: [{where}] must be a table")
    unknown = sorted(table.keys() - set(SETTINGS))
    if unknown:
        raise InvalidRequest(f"{path}: [{where}] has no setting {unknown[0]!r}; there are {', '.join(SETTINGS)}")
    namenode = table.get("namenode")
    if isinstance(namenode, list) and namenode and all(isinstance(item, str) for item in namenode):
        namenode = ",".join(namenode)
    if namenode is not None and not isinstance(namenode, str):
        raise InvalidRequest(f"{path}: namenode in [{where}] must be a URL or a list of URLs")
    numbers = {name: _number(table[name], path, f"{name} in [{where}]") for name in SETTINGS[1:] if name in table}
    return Profile(namenode, **numbers)


def _number(value: Any, path: str, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidRequest(f"{path}: {where} must be a whole number of at least 1")
    return value


def _text(value: Any, path: str, where: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"{path}: {where} must be a text")
    return value
