"""Recovery hints through a real cluster: every replica's file says where its bytes belong, however they came."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from xxhash import xxh3_64_digest

import dfs
from dfs.protocol.chunk_format import TRAILER_SIZE, decode_footer, decode_trailer
from dfs.protocol.digests import block_table, root_digest
from dfs.protocol.errors import BadAnswer, DigestMismatch, NotPermitted, OutcomeUnknown
from dfs.protocol.hints import HINTS_MAX, FileHint, FilesHint, decode_hints, encode_hints
from dfs.protocol.messages import Allocate, Grant, LayoutExtent, Open, Opened, StoredChunk
from dfs.protocol.operations import ALLOCATE, OPEN
from dfs.protocol.transport import Transport
from dfs.testing import Cluster, cluster
from dfs.testing.proxy import Flip
from fixtures.faults import MIB, datanode_of, good_replicas, seeded, suspect, wait_until

HEAD_BYTES_MAX = 2000
"""Of a PUT's request line and headers, in these tests."""
HINTS = encode_hints(FilesHint(1, [FileHint("/raw", 0, 5, 0, 5, "")], complete=True))


@pytest.fixture(name="running", scope="module")
def a_cluster() -> Iterator[Cluster]:
    with cluster(datanodes=3, proxied=True, chunk_size_bytes=MIB) as running:
        yield running


@pytest.fixture(name="fs")
def a_client(running: Cluster) -> Iterator[dfs.Client]:
    with running.connect() as fs:
        yield fs


def hints_on(running: Cluster, datanode: str, chunk: str) -> bytes:
    """What the file of a replica has in its footer, without any server's help."""
    with open(datanode_of(running, datanode).chunk_path(chunk), "rb") as file:
        raw = file.read()
    return decode_footer(raw[decode_trailer(raw[-TRAILER_SIZE:]).footer_offset :]).hints


def told(running: Cluster, fs: dfs.Client, path: str, copies: int = 3) -> list[FileHint]:
    """What the chunks of a file say of it, in order: the same in all replicas of each."""
    found = []
    places = fs.places(path)
    replicas = {chunk.id: [one.datanode for one in chunk.replicas] for chunk in places.chunks}
    for extent in places.extents:
        assert len(replicas[extent.chunk]) == copies
        (raw,) = {hints_on(running, datanode, extent.chunk) for datanode in replicas[extent.chunk]}
        hints = decode_hints(raw)
        assert isinstance(hints, FilesHint)
        assert hints.complete
        found += [one for one in hints.files if one.path == path]
    assert [(one.position, one.length) for one in found] == [(one.position, one.length) for one in places.extents]
    return found


def test_a_big_file(running: Cluster, fs: dfs.Client, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(2 * MIB + 5))
    fs.put(tmp_path / "big", "/big")
    pieces = told(running, fs, "/big")
    assert [one.size for one in pieces] == [2 * MIB + 5] * 3
    assert len({one.upload for one in pieces}) == 1


def test_a_tree(running: Cluster, fs: dfs.Client, tmp_path: Path) -> None:
    names = [f"sub{number % 7}/file {number}.txt" for number in range(100)]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    fs.put_tree(tmp_path, "/tree")
    for name in names[::13]:
        (piece,) = told(running, fs, f"/tree/{name}")
        assert piece.size == piece.length == len(name)


def test_a_stream_and_appends_to_it(running: Cluster, fs: dfs.Client) -> None:
    with fs.open("/stream", "wb") as file:
        file.write(os.urandom(MIB + MIB // 2))
    assert [one.size for one in told(running, fs, "/stream")] == [-1, MIB + MIB // 2]
    fs.append("/stream", b"more")
    assert [one.size for one in told(running, fs, "/stream")] == [-1, MIB + MIB // 2 + 4]
    fs.append("/stream", os.urandom(MIB + 1))
    sizes = [one.size for one in told(running, fs, "/stream")]
    assert sizes == [-1, MIB + MIB // 2 + 4, -1, 2 * MIB + MIB // 2 + 5]


def test_an_upload_through_the_gateway(running: Cluster, fs: dfs.Client) -> None:
    answer = requests.put(f"{running.datanodes[0].url}/files/through/http", data=b"over HTTP", timeout=20)
    assert answer.status_code == 201, answer.text
    (piece,) = told(running, fs, "/through/http")
    assert piece.size == 9


def test_a_replica_that_is_made_again_has_its_hints_again(running: Cluster, fs: dfs.Client) -> None:  # F39
    data = os.urandom(MIB + 1)
    fs.write_bytes("/lost", data)
    before = told(running, fs, "/lost")
    (chunk, victim) = fs.places("/lost").chunks[0].id, running.datanodes[0]
    os.remove(victim.chunk_path(chunk))
    suspect(running, chunk, victim.id)
    wait_until(lambda: os.path.exists(victim.chunk_path(chunk)), 30, "the replica is made again")
    wait_until(lambda: [len(good) for good in good_replicas(fs, "/lost")] == [3, 3], 30, "three replicas")
    assert told(running, fs, "/lost") == before


def test_hints_that_rot_make_a_bad_replica_that_is_replaced(running: Cluster, fs: dfs.Client) -> None:  # F39
    fs.write_bytes("/rotten", b"data")
    before = told(running, fs, "/rotten")
    (chunk, victim) = fs.places("/rotten").chunks[0].id, running.datanodes[1]
    path = victim.chunk_path(chunk)
    with open(path, "r+b") as file:
        file.seek(2 * 4096 + 8 + 3)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    suspect(running, chunk, victim.id)
    rotten = os.path.join(victim.dir, "quarantine", f"{chunk}.chunk")
    wait_until(lambda: os.path.exists(rotten) and os.path.exists(path), 30, "the bad replica is replaced")
    assert told(running, fs, "/rotten") == before


def put_raw(running: Cluster, hints: bytes) -> tuple[Grant, StoredChunk]:
    """Send a chunk with these hints, as a client does."""
    transport = Transport()
    grant = transport.call(running.namenode.url, ALLOCATE, Allocate(count=1, length=5, replication=3)).grants[0]
    table = block_table(b"bytes")
    answer = transport.put_chunk(
        grant.chain[0].url,
        chunk=grant.chunk,
        capability=grant.capability,
        pieces=[b"bytes"],
        length=5,
        table=table,
        root=root_digest(5, table),
        behind=2,
        hints=hints,
    )
    return grant, answer


def test_hints_travel_along_the_chain_as_they_are(running: Cluster) -> None:
    later_version = b"\x7f" + HINTS[1:-8]
    for hints in (HINTS, b"", later_version + xxh3_64_digest(later_version)):
        grant, answer = put_raw(running, hints)
        assert len(answer.receipts) == 3
        assert [hints_on(running, target.datanode, grant.chunk) for target in grant.chain] == [hints] * 3


def test_hints_that_were_damaged_on_the_wire_are_refused(running: Cluster) -> None:  # F12
    for place in (0, len(HINTS) // 2, len(HINTS) - 1):
        damaged = bytearray(HINTS)
        damaged[place] ^= 1
        with pytest.raises(DigestMismatch, match="hints"):
            put_raw(running, bytes(damaged))


@pytest.mark.parametrize("where", ["client", "peer"])
def test_a_chunk_whose_hints_are_damaged_on_their_way_is_sent_again(
    running: Cluster, tmp_path: Path, where: str
) -> None:  # F11 F12
    # More hints than anything else: wherever a bit flips behind the head, it is one of theirs.
    rng = seeded(where)
    names = [rng.randbytes(40).hex() for _ in range(200)]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    assert len(encode_hints(FilesHint(1, [FileHint(name, 0, 1, 0, 1, "") for name in names], True))) > 4000
    proxy = running.datanodes[0].proxies[where]
    before, tries = proxy.happened, 0
    with running.connect() as fs:
        # Once on the whole: a chunk that arrives damaged twice is an error.
        proxy.add(Flip("request", HEAD_BYTES_MAX + 1000, match=b"PUT /v1/chunks/"), times=1)
        while proxy.happened == before:
            tries += 1
            assert tries < 30, "no chunk came along"
            fs.put_tree(tmp_path, f"/damaged-{where}-{tries}")
        path = f"/damaged-{where}-{tries}/{names[0]}"
        wait_until(lambda: [len(good) for good in good_replicas(fs, path)] == [3], 30, "three replicas")
        (piece,) = told(running, fs, path)
        assert piece.path == path


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (HINTS_MAX + 1), BadAnswer),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort", OutcomeUnknown),
        (b"HTTP/1.1 200 OK\r\n\r\nwithout a length", BadAnswer),
    ],
)
def test_an_answer_that_can_not_be_hints_is_not_taken_for_some(answer: bytes, error: type[Exception]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            sock, _ = listening.accept()
            with sock:
                sock.recv(1 << 16)
                sock.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(error):
            Transport().get_hints(f"http://127.0.0.1:{listening.getsockname()[1]}", chunk="0" * 32, capability="x")
        thread.join()


def opened(running: Cluster, path: str) -> tuple[Opened, LayoutExtent]:
    answer = Transport().call(running.namenode.url, OPEN, Open(path=path))
    return answer, answer.layout.extents[0]


def test_only_who_may_read_all_of_a_chunk_gets_its_hints(running: Cluster, fs: dfs.Client) -> None:
    fs.write_bytes("/alone", b"data")
    with fs.transaction() as change:
        change.write_bytes("/packed-1", b"mine")
        change.write_bytes("/packed-2", b"yours")
    answers = {}
    for path in ("/alone", "/packed-1"):
        answer, extent = opened(running, path)
        target = answer.layout.chunks[extent.chunk].replicas[0]
        capability = answer.layout.grants[extent.grant].capability
        answers[path] = (target.url, extent.chunk, capability)
    url, chunk, capability = answers["/alone"]
    hints = decode_hints(Transport().get_hints(url, chunk=chunk, capability=capability))
    assert isinstance(hints, FilesHint)
    assert [one.path for one in hints.files] == ["/alone"]
    url, chunk, capability = answers["/packed-1"]
    with pytest.raises(NotPermitted):
        Transport().get_hints(url, chunk=chunk, capability=capability)
