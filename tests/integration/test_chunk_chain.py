"""Chunks through real datanode processes: chains, fail-over, ranges, repair, restarts. The namenode is a fake."""

import os
import random
import resource
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import requests

from dfs.protocol import messages as m
from dfs.protocol.capability import derive_key, read_receipt, sign_capability
from dfs.protocol.chunk_format import HEADER_SIZE, encode_wire_footer, wire_size
from dfs.protocol.digests import BLOCK_SIZE, block_table, root_digest, table_size, tree_digest
from dfs.protocol.errors import (
    ChunkExists,
    CorruptReplica,
    DfsError,
    DigestMismatch,
    InvalidRequest,
    NotPermitted,
    OutcomeUnknown,
    RangeNotSatisfiable,
    ReplicaNotFound,
    Unavailable,
)
from dfs.protocol.transport import Transport
from fixtures.datanode_process import DatanodeProcess, wait_until
from fixtures.fake_namenode import SECRET, FakeNamenode


class Cluster:
    def __init__(self, root: Path, count: int) -> None:
        self.root = root
        self.transport = Transport()
        self.stack = ExitStack()
        self.stack.callback(self.transport.close)
        self.namenode = self.stack.enter_context(FakeNamenode())
        self.nodes: list[DatanodeProcess] = []
        try:
            self.nodes += [self.start(number) for number in range(count)]
            for node in self.nodes:
                node.wait_ready()
        except BaseException:
            self.stack.close()
            raise

    def start(self, number: int, **settings: object) -> DatanodeProcess:
        node = DatanodeProcess(self.root / f"dn{number}", self.namenode.url, f"dn{number}", **settings)
        self.stack.callback(node.stop)
        return node

    def ids(self) -> list[str]:
        return [node.id for node in self.nodes]

    def put(self, chunk: str, data: bytes, chain: list[str], head: int = 0, **capability: int) -> m.StoredChunk:
        table = block_table(data)
        url = next(node.url for node in self.nodes if node.id == chain[head])
        return self.transport.put_chunk(
            url,
            chunk=chunk,
            capability=self.namenode.capability("w", chunk, chain, **capability),
            pieces=[data[start : start + (1 << 20)] for start in range(0, len(data), 1 << 20)],
            length=len(data),
            table=table,
            root=root_digest(len(data), table),
            hop=head,
        )

    def get(self, node: int, chunk: str, offset: int, length: int, **capability: int) -> bytes:
        answer = bytearray(length)
        self.transport.get_chunk(
            self.nodes[node].url,
            chunk=chunk,
            capability=self.namenode.capability("r", chunk, [self.nodes[node].id], **capability),
            offset=offset,
            length=length,
            mode="exact",
            into=[memoryview(answer)],
        )
        return bytes(answer)

    def file(self, node: int, chunk: str) -> Path:
        return self.root / f"dn{node}" / "chunks" / chunk[-2:] / f"{chunk}.chunk"

    def names_in(self, node: int, directory: str) -> list[str]:
        return os.listdir(self.root / f"dn{node}" / directory)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three datanodes that all tests of this module share; none of them is harmed."""
    cluster = Cluster(tmp_path_factory.mktemp("chain"), 3)
    with cluster.stack:
        yield cluster


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Cluster]:
    """Two datanodes that a test may harm."""
    cluster = Cluster(tmp_path, 2)
    with cluster.stack:
        yield cluster


def some_bytes(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def test_a_chunk_is_durable_on_every_member_of_its_chain_with_a_receipt_each(chain: Cluster) -> None:
    data = some_bytes(5 * (1 << 20) + 12345)
    chunk = chain.namenode.new_chunk()
    stored = chain.put(chunk, data, chain.ids(), principal="alice")  # type: ignore[arg-type]
    assert chain.namenode.receipts(stored) == chain.ids()
    assert stored.failed == []
    for token in stored.receipts:
        receipt = read_receipt(token, SECRET)
        assert (receipt.length, receipt.digest.hex(), receipt.principal) == (len(data), tree_digest(data), "alice")
    for number in range(3):
        assert chain.get(number, chunk, 0, len(data)) == data
        assert chain.names_in(number, "tmp") == []


@pytest.mark.parametrize("size", [1, 4096, BLOCK_SIZE, BLOCK_SIZE + 1, (1 << 20) - 1, 1 << 20, 4 * (1 << 20) - 4096])
def test_every_size_comes_back_as_it_went(chain: Cluster, size: int) -> None:
    data = some_bytes(size, seed=size)
    chunk = chain.namenode.new_chunk()
    chain.put(chunk, data, chain.ids()[:2])
    assert chain.get(1, chunk, 0, size) == data
    assert chain.get(0, chunk, size - 1, 1) == data[-1:]


def test_exact_ranges_across_blocks_and_pieces_are_right(chain: Cluster) -> None:
    data = some_bytes(3 * (1 << 20) + 77)
    chunk = chain.namenode.new_chunk()
    chain.put(chunk, data, ["dn0"])
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(40):
        offset = rng.randrange(len(data))
        length = rng.randint(1, len(data) - offset)
        assert chain.get(0, chunk, offset, length) == data[offset : offset + length]


def test_a_table_answer_is_the_table_and_whole_blocks(chain: Cluster) -> None:
    data = some_bytes(100_000)
    chunk = chain.namenode.new_chunk()
    chain.put(chunk, data, ["dn0"])
    table, blocks = bytearray(table_size(len(data))), bytearray(2 * BLOCK_SIZE)
    chain.transport.get_chunk(
        chain.nodes[0].url,
        chunk=chunk,
        capability=chain.namenode.capability("r", chunk, ["dn0"], end=len(data)),
        offset=BLOCK_SIZE + 5,
        length=BLOCK_SIZE,
        mode="table",
        into=[memoryview(table), memoryview(blocks)],
    )
    assert root_digest(len(data), table).hex() == tree_digest(data)
    assert blocks == data[BLOCK_SIZE : 3 * BLOCK_SIZE]


def test_ranges_come_one_behind_the_other_and_a_damaged_block_of_one_spoils_the_answer(lone: Cluster) -> None:  # F40
    data = some_bytes(12 * BLOCK_SIZE + 100)
    chunk = lone.namenode.new_chunk()
    lone.put(chunk, data, ["dn0"])
    ranges = [(0, BLOCK_SIZE), (3 * BLOCK_SIZE, 5 * BLOCK_SIZE), (12 * BLOCK_SIZE, len(data))]

    def get(end: int) -> bytes:
        into = bytearray(sum(end - start for start, end in ranges))
        lone.transport.get_ranges(
            lone.nodes[0].url,
            chunk=chunk,
            capability=lone.namenode.capability("r", chunk, ["dn0"], end=end),
            ranges=ranges,
            into=memoryview(into),
        )
        return bytes(into)

    assert get(len(data)) == b"".join(data[start:end] for start, end in ranges)
    with pytest.raises(NotPermitted):
        get(len(data) - 1)
    with open(lone.file(0, chunk), "r+b") as file:
        file.seek(HEADER_SIZE + 4 * BLOCK_SIZE)
        file.write(bytes([data[4 * BLOCK_SIZE] ^ 1]))
    with pytest.raises(CorruptReplica):
        get(len(data))


def test_a_block_damaged_behind_the_first_piece_ends_a_large_answer_short(lone: Cluster) -> None:  # F40
    data = some_bytes(5 * (1 << 20))
    chunk = lone.namenode.new_chunk()
    lone.put(chunk, data, ["dn0"])
    place = 3 * (1 << 20) + 5
    with open(lone.file(0, chunk), "r+b") as file:
        file.seek(HEADER_SIZE + place)
        file.write(bytes([data[place] ^ 1]))
    with pytest.raises(OutcomeUnknown):
        lone.get(0, chunk, 0, len(data))
    with pytest.raises(CorruptReplica):
        lone.get(0, chunk, place, 1 << 20)
    assert lone.get(0, chunk, 0, 3 * (1 << 20)) == data[: 3 * (1 << 20)]


def test_a_capability_for_one_file_of_a_pack_shows_nothing_of_its_neighbours(chain: Cluster) -> None:
    data = some_bytes(100_000)
    chunk = chain.namenode.new_chunk()
    chain.put(chunk, data, ["dn0"])
    assert chain.get(0, chunk, 1000, 500, start=1000, end=1500) == data[1000:1500]
    with pytest.raises(NotPermitted):
        chain.get(0, chunk, 999, 2, start=1000, end=1500)
    with pytest.raises(NotPermitted):
        chain.transport.get_chunk(
            chain.nodes[0].url, chunk=chunk, offset=1000, length=500, mode="blocks",
            capability=chain.namenode.capability("r", chunk, ["dn0"], start=1000, end=1500),
            into=[memoryview(bytearray(BLOCK_SIZE))],
        )  # fmt: skip


def test_files_from_all_over_a_pack_come_in_one_request_without_what_lies_between(lone: Cluster) -> None:
    data = some_bytes(9 * BLOCK_SIZE + 100)
    chunk = lone.namenode.new_chunk()
    lone.put(chunk, data, ["dn0"])
    files = [(5, 300), (4000, 4001), (BLOCK_SIZE - 7, 3 * BLOCK_SIZE + 9), (9 * BLOCK_SIZE, len(data))]
    token = sign_capability(
        {"dn0": derive_key(SECRET, "dn0")},
        operation="r",
        chunk=chunk,
        start=files[0][0],
        end=files[-1][1],
        expires_ms=1 << 45,
        principal="anonymous",
        runs=[number for file in files for number in file],
    )

    def get(ranges: list[tuple[int, int]]) -> bytes:
        into = memoryview(bytearray(sum(end - start for start, end in ranges)))
        lone.transport.get_ranges(
            lone.nodes[0].url, chunk=chunk, capability=token, ranges=ranges, into=into, mode="exact"
        )
        return bytes(into)

    assert get(files) == b"".join(data[start:end] for start, end in files)
    assert get(files[1:3]) == data[4000:4001] + data[BLOCK_SIZE - 7 : 3 * BLOCK_SIZE + 9]
    for ranges in ([(5, 301)], [(5, 300), (300, 301)], [(5, 4001)]):
        with pytest.raises(NotPermitted):
            get(ranges)
    with open(lone.file(0, chunk), "r+b") as file:
        file.seek(HEADER_SIZE + 2 * BLOCK_SIZE)
        file.write(bytes([data[2 * BLOCK_SIZE] ^ 1]))
    with pytest.raises(CorruptReplica):
        get(files)


def test_a_range_beyond_the_chunk_and_an_unknown_chunk_are_told_apart(chain: Cluster) -> None:
    chunk = chain.namenode.new_chunk()
    chain.put(chunk, b"x" * 100, ["dn0"])
    with pytest.raises(RangeNotSatisfiable):
        chain.get(0, chunk, 50, 51)
    with pytest.raises(ReplicaNotFound):
        chain.get(0, chain.namenode.new_chunk(), 0, 1)


def test_a_used_chunk_id_is_refused(chain: Cluster) -> None:  # F84, F95
    chunk = chain.namenode.new_chunk()
    chain.put(chunk, b"first", ["dn0"])
    with pytest.raises(ChunkExists):
        chain.put(chunk, b"other", ["dn0"])
    assert chain.get(0, chunk, 0, 5) == b"first"


def test_an_id_that_is_being_written_is_claimed(chain: Cluster) -> None:  # F95
    chunk = chain.namenode.new_chunk()
    data = b"y" * 100_000
    token = chain.namenode.capability("w", chunk, ["dn0"])
    first = chain.transport.begin_put(chain.nodes[0].url, chunk=chunk, capability=token, length=len(data))
    first.send(data[:10])
    wait_until(lambda: chunk in chain.names_in(0, "tmp"))
    with pytest.raises(ChunkExists):
        chain.put(chunk, data, ["dn0"])
    first.abort()
    wait_until(lambda: chain.names_in(0, "tmp") == [])


@pytest.mark.parametrize("fault", ["forged", "expired", "foreign datanode", "read for write", "too long"])
def test_a_bad_capability_is_refused_before_the_body(chain: Cluster, fault: str) -> None:  # F84
    chunk = chain.namenode.new_chunk()
    data = b"z" * 1000
    token = {
        "forged": chain.namenode.capability("w", chunk, ["dn0"])[:-4] + "AAAA",
        "expired": chain.namenode.capability("w", chunk, ["dn0"], expires_in_ms=-60_000),
        "foreign datanode": chain.namenode.capability("w", chunk, ["dn1"]),
        "read for write": chain.namenode.capability("r", chunk, ["dn0"]),
        "too long": chain.namenode.capability("w", chunk, ["dn0"], end=999),
    }[fault]
    with pytest.raises(NotPermitted):
        chain.transport.put_chunk(
            chain.nodes[0].url, chunk=chunk, capability=token, pieces=[data], length=len(data),
            table=block_table(data), root=root_digest(len(data), block_table(data)),
        )  # fmt: skip
    assert not chain.file(0, chunk).exists()


def test_a_wrong_digest_stores_nothing_anywhere(chain: Cluster) -> None:  # F12
    chunk = chain.namenode.new_chunk()
    data = b"a" * 50_000
    table = block_table(data)
    with pytest.raises(DigestMismatch):
        chain.transport.put_chunk(
            chain.nodes[0].url, chunk=chunk, capability=chain.namenode.capability("w", chunk, chain.ids()),
            pieces=[b"b" + data[1:]], length=len(data), table=table, root=root_digest(len(data), table),
        )  # fmt: skip
    for number in range(3):
        assert not chain.file(number, chunk).exists()
        wait_until(lambda number=number: chunk not in chain.names_in(number, "tmp"))


def test_a_body_that_ends_early_stores_nothing_anywhere(chain: Cluster) -> None:  # F15, F83
    chunk = chain.namenode.new_chunk()
    token = chain.namenode.capability("w", chunk, chain.ids())
    outgoing = chain.transport.begin_put(chain.nodes[0].url, chunk=chunk, capability=token, length=3 << 20)
    outgoing.send(bytes(2 << 20))
    wait_until(lambda: all(chunk in chain.names_in(number, "tmp") for number in range(3)))
    outgoing.abort()
    wait_until(lambda: all(chunk not in chain.names_in(number, "tmp") for number in range(3)))
    assert not any(chain.file(number, chunk).exists() for number in range(3))


def test_a_length_that_contradicts_the_body_is_refused(chain: Cluster) -> None:  # F83
    chunk = chain.namenode.new_chunk()
    token = chain.namenode.capability("w", chunk, ["dn0"])
    host, port = chain.nodes[0].url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(
            f"PUT /v1/chunks/{chunk} HTTP/1.1\r\nhost: x\r\ndfs-protocol: 1\r\ndfs-capability: {token}\r\n"
            f"dfs-chunk-length: 100\r\ncontent-length: {wire_size(100) + 1}\r\n\r\n".encode()
        )
        sock.settimeout(5)
        answer = sock.recv(4096)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"connection: close" in answer.lower()


def test_a_dead_member_is_skipped_and_named(lone: Cluster) -> None:  # F1, F85
    lone.nodes[1].kill()
    chunk = lone.namenode.new_chunk()
    stored = lone.put(chunk, b"q" * 200_000, ["dn0", "dn1"])
    assert lone.namenode.receipts(stored) == ["dn0"]
    assert [(hop.datanode, hop.culprit) for hop in stored.failed] == [("dn1", True)]
    wait_until(lambda: any("dn1" in beat.suspects for beat in lone.namenode.heartbeats))


def test_a_datanode_that_no_namenode_named_is_never_connected_to(chain: Cluster) -> None:  # F85
    chunk = chain.namenode.new_chunk()
    stored = chain.put(chunk, b"q" * 200, ["dn0", "stranger", "dn1"])
    assert chain.namenode.receipts(stored) == ["dn0", "dn1"]
    assert [hop.datanode for hop in stored.failed] == ["stranger"]


def test_a_member_killed_in_mid_stream_is_the_only_culprit(tmp_path: Path) -> None:  # F3
    cluster = Cluster(tmp_path, 3)
    with cluster.stack:
        chunk = cluster.namenode.new_chunk()
        data = some_bytes(8 << 20)
        table = block_table(data)
        token = cluster.namenode.capability("w", chunk, cluster.ids())
        outgoing = cluster.transport.begin_put(cluster.nodes[0].url, chunk=chunk, capability=token, length=len(data))
        outgoing.send(data[: 1 << 20])
        wait_until(lambda: chunk in cluster.names_in(2, "tmp"))
        cluster.nodes[1].kill()
        outgoing.send(data[1 << 20 :])
        outgoing.send(table + len(data).to_bytes(8, "little") + root_digest(len(data), table))
        stored = outgoing.finish()
        assert cluster.namenode.receipts(stored) == ["dn0"]
        assert [(hop.datanode, hop.culprit) for hop in stored.failed] == [("dn1", True), ("dn2", False)]
        assert cluster.get(0, chunk, 0, len(data)) == data
        wait_until(lambda: cluster.names_in(2, "tmp") == [])
        assert not cluster.file(2, chunk).exists()


def test_a_damaged_block_is_never_sent_and_the_namenode_learns_of_it(lone: Cluster) -> None:  # F40
    data = some_bytes(3 << 20)
    chunk = lone.namenode.new_chunk()
    lone.put(chunk, data, ["dn0", "dn1"])
    with open(lone.file(0, chunk), "r+b") as file:
        file.seek(HEADER_SIZE + (2 << 20) + 100)
        file.write(bytes([data[(2 << 20) + 100] ^ 1]))
    with pytest.raises(CorruptReplica):
        lone.get(0, chunk, 2 << 20, 1000)
    with pytest.raises(OutcomeUnknown):  # the answer had begun when the damage was found
        lone.get(0, chunk, 0, len(data))
    assert lone.get(0, chunk, 0, 1 << 20) == data[: 1 << 20]
    wait_until(lambda: any(one.chunk == chunk and not one.good for b in lone.namenode.heartbeats for one in b.checked))
    assert lone.file(0, chunk).exists()


def test_a_repair_pulls_block_by_block_from_sources_that_are_each_damaged(tmp_path: Path) -> None:  # F41, F42
    cluster = Cluster(tmp_path, 3)
    with cluster.stack:
        data = some_bytes(9 << 20)
        chunk = cluster.namenode.new_chunk()
        cluster.put(chunk, data, ["dn0", "dn1"])
        for number, place in ((0, 100), (1, 8 << 20)):
            with open(cluster.file(number, chunk), "r+b") as file:
                file.seek(HEADER_SIZE + place)
                file.write(bytes([data[place] ^ 0xFF]))
        cluster.namenode.commands["dn2"] = [
            m.Replicate(
                chunk=chunk,
                length=len(data),
                digest=tree_digest(data),
                sources=[m.Target("dn0", cluster.nodes[0].url), m.Target("dn1", cluster.nodes[1].url)],
                capability=cluster.namenode.capability("r", chunk, ["dn0", "dn1"]),
            )
        ]
        beats = cluster.namenode.heartbeats
        wait_until(lambda: any(one.chunk == chunk for beat in beats for one in [*beat.stored]))
        assert cluster.get(2, chunk, 0, len(data)) == data


def test_a_bad_replica_stays_until_its_replacement_is_whole_and_then_gives_way(lone: Cluster) -> None:  # F39
    data = some_bytes(3 << 20)
    chunk = lone.namenode.new_chunk()
    lone.put(chunk, data, ["dn0", "dn1"])
    with open(lone.file(1, chunk), "r+b") as file:
        file.seek(HEADER_SIZE + 100)
        file.write(bytes([data[100] ^ 1]))
    rotten = lone.file(1, chunk).read_bytes()
    with pytest.raises(CorruptReplica):
        lone.get(1, chunk, 0, 200)

    def replicate(digest: str) -> m.Replicate:
        return m.Replicate(
            chunk=chunk, length=len(data), digest=digest, sources=[m.Target("dn0", lone.nodes[0].url)],
            capability=lone.namenode.capability("r", chunk, ["dn0"]),
        )  # fmt: skip

    beats = lone.namenode.heartbeats
    lone.namenode.commands["dn1"] = [replicate(tree_digest(b"another"))]
    wait_until(lambda: any(chunk in beat.failed for beat in beats))
    assert lone.file(1, chunk).read_bytes() == rotten, "its replacement could not be had"
    lone.namenode.commands["dn1"] = [replicate(tree_digest(data))]
    wait_until(lambda: any(one.chunk == chunk for beat in beats for one in beat.stored))
    assert lone.get(1, chunk, 0, len(data)) == data
    assert lone.names_in(1, "tmp") == []
    assert lone.names_in(1, "trash") == []
    assert sorted(lone.names_in(1, "quarantine")) == [f"{chunk}.chunk", f"{chunk}.why"]


def test_a_repair_of_the_wrong_bytes_is_refused_and_told(lone: Cluster) -> None:  # F41
    chunk = lone.namenode.new_chunk()
    lone.put(chunk, b"some bytes", ["dn0"])
    lone.namenode.commands["dn1"] = [
        m.Replicate(
            chunk=chunk, length=10, digest=tree_digest(b"other data"), sources=[m.Target("dn0", lone.nodes[0].url)],
            capability=lone.namenode.capability("r", chunk, ["dn0"]),
        )
    ]  # fmt: skip
    wait_until(lambda: any(chunk in beat.failed for beat in lone.namenode.heartbeats))
    assert not lone.file(1, chunk).exists()
    assert lone.names_in(1, "tmp") == []


def test_a_deleted_chunk_goes_to_the_trash_and_its_id_stays_used(lone: Cluster) -> None:
    chunk, absent = lone.namenode.new_chunk(), lone.namenode.new_chunk()
    lone.put(chunk, b"bye", ["dn0"])
    assert lone.get(0, chunk, 0, 3) == b"bye"
    lone.namenode.commands["dn0"] = [m.DeleteReplicas(chunks=[chunk, absent])]
    wait_until(lambda: {chunk, absent} <= {one for beat in lone.namenode.heartbeats for one in beat.deleted})
    assert lone.names_in(0, "trash") == [chunk]
    with pytest.raises(ReplicaNotFound):
        lone.get(0, chunk, 0, 3)
    with pytest.raises(ChunkExists):
        lone.put(chunk, b"new", ["dn0"])


def test_what_was_acknowledged_is_there_after_sigkill_and_what_was_not_is_gone(lone: Cluster) -> None:  # F2, F7
    done, begun = lone.namenode.new_chunk(), lone.namenode.new_chunk()
    data = some_bytes(2 << 20)
    lone.put(done, data, ["dn0"])
    token = lone.namenode.capability("w", begun, ["dn0"])
    outgoing = lone.transport.begin_put(lone.nodes[0].url, chunk=begun, capability=token, length=2 << 20)
    outgoing.send(data[: 1 << 20])
    wait_until(lambda: begun in lone.names_in(0, "tmp"))
    lone.nodes[0].kill()
    outgoing.abort()
    lone.nodes[0] = lone.start(0).wait_ready()
    assert lone.names_in(0, "tmp") == []
    assert lone.get(0, done, 0, len(data)) == data
    assert lone.namenode.registrations[-1].cluster == lone.namenode.cluster
    assert lone.namenode.registrations[-1].proof
    reports = lone.namenode.reports
    wait_until(lambda: any(one.chunk == done for r in reports if r.incarnation == 3 for one in r.replicas))
    assert all(one.chunk != begun for report in reports for one in report.replicas)


def test_a_datanode_registers_again_when_its_namenode_has_forgotten_it(lone: Cluster) -> None:  # F48
    before = len(lone.namenode.registrations)
    lone.namenode.forget = True
    wait_until(lambda: len(lone.namenode.registrations) > before)
    chunk = lone.namenode.new_chunk()
    assert lone.put(chunk, b"still here", ["dn0"]).receipts


def test_a_directory_of_another_cluster_ends_the_process_with_a_sentence(lone: Cluster) -> None:  # F49
    assert lone.nodes[0].stop() == 0
    with FakeNamenode(cluster="e" * 32) as other:
        stranger = DatanodeProcess(lone.root / "dn0", other.url, "dn0")
        assert stranger.process.wait(10) != 0
        stranger.stop()
    assert f"belongs to the cluster {lone.namenode.cluster}" in stranger.log()
    assert "Traceback" not in stranger.log()


def test_two_processes_never_share_a_directory(lone: Cluster) -> None:
    second = DatanodeProcess(lone.root / "dn0", lone.namenode.url, "dn0")
    assert second.process.wait(10) != 0
    second.stop()
    assert "another process uses the data directory" in second.log()


def test_a_datanode_listens_to_others_only_when_told(lone: Cluster) -> None:
    node = DatanodeProcess(lone.root / "dn9", lone.namenode.url, "dn9", listen="0.0.0.0:0")
    assert node.process.wait(10) != 0
    node.stop()
    assert "--insecure" in node.log()


def test_more_streams_than_allowed_are_told_to_come_back(tmp_path: Path) -> None:
    with (
        FakeNamenode() as namenode,
        DatanodeProcess(tmp_path / "d", namenode.url, "d", max_streams=1) as node,
        closing(Transport()) as transport,
    ):
        node.wait_ready()
        first_chunk, second_chunk = namenode.new_chunk(), namenode.new_chunk()
        first = transport.begin_put(
            node.url, chunk=first_chunk, capability=namenode.capability("w", first_chunk, ["d"]), length=1 << 20
        )
        first.send(b"x")
        wait_until(lambda: os.listdir(tmp_path / "d" / "tmp"))
        with pytest.raises(DfsError) as raised:
            transport.put_chunk(
                node.url, chunk=second_chunk, capability=namenode.capability("w", second_chunk, ["d"]),
                pieces=[b"x"], length=1, table=block_table(b"x"), root=root_digest(1, block_table(b"x")),
            )  # fmt: skip
        assert raised.value.code == "unavailable"
        first.abort()


def test_a_silent_sender_is_given_up(tmp_path: Path) -> None:  # F15, F80
    with (
        FakeNamenode() as namenode,
        DatanodeProcess(tmp_path / "d", namenode.url, "d", idle_body_s=0.3) as node,
        closing(Transport()) as transport,
    ):
        node.wait_ready()
        chunk = namenode.new_chunk()
        outgoing = transport.begin_put(
            node.url, chunk=chunk, capability=namenode.capability("w", chunk, ["d"]), length=1 << 20
        )
        outgoing.send(b"x")
        wait_until(lambda: os.listdir(tmp_path / "d" / "tmp"))
        with pytest.raises(InvalidRequest, match="paused"):
            outgoing.finish()
        assert os.listdir(tmp_path / "d" / "tmp") == []


def test_a_hung_member_is_failed_without_holding_the_chunk_up(tmp_path: Path) -> None:  # F10
    with FakeNamenode() as namenode, ExitStack() as stack:
        head = stack.enter_context(
            DatanodeProcess(tmp_path / "a", namenode.url, "a", no_progress_s=0.5, receipts_s=0.5)
        )
        hung = stack.enter_context(DatanodeProcess(tmp_path / "b", namenode.url, "b"))
        head.wait_ready()
        hung.wait_ready()
        wait_until(lambda: len({beat.datanode for beat in namenode.heartbeats}) == 2)
        hung.process.send_signal(signal.SIGSTOP)
        chunk = namenode.new_chunk()
        data = some_bytes(16 << 20)
        table = block_table(data)
        stored = stack.enter_context(closing(Transport())).put_chunk(
            head.url, chunk=chunk, capability=namenode.capability("w", chunk, ["a", "b"]), pieces=[data],
            length=len(data), table=table, root=root_digest(len(data), table),
        )  # fmt: skip
        assert namenode.receipts(stored) == ["a"]
        assert [hop.datanode for hop in stored.failed] == ["b"]


def test_a_silent_tail_is_blamed_and_not_the_one_who_waits_for_it(tmp_path: Path) -> None:  # F10
    with FakeNamenode() as namenode, ExitStack() as stack:
        nodes = [
            stack.enter_context(DatanodeProcess(tmp_path / name, namenode.url, name, receipts_s=1.0)) for name in "abc"
        ]
        for node in nodes:
            node.wait_ready()
        wait_until(lambda: len({beat.datanode for beat in namenode.heartbeats}) == 3)
        nodes[2].process.send_signal(signal.SIGSTOP)
        chunk = namenode.new_chunk()
        data = some_bytes(5000)
        table = block_table(data)
        started = time.monotonic()
        stored = stack.enter_context(closing(Transport(receipts_s=1.0))).put_chunk(
            nodes[0].url, chunk=chunk, capability=namenode.capability("w", chunk, ["a", "b", "c"]), pieces=[data],
            length=len(data), table=table, root=root_digest(len(data), table), behind=2,
        )  # fmt: skip
        assert namenode.receipts(stored) == ["a", "b"]
        assert [hop.datanode for hop in stored.failed if hop.culprit] == ["c"]
        assert time.monotonic() - started < 1.5


def test_a_check_reads_the_disk_and_tells_what_it_found(lone: Cluster) -> None:  # F40
    good, rotten, absent = (lone.namenode.new_chunk() for _ in range(3))
    data = some_bytes(50_000)
    for chunk in (good, rotten):
        lone.put(chunk, data, ["dn0"])
        assert lone.get(0, chunk, 0, 10) == data[:10]  # the file is open, and its table in memory
    with open(lone.file(0, rotten), "r+b") as file:
        file.seek(HEADER_SIZE + 40_000)
        file.write(bytes([data[40_000] ^ 1]))
    digest = tree_digest(data)
    lone.namenode.commands["dn0"] = [
        m.CheckReplica(chunk=chunk, length=len(data), digest=digest) for chunk in (good, rotten, absent)
    ]

    def found() -> dict[str, bool]:
        return {one.chunk: one.good for beat in lone.namenode.heartbeats for one in beat.checked}

    wait_until(lambda: len(found()) == 3)
    assert found() == {good: True, rotten: False, absent: False}


def test_a_datanode_without_descriptors_says_so_and_condemns_no_replica(lone: Cluster) -> None:  # F89
    chunk = lone.namenode.new_chunk()
    lone.put(chunk, b"x" * 1000, ["dn0"])
    with pytest.raises(ReplicaNotFound):
        lone.get(0, lone.namenode.new_chunk(), 0, 1)  # the connection stays
    pid = lone.nodes[0].process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    lone.get(0, chunk, 0, 1)
    other = lone.namenode.new_chunk()
    lone.put(other, b"y" * 1000, ["dn0"])
    highest = max(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(highest, 8), limits[1]))
    try:
        with pytest.raises(Unavailable):
            lone.get(0, other, 0, 1000)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    assert lone.get(0, other, 0, 1000) == b"y" * 1000
    seen = len(lone.namenode.heartbeats)
    wait_until(lambda: len(lone.namenode.heartbeats) > seen + 1)
    assert [one for beat in lone.namenode.heartbeats for one in beat.checked] == []


def test_a_report_comes_when_it_is_asked_for(lone: Cluster) -> None:
    chunk = lone.namenode.new_chunk()
    lone.put(chunk, b"x" * 1000, ["dn0"])
    lone.namenode.commands["dn0"] = [m.SendReport()]
    reports = lone.namenode.reports
    wait_until(lambda: any(one.chunk == chunk for report in reports for one in report.replicas))


def test_sigterm_lets_a_running_stream_end(lone: Cluster) -> None:
    chunk = lone.namenode.new_chunk()
    data = some_bytes(2 << 20)
    table = block_table(data)
    token = lone.namenode.capability("w", chunk, ["dn0"])
    outgoing = lone.transport.begin_put(lone.nodes[0].url, chunk=chunk, capability=token, length=len(data))
    outgoing.send(data[: 1 << 20])
    wait_until(lambda: chunk in lone.names_in(0, "tmp"))
    lone.nodes[0].process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    outgoing.send(data[1 << 20 :])
    outgoing.send(encode_wire_footer(len(data), table, root_digest(len(data), table)))
    assert lone.namenode.receipts(outgoing.finish()) == ["dn0"]
    assert lone.nodes[0].stop() == 0
    lone.nodes[0] = lone.start(0).wait_ready()
    assert lone.get(0, chunk, 0, len(data)) == data


def test_sigterm_does_not_wait_for_a_sender_that_says_nothing(lone: Cluster) -> None:
    chunk = lone.namenode.new_chunk()
    token = lone.namenode.capability("w", chunk, ["dn0"])
    outgoing = lone.transport.begin_put(lone.nodes[0].url, chunk=chunk, capability=token, length=1 << 20)
    outgoing.send(b"x")
    wait_until(lambda: chunk in lone.names_in(0, "tmp"))
    started = time.monotonic()
    assert lone.nodes[0].stop() == 0
    assert time.monotonic() - started < 13
    assert lone.names_in(0, "tmp") == [], "the stream was ended, not left hanging"
    assert "Traceback" not in lone.nodes[0].log()
    with pytest.raises((Unavailable, OutcomeUnknown)):
        outgoing.finish()
    outgoing.abort()
    lone.nodes[0] = lone.start(0).wait_ready()
    assert lone.names_in(0, "tmp") == []


def test_an_idle_datanode_stops_at_once(lone: Cluster) -> None:
    started = time.monotonic()
    assert lone.nodes[0].stop() == 0
    assert time.monotonic() - started < 2


def test_health_pages_tell_how_it_is(chain: Cluster) -> None:
    url = chain.nodes[0].url
    assert requests.get(f"{url}/healthz", timeout=5).json()["ok"] is True
    assert requests.get(f"{url}/readyz", timeout=5).json() == {"ok": True, "problems": []}
    metrics = requests.get(f"{url}/metrics", timeout=5)
    assert metrics.headers["content-type"].startswith("text/plain")
    assert 'dfs_datanode_calls_total{operation="put_chunk",outcome="ok"}' in metrics.text
    assert "dfs_datanode_volume_free_bytes" in metrics.text
