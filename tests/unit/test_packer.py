"""Packs: what goes together, and that every file finds its bytes again."""

from hypothesis import given
from hypothesis import strategies as st

from dfs.packer import Pack, Packer
from dfs.protocol.digests import tree_digest

CHUNK = 1000


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=CHUNK), st.integers(1, 3)), max_size=60))
def test_every_file_is_in_exactly_one_pack_of_its_replication_with_its_bytes_and_digest(
    files: list[tuple[bytes, int]],
) -> None:
    packer: Packer[int] = Packer(CHUNK, files_max=7)
    packs: list[Pack[int]] = []
    for number, (data, replication) in enumerate(files):
        full = packer.add(number, data, replication)
        if full is not None:
            packs.append(full)
    packs += packer.finish()
    seen = {}
    for pack in packs:
        assert 0 < pack.length <= CHUNK
        assert len(pack.members) <= 7
        for number, member in pack.members:
            assert number not in seen
            seen[number] = bytes(pack.data[member.offset : member.offset + member.length])
            assert member.digest == tree_digest(files[number][0])
            assert pack.replication == files[number][1]
    assert seen == {number: data for number, (data, _) in enumerate(files)}
    assert packer.finish() == []


def test_files_of_a_pack_lie_side_by_side_without_gaps() -> None:
    packer: Packer[str] = Packer(CHUNK)
    packer.add("a", b"x" * 10, 3)
    packer.add("b", b"y" * 20, 3)
    (pack,) = packer.finish()
    assert [(key, member.offset, member.length) for key, member in pack.members] == [("a", 0, 10), ("b", 10, 20)]


def test_a_file_that_does_not_fit_begins_the_next_pack() -> None:
    packer: Packer[str] = Packer(CHUNK)
    assert packer.add("a", b"x" * 600, 3) is None
    full = packer.add("b", b"y" * 600, 3)
    assert full is not None
    assert [key for key, _ in full.members] == ["a"]
    assert [[key for key, _ in pack.members] for pack in packer.finish()] == [["b"]]
