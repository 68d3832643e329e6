"""The compose file and the image: that they fit together, and that nothing is published beyond this machine.

No container engine is needed: the files are read as data. Where `docker compose` is installed it has to accept the
file as well.
"""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dfs.protocol.settings import environment_name
from dfs.roles import check_environment, role_options
from dfs_datanode.settings import DatanodeSettings
from dfs_namenode.settings import NamenodeSettings

ROOT = Path(__file__).parents[2]
DATANODES = ("datanode-1", "datanode-2", "datanode-3")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return document


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = compose["services"]
    return found


def published(service: dict[str, Any]) -> tuple[str, int, int]:
    (mapping,) = service["ports"]
    host, outside, within = mapping.split(":")
    return host, int(outside), int(within)


def test_there_are_one_namenode_and_three_datanodes(services: dict[str, Any]) -> None:
    assert sorted(services) == [*DATANODES, "namenode"]
    for name, service in services.items():
        assert service["command"][0] == name.partition("-")[0]
        assert service["networks"] == ["cluster"]


def test_every_port_is_published_on_this_machine_only_and_once(services: dict[str, Any]) -> None:
    assert {published(service)[0] for service in services.values()} == {"127.0.0.1"}
    outside = [published(service)[1] for service in services.values()]
    assert len(set(outside)) == len(outside)
    assert published(services["namenode"])[1:] == (9870, 9870)


def test_the_data_of_each_server_is_in_a_named_volume_of_its_own(
    compose: dict[str, Any], services: dict[str, Any]
) -> None:
    for name, service in services.items():
        assert service["volumes"] == [f"{name}:/data"]
        assert service["command"][service["command"].index("--dir") + 1] == "/data"
        assert service["read_only"] is True
    assert set(compose["volumes"]) == set(services)


def test_each_datanode_has_an_address_for_its_peers_and_one_for_clients(services: dict[str, Any]) -> None:
    for name in DATANODES:
        environment = services[name]["environment"]
        host, outside, within = published(services[name])
        assert environment["DFS_PEER_URL"] == f"http://{name}:{within}"
        assert environment["DFS_CLIENT_URL"] == f"http://{host}:{outside}"
        assert environment["DFS_DATANODE_ID"] == name
        assert environment["DFS_NAMENODE"] == "http://namenode:9870"
        assert services[name]["depends_on"] == {"namenode": {"condition": "service_healthy"}}


def test_every_server_gets_the_same_join_secret(services: dict[str, Any]) -> None:
    secrets = {service["environment"]["DFS_JOIN_SECRET"] for service in services.values()}
    assert len(secrets) == 1
    assert re.fullmatch(r"\$\{DFS_JOIN_SECRET:-[\w-]+\}", secrets.pop())


def test_every_variable_and_option_is_one_that_the_role_knows(services: dict[str, Any]) -> None:
    for name, service in services.items():
        check_environment(service["environment"])
        kind = NamenodeSettings if name == "namenode" else DatanodeSettings
        known = {environment_name(field) for field in kind.__dataclass_fields__}
        assert set(service["environment"]) <= known
        role = service["command"][0]
        options = {option for option in service["command"] if option.startswith("--")}
        assert {"--listen", "--insecure"} <= options
        field = "dir" if role == "namenode" else "dirs"
        example = {field: "/data", "listen": "0.0.0.0:1", "insecure": True}
        assert options <= set(role_options(role, example))


def test_a_health_check_needs_nothing_but_python_and_asks_the_port_that_is_served(services: dict[str, Any]) -> None:
    for service in services.values():
        kind, program, flag, code = service["healthcheck"]["test"]
        assert (kind, program, flag) == ("CMD", "python", "-c")
        compile(code, "healthcheck", "exec")
        listen = service["command"][service["command"].index("--listen") + 1]
        assert f"http://127.0.0.1:{listen.rpartition(':')[2]}/" in code
        assert int(listen.rpartition(":")[2]) == published(service)[2]


def test_the_namenode_is_healthy_before_there_are_datanodes(services: dict[str, Any]) -> None:
    # They wait for it: a check that needs datanodes would never pass.
    assert "/healthz" in services["namenode"]["healthcheck"]["test"][-1]
    assert all("/readyz" in services[name]["healthcheck"]["test"][-1] for name in DATANODES)


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_image_runs_dfs_without_root() -> None:
    found = instructions()
    assert ("ENTRYPOINT", '["dfs"]') in found
    assert [rest for word, rest in found if word == "FROM"][-1].startswith("python:3.12-slim")
    users = [rest for word, rest in found if word == "USER"]
    assert users
    assert users[-1] not in ("root", "0")
    assert any(word == "RUN" and "'.[server]'" in rest for word, rest in found)


def test_what_the_image_copies_exists_and_reaches_the_builder() -> None:
    allowed = {line.lstrip("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = {
        source
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in shlex.split(rest)[:-1]
    }
    assert sources == allowed
    assert all((ROOT / source).exists() for source in sources)


def compose_command() -> list[str] | None:
    """Docker's compose: the plug-in of today, or the program of yesterday. Neither needs an engine to check a file."""
    docker, program = shutil.which("docker"), shutil.which("docker-compose")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True).returncode == 0:
        return [docker, "compose"]
    return [program] if program else None


def test_docker_compose_accepts_the_file() -> None:
    command = compose_command()
    if command is None:
        pytest.skip("docker compose is not installed here")
    checked = subprocess.run(
        [*command, "--file", str(ROOT / "compose.yaml"), "config", "--quiet"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
