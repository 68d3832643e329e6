"""Servers that live in another time: their wall clock can be moved while they run.

    python -m dfs.testing.clocks FILE namenode --dir …

starts a server as the `dfs` command does, but its wall clock shows as many milliseconds more as FILE says. This works
without any hook in the servers, because they get their clock from `dfs.protocol.clock` and read nothing else.
Durations are not touched: a machine's monotonic clock does not jump. `dfs.testing.cluster(movable_clocks=True)` does
the starting, and `Node.shift_clock` the writing.
"""

import os
import sys

from dfs.protocol import clock
from dfs.protocol.clock import SystemClock


class MovableClock(SystemClock):
    """The machine's clock, plus what a file says.

    shift_path  milliseconds, in decimal; a file that is missing or empty says 0
    """

    def __init__(self, shift_path: str) -> None:
        self._fd = os.open(shift_path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def wall_ms(self) -> int:
        return super().wall_ms() + int(os.pread(self._fd, 32, 0) or b"0")


def write_shift(shift_path: str, seconds: float) -> None:
    """Move the clock of the server that was started with this file."""
    with open(shift_path, "r+b" if os.path.exists(shift_path) else "wb", buffering=0) as file:
        # One write of one length, so that no reader ever sees half of it.
        file.write(b"%+031d\n" % int(seconds * 1000))


def main() -> None:
    """Put the movable clock in the place of the machine's, and run the command."""
    shift_path = sys.argv.pop(1)
    from dfs.cli import main as run_command

    clock.SystemClock = lambda: MovableClock(shift_path)  # type: ignore[misc, assignment]
    run_command()


if __name__ == "__main__":
    main()
