"""Which replicas count, which may go, what moves, and what a datanode may take along (F67, F68, F69)."""

from dataclasses import replace

import pytest

from dfs.protocol.messages import AdminState, VolumeState
from dfs_namenode.balancing import evenness, plan_moves
from dfs_namenode.draining import Leaving, chunks_left, over_since
from dfs_namenode.liveness import ClusterView, Datanode, State
from dfs_namenode.rate import Rate
from dfs_namenode.repair import Need, Replica, Streams
from dfs_namenode.surplus import Kept, Surplus, Trim, Verify, choose_victim, plan_trims
from dfs_namenode.tally import tally
from dfs_namenode.verifications import VERIFIED_S, Verifications

V = "1" * 32
CHUNK = "c" * 32
STATES: dict[str, tuple[State, AdminState]] = {
    "l": ("live", "in_service"),
    "s": ("stale", "in_service"),
    "x": ("dead", "in_service"),
    "d": ("live", "draining"),
    "g": ("live", "decommissioned"),
    "m": ("live", "maintenance"),
    "a": ("dead", "maintenance"),
}


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def wall_ms(self) -> int:
        return 0

    def monotonic_s(self) -> float:
        return self.now_s


def cluster(letters: str, *, racks: str = "", used: dict[str, int] | None = None) -> ClusterView:
    """A letter of STATES for each datanode a, b, c, …; of 100 bytes each, `used` of them."""
    nodes = {}
    for number, letter in enumerate(letters):
        name = "abcdefghij"[number]
        state, admin_state = STATES[letter]
        taken = (used or {}).get(name, 0)
        volume = VolumeState(id=V, state="in_service", capacity_bytes=100, free_bytes=100 - taken, used_bytes=taken)
        nodes[name] = Datanode(
            name,
            f"http://{name}:1",
            f"http://{name}:2",
            rack=racks[number] if racks else "r",
            state=state,
            volumes=(volume,),
            admin_state=admin_state,
            admin_until_ms=1000 if admin_state == "maintenance" else 0,
        )
    return ClusterView(nodes)


def counted(letters: str, *, wanted: int = 3) -> tuple[int, int, int]:
    """Of replicas at all datanodes: readable, at hand, counted."""
    view = cluster(letters)
    found = tally([(name, V) for name in view.datanodes], view, wanted=wanted)
    return len(found.readable), found.at_hand, found.counted


@pytest.mark.parametrize(
    ("letters", "wanted", "expected"),
    [
        ("lll", 3, (3, 3, 3)),
        ("llx", 3, (2, 2, 2)),
        ("llls", 3, (4, 4, 4)),
        ("lld", 3, (3, 3, 2)),
        ("llg", 3, (3, 3, 2)),
        ("llm", 3, (3, 3, 3)),
        ("lla", 3, (2, 2, 3)),
        ("lax", 3, (1, 1, 1)),
        ("la", 2, (1, 1, 2)),
        ("a", 1, (0, 0, 0)),
        ("d", 1, (1, 1, 0)),
        ("", 3, (0, 0, 0)),
    ],
)
def test_what_counts_depends_on_who_stays_and_who_is_away(
    letters: str, wanted: int, expected: tuple[int, int, int]
) -> None:
    assert counted(letters, wanted=wanted) == expected


def test_with_one_left_the_silent_do_not_count_unless_half_the_network_is_silent() -> None:
    view = cluster("lslll")
    found = tally([("a", V), ("b", V)], view, wanted=2)
    assert (found.at_hand, found.counted) == (1, 1)
    found = tally([("a", V), ("b", V)], cluster("lsssl"), wanted=2)
    assert (found.at_hand, found.counted) == (2, 2)


# --- trimming ---------------------------------------------------------------------------------------------------


def surplus(names: str, *, replication: int = 3, since: int = 5) -> Surplus:
    return Surplus(CHUNK, 10, "d" * 32, replication, tuple(Kept(name, V, since) for name in names))


def plans(
    view: ClusterView, one: Surplus, verified: dict[str, int] | None = None, allowed: int = 9
) -> list[Verify | Trim]:
    return plan_trims([one], cluster=view, verified={CHUNK: verified or {}}, allowed=allowed)


def test_first_all_that_would_stay_are_verified() -> None:  # F67
    found = plans(cluster("llll", used={"d": 50}), surplus("abcd"))
    assert {one.datanode for one in found if isinstance(one, Verify)} == {"a", "b", "c"}
    assert not any(isinstance(one, Trim) for one in found)


def test_one_goes_when_as_many_as_are_wanted_were_verified_since_the_surplus_appeared() -> None:  # F67
    view = cluster("llll", used={"d": 50})
    (trim,) = plans(view, surplus("abcd"), {"a": 5, "b": 5, "c": 7})
    assert isinstance(trim, Trim)
    assert trim.datanode == "d"
    assert {kept.datanode for kept in trim.verified} == {"a", "b", "c"}
    (verify,) = plans(view, surplus("abcd"), {"a": 5, "b": 4, "c": 7})
    assert isinstance(verify, Verify)
    assert verify.datanode == "b", "before the surplus appeared does not count"
    assert plans(view, surplus("abcd"), {"a": 5, "b": 5, "c": 7}, allowed=0) == [], "the budget"


@pytest.mark.parametrize("letters", ["lllx", "llls", "llld", "lllm", "lllg"])
def test_only_replicas_on_datanodes_that_answer_and_stay_are_relied_on(letters: str) -> None:
    assert plans(cluster(letters), surplus("abcd"), dict.fromkeys("abcd", 9)) == []


def test_a_datanode_that_peers_complain_about_is_not_relied_on() -> None:
    view = cluster("llll")
    nodes = {**view.datanodes, "a": replace(view.datanodes["a"], suspect=True)}
    assert plans(ClusterView(nodes), surplus("abcd"), dict.fromkeys("abcd", 9)) == []


def test_as_many_stay_as_the_cluster_can_have() -> None:
    assert plans(cluster("lll"), surplus("abc", replication=5), dict.fromkeys("abc", 9)) == []
    (trim,) = plans(cluster("lll"), surplus("abc", replication=2), dict.fromkeys("abc", 9))
    assert isinstance(trim, Trim)


def test_the_one_goes_whose_loss_leaves_most_racks_and_then_the_fullest() -> None:
    assert choose_victim("abcd", cluster("llll", racks="1233", used={"a": 90, "c": 10})) == "c"
    assert choose_victim("abcd", cluster("llll", racks="1111", used={"b": 90})) == "b"


def test_a_verification_is_as_old_as_the_moment_before_it_was_asked_for() -> None:
    clock = Clock()
    found = Verifications(clock)
    found.answered("a", CHUNK, good=True)
    assert found.right(CHUNK) == {}, "nobody asked for it here"
    found.asked("a", CHUNK, 7)
    found.answered("a", CHUNK, good=True)
    assert found.right(CHUNK) == {"a": 7}
    found.answered("a", CHUNK, good=False)
    assert found.right(CHUNK) == {}
    for name in "ab":
        found.asked(name, CHUNK, 8)
        found.answered(name, CHUNK, good=True)
    clock.now_s += VERIFIED_S
    assert found.right(CHUNK) == {}
    found.asked("a", CHUNK, 9)
    found.forget_all()
    found.answered("a", CHUNK, good=True)
    assert found.right(CHUNK) == {}


# --- draining ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("letters", "left"),
    [
        ("dlll", False),
        ("dlld", True),
        ("dllx", True),
        ("dlls", False),
        ("dllg", True),
        ("dllm", False),
        ("dlla", True),
    ],
)
def test_a_chunk_is_left_until_all_its_replicas_are_where_they_stay(letters: str, left: bool) -> None:  # F69
    one = Leaving(b"c", 3, tuple(Replica(name, V) for name in "abcd"))
    assert bool(chunks_left([one], cluster(letters))) is left


def test_a_bad_replica_elsewhere_does_not_let_a_datanode_go() -> None:  # F69
    replicas = (Replica("a", V), Replica("b", V), Replica("c", V), Replica("d", V, good=False))
    assert chunks_left([Leaving(b"c", 3, replicas)], cluster("dlll")) == [b"c"]


def test_a_maintenance_is_over_at_its_end() -> None:
    view = cluster("lma")
    assert over_since(view, now_ms=999) == []
    assert {node.id for node in over_since(view, now_ms=1000)} == {"b", "c"}


# --- balance ----------------------------------------------------------------------------------------------------


def moves(view: ClusterView, names: str, *, allowed: int = 1000, count: int = 10) -> list[tuple[str, str]]:
    found = evenness(view, threshold=0.1)
    needs = [Need(f"{n:032x}", 5, "d" * 32, 3, 5, tuple(Replica(name, V) for name in names)) for n in range(count)]
    pulls = plan_moves(
        found.givers[0],
        needs,
        takers=found.takers,
        mean=found.mean,
        cluster=view,
        streams=Streams(1),
        under_way={},
        avoid={},
        bytes_allowed=allowed,
    )
    return [(pull.chunk, pull.target) for pull in pulls]


def test_who_is_beyond_the_threshold_gives_until_it_would_be_at_the_mean() -> None:
    view = cluster("llll", used={"a": 60, "b": 30, "c": 30, "d": 0})
    found = evenness(view, threshold=0.1)
    assert (found.givers, found.takers) == (("a",), ("d",))
    assert found.spread == pytest.approx(0.3)
    assert len(moves(view, "abc")) == 6, "thirty bytes too many, five each"
    assert len(moves(view, "abc", allowed=12)) == 3
    assert evenness(cluster("llll", used=dict.fromkeys("abcd", 30)), threshold=0.1).givers == ()


def test_a_chunk_that_has_too_few_or_is_there_already_is_not_moved() -> None:
    view = cluster("llll", used={"a": 60, "b": 30, "c": 30, "d": 0})
    assert moves(view, "ab") == []
    assert moves(view, "abd") == []


def test_no_chunk_is_moved_if_trimming_would_take_another_replica() -> None:
    view = cluster("llll", racks="1233", used={"a": 60, "b": 30, "c": 30, "d": 0})
    assert moves(view, "abc") == [], "the replica at a is the only one in its rack"


def test_only_datanodes_in_service_take_part_in_a_balance() -> None:
    view = cluster("lldx", used={"a": 50, "b": 50})
    assert evenness(view, threshold=0.1).givers == ()
    assert evenness(ClusterView({}), threshold=0.1).givers == ()


def test_a_rate_is_that_of_the_last_minute() -> None:
    clock = Clock()
    rate = Rate(clock)
    assert rate.eta_s(10) is None
    for _ in range(10):
        rate.add()
        clock.now_s += 1
    assert rate.per_s() == pytest.approx(1.0)
    assert rate.eta_s(30) == pytest.approx(30.0)
    assert rate.eta_s(0) is None
    clock.now_s += 100
    assert rate.per_s() == 0.0
