"""What operators are told: findings and their fixes, the verdict of fsck, the first lines of status."""

import dataclasses
from typing import Any

import pytest

from dfs.cli.admin import seconds_of
from dfs.cli.doctor import skew_text
from dfs.cli.fsck import Findings, file_lines, how_far, whole_files
from dfs.cli.scrub import AGAIN_AFTER_S, Scrub, silent, those_to_scrub
from dfs.cli.wellbeing import health, is_healthy
from dfs.diagnosis import SCRUB_AGE_S, Facts, Finding, Probe, diagnose, summary
from dfs.protocol.errors import Conflict
from dfs.protocol.messages import (
    BackupStatus,
    Balancing,
    ChunkHealth,
    DatanodeStatus,
    FileHealth,
    FsckPage,
    HealthState,
    ReplicaPlace,
    Status,
    VolumeState,
)

ID = "0" * 32


def node(number: int, **changes: Any) -> DatanodeStatus:
    volume = VolumeState(id=ID, state="in_service", capacity_bytes=100, free_bytes=50, **changes.pop("volume", {}))
    facts = {
        "id": f"dn{number}", "url": f"http://h:{number}", "peer_url": "http://p", "rack": "r", "state": "live",
        "seconds_since_heartbeat": 1.0, "version": "1", "capacity_bytes": 100, "free_bytes": 50, "used_bytes": 10,
        "replicas": 4, "volumes": [volume],
    }  # fmt: skip
    return DatanodeStatus(**{**facts, **changes})


def backup(**changes: Any) -> BackupStatus:
    facts = {
        "seq": 1, "made_ms": 1, "age_s": 5.0, "behind_s": 0.0, "snapshot_age_s": 9.0, "bytes": 1, "interval_s": 60.0
    }  # fmt: skip
    return BackupStatus(**{**facts, **changes})


def status(*datanodes: DatanodeStatus, **changes: Any) -> Status:
    facts = {
        "cluster": ID, "version": "1", "uptime_s": 1, "seq": 1, "files": 1, "directories": 1, "bytes": 1, "chunks": 9,
        "replicas": 27, "under_replicated": 0, "missing": 0, "waiting_for_deletion": 0, "drafts": 0, "safe_modes": [],
        "datanodes": list(datanodes) or [node(1), node(2), node(3)], "replication": 3, "write_min": 2,
        "backup": backup(),
    }  # fmt: skip
    return Status(**{**facts, **changes})


# --- doctor -----------------------------------------------------------------------------------------------------


def facts_of(found: Status, **probes: Probe) -> Facts:
    answers = {each.id: Probe(each.url, 0.01, 200, 0.0) for each in found.datanodes} | probes
    return Facts("1", {"http://n": Probe("http://n", 0.01, 200, 0.0)}, answers, found)


def test_a_cluster_that_is_well_has_no_findings() -> None:
    facts = facts_of(status())
    assert diagnose(facts) == []
    assert summary(facts, []).startswith("All is well: the namenode and 3 datanodes answer")


@pytest.mark.parametrize(
    ("found", "probes", "level", "says", "fix"),
    [
        (status(), {"dn2": Probe("u", 3, error="timed out")}, "problem", "can't be reached", "--client-url"),
        (status(), {"dn2": Probe("u", 1, 503)}, "problem", "not well", "/healthz"),
        (status(), {"dn2": Probe("u", 1, 200, 30.0)}, "warning", "30 s ahead of", "time service"),
        (status(), {"dn2": Probe("u", 1, 200, -400.0)}, "problem", "400 s behind", "time service"),
        (status(missing=2, under_replicated=2), {}, "problem", "2 chunks can't be read", "dfs fsck"),
        (status(under_replicated=2), {}, "warning", "2 chunks have fewer", "dfs status"),
        (status(safe_modes=["operator: held"]), {}, "warning", "an operator holds", "dfs admin safemode off"),
        (status(durability="none"), {}, "warning", "may be lost", "durability"),
        (status(backup=None), {}, "warning", "not backed up", "--backup-interval-s"),
        (status(backup=backup(behind_s=700.0)), {}, "warning", "on the namenode's disk alone", "dfs admin backup"),
        (status(backup=backup(behind_s=70.0, failure="no room")), {}, "warning", "up: no room", "dfs admin backup"),
        (status(node(1), node(2), node(3), node(4, state="dead")), {}, "problem", "is dead", "start it again"),
        (status(*map(node, (1, 2, 3)), node(4, version="2")), {}, "warning", "version 2", "same version"),
        (status(*map(node, (1, 2, 3)), node(4, admin_state="decommissioned")), {}, "warning", "decom", "forget dn4"),
        (status(*map(node, (1, 2, 3)), node(4, admin_state="maintenance")), {}, "warning", "maint", "recommission dn4"),
        (status(*map(node, (1, 2, 3)), node(4, free_bytes=5)), {}, "warning", "5% of its space", "add a disk"),
        (status(*map(node, (1, 2, 3)), node(4, free_bytes=1)), {}, "problem", "1% of its space", "add a disk"),
        (status(*map(node, (1, 2, 3)), node(4, volume={"read_errors": 3})), {}, "warning", "3 failed", "smartctl"),
        (
            status(*map(node, (1, 2, 3)), node(4, volume={"scrub_age_s": 2 * SCRUB_AGE_S})),
            {}, "warning", "28 days", "scrub",
        ),
    ],
)  # fmt: skip
def test_every_finding_says_what_is_wrong_and_what_mends_it(
    found: Status, probes: dict[str, Probe], level: str, says: str, fix: str
) -> None:
    (finding,) = diagnose(facts_of(found, **probes))
    assert finding.level == level
    assert says in finding.what
    assert fix in finding.fix


def test_problems_come_first_and_a_namenode_that_is_away_is_one() -> None:
    facts = facts_of(status(node(1), node(2), node(3, state="dead"), safe_modes=["cold start"]))
    levels = [finding.level for finding in diagnose(facts)]
    assert levels == sorted(levels)
    assert len(levels) == 3
    away = Facts("1", {"http://n": Probe("http://n", error="connection refused")}, {}, None, "nobody")
    assert [finding.what for finding in diagnose(away)] == ["does not answer (connection refused)"]
    assert dataclasses.asdict(Finding("problem", "a", "b", "c"))["fix"] == "c"


# --- fsck -------------------------------------------------------------------------------------------------------


def chunk(number: int, state: HealthState) -> ChunkHealth:
    place = ReplicaPlace(datanode="dn1", url="http://h", volume=ID, state="good", live=state != "unavailable")
    return ChunkHealth(id=f"{number:032x}", length=10, state=state, replication=3, replicas=[place])


def file(path: str, *states: HealthState, complete: bool = True, worst: HealthState = "healthy") -> FileHealth:
    chunks = [chunk(number, state) for number, state in enumerate(states)]
    return FileHealth(path=path, size=30, state=worst, chunks=chunks, complete=complete)


def page(*files: FileHealth) -> FsckPage:
    return FsckPage(files=list(files), files_seen=3, directories_seen=1, bytes_seen=90, repairs=0)


@pytest.mark.parametrize(
    ("states", "code", "word"),
    [
        ([], 0, "Healthy"),
        (["under_replicated"], 1, "Degraded"),
        (["under_replicated", "unavailable"], 5, "Unreadable now"),
        (["unavailable", "corrupt"], 6, "Corrupt"),
        (["under_replicated", "missing", "unavailable"], 6, "Lost"),
    ],
)
def test_the_exit_code_and_the_first_line_are_those_of_the_worst(
    states: list[HealthState], code: int, word: str
) -> None:
    found = Findings()
    found.count(page())
    for number, state in enumerate(states):
        found.add(file(f"/{number}", state, worst=state))
    assert found.exit_code == code
    assert found.sentences()[0].startswith(f"{word}: ")
    assert len(found.sentences()) == max(1, len(states))
    assert found.record()["healthy"] is (not states)


def test_the_parts_of_a_long_file_are_one_file_as_bad_as_its_worst_part() -> None:
    parts = [
        page(file("/a", "healthy"), file("/b", "under_replicated", complete=False, worst="under_replicated")),
        page(file("/b", "missing", "missing", worst="missing"), file("/c", worst="corrupt")),
    ]
    found = list(whole_files(parts))
    assert [(each.path, each.state, len(each.chunks)) for each in found] == [
        ("/a", "healthy", 1), ("/b", "missing", 2), ("/c", "corrupt", 0),
    ]  # fmt: skip


def test_chunks_and_locations_are_listed_where_they_are_asked_for() -> None:
    lost = file("/a", "unavailable", worst="unavailable")
    assert list(file_lines(lost, chunks=False, locations=False, exact=True)) == ["/a  30  its datanodes are away\n"]
    lines = list(file_lines(lost, chunks=True, locations=True, exact=True))
    assert "0 of 3 replicas  unavailable" in lines[1]
    assert lines[2].endswith("good, away\n")


def test_a_walk_says_how_long_it_still_takes_where_the_number_of_files_is_known() -> None:
    assert how_far(50, 200, 10.0) == "50 of 200 files checked, 0:30 left"
    assert how_far(50, 0, 10.0) == "50 files checked"


# --- status and admin -------------------------------------------------------------------------------------------


def test_status_says_when_the_repair_will_be_done() -> None:
    assert health(status(under_replicated=3, repair_eta_s=130.0))[0].endswith(
        "copies are being made, done in about 2 min 10 s"
    )


def test_what_operators_decided_is_told_and_takes_nothing_from_the_health() -> None:
    drained = node(4, admin_state="draining", chunks_left=7, drain_eta_s=60.0)
    found = status(
        *map(node, (1, 2, 3)), drained, node(5, admin_state="maintenance", state="dead"), durability="none",
        balance=Balancing(threshold=0.1, spread=0.25, moving=2, moved=40),
    )  # fmt: skip
    assert is_healthy(found)
    first, draining, away, balance, durability = health(found)
    assert first == "Healthy: every chunk has its replicas"
    assert draining.endswith("is being drained, 7 chunks left, 1 min to go")
    assert "in maintenance" in away
    assert balance == "Balancing: 40 chunks moved, 2 under way, the farthest datanode is 25% from the mean"
    assert durability.startswith("Durability is none: ")


def test_datanodes_out_of_service_do_not_count_for_new_files() -> None:
    found = status(node(1), node(2), node(3, admin_state="draining"))
    assert not is_healthy(found)
    assert health(found)[0].startswith("Degraded: new files get 2 replicas instead of 3")


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("1h30min", 5400), ("2d", 172_800), ("x", 0), ("5", 0), ("", 0)]
)
def test_durations_are_numbers_with_units(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


# --- scrub ------------------------------------------------------------------------------------------------------


class Asked:
    """What a scrub asked datanodes for, at which time."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.told: list[list[str]] = []

    def scrub(self, *datanodes: str) -> Scrub:
        return Scrub(datanodes, lambda names: self.told.append(list(names)), lambda: self.now_s)


def test_a_scrub_has_ended_when_every_byte_was_verified_since_it_was_asked_for() -> None:
    old = node(1, volume={"scrub_age_s": 60.0, "scrub_left": 0.4}, seconds_since_heartbeat=2.0)
    done = node(2, volume={"scrub_age_s": 60.0}, seconds_since_heartbeat=2.0)
    asked = Asked()
    scrub, of_one = asked.scrub("dn1", "dn2"), asked.scrub("dn2")
    asked.now_s += 20.0
    assert scrub.left(status(old, done)) == "2 disks are being verified, 40% of one is left"
    assert of_one.left(status(old, done)) == "1 disk is being verified, 1% of it is left"
    asked.now_s += 43.0
    assert of_one.left(status(old, done)) is None
    assert asked.scrub("dn1").left(status(node(1, state="dead", volume={"scrub_age_s": 99.0}))) is None


def test_a_scrub_whose_command_was_lost_is_asked_for_again_and_one_that_goes_on_is_not() -> None:
    deaf = node(1, volume={"scrub_age_s": 500.0}, seconds_since_heartbeat=1.0)
    busy = node(2, volume={"scrub_age_s": 500.0, "scrub_left": 0.9}, seconds_since_heartbeat=1.0)
    asked = Asked()
    scrub = asked.scrub("dn1", "dn2")
    asked.now_s += AGAIN_AFTER_S
    scrub.left(status(deaf, busy))
    assert asked.told == [["dn1", "dn2"]]
    asked.now_s += 2.0
    assert scrub.left(status(deaf, busy)) is not None
    assert asked.told == [["dn1", "dn2"], ["dn1"]]
    scrub.left(status(deaf, busy))
    assert len(asked.told) == 2


def test_a_datanode_that_is_silent_is_not_said_to_have_verified_anything() -> None:
    found = status(node(1), node(2, state="dead"), node(3, state="stale"))
    assert those_to_scrub(found, ()) == ["dn1"]
    assert those_to_scrub(found, ["dn1", "unknown"]) == ["dn1", "unknown"]
    with pytest.raises(Conflict, match="dn2 is dead, and can't verify anything"):
        those_to_scrub(found, ["dn2"])
    assert silent(found) == ["dn2", "dn3"]


# --- numbers and nouns ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (status(missing=1, under_replicated=1), "1 chunk can't be read now"),
        (status(under_replicated=1), "1 chunk has fewer replicas than wanted"),
        (status(node(1, volume={"read_errors": 1}), node(2), node(3)), "had 1 failed read"),
        (status(node(1), node(2), write_min=1, replication=2, missing=1), "1 chunk can't be read now"),
        (status(node(1), write_min=1, replication=2), "new files get 1 replica instead of 2"),
        (status(backup=backup(behind_s=7200.0)), "the changes of the last 2 h are on the namenode's disk alone"),
        (
            status(safe_modes=["operator: deletion and repair are held back until somebody ends it"]),
            "an operator holds deletion and repair back",
        ),
    ],
)
def test_findings_count_as_people_do(found: Status, says: str) -> None:
    (finding,) = diagnose(facts_of(found))
    assert finding.what.endswith(says)


def test_one_problem_and_one_datanode_are_singular() -> None:
    found = status(node(1), write_min=1, replication=1)
    assert "and 1 datanode answer" in summary(facts_of(found), [])
    finding = Finding("problem", "a", "b", "c")
    assert summary(facts_of(found), [finding]) == "1 problem; 1 of 1 datanode answer this machine"


def test_a_datanode_that_has_just_stopped_is_not_blamed_on_the_network_alone() -> None:
    found = status(node(1), node(2), node(3, seconds_since_heartbeat=7.0))
    (finding,) = diagnose(facts_of(found, dn3=Probe("u", 0.1, error="connection refused")))
    assert "its last heartbeat came 7 s ago" in finding.what
    assert finding.fix.startswith("start it")


def test_a_clock_that_agrees_is_shown_as_such() -> None:
    assert [skew_text(-0.8), skew_text(0.4), skew_text(12.3), skew_text(-400.0)] == ["same", "same", "+12 s", "-400 s"]


def test_a_drain_that_has_nowhere_to_go_says_what_it_needs() -> None:
    found = status(node(1), node(2), node(3, admin_state="draining", chunks_left=4, drain_eta_s=9.0))
    told = next(line for line in health(found) if "is being drained" in line)
    assert told.endswith("4 chunks left; files with 3 replicas need as many other datanodes, and 2 are live and in "
                         "service: start more")  # fmt: skip
    enough = status(*map(node, (1, 2, 3)), node(4, admin_state="draining", chunks_left=1, drain_eta_s=9.0))
    assert next(line for line in health(enough) if "drained" in line).endswith("1 chunk left, 9 s to go")


# --- the first line of status -----------------------------------------------------------------------------------

V1, V2 = "1" * 32, "2" * 32
SILENT: dict[str, Any] = {"state": "dead", "seconds_since_heartbeat": 400.0}


def failed_volume(number: int) -> DatanodeStatus:
    return node(number, volumes=[VolumeState(id=V1, state="failed", capacity_bytes=0, free_bytes=0)])


def full(number: int) -> DatanodeStatus:
    return node(
        number, free_bytes=0, used_bytes=90,
        volumes=[VolumeState(id=V1, state="full", capacity_bytes=100, free_bytes=0, used_bytes=90)],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (status(), "Healthy: every chunk has its replicas"),
        (status(chunks=0, files=0), "Healthy: ready to store files, none yet"),
        (
            status(node(1), node(2), node(3), node(4, **SILENT), missing=3, under_replicated=3, unreadable_files=12),
            "Unreadable now: 12 files (3 chunks), because dn4 is dead: start it again; `dfs fsck` names the files",
        ),
        (
            status(node(1), node(2), *(node(n, **SILENT) for n in range(3, 8)), missing=1, under_replicated=1),
            ("Unreadable now: 1 chunk, because dn3, dn4, dn5 and 2 more are dead: start them again; `dfs fsck` names "
            "the files"),
        ),
        (
            status(node(1), node(2), failed_volume(3), missing=1, under_replicated=1, unreadable_files=10_000),
            (f"Unreadable now: more than 10000 files (1 chunk), because the volume {V1} of dn3 failed: bring it back; "
            "`dfs fsck` names the files"),
        ),
        (
            status(missing=1, under_replicated=1, unreadable_files=1),
            ("Unreadable now: 1 file (1 chunk), because no datanode that is known has a good replica: if one was "
            "forgotten or replaced, bring it back; `dfs fsck` names the files"),
        ),
        (
            status(under_replicated=3, repair_eta_s=130.0),
            "Degraded: 3 chunks have fewer replicas than wanted; copies are being made, done in about 2 min 10 s",
        ),
        (
            status(under_replicated=1),
            "Degraded: 1 chunk has fewer replicas than wanted; copies are being made",
        ),
        (
            status(node(1), node(2), node(3, **SILENT), under_replicated=3),
            ("Degraded: new files get 2 replicas instead of 3: that is how many datanodes are live and in service; "
            "start another"),
        ),
        (
            status(node(1), node(2, **SILENT), node(3, **SILENT), under_replicated=9),
            "No new files now: 1 of 3 datanodes is live and in service, 2 are needed; start more",
        ),
        (
            status(full(1), full(2), full(3)),
            "Full: no datanode has room, and new files need 2; remove files, or add a datanode. Everything can be read",
        ),
        (
            status(node(1), full(2), full(3)),
            ("Full: only 1 datanode has room, and new files need 2; remove files, or add a datanode. Everything can be "
            "read"),
        ),
        (
            status(node(1), node(2), full(3)),
            "Degraded: new files get 2 replicas instead of 3: that is how many datanodes have room; start another",
        ),
        (
            status(safe_modes=["history: datanodes have seen newer changes than this store has"]),
            ("Out of date: the datanodes have seen newer changes than this namenode's store has, as after a restore "
            "from a backup; nothing is deleted or repaired until `dfs admin rebuild --from-datanodes` has brought the "
            "newer files back and `dfs admin resolve-history` has been said"),
        ),
        (
            status(safe_modes=["cold start: 1 of 3 datanodes have not been heard yet"]),
            (
                "Starting: 1 of 3 datanodes have not been heard yet; deletion and repair wait for it, reading and "
                "writing do not"
            ),
        ),
        (
            status(
                *map(node, range(1, 4)), *(node(n, **SILENT) for n in (4, 5)),
                safe_modes=["mass outage: 2 of 5 datanodes are dead"],
            ),
            ("Outage: 2 of 5 datanodes are dead; deletion and repair wait until they are back, or said to be gone with "
            "`dfs admin forget`"),
        ),
        (
            status(safe_modes=["operator: deletion and repair are held back until somebody ends it"]),
            "Safe mode: an operator holds deletion and repair back; `dfs admin safemode off` ends it",
        ),
    ],
)  # fmt: skip
def test_the_first_line_of_status_says_what_matters_most(found: Status, sentence: str) -> None:
    assert health(found)[0] == sentence
    assert is_healthy(found) is sentence.startswith("Healthy")


def test_what_is_repaired_comes_with_why_it_waits() -> None:
    found = status(
        node(1), node(2), node(3), node(4, **SILENT), node(5, **SILENT), under_replicated=7,
        safe_modes=["mass outage: 2 of 5 datanodes are dead"],
    )  # fmt: skip
    first, second, *_ = health(found)
    assert first == "Degraded: 7 chunks have fewer replicas than wanted; repair waits"
    assert second.startswith("Outage: 2 of 5")


def test_a_volume_that_failed_and_a_cluster_that_is_nearly_full_are_told_below() -> None:
    two = [
        VolumeState(id=V1, state="failed", capacity_bytes=100, free_bytes=0),
        VolumeState(id=V2, state="in_service", capacity_bytes=100, free_bytes=4, used_bytes=96),
    ]
    first, *others = health(status(node(1, volumes=two, free_bytes=1, used_bytes=96), node(2), node(3)))
    assert first == "Healthy: every chunk has its replicas"
    assert others == [
        f"The volume {V1} of dn1 failed: what it has is made anew elsewhere, and counts again once it is back"
    ]
    tight = [node(number, free_bytes=5, used_bytes=95) for number in (1, 2, 3)]
    assert health(status(*tight))[1] == "Nearly full: 95% of the space is used; remove files, or add a datanode"


def test_without_datanodes_status_says_how_to_start_one() -> None:
    found = status(node(1))
    empty = Status(**{name: getattr(found, name) for name in found.__struct_fields__} | {"datanodes": []})
    assert health(empty) == ["No datanodes yet: nothing can be stored; start one with `dfs datanode --namenode URL`"]


def test_a_store_that_is_not_backed_up_is_told_and_one_that_waits_for_its_next_turn_is_not() -> None:
    assert len(health(status(backup=backup(behind_s=59.0)))) == 1
    assert len(health(status(backup=backup(interval_s=0.0, behind_s=9999.0)))) == 1, "nobody wants one"
    told = health(status(backup=backup(behind_s=90.0, failure="no room")))[1]
    assert "1 min 30 s" in told
    assert told.endswith("on the namenode's disk alone; the last try to back them up: no room")


def test_a_brake_on_deletions_is_told_and_takes_nothing_from_the_health() -> None:  # F65
    first, second = health(status(safe_modes=["brake: so many chunks became garbage that they are deleted slowly"]))
    assert first == "Healthy: every chunk has its replicas"
    assert second == "Deleting slowly: so many chunks became garbage that they are deleted slowly"
