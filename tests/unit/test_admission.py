"""Who may register as a datanode (F48, F49, F64)."""

from dataclasses import replace

import pytest

from dfs.protocol.capability import register_proof
from dfs.protocol.errors import Conflict, NotPermitted
from dfs.protocol.messages import Register, VolumeState
from dfs_namenode.liveness import Datanode
from dfs_namenode.operations.register import Admission, judge

KEY = b"k" * 32
CLUSTER, BOOT, OTHER_BOOT = "c" * 32, "b" * 32, "e" * 32
VOLUME = VolumeState(id="1" * 32, state="in_service", capacity_bytes=1, free_bytes=1)
NEW = Admission(cluster=CLUSTER, join_secret="", key=KEY, known=None, has_replicas=False, silence_s=None)
KNOWN = replace(
    NEW, known=Datanode("dn1", "http://a:1", "http://a:1", incarnation=3, boot=OTHER_BOOT), has_replicas=True
)


def asking(peer_url: str = "http://a:1", **more: object) -> Register:
    facts: dict[str, object] = {
        "datanode": "dn1",
        "boot": BOOT,
        "cluster": CLUSTER,
        "peer_url": peer_url,
        "client_url": "http://a:1",
        "version": "1",
        "volumes": [VOLUME],
        "proof": register_proof(KEY, "dn1", BOOT),
        **more,
    }
    return Register(**facts)  # type: ignore[arg-type]


def test_a_new_datanode_joins_freely_where_there_is_no_secret() -> None:
    judge(asking(cluster=None, proof=""), NEW)


def test_a_new_datanode_needs_the_join_secret_where_there_is_one() -> None:
    guarded = replace(NEW, join_secret="s3cret")
    judge(asking(cluster=None, proof="", join_secret="s3cret"), guarded)
    for wrong in ("", "s3cre", "s3cret "):
        with pytest.raises(NotPermitted, match="join secret"):
            judge(asking(cluster=None, proof="", join_secret=wrong), guarded)


def test_a_datanode_of_another_cluster_is_refused_whatever_it_proves() -> None:  # F49
    with pytest.raises(Conflict, match="belongs to the cluster"):
        judge(asking(cluster="f" * 32), KNOWN)


def test_a_known_id_must_prove_its_key_and_needs_no_join_secret_then() -> None:
    guarded = replace(KNOWN, join_secret="s3cret")
    judge(asking(), guarded)
    for proof in ("", register_proof(b"x" * 32, "dn1", BOOT), register_proof(KEY, "dn1", OTHER_BOOT)):
        with pytest.raises(NotPermitted, match="can't prove"):
            judge(asking(proof=proof, join_secret="s3cret"), guarded)


def test_whoever_lost_the_answer_to_its_first_registration_may_ask_again() -> None:
    assert KNOWN.known is not None
    first = replace(KNOWN, known=replace(KNOWN.known, incarnation=1), has_replicas=False)
    judge(asking(proof=""), first)
    same_life = replace(KNOWN, known=replace(KNOWN.known, boot=BOOT))
    judge(asking(proof=""), same_life)
    with pytest.raises(NotPermitted):
        judge(asking(proof=""), replace(first, join_secret="s3cret"))


def test_a_second_process_with_a_live_id_is_refused_until_the_first_was_silent() -> None:  # F48
    with pytest.raises(Conflict, match="live at http://a:1"):
        judge(asking("http://b:1"), replace(KNOWN, silence_s=3.0))
    judge(asking("http://b:1"), replace(KNOWN, silence_s=10.0))
    judge(asking("http://b:1"), replace(KNOWN, silence_s=None))


def test_a_restarted_datanode_at_its_old_address_is_let_in_at_once() -> None:
    judge(asking(), replace(KNOWN, silence_s=0.1))


def test_a_restored_store_lets_a_known_datanode_in_without_its_key_by_the_join_secret_alone() -> None:  # F63
    restored = replace(KNOWN, join_secret="s3cret", may_rekey=True)
    old = register_proof(b"o" * 32, "dn1", BOOT)
    judge(asking(proof=old, join_secret="s3cret"), restored)
    with pytest.raises(NotPermitted, match="can't prove"):
        judge(asking(proof=old, join_secret="guessed"), restored)
    with pytest.raises(NotPermitted, match="can't prove"):
        judge(asking(proof=old, join_secret="s3cret"), replace(restored, may_rekey=False))
    with pytest.raises(Conflict, match="belongs to the cluster"):
        judge(asking(cluster="f" * 32, proof=old, join_secret="s3cret"), restored)
