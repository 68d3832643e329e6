"""Digests that must never change: stored data depends on them."""

from dfs.protocol.digests import block_digest, block_table, tree_digest

SEQUENCE = bytes(range(256)) * 100  # 25 600 bytes: one whole block and a short one


def test_golden_bytes_of_the_digest_tree() -> None:
    assert block_digest(b"").hex() == "2d06800538d394c2"  # xxHash's own test vector of XXH3_64 for no input
    assert tree_digest(b"") == "2c0a8a99dc147d5445c3b49d035665b2"
    assert block_table(SEQUENCE).hex() == GOLDEN_TABLE
    assert tree_digest(SEQUENCE) == GOLDEN_ROOT


GOLDEN_TABLE = "c96b04ebefa8f6dcecd57540c1dd18c6"
GOLDEN_ROOT = "ef5191bdc38d40d952e978057beca646"
