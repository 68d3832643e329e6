"""A process that commits without pause is killed at any moment: what it acknowledged is there, whole. F19, F20, F21."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dfs.protocol.clock import SystemClock
from dfs.protocol.ids import new_id
from dfs.protocol.messages import Commit, MakeDirectory, PutFile
from dfs_namenode.store import namespace
from dfs_namenode.store.sqlite import SqliteStore
from fixtures.namenode_store import Bench

TESTS = Path(__file__).resolve().parent.parent

WRITER = """
import asyncio, sys
sys.path.insert(0, sys.argv[2])
from fixtures.namenode_store import Bench, FakeClock, piece
from dfs.protocol.clock import SystemClock
from dfs.protocol.messages import Commit, PutFile
from dfs_namenode.operations.commit import commit
from dfs_namenode.store.sqlite import SqliteStore
from dfs_namenode.store.writer import WriterLimits

store = SqliteStore.open(sys.argv[1], clock=SystemClock(), limits=WriterLimits(wal_pages=50))
bench = Bench(store, FakeClock(SystemClock().wall_ms()), seed=int(sys.argv[3]))
life = sys.argv[3]

async def one(lane):
    for number in range(1_000_000):
        data = b"0123456789"
        chunk = bench.chunk(data)
        actions = [
            PutFile(path=f"/{life}/{lane}/{number}/{part}", extents=[piece(chunk, data, part, 1)], parents=True)
            for part in range(3)
        ]
        op_id = bench.new_id()
        done = await commit(
            Commit(op_id=op_id, actions=actions, chunks=[chunk]), principal="anonymous", store=store,
            cluster=bench.cluster, keys=bench.keys, rules=bench.rules,
        )
        print(f"{life} {lane} {number} {done.seq} {op_id}", flush=True)

async def main():
    await asyncio.gather(*[one(lane) for lane in range(6)])

print("begun", flush=True)
bench.run(main())
"""


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_what_was_acknowledged_before_a_kill_is_there_afterwards(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    directory = str(tmp_path / "store")
    acknowledged: list[list[str]] = []
    for life in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, directory, str(TESTS), str(life)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            time.sleep(rng.uniform(0.05, 0.5))
            process.send_signal(signal.SIGKILL)
            lines = process.stdout.read().splitlines()
        # A line that the kill cut off was not an acknowledgement that anybody could read.
        acknowledged += [line.split() for line in lines if len(line.split()) == 5 and len(line.split()[4]) == 32]
    print(f"seed {seed}: {len(acknowledged)} commits were acknowledged")
    assert acknowledged
    store = SqliteStore.open(directory, clock=SystemClock())
    with store.read() as snapshot:
        assert snapshot.rows("PRAGMA integrity_check") == [("ok",)]
        for life, lane, number, seq, op_id in acknowledged:
            for part in range(3):
                inode = namespace.find(snapshot, (life, lane, number, str(part))).inode
                assert inode is not None
                assert inode.version == int(seq)
            assert snapshot.value("SELECT seq FROM op_result WHERE op_id = ?", (bytes.fromhex(op_id),)) == int(seq)
        # Nothing is there by halves: each commit put three files.
        counts = snapshot.rows("SELECT version, count(*) FROM inode WHERE kind = 0 GROUP BY version")
        assert {count for _, count in counts} == {3}
        files = snapshot.value("SELECT count(*) FROM inode WHERE kind = 0")
        assert files == 3 * snapshot.value("SELECT count(*) FROM op_result")
        # At most what was under way in six lanes of two lives came without its acknowledgement.
        assert len(acknowledged) <= files // 3 <= len(acknowledged) + 12
        top = snapshot.value("SELECT max(seq) FROM op_result")
    assert store.write_blocking(lambda tx: tx.seq) > top
    store.close()


def test_a_repetition_after_a_kill_answers_what_was_done_before_it(tmp_path: Path) -> None:
    # F21: the answer was lost, not the operation.
    directory = str(tmp_path / "store")
    op_id = new_id(SystemClock().wall_ms())
    request = Commit(op_id=op_id, actions=[MakeDirectory(path="/d"), PutFile(path="/d/f")])
    script = (
        "import os, sys\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from fixtures.namenode_store import Bench, FakeClock\n"
        "from dfs.protocol.clock import SystemClock\n"
        "from dfs.protocol.messages import Commit, MakeDirectory, PutFile\n"
        "from dfs_namenode.store.sqlite import SqliteStore\n"
        "clock = SystemClock()\n"
        "store = SqliteStore.open(sys.argv[1], clock=clock)\n"
        "bench = Bench(store, FakeClock(clock.wall_ms()))\n"
        "done = bench.commit(MakeDirectory(path='/d'), PutFile(path='/d/f'), op_id=sys.argv[3])\n"
        "print(done.seq, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, directory, str(TESTS), op_id], stdout=subprocess.PIPE, text=True, check=False
    )
    assert process.returncode == -signal.SIGKILL
    store = SqliteStore.open(directory, clock=SystemClock())
    bench = Bench(store, SystemClock(), datanode_count=0)  # type: ignore[arg-type]
    before = bench.rows("SELECT * FROM inode")
    assert bench.commit_request(request).seq == int(process.stdout)
    assert bench.rows("SELECT * FROM inode") == before
    bench.close()
    store.close()
