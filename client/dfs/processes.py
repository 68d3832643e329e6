"""One server of ours as a child process: start it, wait until it is ready, signal it, stop it.

Shared by `dfs mini` and `dfs.testing`, which differ in what they do when a process ends. A role is started by its
command line, so that nothing here imports a server; it says `ready URL` on its stdout, and its log is its stderr.
"""

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO

from dfs.protocol.errors import Unavailable
from dfs.protocol.settings import PARENT_VARIABLE

_READY = "ready "
_LOG_PREFIX = re.compile(r"^\S+ \S+ [A-Z]+ [\w.]+: ")
"""Time, level and logger: not what a person wants to read in a sentence."""
STOP_GRACE_S = 4.0
"""A server that does not leave within this time after SIGTERM is killed; its data survives that as well."""


class ServerProcess:
    """One namenode or datanode.

    name       as people read it: "namenode", "datanode-2"
    arguments  of the `dfs` command
    log_path   where its stderr goes, appended
    program    how Python starts the command; for tests that start something in its place
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        log_path: str,
        environ: Mapping[str, str] | None = None,
        program: Sequence[str] = ("-m", "dfs.cli"),
    ) -> None:
        self.name = name
        self.arguments = list(arguments)
        self.program = tuple(program)
        self.log_path = log_path
        self.url = ""
        """Known once it is ready."""
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; -N: killed by signal N."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.poll()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process; `wait_ready` waits for it. It ends with us, however we end."""
        with open(self.log_path, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self.program, *self.arguments, "--exit-with-parent"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**(os.environ if self._environ is None else self._environ), PARENT_VARIABLE: str(os.getpid())},
                # Its own session: Ctrl-C at the terminal reaches us alone, and we stop the servers in order, once.
                start_new_session=True,
            )

    def wait_ready(self, deadline: float) -> str:
        """The URL that it serves, once it does. Raises Unavailable: it ended, or `deadline` (monotonic) passed."""
        assert self._process is not None
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            line = _first_line(stream, deadline)
        if line is not None and line.startswith(_READY):
            self.url = line.removeprefix(_READY)
            return self.url
        if line is None and self.running:
            self.signal(signal.SIGKILL)
            raise Unavailable(f"the {self.name} was not ready in time (its log: {self.log_path})")
        self._process.wait()
        raise Unavailable(f"the {self.name} did not start: {self.last_words()} (its log: {self.log_path})")

    def last_words(self) -> str:
        """The last line of its log: why it ended, if it ended on purpose."""
        with open(self.log_path, "rb") as log:
            log.seek(max(0, os.path.getsize(self.log_path) - 4096))
            lines = log.read().decode(errors="replace").strip().splitlines()
        return _LOG_PREFIX.sub("", lines[-1]).removeprefix("dfs: ").rstrip(".") if lines else "it said nothing"

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens if it has ended."""
        if self._process is not None:
            self._process.send_signal(number)

    def forget(self) -> None:
        """Let go of its output, if nobody waited until it was ready."""
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for its end; the exit code. Raises subprocess.TimeoutExpired."""
        assert self._process is not None
        return self._process.wait(timeout_s)


def stop_all(processes: Sequence[ServerProcess], grace_s: float = STOP_GRACE_S) -> list[ServerProcess]:
    """Ask all to leave at once, wait, kill those that don't within `grace_s`. Returns the killed ones."""
    running = [process for process in processes if process.running]
    for process in running:
        process.signal(signal.SIGTERM)
        # One that was stopped with SIGSTOP would not even see the request.
        process.signal(signal.SIGCONT)
    deadline = time.monotonic() + grace_s
    killed = []
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.signal(signal.SIGKILL)
            process.wait()
            killed.append(process)
    for process in processes:
        process.forget()
    return killed


def _first_line(stream: IO[bytes], deadline: float) -> str | None:
    """The first line that comes, "" if the stream ends before, None when `deadline` (monotonic) has passed."""
    received = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while b"\n" not in received:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return None
            piece = os.read(stream.fileno(), 4096)
            if not piece:
                return ""
            received += piece
    return received.partition(b"\n")[0].decode(errors="replace").strip()
