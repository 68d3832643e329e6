"""A disk that hangs: heartbeats flow, and its volume goes out of service alone until it answers again."""

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dfs.protocol import messages as m
from dfs.protocol.chunk_format import encode_wire_footer
from dfs.protocol.digests import block_table, root_digest
from dfs.protocol.transport import Transport
from dfs.testing import Impossible, SmallDisk
from fixtures.datanode_process import DatanodeProcess, wait_until
from fixtures.fake_namenode import FakeNamenode

PROBE_TIMEOUT_S = 1.5


@contextmanager
def hanging(disk: SmallDisk) -> Iterator[None]:
    try:
        disk.hang()
    except Impossible as reason:
        pytest.skip(str(reason))
    try:
        yield
    finally:
        disk.answer_again()


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
            with hanging(disk):
                wait_until(lambda: states() == ["failed", "in_service"], 30)
                beats = len(namenode.heartbeats)
                for _ in range(3):
                    chunk, stored = put(namenode, datanode, data)
                    assert namenode.receipts(stored) == ["dn0"]
                    assert get(namenode, datanode, chunk, len(data)) == data
                wait_until(lambda: len(namenode.heartbeats) > beats + 5)
            wait_until(lambda: states() == ["in_service", "in_service"], 30)


def test_a_disk_that_is_slow_but_alive_fails_no_chunk(tmp_path: Path) -> None:  # F10 F52
    try:
        small = SmallDisk(str(tmp_path), 64 << 20)
    except Impossible as reason:
        pytest.skip(str(reason))
    data = random.Random(2).randbytes(300_000)
    with small as disk, FakeNamenode() as namenode:
        directory = os.path.join(disk.path, "datanode")
        with DatanodeProcess(tmp_path / "log", namenode.url, "dn0", dirs=[directory]) as datanode:
            datanode.wait_ready()
            chunk = namenode.new_chunk()
            table = block_table(data)
            outgoing = Transport(no_progress_s=1.0).begin_put(
                datanode.url, chunk=chunk, capability=namenode.capability("w", chunk, ["dn0"]), length=len(data)
            )
            with hanging(disk):
                thaw = threading.Timer(3, disk.answer_again)
                thaw.start()
                outgoing.send(data)
                outgoing.send(encode_wire_footer(len(data), table, root_digest(len(data), table)))
                began = time.monotonic()
                stored = outgoing.finish()
                waited_s = time.monotonic() - began
                thaw.join()
            # Three times as long as silence is endured, but it was not silent.
            assert waited_s > 2
            assert namenode.receipts(stored) == ["dn0"]
