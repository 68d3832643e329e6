"""A process beside a test that cleans up after it, should it be killed: ends its servers, removes its directory.

What holds a cluster cleans up itself whenever it can. After a SIGKILL, or a crash of the interpreter, it can't: then
this process finds the pipe on its stdin closed. It runs as a file, with nothing of ours imported, because it starts
with every cluster and must cost next to nothing. It ends processes by what stands on their command line, the
cluster's own directory, and not by numbers that may belong to somebody else by now.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

STOP_S = 5.0
"""How long the servers may take after SIGTERM, which the kernel sends them when their parent ends."""
PAUSE_S = 0.02
FAREWELL = b"done"
OURS = b"--exit-with-parent"
"""On the command line of every server that belongs to a process; a pager that shows its log has no such option."""


class Watch:
    """Watches over one directory for as long as this process lives.

    directory  if this process dies, all servers whose command line names something in it are ended
    keep       the directory itself stays
    """

    def __init__(self, directory: str, *, keep: bool = False) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", os.path.abspath(__file__), directory, *(["keep"] if keep else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Out of the reach of Ctrl-C, and of whoever kills the group of the test.
            start_new_session=True,
            cwd="/",
        )

    def end(self, *, sure: bool = True) -> None:
        """Let it go: all is cleaned up.

        sure  False: it cleans up what is left, if anything is; an interrupt may have come between the start of a
              server and our knowing of it
        """
        assert self._process.stdin is not None
        if sure:
            # If it is gone before us, somebody killed it.
            with suppress(BrokenPipeError):
                self._process.stdin.write(FAREWELL)
                self._process.stdin.flush()
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


def servers_of(directory: str) -> list[int]:
    """The servers whose command line names something below `directory`."""
    prefix = os.fsencode(directory) + b"/"
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            # It ended meanwhile, or belongs to another user.
            continue
        if OURS in words and any(word.startswith(prefix) for word in words):
            found.append(int(name))
    return found


def _signal(processes: list[int], number: int) -> None:
    for pid in processes:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def clean_up(directory: str, *, keep: bool) -> None:
    """End what still runs of a cluster, and remove its directory unless it is to stay."""
    left = servers_of(directory)
    _signal(left, signal.SIGTERM)
    # One that was stopped would not even see the request.
    _signal(left, signal.SIGCONT)
    deadline = time.monotonic() + STOP_S
    while servers_of(directory) and time.monotonic() < deadline:
        time.sleep(PAUSE_S)
    _signal(servers_of(directory), signal.SIGKILL)
    while servers_of(directory) and time.monotonic() < deadline + STOP_S:
        time.sleep(PAUSE_S)
    if not keep:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    if sys.stdin.buffer.read() != FAREWELL:
        clean_up(sys.argv[1], keep=len(sys.argv) > 2)
