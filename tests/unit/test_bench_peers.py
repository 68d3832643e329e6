"""Benchmarks: the stores of peers that can be tried without their servers."""

import os
from pathlib import Path
from types import ModuleType

import pytest

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture(name="peers")
def the_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`bench` is part of the checkout and of no package."""
    monkeypatch.syspath_prepend(CHECKOUT)
    import bench.peers

    return bench.peers


def test_a_directory_is_a_store(peers: ModuleType, tmp_path: Path) -> None:
    store = peers.DiskStore(str(tmp_path))
    local = tmp_path / "local"
    local.write_bytes(os.urandom(3_000_000))
    store.mkdir("/d")
    store.put_file(str(local), "/d/big")
    pieces: list[bytes] = []
    store.drain("/d/big", lambda piece: pieces.append(bytes(piece)))
    assert b"".join(pieces) == local.read_bytes()
    assert store.open_range("/d/big")(5, 105) == local.read_bytes()[5:105]
    store.put("/d/small", b"abc")
    store.create("/d/empty")
    assert (store.get("/d/small"), store.size("/d/empty"), store.list("/d")) == (b"abc", 0, 3)
    with pytest.raises(FileExistsError):
        store.put("/d/small", b"")
    store.rename("/d/small", "/d/other")
    store.remove("/d/other")
    store.remove_tree("/d")
    assert os.listdir(tmp_path) == ["local"]


def test_peers_are_those_that_the_environment_names(peers: ModuleType) -> None:
    assert peers.found({}) == []
    found = peers.found({"BENCH_S3": "http://127.0.0.1:9000/bucket", "BENCH_DIRECTORY": "/mnt"})
    assert [target.subject for target in found] == ["s3", "/mnt + fsync"]
    assert "meta" not in found[0].features
    assert all(hasattr(peers, target.factory.partition(":")[2]) for target in found)


def test_a_signature_is_that_of_the_published_example(peers: ModuleType) -> None:
    # "Signature calculations for the Authorization header", example "GET Object", of the reference of Amazon S3.
    headers = {
        "host": "examplebucket.s3.amazonaws.com",
        "range": "bytes=0-9",
        "x-amz-content-sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "x-amz-date": "20130524T000000Z",
    }
    signed = peers.authorization(
        "GET",
        "/test.txt",
        headers,
        key="AKIAIOSFODNN7EXAMPLE",
        secret="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        region="us-east-1",
        service="s3",
    )
    assert signed.endswith("Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")
