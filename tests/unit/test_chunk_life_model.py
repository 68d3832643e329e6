"""A chunk's life as a random walk through everything that can happen to it (F46, F51, F58, F62, F66, F92, F93).

The many walks are in `contract/test_chunk_life_walks.py`; here are a few, and the stories that have names.
"""

import pytest

from fixtures.chunk_life import DAY_S, HOUR_S, World
from fixtures.chunk_walks import walk_many


@pytest.fixture
def world() -> World:
    return World()


def bury(world: World) -> str:
    """A chunk that was committed, removed, and collected."""
    chunk = world.upload()
    assert world.commit(chunk)
    world.remove()
    world.machine.advance(HOUR_S)
    world.sweep()
    world.collect()
    for disk in world.disks:
        world.execute(disk)
        world.heartbeat(disk)
    assert chunk in world.buried
    return chunk


def test_no_walk_deletes_the_bytes_of_an_acknowledged_file(world: World) -> None:
    walk_many(world, 1000)


def test_no_walk_of_repairs_trims_and_drains_deletes_the_last_good_bytes(world: World) -> None:  # F67 F69
    walk_many(world, 300, healing=True)


def test_a_receipt_cant_be_replayed_after_removal_and_collection(world: World) -> None:  # F92
    chunk = bury(world)
    assert not world.commit(chunk), "the tombstone refuses it"
    world.machine.advance(DAY_S)
    world.forget()
    assert not world.connection.execute("SELECT 1 FROM chunk").fetchall(), "the tombstone is forgotten"
    assert not world.commit(chunk), "the id's age refuses it"
    world.machine.now_ms -= 2 * DAY_S * 1000
    world.restart()
    assert not world.commit(chunk), "a clock that was set back makes it no younger"


def test_a_namenode_clock_that_jumps_loses_nothing(world: World) -> None:  # F51 F93
    waiting = world.upload()
    kept = world.upload()
    assert world.commit(kept)
    world.machine.now_ms += DAY_S * 1000
    for disk in world.disks:
        world.scan(disk)
        world.report(disk)
    assert not any(disk.commands for disk in world.disks), "a running namenode does not believe the jump"
    world.restart()
    for disk in world.disks:
        world.scan(disk)
        world.report(disk)
        assert disk.commands == [waiting], "after a restart the upload looks old enough to be an orphan"
        world.execute(disk)
    world.machine.now_ms -= DAY_S * 1000
    world.restart()
    assert not world.commit(waiting), "its tombstone came before its deletion: refused, never a file without bytes"
    assert world.commit(world.upload())
    world.check()


def test_a_replica_that_rises_again_is_deleted_again(world: World) -> None:  # F46
    chunk = bury(world)
    disk = world.disks[0]
    world.rise_again(disk)
    world.scan(disk)
    world.report(disk)
    assert disk.commands == [chunk]
    disk.commands.clear()
    world.machine.advance(2 * DAY_S)
    world.forget()
    world.scan(disk)
    world.report(disk)
    assert disk.commands == [chunk], "also when the command was lost, and its tombstone is forgotten"


def test_a_late_report_does_not_drop_a_replica_that_came_after_its_scan(world: World) -> None:  # F62
    disk = world.disks[0]
    world.scan(disk)
    chunk = world.upload()
    assert world.commit(chunk)
    world.report(disk)
    rows = world.connection.execute("SELECT count(*) FROM replica WHERE chunk_id = ?", (bytes.fromhex(chunk),))
    assert rows.fetchall() == [(2,)]
