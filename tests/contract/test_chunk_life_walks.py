"""Twenty thousand lives of chunks (see `unit/test_chunk_life_model.py`, and `fixtures/chunk_life.py` for the world)."""

from fixtures.chunk_life import World, walk_many

WALKS = 20_000


def test_twenty_thousand_walks_lose_no_acknowledged_file_and_commit_no_buried_id() -> None:
    reached = walk_many(World(), WALKS)
    # A walk that never gets to the dangerous places proves nothing.
    assert min(reached.files, reached.buried, reached.deleted) > WALKS // 100, reached
