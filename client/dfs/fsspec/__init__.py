"""dfs as a file system of fsspec: `dfs://host:port/path` in pandas, Arrow, dask, zarr, DuckDB, …

    files          the open files that they get
    transactions   `with fs.transaction:` as one commit
    planning       which path becomes which, where many are moved
    listing        trees, many directories at a time
    filesystem     DfsFileSystem, which joins them and the client
    path           the class for universal_pathlib

Separate from the client because its names, its errors and its defaults are fsspec's: what is here translates, and
stores nothing. The package is loaded by fsspec and universal_pathlib, by entry points; dfs itself never needs it.
"""

from dfs.fsspec.filesystem import DfsFileSystem

__all__ = ["DfsFileSystem"]
