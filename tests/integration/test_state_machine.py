"""A model of the whole store against the whole store: any order of operations, with restarts in between.

Each example works below a directory of its own in one running cluster whose chunks are small, so that files of a few
kilobytes cross chunk boundaries. What the model says must be true of the real store after every step.
"""

import itertools
from collections.abc import Iterator

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

import dfs
from dfs.testing import Cluster, cluster

CHUNK = 64 * 1024
NAMES = st.sampled_from(["a", "b", "ü", "c d", "%2F"])
CONTENTS = st.one_of(
    st.binary(max_size=40),
    st.builds(
        lambda seed, length: (bytes([seed, seed ^ 0x5A, 3, 7]) * (length // 4 + 1))[:length],
        st.integers(0, 255),
        st.sampled_from([1, 16383, 16384, 16385, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 77]),
    ),
)
Model = dict[str, bytes | None]
"""Path -> content, or None for a directory."""

_number = itertools.count()


@pytest.fixture(scope="module", name="store")
def a_store_with_small_chunks() -> Iterator[Cluster]:
    with cluster(datanodes=3, chunk_size_bytes=CHUNK) as running:
        yield running


def parent(path: str) -> str:
    return path.rpartition("/")[0]


class StoreMachine(RuleBasedStateMachine):
    """One example: the model, and the same operations on the real store."""

    running: Cluster
    paths: Bundle[str] = Bundle("paths")

    def __init__(self) -> None:
        super().__init__()
        self.fs = self.running.connect()
        self.root = f"/machine-{next(_number)}"
        self.model: Model = {self.root: None}
        self.versions: dict[str, int] = {}
        self.restarts = 0
        self.fs.mkdir(self.root)

    def teardown(self) -> None:
        self.fs.remove(self.root, recursive=True)
        self.fs.close()

    # --- the model's half ---

    def problem_of_parent(self, path: str) -> type[Exception] | None:
        above = parent(path)
        while above not in self.model:
            above = parent(above)
        if self.model[above] is not None:
            return dfs.errors.NotADirectory
        return None if above == parent(path) else dfs.errors.FileNotFound

    def problem_of_file(self, path: str) -> type[Exception] | None:
        if path not in self.model:
            return self.problem_of_parent(path) or dfs.errors.FileNotFound
        return dfs.errors.IsADirectory if self.model[path] is None else None

    def below(self, path: str) -> list[str]:
        return [other for other in self.model if other.startswith(path + "/")]

    def expect(self, problem: type[Exception] | None, call: object, *arguments: object, **options: object) -> bool:
        """Make the call; it must fail with `problem`, or succeed if that is None."""
        if problem is None:
            call(*arguments, **options)  # type: ignore[operator]
            return True
        with pytest.raises(problem):
            call(*arguments, **options)  # type: ignore[operator]
        return False

    # --- paths ---

    @initialize(target=paths)
    def a_first_path(self) -> str:
        return f"{self.root}/a"

    @rule(target=paths, above=paths, name=NAMES)
    def a_deeper_path(self, above: str, name: str) -> str:
        return f"{above}/{name}" if above.count("/") < 5 else f"{self.root}/{name}"

    @rule(target=paths, name=NAMES)
    def a_path_at_the_top(self, name: str) -> object:
        return multiple(f"{self.root}/{name}")

    # --- operations ---

    @rule(path=paths, content=CONTENTS)
    def put(self, path: str, content: bytes) -> None:
        problem = self.problem_of_parent(path)
        if problem is None and path in self.model and self.model[path] is None:
            problem = dfs.errors.IsADirectory
        if self.expect(problem, self.fs.write_bytes, path, content):
            self.model[path] = content

    @rule(path=paths, content=CONTENTS)
    def append(self, path: str, content: bytes) -> None:
        if self.expect(self.problem_of_file(path), self.fs.append, path, content, create=False):
            self.model[path] = (self.model[path] or b"") + content

    @rule(path=paths)
    def mkdir(self, path: str) -> None:
        problem = self.problem_of_parent(path) or (dfs.errors.FileExists if path in self.model else None)
        if self.expect(problem, self.fs.mkdir, path):
            self.model[path] = None

    @rule(source=paths, to=paths)
    def copy(self, source: str, to: str) -> None:
        problem = self.problem_of_file(source) or self.problem_of_parent(to)
        if problem is None and source != to and to in self.model:
            problem = dfs.errors.IsADirectory if self.model[to] is None else None
        if source == to:
            return
        if self.expect(problem, self.fs.copy, source, to, overwrite=True):
            self.model[to] = self.model[source]

    @rule(source=paths, to=paths)
    def rename(self, source: str, to: str) -> None:
        if source == to or source not in self.model:
            if source not in self.model:
                self.expect(self.problem_of_parent(source) or dfs.errors.FileNotFound, self.fs.rename, source, to)
            return
        if to.startswith(source + "/"):
            # Below a file there is nothing; below itself a directory can't go.
            problem: type[Exception] | None = (
                dfs.errors.Conflict if self.model[source] is None else dfs.errors.NotADirectory
            )
        else:
            problem = self.problem_of_parent(to)
            if problem is None and to in self.model:
                # What is to be replaced by something inside it is not empty, whatever was asked.
                inside = source.startswith(to + "/")
                problem = dfs.errors.DirectoryNotEmpty if inside else dfs.errors.FileExists
        if self.expect(problem, self.fs.rename, source, to):
            for path in [source, *self.below(source)]:
                self.model[to + path[len(source) :]] = self.model.pop(path)

    @rule(path=paths, recursive=st.booleans())
    def remove(self, path: str, recursive: bool) -> None:
        problem: type[Exception] | None = None
        if path not in self.model:
            problem = self.problem_of_parent(path) or dfs.errors.FileNotFound
        elif self.below(path) and not recursive:
            problem = dfs.errors.DirectoryNotEmpty
        if self.expect(problem, self.fs.remove, path, recursive=recursive):
            for gone in [path, *self.below(path)]:
                del self.model[gone]

    @rule(path=paths, start=st.integers(0, 4 * CHUNK), length=st.integers(0, 2 * CHUNK))
    def read_a_range(self, path: str, start: int, length: int) -> None:
        problem = self.problem_of_file(path)
        if problem is None:
            content = self.model[path]
            assert content is not None
            assert self.fs.read_bytes(path, start=start, end=start + length) == content[start : start + length]
        else:
            self.expect(problem, self.fs.read_bytes, path, start=start, end=start + length)

    @rule()
    def restart_the_namenode(self) -> None:
        if self.restarts < 1:
            self.restarts += 1
            self.running.namenode.kill()
            self.running.namenode.restart()

    @rule(number=st.integers(0, 2))
    def restart_a_datanode(self, number: int) -> None:
        if self.restarts < 2:
            self.restarts += 1
            self.running.datanodes[number].kill()
            self.running.datanodes[number].restart()

    @invariant()
    def every_directory_lists_what_the_model_has(self) -> None:
        shown: Model = {self.root: None}
        for path, directories, files in self.fs.walk(self.root):
            for entry in directories:
                shown[f"{path}/{entry.name}"] = None
            for entry in files:
                content = self.model.get(f"{path}/{entry.name}")
                assert content is not None
                assert entry.size == len(content)
                shown[f"{path}/{entry.name}"] = content
        assert shown == self.model

    @rule()
    def everything_reads_back(self) -> None:
        for path, content in self.model.items():
            if content is not None:
                assert self.fs.read_bytes(path) == content


def test_any_order_of_operations_leaves_what_a_model_says(store: Cluster) -> None:
    machine = type("Machine", (StoreMachine,), {"running": store})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=20,
            stateful_step_count=30,
            deadline=None,
            derandomize=False,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
