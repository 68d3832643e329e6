"""The chunks of one file that takes long: staged in a draft before their receipts grow too old.

A commit takes no chunk that is older than the cluster's window (12 hours by default), and no more than some thousand at
once; a draft keeps what was staged in it for as long as somebody works on it. So a big or slow upload hands its chunks
to a draft as it goes, and one commit publishes the draft. A file that is stored sooner never makes one. Separate from
`publisher`, which makes actions visible that are all there: this is about those that are not.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress

import msgspec

from dfs.namenodes import Namenodes
from dfs.protocol.errors import DfsError, ReceiptRefused
from dfs.protocol.ids import id_time_ms
from dfs.protocol.messages import AppendFile, Commit, DropDraft, Extent, Outcome, PutFile, Stage, StagedExtent
from dfs.protocol.operations import COMMIT, DROP_DRAFT
from dfs.publisher import Batch, Publisher, Sent

STAGE_CHUNKS = 128
"""Chunks without a draft: with the usual size some 8 GiB, which costs one more call each."""
STAGE_AGE_SHARE = 0.25
"""Of the time within which a chunk must be committed: enough is left to wait for a namenode."""
STAGE_ITEMS = 1000
"""Chunks in one call."""
REFUSED_WAIT_S = 2.0
REFUSED_WAITS_MAX = 30
"""How long the replicas of a staged chunk whose bytes are not at hand are waited for: repair makes them."""


class Staging:
    """The chunks of one file, on their way to a commit. Not for several threads.

    append  what the chunks are appended as, without extents; None: they become a file of their own
    draft   one that is there already, from an earlier life of this upload; None: none yet
    staged  told of the places that are in the draft from now on
    """

    def __init__(
        self,
        publisher: Publisher,
        namenodes: Namenodes,
        *,
        replication: int | None,
        append: AppendFile | None = None,
        draft: str | None = None,
        staged: Callable[[Iterable[int]], None] | None = None,
    ) -> None:
        self._publisher = publisher
        self._namenodes = namenodes
        self._replication = replication
        self._append = append
        self._draft = draft
        self._tell_staged = staged
        self._waiting: dict[int, Sent] = {}
        """Chunks that are in no draft, by their place."""
        self._oldest_ms = 0
        """When the oldest of them was granted."""
        self._in_draft: dict[int, Sent] = {}

    @property
    def extents(self) -> list[Extent]:
        """All that was added, in the order of the places."""
        found = sorted((self._waiting | self._in_draft).items())
        return [Extent(one.chunk.id, 0, one.chunk.length, one.chunk.digest) for _, one in found]

    def add(self, place: int, one: Sent, *, in_draft: bool = False) -> None:
        """One more chunk of the file; those of an append come in order.

        in_draft  an earlier life has staged it
        """
        if in_draft:
            self._in_draft[place] = one
            return
        granted_ms = id_time_ms(one.chunk.id)
        self._oldest_ms = min(granted_ms, self._oldest_ms) if self._waiting else granted_ms
        self._waiting[place] = one
        self.tick()

    def add_next(self, one: Sent) -> None:
        """The next chunk of a file whose chunks come in order."""
        self.add(len(self._waiting) + len(self._in_draft), one)

    def tick(self) -> None:
        """Stage what has waited for long enough. To be called every now and then."""
        if not self._waiting:
            return
        stage_age_ms = STAGE_AGE_SHARE * self._namenodes.facts().chunk_commit_window_s * 1000
        if len(self._waiting) >= STAGE_CHUNKS or self._namenodes.now_ms() - self._oldest_ms >= stage_age_ms:
            self.stage()

    def stage(self) -> None:
        """Stage all that waits."""
        if self._draft is None:
            self._draft = self._namenodes.new_id()
        while self._waiting:
            some = dict(sorted(self._waiting.items())[:STAGE_ITEMS])
            sent = {one.chunk.id: one for one in some.values()}
            kept = self._publisher.stage(self._draft, self._stage_of(some), sent)
            for place, one in zip(some, kept, strict=True):
                del self._waiting[place]
                self._in_draft[place] = one
            if self._tell_staged is not None:
                self._tell_staged(some)

    def _stage_of(self, some: dict[int, Sent]) -> Stage:
        chunks = [one.chunk for one in some.values()]
        extents = [Extent(chunk.id, 0, chunk.length, chunk.digest) for chunk in chunks]
        if self._append is None:
            placed = [StagedExtent(0, place, extent) for place, extent in zip(some, extents, strict=True)]
            return Stage(op_id="", draft="", extents=placed, chunks=chunks, replication=self._replication)
        action = msgspec.structs.replace(self._append, extents=extents)
        # The parts become one append: only the first may have to make the file.
        self._append = msgspec.structs.replace(self._append, create=False, parents=False)
        return Stage(op_id="", draft="", actions=[action], chunks=chunks, replication=self._replication)

    def publish(self, action: PutFile | AppendFile) -> Outcome:
        """Make all of it visible, as `action` says, whose extents are filled in here. Raises as a commit does."""
        if not self._in_draft:
            waiting = [one for _, one in sorted(self._waiting.items())]
            action = msgspec.structs.replace(action, extents=self.extents)
            return self._publisher.publish(Batch([action], waiting))[0]
        self.stage()
        assert self._draft is not None, "what is staged is in a draft"
        actions = [msgspec.structs.replace(action, extents=[], staged=0)] if isinstance(action, PutFile) else []
        request = Commit(op_id="", actions=list(actions), draft=self._draft)
        waits = 0
        while True:
            try:
                return self._namenodes.perform(COMMIT, request).outcomes[-1]
            except ReceiptRefused as refusal:
                # Datanodes were lost since; what is in a draft is repaired, but that takes its time.
                waits += 1
                if waits > REFUSED_WAITS_MAX or not (self._sent_again(refusal) or self._may_wait(refusal)):
                    raise

    def _sent_again(self, refusal: ReceiptRefused) -> bool:
        """Whether the refused chunk could be replaced by a new one."""
        if self._append is not None:
            return False
        for place, one in self._in_draft.items():
            if one.chunk.id == refusal.detail.get("chunk") and one.source is not None:
                self._waiting[place] = self._publisher.send_again(one, refusal)
                self.stage()
                return True
        return False

    def _may_wait(self, refusal: ReceiptRefused) -> bool:
        known = any(one.chunk.id == refusal.detail.get("chunk") for one in self._in_draft.values())
        if known:
            self._publisher.pause(REFUSED_WAIT_S)
        return known

    def abort(self) -> None:
        """Drop the draft, if there is one: it would go by itself after some days."""
        if self._in_draft and self._draft is not None:
            self.drop(self._draft)

    def drop(self, draft: str) -> None:
        """Drop a draft, as far as it is there and a namenode answers."""
        with suppress(DfsError):
            self._namenodes.perform(DROP_DRAFT, DropDraft(op_id="", draft=draft))
