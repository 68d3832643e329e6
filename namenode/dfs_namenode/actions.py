"""Doing the actions of a commit, one after another, inside its transaction.

The last of three layers: `store.namespace` finds where a path leads, `namespace` decides what an action means there,
and this module writes the rows: inodes, contents, the change log. It knows nothing of operation ids, receipts or
drafts as such; what new chunks there are and who refers to them goes through the Introducer.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from dfs.protocol.errors import DfsError, InvalidRequest, IsADirectory, TooLarge
from dfs.protocol.messages import (
    Action,
    AppendFile,
    Concat,
    Copy,
    Extent,
    MakeDirectory,
    Outcome,
    PutFile,
    Remove,
    Rename,
    SetAttributes,
    Truncate,
)
from dfs_namenode import namespace as rules
from dfs_namenode.content_rules import EXTENTS_MAX, ChunkFacts, check_cut, check_extents, content_digest
from dfs_namenode.introducer import Introducer
from dfs_namenode.namespace import DIRECTORY_MODE, FILE_MODE, FileContent, Inode, Place
from dfs_namenode.store import chunks, contents, drafts, namespace
from dfs_namenode.store.contents import ContentRow, ExtentRow
from dfs_namenode.store.namespace import FileRow
from dfs_namenode.store.new_files import NewFiles
from dfs_namenode.store.oplog import Change
from dfs_namenode.store.transaction import Transaction
from dfs_namenode.walk import Walk

T = TypeVar("T")
MANY = 16
"""Actions from which on it pays to look at their paths first."""


def rows_of(extents: Sequence[Extent], position: int = 0) -> list[ExtentRow]:
    """Extents as rows, one behind the other from a position on."""
    rows = []
    for extent in extents:
        rows.append(
            ExtentRow(position, bytes.fromhex(extent.chunk), extent.offset, extent.length, bytes.fromhex(extent.digest))
        )
        position += extent.length
    return rows


class ActionRunner:
    """Runs actions in order; each sees what those before it did."""

    def __init__(
        self, tx: Transaction, introducer: Introducer, *, principal: str, replication: int, draft_id: bytes | None
    ) -> None:
        self._tx = tx
        self._introducer = introducer
        self._principal = principal
        self._replication = replication
        self._draft_id = draft_id
        self._walk = Walk(tx, tx.memory.directories)
        self._new_files = NewFiles(tx)
        self._is_sole = False
        """The only action of the request: what it does not refuse is done."""
        self.changes: list[Change] = []
        """What was done, for the log."""

    def run(self, actions: Sequence[Action]) -> list[Outcome]:
        """Do all of them. An error says at which action, and what was done before it is the caller's to roll back."""
        outcomes = []
        self._is_sole = len(actions) == 1
        if len(actions) >= MANY:
            self._walk.expect(action.path for action in actions if type(action) is PutFile)
        for number, action in enumerate(actions):
            try:
                if type(action) is PutFile:
                    outcomes.append(self._put(action))
                else:
                    self._store_new_files()
                    outcomes.append(_DO[type(action)](self, action))
                    self._walk.doubt()
            except DfsError as error:
                error.detail.setdefault("path", action.source if isinstance(action, Rename | Copy) else action.path)
                error.detail["action"] = number
                raise
        self._store_new_files()
        return outcomes

    # --- contents -----------------------------------------------------------------------------------------------

    def _put(self, action: PutFile) -> Outcome:
        place = self._walk.find(action.path)
        if self._new_files.hides(place):
            self._store_new_files()
            place = self._walk.find(action.path)
        rules.decide_put(place, action)
        replication = action.replication or self._replication
        attributes = namespace.encode_attributes(action.attributes)
        if action.staged is None:
            if not action.extents:
                self._decided()
            content_id, digest = self._new_content(action.extents, replication, attributes)
        else:
            content_id, size, digest = self._staged_content(action, replication)
            contents.insert(
                self._tx, content_id, size=size, digest=digest, replication=replication, attributes=attributes
            )
        return self._publish(
            place,
            content_id,
            digest,
            op="put",
            mode=action.mode,
            owner=action.owner,
            group=action.group,
            mtime_ns=action.mtime_ns,
        )

    def _new_content(self, extents: Sequence[Extent], replication: int, attributes: str | None) -> tuple[int, bytes]:
        """Make extents on chunks of this request a new content: its id and digest."""
        check_extents(extents, self._introducer.facts)
        content_id = self._tx.new_content_id()
        rows = rows_of(extents)
        size = 0
        if rows:
            size = rows[-1].position + rows[-1].length
            self._introducer.refer([(row.chunk, row.length) for row in rows], replication=replication)
        digest = content_digest([(row.length, row.digest) for row in rows])
        self._new_files.add_content(ContentRow(content_id, size, digest, replication, attributes), rows)
        return content_id, digest

    def _staged_content(self, action: PutFile, replication: int) -> tuple[int, int, bytes]:
        """Take a content out of the draft: its id, size and digest."""
        if action.extents or self._draft_id is None or action.staged is None:
            raise InvalidRequest(f"{action.path}: `staged` needs a draft, and goes without extents")
        content_id = drafts.take_file(self._tx, self._draft_id, action.staged)
        if content_id is None:
            raise InvalidRequest(f"{action.path}: the draft has no file {action.staged}, or it was used already")
        # Before they are laid out: a draft takes more extents than a file may have, or memory should hold.
        self._check_extent_count(action.path, contents.extent_count(self._tx, content_id))
        size, digest = contents.lay_out(self._tx, content_id)
        self._introducer.publish(contents.chunks_of(self._tx, content_id), replication=replication)
        return content_id, size, digest

    def _publish(
        self,
        place: Place,
        content_id: int,
        digest: bytes,
        *,
        op: str,
        mode: int | None = None,
        owner: str | None = None,
        group: str | None = None,
        mtime_ns: int | None = None,
    ) -> Outcome:
        """Make the place a file with that content. What it replaces is retired; None keeps what the old file had."""
        tx, old = self._tx, place.inode
        if self._new_files.are_many():
            self._store_new_files()
        mtime_ns = tx.now_ms * 1_000_000 if mtime_ns is None else mtime_ns
        if old is None:
            parent_id, name, inode_id = self._parents(place), place.parts[-1], tx.new_inode_id()
            self._new_files.add_file(
                FileRow(
                    parent_id,
                    name,
                    inode_id,
                    _or(mode, FILE_MODE),
                    _or(owner, self._principal),
                    _or(group, ""),
                    mtime_ns,
                    tx.seq,
                    content_id,
                )
            )
        else:
            parent_id, name, inode_id = old.parent_id, old.name, old.id
            namespace.update_file(
                tx,
                old,
                mode=_or(mode, old.mode),
                owner=_or(owner, old.owner),
                group=_or(group, old.group),
                mtime_ns=mtime_ns,
                content_id=content_id,
            )
            self._retire(old)
        self._log(op, inode_id, parent_id=parent_id, name=name, content_id=content_id, old=old)
        return Outcome(place.path, tx.seq, rules.etag_of(tx.seq, digest))

    def _append(self, action: AppendFile) -> Outcome:
        place = self._walk.find(action.path)
        if rules.decide_append(place, action) == "create":
            replication = action.replication or self._replication
            content_id, digest = self._new_content(action.extents, replication, None)
            return self._publish(place, content_id, digest, op="put")
        old = rules.require_file(place)
        if not action.extents and not action.drop_tail:
            return Outcome(place.path, old.version, old.etag, changed=False)
        check_extents(action.extents, self._introducer.facts)
        if action.drop_tail:
            return self._replace_tail(place, old, action.extents)
        return self._add_behind(place, old, action.extents)

    def _add_behind(self, place: Place, old: Inode, extents: Sequence[Extent]) -> Outcome:
        """Append in place: who has the file open reads a prefix of it, and is not disturbed."""
        tx, content_id, replication = self._tx, old.content.id, old.content.replication
        rows = rows_of(extents, old.content.size)
        contents.insert_extents(tx, content_id, rows)
        self._check_extent_count(place.path, contents.extent_count(tx, content_id))
        self._introducer.refer([(row.chunk, row.length) for row in rows], replication=replication)
        digest = contents.digest_of(tx, content_id)
        contents.grew(tx, content_id, size=rows[-1].position + rows[-1].length, digest=digest)
        namespace.update_file(
            tx,
            old,
            mode=old.mode,
            owner=old.owner,
            group=old.group,
            mtime_ns=tx.now_ms * 1_000_000,
            content_id=content_id,
        )
        self._log("append", old.id, parent_id=old.parent_id, name=old.name, content_id=content_id, old=old)
        return Outcome(place.path, tx.seq, rules.etag_of(tx.seq, digest))

    def _replace_tail(self, place: Place, old: Inode, extents: Sequence[Extent]) -> Outcome:
        """Append with a new tail: a new content, since who has the old one open still reads the old tail."""
        tx, content_id, replication = self._tx, old.content.id, old.content.replication
        tail = contents.last_extent(tx, content_id)
        if tail is None:
            raise InvalidRequest(f"{place.path}: is empty, so it has no last extent to replace")
        rows = rows_of(extents, tail.position)
        end = rows[-1].position + rows[-1].length if rows else tail.position
        if end < old.content.size:
            raise InvalidRequest(f"{place.path}: the new last extents must begin with the bytes of the old one")
        new_id = tx.new_content_id()
        contents.copy_extents(tx, content_id, new_id, before=tail.position)
        contents.insert_extents(tx, new_id, rows)
        self._check_extent_count(place.path, contents.extent_count(tx, new_id))
        self._introducer.refer([(row.chunk, row.length) for row in rows], replication=replication)
        digest = contents.digest_of(tx, new_id)
        contents.insert(tx, new_id, size=end, digest=digest, replication=replication, attributes=old.attributes)
        return self._publish(place, new_id, digest, op="append")

    def _copy(self, action: Copy) -> Outcome:
        source, target = self._walk.find(action.source), self._walk.find(action.target)
        rules.decide_copy(source, target, action)
        copied = rules.require_file(source)
        content_id, digest = self._tx.new_content_id(), copied.content.digest
        contents.copy_extents(self._tx, copied.content.id, content_id)
        contents.insert(
            self._tx,
            content_id,
            size=copied.content.size,
            digest=digest,
            replication=copied.content.replication,
            attributes=copied.attributes,
        )
        return self._publish(target, content_id, digest, op="copy", mode=copied.mode)

    def _concat(self, action: Concat) -> Outcome:
        """A new content of the extents of all: who has one of the files open still reads that one."""
        tx, place = self._tx, self._walk.find(action.path)
        old, joined = rules.decide_concat(place, [self._walk.find(source) for source in action.sources], action)
        new_id, size = tx.new_content_id(), 0
        for inode in (old, *joined):
            contents.copy_extents(tx, inode.content.id, new_id, behind=size)
            size += inode.content.size
            self._check_extent_count(place.path, contents.extent_count(tx, new_id))
        self._introducer.want(contents.chunks_of(tx, new_id), old.content.replication)
        digest = contents.digest_of(tx, new_id)
        contents.insert(
            tx, new_id, size=size, digest=digest, replication=old.content.replication, attributes=old.attributes
        )
        for inode in joined:
            self._delete(inode)
            self._log("delete", inode.id, old=inode)
        return self._publish(place, new_id, digest, op="concat")

    def _truncate(self, action: Truncate) -> Outcome:
        """A new content of the extents before the new end: who has the file open still reads all of it."""
        tx, place = self._tx, self._walk.find(action.path)
        verdict = rules.decide_truncate(place, action)
        old = rules.require_file(place)
        if verdict == "nothing":
            return Outcome(place.path, old.version, old.etag, changed=False)
        (cut,) = contents.window(tx, old.content.id, start=action.size, end=action.size + 1, limit=1)
        check_cut(action.tail, cut.chunk.hex(), cut.offset, action.size - cut.position)
        new_id = tx.new_content_id()
        contents.copy_extents(tx, old.content.id, new_id, before=cut.position)
        rows = rows_of(action.tail, cut.position)
        if rows and cut.chunk.hex() not in self._introducer.facts:
            length, digest, _ = chunks.facts(tx, cut.chunk) or (0, b"", 0)
            self._introducer.share(cut.chunk.hex(), ChunkFacts(length, digest.hex()))
        contents.insert_extents(tx, new_id, rows)
        self._introducer.refer([(row.chunk, row.length) for row in rows], replication=old.content.replication)
        digest = contents.digest_of(tx, new_id)
        contents.insert(
            tx, new_id, size=action.size, digest=digest, replication=old.content.replication, attributes=old.attributes
        )
        return self._publish(place, new_id, digest, op="truncate")

    # --- names --------------------------------------------------------------------------------------------------

    def _make_directory(self, action: MakeDirectory) -> Outcome:
        place = self._walk.find(action.path)
        if rules.decide_mkdir(place, action) == "nothing":
            return Outcome(place.path, rules.require_inode(place).version, changed=False)
        self._decided()
        self._insert_directory(self._parents(place), place.parts[-1], _or(action.mode, DIRECTORY_MODE))
        return Outcome(place.path, self._tx.seq)

    def _remove(self, action: Remove) -> Outcome:
        place = self._walk.find(action.path)
        verdict = rules.decide_remove(place, action, has_children=self._has_children(place.inode))
        if verdict == "nothing":
            return Outcome(place.path, 0, changed=False)
        inode = rules.require_inode(place)
        self._decided()
        if verdict == "detach":
            namespace.detach(self._tx, inode)
        else:
            self._delete(inode)
        self._log(verdict, inode.id, old=inode)
        return Outcome(place.path, inode.version, inode.etag)

    def _rename(self, action: Rename) -> Outcome:
        source, target = self._walk.find(action.source), self._walk.find(action.target)
        verdict = rules.decide_rename(source, target, action, target_has_children=self._has_children(target.inode))
        inode = rules.require_inode(source)
        outcome = Outcome(target.path, inode.version, inode.etag, changed=verdict != "nothing")
        if verdict == "nothing":
            return outcome
        self._decided()
        if target.inode is not None:
            self._delete(target.inode)
            self._log("delete", target.inode.id, old=target.inode)
        parent_id, name = self._parents(target), target.parts[-1]
        namespace.move(self._tx, inode, parent_id, name)
        self._log("rename", inode.id, parent_id=parent_id, name=name, content_id=inode.content_id, old=inode)
        return outcome

    def _set(self, action: SetAttributes) -> Outcome:
        place = self._walk.find(action.path)
        old = rules.require_inode(place)
        if action.replication is not None and old.is_directory:
            raise IsADirectory(f"{place.path}: is a directory; replication is set on files")
        merged = rules.merge_attributes(
            place.path, namespace.decode_attributes(old.attributes), action.attributes, action.drop_attributes
        )
        new = old._replace(
            mode=_or(action.mode, old.mode),
            owner=_or(action.owner, old.owner),
            group=_or(action.group, old.group),
            mtime_ns=_or(action.mtime_ns, old.mtime_ns),
            replication=_or(action.replication, old.replication),
            attributes=namespace.encode_attributes(merged),
        )
        outcome = Outcome(place.path, old.version, old.etag, changed=new != old)
        if new == old:
            return outcome
        namespace.describe(
            self._tx,
            old,
            mode=new.mode,
            owner=new.owner,
            group=new.group,
            mtime_ns=new.mtime_ns,
            attributes=new.attributes if old.is_directory else None,
        )
        if not old.is_directory:
            self._describe_content(old.content, new.content.replication, new.attributes)
        self._log("set", old.id, parent_id=old.parent_id, name=old.name, content_id=old.content_id, old=old)
        return outcome

    def _describe_content(self, content: FileContent, replication: int, attributes: str | None) -> None:
        contents.describe(self._tx, content.id, replication=replication, attributes=attributes)
        if replication != content.replication:
            chunk_ids = contents.chunks_of(self._tx, content.id)
            if replication > content.replication:
                self._introducer.want(chunk_ids, replication)
            else:
                self._introducer.want_less(chunk_ids)

    # --- what they share ----------------------------------------------------------------------------------------

    def _store_new_files(self) -> None:
        self._new_files.store()
        self._walk.doubt()

    def _decided(self) -> None:
        """An action that needs no chunk has passed all checks and changed nothing yet."""
        if self._is_sole:
            self._tx.nothing_more_to_refuse()

    def _parents(self, place: Place) -> int:
        """The id of the directory that the place is in; makes those that are missing."""
        parent_id = place.ancestors[-1]
        for name in place.missing:
            parent_id = self._insert_directory(parent_id, name, DIRECTORY_MODE)
        return parent_id

    def _insert_directory(self, parent_id: int, name: str, mode: int) -> int:
        inode_id = self._tx.new_inode_id()
        namespace.insert_directory(
            self._tx,
            inode_id,
            parent_id,
            name,
            mode=mode,
            owner=self._principal,
            mtime_ns=self._tx.now_ms * 1_000_000,
        )
        self._log("mkdir", inode_id, parent_id=parent_id, name=name)
        return inode_id

    def _has_children(self, inode: Inode | None) -> bool:
        return inode is not None and inode.is_directory and namespace.has_children(self._tx, inode.id)

    def _delete(self, inode: Inode) -> None:
        namespace.delete(self._tx, inode)
        if not inode.is_directory:
            self._retire(inode)

    def _retire(self, inode: Inode) -> None:
        contents.retire(self._tx, [inode.content.id])

    def _check_extent_count(self, path: str, count: int) -> None:
        if count > EXTENTS_MAX:
            raise TooLarge(f"{path}: would have {count} extents, at most {EXTENTS_MAX} are kept; use larger chunks")

    def _log(
        self,
        op: str,
        inode_id: int,
        *,
        parent_id: int | None = None,
        name: str | None = None,
        content_id: int | None = None,
        old: Inode | None = None,
    ) -> None:
        if old is None:
            self.changes.append(Change(op, inode_id, parent_id, name, content_id=content_id))
            return
        self.changes.append(
            Change(
                op, inode_id, parent_id, name, old.parent_id, old.name, content_id, old.content_id, _described(old)
            )
        )  # fmt: skip


_DO: dict[type[Any], Callable[[ActionRunner, Any], Outcome]] = {
    AppendFile: ActionRunner._append,
    Concat: ActionRunner._concat,
    Truncate: ActionRunner._truncate,
    MakeDirectory: ActionRunner._make_directory,
    Remove: ActionRunner._remove,
    Rename: ActionRunner._rename,
    Copy: ActionRunner._copy,
    SetAttributes: ActionRunner._set,
}


def _described(inode: Inode) -> bytes:
    """What a change forgets about an inode, as the log keeps it: what undoing needs beside the place."""
    return msgspec.msgpack.encode(
        (
            inode.kind,
            inode.mode,
            inode.owner,
            inode.group,
            inode.mtime_ns,
            inode.version,
            inode.size,
            inode.digest,
            inode.replication,
            inode.attributes,
        )
    )


def _or(value: T | None, otherwise: T) -> T:
    return otherwise if value is None else value
