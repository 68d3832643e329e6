"""The scrubber: every byte in its period, suspects first, resumable, gentle; and what it tells of what it finds."""

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfs.protocol.chunk_format import HEADER_SIZE
from dfs_datanode import scrub
from dfs_datanode.findings import KEPT_MAX, Findings
from dfs_datanode.outbox import Outbox
from dfs_datanode.scrub import PARTS, Pace
from dfs_datanode.scrubbing import Scrubber
from fixtures.disks import EIO, EMFILE, FaultyDisk, header_for, make_store, store_chunk, wire_footer

DAY_MS = 86_400_000
PERIOD_S = 14 * 86_400.0
PACE = Pace(PERIOD_S, 4 << 20, 64 << 20)


class Clock:
    def __init__(self) -> None:
        self.now_ms = 1_000 * DAY_MS

    def wall_ms(self) -> int:
        return self.now_ms

    def monotonic_s(self) -> float:
        return self.now_ms / 1000


# --- what is read when


def test_nothing_is_read_again_before_half_of_the_period() -> None:
    progress = scrub.beginning(1000 * DAY_MS)
    assert scrub.next_part(progress, 1006 * DAY_MS, PERIOD_S) is None
    assert scrub.rest_s(progress, 1006 * DAY_MS, PERIOD_S) == pytest.approx(86_400)
    assert scrub.next_part(progress, 1007 * DAY_MS, PERIOD_S) == 0
    assert scrub.left(progress, 1007 * DAY_MS, PERIOD_S) == 1.0


def test_the_part_that_was_verified_longest_ago_comes_first_and_one_in_progress_goes_on() -> None:
    now_ms = 1008 * DAY_MS
    verified = [1005 * DAY_MS] * PARTS
    verified[17] = 1000 * DAY_MS
    progress = scrub.Progress(verified_ms=tuple(verified))
    assert scrub.next_part(progress, now_ms, PERIOD_S) == 17
    assert scrub.age_s(progress, now_ms) == 8 * 86_400
    begun = scrub.began(progress, 17, now_ms)
    assert scrub.next_part(begun, now_ms, PERIOD_S) == 17
    done = scrub.ended(scrub.read(begun, "f" * 32))
    assert done.verified_ms[17] == now_ms
    assert scrub.next_part(done, now_ms, PERIOD_S) is None
    assert scrub.age_s(done, now_ms) == 3 * 86_400


def test_a_scrub_that_is_asked_for_reads_everything_once_at_full_pace_and_no_more() -> None:
    now_ms = 1001 * DAY_MS
    progress = scrub.wanted(scrub.beginning(1000 * DAY_MS), now_ms)
    assert scrub.bytes_per_s(progress, now_ms, PACE, used_bytes=0, busy=True) == PACE.most
    seen = []
    while (part := scrub.next_part(progress, now_ms, PERIOD_S)) is not None:
        seen.append(part)
        progress = scrub.ended(scrub.began(progress, part, now_ms))
    assert sorted(seen) == list(range(PARTS))
    assert scrub.left(progress, now_ms, PERIOD_S) == 0.0
    assert scrub.bytes_per_s(progress, now_ms, PACE, used_bytes=0, busy=False) == PACE.least


@settings(max_examples=12, deadline=None)
@given(used_tb=st.floats(0.001, 20), busy=st.booleans(), start=st.integers(0, PARTS - 1))
def test_every_byte_is_read_within_the_period(used_tb: float, busy: bool, start: int) -> None:
    """On a volume that others use always or never, and whose parts were verified at one moment or at two."""
    used = int(used_tb * 1e12)
    now_ms = 1000 * DAY_MS
    progress = scrub.Progress(verified_ms=tuple(now_ms - (part >= start) * 3_600_000 for part in range(PARTS)))
    oldest_s = 0.0
    for _ in range(2 * PARTS):
        part = scrub.next_part(progress, now_ms, PERIOD_S)
        if part is None:
            now_ms += 1 + int(scrub.rest_s(progress, now_ms, PERIOD_S) * 1000)
            continue
        began = scrub.began(progress, part, now_ms)
        rate = scrub.bytes_per_s(began, now_ms, PACE, used_bytes=used, busy=busy)
        now_ms += 1 + int(used / PARTS / rate * 1000)
        oldest_s = max(oldest_s, scrub.age_s(began, now_ms))
        progress = scrub.ended(began)
    assert oldest_s <= PERIOD_S


def test_others_get_the_disk_first_until_the_period_is_nearly_over() -> None:
    progress = scrub.beginning(1000 * DAY_MS)
    rates = [
        scrub.bytes_per_s(progress, day * DAY_MS, PACE, used_bytes=8 << 40, busy=busy)
        for day, busy in ((1007, False), (1007, True), (1013, True))
    ]
    assert rates[0] > rates[1] == rates[0] * scrub.BUSY_SHARE
    assert rates[2] == PACE.most


def test_a_clock_that_was_set_back_keeps_no_part_from_being_read() -> None:
    verified = [1000 * DAY_MS] * PARTS
    verified[5] = 2000 * DAY_MS
    progress = scrub.Progress(verified_ms=tuple(verified))
    now_ms = 1008 * DAY_MS
    seen = set()
    for _ in range(2 * PARTS):
        part = scrub.next_part(progress, now_ms, PERIOD_S)
        if part is None:
            now_ms += 7 * DAY_MS
            continue
        seen.add(part)
        progress = scrub.ended(scrub.began(progress, part, now_ms))
        if now_ms > 1023 * DAY_MS:
            break
    assert scrub.age_s(scrub.beginning(2000 * DAY_MS), now_ms) == 0
    assert len(seen) >= PARTS - 1


# --- what is found


class Trial:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.disk = FaultyDisk()
        self.clock = Clock()
        self.outbox = Outbox()
        self.findings = Findings(self.outbox)
        self.store = make_store(directory, disk=self.disk)
        self.volume = self.store.volumes[0]
        self.clock.now_ms = self.volume.made_ms() + DAY_MS
        self.scrubber = self.new_scrubber()

    def new_scrubber(self) -> Scrubber:
        pace = Pace(PERIOD_S, 1 << 40, 1 << 40)
        return Scrubber(self.volume, self.disk, self.findings, self.clock, pace=pace, busy=lambda: False)

    def add(self, chunk: str, data: bytes = b"some data") -> None:
        store_chunk(self.store, chunk, data)

    def rot(self, chunk: str, offset: int = 0) -> None:
        with open(self.volume.path_of(chunk), "r+b") as file:
            file.seek(HEADER_SIZE + offset)
            byte = file.read(1)[0]
            file.seek(HEADER_SIZE + offset)
            file.write(bytes([byte ^ 1]))

    def round(self) -> None:
        """Let everything be read that is due."""
        self.scrubber.want()
        while self.scrubber.turn() == 0.0:
            pass

    def told(self) -> dict[str, bool]:
        return {one.chunk: one.good for one in self.outbox.batch().checked}


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(tmp_path / "volume")


def chunk_id(number: int) -> str:
    return f"{number:032x}"


def test_rot_in_an_idle_chunk_is_found_and_told(trial: Trial) -> None:  # F39
    for number in range(4):
        trial.add(chunk_id(number), os.urandom(40_000))
    trial.rot(chunk_id(2), offset=39_999)
    trial.round()
    assert trial.told() == {chunk_id(2): False}
    assert "scrub" in trial.findings.why_bad(chunk_id(2))
    assert (trial.scrubber.chunks_read, trial.scrubber.left()) == (4, 0.0)
    assert trial.volume.has(chunk_id(2)), "nothing is removed before it is replaced"


@pytest.mark.parametrize("harm", ["short", "empty", "zero tail", "swapped"])
def test_whatever_became_of_an_idle_file_is_found(trial: Trial, harm: str) -> None:  # F43 F44 F45
    chunk, other = chunk_id(1), chunk_id(0x101)
    for one in (chunk, other):
        trial.add(one, os.urandom(50_000))
    path = trial.volume.path_of(chunk)
    size = os.path.getsize(path)
    if harm == "short":
        os.truncate(path, size - 1)
    elif harm == "empty":
        os.truncate(path, 0)
    elif harm == "zero tail":
        os.truncate(path, size - 4096)
        os.truncate(path, size)
    else:
        os.replace(trial.volume.path_of(other), path)
    trial.round()
    assert trial.told() == {chunk: False}


def test_a_chunk_that_can_not_be_read_is_told_and_the_scrub_goes_on(trial: Trial) -> None:  # F37
    trial.add(chunk_id(1))
    trial.add(chunk_id(2))
    trial.scrubber.turn()
    trial.disk.fail("read", EIO)
    trial.round()
    assert trial.told() == {chunk_id(1): False, chunk_id(2): False}
    assert trial.volume.read_errors == 2


def test_suspects_come_first_and_are_cleared_if_the_disk_has_them_right(trial: Trial) -> None:  # F40
    for number in range(3):
        trial.add(chunk_id(number))
    trial.findings.suspect(chunk_id(2), "a block was damaged")
    assert trial.told() == {chunk_id(2): False}
    assert trial.scrubber.turn() == 0.0
    assert (trial.scrubber.chunks_read, trial.told()) == (1, {chunk_id(2): True})
    assert trial.findings.why_bad(chunk_id(2)) == ""
    assert trial.scrubber.turn() > 0.0, "nothing else is due"


def test_a_file_without_a_bad_block_that_is_not_what_the_namenode_recorded_is_never_cleared(
    trial: Trial,
) -> None:  # F45
    trial.add(chunk_id(1))
    trial.findings.wrong(chunk_id(1), "the replica is not what the namenode recorded")
    trial.findings.suspect(chunk_id(1), "a block was damaged")
    trial.scrubber.turn()
    trial.round()
    assert trial.told() == {chunk_id(1): False}
    trial.findings.right(chunk_id(1))
    assert trial.told() == {chunk_id(1): True}


def test_a_suspect_that_is_bad_stays_bad(trial: Trial) -> None:  # F40
    trial.add(chunk_id(1))
    trial.rot(chunk_id(1))
    trial.findings.suspect(chunk_id(1), "a block was damaged")
    trial.scrubber.turn()
    assert trial.told() == {chunk_id(1): False}
    assert trial.findings.suspects() == []


def test_a_replacement_that_comes_while_the_bad_one_is_read_is_not_taken_for_bad(trial: Trial) -> None:  # F39
    data = os.urandom(2 << 20)
    trial.add(chunk_id(1), data)
    trial.rot(chunk_id(1), offset=(2 << 20) - 1)
    trial.scrubber.want()

    def replace() -> bool:
        if trial.scrubber.bytes_read == 1 << 20 and trial.volume.quarantine.count == 0:
            trial.store.retire(chunk_id(1), now_ms=1, why_bad="why")
            trial.findings.replaced(chunk_id(1))
            with trial.store.storing(header_for(chunk_id(1), len(data)), len(data), again=True) as (writer, _):
                writer.write(data)
                writer.finish(wire_footer(data))
        return False

    trial.scrubber._busy = replace
    while trial.scrubber.turn() == 0.0:
        pass
    assert trial.volume.quarantine.count == 1
    assert trial.told() == {}


def test_a_process_without_descriptors_condemns_nothing_and_misses_nothing(trial: Trial) -> None:  # F89
    trial.add(chunk_id(1))
    trial.rot(chunk_id(1))
    trial.scrubber.want()
    trial.scrubber.turn()
    trial.disk.fail("open", EMFILE)
    while trial.scrubber.turn() == 0.0:
        pass
    assert trial.told() == {}
    trial.disk.heal()
    while trial.scrubber.turn() == 0.0:
        pass
    assert trial.told() == {chunk_id(1): False}


def test_a_scrub_goes_on_after_a_restart_where_it_was(trial: Trial) -> None:
    chunks = [f"{number:030x}7f" for number in range(4)]
    for chunk in chunks:
        trial.add(chunk)
    trial.scrubber.want()
    while trial.scrubber.chunks_read < 2:
        trial.scrubber.turn()
    trial.scrubber.keep()
    trial.scrubber = trial.new_scrubber()
    for chunk in chunks:
        trial.rot(chunk)
    while trial.scrubber.turn() == 0.0:
        pass
    assert sorted(trial.told()) == chunks[2:], "the first two were read before the restart"
    assert trial.scrubber.left() == 0.0


def test_the_age_of_the_oldest_byte_is_told_and_survives(trial: Trial) -> None:
    trial.clock.now_ms = trial.volume.made_ms() + 3 * DAY_MS
    trial.scrubber.turn()
    assert trial.scrubber.age_s() == pytest.approx(3 * 86_400, abs=1)
    trial.round()
    assert trial.scrubber.age_s() == pytest.approx(0, abs=1)
    trial.scrubber.keep()
    trial.clock.now_ms += DAY_MS
    trial.scrubber = trial.new_scrubber()
    trial.scrubber.turn()
    assert trial.scrubber.age_s() == pytest.approx(86_400, abs=1)


@pytest.mark.parametrize("content", [b"", b"{", b'{"verified_ms":[1,2]}', msgspec.json.encode({"verified_ms": ["x"]})])
def test_a_damaged_progress_only_begins_the_scrub_anew(trial: Trial, content: bytes) -> None:
    (trial.directory / "health" / "scrub.json").write_bytes(content)
    trial.add(chunk_id(1))
    trial.rot(chunk_id(1))
    trial.round()
    assert trial.told() == {chunk_id(1): False}


def in_memory(fd: int) -> bool:
    try:
        return os.preadv(fd, [bytearray(4096)], HEADER_SIZE + (1 << 20), os.RWF_NOWAIT) > 0
    except OSError:
        return False


def test_the_scrub_reads_the_disk_and_leaves_nothing_in_memory(trial: Trial) -> None:  # F39
    data = os.urandom(3 << 20)
    trial.add(chunk_id(1), data)
    path = trial.volume.path_of(chunk_id(1))
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        if in_memory(fd):
            pytest.skip("this file system keeps everything in memory")
        trial.round()
        assert trial.scrubber.bytes_read == len(data)
        assert not in_memory(fd)
    finally:
        os.close(fd)


def test_a_scrub_of_a_volume_that_is_gone_waits(trial: Trial) -> None:  # F38
    trial.directory.rename(trial.directory.with_name("unmounted"))
    trial.directory.mkdir()
    trial.volume.check()
    assert trial.scrubber.turn() > 0
    trial.scrubber.keep()
    assert os.listdir(trial.directory) == []


def test_what_is_remembered_of_findings_is_bounded() -> None:
    findings = Findings(Outbox())
    for number in range(KEPT_MAX + 5):
        findings.suspect(chunk_id(number), "why")
    assert len(findings.suspects()) == KEPT_MAX
    assert findings.why_bad(chunk_id(0)) == ""
    assert findings.why_bad(chunk_id(KEPT_MAX)) == "why"
