"""From stored chunks to visible files: the commit, or a draft where one commit is too small.

Separate because atomicity is decided here. A list of actions becomes one commit; if it is larger than a commit may
be, it is staged in a draft piece by piece, and the commit that publishes the draft makes all of it visible at once.
A receipt that no longer counts (its datanode died meanwhile) means that the chunk is sent again, under a new id,
wherever its bytes are still at hand.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from dfs.namenodes import Namenodes
from dfs.protocol.errors import ChunkExists, DfsError, ReceiptRefused
from dfs.protocol.messages import (
    ITEMS_MAX,
    Action,
    AppendFile,
    Commit,
    DropDraft,
    Extent,
    NewChunk,
    Outcome,
    PutFile,
    Stage,
    StagedExtent,
)
from dfs.protocol.operations import COMMIT, DROP_DRAFT, STAGE
from dfs.sender import Grants, Sender
from dfs.sources import Source

RESENDS_MAX = 2
"""Times that the chunks of one commit are sent again."""
TEXT_BYTES_MAX = 4 << 20
"""Of paths and attributes in one message; with the rest it stays well below the limit of a body."""


@dataclass(frozen=True)
class Sent:
    """A chunk that is stored but not committed, and where its bytes are if it must be sent again."""

    chunk: NewChunk
    source: Source | None = None
    grants: Grants | None = None


@dataclass
class Batch:
    """Actions that become visible together, and the chunks that they introduce."""

    actions: list[Action] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)


class Publisher:
    """Commits batches."""

    def __init__(self, namenodes: Namenodes, sender: Sender) -> None:
        self._namenodes = namenodes
        self._sender = sender

    def publish(self, batch: Batch) -> list[Outcome]:
        """Make all of it visible at one instant. What each action did, in order.

        Raises  the error of the first action that can't be done; then nothing is visible
        """
        if fits(batch):
            return self._commit_at_once(batch)
        return self._commit_draft(batch)

    def _commit_at_once(self, batch: Batch) -> list[Outcome]:
        sent = list(batch.sent)
        actions = list(batch.actions)
        for resends in range(RESENDS_MAX + 1):
            try:
                request = Commit(op_id="", actions=actions, chunks=[one.chunk for one in sent])
                return self._namenodes.perform(COMMIT, request).outcomes
            except (ReceiptRefused, ChunkExists) as refusal:
                if resends == RESENDS_MAX:
                    raise
                renamed = self._send_again(sent, refusal)
                actions = [with_chunks(action, renamed) for action in actions]
        raise AssertionError("the last round returns or raises")

    def _send_again(self, sent: list[Sent], refusal: DfsError) -> dict[str, str]:
        """Replace the refused chunks in `sent` by new ones; the new id of each old one.

        The refusal names the chunk; if it names none, all of them are sent again.
        """
        named = refusal.detail.get("chunk")
        renamed: dict[str, str] = {}
        for index, one in enumerate(sent):
            if named not in (None, one.chunk.id):
                continue
            sent[index] = self.send_again(one, refusal)
            renamed[one.chunk.id] = sent[index].chunk.id
        if not renamed:
            raise refusal
        return renamed

    def send_again(self, one: Sent, refusal: DfsError) -> Sent:
        """The same bytes as a new chunk. Raises `refusal`: they are not at hand any more, or not the same."""
        if one.source is None or one.grants is None:
            raise refusal
        chunk = self._sender.send(one.source, one.grants)
        if chunk.digest != one.chunk.digest:
            raise refusal
        return Sent(chunk, one.source, one.grants)

    def pause(self, seconds: float) -> None:
        """Wait for others to do their part."""
        self._sender.pause(seconds)

    def _commit_draft(self, batch: Batch) -> list[Outcome]:
        draft = self._namenodes.new_id()
        try:
            sent = {one.chunk.id: one for one in batch.sent}
            for stage in stages(batch.actions, {identifier: one.chunk for identifier, one in sent.items()}):
                self.stage(draft, stage, sent)
            return self._namenodes.perform(COMMIT, Commit(op_id="", actions=[], draft=draft)).outcomes
        except BaseException:
            # It would go by itself after some days; dropping it now frees its chunks sooner.
            with suppress(DfsError):
                self._namenodes.perform(DROP_DRAFT, DropDraft(op_id="", draft=draft))
            raise

    def stage(self, draft: str, stage: Stage, sent: dict[str, Sent]) -> list[Sent]:
        """Add to a draft. Returns its chunks as they were staged: one whose receipts were refused is another now.

        sent  by id, at least the chunks of `stage`
        """
        here = [sent[chunk.id] for chunk in stage.chunks]
        request = msgspec.structs.replace(stage, draft=draft)
        for resends in range(RESENDS_MAX + 1):
            try:
                self._namenodes.perform(STAGE, request)
                return here
            except (ReceiptRefused, ChunkExists) as refusal:
                if resends == RESENDS_MAX:
                    raise
                renamed = self._send_again(here, refusal)
                sent.update({one.chunk.id: one for one in here})
                request = msgspec.structs.replace(
                    request,
                    chunks=[one.chunk for one in here],
                    actions=[with_chunks(action, renamed) for action in request.actions],
                    extents=[
                        msgspec.structs.replace(staged, extent=_renamed(staged.extent, renamed))
                        for staged in request.extents
                    ],
                )
        raise AssertionError("the last round returns or raises")


def _renamed(extent: Extent, renamed: Mapping[str, str]) -> Extent:
    new = renamed.get(extent.chunk)
    return extent if new is None else Extent(new, extent.offset, extent.length, extent.digest)


def with_chunks(action: Action, renamed: Mapping[str, str]) -> Action:
    """`action` with the chunks of its extents renamed."""
    if isinstance(action, PutFile | AppendFile) and any(extent.chunk in renamed for extent in action.extents):
        return msgspec.structs.replace(action, extents=[_renamed(extent, renamed) for extent in action.extents])
    return action


def _text_bytes(action: Action) -> int:
    total = 0
    for name in ("path", "source", "target"):
        total += len(getattr(action, name, "").encode(errors="surrogatepass"))
    for source in getattr(action, "sources", ()):
        total += len(source.encode(errors="surrogatepass"))
    for key, value in (getattr(action, "attributes", None) or {}).items():
        total += len(key.encode()) + len(value.encode())
    return total


def _items(action: Action) -> int:
    return 1 + (len(action.extents) if isinstance(action, PutFile | AppendFile) else 0)


def fits(batch: Batch) -> bool:
    """Whether one commit can carry the batch."""
    items = len(batch.sent) + sum(map(_items, batch.actions))
    return items <= ITEMS_MAX and sum(map(_text_bytes, batch.actions)) <= TEXT_BYTES_MAX


def stages(actions: Iterable[Action], chunks: Mapping[str, NewChunk]) -> Iterator[Stage]:
    """Cut actions that don't fit into one commit into calls of `stage`, in order; the draft's id is still missing.

    A chunk travels with the first extent that uses it. A file with too many extents is staged by number.
    """
    actions = list(actions)
    # What is stored once counts only as often: the lowest of all, or the cluster's own where nobody says anything.
    wanted = [action.replication for action in actions if isinstance(action, PutFile | AppendFile)]
    pending = _Stage(dict(chunks), min((copies for copies in wanted if copies is not None), default=None))
    for number, action in enumerate(actions):
        if isinstance(action, PutFile) and len(action.extents) > ITEMS_MAX // 4:
            for index, extent in enumerate(action.extents):
                yield from pending.make_room(2, 0)
                pending.add_extent(StagedExtent(number, index, extent))
            action = msgspec.structs.replace(action, extents=[], staged=number)
        for part in _parts(action):
            yield from pending.make_room(_items(part) * 2, _text_bytes(part))
            pending.add_action(part)
    yield from pending.make_room(ITEMS_MAX + 1, 0)


def _parts(action: Action) -> Sequence[Action]:
    """An append of many extents as several; together in one commit they are one."""
    most = ITEMS_MAX // 4
    if not isinstance(action, AppendFile) or len(action.extents) <= most:
        return [action]
    first = msgspec.structs.replace(action, extents=action.extents[:most])
    rest = msgspec.structs.replace(action, drop_tail=False, if_version=None, create=False, parents=False)
    return [first] + [
        msgspec.structs.replace(rest, extents=action.extents[start : start + most])
        for start in range(most, len(action.extents), most)
    ]


class _Stage:
    """The call of `stage` that is being filled."""

    def __init__(self, chunks: dict[str, NewChunk], replication: int | None) -> None:
        self._chunks = chunks
        self._replication = replication
        self._here: list[NewChunk] = []
        self._extents: list[StagedExtent] = []
        self._actions: list[Action] = []
        self._items = 0
        self._text = 0

    def make_room(self, items: int, text: int) -> Iterator[Stage]:
        """Hand out what is there if `items` and `text` bytes more would be too many."""
        full = self._items + items > ITEMS_MAX or self._text + text > TEXT_BYTES_MAX
        if full and self._items:
            yield Stage(
                op_id="",
                draft="",
                extents=self._extents,
                chunks=self._here,
                actions=self._actions,
                replication=self._replication,
            )
            self._here, self._extents, self._actions = [], [], []
            self._items = self._text = 0

    def add_extent(self, staged: StagedExtent) -> None:
        self._extents.append(staged)
        self._items += 1
        self._introduce(staged.extent)

    def add_action(self, action: Action) -> None:
        self._actions.append(action)
        self._items += _items(action)
        self._text += _text_bytes(action)
        if isinstance(action, PutFile | AppendFile):
            for extent in action.extents:
                self._introduce(extent)

    def _introduce(self, extent: Extent) -> None:
        chunk = self._chunks.pop(extent.chunk, None)
        if chunk is not None:
            self._here.append(chunk)
            self._items += 1
