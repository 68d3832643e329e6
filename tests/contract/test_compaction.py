"""Compaction on a real store, with datanodes that are only messages (F100): what a swap does, what it leaves alone."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dfs.protocol import messages as m
from dfs.protocol import operations as table
from dfs.protocol.capability import check_capability, sign_receipt
from dfs.protocol.errors import Conflict, ReceiptRefused
from dfs.protocol.server import Caller
from dfs_namenode.operations.composed import PRINCIPAL
from dfs_namenode.store import meta
from fixtures.paper_cluster import Bench, Paper

MIB = 1 << 20
NEW_DIGEST = "e" * 32


class Trial:
    """A namenode with three datanodes on paper, and packs."""

    def __init__(self, directory: Path) -> None:
        self.bench = Bench(str(directory))
        self.papers = [Paper(f"dn{number}") for number in (1, 2, 3)]
        for paper in self.papers:
            self.bench.register(paper)
            self.bench.obey(paper)

    def pack(self, files: Mapping[str, int], *, draft: str | None = None) -> str:
        """Files of so many MiB in one chunk, one behind the other; its id."""
        length = sum(files.values()) * MIB
        grants = self.bench.call(table.ALLOCATE, m.Allocate(count=1, length=length, replication=3))
        chunk = str(grants.grants[0].chunk)
        new = m.NewChunk(chunk, length, "d" * 32, self.receipts(chunk, length, "d" * 32, principal="anybody"))
        actions, offset = [], 0
        for number, (path, size) in enumerate(files.items()):
            extent = m.Extent(chunk, offset, size * MIB, f"{number:032x}")
            actions.append(m.PutFile(path=path, extents=[extent]))
            offset += size * MIB
        if draft is None:
            self.bench.call(table.COMMIT, m.Commit(op_id=self.bench.op_id(), actions=actions, chunks=[new]))
        else:
            self.bench.call(table.STAGE, m.Stage(op_id=self.bench.op_id(), draft=draft, actions=actions, chunks=[new]))
        return chunk

    def receipts(
        self, chunk: str, length: int, digest: str, *, principal: str = PRINCIPAL, papers: list[Paper] | None = None
    ) -> list[str]:
        found = []
        for paper in self.papers if papers is None else papers:
            assert paper.registered is not None
            paper.disk.add(chunk)
            found.append(
                sign_receipt(
                    self.bench.keys.of(paper.name),
                    chunk=chunk,
                    length=length,
                    digest=bytes.fromhex(digest),
                    datanode=paper.name,
                    incarnation=paper.registered.incarnation,
                    volume=paper.volume,
                    principal=principal,
                )
            )
        return found

    def act(self, *actions: m.Action) -> None:
        self.bench.call(table.COMMIT, m.Commit(op_id=self.bench.op_id(), actions=list(actions)))

    def remove(self, *paths: str, sweep: bool = True) -> None:
        self.act(*(m.Remove(path=path) for path in paths))
        if sweep:
            self.pass_grace()
            self.bench.turn("sweep")

    def pass_grace(self) -> None:
        self.bench.machine.advance(self.bench.settings.read_grace_s + 1)
        for paper in self.papers:
            self.bench.beat(paper)

    def order(self) -> tuple[Paper, m.Compose] | None:
        """What compaction orders in a turn, and of whom."""
        self.bench.turn("compact")
        for paper in self.papers:
            for command in self.bench.beat(paper).commands:
                if isinstance(command, m.Compose):
                    return paper, command
        return None

    def ordered(self) -> tuple[Paper, m.Compose]:
        found = self.order()
        assert found is not None, "something is to be composed"
        return found

    def answer(self, paper: Paper, command: m.Compose, **more: Any) -> None:
        facts: dict[str, Any] = {
            "chunk": command.chunk,
            "length": command.length,
            "digest": NEW_DIGEST,
            "receipts": self.receipts(command.chunk, command.length, NEW_DIGEST),
        }
        self.bench.beat(paper, composed=[m.ComposedChunk(**(facts | more))])

    def place(self, path: str) -> tuple[str, int, int, str]:
        """Where a file of one extent is."""
        opened = self.bench.call(table.OPEN, m.Open(path=path))
        [extent] = opened.layout.extents
        return extent.chunk, extent.offset, extent.length, extent.digest

    def states(self) -> dict[str, int]:
        return {chunk.hex(): state for chunk, state in self.bench.rows("SELECT id, state FROM chunk")}

    def check(self) -> None:
        """References are counted exactly, and every extent's chunk is live."""
        assert (
            self.bench.rows(
                "SELECT 1 FROM chunk AS c WHERE referenced_bytes !="
                " (SELECT total(length) FROM extent AS e WHERE e.chunk_id = c.id)"
                " + length * (SELECT count(*) FROM draft_chunk AS d WHERE d.chunk_id = c.id)"
            )
            == []
        )
        assert (
            self.bench.rows(
                "SELECT 1 FROM extent AS e LEFT JOIN chunk AS c ON c.id = e.chunk_id WHERE c.state IS NOT 0"
            )
            == []
        )


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    made = Trial(tmp_path)
    yield made
    made.bench.close()


def test_a_chunk_whose_extents_moved_while_compaction_looked_is_not_composed_again(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.pack({"/a": 1, "/b": 5, "/c": 2})
    trial.remove("/b")
    paper, command = trial.ordered()
    duty = trial.bench.node.parts.compaction
    look = duty._find

    def look_and_then_have_it_answered(cluster: Any) -> Any:
        seen = look(cluster)
        monkeypatch.setattr(duty, "_find", look)
        taken = duty.orders.take(command.chunk, paper.name)
        assert taken is not None
        duty.orders.settled(taken)
        return seen

    monkeypatch.setattr(duty, "_find", look_and_then_have_it_answered)
    assert trial.order() is None, "what it saw was true a moment ago"


def test_a_pack_that_is_mostly_dead_is_ordered_with_leave_to_read_and_write(trial: Trial) -> None:
    chunk = trial.pack({"/a": 1, "/b": 5, "/c": 2})
    trial.remove("/b")
    paper, command = trial.ordered()
    [source] = command.sources
    assert (source.chunk, source.length, command.length) == (chunk, 8 * MIB, 3 * MIB)
    runs = [(run.offset, run.length, run.at) for run in source.runs]
    assert runs == [(0, MIB, 0), (6 * MIB, 2 * MIB, MIB)]
    bench = trial.bench
    writing = check_capability(
        command.capability,
        bench.keys.of(paper.name),
        datanode=paper.name,
        operation="w",
        chunk=command.chunk,
        now_ms=bench.machine.now_ms,
    )
    assert (writing.chain[0], len(writing.chain), writing.end) == (paper.name, 3, 3 * MIB)
    for target in source.replicas:
        check_capability(
            source.capability,
            bench.keys.of(target.datanode),
            datanode=target.datanode,
            operation="r",
            chunk=chunk,
            now_ms=bench.machine.now_ms,
        )
    assert trial.order() is None, "it is under way"


def test_a_pack_of_which_half_is_live_stays(trial: Trial) -> None:
    trial.pack({"/a": 4, "/b": 4})
    trial.remove("/b")
    assert trial.order() is None
    assert trial.bench.rows("SELECT released FROM chunk") == [(0,)], "and is not looked at again"
    trial.pack({"/c": 4, "/d": 4})
    trial.remove("/d", sweep=False)
    assert trial.order() is None, "within the grace it is live"


def test_bytes_that_copies_share_count_once(trial: Trial) -> None:
    trial.pack({"/a": 2, "/b": 6})
    trial.act(m.Copy(source="/a", target="/a2"), m.Copy(source="/a", target="/a3"))
    trial.remove("/b")
    assert trial.bench.rows("SELECT referenced_bytes FROM chunk") == [(6 * MIB,)], "the counter does not show it"
    paper, command = trial.ordered()
    assert command.length == 2 * MIB
    trial.answer(paper, command)
    assert {trial.place(path) for path in ("/a", "/a2", "/a3")} == {(command.chunk, 0, 2 * MIB, "0" * 32)}
    trial.check()


def test_a_swap_moves_files_and_their_digests_and_versions_stay(trial: Trial) -> None:
    old = trial.pack({"/a": 1, "/b": 5, "/c": 2})
    trial.remove("/b")
    before = [trial.bench.call(table.STAT, m.Stat(path=path)) for path in ("/a", "/c")]
    paper, command = trial.ordered()
    assert trial.place("/c") == (old, 6 * MIB, 2 * MIB, f"{2:032x}")
    trial.answer(paper, command)
    assert trial.place("/a") == (command.chunk, 0, MIB, f"{0:032x}")
    assert trial.place("/c") == (command.chunk, MIB, 2 * MIB, f"{2:032x}")
    assert [trial.bench.call(table.STAT, m.Stat(path=path)) for path in ("/a", "/c")] == before
    trial.check()
    [(seq,)] = set(trial.bench.rows("SELECT seq FROM change WHERE op = 'compact'"))
    contents = {row[0] for row in trial.bench.rows("SELECT content_id FROM inode WHERE content_id IS NOT NULL")}
    logged = {row[0] for row in trial.bench.rows(f"SELECT content_id FROM change WHERE seq = {seq}")}
    assert logged == contents, "the change log names every content that moved"
    status = trial.bench.status()
    assert status.under_replicated == 0
    assert status.compaction == m.Compacting(under_way=0, composed=1, chunks_emptied=1, bytes_saved=5 * MIB, failed=0)


def test_the_old_chunk_is_kept_for_its_readers_and_then_goes_the_way_of_all_garbage(trial: Trial) -> None:
    old = trial.pack({"/a": 1, "/b": 7})
    trial.remove("/b")
    paper, command = trial.ordered()
    trial.answer(paper, command)
    trial.bench.machine.advance(trial.bench.settings.read_grace_s - 5)
    for one in trial.papers:
        trial.bench.beat(one)
    trial.bench.turn("sweep", "collect")
    assert trial.states() == {old: 0, command.chunk: 0}
    trial.bench.machine.advance(6)
    trial.bench.turn("collect")
    assert trial.states() == {old: 1, command.chunk: 0}
    for one in trial.papers:
        trial.bench.obey(one)
    assert trial.states() == {old: 2, command.chunk: 0}


def test_readers_keep_their_grace_when_the_rest_of_a_chunk_goes_just_after_the_swap(trial: Trial) -> None:
    old = trial.pack({"/a": 1, "/b": 1, "/c": 8})
    trial.remove("/c")
    paper, command = trial.ordered()
    trial.bench.store.write_blocking(  # an extent that the plan does not know keeps the old chunk
        lambda tx: tx.run("UPDATE extent SET digest = ? WHERE chunk_offset = ?", (bytes(16), MIB))
    )
    trial.remove("/b", sweep=False)
    trial.bench.machine.advance(trial.bench.settings.read_grace_s - 5)
    for one in trial.papers:
        trial.bench.beat(one)
    trial.bench.node.parts.compaction.orders._orders = {
        chunk: one.__class__(one.chunk, one.datanode, one.incarnation, one.length, one.moves, 1e12)
        for chunk, one in trial.bench.node.parts.compaction.orders._orders.items()
    }
    trial.answer(paper, command)
    trial.bench.machine.advance(10)
    trial.bench.turn("sweep", "collect")
    assert trial.bench.rows(f"SELECT referenced_bytes FROM chunk WHERE hex(id) = '{old.upper()}'") == [(0,)]
    assert trial.states()[old] == 0, "who opened /a before the swap has had ten seconds"


def test_a_copy_made_meanwhile_moves_too_and_a_removed_file_does_not_come_back(trial: Trial) -> None:
    trial.pack({"/a": 1, "/b": 5, "/c": 1})
    trial.remove("/b")
    paper, command = trial.ordered()
    trial.act(m.Copy(source="/a", target="/a2"), m.Remove(path="/c"))
    trial.answer(paper, command)
    assert trial.place("/a2") == trial.place("/a") == (command.chunk, 0, MIB, f"{0:032x}")
    trial.check()
    trial.pass_grace()
    trial.bench.turn("sweep")
    trial.check()


def test_what_was_removed_and_swept_meanwhile_makes_nothing_live(trial: Trial) -> None:
    trial.pack({"/a": 1, "/b": 7})
    trial.remove("/b")
    paper, command = trial.ordered()
    trial.act(m.Remove(path="/a"))
    trial.bench.store.write_blocking(lambda tx: tx.run("UPDATE retired SET at_ms = 0"))
    trial.bench.turn("sweep")
    trial.answer(paper, command)
    assert command.chunk not in trial.states(), "it is an orphan"
    assert trial.bench.rows("SELECT * FROM extent") == []


@pytest.mark.parametrize("what", ["too few", "another life", "a client's", "another length", "it failed"])
def test_an_answer_that_does_not_prove_the_replicas_changes_nothing(trial: Trial, what: str) -> None:
    old = trial.pack({"/a": 1, "/b": 7})
    trial.remove("/b")
    paper, command = trial.ordered()
    more: dict[str, Any] = {}
    if what == "too few":
        more["receipts"] = trial.receipts(command.chunk, command.length, NEW_DIGEST, papers=trial.papers[:1])
    elif what == "another life":
        more["receipts"] = trial.receipts(command.chunk, command.length, NEW_DIGEST)
        for one in trial.papers:
            if one is not paper:
                one.boot = "b" * 32
                one.disk.clear()
                trial.bench.machine.advance(16)
                trial.bench.beat(paper)
                proof = trial.bench.keys.of(one.name)
                trial.bench.register(one, cluster=trial.bench.cluster, proof=prove(proof, one))
    elif what == "a client's":
        more["receipts"] = trial.receipts(command.chunk, command.length, NEW_DIGEST, principal="anybody")
    elif what == "another length":
        more["length"] = command.length - 1
    else:
        more = {"receipts": [], "length": 0, "digest": "", "why": "an extent does not have its digest"}
    trial.answer(paper, command, **more)
    assert trial.place("/a")[0] == old
    assert trial.states() == {old: 0}
    trial.check()
    trial.answer(paper, command)
    assert trial.states() == {old: 0}, "the order is over"
    assert trial.order() is None, "its sources are left alone for a while"
    trial.pass_grace()
    assert trial.order() is not None


def prove(key: bytes, paper: Paper) -> str:
    from dfs.protocol.capability import register_proof

    return register_proof(key, paper.name, paper.boot)


def test_an_answer_that_comes_twice_or_to_a_namenode_that_was_restarted_does_nothing_twice(trial: Trial) -> None:
    trial.pack({"/a": 1, "/b": 7})
    trial.remove("/b")
    paper, command = trial.ordered()
    trial.answer(paper, command)
    after = trial.bench.rows("SELECT * FROM extent"), trial.bench.rows("SELECT * FROM chunk")
    trial.answer(paper, command)
    trial.bench.restart()
    trial.bench.beat(paper)
    trial.answer(paper, command)
    assert (trial.bench.rows("SELECT * FROM extent"), trial.bench.rows("SELECT * FROM chunk")) == after


def test_an_order_that_the_namenode_forgot_makes_nothing_live_and_is_given_anew(trial: Trial) -> None:
    old = trial.pack({"/a": 1, "/b": 7})
    trial.remove("/b")
    paper, command = trial.ordered()
    trial.bench.restart()
    for one in trial.papers:
        trial.bench.beat(one)
    trial.answer(paper, command)
    assert trial.states() == {old: 0}
    again_at, again = trial.ordered()
    assert again.chunk != command.chunk
    trial.answer(again_at, again)
    assert trial.place("/a")[0] == again.chunk
    trial.check()


def test_only_the_leader_compacts(trial: Trial) -> None:
    old = trial.pack({"/a": 1, "/b": 7})
    trial.remove("/b")
    paper, command = trial.ordered()
    trial.bench.store.write_blocking(meta.take_lead)
    with pytest.raises(Conflict):
        trial.answer(paper, command)
    assert trial.states() == {old: 0}


def test_receipts_of_a_composed_chunk_are_good_for_nothing_else(trial: Trial) -> None:  # F92
    trial.pack({"/a": 1, "/b": 7})
    trial.remove("/b")
    _, command = trial.ordered()
    receipts = trial.receipts(command.chunk, command.length, NEW_DIGEST)
    new = m.NewChunk(command.chunk, command.length, NEW_DIGEST, receipts)
    put = m.PutFile(path="/stolen", extents=[m.Extent(command.chunk, 0, command.length, NEW_DIGEST)])
    with pytest.raises(ReceiptRefused):
        trial.bench.call(table.COMMIT, m.Commit(op_id=trial.bench.op_id(), actions=[put], chunks=[new]), Caller("eve"))


def test_a_chunk_that_a_draft_has_is_whole_until_the_draft_ends(trial: Trial) -> None:
    draft = "a" * 32
    chunk = trial.pack({"/a": 1, "/b": 7}, draft=draft)
    trial.act(m.MakeDirectory(path="/unrelated"))
    trial.bench.store.write_blocking(lambda tx: tx.run("UPDATE chunk SET released = 1"))
    assert trial.order() is None
    assert trial.bench.rows("SELECT released FROM chunk") == [(1,)], "it is looked at again"
    trial.bench.call(table.COMMIT, m.Commit(op_id=trial.bench.op_id(), actions=[m.Remove(path="/b")], draft=draft))
    trial.pass_grace()
    trial.bench.turn("sweep")
    assert [source.chunk for source in trial.ordered()[1].sources] == [chunk]


def test_a_draft_that_used_little_of_a_chunk_makes_it_a_candidate(trial: Trial) -> None:
    draft, length = "a" * 32, 8 * MIB
    chunk = trial.bench.call(table.ALLOCATE, m.Allocate(count=1, length=length, replication=3)).grants[0].chunk
    receipts = trial.receipts(chunk, length, "d" * 32, principal="anybody")
    put = m.PutFile(path="/a", extents=[m.Extent(chunk, 0, MIB, "1" * 32)])
    trial.bench.call(
        table.STAGE,
        m.Stage(
            op_id=trial.bench.op_id(),
            draft=draft,
            actions=[put],
            chunks=[m.NewChunk(chunk, length, "d" * 32, receipts)],
        ),
    )
    trial.bench.call(table.COMMIT, m.Commit(op_id=trial.bench.op_id(), actions=[], draft=draft))
    assert trial.ordered()[1].length == MIB


def test_safe_modes_hold_it_back_and_gc_now_does_not_wait_for_the_next_turn(trial: Trial) -> None:
    trial.pack({"/a": 1, "/b": 7})
    trial.remove("/b")
    trial.bench.call(table.SET_SAFE_MODE, m.SetSafeMode(on=True))
    assert trial.bench.call(table.COLLECT_GARBAGE, m.CollectGarbage()).compositions_begun == 0
    assert trial.order() is None
    trial.bench.call(table.SET_SAFE_MODE, m.SetSafeMode(on=False))
    assert trial.bench.call(table.COLLECT_GARBAGE, m.CollectGarbage()).compositions_begun == 1


def test_the_rate_holds_orders_back_until_the_debt_is_paid(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    pace = trial.bench.node.parts.compaction._pace
    trial.bench.node.parts.compaction._pace = type(pace)(1024, pace.chunk_size_bytes, pace.ttl_ms)
    trial.bench.node.parts.compaction._allowed = 1.0
    for number in range(2):
        trial.pack({f"/a{number}": 1, f"/b{number}": 7})
        trial.remove(f"/b{number}", sweep=False)
    trial.pass_grace()
    trial.bench.turn("sweep")
    trial.bench.node.parts.compaction._refilled_s = trial.bench.machine.monotonic_s()
    paper, command = trial.ordered()
    assert len(command.sources) == 2
    trial.answer(paper, command)
    trial.pack({"/x": 1, "/y": 7})
    trial.remove("/y", sweep=False)
    trial.bench.store.write_blocking(lambda tx: tx.run("UPDATE retired SET at_ms = 0"))
    trial.bench.turn("sweep")
    assert trial.order() is None
    for _ in range(2):
        trial.pass_grace()
    assert trial.order() is not None, "2 MiB at 1 KiB a second are half an hour"
    trial.bench.close()


def test_an_extent_that_is_not_what_the_plan_saw_stays_where_it_is(trial: Trial) -> None:
    old = trial.pack({"/a": 1, "/b": 1, "/c": 8})
    trial.remove("/c")
    paper, command = trial.ordered()
    trial.bench.store.write_blocking(
        lambda tx: tx.run("UPDATE extent SET digest = ? WHERE chunk_offset = ?", (bytes(16), MIB))
    )
    trial.answer(paper, command)
    assert trial.place("/a")[0] == command.chunk
    assert trial.place("/b") == (old, MIB, MIB, bytes(16).hex())
    assert trial.states() == {old: 0, command.chunk: 0}
    trial.check()
    assert [source.chunk for source in trial.ordered()[1].sources] == [old], "what is left goes the next time"
