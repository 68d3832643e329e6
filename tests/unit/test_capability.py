"""Capabilities and receipts: what is signed, and every way in which one is refused."""

import base64

import pytest

from dfs.protocol.capability import (
    RUNS_MAX,
    check_capability,
    derive_key,
    read_receipt,
    register_proof,
    sign_capability,
    sign_receipt,
)
from dfs.protocol.errors import NotPermitted, ReceiptRefused
from dfs.protocol.messages import CHUNK_SIZE_MAX, REPLICATION_MAX

SECRET = bytes(range(32))
CHUNK = "0123456789abcdef" * 2
OTHER = "f" * 32
KEYS = {"dn-a": derive_key(SECRET, "dn-a"), "dn-b": derive_key(SECRET, "dn-b")}


def a_token(**changes: object) -> str:
    fields = {
        "operation": "w", "chunk": CHUNK, "start": 0, "end": 100, "expires_ms": 1000, "principal": "anonymous",
    }  # fmt: skip
    return sign_capability(KEYS, **{**fields, **changes})  # type: ignore[arg-type]


def check(token: str, **changes: object) -> object:
    fields = {"datanode": "dn-a", "operation": "w", "chunk": CHUNK, "now_ms": 999}
    fields.update(changes)  # type: ignore[arg-type]
    return check_capability(token, KEYS["dn-a"], **fields)  # type: ignore[arg-type]


def test_each_datanode_of_the_chain_accepts_the_same_token_with_its_own_key() -> None:
    for name, key in KEYS.items():
        capability = check_capability(a_token(), key, datanode=name, operation="w", chunk=CHUNK, now_ms=0)
        assert capability.chain == ("dn-a", "dn-b")
        assert capability.end == 100


@pytest.mark.parametrize(
    "changes",
    [
        {"now_ms": 1000},
        {"chunk": OTHER},
        {"operation": "r"},
        {"datanode": "dn-b"},  # its place in the chain holds a MAC made with another key
        {"datanode": "dn-c"},
    ],
)
def test_a_capability_for_something_else_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(NotPermitted):
        check(a_token(), **changes)


def test_every_flipped_bit_of_a_capability_is_refused() -> None:
    payload, _, macs = a_token().partition(".")
    raw = bytearray(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    for place in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[place // 8] ^= 1 << place % 8
        text = base64.urlsafe_b64encode(changed).rstrip(b"=").decode()
        with pytest.raises(NotPermitted):
            check(f"{text}.{macs}")


@pytest.mark.parametrize("token", ["", ".", "x", "a.b.c", "é.é", "=" * 40, "A" * 4000, "\n"])
def test_garbage_is_refused_as_a_capability_and_as_a_receipt(token: str) -> None:
    with pytest.raises(NotPermitted):
        check(token)
    with pytest.raises(ReceiptRefused):
        read_receipt(token, SECRET)


def a_receipt(key: bytes, datanode: str = "dn-a") -> str:
    return sign_receipt(
        key, chunk=CHUNK, length=5, digest=bytes(16), datanode=datanode, incarnation=3, volume=OTHER,
        principal="anonymous",
    )  # fmt: skip


def test_a_receipt_says_who_stored_what_and_where() -> None:
    receipt = read_receipt(a_receipt(KEYS["dn-a"]), SECRET)
    assert (receipt.chunk.hex(), receipt.length, receipt.datanode, receipt.incarnation) == (CHUNK, 5, "dn-a", 3)


def test_a_compromised_datanode_forges_for_nobody_else() -> None:
    with pytest.raises(ReceiptRefused):
        read_receipt(a_receipt(KEYS["dn-b"], datanode="dn-a"), SECRET)
    with pytest.raises(ReceiptRefused):
        read_receipt(a_receipt(KEYS["dn-a"]), b"another cluster's secret".ljust(32))


def test_a_capability_is_never_valid_as_a_receipt() -> None:
    with pytest.raises(ReceiptRefused):
        read_receipt(a_token(), SECRET)
    with pytest.raises(NotPermitted):
        check(a_receipt(KEYS["dn-a"]))


def test_keys_and_proofs_differ_by_datanode_and_life() -> None:
    assert derive_key(SECRET, "dn-a") != derive_key(SECRET, "dn-b")
    assert register_proof(KEYS["dn-a"], "dn-a", CHUNK) != register_proof(KEYS["dn-a"], "dn-a", OTHER)


def test_a_capability_for_several_runs_allows_each_of_them_and_nothing_between() -> None:
    token = a_token(operation="r", start=10, end=95, runs=(10, 20, 30, 40, 90, 95))
    capability = check_capability(token, KEYS["dn-a"], datanode="dn-a", operation="r", chunk=CHUNK, now_ms=0)
    readable = set(range(10, 20)) | set(range(30, 40)) | set(range(90, 95))
    for start in range(100):
        for end in range(start + 1, 101):
            assert capability.allows(start, end) == (set(range(start, end)) <= readable), (start, end)


def test_a_server_that_knows_of_no_runs_is_told_by_the_version_that_it_must_refuse() -> None:
    for runs, version in (((), 1), ((0, 5, 7, 9), 2)):
        token = a_token(operation="r", start=0, end=9, runs=runs)
        capability = check_capability(token, KEYS["dn-a"], datanode="dn-a", operation="r", chunk=CHUNK, now_ms=0)
        assert capability.version == version


def test_the_longest_capability_fits_into_a_token() -> None:
    high = CHUNK_SIZE_MAX - 4 * RUNS_MAX
    runs = [high + number for number in range(0, 4 * RUNS_MAX, 2)]
    keys = {f"{number:064}": KEYS["dn-a"] for number in range(REPLICATION_MAX)}
    token = sign_capability(
        keys,
        operation="r",
        chunk=CHUNK,
        start=runs[0],
        end=runs[-1],
        expires_ms=1 << 45,
        principal="p" * 255,
        runs=runs,
    )
    assert len(token) <= 4096


def test_a_capability_that_was_right_before_is_refused_for_something_else_all_the_same() -> None:
    token = a_token()
    assert check(token) is check(token), "checked once"
    for changes in ({"now_ms": 1000}, {"chunk": OTHER}, {"operation": "r"}, {"datanode": "dn-b"}):
        with pytest.raises(NotPermitted):
            check(token, **changes)
    with pytest.raises(NotPermitted):
        check_capability(token, KEYS["dn-b"], datanode="dn-a", operation="w", chunk=CHUNK, now_ms=0)
