"""A datanode process does its duties: scrub on command, quarantine, limits on repairs, and the modes of durability."""

import json
import random
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from dfs.protocol import messages as m
from dfs.protocol.chunk_format import HEADER_SIZE
from dfs.protocol.digests import block_table, root_digest, tree_digest
from dfs.protocol.transport import Transport
from fixtures.datanode_process import DatanodeProcess, wait_until
from fixtures.fake_namenode import FakeNamenode


class Trial:
    """Datanodes under a namenode that does what the test says."""

    def __init__(self, root: Path, namenode: FakeNamenode) -> None:
        self.root = root
        self.namenode = namenode
        self.transport = Transport()

    def start(self, name: str = "dn0", **settings: object) -> DatanodeProcess:
        return DatanodeProcess(self.root / name, self.namenode.url, name, **settings).wait_ready()

    def put(self, datanode: DatanodeProcess, data: bytes) -> str:
        chunk = self.namenode.new_chunk()
        table = block_table(data)
        stored = self.transport.put_chunk(
            datanode.url,
            chunk=chunk,
            capability=self.namenode.capability("w", chunk, [datanode.id]),
            pieces=[data],
            length=len(data),
            table=table,
            root=root_digest(len(data), table),
        )
        assert self.namenode.receipts(stored) == [datanode.id]
        return chunk

    def file(self, name: str, chunk: str) -> Path:
        return self.root / name / "chunks" / chunk[-2:] / f"{chunk}.chunk"

    def rot(self, name: str, chunk: str, offset: int) -> None:
        with open(self.file(name, chunk), "r+b") as file:
            file.seek(HEADER_SIZE + offset)
            byte = file.read(1)[0]
            file.seek(HEADER_SIZE + offset)
            file.write(bytes([byte ^ 1]))

    def checked(self) -> dict[str, m.CheckedReplica]:
        return {one.chunk: one for beat in self.namenode.heartbeats for one in beat.checked}

    def health(self, datanode: DatanodeProcess) -> Any:
        with urllib.request.urlopen(f"{datanode.url}/healthz", timeout=10) as answer:
            return json.load(answer)


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    with FakeNamenode() as namenode:
        yield Trial(tmp_path, namenode)


def test_a_scrub_on_command_finds_what_rots_and_what_is_dropped_for_it_is_kept(trial: Trial) -> None:  # F39
    data = random.Random(1).randbytes(200_000)
    with trial.start() as datanode:
        good, bad = trial.put(datanode, data), trial.put(datanode, data)
        trial.rot("dn0", bad, 150_000)
        trial.namenode.commands["dn0"] = [m.Scrub()]
        wait_until(lambda: bad in trial.checked())
        assert not trial.checked()[bad].good
        assert "block 9" in trial.checked()[bad].why
        wait_until(lambda: trial.namenode.heartbeats[-1].volumes[0].scrub_left == 0)
        assert good not in trial.checked()
        assert trial.file("dn0", bad).exists(), "it stays until the namenode has its replacement"
        trial.namenode.commands["dn0"] = [m.DeleteReplicas(chunks=[bad, good])]
        wait_until(lambda: {one for beat in trial.namenode.heartbeats for one in beat.deleted} == {bad, good})
        [volume] = trial.health(datanode)["volumes"]
        assert (volume["quarantined"], volume["state"]) == (1, "in_service")
        assert (trial.root / "dn0" / "quarantine" / f"{bad}.chunk").exists()
        assert (trial.root / "dn0" / "trash" / good).exists()


def test_what_readers_complain_of_is_looked_at_on_the_disk_and_cleared(trial: Trial) -> None:  # F40
    data = random.Random(2).randbytes(200_000)
    with trial.start() as datanode:
        chunk = trial.put(datanode, data)
        command = m.CheckReplica(chunk=chunk, length=len(data), digest=tree_digest(data))
        trial.namenode.commands["dn0"] = [command]
        wait_until(lambda: chunk in trial.checked())
        assert trial.checked()[chunk].good


@pytest.mark.parametrize("durability", ["sync", "batch", "none"])
def test_a_datanode_says_what_its_receipts_mean_and_keeps_its_chunks(trial: Trial, durability: str) -> None:
    data = random.Random(3).randbytes(2 << 20)
    with trial.start(durability=durability) as datanode:
        chunks = [trial.put(datanode, data) for _ in range(3)]
        assert trial.namenode.registrations[-1].durability == durability
        wait_until(lambda: bool(trial.namenode.heartbeats))
        assert trial.namenode.heartbeats[-1].durability == durability
        datanode.kill()
    with trial.start(durability=durability) as again:
        for chunk in chunks:
            answer = bytearray(len(data))
            trial.transport.get_chunk(
                again.url,
                chunk=chunk,
                capability=trial.namenode.capability("r", chunk, ["dn0"]),
                offset=0,
                length=len(data),
                mode="exact",
                into=[memoryview(answer)],
            )
            assert bytes(answer) == data
        assert again.stop() == 0
    assert list((trial.root / "dn0" / "tmp").iterdir()) == [], "at an orderly end nothing is left in doubt"


def test_a_slow_pull_is_named_in_the_heartbeats_until_it_is_done(trial: Trial) -> None:  # F57
    data = random.Random(5).randbytes(4 << 20)
    with trial.start("dn0") as first, trial.start("dn1", repair_bytes_per_s=2 << 20):
        chunk = trial.put(first, data)
        trial.namenode.commands["dn1"] = [
            m.Replicate(
                chunk=chunk,
                length=len(data),
                digest=tree_digest(data),
                sources=[m.Target("dn0", first.url)],
                capability=trial.namenode.capability("r", chunk, ["dn0"], principal="repair"),
            )
        ]
        beats = trial.namenode.heartbeats
        wait_until(lambda: any(one.chunk == chunk for beat in beats for one in beat.stored), 30)
        ours = [beat for beat in list(beats) if beat.datanode == "dn1"]
        assert sum(beat.pulling == [chunk] for beat in ours) > 3
        wait_until(lambda: [beat for beat in list(beats) if beat.datanode == "dn1"][-1].pulling == [], 10)


def test_commands_of_a_later_namenode_are_skipped_and_counted_and_the_others_done(trial: Trial) -> None:  # F88
    with trial.start("dn0") as node:
        chunk = trial.put(node, b"x" * 1000)
        later: Any = {"do": "teleport", "chunk": chunk}
        for _ in range(2):
            trial.namenode.commands["dn0"] = [later, m.DeleteReplicas(chunks=[chunk])]
            told = len(trial.namenode.heartbeats)
            wait_until(lambda told=told: any(beat.deleted for beat in trial.namenode.heartbeats[told:]), 10)
        metrics = requests.get(f"{node.url}/metrics", timeout=10).text
        assert 'dfs_datanode_unknown_commands_total{kind="teleport"} 2.0' in metrics
        assert node.process.poll() is None


def test_a_pull_keeps_to_the_limit_and_puts_a_replica_together_from_bad_ones(trial: Trial) -> None:  # F42 F68
    data = random.Random(4).randbytes(6 << 20)
    with (
        trial.start("dn0") as first,
        trial.start("dn1") as second,
        trial.start("dn2", repair_bytes_per_s=4 << 20) as target,
    ):
        chunk = trial.put(first, data)
        copy = trial.file("dn1", chunk)
        copy.write_bytes(trial.file("dn0", chunk).read_bytes())
        for block in (0, 3, 100, 383):
            trial.rot("dn0", chunk, block * 16384)
        for block in (1, 4, 101, 382):
            trial.rot("dn1", chunk, block * 16384)
        trial.namenode.commands["dn2"] = [
            m.Replicate(
                chunk=chunk,
                length=len(data),
                digest=tree_digest(data),
                sources=[m.Target("dn0", first.url), m.Target("dn1", second.url)],
                capability=trial.namenode.capability("r", chunk, ["dn0", "dn1"], principal="repair"),
            )
        ]
        began_s = time.monotonic()
        wait_until(lambda: any(one.chunk == chunk for beat in trial.namenode.heartbeats for one in beat.stored), 30)
        assert time.monotonic() - began_s > 0.9, "6 MiB at 4 MiB/s"
        assert trial.file("dn2", chunk).read_bytes()[HEADER_SIZE : HEADER_SIZE + len(data)] == data
        assert target.process.poll() is None
