"""What one client process does in a measurement: prepare, wait for the others, work for a while, check, answer.

Separate from `worker`, which receives orders, and from the workloads, which say who does what. A task works either for
a time or through a number of things, whichever ends first; checks that are not a reader's own cost are made after the
clock has stopped.
"""

import os
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import xxhash

from dfs.bench.samples import Latencies
from dfs.bench.stores import PIECE, Store

if TYPE_CHECKING:
    from dfs.bench.stores import DfsStore

SMALL_SIZE = 4096
GENERATED_PER_DIRECTORY = 1000
"""As dfs_namenode.store.generate has it, which clients do not import."""
_NAMES_MAX = 1_000_000


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What a client did."""

    began_s: float
    ended_s: float
    """On the monotonic clock, which all processes of a machine share."""
    count: int
    latencies: list[tuple[int, int]]
    notes: list[str] = []


class Round:
    """A task's stop-watch. `wait` returns when all clients of the measurement are ready."""

    def __init__(self, wait: Callable[[], None]) -> None:
        self._wait = wait
        self._latencies = Latencies()

    def repeat(self, step: Callable[[int], None], *, seconds: float, most: int) -> Done:
        """Do `step(0)`, `step(1)`, … until the time is over or there have been `most`."""
        self._wait()
        began = now = time.monotonic()
        deadline = began + seconds
        count = 0
        while count < most and now < deadline:
            step(count)
            count += 1
            later = time.monotonic()
            self._latencies.add(later - now)
            now = later
        return Done(began_s=began, ended_s=now, count=count, latencies=list(self._latencies.counts.items()))

    def once(self, work: Callable[[], None]) -> Done:
        """Do one piece of work."""
        return self.repeat(lambda _: work(), seconds=float("inf"), most=1)


def content(path: str, size: int = SMALL_SIZE) -> bytes:
    """The bytes of the small file `path`: a reader can tell that they are the right ones."""
    seed = xxhash.xxh3_128_digest(path.encode())
    return seed * (size // len(seed)) + seed[: size % len(seed)]


def small_path(directory: str, number: int) -> str:
    return f"{directory}/f{number:06}"


# --- big files ----------------------------------------------------------------------------------------------------


def put_file(store: Store, watch: Round, *, local: str, path: str) -> Done:
    """A local file into the store."""
    # Connections and modules are there before the clock starts: this is the store's speed, not the interpreter's.
    store.put(f"{path}-first", b"first")
    store.get(f"{path}-first")
    return watch.once(lambda: store.put_file(local, path))


def get_file(store: Store, watch: Round, *, path: str, local: str) -> Done:
    """A file of the store into a local one; compared with nothing: see `verify`."""
    return watch.once(lambda: store.get_file(path, local))


def drain(store: Store, watch: Round, *, path: str, size: int) -> Done:
    """A file of the store, read in order and thrown away. Raises ValueError if its size is not `size`."""
    received = 0

    def take(piece: memoryview) -> None:
        nonlocal received
        received += len(piece)

    done = watch.once(lambda: store.drain(path, take))
    if received != size:
        raise ValueError(f"{path} has {received} bytes instead of {size}")
    return done


def verify(store: Store, watch: Round, *, path: str, local: str) -> Done:
    """Compare a file of the store with the local file that it was made of. Raises ValueError if they differ."""
    seen = xxhash.xxh3_128()
    done = watch.once(lambda: store.drain(path, seen.update))
    wanted = xxhash.xxh3_128()
    with open(local, "rb") as file:
        while piece := file.read(PIECE):
            wanted.update(piece)
    if seen.digest() != wanted.digest():
        raise ValueError(f"{path} differs from what was stored")
    return done


# --- small files and ranges ---------------------------------------------------------------------------------------


def put_small(store: Store, watch: Round, *, directory: str, seconds: float, most: int) -> Done:
    """New files of 4 KiB, one after the other."""
    store.mkdir(directory)

    def step(number: int) -> None:
        path = small_path(directory, number)
        store.put(path, content(path))

    store.put(f"{directory}/first", content("first"))
    return watch.repeat(step, seconds=seconds, most=most)


def get_small(store: Store, watch: Round, *, directory: str, count: int, seconds: float) -> Done:
    """Whole files that `put_small` made, in any order, every one compared. Raises ValueError if one differs."""
    rng = random.Random(directory)

    def step(_: int) -> None:
        path = small_path(directory, rng.randrange(count))
        if store.get(path) != content(path):
            raise ValueError(f"{path} differs from what was stored")

    step(0)
    return watch.repeat(step, seconds=seconds, most=_NAMES_MAX)


def ranges(store: Store, watch: Round, *, path: str, local: str, seed: int, seconds: float) -> Done:
    """Random ranges of 4 KiB of one big file that stays open, every one compared. Raises ValueError if one differs."""
    size = os.path.getsize(local)
    rng = random.Random(seed)
    read = store.open_range(path)
    descriptor = os.open(local, os.O_RDONLY)
    try:

        def step(_: int) -> None:
            start = rng.randrange(size - SMALL_SIZE)
            if read(start, start + SMALL_SIZE) != os.pread(descriptor, SMALL_SIZE, start):
                raise ValueError(f"{path} differs from what was stored at byte {start}")

        step(0)
        return watch.repeat(step, seconds=seconds, most=_NAMES_MAX)
    finally:
        os.close(descriptor)


def read_many(store: "DfsStore", watch: Round, *, path: str, local: str, seed: int, seconds: float, group: int) -> Done:
    """The same ranges, `group` of them in one call. Raises ValueError if one differs."""
    size = os.path.getsize(local)
    rng = random.Random(seed)
    descriptor = os.open(local, os.O_RDONLY)
    try:

        def step(_: int) -> None:
            starts = [rng.randrange(size - SMALL_SIZE) for _ in range(group)]
            found = store.read_many([(path, start, start + SMALL_SIZE) for start in starts])
            for start, data in zip(starts, found, strict=True):
                if data != os.pread(descriptor, SMALL_SIZE, start):
                    raise ValueError(f"{path} differs from what was stored at byte {start}")

        step(0)
        done = watch.repeat(step, seconds=seconds, most=_NAMES_MAX)
        return msgspec.structs.replace(done, count=done.count * group)
    finally:
        os.close(descriptor)


def read_many_small(store: "DfsStore", watch: Round, *, directory: str, count: int, seconds: float, group: int) -> Done:
    """Whole small files in any order, `group` of them in one call, compared. Raises ValueError if one differs."""
    rng = random.Random(directory)

    def step(_: int) -> None:
        paths = [small_path(directory, rng.randrange(count)) for _ in range(group)]
        found = store.read_many([(path, 0, SMALL_SIZE) for path in paths])
        for path, data in zip(paths, found, strict=True):
            if data != content(path):
                raise ValueError(f"{path} differs from what was stored")

    step(0)
    done = watch.repeat(step, seconds=seconds, most=_NAMES_MAX)
    return msgspec.structs.replace(done, count=done.count * group)


# --- the namespace ------------------------------------------------------------------------------------------------


def create(store: Store, watch: Round, *, directory: str, seconds: float, most: int) -> Done:
    """New empty files."""
    store.mkdir(directory)
    store.create(f"{directory}/first")
    return watch.repeat(lambda number: store.create(small_path(directory, number)), seconds=seconds, most=most)


def stat(store: Store, watch: Round, *, directory: str, count: int, seconds: float) -> Done:
    """The attributes of files in any order."""
    rng = random.Random(directory)

    def step(_: int) -> None:
        store.size(small_path(directory, rng.randrange(count)))

    step(0)
    return watch.repeat(step, seconds=seconds, most=_NAMES_MAX)


def stat_generated(store: Store, watch: Round, *, files: int, seconds: float) -> Done:
    """The attributes of files all over a namespace that `dfs_namenode.store.generate` made."""
    rng = random.Random(files)

    def step(_: int) -> None:
        number = rng.randrange(files)
        store.size(f"/d{number // GENERATED_PER_DIRECTORY:05}/file-{number:09}.dat")

    step(0)
    return watch.repeat(step, seconds=seconds, most=_NAMES_MAX)


def rename(store: Store, watch: Round, *, directory: str, count: int, seconds: float) -> Done:
    """A new name for one file after the other."""
    return watch.repeat(
        lambda number: store.rename(small_path(directory, number), f"{directory}/r{number:06}"),
        seconds=seconds,
        most=count,
    )


def remove(store: Store, watch: Round, *, directory: str, first: int, count: int, seconds: float) -> Done:
    """Remove files that were not renamed, one after the other."""
    return watch.repeat(lambda number: store.remove(small_path(directory, first + number)), seconds=seconds, most=count)


def make_files(store: Store, watch: Round, *, directory: str, count: int) -> Done:
    """Preparation: a directory of empty files."""
    store.mkdir(directory)
    many: Any = getattr(store, "create_many", None)

    def work() -> None:
        for first in range(0, count, 1000):
            paths = [small_path(directory, number) for number in range(first, min(first + 1000, count))]
            if many is not None:
                many(paths)
            else:
                for path in paths:
                    store.create(path)

    return watch.once(work)


def list_directory(store: Store, watch: Round, *, directory: str, count: int, seconds: float, most: int) -> Done:
    """All entries of a directory with their attributes. Raises ValueError if some are missing."""

    def step(_: int) -> None:
        found = store.list(directory)
        if found != count:
            raise ValueError(f"{directory} has {found} entries instead of {count}")

    return watch.repeat(step, seconds=seconds, most=most)


def commit_many(store: "DfsStore", watch: Round, *, directory: str, group: int, seconds: float, most: int) -> Done:
    """Empty files, `group` of them in each commit."""
    store.mkdir(directory)
    done = watch.repeat(
        lambda number: store.create_many([f"{directory}/c{number:04}-{one:04}" for one in range(group)]),
        seconds=seconds,
        most=most,
    )
    return msgspec.structs.replace(done, count=done.count * group)


def put_many(store: "DfsStore", watch: Round, *, directory: str, group: int, seconds: float, most: int) -> Done:
    """Files of 4 KiB, `group` of them in each transaction."""
    store.mkdir(directory)

    def step(number: int) -> None:
        paths = [small_path(directory, number * group + one) for one in range(group)]
        store.put_many([(path, content(path)) for path in paths])

    done = watch.repeat(step, seconds=seconds, most=most)
    return msgspec.structs.replace(done, count=done.count * group)


TASKS: dict[str, Callable[..., Done]] = {
    function.__name__: function
    for function in (
        put_file,
        get_file,
        drain,
        verify,
        put_small,
        get_small,
        ranges,
        read_many,
        read_many_small,
        create,
        stat,
        stat_generated,
        rename,
        remove,
        make_files,
        list_directory,
        commit_many,
        put_many,
    )
}
