"""A disk that hangs: heartbeats flow, and its volume goes out of service alone until it answers again."""

import fcntl
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dfs.protocol import messages as m
from dfs.protocol.digests import block_table, root_digest
from dfs.protocol.transport import Transport
from dfs.testing import Impossible, SmallDisk
from fixtures.datanode_process import DatanodeProcess, wait_until
from fixtures.fake_namenode import FakeNamenode

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
"""Of linux/fs.h: whoever writes to the file system waits, in the kernel, until it is thawed."""
PROBE_TIMEOUT_S = 1.5


@contextmanager
def frozen(path: str) -> Iterator[None]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.ioctl(fd, FIFREEZE, 0)
        except OSError as error:
            pytest.skip(f"this file system can't be frozen: {error}")
        try:
            yield
        finally:
            fcntl.ioctl(fd, FITHAW, 0)
    finally:
        os.close(fd)


def put(namenode: FakeNamenode, datanode: DatanodeProcess, data: bytes) -> tuple[str, m.StoredChunk]:
    chunk = namenode.new_chunk()
    table = block_table(data)
    stored = Transport().put_chunk(
        datanode.url,
        chunk=chunk,
        capability=namenode.capability("w", chunk, [datanode.id]),
        pieces=[data],
        length=len(data),
        table=table,
        root=root_digest(len(data), table),
    )
    return chunk, stored


def get(namenode: FakeNamenode, datanode: DatanodeProcess, chunk: str, length: int) -> bytes:
    answer = bytearray(length)
    Transport().get_chunk(
        datanode.url,
        chunk=chunk,
        capability=namenode.capability("r", chunk, [datanode.id]),
        offset=0,
        length=length,
        mode="exact",
        into=[memoryview(answer)],
    )
    return bytes(answer)


def test_a_disk_that_hangs_takes_only_its_own_volume_out_of_service(tmp_path: Path) -> None:  # F53
    try:
        small = SmallDisk(str(tmp_path), 64 << 20)
    except Impossible as reason:
        pytest.skip(str(reason))
    data = random.Random(1).randbytes(300_000)
    with small as disk, FakeNamenode() as namenode:
        directories = [os.path.join(disk.path, "datanode"), str(tmp_path / "well")]
        with DatanodeProcess(
            tmp_path / "log",
            namenode.url,
            "dn0",
            dirs=directories,
            probe_interval_s=0.1,
            probe_timeout_s=PROBE_TIMEOUT_S,
        ) as datanode:
            datanode.wait_ready()

            def states() -> list[str]:
                return [volume.state for volume in namenode.heartbeats[-1].volumes] if namenode.heartbeats else []

            wait_until(lambda: states() == ["in_service", "in_service"])
            with frozen(disk.path):
                wait_until(lambda: states() == ["failed", "in_service"], 30)
                beats = len(namenode.heartbeats)
                for _ in range(3):
                    chunk, stored = put(namenode, datanode, data)
                    assert namenode.receipts(stored) == ["dn0"]
                    assert get(namenode, datanode, chunk, len(data)) == data
                wait_until(lambda: len(namenode.heartbeats) > beats + 5)
            wait_until(lambda: states() == ["in_service", "in_service"], 30)
