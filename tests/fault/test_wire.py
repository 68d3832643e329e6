"""The network damages, loses, doubles and holds up messages: nothing of it is stored, served, or done twice."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

import dfs
from dfs.namenodes import Namenodes
from dfs.protocol import operations
from dfs.protocol.clock import SystemClock
from dfs.protocol.messages import Commit, PutFile
from dfs.protocol.transport import Transport
from dfs.testing import Cluster, Proxy, cluster
from dfs.testing.proxy import Cut, Delay, Duplicate, Fault, Flip, Stall
from fixtures.faults import MIB, good_replicas, only_long, seeded, wait_until, wrong_replicas

PUT = b"PUT /v1/chunks/"
GET = b"GET /v1/chunks/"
COMMIT = b"POST /v1/commit"


@pytest.fixture(name="running", scope="module")
def a_cluster_behind_proxies() -> Iterator[Cluster]:
    with cluster(datanodes=3, proxied=True, chunk_size_bytes=MIB) as running:
        yield running


@pytest.fixture(name="fs")
def a_client_of_a_healed_network(running: Cluster) -> Iterator[dfs.Client]:
    for proxy in running.proxies:
        proxy.heal()
    running.wait_writable()
    # Its own client: what an earlier test taught another one about slow datanodes must not help.
    with running.connect() as fs:
        yield fs
    for proxy in running.proxies:
        proxy.heal()


def everywhere(running: Cluster, where: str, fault: Fault) -> None:
    """Let it happen once at each datanode."""
    for datanode in running.datanodes:
        datanode.proxies[where].add(fault, times=1)


def write_until_struck(fs: dfs.Client, proxy: Proxy, fault: Fault, prefix: str, data: bytes) -> list[str]:
    """Write files until the fault has happened, once on the whole: a chunk that fails thrice is an error."""
    before = proxy.happened
    proxy.add(fault, times=1)
    written: list[str] = []
    until_s = time.monotonic() + 30
    while proxy.happened == before:
        # A datanode that failed a moment ago, in the test before, gets no new chunks for a while: wait, don't count.
        assert time.monotonic() < until_s, "no chunk came along"
        if len(written) >= 20:
            time.sleep(0.5)
        written.append(f"{prefix}-{len(written)}")
        fs.write_bytes(written[-1], data)
    return written


def happened(running: Cluster, where: str) -> int:
    return sum(datanode.proxies[where].happened for datanode in running.datanodes)


@pytest.mark.parametrize("where", ["client", "peer"])
@pytest.mark.parametrize("at", [700, 100_000, MIB + 400], ids=["front", "middle", "footer"])
def test_a_bit_flipped_on_its_way_to_a_datanode_is_never_stored(
    running: Cluster, fs: dfs.Client, where: str, at: int
) -> None:  # F11 F12
    data = seeded(f"{where} {at}").randbytes(2 * MIB)
    proxy = running.datanodes[0].proxies[where]
    written = write_until_struck(fs, proxy, Flip("request", at, match=PUT), f"/flipped-{where}-{at}", data)
    for path in written:
        assert wrong_replicas(running, fs, path, data) == []
        assert fs.read_bytes(path) == data
    wait_until(lambda: all(len(good) == 3 for good in good_replicas(fs, written[-1])), 20, "three replicas of each")
    assert wrong_replicas(running, fs, written[-1], data) == []


def test_a_wire_that_always_damages_is_an_error_and_no_file(running: Cluster, fs: dfs.Client) -> None:  # F12
    for datanode in running.datanodes:
        datanode.proxies["client"].add(Flip("request", 5000, match=PUT))
    with pytest.raises(dfs.errors.DigestMismatch):
        fs.write_bytes("/damaged", b"x" * 100_000)
    assert not fs.exists("/damaged")


@pytest.mark.parametrize("at", [0, 150, 400, 5000, 600_000])
def test_a_bit_flipped_on_its_way_to_a_reader_is_never_handed_over(
    running: Cluster, fs: dfs.Client, at: int
) -> None:  # F37
    data = seeded(f"{at}").randbytes(2 * MIB)
    fs.write_bytes("/read", data)
    fs.write_bytes("/small", data[:20_000])
    before = happened(running, "client")
    everywhere(running, "client", Flip("answer", at, match=GET))
    assert fs.read_bytes("/read") == data
    assert fs.read_bytes("/small") == data[:20_000]
    assert fs.read_bytes("/read", start=MIB - 10, end=MIB + 10) == data[MIB - 10 : MIB + 10]
    assert happened(running, "client") > before
    # The replicas are right, whatever their reader saw.
    assert wrong_replicas(running, fs, "/read", data) == []


def test_a_lost_answer_of_a_commit_is_asked_for_again(running: Cluster, fs: dfs.Client) -> None:  # F21
    assert running.proxy is not None
    fs.write_bytes("/appended", b"begin ")
    for number, at in enumerate([0, 20, 200]):
        running.proxy.add(Cut("answer", at, match=COMMIT), times=1)
        before = running.proxy.happened
        outcome = fs.append("/appended", b"%d " % number)
        assert running.proxy.happened == before + 1
        assert fs.stat("/appended").version == outcome.version
    assert fs.read_bytes("/appended") == b"begin 0 1 2 "


def test_a_request_that_never_arrived_is_sent_again(running: Cluster, fs: dfs.Client) -> None:  # F20
    assert running.proxy is not None
    fs.write_bytes("/again", b"1")
    running.proxy.add(Cut("request", 30, match=COMMIT), times=1)
    fs.append("/again", b"2")
    assert fs.read_bytes("/again") == b"12"


def test_a_refusal_is_final_even_if_the_first_attempt_is_still_on_its_way(running: Cluster) -> None:  # F22
    assert running.proxy is not None
    with running.connect() as other, closing(Transport(call_timeout_s=0.7)) as transport:
        other.write_bytes("/taken", b"theirs")
        namenodes = Namenodes([running.url], transport, clock=SystemClock(), rng=seeded("late"))
        namenodes.facts()
        running.proxy.add(Delay(2.5, match=COMMIT))
        threading.Timer(0.4, running.proxy.heal).start()
        began = time.monotonic()
        with pytest.raises(dfs.errors.FileExists):
            namenodes.perform(operations.COMMIT, Commit(op_id="", actions=[PutFile(path="/taken", when="absent")]))
        assert time.monotonic() - began < 2.5, "it was refused before the first attempt arrived"
        other.remove("/taken")
        time.sleep(3)
        assert not other.exists("/taken"), "what was refused must not happen later"


def test_a_commit_that_arrives_twice_takes_effect_once(running: Cluster, fs: dfs.Client) -> None:  # F22
    assert running.proxy is not None
    fs.write_bytes("/twice", b"begin ")
    before = running.proxy.happened
    running.proxy.add(Duplicate(match=COMMIT))
    outcome = fs.append("/twice", b"once ")
    fs.rename("/twice", "/moved")
    fs.mkdir("/made")
    fs.remove("/made")
    assert running.proxy.happened == before + 4
    running.proxy.heal()
    assert fs.read_bytes("/moved") == b"begin once "
    assert fs.stat("/moved").version == outcome.version


@pytest.mark.parametrize("where", ["client", "peer"])
@pytest.mark.parametrize("at", [0, 60])
def test_a_lost_receipt_costs_the_writer_nothing_but_time(
    running: Cluster, fs: dfs.Client, where: str, at: int
) -> None:  # F6
    data = seeded(f"{where} {at}").randbytes(MIB)
    proxy = running.datanodes[0].proxies[where]
    for path in write_until_struck(fs, proxy, Cut("answer", at, match=PUT), f"/receipts-{where}-{at}", data):
        assert fs.read_bytes(path) == data


@only_long
def test_a_datanode_that_a_peer_cant_reach_costs_seconds(running: Cluster, fs: dfs.Client) -> None:  # F10 F56
    data = seeded("stall").randbytes(2 * MIB)
    running.datanodes[1].proxies["peer"].add(Stall())
    began = time.monotonic()
    fs.write_bytes("/stalled-peer", data)
    took = time.monotonic() - began
    print(f"a write past a peer that hangs took {took:.1f} s")
    assert took < 20
    assert all(len(good) >= 2 for good in good_replicas(fs, "/stalled-peer"))
    assert fs.read_bytes("/stalled-peer") == data


@only_long
def test_a_datanode_that_the_client_cant_reach_costs_seconds(running: Cluster, fs: dfs.Client) -> None:  # F55
    data = seeded("stall").randbytes(2 * MIB)
    fs.write_bytes("/before", data)
    running.datanodes[2].proxies["client"].add(Stall())
    began = time.monotonic()
    assert fs.read_bytes("/before") == data
    fs.write_bytes("/stalled-client", data)
    assert fs.read_bytes("/stalled-client") == data
    took = time.monotonic() - began
    print(f"two reads and a write past a datanode that hangs took {took:.1f} s")
    assert took < 30


def test_a_datanode_that_cant_reach_its_namenode_still_serves(running: Cluster, fs: dfs.Client) -> None:  # F54 F57
    data = seeded("partition").randbytes(MIB)
    fs.write_bytes("/partition", data)
    for datanode in running.datanodes:
        datanode.proxies["namenode"].add(Cut("answer", 0))
    time.sleep(1)
    assert fs.read_bytes("/partition") == data
    fs.write_bytes("/partition-2", data)
    for datanode in running.datanodes:
        datanode.proxies["namenode"].heal()
    assert fs.read_bytes("/partition-2") == data


def test_a_slow_network_only_makes_slow(running: Cluster, fs: dfs.Client) -> None:
    for proxy in running.proxies:
        proxy.add(Delay(0.02))
    data = seeded("slow").randbytes(MIB)
    fs.write_bytes("/slow", data)
    assert fs.read_bytes("/slow") == data


def test_the_same_with_a_reader_that_does_not_check_is_noticed(
    running: Cluster, fs: dfs.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counter-test: if blocks were not checked, this suite would say so."""
    data = seeded("unchecked").randbytes(2 * MIB)
    fs.write_bytes("/unchecked", data)

    def read_unchecked(
        self: Any, extent: Any, start: int, end: int, target: Any, into: memoryview, flight: Any
    ) -> None:
        self._get(extent, extent.offset + start, target, into, flight)

    monkeypatch.setattr("dfs.fetcher.Fetcher._read_from", read_unchecked)
    everywhere(running, "client", Flip("answer", 100_000, match=GET))
    assert fs.read_bytes("/unchecked") != data
