"""Who is alive (F48, F50, F51, F52, F54, F98)."""

from dataclasses import replace

import pytest

from dfs.protocol.messages import VolumeState
from dfs_namenode.liveness import Datanode, Liveness, Reservations
from fixtures.namenode_store import FakeClock

V1, V2 = "1" * 32, "2" * 32


def volume(name: str = V1, state: str = "in_service", free: int = 1000) -> VolumeState:
    return VolumeState(id=name, state=state, capacity_bytes=2000, free_bytes=free)  # type: ignore[arg-type]


def datanode(name: str, num: int = 1, **more: object) -> Datanode:
    made = Datanode(
        name, f"http://{name}:1", f"http://{name}:2", incarnation=1, boot="b" * 32, volumes=(volume(),), num=num
    )
    return replace(made, **more)  # type: ignore[arg-type]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def liveness(clock: FakeClock) -> Liveness:
    made = Liveness(clock, stale_after_s=15, dead_after_s=300)
    for number in range(1, 4):
        made.registered(datanode(f"dn{number}", number))
    return made


def beat(liveness: Liveness, *names: str, **more: object) -> None:
    for name in names:
        liveness.heard(name, volumes=[volume()], **more)  # type: ignore[arg-type]


def states(liveness: Liveness) -> list[str]:
    return [node.state for node in liveness.view().datanodes.values()]


def test_silence_makes_a_datanode_stale_and_then_dead_and_a_heartbeat_brings_it_back(
    liveness: Liveness, clock: FakeClock
) -> None:
    assert states(liveness) == ["live"] * 3
    clock.advance(14.9)
    assert states(liveness) == ["live"] * 3
    clock.advance(0.1)
    beat(liveness, "dn1")
    assert states(liveness) == ["live", "stale", "stale"]
    clock.advance(284.9)
    beat(liveness, "dn1")
    assert states(liveness) == ["live", "stale", "stale"]
    clock.advance(0.5)
    assert states(liveness) == ["live", "dead", "dead"]
    beat(liveness, "dn3")
    assert states(liveness) == ["live", "dead", "live"]


def test_a_wall_clock_that_jumps_declares_nobody_dead(liveness: Liveness, clock: FakeClock) -> None:
    clock.now_ms += 86_400_000
    clock.now_s += 1
    assert states(liveness) == ["live"] * 3
    clock.now_ms -= 2 * 86_400_000
    clock.now_s += 1
    assert states(liveness) == ["live"] * 3


def test_after_a_start_silence_counts_from_the_start(clock: FakeClock) -> None:
    liveness = Liveness(clock, stale_after_s=15, dead_after_s=300)
    liveness.load([datanode("dn1"), datanode("dn2", 2)])
    assert states(liveness) == ["live", "live"]
    assert liveness.unheard() == 2
    assert liveness.life("dn1") == (1, "b" * 32, None)
    clock.advance(20)
    beat(liveness, "dn1")
    assert states(liveness) == ["live", "stale"]
    assert liveness.unheard() == 1
    clock.advance(280)
    assert liveness.unheard() == 0, "what stayed silent is dead, and nobody waits for it"
    assert states(liveness)[1] == "dead"


def test_a_receipt_counts_only_for_the_life_and_the_volume_that_are_in_service(
    liveness: Liveness, clock: FakeClock
) -> None:  # F98
    liveness.registered(datanode("dn1", volumes=(volume(V1), volume(V2, "failed")), incarnation=2))
    view = liveness.view()
    assert view.in_service("dn1", 2, V1)
    assert not view.in_service("dn1", 1, V1), "an earlier life"
    assert not view.in_service("dn1", 2, V2), "a failed volume"
    assert not view.in_service("dn1", 2, "3" * 32), "a volume that is gone"
    assert not view.in_service("dn9", 1, V1), "nobody"
    liveness.heard("dn1", volumes=[volume(V1, "full")])
    assert liveness.view().in_service("dn1", 2, V1), "a full volume keeps what it took"
    liveness.heard("dn1", volumes=[volume(V1, "read_only")])
    assert not liveness.view().in_service("dn1", 2, V1)
    clock.advance(16)
    assert not liveness.view().in_service("dn2", 1, V1), "stale"


def test_readers_get_the_least_busy_first_the_suspected_then_the_stale_last_and_no_dead(
    liveness: Liveness, clock: FakeClock
) -> None:
    liveness.registered(datanode("dn4", 4))
    beat(liveness, "dn1", streams=5)
    beat(liveness, "dn2", streams=1, suspects=["dn3"])
    assert liveness.view().rank(["dn1", "dn2", "dn3", "unknown"]) == ["dn2", "dn1", "dn3"]
    clock.advance(16)
    beat(liveness, "dn1", "dn3", "dn4")
    assert liveness.view().rank(["dn2", "dn1"]) == ["dn1", "dn2"]
    clock.advance(290)
    beat(liveness, "dn1", "dn3", "dn4")
    assert [target.url for target in liveness.view().readers(["dn2", "dn1"])] == ["http://dn1:2"]


def test_when_many_are_suspected_nobody_is(liveness: Liveness) -> None:  # F52
    beat(liveness, "dn1", suspects=["dn2", "dn3", "dn1"])
    assert not any(node.suspect for node in liveness.view().datanodes.values())


def test_candidates_are_live_have_a_volume_in_service_and_lose_what_is_reserved(
    liveness: Liveness, clock: FakeClock
) -> None:
    liveness.heard("dn2", volumes=[volume(V1, "full"), volume(V2, "failed")])
    liveness.heard("dn3", volumes=[volume(V1, free=700), volume(V2, free=400)])
    found = {c.id: c for c in liveness.view().candidates(exclude=["nobody"], reserved={"dn1": 300})}
    assert sorted(found) == ["dn1", "dn3"]
    assert (found["dn1"].free_bytes, found["dn1"].largest_bytes) == (700, 1000)
    assert (found["dn3"].free_bytes, found["dn3"].largest_bytes) == (1100, 700)
    assert [c.id for c in liveness.view().candidates(exclude=["dn1"])] == ["dn3"]
    clock.advance(20)
    assert liveness.view().candidates() == []


def test_the_membership_version_is_the_same_for_the_same_members_in_every_process(
    liveness: Liveness, clock: FakeClock
) -> None:
    version = liveness.view().members_version
    again = Liveness(clock, stale_after_s=15, dead_after_s=300)
    again.load([datanode(f"dn{number}", number) for number in (3, 1, 2)])
    assert again.view().members_version == version
    again.registered(datanode("dn1", peer_url="http://elsewhere:1"))
    assert again.view().members_version != version


def test_a_cluster_that_lost_two_of_three_still_asks_for_two_receipts(liveness: Liveness, clock: FakeClock) -> None:
    clock.advance(400)
    beat(liveness, "dn1")
    assert liveness.view().write_min(3) == 2
    assert liveness.view().copies_wanted(3) == 3


def test_reservations_end_after_one_to_two_windows(clock: FakeClock) -> None:  # F32
    reservations = Reservations(clock, window_s=10)
    reservations.add("dn1", 5)
    clock.advance(9)
    reservations.add("dn1", 7)
    clock.advance(2)
    assert reservations.by_datanode() == {"dn1": 12}
    clock.advance(10)
    assert reservations.by_datanode() == {}
    reservations.add("dn2", 1)
    clock.advance(100)
    assert reservations.by_datanode() == {}


def test_after_a_restore_a_datanode_gets_no_chunks_before_it_has_its_new_key(clock: FakeClock) -> None:  # F63
    liveness = Liveness(clock, stale_after_s=15, dead_after_s=300)
    liveness.load([datanode("dn1"), datanode("dn2", 2)], unkeyed=["dn1", "dn2"])
    assert states(liveness) == ["stale", "stale"]
    liveness.registered(datanode("dn1"))
    assert states(liveness) == ["live", "stale"]
    clock.advance(300)
    beat(liveness, "dn1")
    assert states(liveness) == ["live", "dead"]


def test_a_heartbeat_that_was_sent_before_one_that_was_heard_is_a_late_copy(liveness: Liveness) -> None:  # F48
    assert liveness.in_order("dn1", 5)
    assert liveness.in_order("dn1", 5), "the same one twice changes nothing twice"
    assert liveness.in_order("dn1", 7)
    assert not liveness.in_order("dn1", 6)
    assert liveness.in_order("dn2", 1), "each datanode counts for itself"
    liveness.registered(datanode("dn1", incarnation=2))
    assert liveness.in_order("dn1", 1), "each life counts anew"


def test_heartbeats_of_an_earlier_version_have_no_number_and_are_all_heard(liveness: Liveness) -> None:  # F88
    assert liveness.in_order("dn1", 5)
    assert liveness.in_order("dn1", 0)
