"""A call that was never answered, and what a later refusal says about it: nothing, until its op id is spent."""

import random
from typing import Any

import pytest

from dfs.namenodes import Namenodes
from dfs.protocol import errors as e
from dfs.protocol import messages as m
from dfs.protocol.operations import COMMIT
from fixtures.fake_cluster import FakeCluster


class HeldUp:
    """Before a fake cluster: a network that holds the first commit up, and loses its answer.

    arrives_after  commits that are answered before the first one arrives, or None: the test lets it arrive
    """

    def __init__(self, cluster: FakeCluster, arrives_after: int | None = None) -> None:
        self._cluster = cluster
        self._plain = cluster.call
        self._held: m.Commit | None = None
        self._arrives_after = arrives_after
        self.commits = 0
        cluster.call = self.call  # type: ignore[method-assign]

    def call(self, base_url: str, operation: Any, request: Any, *, timeout_s: float | None = None) -> Any:
        if operation is not COMMIT:
            return self._plain(base_url, operation, request)
        if self._held is None:
            self._held = request
            raise e.OutcomeUnknown("no answer in time", stalled=True)
        try:
            return self._plain(base_url, operation, request)
        finally:
            self.commits += 1
            if self.commits == self._arrives_after:
                self.arrive()

    def arrive(self) -> m.Committed:
        assert self._held is not None
        answer: m.Committed = self._plain("", COMMIT, self._held)
        return answer


def appended(cluster: FakeCluster) -> bytes:
    with cluster.connect() as fs:
        return fs.read_bytes("/log")


def test_an_append_that_was_refused_and_sent_again_never_appears_twice() -> None:  # F22
    cluster = FakeCluster()
    with cluster.connect() as fs:
        fs.write_bytes("/log", b"x" * (1 << 20))
        network = HeldUp(cluster)
        # Between the first commit and its repetition two datanodes are lost: the chunk must be sent again.
        cluster.refuse_receipts_of = {"dn1", "dn2"}
        plain = fs._storing.sender.send
        sent: list[object] = []

        def send(*arguments: Any, **named: Any) -> Any:
            if sent:
                cluster.refuse_receipts_of = set()  # they are back, which is when the first commit arrives
            sent.append(1)
            return plain(*arguments, **named)

        fs._storing.sender.send = send  # type: ignore[method-assign]
        fs.append("/log", b"once")
        assert len(sent) == 2, "the chunk was sent again under another op id"
        with pytest.raises(e.OperationMismatch):
            network.arrive()
    assert appended(cluster) == b"x" * (1 << 20) + b"once"


def test_a_refused_create_does_not_happen_later() -> None:
    cluster = FakeCluster()
    with cluster.connect() as fs:
        fs.write_bytes("/taken", b"theirs")
        network = HeldUp(cluster)
        with pytest.raises(e.FileExists):
            fs.commit([m.PutFile(path="/taken", when="absent")])
        fs.remove("/taken")
        with pytest.raises(e.OperationMismatch):
            network.arrive()
        assert not fs.exists("/taken")


def test_a_first_attempt_that_arrives_after_its_repetition_was_refused_is_the_answer() -> None:
    cluster = FakeCluster()
    with cluster.connect() as fs:
        fs.write_bytes("/taken", b"theirs")
        network = HeldUp(cluster, arrives_after=1)
        plain = network.arrive

        def arrive() -> m.Committed:
            cluster.tree.pop("/taken")  # somebody removed it just before
            return plain()

        network.arrive = arrive  # type: ignore[method-assign]
        outcome = fs.commit([m.PutFile(path="/taken", when="absent")])[0]
        assert fs.stat("/taken").version == outcome.version


class Script:
    """Answers calls with these, in order: an error is raised."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)

    def call(self, _base_url: str, _operation: object, _request: object, *, timeout_s: float | None = None) -> object:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_refusal_whose_op_id_could_not_be_spent_is_an_unknown_outcome() -> None:
    clock = FakeCluster().clock
    script = Script(e.OutcomeUnknown("broke"), e.FileExists("there"), *[e.NotSent("gone")] * 200)
    namenodes = Namenodes(["http://a:1"], script, clock=clock, rng=random.Random(1), wait=clock.wait)  # type: ignore[arg-type]
    with pytest.raises(e.OutcomeUnknown, match="not known"):
        namenodes.call(COMMIT, m.Commit(op_id="0" * 32, actions=[m.PutFile(path="/a")]))


def test_a_refusal_without_doubt_is_believed_at_once() -> None:
    clock = FakeCluster().clock
    script = Script(e.NotSent("refused"), e.FileExists("there"))
    namenodes = Namenodes(["http://a:1"], script, clock=clock, rng=random.Random(1), wait=clock.wait)  # type: ignore[arg-type]
    with pytest.raises(e.FileExists):
        namenodes.call(COMMIT, m.Commit(op_id="0" * 32, actions=[m.PutFile(path="/a")]))
    assert script.answers == []


@pytest.mark.parametrize("again", [[], [e.OutcomeUnknown("broke again"), e.FileExists("there")]])
def test_nothing_but_an_answer_or_an_error_of_ours_comes_out_when_spending_the_op_id_meets_doubt_too(
    again: list[Exception],
) -> None:
    clock = FakeCluster().clock
    done = m.Committed(seq=1, outcomes=[])
    # The answer of what spends the op id is lost, and meanwhile the first attempt arrives.
    spending = [e.OutcomeUnknown("broke as well"), e.OperationMismatch("done already")]
    script = Script(e.OutcomeUnknown("broke"), e.FileExists("there"), *spending, *(again or [done]))
    namenodes = Namenodes(["http://a:1"], script, clock=clock, rng=random.Random(1), wait=clock.wait)  # type: ignore[arg-type]
    request = m.Commit(op_id="0" * 32, actions=[m.PutFile(path="/a")])
    if again:
        with pytest.raises(e.OutcomeUnknown, match="not known"):
            namenodes.call(COMMIT, request)
    else:
        assert namenodes.call(COMMIT, request) is done
    assert script.answers == []
