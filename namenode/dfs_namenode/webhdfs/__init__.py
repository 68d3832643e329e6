"""WebHDFS: the file system as Hadoop's clients know it, over HTTP.

`/webhdfs/v1/PATH?op=…` on the namenode. `routes` is all that `app` needs of it.

    door                             operation → function, answers and errors → HTTP
    looking, changing, describing    the operations that the namenode does alone
    moving                           those that need a datanode: a redirect, or `relay`
    shapes, attributes, acls         pure: what answers look like, what HDFS knows beside what we keep
"""

from collections.abc import Callable

from starlette.routing import BaseRoute

from dfs_namenode.doors import Doors
from dfs_namenode.webhdfs.asking import House
from dfs_namenode.webhdfs.door import WebhdfsRoute

__all__ = ["routes"]


def routes(doors: Doors, *, peer_url: Callable[[str], str], passes_on: bool) -> list[BaseRoute]:
    """The route of WebHDFS. Arguments as `House` has them."""
    return [WebhdfsRoute(House(doors, peer_url, passes_on))]
