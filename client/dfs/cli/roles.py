"""`dfs namenode` and `dfs datanode`: one server in the foreground, every setting of the role an option.

The options are made from the fields of the settings when the command is loaded, so that there is no second list.
"""

import logging
import sys
from typing import Any

import click

from dfs.cli.failures import explain
from dfs.cli.session import Session
from dfs.connecting import parse_url
from dfs.protocol.errors import EXIT_SOME_FAILED, DfsError, InvalidRequest
from dfs.roles import load_settings, option_name, run_role, setting_fields

LOG_LEVELS = ("debug", "info", "warning", "error")
_METAVARS = {int: "N", float: "SECONDS", str: "TEXT"}
_NAMED_METAVARS = {
    "dir": "DIR",
    "dirs": "DIR",
    "listen": "HOST:PORT",
    "namenode": "URL",
    "peer_url": "URL",
    "client_url": "URL",
    "rack": "RACK",
    "datanode_id": "ID",
    "log_level": "LEVEL",
}


def _metavar(name: str, default: Any) -> str:
    if name in _NAMED_METAVARS:
        return _NAMED_METAVARS[name]
    if isinstance(default, float) and not name.endswith("_s"):
        return "FRACTION"
    return _METAVARS.get(type(default), "TEXT")


def _default_text(default: Any) -> str:
    if isinstance(default, tuple):
        return ", ".join(default)
    if isinstance(default, float):
        return f"{default:g}"
    return str(default)


def _option(name: str, default: Any, why: str) -> click.Option:
    """The option of one setting. Values stay text: converting them is the settings' own business."""
    flags = [option_name(name), name]
    if isinstance(default, bool):
        return click.Option(flags, is_flag=True, flag_value=True, default=None, help=why)
    shown = _default_text(default)
    help_text = f"{why} Default: {shown}." if shown else why
    # `dfs --namenode URL datanode` is as good as `dfs datanode --namenode URL`.
    multiple = isinstance(default, tuple)
    return click.Option(flags, type=str, multiple=multiple, metavar=_metavar(name, default), help=help_text)


def _tell_end(role: str, error: Exception) -> int:
    """Log what ended a server; the exit code."""
    log = logging.getLogger("dfs.cli")
    if isinstance(error, OSError) and error.filename is not None:
        # A directory that can't be made or written, say: whoever starts the server is to name another one.
        sentence, exit_code = explain(error)
        log.error("the %s can't go on: %s", role, sentence)
        return exit_code
    # A server's log is read by whoever has to find out why: one sentence would not do.
    log.critical("the %s ends because of a bug", role, exc_info=True)
    return EXIT_SOME_FAILED


def _judge(settings: Any) -> None:
    """What is the same in both roles, and would only show later, or never. Raises InvalidRequest."""
    if settings.log_level not in LOG_LEVELS:
        raise InvalidRequest(f"the setting log_level must be {', '.join(LOG_LEVELS)}, not {settings.log_level!r}")
    for url in getattr(settings, "namenode", ()):
        # A datanode waits for a namenode that does not answer: it must not wait for what can't be one.
        parse_url(url)


def _role_command(role: str, help_text: str) -> click.Command:
    fields = setting_fields(role)
    tuples = {field.name for field in fields if isinstance(field.default, tuple)}

    def callback(config: str | None, **values: Any) -> None:
        # A repeated option that was not given is (), which means: ask the environment and the file.
        options = {name: (value or None) if name in tuples else value for name, value in values.items()}
        before = click.get_current_context().ensure_object(Session).namenode
        if before and "namenode" in tuples and options["namenode"] is None:
            options["namenode"] = before
        settings = load_settings(role, options, config)
        _judge(settings)
        try:
            code = run_role(role, settings)
        except DfsError:
            raise
        except Exception as error:
            code = _tell_end(role, error)
        sys.exit(code)

    parameters: list[click.Parameter] = [_option(field.name, field.default, field.metadata["why"]) for field in fields]
    parameters.append(
        click.Option(["--config"], metavar="FILE", envvar="DFS_CONFIG", help=f"TOML file whose table [{role}] is read.")
    )
    epilog = "Each option can also be an environment variable (DFS_ and its name) or a line of the TOML file."
    return click.Command(role, callback=callback, params=parameters, help=help_text, epilog=epilog)


def __getattr__(name: str) -> click.Command:
    # Made when asked for: a datanode does not load the namenode's settings, and neither is loaded for `dfs ls`.
    if name == "namenode_command":
        return _role_command("namenode", "Run a namenode.\n\nIt decides and remembers; it knows no bytes of files.")
    if name == "datanode_command":
        return _role_command("datanode", "Run a datanode.\n\nIt keeps chunks; it knows no paths.")
    raise AttributeError(name)
