"""The pages about other people's libraries do what they say: every block is run, in order, against a cluster."""

import re
from pathlib import Path

import pytest

from dfs.testing import Cluster
from fixtures.examples import CHECKOUT, Page, Places

IMPORTED = re.compile(r"^(?:import|from) (\w+)", re.MULTILINE)


@pytest.mark.parametrize("name", ["docs/fsspec.md", "docs/pytorch.md"])
@pytest.mark.filterwarnings("default::DeprecationWarning", "default::FutureWarning", "default::UserWarning")
def test_every_example_of_the_page_works(name: str, tmp_path: Path, dfs_cluster: Cluster) -> None:
    page = Page(CHECKOUT / name, tmp_path)
    for module in sorted(set(IMPORTED.findall("\n".join(block.text for block in page.blocks if not block.why_not)))):
        pytest.importorskip(module)
    try:
        page.run(Places(dfs_cluster.url, [datanode.url for datanode in dfs_cluster.datanodes]))
    finally:
        for path in ("/data", "/samples", "/checkpoints"):
            dfs_cluster.connect().remove(path, recursive=True, missing_ok=True)
