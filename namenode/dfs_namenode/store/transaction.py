"""Snapshot and Transaction: what operations see of the database.

Separate from the engine, so that operations and query modules depend on two small objects and not on how commits are
grouped. A Snapshot reads one consistent state. A Transaction is one operation's share of a group commit: it reads its
own writes, and it has a sequence number once it asks for one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apsw

Row = tuple[Any, ...]
Values = Sequence[Any]


@dataclass
class Counters:
    """The numbers given out last. The writer owns one, and stores it with the group."""

    seq: int
    inode: int
    content: int


class Snapshot:
    """One consistent state of the store. Valid only inside the `with` that made it, in one thread."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = connection.execute

    def row(self, statement: str, values: Values = ()) -> Row | None:
        """The first row, or None."""
        return self._execute(statement, values).fetchone()

    def rows(self, statement: str, values: Values = ()) -> list[Row]:
        """All rows. The statement bounds how many."""
        return self._execute(statement, values).fetchall()

    def each(self, statement: str, values: Values = ()) -> Iterator[Row]:
        """Rows one by one, for what need not be held at once. Exhaust it before the snapshot ends."""
        return iter(self._execute(statement, values))

    def value(self, statement: str, values: Values = ()) -> Any:
        """The first column of the first row, or None."""
        found = self._execute(statement, values).fetchone()
        return None if found is None else found[0]


class Transaction(Snapshot):
    """One operation inside a group commit. All of it becomes durable with the group, or none."""

    def __init__(
        self, connection: apsw.Connection, counters: Counters, *, now_ms: int, random_bytes: Callable[[int], bytes]
    ) -> None:
        super().__init__(connection)
        self._connection = connection
        self._counters = counters
        self._seq = 0
        self.now_ms = now_ms
        """The namenode's wall clock when the operation began."""
        self.random_bytes = random_bytes

    @property
    def seq(self) -> int:
        """This operation's sequence number; the first use takes the next one. One for each operation."""
        if not self._seq:
            self._counters.seq += 1
            self._seq = self._counters.seq
        return self._seq

    @property
    def last_seq(self) -> int:
        """The highest sequence number given out so far; takes none."""
        return self._counters.seq

    def raise_seq(self, at_least: int) -> None:
        """Make all later sequence numbers greater than `at_least`: what others have seen must not come again."""
        self._counters.seq = max(self._counters.seq, at_least)

    def new_inode_id(self) -> int:
        """A number that no inode had before."""
        self._counters.inode += 1
        return self._counters.inode

    def new_content_id(self) -> int:
        """A number that no content had before: a reader's old id never names another content."""
        self._counters.content += 1
        return self._counters.content

    def skip_ids(self, count: int) -> None:
        """Never give out the next `count` numbers of inodes and of contents."""
        self._counters.inode += count
        self._counters.content += count

    def run(self, statement: str, values: Values = ()) -> int:
        """Execute a statement that changes rows; returns how many it changed."""
        self._execute(statement, values)
        return self._connection.changes()

    def run_many(self, statement: str, values: Iterable[Values]) -> None:
        """Execute a statement once for each item."""
        self._connection.executemany(statement, values)
