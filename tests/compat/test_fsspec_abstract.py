"""fsspec's own suite for file systems, complete, against a real cluster."""

from collections.abc import Callable
from typing import Any

import pytest
from fsspec.tests import abstract

from dfs.fsspec import DfsFileSystem


class DfsFixtures(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self, dfs_fs: DfsFileSystem) -> DfsFileSystem:
        return dfs_fs

    @pytest.fixture
    def fs_path(self, home: str) -> str:
        return home

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return lambda *parts: "/".join(parts)

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return True

    @pytest.fixture(scope="class")
    @classmethod
    def local_fs(cls) -> Any:
        from fsspec.implementations.local import LocalFileSystem

        return LocalFileSystem(auto_mkdir=True)


class TestCopy(abstract.AbstractCopyTests, DfsFixtures):
    pass


class TestGet(abstract.AbstractGetTests, DfsFixtures):
    pass


class TestPut(abstract.AbstractPutTests, DfsFixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, DfsFixtures):
    pass


class TestOpen(abstract.AbstractOpenTests, DfsFixtures):
    pass
