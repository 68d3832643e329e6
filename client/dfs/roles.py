"""The server roles as the outside knows them: their settings, option names, and environment, loaded by name.

The one place where the client package reaches for a server, and only for the dataclass of its settings and its `run`;
so a client installs and imports without either server.
"""

import dataclasses
import difflib
import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any

from dfs.protocol.errors import InvalidRequest
from dfs.protocol.settings import environment_name, load

ROLES = ("namenode", "datanode")
_SETTINGS = {
    "namenode": ("dfs_namenode.settings", "NamenodeSettings"),
    "datanode": ("dfs_datanode.settings", "DatanodeSettings"),
}
_OPTION_NAMES = {"dirs": "--dir"}
"""Where an option that is given several times reads better in the singular."""
CLIENT_ENVIRONMENT: dict[str, str] = {
    "DFS_NAMENODE": "The namenode's URL; several, comma-separated, for fail-over. Clients and datanodes.",
    "DFS_PROFILE": "Which profile of ~/.config/dfs/config.toml a client uses; DFS_NAMENODE says more exactly where.",
    "DFS_DEBUG": "1: errors of the command show their traceback as well.",
    "DFS_CONFIG": "The TOML file that --config names.",
}
"""Variables beside those of the settings."""


def settings_class(role: str) -> type[Any]:
    """The settings dataclass of a role. Raises ModuleNotFoundError where the servers' packages are not installed."""
    module, name = _SETTINGS[role]
    kind = getattr(importlib.import_module(module), name)
    assert isinstance(kind, type)
    return kind


def setting_fields(role: str) -> "tuple[dataclasses.Field[Any], ...]":
    """The settings of a role, in the order in which they are documented."""
    return dataclasses.fields(settings_class(role))


def option_name(field_name: str) -> str:
    """The command-line option of a setting."""
    return _OPTION_NAMES.get(field_name, f"--{field_name.replace('_', '-')}")


def role_options(role: str, settings: Mapping[str, Any]) -> list[str]:
    """Those of `settings` that this role has, as command-line arguments."""
    known = {field.name for field in setting_fields(role)}
    arguments: list[str] = []
    for name, value in settings.items():
        if name not in known or value is None:
            continue
        if isinstance(value, bool):
            if value:
                arguments.append(option_name(name))
            continue
        for one in value if isinstance(value, tuple | list) else [value]:
            arguments += [option_name(name), str(one)]
    return arguments


def check_known(settings: Mapping[str, Any]) -> None:
    """Raise InvalidRequest if no role has one of these settings."""
    known = {field.name for role in ROLES for field in setting_fields(role)}
    for name in settings:
        if name not in known:
            raise InvalidRequest(f"no role has a setting {name!r}{_hint(name, known)}")


def check_environment(environ: Mapping[str, str]) -> None:
    """Raise InvalidRequest if a DFS_… variable means nothing: a misspelt one must never pass for a default."""
    known = {environment_name(field.name) for role in ROLES for field in setting_fields(role)} | set(CLIENT_ENVIRONMENT)
    for name in sorted(environ):
        if name.startswith("DFS_") and name not in known:
            raise InvalidRequest(
                f"the environment has {name}, which no role knows{_hint(name, known)}; unset it (docs/settings.md)"
            )


def _hint(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.75)
    return f" (did you mean {close[0]}?)" if close else ""


def load_settings(role: str, options: Mapping[str, Any], config: str | None) -> Any:
    """The settings of a role: from options, the environment, the TOML file, the defaults. Raises InvalidRequest."""
    check_environment(os.environ)
    return load(settings_class(role), role=role, options=options, config=config)


def run_role(role: str, settings: Any) -> int:
    """Run a server in this process until it is told to stop; the exit code."""
    run: Callable[[Any], int] = importlib.import_module(f"dfs_{role}.app").run
    return run(settings)
