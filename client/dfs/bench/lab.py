"""Where measurements are made: the targets, the client processes, the meter, scratch space here and in the store.

Separate from the workloads, which use it, and from who sets it up: `dfs bench` for a running cluster, the checkout's
`bench/` for one of its own with peers beside it.
"""

import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dfs.bench.crew import Crew, Together
from dfs.bench.meter import Meter
from dfs.bench.samples import Cost, Figure, Sample
from dfs.bench.stores import Target
from dfs.protocol.errors import DfsError

_PIECE = 1 << 20
_SEED = 1968
_DOUBT_BELOW = 0.9
"""Share of the bytes that must have reached the disk below which a figure is marked."""


@dataclass(frozen=True)
class Scale:
    """How much is done."""

    big_bytes: int = 1 << 30
    part_bytes: int = 512 << 20
    tree_files: int = 10_000
    listed_files: int = 100_000
    seconds: float = 2.0
    """Of each measurement that goes for a time."""
    clients: tuple[int, ...] = (1, 16)
    """How many work at once, where that is varied."""
    namespaces: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    starts: int = 7
    """Starts of the command in a round."""

    @classmethod
    def quick(cls) -> "Scale":
        """For a look: less of everything; figures of big files are then more of the start than of the flow."""
        return cls(
            big_bytes=256 << 20,
            part_bytes=64 << 20,
            tree_files=2000,
            listed_files=10_000,
            seconds=0.5,
            namespaces=(10_000, 50_000),
            starts=3,
        )


@dataclass
class Lab:
    """What the measurements need. Whoever makes it cleans up what it names.

    evict       makes the next read of the cluster's data come from its disks; None: not possible here
    collected   called when files were removed: returns when their space is back, or at once
    """

    targets: Sequence[Target]
    crew: Crew
    meter: Meter
    local_dir: str
    scale: Scale
    command: Sequence[str]
    """The `dfs` command, with its namenode."""
    evict: Callable[[], None] | None = None
    collected: Callable[[], None] = lambda: None
    ours_synced: bool = True
    """Whether the cluster acknowledges only what is synced: only then must the bytes have reached the disk."""
    _sources: dict[tuple[int, int], str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: iter(range(1 << 30)))
    _leftovers: list[Callable[[], None]] = field(default_factory=list)

    def having(self, feature: str) -> list[Target]:
        """The targets that can do that."""
        return [target for target in self.targets if feature in target.features]

    def fresh(self, target: Target) -> str:
        """A path in the target that nobody has used; its parent exists."""
        return f"{target.root}/n{next(self._numbers):05}"

    def local(self, name: str) -> str:
        """A local path for output."""
        return os.path.join(self.local_dir, name)

    def fresh_local(self, name: str) -> str:
        """A local path for output that nobody has used, for what is kept until the end of its workload."""
        return self.local(f"{name}-{next(self._numbers):05}")

    def keep(self, remove: Callable[[], None]) -> None:
        """Have `remove` called by `tidy`: what a chain leaves is still there while others are measured.

        For many small files: an ext4 without a journal does not use the inode of a removed file again for a while, and
        passes over each of them for every new file. A chain that removed its files would slow down the next one.
        """
        self._leftovers.append(remove)

    def tidy(self) -> None:
        """Remove what was kept, all of it, and wait for its space. Raises what failed first, after the last removal."""
        leftovers, self._leftovers = self._leftovers, []
        failure: DfsError | OSError | None = None
        for remove in leftovers:
            try:
                remove()
            except (DfsError, OSError) as error:
                failure = failure or error
        if leftovers:
            self.collected()
        if failure is not None:
            raise failure

    def source(self, size: int, number: int = 0) -> str:
        """A local file of random bytes, in the page cache. The same one each time."""
        key = (size, number)
        if key not in self._sources:
            path = self.local(f"source-{size}-{number}")
            rng = random.Random(_SEED + number)
            with open(path, "wb") as file:
                for start in range(0, size, _PIECE):
                    file.write(rng.randbytes(min(_PIECE, size - start)))
                file.flush()
                os.fsync(file.fileno())
            self._sources[key] = path
        path = self._sources[key]
        with open(path, "rb", buffering=0) as file:
            while file.read(_PIECE):
                pass
        return path

    def touch_memory(self, size: int) -> None:
        """Use so much memory for the page cache, and free it: for what writes through the page cache afterwards.

        A virtual machine gives memory that is free for long back to its host, and gets it again page by page, at 2 to
        3 s/GiB where this was found. Whoever writes first would pay that for all who come after.
        """
        path = self.local("touched")
        piece = bytes(_PIECE)
        with open(path, "wb", buffering=0) as file:
            for _ in range(0, size, _PIECE):
                file.write(piece)
        os.unlink(path)

    def clients(
        self,
        figure: Figure,
        target: Target,
        task: str,
        each: Sequence[Mapping[str, Any]],
        *,
        gib: float = 0.0,
        durable_bytes: int = 0,
    ) -> tuple[Sample, Together]:
        """One task by some clients, as a sample; its value is GiB/s if `gib` of them were moved, else operations/s.

        durable_bytes  what must have reached the cluster's disk by then
        """
        go = self.crew.ready(task, target, each)
        with self.meter.measure(target.subject) as measured:
            done = go()
        value = gib / done.seconds if gib else done.rate
        sample = Sample(
            figure,
            value,
            done.seconds,
            work=gib or done.count / 1000,
            cost=measured.cost,
            latency_ms=done.latency_ms if not gib else {},
            note=doubt(measured.cost, durable_bytes if self.ours_synced else 0),
        )
        return sample, done


def doubt(cost: Cost, durable_bytes: int) -> str:
    """Why a sample is too good to be true; "" if it is not. Pure."""
    written = cost.disk_written_bytes
    if durable_bytes and written is not None and written < durable_bytes * _DOUBT_BELOW:
        return f"the disk took only {written >> 20} of {durable_bytes >> 20} MiB by then"
    return ""


Chain = Callable[[Lab], Iterator[Sample]]
"""Measurements that follow from one another: what was put is fetched, what was created is renamed."""


@dataclass(frozen=True)
class Workload:
    """One kind of work, by all who can do it.

    chains  those of one round; they are run in turn, forwards and backwards in every other round
    """

    name: str
    title: str
    chains: Callable[[Lab], Sequence[Chain]]
