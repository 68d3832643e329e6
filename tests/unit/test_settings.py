"""Settings: where a value comes from, and that nothing misspelt passes for a default."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from dfs.protocol.errors import InvalidRequest
from dfs.protocol.settings import load, setting


@dataclass(frozen=True)
class Role:
    dir: str = setting("x", "where")
    grace_s: float = setting(30.0, "how long")
    copies: int = setting(3, "how many")
    insecure: bool = setting(False, "whether")
    urls: tuple[str, ...] = setting((), "which")


def test_options_win_over_the_environment_over_the_file_over_defaults(tmp_path: Path) -> None:
    config = tmp_path / "dfs.toml"
    config.write_text('[namenode]\ndir = "file"\ncopies = 1\ngrace_s = 5\nurls = ["a", "b"]\n')
    environ = {"DFS_DIR": "environment", "DFS_COPIES": "2", "DFS_INSECURE": "yes"}
    role = load(Role, role="namenode", options={"dir": "option", "copies": None}, environ=environ, config=str(config))
    assert role == Role(dir="option", grace_s=5.0, copies=2, insecure=True, urls=("a", "b"))
    assert load(Role, role="namenode", options={}, environ={"DFS_URLS": "a, b"}).urls == ("a", "b")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[namenode]\ndirr = 1\n", "dirr"),
        ("[namenod]\n", "namenod"),
        ("[namenode]\ncopies = 'three'\n", "copies"),
        ("[namenode]\ncopies = 1.5\n", "copies"),
        ("[namenode]\ncopies = -1\n", "copies"),
        ("[namenode]\ninsecure = 'perhaps'\n", "insecure"),
        ("namenode = 3\n", "table"),
        ("[[[", "TOML"),
    ],
)
def test_what_is_unknown_or_of_the_wrong_type_is_refused_by_name(tmp_path: Path, text: str, word: str) -> None:
    config = tmp_path / "dfs.toml"
    config.write_text(text)
    with pytest.raises(InvalidRequest, match=word):
        load(Role, role="namenode", options={}, environ={}, config=str(config))


def test_an_unknown_option_or_a_missing_file_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="nope"):
        load(Role, role="namenode", options={"nope": 1}, environ={})
    with pytest.raises(InvalidRequest, match="no such file"):
        load(Role, role="namenode", options={}, environ={}, config="/nonexistent/dfs.toml")
