"""Rows of drafts: uploads that are staged in many calls and published by one commit. All SQL about them is here.

A staged file is a content id with extents but without a row in `content`: nothing that reads contents can find it
(S4). A chunk that a draft introduced counts as referenced as a whole for as long as the draft lives, so that it is no
garbage even while no extent is on it.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from dfs.protocol.messages import Action, StagedExtent
from dfs_namenode.content_rules import ChunkFacts
from dfs_namenode.store import chunks, contents
from dfs_namenode.store.transaction import Snapshot, Transaction

_action = msgspec.json.Decoder(Action)


class Draft(NamedTuple):
    id: bytes
    principal: str
    extents: int
    actions: int


def find(snapshot: Snapshot, draft_id: bytes) -> Draft | None:
    row = snapshot.row("SELECT id, principal, extents, actions FROM draft WHERE id = ?", (draft_id,))
    return None if row is None else Draft._make(row)


def begin(tx: Transaction, draft_id: bytes, principal: str) -> Draft:
    """Make an empty draft."""
    tx.run(
        "INSERT INTO draft (id, principal, touched_ms, extents, actions) VALUES (?, ?, ?, 0, 0)",
        (draft_id, principal, tx.now_ms),
    )
    return Draft(draft_id, principal, 0, 0)


def touch(tx: Transaction, draft: Draft) -> None:
    """Store the counts, and that somebody works on it."""
    tx.run(
        "UPDATE draft SET touched_ms = ?, extents = ?, actions = ? WHERE id = ?",
        (tx.now_ms, draft.extents, draft.actions, draft.id),
    )


def idle_since(snapshot: Snapshot, before_ms: int, limit: int) -> list[bytes]:
    """Drafts that nobody touched since a moment."""
    rows = snapshot.rows("SELECT id FROM draft WHERE touched_ms < ? ORDER BY touched_ms LIMIT ?", (before_ms, limit))
    return [row[0] for row in rows]


def chunk_facts(snapshot: Snapshot, draft_id: bytes, chunk: str) -> ChunkFacts | None:
    """The facts of a chunk that this draft introduced; None: it did not."""
    row = snapshot.row(
        "SELECT c.length, c.digest FROM draft_chunk AS d JOIN chunk AS c ON c.id = d.chunk_id"
        " WHERE d.draft_id = ? AND d.chunk_id = ?",
        (draft_id, bytes.fromhex(chunk)),
    )
    return None if row is None else ChunkFacts(row[0], row[1].hex())


def add_chunks(tx: Transaction, draft_id: bytes, introduced: Sequence[tuple[bytes, int]]) -> None:
    """Chunks, with their lengths, that live at least as long as the draft."""
    tx.run_many(
        "INSERT INTO draft_chunk (draft_id, chunk_id) VALUES (?, ?)", [(draft_id, chunk) for chunk, _ in introduced]
    )
    chunks.add_references(tx, dict(introduced))


def add_extents(tx: Transaction, draft: Draft, staged: Iterable[StagedExtent]) -> Draft:
    """Put extents into their places; what was in a place goes. Returns the draft with its new count."""
    content_ids: dict[int, int] = {}
    change: dict[bytes, int] = {}
    count = draft.extents
    for item in staged:
        content_id = content_ids.get(item.file) or _content_of(tx, draft.id, item.file)
        content_ids[item.file] = content_id
        extent = item.extent
        old = tx.row(
            "SELECT chunk_id, length FROM extent WHERE content_id = ? AND position = ?", (content_id, item.index)
        )
        if old is None:
            count += 1
        else:
            change[old[0]] = change.get(old[0], 0) - old[1]
            tx.run("DELETE FROM extent WHERE content_id = ? AND position = ?", (content_id, item.index))
        chunk = bytes.fromhex(extent.chunk)
        row = contents.ExtentRow(item.index, chunk, extent.offset, extent.length, bytes.fromhex(extent.digest))
        contents.insert_extents(tx, content_id, [row])
        change[chunk] = change.get(chunk, 0) + extent.length
    chunks.add_references(tx, change)
    return draft._replace(extents=count)


def _content_of(tx: Transaction, draft_id: bytes, file: int) -> int:
    found = tx.value("SELECT content_id FROM draft_file WHERE draft_id = ? AND file = ?", (draft_id, file))
    if found is not None:
        return int(found)
    content_id = tx.new_content_id()
    tx.run("INSERT INTO draft_file (draft_id, file, content_id) VALUES (?, ?, ?)", (draft_id, file, content_id))
    return content_id


def add_actions(tx: Transaction, draft: Draft, actions: Sequence[Action]) -> Draft:
    """Keep actions, in order behind those that are there. Returns the draft with its new count."""
    tx.run_many(
        "INSERT INTO draft_action (draft_id, n, action) VALUES (?, ?, ?)",
        [(draft.id, draft.actions + n, msgspec.json.encode(action)) for n, action in enumerate(actions)],
    )
    return draft._replace(actions=draft.actions + len(actions))


def actions_of(snapshot: Snapshot, draft_id: bytes) -> list[Action]:
    """The staged actions in order."""
    rows = snapshot.each("SELECT action FROM draft_action WHERE draft_id = ? ORDER BY n", (draft_id,))
    return [_action.decode(row[0]) for row in rows]


def take_file(tx: Transaction, draft_id: bytes, file: int) -> int | None:
    """Take a staged file's content id out of the draft; None: there is no such file, or it was taken."""
    found = tx.value("SELECT content_id FROM draft_file WHERE draft_id = ? AND file = ?", (draft_id, file))
    if found is None:
        return None
    tx.run("DELETE FROM draft_file WHERE draft_id = ? AND file = ?", (draft_id, file))
    return int(found)


def end(tx: Transaction, draft_id: bytes) -> bool:
    """Remove a draft with everything that was not taken out of it; False: there is none.

    What is left of its contents is retired, for the sweeper to take apart in small steps.
    """
    if tx.run("DELETE FROM draft WHERE id = ?", (draft_id,)) == 0:
        return False
    left = tx.rows("SELECT content_id FROM draft_file WHERE draft_id = ?", (draft_id,))
    contents.retire(tx, [row[0] for row in left])
    tx.run(
        "UPDATE chunk SET referenced_bytes = referenced_bytes - length,"
        " released = max(released, (referenced_bytes - length) * 2 < length)"
        " WHERE id IN (SELECT chunk_id FROM draft_chunk WHERE draft_id = ?)",
        (draft_id,),
    )
    for table in ("draft_file", "draft_chunk", "draft_action"):
        tx.run(f"DELETE FROM {table} WHERE draft_id = ?", (draft_id,))  # noqa: S608
    return True
