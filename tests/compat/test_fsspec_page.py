"""docs/fsspec.md does what it says: every block of Python on it is run, in order, against a cluster."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from dfs.testing import Cluster

PAGE = Path(__file__).parents[2] / "docs" / "fsspec.md"
IMPORTED = re.compile(r"^(?:import|from) (\w+)", re.MULTILINE)


@pytest.mark.filterwarnings("default::DeprecationWarning", "default::FutureWarning")
def test_every_example_of_the_page_works(dfs_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    place = urlsplit(dfs_cluster.url).netloc
    monkeypatch.setenv("DFS_NAMENODE", dfs_cluster.url)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) >= 10
    for module in sorted(set(IMPORTED.findall("\n".join(blocks)))):
        pytest.importorskip(module)
    names: dict[str, Any] = {}
    try:
        for number, block in enumerate(blocks):
            exec(compile(block.replace("127.0.0.1:9870", place), f"docs/fsspec.md, block {number}", "exec"), names)
    finally:
        dfs_cluster.connect().remove("/data", recursive=True, missing_ok=True)
