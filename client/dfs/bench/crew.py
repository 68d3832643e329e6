"""The client processes of a benchmark, and one task done by some of them at once.

Separate from `worker`, which is the inside of one: here they are started, told to begin together, and their answers
become one rate. The rate counts from the first start to the last end, so that a client that lags costs what it costs.
"""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from dfs.bench.samples import Latencies
from dfs.bench.stores import Target
from dfs.bench.tasks import Done
from dfs.bench.worker import GO, Answer, Order
from dfs.protocol.errors import DfsError, Unavailable

CREW_MAX = 16


@dataclass(frozen=True)
class Together:
    """What some clients did at once."""

    seconds: float
    counts: Sequence[int]
    """Of each client."""
    latencies: Latencies

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def rate(self) -> float:
        """Operations per second of all."""
        return self.count / self.seconds

    @property
    def latency_ms(self) -> dict[str, float]:
        return {name: self.latencies.quantile_s(share) * 1000 for name, share in (("p50", 0.5), ("p99", 0.99))}


class Crew:
    """Client processes, started when they are first needed. For a `with` statement."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = environ
        self._workers: list[subprocess.Popen[bytes]] = []

    def work(self, task: str, target: Target, each: Sequence[Mapping[str, Any]]) -> Together:
        """One task by as many clients as there are arguments in `each`. Raises DfsError: one of them failed."""
        return self.ready(task, target, each)()

    def ready(self, task: str, target: Target, each: Sequence[Mapping[str, Any]]) -> Callable[[], Together]:
        """Have clients prepare a task; what is returned has them begin, together, and waits for the last.

        In two steps, so that what they cost can be measured without their preparation.
        """
        self._hire(len(each))
        workers = self._workers[: len(each)]
        for worker, arguments in zip(workers, each, strict=True):
            self._tell(worker, msgspec.json.encode(Order(task=task, target=target, arguments=dict(arguments))) + b"\n")
        self._raise_first(task, target, [self._hear(worker) for worker in workers])

        def go() -> Together:
            for worker in workers:
                self._tell(worker, GO)
            answers = [self._hear(worker) for worker in workers]
            self._raise_first(task, target, answers)
            return together([answer.done for answer in answers if answer.done is not None])

        return go

    def _hire(self, count: int) -> None:
        assert count <= CREW_MAX, "a machine has only so many processors"
        while len(self._workers) < count:
            self._workers.append(
                subprocess.Popen(
                    [sys.executable, "-m", "dfs.bench.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=dict(self._environ) if self._environ is not None else None,
                )
            )

    def _tell(self, worker: "subprocess.Popen[bytes]", line: bytes) -> None:
        assert worker.stdin is not None
        try:
            worker.stdin.write(line)
            worker.stdin.flush()
        except BrokenPipeError:
            raise Unavailable("a client process of the benchmark ended") from None

    def _hear(self, worker: "subprocess.Popen[bytes]") -> Answer:
        assert worker.stdout is not None
        line = worker.stdout.readline()
        if not line:
            raise Unavailable("a client process of the benchmark ended")
        return msgspec.json.decode(line, type=Answer)

    def _raise_first(self, task: str, target: Target, answers: Sequence[Answer]) -> None:
        """An error makes the whole crew useless: some of them still wait for the start."""
        for answer in answers:
            if answer.error:
                self.close()
                raise DfsError(f"{target.subject}, {task}: {answer.error}")

    def close(self) -> None:
        """Let them go; those that still work are killed."""
        for worker in self._workers:
            assert worker.stdin is not None
            assert worker.stdout is not None
            with suppress(BrokenPipeError):
                worker.stdin.close()
            try:
                worker.wait(2)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
            worker.stdout.close()
        self._workers.clear()

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def together(done: Sequence[Done]) -> Together:
    """One answer of many. Pure."""
    latencies = Latencies()
    for one in done:
        latencies.merge(one.latencies)
    seconds = max(one.ended_s for one in done) - min(one.began_s for one in done)
    return Together(max(seconds, 1e-9), [one.count for one in done], latencies)
