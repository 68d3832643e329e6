"""A transaction: many files and changes that become visible at one instant, or not at all.

Separate because it keeps actions in the order in which they were asked for while their bytes travel: small files wait
in a pack, big ones are sent at once, and only the end of the `with` body commits. A body that raises publishes
nothing.
"""

import os
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal

import msgspec

from dfs.file import BinaryWriter
from dfs.packer import Pack, Packer
from dfs.protocol.digests import Buffer
from dfs.protocol.errors import InvalidRequest
from dfs.protocol.messages import (
    Action,
    AppendFile,
    Copy,
    MakeDirectory,
    Outcome,
    PutFile,
    Remove,
    Rename,
    SetAttributes,
)
from dfs.publisher import Batch, Sent
from dfs.storing import Storing, kept_attributes, put_action
from dfs.writer import StreamWriter, read_small, regular_size, whole_chunks

PACK_FILES_MAX = 100_000
"""Files in one pack of a transaction: all of them are published by one commit anyhow."""


class Transaction:
    """What `Client.transaction` returns. Paths are as the client's; not for several threads.

    Later actions see what earlier ones do: a file may be written and then renamed.
    """

    def __init__(self, storing: Storing, path_of: Callable[[str], str]) -> None:
        self.outcomes: list[Outcome] = []
        """What each action did, after the commit."""
        self._storing = storing
        self._path_of = path_of
        self._actions: list[Action] = []
        self._sent: list[Sent] = []
        self._packer: Packer[int] = Packer(storing.chunk_size(), PACK_FILES_MAX)
        self._open = True

    # --- actions ----------------------------------------------------------------------------------------------

    def write_bytes(self, path: str, data: Buffer, *, overwrite: bool = True, **options: Any) -> None:
        """Make `path` a file of these bytes. Options as for Client.write_bytes."""
        self._check_open()
        replication = options["replication"] = options.get("replication") or self._storing.wanted_replication
        make = put_action(self._path_of(path), overwrite=overwrite, **options)
        if len(data) > min(self._storing.pack_limit(), self._storing.chunk_size()):
            action = make([])
            sent = self._storing.send_memory(data, action.path, replication=replication)
            self._add(msgspec.structs.replace(action, extents=whole_chunks(sent)), sent)
        else:
            self._pack(make([]), data, replication)

    def put(
        self,
        local: str | os.PathLike[str],
        path: str,
        *,
        overwrite: bool = False,
        preserve: bool = False,
        **options: Any,
    ) -> None:
        """Make `path` a file with the bytes of a local one. Options as for Client.put."""
        self._check_open()
        name = os.fspath(local)
        target = self._path_of(path)
        chunk_size = options.pop("chunk_size", None)
        replication = options["replication"] = options.get("replication") or self._storing.wanted_replication
        with open(name, "rb", buffering=0) as file:
            if preserve:
                options |= kept_attributes(file.fileno())
            make = put_action(target, overwrite=overwrite, **options)
            size = regular_size(file.fileno())
            if size <= min(self._storing.pack_limit(), self._storing.chunk_size()):
                self._pack(make([]), read_small(file.fileno(), size, name), replication)
            else:
                sent = self._storing.send_local(
                    file.fileno(), name, target, replication=replication, chunk_size=chunk_size
                )
                # The file is closed from here on, so that a refused receipt can't be mended by reading it again.
                self._add(make(whole_chunks(sent)), [Sent(one.chunk) for one in sent])

    def open(
        self,
        path: str,
        *,
        overwrite: bool = True,
        append: bool = False,
        chunk_size: int | None = None,
        **options: Any,
    ) -> BinaryWriter:
        """A binary file to be written, which is `path` once the transaction is committed; closed before that.

        One that is dropped, or whose `with` body raises, is not part of the transaction. Options as for write_bytes.

        append  behind the end of a file that is there
        """
        self._check_open()
        replication = options["replication"] = options.get("replication") or self._storing.wanted_replication
        action = put_action(self._path_of(path), overwrite=overwrite, **options)([])
        stream = self._storing.stream_writer(action.path, replication, chunk_size)

        def take(stream: StreamWriter) -> Outcome:
            self._check_open()
            small = None if append else stream.unsent()
            if small is not None and len(small) <= min(self._storing.pack_limit(), self._storing.chunk_size()):
                self._pack(action, small, replication)
            else:
                sent = stream.finish()
                extents = whole_chunks(sent)
                plain: Action = msgspec.structs.replace(action, extents=extents)
                if append:
                    plain = AppendFile(
                        path=action.path,
                        extents=extents,
                        create=True,
                        parents=action.parents,
                        replication=replication,
                    )
                self._add(plain, sent)
            return Outcome(action.path, 0)

        return BinaryWriter(action.path, _Part(stream, take))

    def mkdir(self, path: str, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a directory."""
        self._add(MakeDirectory(path=self._path_of(path), parents=parents, exist_ok=exist_ok))

    def remove(
        self,
        path: str,
        *,
        recursive: bool = False,
        missing_ok: bool = False,
        kind: Literal["any", "file", "directory"] = "any",
    ) -> None:
        """Remove a file, or a directory: an empty one, or any if `recursive`. `kind` as for Client.remove."""
        self._add(Remove(path=self._path_of(path), recursive=recursive, missing_ok=missing_ok, kind=kind))

    def rename(self, source: str, target: str, *, overwrite: bool = False, parents: bool = False) -> None:
        """Give a file or a directory another path."""
        here, there = self._path_of(source), self._path_of(target)
        self._add(Rename(source=here, target=there, overwrite=overwrite, parents=parents))

    def copy(self, source: str, target: str, *, overwrite: bool = False, parents: bool = False) -> None:
        """A second file with the same content; no bytes move."""
        here, there = self._path_of(source), self._path_of(target)
        self._add(Copy(source=here, target=there, overwrite=overwrite, parents=parents))

    def set_attributes(self, path: str, **changes: Any) -> None:
        """Change what describes a file or directory. Changes as for Client.set_attributes."""
        self._add(SetAttributes(path=self._path_of(path), **changes))

    def _add(self, action: Action, sent: list[Sent] | None = None) -> None:
        self._check_open()
        self._actions.append(action)
        self._sent += sent or []

    def _pack(self, action: PutFile, data: Buffer, replication: int | None) -> None:
        self._add(action)
        if len(data):
            full = self._packer.add(len(self._actions) - 1, data, self._storing.replication(replication))
            if full is not None:
                self._send_pack(full, keep=False)

    def _send_pack(self, pack: Pack[int], *, keep: bool) -> None:
        sent = self._storing.store_pack(pack, lambda index: self._packed(index).path)
        # The bytes of full packs are not kept for a receipt that is refused: a transaction of any size needs the
        # memory of one pack for each replication.
        self._sent.append(sent if keep else Sent(sent.chunk))
        for index, member in pack.members:
            extents = [member.extent(sent.chunk.id)]
            self._actions[index] = msgspec.structs.replace(self._packed(index), extents=extents)

    def _packed(self, index: int) -> PutFile:
        action = self._actions[index]
        assert isinstance(action, PutFile), "only files are packed"
        return action

    def _check_open(self) -> None:
        if not self._open:
            raise InvalidRequest("the transaction is over; begin another one")

    # --- the end ----------------------------------------------------------------------------------------------

    def commit(self) -> list[Outcome]:
        """Make everything visible at once. Raises what prevents that; then nothing is visible.

        An empty transaction does nothing.
        """
        self._check_open()
        self._open = False
        for pack in self._packer.finish():
            self._send_pack(pack, keep=True)
        if self._actions:
            self.outcomes = self._storing.publisher.publish(Batch(self._actions, self._sent))
        return self.outcomes

    def abort(self) -> None:
        """Drop everything. What was stored already is left to the cluster's garbage collection."""
        self._open = False
        self._packer.finish()

    def __enter__(self) -> "Transaction":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()
        elif self._open:
            self.commit()


class _Part:
    """A file of a transaction that is being written. Not for several threads."""

    def __init__(self, stream: StreamWriter, take: Callable[[StreamWriter], Outcome]) -> None:
        self._stream = stream
        self._take = take

    def write(self, data: Buffer) -> int:
        return self._stream.write(data)

    def commit(self) -> Outcome:
        return self._take(self._stream)

    def abort(self) -> None:
        self._stream.abort()
