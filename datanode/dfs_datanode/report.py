"""Chunk reports: what this datanode has, in pages sorted by id.

Reports only correct what receipts told already, so they may take their time: trailers are read off the event loop,
with rests between. A volume that could not be listed completely is left out of `volumes`, so that its chunks count as
unavailable and not as gone.
"""

import logging
import time
from collections.abc import Callable, Iterator

from dfs.protocol.errors import CorruptReplica, Unavailable
from dfs.protocol.messages import LIST_MAX, ChunkReport, ReportedReplica
from dfs_datanode.chunk_file import read_trailer
from dfs_datanode.chunk_store import ChunkStore
from dfs_datanode.disk import Disk, is_short_of_means

logger = logging.getLogger("dfs.datanode.report")

_REST_EVERY = 1000


def report_pages(
    store: ChunkStore,
    disk: Disk,
    *,
    datanode: str,
    incarnation: int,
    boot: str,
    as_of: int,
    bad: Callable[[str, str], None],
    rest_s: float,
    page_size: int = LIST_MAX,
) -> Iterator[ChunkReport]:
    """All pages of one report; at least one.

    as_of   the namenode's sequence number before the scan began
    bad     told of each chunk (id, why) whose file can't be reported; it is not listed as present
    rest_s  pause after each thousand trailers
    Raises  Unavailable: a volume vanished in the middle, or no file can be opened; the report must begin anew
    """
    complete: list[str] = []
    found: list[tuple[str, int]] = []
    for number, volume in enumerate(store.volumes):
        if not volume.holds_chunks:
            continue
        try:
            listed = [(chunk, number) for chunk in volume.chunks()]
        except OSError as error:
            logger.error("the volume %s can't be listed: %s", volume.directory, error)
            volume.read_errors += 1
            continue
        complete.append(volume.id)
        found += listed
    found.sort()
    after = ""
    for begin in range(0, max(1, len(found)), page_size):
        page = found[begin : begin + page_size]
        last = begin + page_size >= len(found)
        up_to = "" if last else page[-1][0]
        replicas = []
        for count, (chunk, number) in enumerate(page):
            if count % _REST_EVERY == _REST_EVERY - 1:
                time.sleep(rest_s)
            replica = _reported(store, disk, chunk, number, bad)
            if replica is not None:
                replicas.append(replica)
        yield ChunkReport(
            datanode=datanode,
            incarnation=incarnation,
            boot=boot,
            as_of=as_of,
            after=after,
            up_to=up_to,
            volumes=complete,
            replicas=replicas,
        )
        after = up_to


def _reported(
    store: ChunkStore, disk: Disk, chunk: str, number: int, bad: Callable[[str, str], None]
) -> ReportedReplica | None:
    volume = store.volumes[number]
    try:
        trailer = read_trailer(disk, volume.path_of(chunk))
        if trailer.chunk != chunk:
            raise CorruptReplica("the file holds another chunk than its name says")
    except FileNotFoundError:
        if volume.check().state == "failed":
            # Its disk was unmounted since it was listed: what is on it is unavailable, not gone.
            raise Unavailable(f"the volume {volume.directory} vanished while it was reported") from None
        return None
    except (OSError, CorruptReplica) as error:
        if isinstance(error, OSError):
            if is_short_of_means(error):
                raise Unavailable(f"no file can be opened now ({error})") from error
            volume.read_errors += 1
        bad(chunk, str(error))
        return None
    return ReportedReplica(chunk, trailer.length, trailer.root.hex(), volume.id)
