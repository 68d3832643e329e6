"""SIGKILLs in a loop, each at a random moment of a workload: what was acknowledged is there, identical.

As the loop of power cuts, but the disks stay: this is about processes, their restart, and clients that go on meanwhile.
`make faults` kills much more often than `make test`: DFS_TEST_KILLS.
"""

import os
import random
import threading
import time

import pytest

from dfs.testing import Cluster, Node, cluster
from fixtures.acknowledged import SETTINGS, Acknowledged
from fixtures.faults import SEED, note, seeded

KILLS = int(os.environ.get("DFS_TEST_KILLS", "3"))
"""Processes that are killed, at least."""
WRITERS = 3
PAUSE_S = 0.1
"""Of a writer after each operation: while everything is compared, not much more should come than was compared."""
CHECK_EVERY = 30
"""Kills between two comparisons of everything; also at the end."""


@pytest.mark.timeout(180 + 15 * KILLS)
def test_a_kill_at_any_moment_takes_nothing_that_was_acknowledged(
    capfd: pytest.CaptureFixture[str],
) -> None:  # F2 F3 F4 F7 F14 F19 F20 F21 F90
    rng = seeded("kill loop")
    history = Acknowledged()
    stop = threading.Event()
    with cluster(datanodes=4, replication=3, **SETTINGS) as running:
        writers = [
            threading.Thread(
                target=history.write,
                args=(running, f"{worker}", random.Random(f"{SEED} {worker}"), stop),
                kwargs={"pause_s": PAUSE_S},
                daemon=True,
            )
            for worker in range(WRITERS)
        ]
        for writer in writers:
            writer.start()
        killed: dict[str, int] = {}
        try:
            check_at = CHECK_EVERY
            while sum(killed.values()) < KILLS:
                kill_some(running, rng, killed)
                if sum(killed.values()) >= check_at:
                    check_at += CHECK_EVERY
                    history.check(running)
                    with capfd.disabled():
                        print(f"\n  {sum(killed.values())} kills, {history.found}", flush=True)
        finally:
            stop.set()
            for writer in writers:
                writer.join(90)
        assert not any(writer.is_alive() for writer in writers)
        running.wait_writable()
        history.check(running)
    assert len(history.acknowledged) > KILLS
    counts = ", ".join(f"{count} {role}s" for role, count in sorted(killed.items()))
    note(f"SIGKILLs of {sum(killed.values())} processes", f"{counts}; {history.found}")


def kill_some(running: Cluster, rng: random.Random, killed: dict[str, int]) -> None:
    """Kill up to three servers at a random moment, and start them again at another one."""
    time.sleep(rng.uniform(0, 0.6))
    victims: list[Node] = rng.sample([running.namenode, *running.datanodes], rng.choice([1, 2, 2, 3]))
    for victim in victims:
        victim.kill()
        killed[victim.role] = killed.get(victim.role, 0) + 1
    time.sleep(rng.uniform(0, 0.4))
    # The namenode first: a datanode is ready once it is registered.
    victims.sort(key=lambda victim: victim.role != "namenode")
    for victim in victims:
        victim.start()
    for victim in victims:
        # The next kill may come while it starts.
        if rng.random() < 0.8:
            victim.wait_ready()
        else:
            time.sleep(rng.uniform(0, 0.3))
            victim.kill()
            victim.process.forget()
            killed[victim.role] = killed.get(victim.role, 0) + 1
            victim.restart()
