"""`dfs fsck --orphans`: what datanodes have and no file does, and why it is still there.

Separate from `fsck`, which walks the namespace: nothing of this is in it.
"""

import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from dfs.cli.show import count, human_duration, print_json, size_text, wrapped
from dfs.protocol.messages import OrphanChunk, OrphanReplica, OrphansPage, WhyKept

MEANING: dict[WhyKept, str] = {
    "young": "its writer may still commit it",
    "history": "kept: the namenode's history may lack its file",
    "safe_mode": "old enough to be deleted; deletion is held back now",
    "deletion": "is deleted next",
}
"""What a person is told of an orphan."""


class Tally:
    """How many there are of each kind."""

    def __init__(self) -> None:
        self.chunks: Counter[WhyKept] = Counter()
        self.bytes = 0
        self.replicas = 0
        self.disagreeing = 0
        self.orphan_age_ms = 0

    def add(self, orphan: OrphanChunk) -> None:
        self.chunks[orphan.why] += 1
        self.bytes += sum(replica.length for replica in orphan.replicas)
        self.replicas += len(orphan.replicas)
        self.disagreeing += not orphan.agreed

    @property
    def total(self) -> int:
        return self.chunks.total()

    def sentence(self, *, exact: bool = False) -> str:
        """All of it in plain words, with what to do."""
        if not self.total:
            return "No orphans: everything that datanodes have belongs to a file"
        belong = "belongs" if self.total == 1 else "belong"
        found = f"{_chunks(self.total)} ({size_text(self.bytes, exact)} on disks) {belong} to no file"
        if self.chunks["history"]:
            return (
                f"{found}; they are kept, since this namenode's history is older than its datanodes: "
                "`dfs admin rebuild --from-datanodes` brings back what they are, then `dfs admin resolve-history`"
            )
        told = []
        if self.chunks["young"]:
            age = human_duration(self.orphan_age_ms / 1000)
            told.append(f"{_are(self.chunks['young'])} younger than {age}, and may still be committed")
        if self.chunks["safe_mode"]:
            told.append(
                f"{_are(self.chunks['safe_mode'])} kept until deletion is no longer held back, see `dfs status`"
            )
        if self.chunks["deletion"]:
            told.append(f"{_are(self.chunks['deletion'])} deleted next")
        return f"{found}: {', '.join(told)}; there is nothing to do"


def show_orphans(pages: Iterable[OrphansPage], *, exact: bool, as_json: bool) -> None:
    """List them, and say at the end what they come to."""
    tally = Tally()
    records: list[dict[str, Any]] = []
    for page in pages:
        tally.orphan_age_ms = page.orphan_age_ms
        for orphan in page.orphans:
            tally.add(orphan)
            age_s = max(0, page.time_ms - orphan.granted_ms) / 1000
            if as_json:
                records.append({**_record(orphan), "age_s": age_s})
            else:
                sys.stdout.write(_line(orphan, age_s, exact=exact))
    if as_json:
        print_json(
            {
                "summary": tally.sentence(),
                "chunks": tally.total,
                "replicas": tally.replicas,
                "bytes": tally.bytes,
                "by_reason": {why: tally.chunks[why] for why in MEANING},
                "disagreeing": tally.disagreeing,
                "orphans": records,
            }
        )
    else:
        sys.stdout.write("".join(f"{line}\n" for line in wrapped([tally.sentence(exact=exact)])))


def _record(orphan: OrphanChunk) -> dict[str, Any]:
    record = msgspec.to_builtins(orphan)
    del record["capability"]
    return dict(record)


def _line(orphan: OrphanChunk, age_s: float, *, exact: bool) -> str:
    where = ", ".join(f"{one.datanode}{_state(one)}" for one in orphan.replicas)
    length = size_text(max((one.length for one in orphan.replicas), default=0), exact)
    differ = "" if orphan.agreed else "; its replicas differ"
    return f"{orphan.chunk}  {human_duration(age_s)} old  {length}  {where}  {MEANING[orphan.why]}{differ}\n"


def _state(replica: OrphanReplica) -> str:
    return " (away)" if not replica.live else " (bad)" if replica.state == "bad" else ""


def _are(number: int) -> str:
    return "1 is" if number == 1 else f"{number} are"


def _chunks(number: int) -> str:
    return count(number, "chunk")
