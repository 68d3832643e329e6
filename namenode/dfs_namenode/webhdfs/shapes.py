"""What WebHDFS answers look like: our messages in, the dictionaries that become JSON out. Pure.

Separate because these shapes are a format that other people's programs parse: Hadoop's Java client casts every field
that it expects, so a missing number ends a user's job.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from dfs.protocol.messages import CHUNK_SIZE_MAX, ChunkPlaces, ClusterFacts, Entry, FilePlaces, Status, Usage
from dfs.protocol.webhdfs import block_size
from dfs_namenode.webhdfs.attributes import ACCESS_TIME_ATTRIBUTE, ACL_ATTRIBUTE

Shape = dict[str, Any]

NO_OWNER, NO_GROUP = "dfs", "supergroup"
"""Shown where none is kept: columns that are empty break whoever splits a line at white space."""
BYTES_PER_CHECKSUM = 512
CRC32C = 2
"""Hadoop's number of that checksum."""
NO_QUOTA = -1
UNKNOWN_CHILDREN = -1
"""What Hadoop's client takes where nothing is told."""
_BLOCK_IDS = (1 << 62) - 1


def file_status(entry: Entry, facts: ClusterFacts, suffix: str = "") -> Shape:
    """A FileStatus. `suffix`: the name in a listing; "" for the path itself."""
    modified = entry.mtime_ns // 1_000_000
    shape: Shape = {
        "pathSuffix": suffix,
        "type": "DIRECTORY" if entry.is_directory else "FILE",
        "length": entry.size,
        "owner": entry.owner or NO_OWNER,
        "group": entry.group or NO_GROUP,
        "permission": permission_text(entry.mode),
        "accessTime": int(entry.attributes.get(ACCESS_TIME_ATTRIBUTE, modified if not entry.is_directory else 0)),
        "modificationTime": modified,
        "blockSize": 0 if entry.is_directory else block_size(entry, facts.chunk_size_bytes),
        "replication": entry.replication,
        "fileId": entry.inode,
        "childrenNum": UNKNOWN_CHILDREN if entry.is_directory else 0,
        "storagePolicy": 0,
    }
    if ACL_ATTRIBUTE in entry.attributes:
        shape["aclBit"] = True
    return shape


def permission_text(mode: int) -> str:
    """A mode as Hadoop writes it: octal, without zeros in front."""
    return f"{mode & 0o1777:o}"


def file_statuses(entries: Iterable[Entry], facts: ClusterFacts, *, of_directory: bool) -> list[Shape]:
    """The statuses of a listing; a file that lists itself has no suffix."""
    return [file_status(entry, facts, entry.name if of_directory else "") for entry in entries]


def content_summary(usage: Usage) -> Shape:
    return {
        "length": usage.bytes,
        "fileCount": usage.files,
        "directoryCount": usage.directories,
        "quota": NO_QUOTA,
        "spaceConsumed": usage.replicated_bytes,
        "spaceQuota": NO_QUOTA,
        "typeQuota": {},
    }


def quota_usage(usage: Usage) -> Shape:
    return {
        "fileAndDirectoryCount": usage.files + usage.directories,
        "quota": NO_QUOTA,
        "spaceConsumed": usage.replicated_bytes,
        "spaceQuota": NO_QUOTA,
        "typeQuota": {},
    }


def fs_status(status: Status) -> Shape:
    alive = [node for node in status.datanodes if node.state != "dead"]
    return {
        "capacity": sum(node.capacity_bytes for node in alive),
        "used": sum(node.used_bytes for node in alive),
        "remaining": sum(node.free_bytes for node in alive),
    }


def server_defaults(facts: ClusterFacts) -> Shape:
    return {
        "blockSize": facts.chunk_size_bytes,
        "bytesPerChecksum": BYTES_PER_CHECKSUM,
        "writePacketSize": 64 << 10,
        "replication": facts.replication,
        "fileBufferSize": 4096,
        "encryptDataTransfer": False,
        "trashInterval": 0,
        "checksumType": CRC32C,
        "keyProviderUri": "",
        "defaultStoragePolicyId": 0,
    }


# --- where bytes are ----------------------------------------------------------------------------------------------


def block_locations(places: FilePlaces, start: int, end: int) -> list[Shape]:
    """A BlockLocation for each extent that has bytes of [start, end)."""
    chunks = {chunk.id: chunk for chunk in places.chunks}
    found = []
    for extent in places.extents:
        if extent.position >= end or extent.position + extent.length <= start:
            continue
        addresses = _readable(chunks[extent.chunk])
        found.append(
            {
                "offset": extent.position,
                "length": extent.length,
                "corrupt": not addresses,
                "hosts": [host for host, _ in addresses.values()],
                "names": [f"{host}:{port}" for host, port in addresses.values()],
                "cachedHosts": [],
                "topologyPaths": [f"/default/{host}:{port}" for host, port in addresses.values()],
                "storageTypes": ["DISK"] * len(addresses),
                "storageIds": list(addresses),
            }
        )
    return found


def located_blocks(places: FilePlaces, start: int, end: int, pool: str) -> Shape:
    """LocatedBlocks, as clients before Hadoop 3.3 ask for them. `pool`: the cluster's id."""
    chunks = {chunk.id: chunk for chunk in places.chunks}
    every = [
        _located_block(pool, extent.position, extent.length, chunks[extent.chunk]) for extent in places.extents
    ]  # fmt: skip
    wanted = [block for block in every if block["startOffset"] < end and _end(block) > start]
    return {
        "fileLength": places.entry.size,
        "isUnderConstruction": False,
        "isLastBlockComplete": True,
        "lastLocatedBlock": every[-1] if every and places.next_offset is None else None,
        "locatedBlocks": wanted,
    }


def _end(block: Mapping[str, Any]) -> int:
    return int(block["startOffset"]) + int(block["block"]["numBytes"])


def _located_block(pool: str, position: int, length: int, chunk: ChunkPlaces) -> Shape:
    addresses = _readable(chunk)
    return {
        "blockToken": {"urlString": "AAAAAA"},
        "block": {
            "blockPoolId": pool,
            # Hadoop's ids are 64-bit numbers: enough of ours to tell blocks apart.
            "blockId": int(chunk.id, 16) & _BLOCK_IDS,
            "generationStamp": 1,
            "numBytes": length,
        },
        "startOffset": position,
        "isCorrupt": not addresses,
        "locations": [_datanode_info(name, *address) for name, address in addresses.items()],
        "cachedLocations": [],
        "storageTypes": ["DISK"] * len(addresses),
    }


def _datanode_info(name: str, host: str, port: int) -> Shape:
    return {
        "name": f"{host}:{port}",
        "ipAddr": host,
        "hostName": host,
        "storageID": name,
        "xferPort": port,
        "infoPort": port,
        "infoSecurePort": 0,
        "ipcPort": port,
        "capacity": 0,
        "dfsUsed": 0,
        "remaining": 0,
        "blockPoolUsed": 0,
        "cacheCapacity": 0,
        "cacheUsed": 0,
        "lastUpdate": 0,
        "lastUpdateMonotonic": 0,
        "xceiverCount": 0,
        "networkLocation": "/default",
        "adminState": "NORMAL",
    }


def _readable(chunk: ChunkPlaces) -> dict[str, tuple[str, int]]:
    """Host and port of the datanodes that have a good replica and answer, by their ids."""
    found = {}
    for replica in chunk.replicas:
        if replica.state == "good" and replica.live and replica.url:
            parts = urlsplit(replica.url)
            found[replica.datanode] = (parts.hostname or "", parts.port or 80)
    return found


# --- storage policies ---------------------------------------------------------------------------------------------


def hot_policy() -> Shape:
    """The one policy that there is: every replica on disks. Under the name that Hadoop gives to it."""
    return {
        "id": 7,
        "name": "HOT",
        "storageTypes": ["DISK"],
        "replicationFallbacks": ["ARCHIVE"],
        "creationFallbacks": [],
        "copyOnCreateFile": False,
    }


def window_end(offset: int, length: int | None) -> int:
    """Where a window that a client asked for ends; far behind every file if it named no length."""
    return offset + (length if length is not None else CHUNK_SIZE_MAX << 32)


def directory_listing(statuses: Sequence[Shape], *, more: bool) -> Shape:
    """One page. How many entries follow is not counted: clients only ask whether any do."""
    return {
        "DirectoryListing": {
            "partialListing": {"FileStatuses": {"FileStatus": list(statuses)}},
            "remainingEntries": int(more),
        }
    }
