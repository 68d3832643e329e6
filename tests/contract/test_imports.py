"""Imports point one way: the protocol knows nobody, servers never know each other, and clients know no server."""

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SOURCE_ROOTS = ("client", "namenode", "datanode")
OURS = ("dfs", "dfs_namenode", "dfs_datanode")


@dataclass(frozen=True)
class Import:
    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer} imports {self.imported} (line {self.line})"


def _modules() -> Iterator[tuple[str, str]]:
    for root in SOURCE_ROOTS:
        top = os.path.join(CHECKOUT, root)
        for directory, _, names in os.walk(top):
            for name in sorted(names):
                if name.endswith(".py"):
                    path = os.path.join(directory, name)
                    dotted = os.path.relpath(path, top).removesuffix(".py").replace(os.sep, ".")
                    yield dotted.removesuffix(".__init__"), path


def _imports_of(module: str, path: str) -> Iterator[Import]:
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    package = module if path.endswith("__init__.py") else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            imported = ".".join(part for part in (base, node.module) if part)
            # Down to the name: `from dfs import protocol` is an import of dfs.protocol.
            for alias in node.names:
                yield Import(module, f"{imported}.{alias.name}", node.lineno)


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


IMPORTS = [found for module, path in _modules() for found in _imports_of(module, path)]


def _may(found: Import) -> bool:
    """Whether the rule allows this import; only what is imported of ours matters."""
    target = next((package for package in OURS if _within(found.imported, package)), None)
    if target is None:
        return True
    if _within(found.importer, "dfs.protocol"):
        return _within(found.imported, "dfs.protocol")
    if target in ("dfs_namenode", "dfs_datanode"):
        return _within(found.importer, target)
    if _within(found.importer, "dfs") or _within(found.importer, "dfs_datanode.gateway"):
        return True
    return _within(found.imported, "dfs.protocol")


def test_all_imports_follow_the_rule() -> None:
    assert len(IMPORTS) > 100, "the walk found next to nothing: is the layout another one?"
    assert [str(found) for found in IMPORTS if not _may(found)] == []


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("dfs.protocol.server", "dfs.client", False),
        ("dfs.protocol.server", "dfs_namenode.store", False),
        ("dfs.protocol.server", "dfs.protocol.errors", True),
        ("dfs_namenode.app", "dfs_datanode.app", False),
        ("dfs_namenode.app", "dfs.client", False),
        ("dfs_namenode.app", "dfs.protocol.messages", True),
        ("dfs_datanode.app", "dfs.client", False),
        ("dfs_datanode.app", "dfs", False),
        ("dfs_datanode.gateway.files", "dfs.client", True),
        ("dfs_datanode.gateway.files", "dfs_namenode.app", False),
        ("dfs.mini", "dfs_namenode.app", False),
        ("dfs.mini", "starlette", True),
    ],
)
def test_the_rule_tells_good_imports_from_bad_ones(importer: str, imported: str, allowed: bool) -> None:
    assert _may(Import(importer, imported, 1)) is allowed
