"""How a cluster is, in sentences: the first one says what matters most. Pure.

Separate from `dfs status`, which shows them above its tables. The order is that of what somebody must know: what can't
be read, what can't be stored, a store that is older than its datanodes, what is being repaired, what waits and why,
what will be a problem. Each sentence says what is wrong, what is being done or what to do, and until when.
"""

from typing import TYPE_CHECKING

from dfs.cli.show import count, human_duration, listed, time_text

if TYPE_CHECKING:
    from dfs.protocol.messages import BackupStatus, DatanodeStatus, Status, VolumeState

HEALTHY = "Healthy"
NEARLY_FULL = 0.9
"""The used share of all space from which it is told."""
UNREADABLE_COUNTED = 10_000
"""The namenode counts no further."""
_DURABILITY = {
    "batch": "receipts wait for a sync that several replicas share",
    "none": "what was stored last may be lost if the power fails",
}


def is_healthy(status: "Status") -> bool:
    """Whether every chunk has its replicas, new files can be stored with theirs, and nothing waits for an operator."""
    return health(status)[0].startswith(HEALTHY)


def health(status: "Status") -> list[str]:
    """What a person should know, the worst first; one sentence on each line."""
    problems = [*_unreadable(status), *_not_storing(status), *_history(status), *_degraded(status), *_waiting(status)]
    if not problems:
        problems = [
            f"{HEALTHY}: every chunk has its replicas"
            if status.chunks
            else f"{HEALTHY}: ready to store files, none yet"
        ]
    sentences = [*problems, *_nearly_full(status)]
    sentences += [held_back(mode) for mode in status.safe_modes if _kind(mode) == "brake"]
    too_few = too_few_to_drain(status)
    sentences += [sentence for node in status.datanodes for sentence in _about(node, too_few)]
    if status.balance is not None:
        sentences.append(
            f"Balancing: {chunks(status.balance.moved)} moved, {status.balance.moving} under way, "
            f"the farthest datanode is {status.balance.spread:.0%} from the mean"
        )
    if status.durability != "sync":
        sentences.append(f"Durability is {status.durability}: {_DURABILITY.get(status.durability, '')}")
    return sentences + _backup(status.backup)


def chunks(number: int) -> str:
    return count(number, "chunk")


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


# --- problems, the worst first ----------------------------------------------------------------------------------


def _unreadable(status: "Status") -> list[str]:
    if not status.missing:
        return []
    files = status.unreadable_files
    more = "more than " if files >= UNREADABLE_COUNTED else ""
    what = f"{more}{count(files, 'file')} ({chunks(status.missing)})" if files else chunks(status.missing)
    return [f"Unreadable now: {what}, because {_why_missing(status)}; `dfs fsck` names the files"]


def _why_missing(status: "Status") -> str:
    dead = sorted(node.id for node in status.datanodes if node.state == "dead" and node.replicas)
    failed = [(node.id, volume.id) for node in status.datanodes for volume in _failed(node)]
    if dead:
        names = listed(dead)
        return f"{names} {_are(len(dead))} dead: start {'it' if len(dead) == 1 else 'them'} again"
    if failed:
        places = listed([f"the volume {volume} of {datanode}" for datanode, volume in failed])
        return f"{places} failed: bring {'it' if len(failed) == 1 else 'them'} back"
    return "no datanode that is known has a good replica: if one was forgotten or replaced, bring it back"


def _failed(node: "DatanodeStatus") -> "list[VolumeState]":
    return [] if node.state == "dead" else [volume for volume in node.volumes if volume.state == "failed"]


def _not_storing(status: "Status") -> list[str]:
    """Why new files can't be stored, or not with all their replicas."""
    if not status.datanodes:
        return ["No datanodes yet: nothing can be stored; start one with `dfs datanode --namenode URL`"]
    live = [node for node in status.datanodes if node.state == "live" and node.admin_state == "in_service"]
    roomy = [node for node in live if any(v.state == "in_service" and v.free_bytes > 0 for v in node.volumes)]
    if len(live) < status.write_min:
        return [
            (
                f"No new files now: {len(live)} of {count(len(status.datanodes), 'datanode')} "
                f"{_are(len(live))} live and in service, {status.write_min} are needed; start more"
            )
        ]
    if len(roomy) < status.write_min:
        who = f"only {count(len(roomy), 'datanode')} {_have(len(roomy))}" if roomy else "no datanode has"
        return [
            (
                f"Full: {who} room, and new files need {status.write_min}; remove files, or add a datanode. "
                "Everything can be read"
            )
        ]
    if len(roomy) < status.replication:
        why = "are live and in service" if len(roomy) == len(live) else "have room"
        return [
            (
                f"Degraded: new files get {count(len(roomy), 'replica')} instead of {status.replication}: "
                f"that is how many datanodes {why}; start another"
            )
        ]
    return []


def _have(number: int) -> str:
    return "has" if number == 1 else "have"


def _history(status: "Status") -> list[str]:
    return [held_back(mode) for mode in status.safe_modes if _kind(mode) == "history"]


def _degraded(status: "Status") -> list[str]:
    short = status.under_replicated - status.missing
    if short <= 0:
        return []
    return [f"Degraded: {chunks(short)} {_have(short)} fewer replicas than wanted; {_repair(status)}"]


def _repair(status: "Status") -> str:
    if _waiting(status) or _history(status):
        return "repair waits"
    able = [
        node
        for node in status.datanodes
        if node.state == "live" and node.admin_state == "in_service" and node.free_bytes > 0
    ]
    if len(able) < status.replication:
        return f"repair needs {status.replication} live datanodes with room, there {_are(len(able))} {len(able)}"
    if status.repair_eta_s is None:
        return "copies are being made"
    return f"copies are being made, done in about {human_duration(max(1.0, status.repair_eta_s))}"


def _waiting(status: "Status") -> list[str]:
    return [held_back(mode) for mode in status.safe_modes if _kind(mode) not in ("history", "brake")]


def _kind(mode: str) -> str:
    return mode.partition(": ")[0]


def _why(mode: str) -> str:
    return mode.partition(": ")[2]


def held_back(mode: str) -> str:
    """One of the namenode's reasons to hold deletion and repair back, which it writes as "kind: why"."""
    why = _why(mode)
    match _kind(mode):
        case "cold start":
            return f"Starting: {why}; deletion and repair wait for it, reading and writing do not"
        case "mass outage":
            return (
                f"Outage: {why}; deletion and repair wait until they are back, or said to be gone with "
                "`dfs admin forget`"
            )
        case "operator":
            return "Safe mode: an operator holds deletion and repair back; `dfs admin safemode off` ends it"
        case "history":
            return (
                "Out of date: the datanodes have seen newer changes than this namenode's store has, as after a restore "
                "from a backup; nothing is deleted or repaired until `dfs admin rebuild --from-datanodes` has brought "
                "the newer files back and `dfs admin resolve-history` has been said"
            )
        case "brake":
            return f"Deleting slowly: {why}"
    return f"Deletion and repair are held back: {mode}"


# --- what else there is to know ---------------------------------------------------------------------------------


def _nearly_full(status: "Status") -> list[str]:
    used = sum(node.used_bytes for node in status.datanodes if node.state != "dead")
    free = sum(node.free_bytes for node in status.datanodes if node.state != "dead")
    if not free or used < NEARLY_FULL * (used + free):
        return []
    return [f"Nearly full: {used / (used + free):.0%} of the space is used; remove files, or add a datanode"]


def _about(node: "DatanodeStatus", too_few: str) -> list[str]:
    """What is unusual about a datanode."""
    if node.admin_state == "maintenance":
        return [f"The datanode {node.id} ({node.url}) is in maintenance{_until(node)}: what it has is not made anew"]
    if node.admin_state == "decommissioned":
        return [f"The datanode {node.id} ({node.url}) is decommissioned: `dfs admin forget {node.id}` removes it"]
    told = []
    if node.admin_state == "draining":
        left = "" if node.chunks_left is None else f", {chunks(node.chunks_left)} left"
        eta = "" if node.drain_eta_s is None else f", {human_duration(max(1.0, node.drain_eta_s))} to go"
        told.append(f"The datanode {node.id} ({node.url}) is being drained{left}{too_few or eta}")
    told += [
        f"The volume {volume.id} of {node.id} failed: what it has is made anew elsewhere, and counts again once it is "
        "back"
        for volume in _failed(node)
    ]
    return told + ([] if node.state == "live" else [_silence(node)])


def too_few_to_drain(status: "Status") -> str:
    """Why what is drained has nowhere to go; "": there are enough datanodes. In the middle of a sentence."""
    able = sum(node.state == "live" and node.admin_state == "in_service" for node in status.datanodes)
    if able >= status.replication:
        return ""
    return (
        f"; files with {count(status.replication, 'replica')} need as many other datanodes, and {able} "
        f"{_are(able)} live and in service: start more"
    )


def _until(node: "DatanodeStatus") -> str:
    return f" until {time_text(node.maintenance_until_ms * 1_000_000)}" if node.maintenance_until_ms else ""


def _silence(datanode: "DatanodeStatus") -> str:
    seconds = datanode.seconds_since_heartbeat
    since = "since the namenode started" if seconds is None else f"for {human_duration(seconds)}"
    meaning = (
        f"its replicas count as lost; start it again, or `dfs admin forget {datanode.id} --yes` if it never comes back"
        if datanode.state == "dead"
        else "it gets no new chunks"
    )
    return f"The datanode {datanode.id} ({datanode.url}) is {datanode.state}, silent {since}: {meaning}"


def _backup(backup: "BackupStatus | None") -> list[str]:
    """Only what somebody should do something about."""
    from dfs.diagnosis import is_backup_wanting

    if backup is None or not is_backup_wanting(backup):
        return []
    why = f"; the last try to back them up: {backup.failure}" if backup.failure else ""
    return [f"The changes of the last {human_duration(backup.behind_s)} are on the namenode's disk alone{why}"]
