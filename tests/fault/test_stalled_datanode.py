"""A datanode that is stopped: it accepts connections, its heartbeats were fine a moment ago, and it never answers.

The promise is about where it stops as well: before the first byte of a chunk, in its middle, after the last one while
it is being synced; as the head of the chain or behind it.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import requests

from dfs.protocol.digests import Buffer
from dfs.protocol.transport import OutgoingChunk
from dfs.testing import Cluster, Datanode, cluster
from fixtures.faults import LONG, wait_until

MIB = 1 << 20
LONGEST_S = 10.0
"""What one operation may lose to one stalled datanode."""
NO_PROGRESS_S = 5.0
"""After which a silent datanode is given up, hedged reads or not."""


@pytest.fixture(name="three", scope="module")
def three_datanodes() -> Iterator[Cluster]:
    """As many as replicas: every chain and every chunk has the stalled one."""
    with cluster(datanodes=3, replication=3) as running:
        yield running


def timed(work: Callable[[], object], found: dict[str, float], name: str) -> threading.Thread:
    """Run `work` in a thread; seconds under `name`, if it ended well."""

    def run() -> None:
        began = time.monotonic()
        work()
        found[name] = time.monotonic() - began

    thread = threading.Thread(target=run, name=name)
    thread.start()
    return thread


def test_a_stopped_datanode_costs_readers_and_writers_less_than_ten_seconds(three: Cluster) -> None:
    # F10 F52 F53
    fs = three.connect()
    big, small = os.urandom(16 * MIB), os.urandom(3000)
    fs.write_bytes("/big", big, chunk_size=4 * MIB)
    for number in range(8):
        fs.write_bytes(f"/small{number}", small)
    victim = three.datanodes[0]
    read: dict[str, bytes] = {}
    took: dict[str, float] = {}

    def read_small() -> None:
        many = three.connect().read_many([(f"/small{number}", 0, None) for number in range(8)])
        read["small"] = small if all(each == small for each in many) else b""

    victim.stop()
    try:
        threads = [
            timed(lambda: read.update(big=three.connect().read_bytes("/big")), took, "read big"),
            timed(read_small, took, "read small"),
            *(
                timed(
                    lambda size=size: three.connect().write_bytes(f"/w{size}", os.urandom(size)),  # type: ignore[misc]
                    took,
                    f"write {size}",
                )
                for size in (100, 70_000, 4 * MIB, 12 * MIB)
            ),
        ]
        for thread in threads:
            thread.join(60)
    finally:
        victim.cont()
    assert read == {"big": big, "small": small}
    assert len(took) == len(threads), f"some failed: {took}"
    print({name: round(seconds, 2) for name, seconds in took.items()})
    assert max(took.values()) < LONGEST_S, took
    for size in (100, 70_000, 4 * MIB, 12 * MIB):
        assert len(fs.read_bytes(f"/w{size}")) == size


def test_once_it_was_noticed_it_costs_nothing_more(three: Cluster) -> None:
    # F52
    with three.connect() as fs:
        data = os.urandom(4 * MIB)
        for number in range(4):
            fs.write_bytes(f"/again{number}", data, chunk_size=MIB)
        victim = three.datanodes[0]
        victim.stop()
        try:
            for number in range(4):
                assert fs.read_bytes(f"/again{number}") == data
            began = time.monotonic()
            for number in range(4):
                assert fs.read_bytes(f"/again{number}") == data
            assert time.monotonic() - began < LONGEST_S / 2
        finally:
            victim.cont()


CHUNK = (64 if LONG else 24) * MIB
ALL = CHUNK + 1
"""A position behind the last byte."""
POSITIONS = (0, MIB, CHUNK // 2, CHUNK - MIB, CHUNK, ALL) if LONG else (CHUNK // 2, ALL)
MEMBERS = (0, 1, 2)
"""Of the three datanodes, with the head first."""


class StopAt:
    """Stops a datanode of the cluster when so many bytes of the first chunk that is sent have left this client."""

    def __init__(self, three: Cluster, member: int, position: int) -> None:
        self._three = three
        self._member = member
        self._position = position
        self._sent = 0
        self.stopped: list[Datanode] = []
        self._plain = OutgoingChunk.send

    def send(self, outgoing: OutgoingChunk, piece: Buffer) -> None:
        """In the place of the transport's own."""
        if self._sent >= self._position:
            self._stop(outgoing)
        self._plain(outgoing, piece)
        self._sent += len(memoryview(piece))
        if self._sent >= self._position >= CHUNK:
            self._stop(outgoing)

    def _stop(self, outgoing: OutgoingChunk) -> None:
        if not self.stopped:
            # All of them are in the chain: the head, and the others behind it in either order.
            ordered = sorted(self._three.datanodes, key=lambda node: node.url != outgoing.base_url)
            self.stopped.append(ordered[self._member])
            ordered[self._member].stop()


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("member", MEMBERS)
def test_a_write_loses_no_more_than_ten_seconds_wherever_the_stall_falls(
    three: Cluster, member: int, position: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # F10
    with three.connect(chunk_size=CHUNK) as fs:
        wait_until(lambda: [node.state for node in fs.status().datanodes] == ["live"] * 3, 30, "three live datanodes")
        data = os.urandom(CHUNK)
        began = time.monotonic()
        fs.write_bytes("/usual", data)
        usual_s = time.monotonic() - began
        stop_at = StopAt(three, member, position)
        monkeypatch.setattr(OutgoingChunk, "send", lambda self, piece: stop_at.send(self, piece))
        began = time.monotonic()
        try:
            fs.write_bytes("/stalled", data)
            took_s = time.monotonic() - began
            assert stop_at.stopped
            assert fs.read_bytes("/stalled") == data
        finally:
            for node in stop_at.stopped:
                node.cont()
        print(f"member {member}, at {position / MIB:.0f} MiB: {took_s:.1f} s instead of {usual_s:.1f} s")
        # What a machine needs for the bytes themselves is not the stall's doing.
        assert took_s < LONGEST_S + usual_s


def test_a_reader_of_the_http_gateway_does_not_wait_for_a_stalled_datanode(three: Cluster) -> None:
    # F52
    with three.connect(chunk_size=MIB) as fs:
        wait_until(lambda: [node.state for node in fs.status().datanodes] == ["live"] * 3, 30, "three live datanodes")
        data = os.urandom(24 * MIB)
        fs.write_bytes("/ranges", data, replication=2)
        placed = fs.places("/ranges")
        holders = {chunk.id: {replica.datanode for replica in chunk.replicas} for chunk in placed.chunks}
        # Each chunk is missing at one datanode. The one that lacks most is asked, so that it must ask the others; which
        # one that is, nobody knows: a datanode that hung a moment ago gets fewer.
        lacking = {node.id: [chunk for chunk, at in holders.items() if node.id not in at] for node in three.datanodes}
        door = max(three.datanodes, key=lambda node: len(lacking[node.id]))
        victim = next(node for node in three.datanodes if node is not door)
        wanted = [extent.position for extent in placed.extents if extent.chunk in lacking[door.id]]
        assert wanted
        with requests.Session() as session:
            victim.stop()
            try:
                began = time.monotonic()
                for position in wanted:
                    answer = session.get(
                        f"{door.url}/files/ranges",
                        headers={"Range": f"bytes={position + 1000}-{position + 200_999}"},
                        timeout=30,
                    )
                    assert answer.status_code == 206
                    assert answer.content == data[position + 1000 : position + 201_000]
                took_s = time.monotonic() - began
            finally:
                victim.cont()
        print(f"{len(wanted)} ranges in {took_s:.1f} s")
        assert took_s < NO_PROGRESS_S, "the first read waited until its datanode had made no progress for too long"
