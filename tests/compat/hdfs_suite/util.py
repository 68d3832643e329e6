"""What the tests of the `hdfs` package import as `test.util`, which its source distribution leaves out.

Written for these tests: a client of the cluster at HDFSCLI_TEST_URL with a root of its own, empty at each test's start.
"""

import os
import os.path
from typing import Any, ClassVar

import pytest
from hdfs import InsecureClient

ROOT = "/user/hdfs/suite"


def save_config(config: Any, path: str | None = None) -> None:
    """Write a configuration to its file."""
    with open(path or config.path, "w", encoding="utf-8") as file:
        config.write(file)


class _IntegrationTest:
    """The base of the package's integration tests."""

    client: ClassVar[Any] = None
    dpath = os.path.join(os.path.dirname(__file__), "dat")
    """A local directory to upload."""

    @classmethod
    def setup_class(cls) -> None:
        cls.client = InsecureClient(os.environ["HDFSCLI_TEST_URL"], user="hdfs", root=ROOT)

    @classmethod
    def teardown_class(cls) -> None:
        cls.client.delete("", recursive=True)

    def setup_method(self) -> None:
        if self.client is None:
            pytest.skip("what the tests need is not there")
        self.client.delete("", recursive=True)
        self.client.makedirs("")

    def _read(self, path: str, encoding: str | None = None) -> Any:
        with self.client.read(path, encoding=encoding) as reader:
            return reader.read()

    def _write(self, path: str, data: bytes | str, encoding: str | None = None) -> None:
        self.client.write(path, data, overwrite=True, encoding=encoding)

    def _exists(self, path: str) -> bool:
        return self.client.status(path, strict=False) is not None
