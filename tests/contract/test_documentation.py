"""What is not documented does not exist: generated pages are current, and name every setting, command and operation."""

import os
import tomllib

import click
import pytest

from dfs.cli.commands import COMMANDS, root
from dfs.cli.generate import PAGES
from dfs.protocol import errors
from dfs.protocol.operations import OPERATIONS
from dfs.protocol.settings import environment_name, load
from dfs.roles import CLIENT_ENVIRONMENT, ROLES, setting_fields, settings_class

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def _read(path: str) -> str:
    with open(os.path.join(CHECKOUT, path), encoding="utf-8") as file:
        return file.read()


@pytest.mark.parametrize("path", PAGES)
def test_a_generated_page_is_current(path: str) -> None:
    assert _read(path) == PAGES[path](), f"{path} is out of date: run `make docs`"


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_operation_is_documented_with_its_messages(operation) -> None:  # type: ignore[no-untyped-def]
    page = _read("docs/protocol.md")
    assert f"\n### {operation.name}\n" in page
    assert f"`{operation.method} {operation.path}`" in page
    if operation.body == "json":
        for kind in (operation.request, operation.response):
            assert f'<a id="message-{kind.__name__.lower()}"></a>\n\n### {kind.__name__}\n' in page


def test_every_link_within_the_protocol_page_leads_somewhere() -> None:
    page = _read("docs/protocol.md")
    headings = {line.removeprefix("### ") for line in page.splitlines() if line.startswith("### ")} | {"errors"}
    targets = {piece.partition(")")[0] for piece in page.split("](#")[1:]}
    known = headings | {line.split('"')[1] for line in page.splitlines() if line.startswith("<a id=")}
    assert targets - known == set()


@pytest.mark.parametrize("code", errors.BY_CODE)
def test_every_error_code_is_documented(code: str) -> None:
    assert f"| `{code}` | {errors.BY_CODE[code].status} |" in _read("docs/protocol.md")


@pytest.mark.parametrize("role", ROLES)
def test_every_setting_is_documented_and_says_why(role: str) -> None:
    page = _read("docs/settings.md").partition(f"\n## {role}\n")[2].partition("\n## ")[0]
    for field in setting_fields(role):
        assert f"| `{field.name}` |" in page
        assert f"`{environment_name(field.name)}`" in page
        assert len(field.metadata["why"]) > 10


def test_every_environment_variable_of_the_client_is_documented() -> None:
    page = _read("docs/settings.md")
    assert all(f"| `{name}` |" in page for name in CLIENT_ENVIRONMENT)


@pytest.mark.parametrize("role", ROLES)
def test_the_example_file_uncommented_is_the_defaults(role: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    lines = _read("dfs.example.toml").splitlines()
    names = {field.name for each in ROLES for field in setting_fields(each)}
    settings = [line for line in lines if line.startswith("[") or line[2:].partition(" = ")[0] in names]
    text = "\n".join(line.removeprefix("# ") for line in settings)
    assert set(tomllib.loads(text)[role]) == {field.name for field in setting_fields(role)}
    path = tmp_path / "all.toml"
    path.write_text(text)
    kind = settings_class(role)
    assert load(kind, role=role, options={}, environ={}, config=str(path)) == kind()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented_with_all_its_options(name: str) -> None:
    command = root.get_command(click.Context(root), name)
    assert command is not None
    assert command.name == name
    section = _read("docs/commands.md").partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    assert section
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"dfs {name} {parameter.opts[0]} has no help"
            assert all(f"`{flag}`" in section for flag in parameter.opts)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_of_a_command_is_the_first_line_of_its_help(name: str) -> None:
    command = root.get_command(click.Context(root), name)
    assert command is not None
    assert (command.help or "").strip().splitlines()[0] == COMMANDS[name].summary
