"""The site builds without a warning: no broken link, no missing target, no page that nothing leads to."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def _build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    return subprocess.run(
        [*command, "-d", str(target / "doctrees"), str(source), str(target / "site")],
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    built = _build(CHECKOUT / "docs", tmp_path)
    assert built.returncode == 0, built.stderr
    reference = (tmp_path / "site" / "python.html").read_text(encoding="utf-8")
    for name in (
        "dfs.connect",
        "dfs.Client.put",
        "dfs.Client.ls",
        "dfs.file.BinaryWriter.abort",
        "dfs.errors.FileNotFound",
        "dfs.testing.cluster",
        "dfs.testing.Datanode.flip",
        "dfs.fsspec.DfsFileSystem",
    ):
        assert f'id="{name}"' in reference, f"{name} is not in the reference"
    assert all((tmp_path / "site" / f"{path.stem}.html").exists() for path in (CHECKOUT / "docs").glob("*.md"))


def test_broken_links_and_missing_or_forgotten_pages_fail_the_build(tmp_path: Path) -> None:
    source = tmp_path / "docs"
    source.mkdir()
    (source / "conf.py").write_bytes((CHECKOUT / "docs" / "conf.py").read_bytes())
    (source / "index.md").write_text(
        "# A\n\n[b](no-page.md)\n\n[c](index.md#no-place)\n\n```{toctree}\nno-entry\n```\n"
    )
    (source / "forgotten.md").write_text("# Nothing leads here\n")
    built = _build(source, tmp_path)
    assert built.returncode != 0
    for complaint in ("no-page", "no-place", "no-entry", "forgotten.md: WARNING: document isn't included"):
        assert complaint in built.stderr


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"])
def test_every_link_of_a_page_outside_the_site_leads_to_a_file(name: str) -> None:
    targets = LINK.findall((CHECKOUT / name).read_text(encoding="utf-8"))
    assert [target for target in targets if not (CHECKOUT / target).exists()] == []
