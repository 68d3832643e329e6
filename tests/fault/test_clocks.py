"""Clocks that are wrong or jump: what is true stays true, and only expiries shift."""

import time

import pytest

import dfs
from dfs.testing import cluster
from fixtures.faults import MIB, good_replicas, seeded, wait_until, wrong_replicas

DAY_S = 86_400


@pytest.mark.parametrize("shift_s", [-DAY_S, DAY_S])
def test_a_datanode_that_lives_on_another_day_works_like_the_others(shift_s: int) -> None:  # F50
    data = seeded(f"day {shift_s}").randbytes(MIB)
    with cluster(2, movable_clocks=True, read_grace_s=1, report_interval_s=1) as running:
        wrong = running.datanodes[1]
        fs = running.connect()
        fs.write_bytes("/before", data)
        # While it runs, and through a restart; each write needs both datanodes.
        for number in range(2):
            wrong.shift_clock(shift_s)
            if number:
                wrong.kill()
                wrong.restart()
                running.wait_writable()
            with running.connect() as other:
                other.write_bytes(f"/during-{number}", data)
                assert [len(good) for good in good_replicas(other, f"/during-{number}")] == [2]
                running.datanodes[0].stop()
                try:
                    # It alone judges the capabilities now.
                    assert other.read_bytes("/before") == data
                    assert other.read_bytes(f"/during-{number}") == data
                finally:
                    running.datanodes[0].cont()
            running.wait_writable()
        # A day ahead, its own clock would say that everything is old enough to be collected.
        fs.collect_garbage()
        time.sleep(1.5)
        for path in ("/before", "/during-0", "/during-1"):
            assert wrong_replicas(running, fs, path, data) == []


@pytest.mark.parametrize("shift_s", [-DAY_S, DAY_S])
def test_a_namenode_whose_clock_jumps_keeps_what_it_acknowledged(shift_s: int) -> None:  # F51 F93
    rng = seeded(f"jump {shift_s}")
    with cluster(3, movable_clocks=True, chunk_size_bytes=256 * 1024, report_interval_s=1) as running:
        fs = running.connect()
        contents = {"/before": rng.randbytes(MIB)}
        fs.write_bytes("/before", contents["/before"])
        late = rng.randbytes(MIB)
        with fs.open("/late", "wb") as waiting:
            # Chunks that are stored and wait for their commit.
            waiting.write(late)
            running.namenode.shift_clock(shift_s)
            fs.write_bytes("/running", contents["/before"])
            running.namenode.kill()
            running.namenode.restart()
            running.wait_writable()
            fs.collect_garbage()
            time.sleep(2)
            try:
                waiting.close()
                contents["/late"] = late
            except dfs.errors.DfsError as error:
                print(f"the commit was refused: {error}")
        for path in (*contents, "/running"):
            expected = contents.get(path, contents["/before"])
            assert fs.read_bytes(path) == expected
            assert wrong_replicas(running, fs, path, expected) == []
        assert fs.exists("/late") == ("/late" in contents), "acknowledged and there, or refused and not there"
        running.namenode.shift_clock(0)
        running.namenode.kill()
        running.namenode.restart()
        wait_until(lambda: fs.status().safe_modes == [], 20, "all is as it was")
        for path, data in contents.items():
            assert fs.read_bytes(path) == data
        fs.write_bytes("/after", late)
