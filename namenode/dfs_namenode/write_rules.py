"""What operations that write need to know of the settings, and nothing more of them."""

from dataclasses import dataclass
from typing import Protocol


class _Settings(Protocol):
    @property
    def replication(self) -> int: ...
    @property
    def chunk_commit_window_s(self) -> float: ...
    @property
    def op_retention_s(self) -> float: ...


@dataclass(frozen=True)
class WriteRules:
    """The bounds of writing. Times are milliseconds."""

    replication: int = 3
    """Replicas of a file that does not say how many it wants."""
    chunk_commit_window_ms: int = 12 * 3600 * 1000
    op_retention_ms: int = 3600 * 1000

    @classmethod
    def from_settings(cls, settings: _Settings) -> "WriteRules":
        return cls(
            replication=settings.replication,
            chunk_commit_window_ms=int(settings.chunk_commit_window_s * 1000),
            op_retention_ms=int(settings.op_retention_s * 1000),
        )
