"""Settings of a role: one frozen dataclass; values from options, then the environment, then a TOML file, then defaults.

Separate because both servers load theirs alike and the documentation is generated from the same fields. A field is
made with `setting(default, why)`, has its unit in its name, and is a str, int, float, bool, or a tuple of str. Its
environment variable is `DFS_` and the name in capitals; in TOML it is a key of the table of the role. Unknown names
are refused, so that a misspelt setting never passes for a default.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, TypeVar

from dfs.protocol.errors import InvalidRequest

S = TypeVar("S")
PARENT_VARIABLE = "_DFS_PARENT"
"""No setting: whoever starts a server that is to end with it says by this who it is, as a process id."""
_KINDS = {
    bool: "true or false",
    int: "a whole number, not negative",
    float: "a number, not negative",
    str: "a text",
    tuple: "a list of texts",
}


def setting(default: Any, why: str) -> Any:
    """A field of a settings dataclass. `why` says what it decides and why the default is what it is."""
    return dataclasses.field(default=default, metadata={"why": why})


def environment_name(field_name: str) -> str:
    """The environment variable of a field."""
    return f"DFS_{field_name.upper()}"


def _convert(name: str, value: Any, default: Any) -> Any:
    """`value`, from text or TOML, as the type that the default has. Raises InvalidRequest."""
    try:
        if isinstance(default, bool):
            if isinstance(value, bool):
                return value
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[str(value).lower()]
        if isinstance(default, tuple):
            if isinstance(value, str):
                return tuple(part.strip() for part in value.split(",") if part.strip())
            return tuple(str(part) for part in value)
        if isinstance(default, int | float):
            if isinstance(value, bool):
                raise ValueError(value)
            number = type(default)(value)
            if number != float(value) or number < 0:
                raise ValueError(value)
            return number
        if not isinstance(value, str):
            raise ValueError(value)
    except (KeyError, ValueError, TypeError):
        raise InvalidRequest(f"the setting {name} must be {_KINDS[type(default)]}, not {value!r}") from None
    return value


def load(
    kind: type[S],
    *,
    role: str,
    options: Mapping[str, Any],
    environ: Mapping[str, str] | None = None,
    config: str | None = None,
) -> S:
    """Build the settings of a role.

    options  by field name; None means not given
    environ  by default that of the process
    config   path of a TOML file whose table `[role]` is read
    Raises   InvalidRequest: an unknown name, a value of the wrong type, an unreadable file
    """
    environ = os.environ if environ is None else environ
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    chosen: dict[str, Any] = {}
    if config is not None:
        for name, value in _read_table(config, role).items():
            if name not in fields:
                raise InvalidRequest(f"{config}: [{role}] has no setting {name!r}; dfs.example.toml lists them all")
            chosen[name] = _convert(name, value, fields[name].default)
    for name, field in fields.items():
        text = environ.get(environment_name(name))
        if text is not None:
            chosen[name] = _convert(environment_name(name), text, field.default)
    for name, value in options.items():
        if name not in fields:
            raise InvalidRequest(f"{role} has no setting {name!r}")
        if value is not None:
            chosen[name] = _convert(name, value, fields[name].default)
    return kind(**chosen)


def _read_table(config: str, role: str) -> Mapping[str, Any]:
    import tomllib

    try:
        with open(config, "rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise InvalidRequest(
            f"can't read the configuration {config}: {(error.strerror or str(error)).lower()}"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequest(f"{config} is not valid TOML: {error}") from None
    unknown = set(document) - {"namenode", "datanode", "client"}
    if unknown:
        raise InvalidRequest(f"{config}: unknown table [{min(unknown)}]; there are [namenode], [datanode] and [client]")
    table = document.get(role, {})
    if not isinstance(table, dict):
        raise InvalidRequest(f"{config}: {role} must be a table")
    return table
