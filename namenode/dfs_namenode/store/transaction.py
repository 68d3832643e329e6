"""Snapshot and Transaction: what operations see of the database.

Separate from the engine, so that operations and query modules depend on two small objects and not on how commits are
grouped. A Snapshot reads one consistent state. A Transaction is one operation's share of a group commit: it reads its
own writes, and it has a sequence number once it asks for one. How its changes would be undone:

    nothing    it has changed nothing yet
    savepoint  its first change began a savepoint
    group      it promised before its first change that nothing can go wrong any more (`nothing_more_to_refuse`), and
               did without: only rolling back the whole group would undo it
    owner      whoever made the Transaction takes care of it
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import apsw

Row = tuple[Any, ...]
Values = Sequence[Any]


@dataclass
class Counters:
    """The numbers given out last. The writer owns one, and stores it with the group."""

    seq: int
    inode: int
    content: int


Directories = dict[str, tuple[tuple[str, ...], tuple[int, ...]]]
"""Directories by their path, which is "" for the root: the names on the way, and the ids, the root's first."""

SAVEPOINT: Final = "operation"
Undo = Literal["nothing", "savepoint", "group", "owner"]


@dataclass
class Memory:
    """What the connection that writes has read and need not read again, since nobody else writes.

    Whoever changes what is remembered forgets it here; the writer forgets all of it after every roll-back.
    """

    directories: Directories = field(default_factory=dict)
    """Those that paths led through."""
    numbers: dict[str, int] = field(default_factory=dict)
    """datanode.num by the datanode's id."""
    restored_ms: int | None = None
    """See `meta.restored_ms`; None: not read yet."""

    def forget(self) -> None:
        self.directories.clear()
        self.numbers.clear()
        self.restored_ms = None


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
        self,
        connection: apsw.Connection,
        counters: Counters,
        *,
        now_ms: int,
        random_bytes: Callable[[int], bytes],
        memory: Memory | None = None,
        undo: Undo = "owner",
    ) -> None:
        super().__init__(connection)
        self._connection = connection
        self._counters = counters
        self._seq = 0
        self.memory = Memory() if memory is None else memory
        self.undo = undo
        """How what it has changed so far would be undone."""
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
        if self.undo == "nothing":
            self._begin_savepoint()
        self._execute(statement, values)
        return self._connection.changes()

    def run_many(self, statement: str, values: Iterable[Values]) -> None:
        """Execute a statement that changes rows once for each item."""
        if self.undo == "nothing":
            self._begin_savepoint()
        self._connection.executemany(statement, values)

    def nothing_more_to_refuse(self) -> None:
        """All checks are made: only a bug could make this operation fail now, so it goes without a savepoint, for which
        every page that it changes would be copied.

        If it fails nevertheless, its whole group is undone and must be repeated.
        """
        if self.undo == "nothing":
            self.undo = "group"

    def _begin_savepoint(self) -> None:
        self._execute(f"SAVEPOINT {SAVEPOINT}")
        self.undo = "savepoint"
