"""Power cuts: what was acknowledged is there, whatever was not synced is gone, and nothing half is visible."""

import os
import random
import threading
import time
from contextlib import ExitStack

import pytest

from dfs.errors import Unavailable
from dfs.testing import Cluster, Impossible, PowerDisk, cluster
from dfs.testing.syscalls import inject
from fixtures.acknowledged import SETTINGS, Acknowledged
from fixtures.faults import NO_ANSWER, SEED, note, only_long

CUTS = int(os.environ.get("DFS_TEST_CUTS", "3"))
CUTS_IN_BATCH = max(1, CUTS // 10)
"""The other mode differs in when a datanode syncs, not in what it does after the cut."""
TELL_EVERY = 20
WRITERS = 3


@pytest.mark.timeout(120 + 30 * CUTS)
@pytest.mark.parametrize(
    ("durability", "cuts"), [("sync", CUTS), pytest.param("batch", CUTS_IN_BATCH, marks=only_long)]
)
def test_a_power_cut_takes_nothing_that_was_acknowledged(
    power_disk: PowerDisk, capfd: pytest.CaptureFixture[str], durability: str, cuts: int
) -> None:  # F8 F9 F46 F70 F96
    print(f"seed {SEED}; repeat with DFS_TEST_SEED={SEED} DFS_TEST_CUTS={CUTS}")
    rng = random.Random(SEED)
    history = Acknowledged()
    place = os.path.join(power_disk.path, "cluster")
    with cluster(3, directory=place, reserve_bytes=1 << 20, durability=durability, **SETTINGS) as running:
        for cut in range(cuts):
            stop = threading.Event()
            writers = [
                threading.Thread(
                    target=history.write,
                    args=(running, f"{cut}-{worker}", random.Random(f"{SEED} {cut} {worker}"), stop),
                    kwargs={"give_up": True},
                )
                for worker in range(WRITERS)
            ]
            for writer in writers:
                writer.start()
            time.sleep(0.2 + rng.random())
            stop.set()
            power_disk.cut()
            running.kill()
            power_disk.power_up()
            running.restart()
            for writer in writers:
                writer.join(60)
                assert not writer.is_alive()
            history.check(running)
            if cut % TELL_EVERY == TELL_EVERY - 1:
                with capfd.disabled():
                    print(f"\n  {cut + 1} power cuts, {history.found}", flush=True)
    assert len(history.acknowledged) > 5 * cuts
    note(f"power cuts, durability “{durability}”", f"{cuts} cuts; {history.found}")


@pytest.mark.parametrize("liars", ["namenode", pytest.param("datanodes", marks=only_long)])
def test_the_same_with_servers_that_do_not_sync_is_noticed(
    power_disk: PowerDisk, monkeypatch: pytest.MonkeyPatch, liars: str
) -> None:
    """The counter-test: if syncs were not done, this suite would say so."""
    monkeypatch.setattr("dfs.testing.clusters.START_TIMEOUT_S", 6.0)
    history = Acknowledged()
    place = os.path.join(power_disk.path, "cluster")
    with cluster(3, directory=place, reserve_bytes=1 << 20, **SETTINGS) as running:
        nodes = [running.namenode] if liars == "namenode" else running.datanodes
        try:
            with ExitStack() as lies:
                for node in nodes:
                    lies.enter_context(inject(node.pid, "fsync,fdatasync", lie=True))
                stop = threading.Event()
                writer = threading.Thread(
                    target=history.write,
                    args=(running, "lied", random.Random(1), stop),
                    kwargs={"give_up": True},
                    daemon=True,
                )
                writer.start()
                time.sleep(1)
                power_disk.cut()
                stop.set()
                running.kill()
        except Impossible as reason:
            pytest.skip(str(reason))
        assert history.acknowledged
        power_disk.power_up()
        with pytest.raises((AssertionError, Unavailable, *NO_ANSWER)):
            start_and_check(running, history)
        lost = history.count_lost(running)
        note(f"power cut; syncs of the {liars} only pretend", f"{lost} of {len(history.acknowledged)} files lost")
        assert lost


def start_and_check(running: Cluster, history: Acknowledged) -> None:
    running.restart()
    history.check(running)
