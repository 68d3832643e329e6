"""The tie to the namenode, under a namenode that answers as the test says: no sockets, no waiting."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dfs.protocol import messages as m
from dfs.protocol.capability import derive_key, register_proof
from dfs.protocol.clock import SystemClock
from dfs.protocol.errors import Conflict, DfsError, NotPermitted, NotSent, OutcomeUnknown, StaleIncarnation, Unavailable
from dfs.protocol.operations import CLUSTER as CLUSTER_CALL
from dfs.protocol.operations import HEARTBEAT, REGISTER, Operation
from dfs.protocol.transport import Transport
from dfs_datanode.chunk_store import ChunkStore
from dfs_datanode.heartbeat import Introduction, NamenodeLink
from dfs_datanode.identity import Identity
from dfs_datanode.membership import Membership
from dfs_datanode.outbox import Outbox
from dfs_datanode.supervise import RESTARTS_MAX, Loop, Trials
from fixtures.disks import CLUSTER, LINEAGE, make_store
from fixtures.fake_namenode import SECRET

BOOT = "b" * 32
KEY = derive_key(SECRET, "dn0")


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.wall = 1_000_000

    def wall_ms(self) -> int:
        return self.wall

    def monotonic_s(self) -> float:
        return self.now_s


def registered(**changes: Any) -> m.Registered:
    facts: dict[str, Any] = {
        "cluster": CLUSTER, "lineage": LINEAGE, "key": KEY.hex(), "incarnation": 4, "time_ms": 5_000_000, "seq": 10,
        "heartbeat_interval_s": 3.0, "report_interval_s": 600.0,
    }  # fmt: skip
    return m.Registered(**facts | changes)


def answered(**changes: Any) -> m.HeartbeatAnswer:
    facts: dict[str, Any] = {"time_ms": 5_003_000, "seq": 11, "lineage": LINEAGE, "epoch": 1, "members_version": 1}
    return m.HeartbeatAnswer(**facts | changes)


class ScriptedTransport(Transport):
    """Answers each call with the next line of the script."""

    def __init__(self) -> None:
        super().__init__()
        self.script: list[Any] = []
        self.calls: list[tuple[str, Any]] = []

    def call(
        self, base_url: str, operation: Operation[Any, Any], request: Any, *, timeout_s: float | None = None
    ) -> Any:
        self.calls.append((operation.name, request))
        answer = self.script.pop(0)
        if isinstance(answer, DfsError):
            raise answer
        return answer


class Trial:
    def __init__(self, store: ChunkStore, identity: Identity) -> None:
        self.clock = FakeClock()
        self.saved: list[Identity] = []
        self.membership = Membership(identity, BOOT, self.clock, self.saved.append)
        self.outbox = Outbox(["http://nn"])
        self.transport = ScriptedTransport()
        self.performed: list[m.Command] = []
        self.refusals: list[DfsError] = []
        self.link = NamenodeLink(
            "http://nn",
            transport=self.transport,
            membership=self.membership,
            store=store,
            outbox=self.outbox,
            introduction=Introduction("http://peer", "http://client", "r1", "secret"),
            perform=self.performed.extend,
            streams=lambda: 2,
            refused=self.refusals.append,
        )

    def turn(self, *script: Any) -> float:
        self.transport.script = list(script)
        rest_s = self.link.turn()
        assert self.transport.script == [], "all of the script was used"
        return rest_s

    @property
    def last(self) -> Any:
        return self.transport.calls[-1][1]


@pytest.fixture
def new(tmp_path: Path) -> Trial:
    return Trial(make_store(tmp_path), Identity(datanode="dn0"))


@pytest.fixture
def known(tmp_path: Path) -> Trial:
    return Trial(
        make_store(tmp_path), Identity(datanode="dn0", cluster=CLUSTER, lineage=LINEAGE, key=KEY.hex(), seq_seen=9)
    )


def test_a_new_datanode_registers_with_the_join_secret_and_keeps_what_it_is_told(new: Trial) -> None:
    with pytest.raises(Unavailable):
        new.membership.standing()
    assert new.turn(registered()) == 0
    request = new.last
    assert (request.cluster, request.proof, request.join_secret) == (None, "", "secret")
    assert (request.peer_url, request.client_url, request.rack) == ("http://peer", "http://client", "r1")
    assert new.saved[-1] == Identity(datanode="dn0", cluster=CLUSTER, lineage=LINEAGE, key=KEY.hex(), seq_seen=10)
    standing = new.membership.standing()
    assert (standing.key, standing.incarnation) == (KEY, 4)


def test_a_known_datanode_proves_its_key(known: Trial) -> None:
    known.turn(registered())
    assert known.last.proof == register_proof(KEY, "dn0", BOOT)
    assert (known.last.cluster, known.last.lineage, known.last.seq_seen) == (CLUSTER, LINEAGE, 9)


@pytest.mark.parametrize("error", [NotSent("refused"), OutcomeUnknown("broke"), Unavailable("starting")])
def test_registration_is_tried_until_a_namenode_is_there(new: Trial, error: DfsError) -> None:
    for _ in range(5):
        assert new.turn(error) > 0
    assert new.refusals == []
    new.turn(registered())
    assert new.membership.is_registered


def test_a_foreign_cluster_is_final(known: Trial) -> None:  # F49
    facts = m.ClusterFacts(
        cluster="e" * 32, version="", protocol=1, time_ms=0, replication=3, chunk_size_bytes=1, pack_limit_bytes=1
    )
    known.turn(Conflict("this datanode is of another cluster"), facts)
    assert [name for name, _ in known.transport.calls] == [REGISTER.name, CLUSTER_CALL.name]
    assert len(known.refusals) == 1


def test_a_namenode_that_takes_us_into_another_cluster_is_refused_by_us(known: Trial) -> None:  # F49
    facts = m.ClusterFacts(
        cluster="e" * 32, version="", protocol=1, time_ms=0, replication=3, chunk_size_bytes=1, pack_limit_bytes=1
    )
    known.turn(registered(cluster="e" * 32), facts)
    assert not known.membership.is_registered
    assert known.saved == []
    assert "belongs to the cluster" in known.refusals[0].message
    assert isinstance(known.refusals[0], Conflict)


def test_a_wrong_join_secret_is_final_for_a_new_datanode(new: Trial) -> None:
    new.turn(NotPermitted("the join secret is wrong"))
    assert len(new.refusals) == 1


def test_another_process_with_our_id_may_just_be_dying(known: Trial) -> None:  # F48
    ours = m.ClusterFacts(
        cluster=CLUSTER, version="", protocol=1, time_ms=0, replication=3, chunk_size_bytes=1, pack_limit_bytes=1
    )
    known.turn(Conflict("that id is live"), ours)
    assert known.refusals == []
    known.turn(registered())
    assert known.membership.is_registered


def test_heartbeats_tell_the_state_and_follow_the_namenodes_clock(known: Trial) -> None:  # F50
    known.turn(registered())
    known.clock.wall -= 86_400_000
    assert known.turn(answered()) == 3.0
    beat = known.last
    assert (beat.incarnation, beat.boot, beat.active_streams, beat.seq_seen) == (4, BOOT, 2, 10)
    assert beat.volumes[0].state == "in_service"
    known.clock.now_s += 2
    assert known.membership.clock.wall_ms() == 5_005_000


def test_results_are_told_until_an_answer_came(known: Trial) -> None:
    known.turn(registered())
    known.outbox.deleted(["1" * 32])
    known.outbox.failed("2" * 32)
    known.outbox.checked("3" * 32, good=False, why="rot")
    known.outbox.suspect("dn7")
    for answer in (OutcomeUnknown("lost"), NotSent("refused"), answered()):
        known.turn(answer)
        assert (known.last.deleted, known.last.failed, known.last.suspects) == (["1" * 32], ["2" * 32], ["dn7"])
        assert [one.chunk for one in known.last.checked] == ["3" * 32]
    known.turn(answered())
    assert (known.last.deleted, known.last.failed, known.last.checked, known.last.suspects) == ([], [], [], [])


def test_each_heartbeat_has_a_higher_number_than_those_before_it(known: Trial) -> None:  # F20
    known.turn(registered())
    numbers = []
    for answer in (OutcomeUnknown("lost"), answered(), StaleIncarnation("who are you?"), registered(), answered()):
        known.turn(answer)
        if isinstance(known.last, m.Heartbeat):
            numbers.append(known.last.beat)
    assert numbers == sorted(set(numbers))
    assert numbers[0] > 0


def test_what_was_found_out_about_a_stored_replica_is_not_told_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfs_datanode.outbox._BATCH", 1)
    outbox = Outbox()
    for chunk in ("1" * 32, "2" * 32):
        outbox.stored(m.StoredReplica(chunk=chunk, length=1, digest="d" * 32, volume="3" * 32))
    outbox.checked("2" * 32, good=False, why="rot")
    first = outbox.batch()
    assert ([one.chunk for one in first.stored], first.checked) == (["1" * 32], [])
    outbox.delivered(first)
    second = outbox.batch()
    assert [one.chunk for one in second.stored] == [one.chunk for one in second.checked] == ["2" * 32]


def test_what_is_found_anew_while_a_heartbeat_is_under_way_is_told_with_the_next() -> None:
    outbox = Outbox()
    outbox.checked("3" * 32, good=True)
    batch = outbox.batch()
    outbox.checked("3" * 32, good=False, why="rot")
    outbox.delivered(batch)
    assert [one.good for one in outbox.batch().checked] == [False]


def test_each_namenode_is_told_everything_whoever_is_faster(known: Trial, tmp_path: Path) -> None:
    other = Trial(make_store(tmp_path / "other"), known.membership.identity)
    shared = Outbox(["http://nn", "http://away"])
    known.link._outbox = shared
    known.turn(registered())
    shared.checked("3" * 32, good=False, why="rot")
    shared.deleted(["1" * 32])
    shared.suspect("dn7")
    shared.failed("2" * 32)
    known.turn(answered())
    known.turn(answered())
    assert (known.last.deleted, known.last.checked) == ([], []), "the one that is there has heard it"
    other.link.url, other.link._outbox = "http://away", shared
    other.turn(registered())
    other.turn(answered())
    assert (other.last.deleted, other.last.failed, other.last.suspects) == (["1" * 32], ["2" * 32], ["dn7"])
    assert [one.good for one in other.last.checked] == [False]
    assert shared.waiting() == 0


def test_a_namenode_that_was_away_hears_what_is_and_not_what_was() -> None:
    outbox = Outbox(["http://nn", "http://away"])
    pulled = m.StoredReplica(chunk="1" * 32, length=1, digest="d" * 32, volume="2" * 32)
    outbox.deleted(["1" * 32])
    outbox.stored(pulled)
    assert (outbox.batch("http://away").stored, outbox.batch("http://away").deleted) == ([pulled], [])
    outbox.checked("1" * 32, good=False)
    outbox.deleted(["1" * 32])
    batch = outbox.batch("http://away")
    assert (batch.stored, batch.deleted, batch.checked) == ([], ["1" * 32], [])


def test_what_waits_for_a_namenode_that_does_not_come_back_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:  # I9
    monkeypatch.setattr("dfs_datanode.outbox.WAITING_MAX", 3)
    outbox = Outbox(["http://nn", "http://away"])
    for number in range(5):
        outbox.deleted([f"{number:032x}"])
        outbox.delivered(outbox.batch("http://nn"), "http://nn")
    assert outbox.batch("http://away").deleted == [f"{number:032x}" for number in (2, 3, 4)]


def test_a_heartbeat_carries_no_more_than_its_message_allows() -> None:
    outbox = Outbox()
    outbox.deleted(f"{number:032x}" for number in range(2500))
    sizes = []
    while batch := outbox.batch().deleted:
        sizes.append(len(batch))
        outbox.delivered(outbox.batch())
    assert sizes == [1000, 1000, 500]


def test_a_forgotten_datanode_registers_again_at_once(known: Trial) -> None:  # F48
    known.turn(registered())
    assert known.turn(StaleIncarnation("who are you?")) == 0
    known.turn(registered(incarnation=5))
    assert known.transport.calls[-1][0] == REGISTER.name
    assert known.membership.standing().incarnation == 5


def test_a_new_lineage_is_learnt_by_registering_again(known: Trial) -> None:  # F63
    known.turn(registered())
    command = m.DeleteReplicas(chunks=["1" * 32])
    known.turn(answered(lineage="9" * 32, commands=[command]))
    assert known.performed == [], "nothing is deleted on the word of a history that we don't know yet"
    known.turn(registered(lineage="9" * 32))
    known.turn(answered(lineage="9" * 32))
    assert known.last.lineage == "9" * 32
    assert known.saved[-1].lineage == "9" * 32


def test_commands_of_a_replaced_leader_are_ignored(known: Trial) -> None:  # F78
    old, new = m.SendReport(), m.DeleteReplicas(chunks=["1" * 32])
    known.turn(registered())
    known.turn(answered(epoch=5, commands=[new]))
    known.turn(answered(epoch=4, commands=[old]))
    assert known.performed == [new]


def test_the_leader_of_a_new_history_is_obeyed_however_low_its_epoch(known: Trial) -> None:  # F63
    command = m.SendReport()
    known.turn(registered())
    known.turn(answered(epoch=7))
    known.turn(answered(epoch=4, lineage="9" * 32))
    known.turn(registered(lineage="9" * 32))
    known.turn(answered(epoch=4, lineage="9" * 32, commands=[command]))
    assert known.performed == [command]
    known.turn(answered(epoch=3, lineage="9" * 32, commands=[command]))
    assert known.performed == [command], "its own replaced leaders are not"


def test_peers_are_known_from_the_namenode_alone(known: Trial) -> None:  # F85
    known.turn(registered())
    assert known.membership.peer_url("dn1", wait_s=0) is None
    known.turn(answered(members=[m.Member("dn1", "http://one")], members_version=8))
    assert known.membership.peer_url("dn1", wait_s=0) == "http://one"
    known.turn(answered(members=None, members_version=8))
    assert known.last.members_version == 8
    assert known.membership.peer_url("dn1", wait_s=0) == "http://one"


def test_a_peer_that_just_joined_is_asked_for(known: Trial) -> None:
    known.turn(registered())

    def beat() -> None:
        threading.Thread(
            target=known.membership.heard, args=(answered(members=[m.Member("dn1", "http://one")]),)
        ).start()

    known.membership.ask = beat
    assert known.membership.peer_url("dn1", wait_s=5) == "http://one"


def test_no_heartbeat_waits_for_a_disk_to_keep_the_highest_sequence_number(known: Trial) -> None:  # F53 F63
    known.turn(registered())
    saves = len(known.saved)
    known.turn(answered(seq=1_000_000))
    known.turn(answered(seq=20))
    assert known.membership.identity.seq_seen == 1_000_000
    assert len(known.saved) == saves, "each volume's upkeep keeps it"


def test_a_full_disk_takes_no_identity_and_does_not_end_a_known_datanode(known: Trial) -> None:  # F34, F35
    def full(_: Identity) -> None:
        raise OSError(28, "No space left on device")

    known.membership._save = full
    known.turn(registered(seq=10_010))
    assert known.membership.is_registered
    assert known.membership.identity.seq_seen == 10_010


def test_a_new_datanode_that_can_not_keep_its_key_does_not_join(new: Trial) -> None:
    def full(_: Identity) -> None:
        raise OSError(28, "No space left on device")

    new.membership._save = full
    with pytest.raises(OSError, match="No space"):
        new.turn(registered())
    assert not new.membership.is_registered


def test_the_heartbeat_is_not_declared_idempotent() -> None:
    assert HEARTBEAT.idempotent is False


# --- loops


def run_loop(turn: Callable[[], float]) -> tuple[Loop, list[str], threading.Event]:
    told: list[str] = []
    ended = threading.Event()

    def fatal(why: str) -> None:
        told.append(why)
        ended.set()

    loop = Loop("duty", turn, SystemClock(), fatal)
    return loop, told, ended


def test_a_loop_that_fails_too_often_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:  # F91
    monkeypatch.setattr("dfs_datanode.supervise.RESTART_PAUSE_S", 0.0)

    def turn() -> float:
        raise ValueError("a bug")

    loop, told, ended = run_loop(turn)
    loop.start()
    assert ended.wait(5)
    assert len(told) == 1
    assert loop.statistics().failures == RESTARTS_MAX + 1


def test_a_loop_that_fails_now_and_then_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:  # F91
    monkeypatch.setattr("dfs_datanode.supervise.RESTART_PAUSE_S", 0.0)
    turns = iter([True, False] * 10)
    done = threading.Event()

    def turn() -> float:
        fails = next(turns, None)
        if fails is None:
            done.set()
            return 60
        if fails:
            raise ValueError("a bug")
        return 0

    loop, told, _ = run_loop(turn)
    loop.start()
    assert done.wait(5)
    loop.stop()
    assert told == []
    assert loop.statistics().failures == 10


def test_a_wake_cuts_the_rest_short_and_is_never_lost() -> None:
    turns = threading.Semaphore(0)

    def turn() -> float:
        turns.release()
        return 600

    loop, _, _ = run_loop(turn)
    loop.start()
    for _ in range(3):
        assert turns.acquire(timeout=5)
        loop.wake()
    loop.stop()


def test_a_loop_that_is_ended_from_within_ends_the_process() -> None:  # F91
    def turn() -> float:
        raise SystemExit(0)

    loop, told, ended = run_loop(turn)
    loop.start()
    assert ended.wait(5)
    assert "SystemExit" in told[0]


def test_tasks_that_fail_one_and_all_end_the_process_but_one_that_always_fails_does_not() -> None:  # F91
    told: list[str] = []
    trials = Trials("check", told.append)
    for _ in range(20):
        trials.failed("1" * 32, ValueError("a bug"))
    assert told == []
    for number in range(RESTARTS_MAX):
        trials.succeeded()
        trials.failed(f"{number:032x}", ValueError("a bug"))
    assert told == [], "others succeed in between"
    for number in range(RESTARTS_MAX):
        trials.failed(f"{number:032x}", ValueError("a bug"))
        assert told == []
    trials.failed("f" * 32, ValueError("a bug"))
    assert len(told) == 1
    assert trials.failures == 20 + 2 * RESTARTS_MAX + 1
