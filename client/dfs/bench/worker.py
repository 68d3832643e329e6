"""One client process: `python -m dfs.bench.worker`. Orders come on stdin, answers go to stdout, a line of JSON each.

A process and not a thread, so that what is measured is the store and not the interpreter lock of one client. It keeps
its stores, with their connections, from one order to the next, as a client that lives for a while does.
"""

import sys
from typing import Any, BinaryIO

import msgspec

from dfs.bench.stores import Store, Target
from dfs.bench.tasks import TASKS, Done, Round

GO = b"go\n"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A task, its target, and the task's arguments."""

    task: str
    target: Target
    arguments: dict[str, Any] = {}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """`ready` comes before the start signal; then what was done, or why not."""

    ready: bool = False
    done: Done | None = None
    error: str = ""


class Worker:
    """Performs one order after the other."""

    def __init__(self, orders: BinaryIO, answers: BinaryIO) -> None:
        self._orders = orders
        self._answers = answers
        self._stores: dict[bytes, Store] = {}

    def run(self) -> None:
        """Until there are no more orders."""
        decode = msgspec.json.Decoder(Order).decode
        while line := self._orders.readline():
            try:
                answer = Answer(done=self._perform(decode(line)))
            except Exception as error:
                # Whatever it was, the benchmark must hear of it and end.
                answer = Answer(error=f"{type(error).__name__}: {error}")
            self._send(answer)
        for store in self._stores.values():
            store.close()

    def _perform(self, order: Order) -> Done:
        return TASKS[order.task](self._store(order.target), Round(self._wait), **order.arguments)

    def _store(self, target: Target) -> Store:
        key = msgspec.json.encode(target)
        if key not in self._stores:
            self._stores[key] = target.store()
        return self._stores[key]

    def _wait(self) -> None:
        self._send(Answer(ready=True))
        if self._orders.readline() != GO:
            raise EOFError("the benchmark ended before the start")

    def _send(self, answer: Answer) -> None:
        self._answers.write(msgspec.json.encode(answer) + b"\n")
        self._answers.flush()


if __name__ == "__main__":
    Worker(sys.stdin.buffer, sys.stdout.buffer).run()
