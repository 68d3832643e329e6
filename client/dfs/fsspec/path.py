"""UPath("dfs://host:port/a"): paths of a cluster with pathlib's methods, by universal_pathlib.

Separate because only it needs universal_pathlib, which loads it by entry point.
"""

from upath import UPath

from dfs.fsspec.looking import DfsNamespace, place_of


class DfsPath(UPath):
    """A path of a cluster: absolute, and written with the namenodes that it was made with."""

    __slots__ = ()

    @property
    def path(self) -> str:
        return str(DfsNamespace._strip_protocol(super().path))

    def __str__(self) -> str:
        plain = str(super().__str__())
        if not plain.startswith("dfs://"):
            return plain
        place = place_of(self.storage_options.get("namenode") or "")
        return f"dfs://{place}{DfsNamespace._strip_protocol(plain)}"
