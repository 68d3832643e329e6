"""What is wrong with a cluster as seen from here, and what to do about each thing. Pure: facts in, findings out.

Separate from `probing`, which gathers the facts, so that every finding can be tested as a table. A problem keeps
something from working now; a warning will, or hides one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dfs.protocol.messages import DatanodeStatus, Status

SKEW_WARNING_S = 10.0
"""HTTP tells the time to the second, and an answer takes a while: less is no finding."""
SKEW_PROBLEM_S = 300.0
"""Beyond, capabilities and graces end visibly too early or too late (S14)."""
SPACE_WARNING = 0.10
SPACE_PROBLEM = 0.02
"""Shares of a datanode's capacity that are free for new chunks."""
SCRUB_AGE_S = 14 * 86_400.0
"""Every byte is verified within so long, if the scrubber keeps up."""
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
            f"nothing can be stored: {len(able)} datanodes are live, {status.write_min} are needed",
            "start datanodes: dfs datanode --namenode URL",
        )
    elif len(able) < status.replication:
        yield Finding(
            "warning",
            "cluster",
            f"new files get {len(able)} replicas instead of {status.replication}",
            "start another datanode: dfs datanode --namenode URL",
        )
    if status.missing:
        yield Finding(
            "problem",
            "cluster",
            f"{status.missing} chunks can't be read now",
            "dfs fsck   # names the files; bring the silent datanodes back",
        )
    short = status.under_replicated - status.missing
    if short > 0:
        yield Finding(
            "warning",
            "cluster",
            f"{short} chunks have fewer replicas than wanted",
            "dfs status   # shows how the repair goes",
        )
    for why in status.safe_modes:
        yield Finding("warning", "cluster", f"deletion and repair are held back: {why}", _safe_mode_fix(why))
    if status.durability == "none":
        yield Finding(
            "warning",
            "cluster",
            "acknowledged files may be lost if the power fails",
            'set durability = "sync" on the datanodes',
        )


def _safe_mode_fix(why: str) -> str:
    if "operator" in why:
        return "dfs admin safemode off"
    if "histor" in why or "backup" in why:
        return "get back the files that are missing, then dfs admin resolve-history --yes"
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
            f"is {node.state} for the namenode",
            f"start it again; only if it will never come back: dfs admin forget {node.id} --yes",
        )
    if probe is not None and probe.status == 0 and node.state == "live":
        yield Finding(
            "problem",
            about,
            f"the namenode hears it, but from here {node.url} can't be reached ({probe.error})",
            "check the network, or give it a --client-url that clients can reach",
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
                f"the volume {volume.id} had {volume.read_errors} failed reads",
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
        return f"All is well: the namenode and {reached} datanodes answer, clocks and versions agree, disks have room"
    counts = [
        f"{count} {word}{'s' if count > 1 else ''}"
        for count, word in ((problems, "problem"), (warnings, "warning"))
        if count
    ]
    known = [] if facts.status is None else facts.status.datanodes
    total = sum(node.admin_state != "decommissioned" for node in known)
    return f"{' and '.join(counts)}; {reached} of {total} datanodes answer this machine"
