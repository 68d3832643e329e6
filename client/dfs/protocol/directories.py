"""By which file a server's data directory is known, so that no role begins in another one's.

Shared because each role must know the other's mark, and neither may import the other.
"""

import os
from typing import Final, Literal

from dfs.protocol.errors import Conflict

Role = Literal["namenode", "datanode"]
MARKS: Final[dict[Role, str]] = {"namenode": "namenode.db", "datanode": "VOLUME.json"}
"""The file that each role's directory has from its first start on. Part of the layout on disk."""


def refuse_other_roles(directory: str, role: Role) -> None:
    """Raise Conflict if the directory belongs to a server of another role."""
    for other, mark in MARKS.items():
        if other != role and os.path.exists(os.path.join(directory, mark)):
            raise Conflict(f"{directory} holds the data of a {other}; give the {role} a directory of its own")
