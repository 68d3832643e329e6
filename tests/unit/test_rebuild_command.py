"""What `dfs admin rebuild` and `dfs fsck --orphans` say: one sentence, what is missing, and what to do."""

from collections import Counter

from dfs.adopting import BACKUPS, POSTPONED, Adopting, Rebuilt
from dfs.cli.orphans import Tally
from dfs.cli.rebuild import how_far_text, lines_of, record_of, summary_of
from dfs.orphans import AWAY
from dfs.protocol.messages import OrphanChunk, OrphanReplica, WhyKept
from dfs.rebuilding import HowFar

PLACE = "/lost+found/20261125T021500Z"


def orphan(why: WhyKept, *, copies: int = 1, agreed: bool = True) -> OrphanChunk:
    replicas = [
        OrphanReplica(
            datanode=f"dn{n}",
            url="http://h:1",
            volume="0" * 32,
            length=1000,
            digest="d" * 32,
            seen_ms=0,
            state="good",
            live=True,
        )
        for n in range(copies)
    ]
    return OrphanChunk(chunk="1" * 32, granted_ms=0, why=why, replicas=replicas, agreed=agreed, adoptable=True)


def tally_of(*orphans: OrphanChunk) -> Tally:
    tally = Tally()
    tally.orphan_age_ms = 86_400_000
    for one in orphans:
        tally.add(one)
    return tally


def test_a_rebuild_says_in_one_sentence_what_came_back() -> None:
    found = Rebuilt(PLACE, False, to_paths=3, to_lost_found=2, incomplete=1, bytes=2048, missing=["/a: its end"])
    assert summary_of(found) == (
        f"3 files were brought back to their paths, 2 to {PLACE}, 1 incomplete (*.partial) to {PLACE} (2.0 KiB)"
    )
    assert lines_of(found)[1:] == [
        "  /a: its end",
        "When nothing is missing any more: `dfs admin resolve-history --yes` lets go of the rest",
    ]
    assert not found.is_whole
    assert record_of(found)["missing"] == ["/a: its end"]


def test_a_rebuild_without_anything_to_do_says_so() -> None:
    assert summary_of(Rebuilt(PLACE, False)).startswith("Nothing to bring back")
    assert Rebuilt(PLACE, False).is_whole
    lost_only = Rebuilt(PLACE, False, to_lost_found=1, incomplete=2)
    assert summary_of(lost_only).startswith(f"1 file was brought back to {PLACE}, 2 incomplete (*.partial) to {PLACE}")
    assert summary_of(Rebuilt(PLACE, True, lost=Counter({AWAY: 2}))) == (
        "0 files would be brought back, 2 could not be (0 B)"
    )
    assert summary_of(Rebuilt(PLACE, True, to_paths=1)).startswith("1 file would be brought back")


def test_what_is_left_counts_only_if_somebody_may_miss_it() -> None:
    assert Rebuilt(PLACE, False, left=Counter({BACKUPS: 2})).is_whole
    assert not Rebuilt(PLACE, False, left=Counter({AWAY: 1})).is_whole
    assert "  left: 2 chunks, backups of the namenode's store" in lines_of(
        Rebuilt(PLACE, False, left=Counter({BACKUPS: 2}))
    )


def test_datanodes_that_did_not_report_and_better_backups_are_named() -> None:
    lines = lines_of(Rebuilt(PLACE, False, unreported=["dn2"], newer_backup=77))
    assert "dn2 did not report, and may have more: when it is back or forgotten, say this again" in lines
    postponed = lines_of(Rebuilt(PLACE, False, unreported=["dn2", "dn3"], left=Counter({POSTPONED: 1})))
    waits = "when they are back or forgotten, say this again; incomplete files wait for that"
    assert any(line.endswith(waits) for line in postponed)
    assert any("up to change 77" in line and "dfs admin restore" in line for line in lines)


def test_progress_says_how_much_is_left() -> None:
    assert how_far_text(HowFar(0, 0, 0, 1.0, ("dn2",))) == "waiting for the reports of dn2"
    assert how_far_text(HowFar(1, 0, 100, 1.0)) == "1 chunk looked at"
    assert how_far_text(HowFar(7, 0, 100, 1.0)) == "7 chunks looked at"
    assert how_far_text(HowFar(7, 1024, 4096, 10.0)) == "1.0 KiB of 4.0 KiB read and verified, 0:30 left"


def test_a_path_that_cant_be_below_lost_and_found_goes_by_its_chunk() -> None:
    adopting = Adopting(None, Rebuilt(PLACE, False))  # type: ignore[arg-type]
    assert adopting.lost_path("/a/b", "c1") == f"{PLACE}/a/b"
    assert adopting.lost_path("/" + "x/" * 200 + "y", "c1") == f"{PLACE}/chunks/c1"
    assert adopting.lost_path("/a/../b", "c1") == f"{PLACE}/chunks/c1"


def test_orphans_are_explained_with_what_to_do() -> None:
    assert tally_of().sentence() == "No orphans: everything that datanodes have belongs to a file"
    lost = tally_of(orphan("history", copies=2), orphan("history")).sentence()
    assert lost.startswith("2 chunks (2.9 KiB on disks) belong to no file; they are kept")
    assert "`dfs admin rebuild --from-datanodes`" in lost
    usual = tally_of(orphan("young"), orphan("deletion"), orphan("safe_mode")).sentence()
    assert "1 is younger than" in usual
    assert usual.endswith("1 is deleted next; there is nothing to do")
