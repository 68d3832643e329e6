"""Every example of the documentation works: each page is run from top to bottom, against an empty cluster.

What can't run is listed here with its number on each page, so that nothing is left out silently.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dfs.testing import Cluster, cluster
from fixtures.examples import CHECKOUT, Block, Page, Places, blocks_of, check_syntax, matches, steps_of

NOT_RUN = {
    "README.md": 2,
    "docs/backup.md": 3,
    "docs/command-line.md": 3,
    "docs/compose.md": 2,
    "docs/http.md": 2,
    "docs/testing.md": 1,
    "docs/tutorial.md": 2,
    "docs/webhdfs.md": 2,
}
"""How many blocks of each page say that they can't run in a test. Those that wait for a module are not among them."""
ELSEWHERE = {
    "docs/fsspec.md": "tests/compat/test_fsspec_page.py",
    "docs/pytorch.md": "tests/compat/test_fsspec_page.py",
}
"""Pages that need other people's libraries, and the test that runs them."""
TEXT = {
    "docs/chunk-format.md",
    "docs/metadata-backup.md",
    "docs/performance.md",
    "docs/reliability.md",
    "docs/metrics.md",
}
GENERATED = {"docs/commands.md", "docs/protocol.md", "docs/settings.md"}


@pytest.fixture(scope="module")
def running() -> Iterator[Cluster]:
    """For the pages that start none themselves, one after the other."""
    with cluster() as made:
        yield made


@pytest.mark.parametrize("name", NOT_RUN)
@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_every_example_of_the_page_works(name: str, tmp_path: Path, running: Cluster) -> None:
    page = Page(CHECKOUT / name, tmp_path)
    if page.starts_a_cluster:
        page.run()
        return
    fs = running.connect()
    for entry in fs.ls("/"):
        fs.remove(entry.path, recursive=True)
    page.run(Places(running.url, [datanode.url for datanode in running.datanodes]))


@pytest.mark.parametrize("name", NOT_RUN)
def test_what_is_not_run_is_counted_and_says_why(name: str) -> None:
    blocks = blocks_of(CHECKOUT / name)
    reasons = [block.directive for block in blocks if block.directive.startswith("not run: ")]
    assert len(reasons) == NOT_RUN[name], reasons
    assert len(blocks) - len(reasons) >= 1, "a page without a single example that runs"


def test_every_page_with_examples_is_run_by_some_test() -> None:
    pages = {f"docs/{path.name}" for path in (CHECKOUT / "docs").glob("*.md")}
    with_examples = {
        page
        for page in pages - GENERATED
        if any(block.language in ("console", "sh", "python") for block in blocks_of(CHECKOUT / page))
    }
    assert with_examples - TEXT == (NOT_RUN.keys() - {"README.md"}) | ELSEWHERE.keys()
    assert all((CHECKOUT / test).exists() for test in ELSEWHERE.values())


@pytest.mark.parametrize(
    ("shown", "output", "same"),
    [
        ("a", "a\n", True),
        ("a", "b\n", False),
        ("a", "a\nb\n", False),
        ("a…", "a and more\n", True),
        ("a\n…\nd", "a\nb\nc\nd\n", True),
        ("a\n…\nd", "a\nb\nc\n", False),
        ("-rw-  14 B  2020-01-01 10:00  x.*", "-rw-  14 B  2031-12-31 23:59  x.*\n", True),
        ("-rw-  14 B  2020-01-01 10:00  x.*", "-rw-  15 B  2031-12-31 23:59  x.y\n", False),
    ],
)
def test_output_is_compared_but_for_dates_and_what_is_left_out(shown: str, output: str, *, same: bool) -> None:
    assert matches(shown, output) is same


def test_a_console_is_commands_and_their_output() -> None:
    block = Block("p:1", "console", "$ one \\\n    more\nout\n\nput\n$ two\n")
    assert [(step.command, step.shown) for step in steps_of(block)] == [
        ("one \\\n    more", "out\n\nput"),
        ("two", None),
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```console\n$ false\n```\n", "exit code 1 of: false"),
        ("```console\n$ echo a\nb\n```\n", "but it is"),
        ("```python\nassert False, 'no'\n```\n", "no"),
        ("<!-- example: not run: it would never come to an end -->\n```sh\nif\n```\n", "syntax error"),
    ],
)
def test_an_example_that_is_wrong_fails_its_page(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(text)
    if "not run" in text:
        with pytest.raises(AssertionError, match=complaint):
            check_syntax(blocks_of(path)[0])
        return
    with pytest.raises(AssertionError, match=complaint):
        Page(path, tmp_path).run(Places("http://127.0.0.1:1", []))
