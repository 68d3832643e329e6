"""What messages are made of: the bounds, the bounded types, and the message that says nothing.

Separate because every other module of messages uses them, and they use none.
"""

from typing import Annotated

from msgspec import Meta, Struct

ITEMS_MAX = 4096
"""Actions, chunks or extents in one message. Bounds how long one transaction holds the writer."""
LIST_MAX = 10_000
"""Entries in one page of a listing or a chunk report."""
OPEN_MANY_MAX = 1000
REPLICATION_MAX = 16
CHUNK_SIZE_MIN = 64 << 10
"""Bytes; below this, the rows of a file would outweigh its bytes."""
CHUNK_SIZE_MAX = 1 << 30
CHUNK_SIZE_DEFAULT = 64 << 20
EXTENTS_WINDOW_MAX = 4096

Id = Annotated[str, Meta(min_length=32, max_length=32, pattern="^[0-9a-f]{32}$", description="32 hex digits")]
IdOrNothing = Annotated[str, Meta(max_length=32, pattern="^([0-9a-f]{32})?$", description="32 hex digits, or none")]
Digest = Annotated[str, Meta(min_length=32, max_length=32, pattern="^[0-9a-f]{32}$", description="xxh3_128 root")]
Path = Annotated[str, Meta(min_length=1, max_length=4096, description="absolute, UTF-8, at most 4096 bytes")]
NodeId = Annotated[str, Meta(min_length=1, max_length=64, pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Url = Annotated[str, Meta(min_length=8, max_length=300, pattern="^https?://")]
Token = Annotated[str, Meta(min_length=1, max_length=4096)]
Text = Annotated[str, Meta(max_length=1024)]
Length = Annotated[int, Meta(ge=0, le=(1 << 62))]
ChunkLength = Annotated[int, Meta(ge=1, le=CHUNK_SIZE_MAX)]
Replication = Annotated[int, Meta(ge=1, le=REPLICATION_MAX)]
Mode = Annotated[int, Meta(ge=0, le=0o7777)]
TIME_NS_MAX = 1 << 62
"""In the year 2116; the same time before 1970 is the other end."""
TimeNs = Annotated[int, Meta(ge=-TIME_NS_MAX, le=TIME_NS_MAX)]
TimeMs = Annotated[int, Meta(ge=0, lt=(1 << 48))]
Version = Annotated[int, Meta(ge=0, lt=(1 << 62))]
Attributes = Annotated[
    dict[Annotated[str, Meta(max_length=255)], Annotated[str, Meta(max_length=65536)]], Meta(max_length=64)
]


class Empty(Struct, frozen=True):
    """A message that says nothing but that it came."""
