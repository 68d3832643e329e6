"""What operators are told: findings and their fixes, the verdict of fsck, the first lines of status."""

import dataclasses
from typing import Any

import pytest

from dfs.cli.admin import scrubbing, seconds_of
from dfs.cli.fsck import Findings, file_lines, how_far, whole_files
from dfs.cli.status import health, is_healthy
from dfs.diagnosis import SCRUB_AGE_S, Facts, Finding, Probe, diagnose, summary
from dfs.protocol.messages import (
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


def status(*datanodes: DatanodeStatus, **changes: Any) -> Status:
    facts = {
        "cluster": ID, "version": "1", "uptime_s": 1, "seq": 1, "files": 1, "directories": 1, "bytes": 1, "chunks": 9,
        "replicas": 27, "under_replicated": 0, "missing": 0, "waiting_for_deletion": 0, "drafts": 0, "safe_modes": [],
        "datanodes": list(datanodes) or [node(1), node(2), node(3)], "replication": 3, "write_min": 2,
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
        (status(safe_modes=["operator: held"]), {}, "warning", "held back", "dfs admin safemode off"),
        (status(durability="none"), {}, "warning", "may be lost", "durability"),
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
    assert health(status(under_replicated=3, repair_eta_s=130.0))[0].endswith("copies are being made, 2 min 10 s left")


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


def test_a_scrub_has_ended_when_every_byte_was_verified_since_it_was_asked_for() -> None:
    old = node(1, volume={"scrub_age_s": 50.0, "scrub_left": 0.4}, seconds_since_heartbeat=2.0)
    done = node(2, volume={"scrub_age_s": 50.0}, seconds_since_heartbeat=2.0)
    assert scrubbing(status(old, done), (), 51.0) == "2 disks are being verified, 40% of one is left"
    assert scrubbing(status(old, done), ("dn2",), 53.0) is None
    assert scrubbing(status(node(1, state="dead", volume={"scrub_age_s": 99.0})), (), 1.0) is None
