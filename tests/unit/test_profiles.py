"""Profiles in the user's configuration file: which one is used, and what is refused."""

from pathlib import Path

import pytest

from dfs.connecting import connect, namenode_urls
from dfs.profiles import Profile, profile_names, profile_of
from dfs.protocol.errors import InvalidRequest

TEXT = """
profile = "work"
[client]
namenode = "http://client:1"
[profiles.work]
namenode = ["http://w1:1", "http://w2:2"]
replication = 2
chunk_size_bytes = 1048576
parallel = 8
[profiles.home]
"""


@pytest.fixture(name="home")
def a_configuration(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "dfs").mkdir()
    write(tmp_path, TEXT)
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def write(place: Path, text: str) -> None:
    (place / "dfs" / "config.toml").write_text(text)


def test_the_option_wins_over_the_environment_over_the_files_choice_over_its_client_table(
    home: dict[str, str], tmp_path: Path
) -> None:
    assert profile_of(None, home) == Profile("http://w1:1,http://w2:2", 2, 1 << 20, 8)
    assert profile_of(None, home | {"DFS_PROFILE": "home"}) == Profile()
    assert profile_of("work", home | {"DFS_PROFILE": "home"}).parallel == 8
    assert profile_names(home) == ["home", "work"]
    write(tmp_path, TEXT.replace('profile = "work"', ""))
    assert profile_of(None, home) == Profile("http://client:1")
    assert profile_of(None, {"XDG_CONFIG_HOME": "/nonexistent"}) == Profile()


def test_a_namenode_in_the_environment_gives_way_only_to_a_profile_that_is_asked_for(home: dict[str, str]) -> None:
    environ = home | {"DFS_NAMENODE": "env:1"}
    assert namenode_urls(None, environ) == ["http://env:1"]
    assert namenode_urls(None, environ, profile="work") == ["http://w1:1", "http://w2:2"]
    assert namenode_urls("arg:1", environ, profile="work") == ["http://arg:1"]
    assert namenode_urls(None, environ, profile="home") == ["http://127.0.0.1:9870"]


def test_a_client_has_what_its_profile_says_unless_it_is_told(
    home: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DFS_NAMENODE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", home["XDG_CONFIG_HOME"])
    with connect() as fs:
        assert (fs._parallel, fs._replication, fs._chunk_size) == (8, 2, 1 << 20)
    with connect(profile="work", parallel=1, replication=3, chunk_size=5) as fs:
        assert (fs._parallel, fs._replication, fs._chunk_size) == (1, 3, 5)
    with connect("elsewhere:1") as fs:
        assert (fs._parallel, fs._replication, fs._chunk_size) == (4, None, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("profil = 'x'", "profil"),
        ("[client]\nnamenod = 'x'", "namenod"),
        ("[client]\nnamenode = 3", "URL"),
        ("[client]\nnamenode = []", "URL"),
        ("[client]\nparallel = 0", "at least 1"),
        ("[client]\nparallel = true", "whole number"),
        ("[client]\nreplication = 'many'", "whole number"),
        ("client = 3", "table"),
        ("profiles = 3", "tables"),
        ("profile = 3", "text"),
        ("profile = 'gone'", "gone"),
        ("[[", "can't read"),
    ],
)
def test_what_can_not_be_meant_is_refused(home: dict[str, str], tmp_path: Path, text: str, says: str) -> None:
    write(tmp_path, text)
    with pytest.raises(InvalidRequest, match=says):
        profile_of(None, home)
