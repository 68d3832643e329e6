"""The namespace against a model of a few lines: a dict from paths to bytes.

Hypothesis walks through puts, appends, copies, renames, removes, restarts and clean-ups with few names, so that they
meet. After every step the store must show what the model shows, byte for byte through the layouts, and fail where and
how the model fails.
"""

import shutil
import tempfile
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dfs.protocol.digests import tree_digest
from dfs.protocol.errors import (
    Conflict,
    DfsError,
    DirectoryNotEmpty,
    FileExists,
    FileNotFound,
    IsADirectory,
    NotADirectory,
)
from dfs.protocol.messages import (
    Action,
    AppendFile,
    Concat,
    Copy,
    Extent,
    MakeDirectory,
    PutFile,
    Remove,
    Rename,
    StagedExtent,
    Truncate,
)
from dfs_namenode.store import garbage
from dfs_namenode.store.sqlite import SqliteStore
from fixtures.namenode_store import Bench, FakeClock, whole

Path = tuple[str, ...]
PATHS = st.lists(st.sampled_from(["a", "ü"]), min_size=1, max_size=3).map(tuple)
DATA = st.binary(max_size=8)
MOSTLY, RARELY = st.sampled_from([True, True, False]), st.sampled_from([False, False, True])
"""Trees must get deep before they go, or nothing interesting meets."""


class Model:
    """What the namespace must be: paths with their bytes, or None for a directory."""

    def __init__(self, tree: dict[Path, bytes | None] | None = None) -> None:
        self.tree: dict[Path, bytes | None] = {(): None} if tree is None else tree

    def copy(self) -> "Model":
        return Model(dict(self.tree))

    def is_directory(self, path: Path) -> bool:
        return path in self.tree and self.tree[path] is None

    def below(self, path: Path) -> list[Path]:
        return [other for other in self.tree if len(other) > len(path) and other[: len(path)] == path]

    def _walk(self, path: Path, *, make: bool) -> None:
        """Make or miss the parents of a path."""
        for depth in range(len(path)):
            parent = path[:depth]
            if parent not in self.tree:
                if not make:
                    raise FileNotFound("")
                self.tree[parent] = None
            elif not self.is_directory(parent):
                raise NotADirectory("")

    def _require(self, path: Path) -> None:
        self._walk(path, make=False)
        if path not in self.tree:
            raise FileNotFound("")

    def put(self, path: Path, data: bytes, *, absent: bool, parents: bool) -> None:
        self._walk(path, make=parents)
        if absent and path in self.tree:
            raise FileExists("")
        if self.is_directory(path):
            raise IsADirectory("")
        self.tree[path] = data

    def append(self, path: Path, data: bytes, *, create: bool) -> None:
        self._walk(path, make=False)
        if self.is_directory(path):
            raise IsADirectory("")
        if path not in self.tree and not create:
            raise FileNotFound("")
        self.tree[path] = (self.tree.get(path) or b"") + data

    def concat(self, path: Path, sources: list[Path]) -> None:
        for named in (path, *sources):
            self._require(named)
            if self.is_directory(named):
                raise IsADirectory("")
        if len({path, *sources}) <= len(sources):
            raise Conflict("")
        self.tree[path] = b"".join(self.tree[named] or b"" for named in (path, *sources))
        for source in sources:
            del self.tree[source]

    def truncate(self, path: Path, size: int) -> None:
        self.tree[path] = (self.tree[path] or b"")[:size]

    def mkdir(self, path: Path, *, parents: bool, exist_ok: bool) -> None:
        self._walk(path, make=parents)
        if path in self.tree and not (exist_ok and self.is_directory(path)):
            raise FileExists("")
        self.tree[path] = None

    def remove(self, path: Path, *, recursive: bool, missing_ok: bool) -> None:
        if missing_ok and path not in self.tree:
            return
        self._require(path)
        below = self.below(path)
        if below and not recursive:
            raise DirectoryNotEmpty("")
        for gone in (path, *below):
            del self.tree[gone]

    def rename(self, source: Path, goal: Path, *, overwrite: bool, parents: bool) -> None:
        self._require(source)
        if len(goal) > len(source) and goal[: len(source)] == source and self.is_directory(source):
            raise Conflict("")
        self._walk(goal, make=parents)
        if source == goal:
            return
        if goal in self.tree:
            if source[: len(goal)] == goal:
                raise DirectoryNotEmpty("")
            if not overwrite:
                raise FileExists("")
            if self.is_directory(source) != self.is_directory(goal):
                raise NotADirectory("") if self.is_directory(source) else IsADirectory("")
            if self.below(goal):
                raise DirectoryNotEmpty("")
        moved = {path: self.tree.pop(path) for path in (source, *self.below(source))}
        for path, data in moved.items():
            self.tree[goal + path[len(source) :]] = data

    def copy_file(self, source: Path, target: Path, *, overwrite: bool) -> None:
        self._require(source)
        if self.is_directory(source):
            raise IsADirectory("")
        self._walk(target, make=False)
        if self.is_directory(target):
            raise IsADirectory("")
        if source == target:
            raise Conflict("")
        if target in self.tree and not overwrite:
            raise FileExists("")
        self.tree[target] = self.tree[source]


def text(path: Path) -> str:
    return "/" + "/".join(path)


class NamespaceMachine(RuleBasedStateMachine):
    """Every rule does one thing to the model and to the store, and compares how it went."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp(prefix="dfs-model-")
        self.model = Model()
        self.bytes_of: dict[str, bytes] = {}
        self.seqs: list[int] = []
        self.lives = 0

    @initialize()
    def begin(self) -> None:
        self.clock = FakeClock()
        self.store = SqliteStore.open(self.directory, clock=self.clock)
        self.bench = Bench(self.store, self.clock)

    def teardown(self) -> None:
        if hasattr(self, "bench"):
            self.bench.close()
            self.store.close()
        shutil.rmtree(self.directory)

    def _chunk(self, data: bytes) -> Any:
        chunk = self.bench.chunk(data)
        self.bytes_of[chunk.id] = data
        return chunk

    def _extents(self, data: bytes) -> tuple[list[Any], list[Any]]:
        """The data as up to two chunks with an extent each."""
        halves = [half for half in (data[: len(data) // 2], data[len(data) // 2 :]) if half]
        chunks = [self._chunk(half) for half in halves]
        return chunks, [whole(chunk) for chunk in chunks]

    def _both(self, model: Model, error: type[DfsError] | None, *actions: Action, **options: Any) -> None:
        """Commit, and go on with the model's new state, or meet the model's error."""
        if error is not None:
            with pytest.raises(error) as refused:
                self.bench.commit(*actions, **options)
            assert type(refused.value) is error
            return
        self.seqs.append(self.bench.commit(*actions, **options).seq)
        self.model = model

    def _try(self, *steps: Any) -> tuple[Model, type[DfsError] | None]:
        """The model after these steps, or the class of the error in one of them."""
        model = self.model.copy()
        try:
            for step in steps:
                step(model)
        except DfsError as error:
            return self.model, type(error)
        return model, None

    @rule(path=PATHS, data=DATA, absent=st.booleans(), parents=MOSTLY)
    def put(self, path: Path, data: bytes, absent: bool, parents: bool) -> None:
        chunks, extents = self._extents(data)
        action = PutFile(path=text(path), extents=extents, when="absent" if absent else "any", parents=parents)
        self._both(*self._try(lambda m: m.put(path, data, absent=absent, parents=parents)), action, chunks=chunks)

    @rule(path=PATHS, data=DATA, create=st.booleans())
    def append(self, path: Path, data: bytes, create: bool) -> None:
        chunks, extents = self._extents(data)
        action = AppendFile(path=text(path), extents=extents, create=create)
        self._both(*self._try(lambda m: m.append(path, data, create=create)), action, chunks=chunks)

    @rule(path=PATHS, data=st.binary(min_size=1, max_size=4))
    def append_with_a_new_tail(self, path: Path, data: bytes) -> None:
        if not self.model.tree.get(path):
            return
        opened = self.bench.open(text(path))
        tail = opened.layout.extents[-1]
        old = self.bytes_of[tail.chunk][tail.offset : tail.offset + tail.length]
        chunk = self._chunk(old + data)
        action = AppendFile(path=text(path), extents=[whole(chunk)], drop_tail=True, if_version=opened.entry.version)
        self._both(*self._try(lambda m: m.append(path, data, create=False)), action, chunks=[chunk])

    @rule(path=PATHS, sources=st.lists(PATHS, min_size=1, max_size=3))
    def concat(self, path: Path, sources: list[Path]) -> None:
        action = Concat(path=text(path), sources=[text(source) for source in sources])
        self._both(*self._try(lambda m: m.concat(path, sources)), action)

    @rule(path=PATHS, cut=st.integers(0, 8))
    def truncate(self, path: Path, cut: int) -> None:
        data = self.model.tree.get(path)
        if data is None:
            return
        size = max(0, len(data) - cut)
        opened = self.bench.open(text(path))
        tail = []
        for extent in opened.layout.extents:
            if extent.position < size < extent.position + extent.length:
                left = data[extent.position : size]
                tail = [Extent(extent.chunk, extent.offset, len(left), tree_digest(left))]
        action = Truncate(path=text(path), size=size, tail=tail, if_version=opened.entry.version)
        self._both(*self._try(lambda m: m.truncate(path, size)), action)

    @rule(path=PATHS, parents=MOSTLY, exist_ok=st.booleans())
    def mkdir(self, path: Path, parents: bool, exist_ok: bool) -> None:
        action = MakeDirectory(path=text(path), parents=parents, exist_ok=exist_ok)
        self._both(*self._try(lambda m: m.mkdir(path, parents=parents, exist_ok=exist_ok)), action)

    @rule(path=PATHS, recursive=RARELY, missing_ok=st.booleans())
    def remove(self, path: Path, recursive: bool, missing_ok: bool) -> None:
        action = Remove(path=text(path), recursive=recursive, missing_ok=missing_ok)
        self._both(*self._try(lambda m: m.remove(path, recursive=recursive, missing_ok=missing_ok)), action)

    @rule(source=PATHS, goal=PATHS, overwrite=st.booleans(), parents=MOSTLY)
    def rename(self, source: Path, goal: Path, overwrite: bool, parents: bool) -> None:
        action = Rename(source=text(source), target=text(goal), overwrite=overwrite, parents=parents)
        self._both(*self._try(lambda m: m.rename(source, goal, overwrite=overwrite, parents=parents)), action)

    @rule(number=st.integers(0, 1000), below=PATHS)
    def rename_into_itself(self, number: int, below: Path) -> None:
        """What is there, to a place below it."""
        existing = sorted(self.model.tree)[1:]
        if existing:
            source = existing[number % len(existing)]
            goal = (*source, *below)
            action = Rename(source=text(source), target=text(goal))
            self._both(*self._try(lambda m: m.rename(source, goal, overwrite=False, parents=False)), action)

    @rule(source=PATHS, goal=PATHS, overwrite=st.booleans())
    def copy(self, source: Path, goal: Path, overwrite: bool) -> None:
        action = Copy(source=text(source), target=text(goal), overwrite=overwrite)
        self._both(*self._try(lambda m: m.copy_file(source, goal, overwrite=overwrite)), action)

    @rule(paths=st.lists(PATHS, min_size=2, max_size=4), goal=PATHS, data=st.binary(min_size=1, max_size=8))
    def many_at_once(self, paths: list[Path], goal: Path, data: bytes) -> None:
        """Puts that share a chunk, a rename of one of them, a remove of another: all or nothing."""
        chunk = self._chunk(data)
        actions: list[Action] = [PutFile(path=text(path), extents=[whole(chunk)], parents=True) for path in paths]
        actions += [Rename(source=text(paths[0]), target=text(goal)), Remove(path=text(paths[-1]), missing_ok=True)]
        steps = [lambda m, path=path: m.put(path, data, absent=False, parents=True) for path in paths]
        steps += [
            lambda m: m.rename(paths[0], goal, overwrite=False, parents=False),
            lambda m: m.remove(paths[-1], recursive=False, missing_ok=True),
        ]
        self._both(*self._try(*steps), *actions, chunks=[chunk])

    @rule(path=PATHS, data=st.lists(st.binary(min_size=1, max_size=3), min_size=1, max_size=4))
    def put_through_a_draft(self, path: Path, data: list[bytes]) -> None:
        draft = self.bench.new_id()
        for number, part in reversed(list(enumerate(data))):
            chunk = self._chunk(part)
            self.bench.stage(draft, chunks=[chunk], extents=[StagedExtent(0, number * 1000, whole(chunk))])
        content = b"".join(data)
        action = PutFile(path=text(path), staged=0)
        step = self._try(lambda m: m.put(path, content, absent=False, parents=False))
        self._both(*step, action, draft=draft)
        if step[1] is not None:
            self.bench.drop_draft(draft)

    @rule()
    def restart(self) -> None:
        # Another seed for each life: an id is never made twice.
        self.lives += 1
        nodes = self.bench.nodes
        self.bench.close()
        self.store.close()
        self.store = SqliteStore.open(self.directory, clock=self.clock)
        self.bench = Bench(self.store, self.clock, datanode_count=0, seed=1000 + self.lives)
        self.bench.nodes = nodes

    @rule()
    def clean_up(self) -> None:
        self.clock.advance(3600)
        at_ms = self.clock.wall_ms()
        self.store.write_blocking(lambda tx: garbage.take_apart_detached(tx, rows=1000))
        self.store.write_blocking(lambda tx: garbage.sweep_retired(tx, before_ms=at_ms, rows=1000))
        self.store.write_blocking(lambda tx: garbage.condemn(tx, limit=1000))

    @invariant()
    def the_store_shows_what_the_model_shows(self) -> None:
        if not hasattr(self, "bench"):
            return
        assert self._tree((), {(): None}) == self.model.tree
        assert self.seqs == sorted(set(self.seqs))
        self.bench.check_references()

    def _tree(self, path: Path, found: dict[Path, bytes | None]) -> dict[Path, bytes | None]:
        names = self.bench.ls(text(path), limit=2)
        assert names == sorted(names, key=str.encode)
        for name in names:
            child = (*path, name)
            if self.bench.stat(text(child)).is_directory:
                found[child] = None
                self._tree(child, found)
            else:
                found[child] = self._read(child)
        return found

    def _read(self, path: Path) -> bytes:
        layout = self.bench.open(text(path)).layout
        parts = []
        for extent in layout.extents:
            assert self.bench.value("SELECT state FROM chunk WHERE id = ?", (bytes.fromhex(extent.chunk),)) == 0
            parts.append(self.bytes_of[extent.chunk][extent.offset : extent.offset + extent.length])
        data = b"".join(parts)
        assert len(data) == layout.size
        return data


class TestNamespace(NamespaceMachine.TestCase):
    settings = settings(
        max_examples=40,
        stateful_step_count=30,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
