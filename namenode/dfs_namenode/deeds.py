"""What the duties have done since the start, counted. For metrics only: nothing is ever decided by it.

Separate from the duties, so that a page can show all of them; each adds to it what only it knows.
"""

from collections.abc import Mapping
from typing import Literal

Deed = Literal["repair", "drop", "trim"]
"""A pull was planned; a bad or surplus replica is to be deleted; a replica was found to be surplus."""


class Deeds:
    """Only the event loop adds to it."""

    def __init__(self) -> None:
        self._counts: dict[tuple[Deed, str], int] = {}

    def add(self, deed: Deed, label: str = "", count: int = 1) -> None:
        key = (deed, label)
        self._counts[key] = self._counts.get(key, 0) + count

    def of(self, deed: Deed) -> Mapping[str, int]:
        """How often, by label."""
        return {label: count for (name, label), count in self._counts.items() if name == deed}
