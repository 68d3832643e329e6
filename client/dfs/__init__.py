"""dfs: a distributed file store. `fs = dfs.connect()`, and everything else is a method of what it returns.

    import dfs

    fs = dfs.connect()
    fs.write_bytes("/hello", b"hello")
    fs.read_bytes("/hello")

Names are imported when they are first used: `import dfs` alone must cost next to nothing, because every start of the
command pays for it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfs import errors as errors
    from dfs.client import Client as Client
    from dfs.client import connect as connect
    from dfs.protocol.messages import Entry as Entry

__version__ = "0.1.0"
__all__ = ["Client", "Entry", "__version__", "connect", "errors", "testing"]

_HOMES = {"Client": "dfs.client", "connect": "dfs.client", "Entry": "dfs.protocol.messages"}
_MODULES = ("errors", "testing")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"dfs.{name}")
    raise AttributeError(f"module 'dfs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
