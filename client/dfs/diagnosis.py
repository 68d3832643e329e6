"""What is wrong with a cluster as seen from here, and what to do about each thing. Pure: facts in, findings out.

Separate from `probing`, which gathers the facts, so that every finding can be tested as a table. A problem keeps
something from working now; a warning will, or hides one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dfs.cli.show import count, human_duration
from dfs.protocol.messages import BackupStatus, DatanodeStatus, Status

SKEW_WARNING_S = 10.0
"""HTTP tells the time to the second, and an answer takes a while: less is no finding."""
SKEW_PROBLEM_S = 300.0
"""Beyond, capabilities and graces end visibly too early or too late (S14)."""
SPACE_WARNING = 0.10
SPACE_PROBLEM = 0.02
"""Shares of a datanode's capacity that are free for new chunks."""
SCRUB_AGE_S = 14 * 86_400.0
"""Every byte is verified within so long, if the scrubber keeps up."""
BACKUP_LATE_S = 600.0
"""Changes that are not backed up for so long are a finding, or for three intervals where those are long."""
_DAY_S = 86_400


@dataclass(frozen=True)
class Probe:
    """What a server's /healthz answered to this client."""

    url: str
    seconds: float = 0.0
    status: int = 0
    """0: there was no answer."""
    skew_s: float | None = None
    """Its clock minus ours; None: it did not say."""
    error: str = ""


@dataclass(frozen=True)
class Finding:
    level: Literal["problem", "warning"]
    about: str
    """The server or subject."""
    what: str
    fix: str
    """The command or step that mends it."""


@dataclass(frozen=True)
class Facts:
    """What was seen."""

    version: str
    """Of this client."""
    namenodes: Mapping[str, Probe]
    """By URL."""
    datanodes: Mapping[str, Probe]
    """By id; none for those that are not expected to answer."""
    status: Status | None
    """None: no namenode answered."""
    why: str = ""
    """Why there is no status."""


def diagnose(facts: Facts) -> list[Finding]:
    """All findings, problems first."""
    found = [*_namenodes(facts)]
    if facts.status is not None:
        found += _cluster(facts.status)
        if facts.version != facts.status.version:
            what = f"is version {facts.version}, the namenode {facts.status.version}"
            found.append(Finding("warning", "this client", what, "install the same version"))
        for node in sorted(facts.status.datanodes, key=lambda node: node.id):
            found += _datanode(node, facts, facts.status)
    return sorted(found, key=lambda finding: finding.level != "problem")


def _namenodes(facts: Facts) -> Iterator[Finding]:
    for url, probe in facts.namenodes.items():
        about = f"namenode {url}"
        if probe.status == 0:
            yield Finding(
                "problem", about, f"does not answer ({probe.error})", "start it, or name the right one with --namenode"
            )
        elif probe.status != 200:
            yield Finding(
                "problem",
                about,
                f"says that it is not well (status {probe.status})",
                f"look at {url}/healthz and its log",
            )
        yield from _skew(about, probe.skew_s)
    if facts.status is None and all(probe.status for probe in facts.namenodes.values()):
        yield Finding("problem", "namenode", facts.why, "look at its log")


def _cluster(status: Status) -> Iterator[Finding]:
    able = [node for node in status.datanodes if node.state == "live" and node.admin_state == "in_service"]
    if len(able) < status.write_min:
        yield Finding(
            "problem",
            "cluster",
            f"nothing can be stored: {len(able)} of {count(len(status.datanodes), 'datanode')} can take chunks, "
            f"{status.write_min} are needed",
            "start datanodes: dfs datanode --namenode URL",
        )
    elif len(able) < status.replication:
        yield Finding(
            "warning",
            "cluster",
            f"new files get {count(len(able), 'replica')} instead of {status.replication}",
            "start another datanode: dfs datanode --namenode URL",
        )
    if status.missing:
        yield Finding(
            "problem",
            "cluster",
            f"{count(status.missing, 'chunk')} can't be read now",
            "dfs fsck   # names the files; bring the silent datanodes back",
        )
    short = status.under_replicated - status.missing
    if short > 0:
        yield Finding(
            "warning",
            "cluster",
            f"{count(short, 'chunk')} {'has' if short == 1 else 'have'} fewer replicas than wanted",
            "dfs status   # shows how the repair goes",
        )
    yield from _backup(status)
    for why in status.safe_modes:
        # A history that lacks changes is not only a reason to wait: files are missing until somebody acts.
        level: Literal["problem", "warning"] = "problem" if why.startswith("history") else "warning"
        yield Finding(level, "cluster", _held_back(why), _safe_mode_fix(why))
    if status.durability == "none":
        yield Finding(
            "warning",
            "cluster",
            "acknowledged files may be lost if the power fails",
            'set durability = "sync" on the datanodes',
        )


def is_backup_wanting(backup: BackupStatus) -> bool:
    """Whether more of the namenode's store would be lost with its disk than its settings allow."""
    late = backup.behind_s > max(BACKUP_LATE_S, 3 * backup.interval_s)
    return bool(backup.interval_s) and (late or bool(backup.failure and backup.behind_s))


def _backup(status: Status) -> Iterator[Finding]:
    backup = status.backup
    if backup is None:
        yield Finding(
            "warning",
            "backup",
            "the namenode's store is not backed up: with its disk all names would be lost",
            "give the namenode a --backup-interval-s",
        )
    elif is_backup_wanting(backup):
        why = f"; the last try to back them up: {backup.failure}" if backup.failure else ""
        yield Finding(
            "warning",
            "backup",
            f"the changes of the last {human_duration(backup.behind_s)} are on the namenode's disk alone{why}",
            "mend that; it is tried again by itself. dfs admin backup tries it now",
        )


def _held_back(mode: str) -> str:
    """What one of the namenode's safe modes does, which it writes as "kind: why"."""
    kind, _, why = mode.partition(": ")
    if kind == "operator":
        return "an operator holds deletion and repair back"
    if kind == "history":
        return "the datanodes have seen newer changes than the namenode's store has: nothing is deleted or repaired"
    return f"deletion is slowed down: {why}" if kind == "brake" else f"deletion and repair are held back: {why or kind}"


def _safe_mode_fix(why: str) -> str:
    if why.startswith("operator"):
        return "dfs admin safemode off"
    if "histor" in why or "backup" in why:
        return (
            "bring back the files that are missing: dfs admin rebuild --from-datanodes; "
            "then dfs admin resolve-history --yes"
        )
    if why.startswith("brake"):
        return "nothing, if so much was removed on purpose: it goes on by itself"
    return "wait for the datanodes, or bring back those that are silent"


def _datanode(node: DatanodeStatus, facts: Facts, status: Status) -> Iterator[Finding]:
    about = f"datanode {node.id}"
    probe = facts.datanodes.get(node.id)
    if node.admin_state == "decommissioned":
        yield Finding("warning", about, "is decommissioned", f"dfs admin forget {node.id}")
        return
    if node.admin_state == "maintenance":
        yield Finding("warning", about, "is in maintenance", f"dfs admin recommission {node.id}   # when it is back")
    elif node.state != "live":
        yield Finding(
            "problem",
            about,
            f"is {node.state}: silent {_for(node)}",
            f"start it again; only if it will never come back: dfs admin forget {node.id} --yes",
        )
    if probe is not None and probe.status == 0 and node.state == "live":
        yield Finding(
            "problem",
            about,
            f"can't be reached from here at {node.url} ({probe.error}); its last heartbeat came "
            f"{human_duration(node.seconds_since_heartbeat or 0.0)} ago",
            "start it if it has just stopped; else check the network, or give it a --client-url that clients can reach",
        )
    elif probe is not None and probe.status not in (0, 200):
        yield Finding(
            "problem",
            about,
            f"says that it is not well (status {probe.status})",
            f"look at {node.url}/healthz and its log",
        )
    if probe is not None:
        yield from _skew(about, probe.skew_s)
    if node.version != status.version:
        yield Finding(
            "warning",
            about,
            f"runs version {node.version}, the namenode {status.version}",
            "restart it with the same version",
        )
    yield from _disks(node, about)


def _for(node: DatanodeStatus) -> str:
    seconds = node.seconds_since_heartbeat
    return "since the namenode started" if seconds is None else f"for {human_duration(seconds)}"


def _disks(node: DatanodeStatus, about: str) -> Iterator[Finding]:
    fixes = {
        "full": "add a disk (--dir), or dfs admin balance",
        "read_only": "look at the disk (dmesg), mount it writable, restart the datanode",
        "failed": "replace the disk; its chunks are copied from elsewhere",
    }
    for volume in node.volumes:
        if volume.state != "in_service":
            yield Finding(
                "problem" if volume.state == "failed" else "warning",
                about,
                f"the volume {volume.id} is {volume.state.replace('_', ' ')}",
                fixes.get(volume.state, "look at its log"),
            )
        if volume.read_errors:
            yield Finding(
                "warning",
                about,
                f"the volume {volume.id} had {count(volume.read_errors, 'failed read')}",
                "look at the disk (dmesg, smartctl)",
            )
        if volume.scrub_age_s > SCRUB_AGE_S:
            yield Finding(
                "warning",
                about,
                f"the volume {volume.id} has bytes that were not verified for {volume.scrub_age_s / _DAY_S:.0f} days",
                f"dfs admin scrub {node.id}",
            )
    if node.capacity_bytes and node.state == "live":
        share = node.free_bytes / node.capacity_bytes
        if share < SPACE_WARNING:
            yield Finding(
                "problem" if share < SPACE_PROBLEM else "warning",
                about,
                f"{share:.0%} of its space is free",
                "add a disk (--dir) or a datanode, or remove files; dfs admin balance evens the datanodes out",
            )


def _skew(about: str, skew_s: float | None) -> Iterator[Finding]:
    if skew_s is None or abs(skew_s) < SKEW_WARNING_S:
        return
    yield Finding(
        "problem" if abs(skew_s) >= SKEW_PROBLEM_S else "warning",
        about,
        f"its clock is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} this machine's",
        "run a time service (chrony, systemd-timesyncd) on both",
    )


def summary(facts: Facts, findings: Sequence[Finding]) -> str:
    """The first line."""
    problems = sum(finding.level == "problem" for finding in findings)
    warnings = len(findings) - problems
    reached = sum(probe.status == 200 for probe in facts.datanodes.values())
    if not findings:
        answer = f"the namenode and {count(reached, 'datanode')} answer"
        return f"All is well: {answer}, clocks and versions agree, disks have room"
    counts = [count(number, word) for number, word in ((problems, "problem"), (warnings, "warning")) if number]
    if facts.status is None:
        return f"{' and '.join(counts)}; nothing is known of the datanodes"
    total = sum(node.admin_state != "decommissioned" for node in facts.status.datanodes)
    return f"{' and '.join(counts)}; {reached} of {count(total, 'datanode')} answer this machine"
