"""Backups of the namenode's store, found and read on the datanodes alone.

Separate from `metadata_log`, which knows what is in a backup, because this is about where its chunks are: each chunk
says in its hints which part of which backup it is; here they are put together, and nothing that is not whole and right
comes out. Used by a restore, when there is no namenode, and by a rebuild beside one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal, NamedTuple, TypeVar

from dfs.protocol.capability import metadata_proof
from dfs.protocol.digests import tree_digest
from dfs.protocol.errors import CorruptReplica, DfsError, NotPermitted, ReplicasUnavailable
from dfs.protocol.messages import (
    METADATA_BYTES_MAX,
    MetadataFound,
    MetadataPart,
    MetadataParts,
    ReadMetadata,
)
from dfs.protocol.operations import METADATA_PARTS, READ_METADATA, Operation
from dfs.protocol.transport import Transport

Q = TypeVar("Q", MetadataParts, ReadMetadata)
A = TypeVar("A")

LOOK_TIMEOUT_S = 600.0
"""For one page of a datanode's answer: a spinning disk looks at 2000 files in half a minute."""


class BackupKey(NamedTuple):
    """Which backup a part belongs to. Two attempts at the same one differ in the time."""

    what: Literal["snapshot", "changes"]
    from_seq: int
    to_seq: int
    made_ms: int
    parts: int
    size: int
    cluster: str


class PartCopy(NamedTuple):
    """A replica of a chunk that says that it is a certain part."""

    url: str
    chunk: str
    length: int
    digest: str


@dataclass
class FoundBackup:
    """A backup of which at least one part was found."""

    key: BackupKey
    copies: dict[int, list[PartCopy]] = field(default_factory=dict)
    """By the number of the part."""

    @property
    def is_complete(self) -> bool:
        """Whether there is something for each part. Whether it is right shows when it is read."""
        return all(number in self.copies for number in range(self.key.parts))


@dataclass
class FoundBackups:
    """What the datanodes said."""

    backups: list[FoundBackup] = field(default_factory=list)
    clusters: set[str] = field(default_factory=set)
    """To which the datanodes belong; more than one: the wrong ones were asked."""
    seq_seen: int = 0
    """The highest sequence number that any of them was ever shown."""
    failed: dict[str, str] = field(default_factory=dict)
    """Datanodes that could not be asked to the end, by URL, with the reason."""
    unreadable: int = 0


class MetadataSource:
    """Datanodes that may have parts of backups.

    join_secret  of the cluster; "" where it has none
    """

    def __init__(self, transport: Transport, urls: Sequence[str], *, join_secret: str) -> None:
        self._transport = transport
        self._urls = tuple(dict.fromkeys(url.rstrip("/") for url in urls))
        self._join_secret = join_secret
        self._challenges: dict[str, str] = {}

    def find(self, tell: Callable[[str], None] = lambda _: None) -> FoundBackups:
        """Ask all of them. One that does not answer is named in `failed`.

        tell    told of each datanode that has answered
        Raises  NotPermitted: the join secret is wrong
        """
        found = FoundBackups()
        by_key: dict[BackupKey, FoundBackup] = {}
        for url in self._urls:
            count = 0
            try:
                for page in self._pages(url):
                    count += len(page.parts)
                    _add_page(found, by_key, url, page)
            except NotPermitted:
                raise
            except DfsError as error:
                found.failed[url] = error.message
                tell(f"{url}: {error.message}")
            else:
                tell(f"{url}: {count} parts of backups")
        found.backups = sorted(by_key.values(), key=lambda one: one.key[2:4])
        return found

    def _pages(self, url: str) -> Iterable[MetadataFound]:
        after = ""
        while True:
            page = self._call(url, METADATA_PARTS, MetadataParts(proof=self._proof(url), after=after))
            yield page
            if page.next is None:
                return
            after = page.next

    def write(self, backup: FoundBackup, file: BinaryIO) -> None:
        """Write the bytes of a backup into a file, each part checked against the digest of its chunk.

        Raises   ReplicasUnavailable: a part can't be read from anywhere. What was written then is of no use
        """
        for number in range(backup.key.parts):
            file.write(self._read_part(backup, number))

    def _read_part(self, backup: FoundBackup, number: int) -> bytes:
        reason = "no datanode that was asked has it"
        for copy in backup.copies.get(number, []):
            try:
                data = self._read_copy(copy)
            except DfsError as error:
                reason = f"{copy.url}: {error.message}"
                continue
            return data
        raise ReplicasUnavailable(f"its part {number + 1} of {backup.key.parts} can't be read: {reason}")

    def _read_copy(self, copy: PartCopy) -> bytes:
        pieces: list[bytes] = []
        for offset in range(0, copy.length, METADATA_BYTES_MAX):
            length = min(METADATA_BYTES_MAX, copy.length - offset)
            request = ReadMetadata(proof=self._proof(copy.url), chunk=copy.chunk, offset=offset, length=length)
            pieces.append(self._call(copy.url, READ_METADATA, request).data)
        data = b"".join(pieces)
        if len(data) != copy.length or tree_digest(data) != copy.digest:
            raise CorruptReplica("the part arrived damaged")
        return data

    def _proof(self, url: str) -> str:
        challenge = self._challenges.get(url)
        return "" if challenge is None else metadata_proof(self._join_secret, challenge)

    def _call(self, url: str, operation: Operation[Q, A], request: Q) -> A:
        """Call a datanode; the first refusal brings the challenge that the proof needs."""
        try:
            return self._transport.call(url, operation, request, timeout_s=LOOK_TIMEOUT_S)
        except NotPermitted as error:
            challenge: Any = error.detail.get("challenge")
            if not self._join_secret or not isinstance(challenge, str) or self._challenges.get(url) == challenge:
                raise
            self._challenges[url] = challenge
        proven: Any = _with_proof(request, self._proof(url))
        return self._transport.call(url, operation, proven, timeout_s=LOOK_TIMEOUT_S)


def _with_proof(request: MetadataParts | ReadMetadata, proof: str) -> MetadataParts | ReadMetadata:
    if isinstance(request, MetadataParts):
        return MetadataParts(proof=proof, after=request.after)
    return ReadMetadata(proof=proof, chunk=request.chunk, offset=request.offset, length=request.length)


def _add_page(found: FoundBackups, by_key: dict[BackupKey, FoundBackup], url: str, page: MetadataFound) -> None:
    if page.cluster is not None:
        found.clusters.add(page.cluster)
    found.seq_seen = max(found.seq_seen, page.seq_seen)
    found.unreadable += page.unreadable
    for part in page.parts:
        key = _key_of(part)
        if part.part < part.parts:
            backup = by_key.setdefault(key, FoundBackup(key))
            backup.copies.setdefault(part.part, []).append(PartCopy(url, part.chunk, part.length, part.digest))


def _key_of(part: MetadataPart) -> BackupKey:
    return BackupKey(part.what, part.from_seq, part.to_seq, part.made_ms, part.parts, part.size, part.cluster)
